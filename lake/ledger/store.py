"""A store under a ledger: one transaction at a time, and an audit log that every change is written to.

SQLAlchemy writes each statement once for each dialect; the driver's own cursor runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ClauseElement, Dialect, bindparam, insert, select

from lake.ledger.schema import audit

__all__ = ["GENESIS", "Clock", "Head", "Store", "Texts", "Transaction", "chained"]

Clock = Callable[[], float]
"""Seconds since the epoch."""

Row = tuple[Any, ...]

_HEAD = select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
_APPEND = insert(audit).values({column: bindparam(column.name) for column in audit.columns})


@dataclass(frozen=True)
class Head:
    """Where an audit log ends: whoever keeps it notices a ledger that was set back.

    Attributes:
        sequence: the number of the last event; 0 before the first.
        hash: of the whole log up to it, hexadecimal.
    """

    sequence: int
    hash: str


GENESIS = Head(0, "")
"""Of a log without an event."""


def chained(previous: str, event: str) -> str:
    """The hash of an event that follows the event of hash `previous`."""
    return hashlib.sha256(f"{previous}\n{event}".encode()).hexdigest()


class Texts:
    """Statements as text of one dialect, made once each; statements are constants of their modules."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[int, tuple[ClauseElement, str, dict[str, Any]]] = {}

    def of(self, statement: ClauseElement) -> tuple[str, dict[str, Any]]:
        """The text that the driver takes, and the parameters that the statement itself sets."""
        found = self._texts.get(id(statement))
        if found is None:
            compiled = statement.compile(dialect=self._dialect)
            found = (statement, str(compiled), dict(compiled.params))  # kept alive: so the id stays its own
            self._texts[id(statement)] = found
        return found[1:]


class Cursor(Protocol):
    """What every driver's cursor has."""

    rowcount: int

    def execute(self, text: str, parameters: Mapping[str, Any], /) -> object:
        """Run one statement."""

    def executemany(self, text: str, parameters: Sequence[Mapping[str, Any]], /) -> object:
        """Run one statement several times."""

    def fetchall(self) -> list[Row]:
        """Every row of it."""


class Transaction:
    """What one transition reads and writes; nobody else's transition is at work meanwhile.

    Attributes:
        now: when it began, in seconds since the epoch.
    """

    def __init__(self, cursor: Any, texts: Texts, now: float) -> None:
        """Made by a store, which holds the lock."""
        self.now = now
        self._cursor: Cursor = cursor
        self._texts = texts

    def rows(self, statement: ClauseElement, **parameters: Any) -> list[Row]:
        """Every row of a query, or of what a statement returns."""
        self._execute(statement, parameters)
        return self._cursor.fetchall()

    def row(self, statement: ClauseElement, **parameters: Any) -> Row | None:
        """The first row, if there is one."""
        return next(iter(self.rows(statement, **parameters)), None)

    def write(self, statement: ClauseElement, **parameters: Any) -> int:
        """Run a statement; returns how many rows it changed."""
        self._execute(statement, parameters)
        return self._cursor.rowcount

    def write_all(self, statement: ClauseElement, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each set of parameters."""
        if parameters:
            text, own = self._texts.of(statement)
            self._cursor.executemany(text, [{**own, **each} for each in parameters])

    def _execute(self, statement: ClauseElement, parameters: Mapping[str, Any]) -> None:
        text, own = self._texts.of(statement)
        self._cursor.execute(text, {**own, **parameters})

    def head(self) -> Head:
        """Where the audit log ends."""
        row = self.row(_HEAD)
        return GENESIS if row is None else Head(*row)

    def record(self, kind: str, **event: Any) -> None:
        """Append one event to the audit log.

        Args:
            kind: what happened, such as "armed".
            event: to whom; values of JSON, nothing secret.
        """
        head = self.head()
        text = json.dumps({"event": kind, **event, "at": self.now}, sort_keys=True)
        self.write(_APPEND, sequence=head.sequence + 1, at=self.now, event=text, hash=chained(head.hash, text))


class Store(Protocol):
    """Where a ledger is kept."""

    @property
    def name(self) -> str:
        """The store as errors and people name it; shows no password."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Everything inside happens at once and durably, or not at all; transactions come one after another.

        Raises:
            LedgerMissing: the store is gone.
            LedgerError: it stayed busy, or failed; nothing was changed.
        """

    def close(self) -> None:
        """Close it; what was acknowledged is durable already."""
