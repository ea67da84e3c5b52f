"""What is asked of one lake through Spark Connect and through classic Spark: the same code, the same answers.

Bounds drop nothing and there is almost no noise, so answers are those of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from spark_mpc import dp, lake

__all__ = ["BILLS", "EPSILON", "LONG_KEYS", "QUESTIONS", "VISITS", "Lake", "answer"]

VISITS = "id long, ward string, cost double, days int, code int, tags array<string>"
BILLS = "id long, amount double"
EPSILON = 10**6
LONG_KEYS = 256  # of a quantile tree with thousands of cells each: together more than 2^20

Answer = Any
"""What JSON can hold."""


@dataclass(frozen=True)
class Lake:
    """One Spark over the tables of a test.

    Attributes:
        spark: classic or Connect.
        folder: holds the Delta tables "visits", "bills" and "old", whose version 0 was vacuumed.
        ledger: with room for everything.
    """

    spark: SparkSession
    folder: Path
    ledger: lake.Ledger

    def table(self, name: str, version: int | None = None, unit: str = "id") -> lake.Table:
        bounds = {"cost": (0, 10)} if name == "visits" else {}
        path = self.folder / name
        return lake.Table.forPath(
            self.spark, path, unit=unit, null_units="drop", version=version, bounds=bounds, max_units=1000
        )

    @property
    def visits(self) -> dp.PrivateFrame:
        return self.table("visits").private()

    def released(self, query: dp.PrivateQuery, **options: Any) -> Answer:
        """A release's values and error bars, each as an ordinary DataFrame of the session gives them."""
        release = query.release(EPSILON, ledger=self.ledger, **options)
        bars = release.accuracy.groupBy("aggregate").count().orderBy("aggregate")
        return [release.df.toArrow().to_pylist(), bars.toArrow().to_pylist()]


def every_row(frame: dp.PrivateFrame, *aggregates: Any, rows: int = 64) -> Any:
    return frame.agg(*aggregates, max_rows=rows)


def by_ward(frame: dp.PrivateFrame, keys: Any = ("east", "north", "nowhere")) -> Any:
    return frame.groupBy("ward", keys=keys if isinstance(keys, dp.PrivateKeys) else list(keys), max_groups=4, max_rows=8)


def aggregates(lake: Lake) -> Answer:
    return lake.released(
        by_ward(lake.visits).agg(
            dp.count(),
            dp.count_units(),
            dp.sum("cost"),
            dp.mean("cost"),
            dp.variance("cost"),
            dp.count_distinct("code"),
            dp.histogram("days", [0, 2, 4, 8]),
        )
    )
