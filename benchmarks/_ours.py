"""We, asked in the same words as our peers: a Delta table with the same rows, a ledger, a release."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

import dp
from benchmarks.peers.protocol import (
    CORES,
    KEYS,
    MAX_GROUPS,
    MAX_ROWS,
    MAX_TOTAL_ROWS,
    VALUES,
    Answer,
    Question,
)
from dp.planning.aggregates import Aggregate
from lake.ledger import Ledger
from lake.sessions import delta_session
from lake.table import Table

__all__ = ["Ours", "open_ours"]

_MAX_UNITS = 10**7
_AMPLE = dp.ApproxDP(10**6, "0.5")


@dataclass(frozen=True)
class Ours:
    """Our side of a comparison.

    Attributes:
        spark: a session that reads Delta.
        ledgers: a folder for ledgers.
        frames: the tables that were opened, by folder.
    """

    spark: SparkSession
    ledgers: Path
    frames: dict[str, dp.PrivateFrame] = field(default_factory=dict)

    def ask(self, question: Question) -> Answer:
        """Release into a new ledger, since from that of the last time the answer would be free."""
        query = self.query(question)
        with tempfile.TemporaryDirectory(dir=self.ledgers) as place:
            ledger = Ledger.create(Path(place) / "ledger", capacity=_AMPLE)
            release = query.release(epsilon=str(question.epsilon), delta=str(question.delta), ledger=ledger)
        released = release.answers.values.to_pydict()
        keys = released.pop("key")
        return {name: dict(zip(keys, column, strict=True)) for name, column in released.items()}

    def query(self, question: Question, aggregates: Sequence[Aggregate] | None = None) -> dp.PrivateQuery:
        """The question as a query, with its own aggregates unless others are given."""
        frame = self._frame(question.visits)
        keys = list(range(KEYS)) if question.keys == "public" else None
        if question.bounds == "rows":
            groups = frame.groupBy("key", keys=keys, max_total_rows=MAX_TOTAL_ROWS)
        else:
            groups = frame.groupBy("key", keys=keys, max_groups=MAX_GROUPS, max_rows=MAX_ROWS)
        return groups.agg(*(aggregates or [_aggregate(name) for name in question.aggregates]))

    def _frame(self, folder: str) -> dp.PrivateFrame:
        if folder not in self.frames:
            path = _as_delta(self.spark, Path(folder))
            table = Table.forPath(self.spark, path, unit="user", null_units="drop", max_units=_MAX_UNITS)
            self.frames[folder] = table.private()
        return self.frames[folder]


@contextmanager
def open_ours() -> Iterator[Ours]:
    """Our side, on CORES cores of this machine."""
    conf = {"spark.driver.memory": "4g"}
    spark = delta_session("benchmark dp_peers", master=f"local[{CORES}]", conf=conf)
    try:
        with tempfile.TemporaryDirectory() as ledgers:
            yield Ours(spark, Path(ledgers))
    finally:
        spark.stop()


def _as_delta(spark: SparkSession, folder: Path) -> str:
    """The rows of Parquet files as a Delta table beside them, written on first use."""
    target = folder.with_name(f"{folder.name}.delta")
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "table"
            spark.read.parquet(str(folder)).write.format("delta").save(str(made))
            shutil.move(made, target)
    return str(target)


def _aggregate(name: str) -> Aggregate:
    match name:
        case "count":
            return dp.count().alias(name)
        case "sum":
            return dp.sum("value", *VALUES).alias(name)
        case "mean":
            return dp.mean("value", *VALUES).alias(name)
        case "variance":
            return dp.variance("value", *VALUES).alias(name)
    return dp.chosen_quantile("value", "1/2", *VALUES).alias(name)
