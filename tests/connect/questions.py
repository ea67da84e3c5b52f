"""What is asked of one lake through Spark Connect and through classic Spark: the same code, the same answers.

Bounds drop nothing and there is almost no noise, so answers are those of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyspark.sql import SparkSession

from spark_mpc import dp, lake

__all__ = ["BILLS", "LONG_KEYS", "QUESTIONS", "REFUSED", "VISITS", "Answer", "Question", "Site"]

VISITS = "id long, ward string, cost double, days int, code int, tags array<string>"
BILLS = "id long, amount double"
LONG_KEYS = 256  # of a tree with thousands of nodes each: more than 2^20 cells

_EPSILON = 10**6
_WARDS = ("east", "north", "nowhere")

Answer = Any
"""What JSON can hold."""


@dataclass(frozen=True)
class Site:
    """One Spark over the tables of a test.

    Attributes:
        spark: classic or Connect.
        folder: holds the Delta tables "visits", "bills", and "old", whose version 0 was vacuumed.
        ledger: with room for everything.
        staging: for long vectors.
    """

    spark: SparkSession
    folder: Path
    ledger: lake.Ledger
    staging: Path

    def table(self, name: str, *, version: int | None = None, unit: str = "id") -> lake.Table:
        bounds: dict[str, tuple[int, int]] = {"cost": (0, 10)} if name == "visits" else {}
        path = self.folder / name
        return lake.Table.forPath(
            self.spark, path, unit=unit, null_units="drop", version=version, bounds=bounds, max_units=1000
        )

    @cached_property
    def visits(self) -> dp.PrivateFrame:
        return self.table("visits").private()

    @property
    def by_ward(self) -> Any:
        return self.visits.groupBy("ward", keys=list(_WARDS), max_groups=4, max_rows=8)

    def released(self, query: Any, **options: Any) -> Answer:
        """A release's values and the number of its error bars, as the session's own DataFrames give them."""
        release = query.release(_EPSILON, ledger=self.ledger, **options)
        bars = release.accuracy.groupBy("aggregate").count().orderBy("aggregate")
        return [release.df.toArrow().to_pylist(), bars.toArrow().to_pylist()]


Question = Callable[[Site], Answer]


def _aggregates(site: Site) -> Answer:
    counts = (dp.count(), dp.count_units(), dp.count_distinct("code"), dp.histogram("days", [0, 2, 4, 8]))
    moments = (dp.sum("cost"), dp.mean("cost"), dp.variance("cost"), dp.quantiles("cost", ["1/4", "1/2", "3/4"]))
    return site.released(site.by_ward.agg(*counts, *moments))


def _steps(site: Site) -> Answer:
    frame = site.visits.where("days BETWEEN 1 AND 5 AND ward <> 'south'").withColumn("euros", "cost / 100")
    frame = frame.explode("tags", max_items=3, alias="tag").drop("days")
    by_tag = frame.groupBy("tag", keys=["red", "green"], max_groups=2, max_rows=24)
    return site.released(by_tag.agg(dp.count(), dp.sum("euros", 0, 1)))


def _union(site: Site) -> Answer:
    both = site.visits.where("days > 3").union(site.visits.where("ward = 'east'"))
    return site.released(both.agg(dp.count(), max_rows=16))


def _join_public(site: Site) -> Answer:
    """Keys come from a DataFrame, too."""
    towns = site.spark.createDataFrame([("east", "Ahaus"), ("north", "Borken")], "ward string, town string")
    joined = site.visits.join(towns, on="ward", how="left")
    return site.released(joined.groupBy("town", keys=towns, max_groups=2, max_rows=8).agg(dp.count()))


def _join_on_unit(site: Site) -> Answer:
    pairs = site.visits.join_on_unit(site.table("bills").private(), max_rows=(8, 4))
    return site.released(pairs.agg(dp.count(), dp.sum("amount", 0, 50), max_rows=32))


def _private_keys(site: Site) -> Answer:
    grouped = site.visits.groupBy("ward", keys=dp.private_keys(), max_groups=4, max_rows=8)
    return site.released(grouped.agg(dp.count(), dp.mean("cost")), delta="1e-6")


def _rollup(site: Site) -> Answer:
    keys = [(ward, days) for ward in _WARDS for days in (1, 2)]
    return site.released(site.visits.rollup("ward", "days", keys=keys, max_groups=8, max_rows=8).agg(dp.count()))


def _auto_bounds(site: Site) -> Answer:
    query = site.visits.groupBy("ward", keys=list(_WARDS), max_groups=4, bounds="auto")
    return site.released(query.agg(dp.count(), dp.sum("cost")))


def _accessor(site: Site) -> Answer:
    """Rows of the caller's own session, whose units are strings."""
    rows = site.spark.read.format("delta").load(str(site.folder / "visits"))
    frame = rows.dp(unit=dp.normalize_id("ward"), null_units="drop")  # type: ignore[operator]
    return site.released(frame.agg(dp.count(), max_rows=1000))


