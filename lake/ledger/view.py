"""What a ledger tells who looks: balances, blocks, claims, settings, and what was paid for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from dp.accounting.budget import Budget, budget_to_json
from dp.accounting.ledger import Entry, EntryState, Resumable, StoredAnswer
from lake.ledger.amounts import least, read_budget
from lake.ledger.approval import unapproved
from lake.ledger.audited import AuditedLedger
from lake.ledger.balances import BlockState
from lake.ledger.books import Books, open_books
from lake.ledger.layouts import Layout, layouts_of, make_due
from lake.ledger.rows import ClaimRow, all_claims, claims_within, demand_text, open_claims, resumable_claim
from lake.ledger.schema import WHOLE, claims, ledger, releases
from lake.ledger.settings import Settings, read_settings
from lake.ledger.store import Store

__all__ = ["Balance", "LedgerView"]

_IDENTITY = select(ledger.c.ledger_id, ledger.c.capacity)
_RELEASE = select(releases.c.release).where(releases.c.release_key == bindparam("release_key"))
_ANSWERS = (
    select(releases.c.number, releases.c.release_key, releases.c.plan)
    .join(claims, claims.c.number == releases.c.claim)
    .where(claims.c.table_name == bindparam("table"), claims.c.data_version == bindparam("data_version"))
    .where(releases.c.plan != "")
    .order_by(releases.c.number)
)


@dataclass(frozen=True)
class Balance:
    """One consistent look at the whole of a ledger.

    Guarantees:
        capacity = spent + reserved + remaining, exactly.
    """

    capacity: Budget
    spent: Budget
    reserved: Budget
    remaining: Budget


class LedgerView(AuditedLedger):
    """A ledger as it stands; whoever looks also gives back what has run out."""

    def __init__(self, store: Store) -> None:
        """Use `Ledger.open` or `Ledger.create`."""
        with store.transaction() as tx:
            ((ledger_id, capacity),) = tx.rows(_IDENTITY)
        super().__init__(store, str(ledger_id))
        self._capacity = read_budget(capacity)

    @property
    def capacity(self) -> Budget:
        """The whole budget."""
        return self._capacity

    def balance(self) -> Balance:
        """Capacity, spent, reserved and remaining of the whole, as of one moment."""
        (whole,) = (state for state in self.blocks() if state.name == WHOLE)
        return Balance(whole.capacity, whole.consumed, whole.acquired, whole.remaining)

    def spent(self) -> Budget:
        """Armed and spent claims on the whole together."""
        return self.balance().spent

    def reserved(self) -> Budget:
        """Claimed of the whole, not armed, with a running lease."""
        return self.balance().reserved

    def remaining(self, blocks: tuple[str, ...] = ()) -> Budget:
        """What new claims may take of the whole; or of each of some blocks, now."""
        if not blocks:
            return self.balance().remaining
        with self.books(blocks=blocks) as books:
            make_due(books, read_settings(books.tx), blocks, "")
            return least(books.accounts.of(name).unlocked for name in blocks)

    def blocks(self) -> list[BlockState]:
        """The whole and every block that was made so far, by name."""
        with self.books() as books:
            return books.accounts.all()

    def layouts(self) -> list[Layout]:
        """How tables are cut into blocks, and what each block gives."""
        with self._store.transaction() as tx:
            return layouts_of(tx)

    def settings(self) -> Settings:
        """What the steward chose."""
        with self._store.transaction() as tx:
            return read_settings(tx)

    def entries(self, *states: EntryState) -> list[Entry]:
        """Every claim, or every one in these states, oldest first."""
        with self.books() as books:
            some = (row for state in states for row in open_claims(books.tx, state))
            rows = sorted(some, key=lambda row: row.number) if states else all_claims(books.tx)
            return [row.entry() for row in rows]

    def export_rows(self) -> list[dict[str, str]]:
        """Every claim as text fields, with exact fractions.

        The price becomes "kind" and one field for each of its amounts: the greatest that it asks of any of its blocks.
        What it asked of each is "demand", and what it holds of each, or has spent, is "held", as JSON: one budget for
        every block, or {"each": {block: budget}}; "" where it holds nothing. A claim that was paid out of another has
        that one's number as "parent", and the other holds as much less.
        """
        with self.books() as books:
            return [{"ledger_id": self.ledger_id, **_exported(row)} for row in all_claims(books.tx)]

    def within(self, number: int) -> list[ClaimRow]:
        """The claims that were paid out of another, oldest first."""
        with self.books() as books:
            return claims_within(books.tx, number)

    def unapproved(self) -> list[Entry]:
        """The reserved claims that cannot be armed before the steward approves them, oldest first."""
        with self.books() as books:
            return [row.entry() for row in unapproved(books, read_settings(books.tx))]

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key, byte for byte; None if none is stored."""
        with self._store.transaction() as tx:
            row = tx.row(_RELEASE, release_key=release_key)
        return None if row is None else bytes(row[0])

    def stored_releases(self, table: str, data_version: str) -> list[StoredAnswer]:
        """The stored releases with a plan, oldest first, whose claims name this table and version; reads no release."""
        with self._store.transaction() as tx:
            return [StoredAnswer(*row) for row in tx.rows(_ANSWERS, table=table, data_version=data_version)]

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key and its noised vector; None if there is none, or a release is stored."""
        with self._store.transaction() as tx:
            found = resumable_claim(tx, release_key)
        return None if found is None else Resumable(found[0].ticket(self.ledger_id), found[1])

    @contextmanager
    def books(self, request_id: str | None = None, blocks: Iterable[str] = ()) -> Iterator[Books]:
        """The claims and blocks, in one transaction; leases that ran out have been given back.

        Args:
            request_id: of a request that will be looked for, if that is known.
            blocks: that will be looked at, as far as they are known.
        """
        with self._store.transaction() as tx:
            books = open_books(tx, self.name, request_id, blocks)
            yield books
            books.accounts.save()


def _exported(row: ClaimRow) -> dict[str, str]:
    entry = row.entry()
    fields: Mapping[str, object] = {**vars(entry), "blocks": " ".join(entry.blocks)}
    return {
        **{name: str(value) for name, value in fields.items() if name != "price"},
        "parent": "" if row.request.parent is None else str(row.request.parent),
        "demand": demand_text(row.request.demand),
        "held": demand_text(row.held) if row.state in ("reserved", "armed", "spent") else "",
        **budget_to_json(entry.price),
    }
