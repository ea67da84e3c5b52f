"""Where other parties' audit logs were last seen to end: a ledger that lacks what a peer has seen was set back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import bindparam, insert, select, update

from dp.accounting.ledger import BudgetLedger
from lake.ledger.schema import heads
from lake.ledger.store import Head, Transaction

__all__ = ["PeerHead", "WitnessedLedger", "heads_of_peers", "keep_newest"]

_ALL = select(heads.c.party, heads.c.ledger_id, heads.c.sequence, heads.c.hash, heads.c.seen_at).order_by(
    heads.c.party, heads.c.seen_at
)
_SEEN = select(heads.c.sequence).where(heads.c.ledger_id == bindparam("ledger"))
_FIRST = insert(heads).values({column: bindparam(column.name) for column in heads.columns})
_NEWER = (
    update(heads)
    .where(heads.c.ledger_id == bindparam("ledger"))
    .values({name: bindparam(name) for name in ("party", "sequence", "hash", "seen_at")})
)


@dataclass(frozen=True)
class PeerHead:
    """Where the log of a peer's ledger ended when it was last seen.

    Attributes:
        party: whose ledger.
        ledger_id: which of its ledgers.
        head: the newest that was seen.
        seen_at: when, in seconds since the epoch, by this ledger's clock; set by the ledger that keeps it.
    """

    party: str
    ledger_id: str
    head: Head
    seen_at: float = 0.0


class WitnessedLedger(BudgetLedger, Protocol):
    """A ledger whose head others keep, and which keeps theirs."""

    def head(self) -> Head:
        """Where its audit log ends."""

    def check_head(self, head: Head, whose: str) -> None:
        """Check that its log once ended where somebody saw it end; raises if not."""

    def peer_heads(self) -> list[PeerHead]:
        """Of every ledger of a peer, the newest head that was seen; by party, the ledger seen last at the end."""

    def keep_heads(self, seen: Iterable[PeerHead]) -> None:
        """Keep the heads of peers' ledgers, each if it is newer than what is kept of it."""


def heads_of_peers(tx: Transaction) -> list[PeerHead]:
    """See `WitnessedLedger.peer_heads`."""
    return [PeerHead(party, ledger, Head(*head), at) for party, ledger, *head, at in tx.rows(_ALL)]


def keep_newest(tx: Transaction, seen: Iterable[PeerHead]) -> None:
    """See `WitnessedLedger.keep_heads`."""
    for peer in seen:
        kept = tx.row(_SEEN, ledger=peer.ledger_id)
        row = {"party": peer.party, "sequence": peer.head.sequence, "hash": peer.head.hash, "seen_at": tx.now}
        if kept is None:
            tx.write(_FIRST, ledger_id=peer.ledger_id, **row)
        elif kept[0] <= peer.head.sequence:
            tx.write(_NEWER, ledger=peer.ledger_id, **row)
