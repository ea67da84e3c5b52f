"""The audit log in a Delta table: for auditors who have Spark, and as a witness when a ledger is set back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lake.errors import LedgerError
from lake.ledger.audit import Event
from lake.ledger.store import GENESIS, Head

__all__ = ["check_mirror", "mirror"]

_ATTEMPTS = 20
_MOST_EVENTS = 100_000  # of one commit
_SCHEMA = pa.schema(
    [
        ("sequence", pa.int64()),
        ("at", pa.timestamp("us", "UTC")),
        ("event", pa.string()),
        ("hash", pa.string()),
        ("ledger_id", pa.string()),
    ]
)
_COLUMNS = ("sequence", "hash", "ledger_id")
_NEW_TABLE = {"delta.appendOnly": "true"}
_NOT_THERE = ("PATH_NOT_FOUND", "DELTA_PATH_DOES_NOT_EXIST", "DELTA_TABLE_NOT_FOUND")


class _Audited(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def ledger_id(self) -> str: ...

    def events(self, after: int = 0) -> list[Event]: ...

    def check_head(self, head: Head, whose: str) -> None: ...


def mirror(ledger: _Audited, spark: SparkSession, path: str) -> Head:
    """See `AuditedLedger.mirror`."""
    head = _checked(ledger, spark, path)
    for _ in range(_ATTEMPTS):
        lacking = ledger.events(head.sequence)
        if not lacking:
            return head
        failure = _append(ledger, spark, path, head, lacking[:_MOST_EVENTS])
        before, head = head, _checked(ledger, spark, path)
        if head == before:
            why = "it was set back" if failure is None else type(failure).__name__
            problem = f"its mirror {path!r} takes no events after {head.sequence} ({why})"
            raise LedgerError(ledger.name, problem, "find out why, or make a new one elsewhere") from failure
    raise LedgerError(ledger.name, f"others write to its mirror {path!r} all the time", "try again")


def check_mirror(ledger: _Audited, spark: SparkSession, path: str) -> Head:
    """See `AuditedLedger.check_mirror`."""
    head = _checked(ledger, spark, path)
    if head == GENESIS:
        raise LedgerError(ledger.name, f"there is no mirror of it at {path!r}", "make it with `ledger.mirror`")
    return head


def _checked(ledger: _Audited, spark: SparkSession, path: str) -> Head:
    """Where the mirror ends, which the ledger has been found to contain; `GENESIS` where there is none yet."""
    last = _last(ledger, spark, path)
    if last is None:
        return GENESIS
    sequence, digest, ledger_id = last
    if ledger_id != ledger.ledger_id:
        problem = f"{path!r} mirrors another ledger, {ledger_id}"
        raise LedgerError(ledger.name, problem, "give every ledger a mirror of its own")
    head = Head(sequence, digest)
    ledger.check_head(head, f"its mirror {path!r}")
    return head


def _last(ledger: _Audited, spark: SparkSession, path: str) -> tuple[int, str, str] | None:
    """The last line of a mirror; None where nothing stands yet."""
    try:
        table = spark.read.format("delta").load(path)
        if not set(_COLUMNS) <= set(table.columns):
            raise LedgerError(ledger.name, f"{path!r} is a table of something else", "give the path of its mirror")
        rows = table.select(*_COLUMNS).orderBy("sequence", ascending=False).head(1)
    except PySparkException as error:
        if error.getCondition() in _NOT_THERE:
            return None
        problem = f"{path!r} is no mirror that can be read ({error.getCondition()})"
        raise LedgerError(ledger.name, problem, "check the path and the permissions") from error
    return (rows[0]["sequence"], rows[0]["hash"], rows[0]["ledger_id"]) if rows else None


def _append(ledger: _Audited, spark: SparkSession, path: str, after: Head, events: Sequence[Event]) -> Exception | None:
    """One commit that follows the mirror's head and no other; returns what went wrong.

    Delta keeps the name and number of a transaction with its commit, and makes a second one of that name neither after
    it nor beside it. Named by the head that it follows, a commit is the only one that ever follows that head.
    """
    columns = [
        [event.sequence for event in events],
        [datetime.fromtimestamp(event.at, UTC) for event in events],
        [event.event for event in events],
        [event.hash for event in events],
        [ledger.ledger_id] * len(events),
    ]
    batch = pa.table(columns, schema=_SCHEMA)
    named = {"txnAppId": f"spark-mpc ledger after {after.sequence}", "txnVersion": "1"}
    try:
        writer = spark.createDataFrame(batch).coalesce(1).write.format("delta").mode("append")
        writer.options(**_NEW_TABLE, **named).save(path)
    except Exception as error:  # a conflict, most likely; Delta's types depend on the kind of session
        return error
    return None
