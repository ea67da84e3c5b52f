"""Small lakes: Delta tables written once, ledgers with room for many queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import BudgetLedger
from lake.ledger import Ledger

__all__ = ["Rows", "make_ledgers", "nothing_entered", "write_table"]

Rows = Sequence[Sequence[object]]


def write_table(spark: SparkSession, path: Path, schema: str, rows: Rows, *, mode: str = "overwrite") -> str:
    """Write rows as one file of a Delta table; gives its path."""
    df = spark.createDataFrame([tuple(row) for row in rows], schema)
    df.coalesce(1).write.format("delta").mode(mode).save(str(path))
    return str(path)


def make_ledgers(folder: Path, names: Iterable[str], capacity: Budget | None = None) -> dict[str, Ledger]:
    """A new ledger for every party, in a folder that exists."""
    room = capacity or PureDP(1000)
    return {name: Ledger.create(folder / f"{name}.ledger", capacity=room) for name in names}


def nothing_entered(ledgers: Iterable[BudgetLedger]) -> bool:
    """Whether no ledger has any entry, not even one that was given back."""
    return all(ledger.entries() == [] for ledger in ledgers)
