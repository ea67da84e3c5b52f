"""The life of a claim: each step keeps the sums of its blocks right and is written to the audit log.

waiting --> reserved --> armed --> spent
   |           |
   v           v
 failed     released
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, insert, select

from dp.accounting.budget import budget_to_json
from dp.accounting.ledger import Claim, EntryState
from dp.errors import BudgetExceeded
from lake.errors import ClaimLost, LeaseExpired, LedgerError
from lake.ledger.amounts import added, taken, within, write_budget
from lake.ledger.balances import Accounts, Demand, expect_blocks, once_each
from lake.ledger.rows import (
    ClaimRow,
    Request,
    claim_numbered,
    drop_noised,
    expect_claims,
    expired_claims,
    grant_claims,
    insert_claims,
    keep_noised,
    new_row,
    open_claims,
    save_claim,
)
from lake.ledger.schema import releases
from lake.ledger.store import Transaction

__all__ = ["Books", "open_books"]

_STORED = select(releases.c.number).where(releases.c.release_key == bindparam("release_key"))
_STORE = insert(releases).values(
    {name: bindparam(name) for name in ("release_key", "claim", "plan", "release", "stored_at")}
)


class Books:
    """The claims and blocks of a ledger within one transaction.

    Guarantees:
        Whatever is called in whatever order: a block's acquired part is what its reserved claims hold, its consumed
        part what its armed and spent claims hold, and both together never exceed its capacity (for a Renyi budget: at
        one order at least).
    """

    def __init__(self, tx: Transaction, ledger: str) -> None:
        """Look at the ledger `ledger` in `tx`."""
        self.tx = tx
        self.ledger = ledger
        self.accounts = Accounts(tx, ledger)

    def expire(self) -> None:
        """End every claim whose lease or patience is over, once; children before their parents."""
        rows = expired_claims(self.tx)
        for row in rows:
            if row.state == "reserved":
                self._give_back(row, "the lease ran out")
            else:
                over = row.deadline_at is not None and row.deadline_at <= self.tx.now
                self.fail(row, "nothing came free in time" if over else "its holder is gone")
        if rows:
            self.tx.start_again()

    def reserve(self, request: Request) -> ClaimRow:
        """A new claim that holds its budget at once.

        Raises:
            BudgetExceeded: a block, or the claim that it is taken from, has less.
            ClaimLost: the claim that it is taken from holds nothing any more.
        """
        if request.parent is None:
            if not self.fits(request.demand):
                raise self.shortage(request.demand)
            (number,) = self.hold([request], request.demand)
        else:
            self._take_from(request.parent, request.demand)
            (number,) = self._reserved([request])
        return new_row(number, request, request.demand, "reserved", self.tx.now)

    def hold(self, requests: Sequence[Request], total: Demand) -> list[int]:
        """New claims that hold their budget at once; their numbers.

        Args:
            requests: of the claims.
            total: what they ask for together; the caller has seen that the blocks have so much unlocked.
        """
        self.accounts.acquire(total)
        return self._reserved(requests)

    def wait(self, request: Request) -> ClaimRow:
        """A new claim that holds nothing yet."""
        (number,) = insert_claims(self.tx, [request], "waiting")
        self.tx.record("waiting", claim=number, demand=_demand_json(request.demand))
        return new_row(number, request, request.demand, "waiting", self.tx.now)

    def refuse_hopeless(self, demand: Demand) -> None:
        """Check that what is not consumed could suffice some day.

        Raises:
            BudgetExceeded: it never will.
        """
        if self.accounts.lacking(demand, lambda state: state.left):
            raise self.shortage(demand)

    def fits(self, demand: Demand) -> bool:
        """Whether every block has so much unlocked."""
        return not self.accounts.lacking(demand, lambda state: state.unlocked)

    def grant(self, numbers: Sequence[int], demands: Iterable[Demand]) -> None:
        """waiting -> reserved, of claims by their numbers; the caller acquires what they demand, all together."""
        grant_claims(self.tx, numbers)
        said = once_each(_demand_said)
        self.tx.record_said(
            f'"claim": {number}, "demand": {said(demand)}, "event": "reserved"'
            for number, demand in zip(numbers, demands, strict=True)
        )

    def fail(self, row: ClaimRow, why: str) -> ClaimRow:
        """waiting -> failed; nothing was held."""
        return self._step(row, replace(row, state="failed"), why=why)

    def renew(self, row: ClaimRow) -> ClaimRow:
        """Start a running lease afresh; earlier tickets are void. Not in the audit log: no budget moves."""
        lease = self.tx.now + row.request.lease_seconds
        return self._save(row, replace(row, fence=row.fence + 1, lease_expires_at=lease))

    def still_waiting(self, row: ClaimRow) -> ClaimRow:
        """The holder of a claim that waits has been heard of."""
        assert row.deadline_at is not None
        lease = min(self.tx.now + row.request.lease_seconds, row.deadline_at)
        return self._save(row, replace(row, lease_expires_at=lease))

    def arm(self, row: ClaimRow, noised: bytes) -> ClaimRow:
        """reserved -> armed, with the vector that is paid for."""
        self.accounts.consume(row.held)
        armed = self._step(row, replace(row, state="armed"), release_key=row.request.release_key)
        keep_noised(self.tx, row.number, noised)
        return armed

    def spend(self, row: ClaimRow) -> ClaimRow:
        """armed -> spent."""
        return self._step(row, replace(row, state="spent"))

    def settle(self) -> None:
        """After a crash nobody knows whether an armed claim led to a result: it did, for the budget."""
        for row in open_claims(self.tx, "armed"):
            self.spend(row)

    def store(self, row: ClaimRow, release: bytes, plan: str) -> None:
        """Keep the release of a spent claim, unless one is kept under its key."""
        key = row.request.release_key
        if self.tx.row(_STORED, release_key=key) is None:
            stored: dict[str, Any] = {"release": release, "plan": plan, "stored_at": self.tx.now}
            self.tx.write(_STORE, release_key=key, claim=row.number, **stored)
            self.tx.record("stored", claim=row.number, release_key=key)
        drop_noised(self.tx, key)

    def release(self, row: ClaimRow) -> ClaimRow:
        """reserved -> released, or waiting -> failed."""
        return self.fail(row, "given up") if row.state == "waiting" else self._give_back(row, "given back")

    def charge(self, request: Request) -> ClaimRow:
        """A claim that is spent as it is made, locked budget included: the steward sets it aside.

        Raises:
            BudgetExceeded: less remains.
        """
        if self.accounts.lacking(request.demand, lambda state: state.remaining):
            raise self.shortage(request.demand)
        self.accounts.charge(request.demand)
        (number,) = insert_claims(self.tx, [request], "spent")
        self.tx.record("charged", claim=number, demand=_demand_json(request.demand))
        return new_row(number, request, request.demand, "spent", self.tx.now)

    def held(self, claim: Claim, *states: EntryState) -> ClaimRow:
        """The claim that a ticket stands for, provided that it may take the next step.

        Raises:
            LeaseExpired: its lease ran out before it was armed.
            ClaimLost: it is in none of `states`, or another holder renewed it, or nobody knows it.
        """
        name = f"claim {claim.claim_id}"
        row = claim_numbered(self.tx, int(claim.claim_id)) if claim.claim_id.isdecimal() else None
        if row is None:
            raise self._lost(f"{name} is unknown")
        if row.fence > claim.fence:
            raise ClaimLost(self.ledger, f"{name} was renewed by another holder", "leave it to that holder")
        over = row.lease_expires_at <= self.tx.now and row.state in ("reserved", "released")
        if over and "released" not in states:
            raise LeaseExpired(self.ledger, f"the lease of {name} has run out", "reserve again under a new request id")
        if row.state not in states:
            raise self._lost(f"{name} is {row.state}")
        return row

    def numbered(self, number: int) -> ClaimRow:
        """A claim that is known to be there, as it stands now."""
        row = claim_numbered(self.tx, number)
        assert row is not None
        return row

    def shortage(self, demand: Demand) -> BudgetExceeded:
        """What to tell a claim that is refused: where how much is missing."""
        lacking = self.accounts.lacking(demand, lambda state: state.unlocked)
        names = [state.name for state in lacking] or list(demand)
        first = self.accounts.of(names[0])
        where = "" if first.layout == "" else f" on {_some(names)}"
        return BudgetExceeded(
            f"asked {demand[first.name]}, remaining {first.unlocked} of {first.capacity}{where}"
            f" on ledger {self.ledger!r}: ask for less, or ask its steward"
        )

    def _reserved(self, requests: Sequence[Request]) -> list[int]:
        numbers, said = insert_claims(self.tx, requests, "reserved"), once_each(_demand_said)
        self.tx.record_said(
            f'"claim": {number}, "demand": {said(request.demand)}, "event": "reserved",'
            f' "within": {"null" if request.parent is None else json.dumps(request.parent)}'
            for number, request in zip(numbers, requests, strict=True)
        )
        return numbers

    def _lost(self, problem: str) -> ClaimLost:
        remedy = "armed and spent claims are final; otherwise reserve under a new request id"
        return ClaimLost(self.ledger, problem, remedy)

    def _take_from(self, parent: int, demand: Demand) -> None:
        row = self._living(parent)
        if row is None:
            problem = f"claim {parent}, from which this is taken, holds nothing any more"
            raise ClaimLost(self.ledger, problem, "make a new claim")
        for block, amount in demand.items():
            if block not in row.held:
                raise LedgerError(self.ledger, f"claim {parent} has no part of block {block!r}", "claim it too")
            left = row.held[block]
            if not within(amount, left):  # at every order: what it was granted was deducted at every order
                raise BudgetExceeded(
                    f"asked {amount}, remaining {left} of claim {parent} on ledger {self.ledger!r}:"
                    " ask for less, or claim more"
                )
        held = {**row.held, **{block: taken(row.held[block], amount) for block, amount in demand.items()}}
        self._save(row, replace(row, held=held))

    def _give_back(self, row: ClaimRow, why: str) -> ClaimRow:
        """To the claim that it was taken from while that lives, otherwise to the blocks."""
        parent = None if row.request.parent is None else self._living(row.request.parent)
        if parent is None:
            self.accounts.give_back(row.held)
        else:
            held = {
                block: added(amount, row.held[block]) if block in row.held else amount
                for block, amount in parent.held.items()
            }
            self._save(parent, replace(parent, held=held))
        to = None if parent is None else parent.number
        return self._step(row, replace(row, state="released"), why=why, within=to)

    def _living(self, number: int) -> ClaimRow | None:
        row = claim_numbered(self.tx, number)
        alive = row is not None and row.state == "reserved" and row.lease_expires_at > self.tx.now
        return row if alive else None

    def _step(self, row: ClaimRow, becomes: ClaimRow, **event: Any) -> ClaimRow:
        saved = self._save(row, becomes)
        self.tx.record(saved.state, claim=row.number, demand=_demand_json(row.held), **event)
        return saved

    def _save(self, row: ClaimRow, becomes: ClaimRow) -> ClaimRow:
        saved = replace(becomes, updated_at=self.tx.now)
        save_claim(self.tx, row, saved)
        return saved


def open_books(tx: Transaction, ledger: str, request_id: str | None = None, blocks: Iterable[str] = ()) -> Books:
    """The claims and blocks of a ledger, where leases that ran out have been given back; the caller saves the accounts.

    Args:
        tx: the transaction.
        ledger: its name.
        request_id: of a request that will be looked for, if that is known.
        blocks: that will be looked at, as far as they are known.
    """
    expect_claims(tx, request_id)
    expect_blocks(tx, blocks)
    books = Books(tx, ledger)
    books.expire()
    return books


def _demand_json(demand: Demand) -> dict[str, dict[str, str]]:
    """For the audit log: every block, and what it gives."""
    return {block: budget_to_json(amount) for block, amount in demand.items()}


def _demand_said(demand: Demand) -> str:
    """The same as canonical JSON."""
    said = once_each(write_budget)
    return "{" + ", ".join(f"{json.dumps(block)}: {said(demand[block])}" for block in sorted(demand)) + "}"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return f"blocks {shown} and {len(names) - 3} more" if len(names) > 3 else f"block{'s' * (len(names) > 1)} {shown}"