def _written(site: Site) -> Answer:
    """A release is an ordinary DataFrame: written to Delta, and joined with a table of the caller's session."""
    release = site.by_ward.agg(dp.count()).release(_EPSILON, ledger=site.ledger)
    path = str(site.folder / f"released-{release.run_id}")
    release.df.write.format("delta").save(path)
    beds = site.spark.createDataFrame([("east", 7), ("north", 5)], "ward string, beds int")
    written = site.spark.read.format("delta").load(path)
    return written.join(beds, "ward").orderBy("ward").toArrow().to_pylist()


def _synthetic(site: Site) -> Answer:
    query = site.table("visits").synthetic(200, seed=7).groupBy("ward", keys=list(_WARDS), max_groups=3, max_rows=200)
    release = query.agg(dp.count()).release(_EPSILON)
    return [release.synthetic, release.df.count()]


def _explanation(site: Site) -> Answer:
    return str(site.by_ward.agg(dp.count(), dp.mean("cost")).explain(1))


def _long_vector(site: Site) -> Answer:
    """Noise is drawn on executors; nothing stays in the place that was given."""
    grouped = site.visits.groupBy("code", keys=list(range(LONG_KEYS)), max_groups=8, max_rows=8)
    query = grouped.agg(dp.median("cost"))
    release = query.release(_EPSILON, ledger=site.ledger, staging=str(site.staging))
    medians = release.df.where("code < 10").orderBy("code").toArrow().to_pylist()
    return [release.plan.length > 2**20, list(site.staging.iterdir()), medians]


def _no_such_version(site: Site) -> Answer:
    return site.table("visits", version=99).version


def _no_such_table(site: Site) -> Answer:
    return site.table("nothing").version


def _vacuumed(site: Site) -> Answer:
    return site.table("old", version=0).version


def _no_such_unit(site: Site) -> Answer:
    return site.table("visits", unit="nobody").version


def _refused_condition(site: Site) -> Answer:
    return site.visits.where("reflect('java.lang.System', 'exit') = 1").name


QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        question.__name__.removeprefix("_"): question
        for question in (
            _aggregates,
            _steps,
            _union,
            _join_public,
            _join_on_unit,
            _private_keys,
            _rollup,
            _auto_bounds,
            _accessor,
            _written,
            _synthetic,
            _explanation,
            _long_vector,
        )
    }
)
"""Those that have an answer."""

REFUSED: Mapping[str, Question] = MappingProxyType(
    {
        "VersionUnavailable: no such version": _no_such_version,
        "VersionUnavailable: is not a Delta table": _no_such_table,
        "VersionUnavailable: VACUUM": _vacuumed,
        "InvalidArgument: no such column": _no_such_unit,
        "InvalidArgument: reflect": _refused_condition,
    }
)
"""Those that raise, by error and what it says."""
