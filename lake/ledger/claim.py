"""A claim that is held open: budget on some blocks, out of which queries are paid while it lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from dp.accounting.budget import Budget, summed
from dp.accounting.ledger import Claim, Entry, EntryState, Resumable, StoredAnswer
from dp.errors import BudgetExceeded, InvalidArgument, SparkMpcError
from dp.execution.leases import keep_lease
from lake.ledger.amounts import least
from lake.ledger.heads import PeerHead, WitnessedLedger
from lake.ledger.rows import ClaimRow, Request, most_of
from lake.ledger.schema import WHOLE
from lake.ledger.selection import Choice, Named
from lake.ledger.store import Head

__all__ = ["OpenClaim", "Payer", "hold"]

_FIRST_LOOK_SECONDS = 0.02
_SLOWEST_LOOK_SECONDS = 1.0


class Payer(WitnessedLedger, Protocol):
    """What a claim needs of its ledger."""

    def ask(self, request: Request, choice: Choice) -> ClaimRow:
        """Make a claim, or find the one that this request made."""

    def poll(self, number: int) -> ClaimRow:
        """A claim as it stands now; if it waits, its holder has been heard of."""

    def within(self, number: int) -> list[ClaimRow]:
        """The claims that were paid out of another, oldest first."""


@contextmanager
def hold(ledger: Payer, request: Request, choice: Choice) -> Iterator[OpenClaim]:
    """Wait until a claim is granted, keep its lease while the block runs, give back what is left of it."""
    row = ledger.ask(request, choice)
    ticket = row.ticket(ledger.ledger_id)
    if row.state == "waiting":
        try:
            row = _granted(ledger, row)
        except BaseException:
            with suppress(SparkMpcError):
                ledger.release(ticket)
            raise
    with keep_lease(ledger, row.ticket(ledger.ledger_id)) as lease:
        yield OpenClaim(ledger, row, lambda: lease.claim)
    ledger.release(lease.claim)


def _granted(ledger: Payer, row: ClaimRow) -> ClaimRow:
    pause = _FIRST_LOOK_SECONDS
    while row.state == "waiting":
        time.sleep(min(pause, row.request.lease_seconds / 4))
        pause = min(pause * 1.5, _SLOWEST_LOOK_SECONDS)
        row = ledger.poll(row.number)
    if row.state != "reserved":
        asked, (first, *others) = most_of(row.request.demand), row.request.demand
        what = (
            f"at most {asked} of each of {first} and {len(others)} more block(s)" if others else f"{asked} of {first}"
        )
        raise BudgetExceeded(
            f"asked {what}, not granted within timeout_seconds={row.request.timeout_seconds:g} on ledger"
            f" {ledger.ledger_id}: ask for less, wait longer, or ask its steward"
        )
    return row


class OpenClaim(WitnessedLedger):
    """Budget that is held for this job on some blocks; give it as `ledger=` to what it shall pay for.

    Guarantees:
        What is paid out of it was acquired before: no query under it is refused because somebody else was faster.
        A query on any other block, or for more than is left of it, is refused before a row is read.

    Attributes:
        number: of the claim in its ledger.
        blocks: what it holds budget on; `lake.Table.private` takes the claim and reads just these.
    """

    def __init__(self, ledger: Payer, row: ClaimRow, ticket: Callable[[], Claim]) -> None:
        """Made by `Ledger.claim`."""
        self.number = row.number
        self.blocks = tuple(row.request.demand)
        self._ledger, self._ticket = ledger, ticket
        self._asked = row.request
        self._capacity = most_of(row.request.demand)

    def __repr__(self) -> str:
        return f"OpenClaim({self.number}, {self._capacity} on {len(self.blocks)} block(s))"

    @property
    def capacity(self) -> Budget:
        """What was claimed: of each block, or the most of any."""
        return self._capacity

    @property
    def ledger_id(self) -> str:
        """The ledger that it stands in."""
        return self._ledger.ledger_id

    def spent(self) -> Budget:
        """What queries under it have paid, of any block."""
        return self._sum("armed", "spent")

    def reserved(self) -> Budget:
        """What queries under it are about to pay, of any block."""
        return self._sum("reserved")

    def remaining(self, blocks: tuple[str, ...] = ()) -> Budget:
        """What a query on all of its blocks, or on some of them, may cost: the least that is left of any.

        Once the claim has ended that is nothing.
        """
        row = self._ledger.poll(self.number)
        if row.state != "reserved":
            return summed((), self._capacity)
        return least(amount for block, amount in row.held.items() if block in (blocks or row.held))

    def entries(self) -> list[Entry]:
        """The claims of the queries under it, oldest first."""
        return [row.entry() for row in self._ledger.within(self.number)]

    def export_rows(self) -> list[dict[str, str]]:
        """The same as text fields."""
        mine = {entry.claim_id for entry in self.entries()}
        return [row for row in self._ledger.export_rows() if row["claim_id"] in mine]

    def reserve(
        self,
        *,
        request_id: str,
        price: Budget,
        table: str,
        data_version: str,
        release_key: str,
        run_id: str,
        purpose: str,
        lease_seconds: float,
        disclosure: str = "",
        blocks: tuple[str, ...] = (),
        layout: str = "",
    ) -> Claim:
        """Take part of it for one query; see `Ledger.reserve`.

        Raises:
            BudgetExceeded: less is left of it.
            InvalidArgument: a block that it does not hold.
            ClaimLost: it has ended.
        """
        paid = blocks or (WHOLE,)
        if not set(paid) <= set(self.blocks):
            other = sorted(set(paid) - set(self.blocks))[0]
            raise InvalidArgument("blocks", other, f"claim {self.number} is on others: read table.private(claim)")
        request = Request(
            request_id=request_id,
            lease_seconds=min(lease_seconds, self._asked.lease_seconds),  # a dead job gives both back soon
            owner=self._asked.owner,
            weight=self._asked.weight,
            parent=self.number,
            table=table,
            data_version=data_version,
            release_key=release_key,
            run_id=run_id,
            purpose=purpose,
            disclosure=disclosure,
        )
        return self._ledger.ask(request, Named(paid, price, layout)).ticket(self.ledger_id)

    def renew(self, claim: Claim) -> Claim:
        """Start a query's running lease afresh."""
        return self._ledger.renew(claim)

    def await_approval(self, claim: Claim, check: Callable[[], None] | None = None) -> None:
        """Wait until the steward has agreed to a query, if that is needed."""
        self._ledger.await_approval(claim, check)

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend a query's part for good."""
        self._ledger.arm(claim, noised)

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        """Close a query's part, and store its release."""
        self._ledger.commit(claim, release, plan)

    def release(self, claim: Claim) -> None:
        """Give a query's part back to this claim."""
        self._ledger.release(claim)

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key, by this claim or another."""
        return self._ledger.stored_release(release_key)

    def stored_releases(self, table: str, data_version: str) -> list[StoredAnswer]:
        """The stored releases of this table and version."""
        return self._ledger.stored_releases(table, data_version)

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key whose release is not stored."""
        return self._ledger.resumable(release_key)

    def head(self) -> Head:
        """Where the audit log of its ledger ends."""
        return self._ledger.head()

    def check_head(self, head: Head, whose: str) -> None:
        """Check that the log of its ledger once ended where somebody saw it end."""
        self._ledger.check_head(head, whose)

    def peer_heads(self) -> list[PeerHead]:
        """Where peers' ledgers were last seen to end."""
        return self._ledger.peer_heads()

    def keep_heads(self, seen: Iterable[PeerHead]) -> None:
        """Keep where peers' ledgers were seen to end."""
        self._ledger.keep_heads(seen)

    @property
    def ticket(self) -> Claim:
        """The newest ticket of this claim itself."""
        return self._ticket()

    def _sum(self, *states: EntryState) -> Budget:
        rows = (row for row in self._ledger.within(self.number) if row.state in states)
        return summed(((most_of(row.held), 1) for row in rows), self._capacity)
