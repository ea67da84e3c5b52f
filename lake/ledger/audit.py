"""The audit log as it is read: events in their order, each hashed with all before it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, select

from lake.errors import LedgerBehind, LedgerError
from lake.ledger.schema import audit
from lake.ledger.store import GENESIS, Head, Transaction, chained

__all__ = ["BY_HAND", "REMEDY", "Event", "chain", "contains", "events_after"]

_AFTER = select(audit).where(audit.c.sequence > bindparam("sequence")).order_by(audit.c.sequence)
_HASH = select(audit.c.hash).where(audit.c.sequence == bindparam("sequence"))

BY_HAND = "somebody changed the ledger by hand: compare with its mirror and with exports, and find out who"

REMEDY = (
    "an older copy of it was restored: treat the difference as spent, and make a new ledger of what is left"
    ' (docs/ledger.md, "Backups")'
)


@dataclass(frozen=True)
class Event:
    """One line of the audit log.

    Attributes:
        sequence: its number, from 1 and without gaps.
        at: when it happened, in seconds since the epoch.
        event: what happened, as the JSON text that was hashed; nothing secret.
        hash: SHA-256 of the hash before it, a line end and `event`, hexadecimal.
    """

    sequence: int
    at: float
    event: str
    hash: str

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The event read: "event" says what happened."""
        found: dict[str, Any] = json.loads(self.event)
        return found

    @property
    def head(self) -> Head:
        """Where the log ended with this event."""
        return Head(self.sequence, self.hash)


def events_after(tx: Transaction, sequence: int) -> list[Event]:
    """The events after the one of that number, oldest first."""
    return [Event(*row) for row in tx.rows(_AFTER, sequence=sequence)]


def chain(events: Iterable[Event], ledger: str) -> Iterator[Event]:
    """The events of a whole log one after another, each once it has proved to follow the one before it.

    Raises:
        LedgerError: an event is missing, or is not the one that was hashed; names the first.
    """
    last = GENESIS
    for event in events:
        if event.sequence != last.sequence + 1:
            raise LedgerError(ledger, f"audit event {last.sequence + 1} is missing", BY_HAND)
        if event.hash != chained(last.hash, event.event) or event.fields.get("at", event.at) != event.at:
            raise LedgerError(ledger, f"audit event {event.sequence} is not the one that was hashed", BY_HAND)
        last = event.head
        yield event


def contains(tx: Transaction, ledger: str, head: Head, whose: str) -> None:
    """Check that the log once ended where somebody saw it end.

    Args:
        tx: on the ledger.
        ledger: its name.
        head: what was seen.
        whose: who saw it.

    Raises:
        LedgerBehind: the log is shorter, or another one at that place.
    """
    if head == GENESIS:
        return
    row = tx.row(_HASH, sequence=head.sequence)
    if row is None:
        raise LedgerBehind(ledger, f"lacks audit event {head.sequence}, which {whose} has seen", REMEDY)
    if row[0] != head.hash:
        raise LedgerBehind(ledger, f"has another audit event {head.sequence} than {whose} has seen", REMEDY)
