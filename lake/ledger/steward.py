"""What only a ledger's steward does: lay tables out in blocks, choose the scheduler, approve."""

from __future__ import annotations

import math
from dataclasses import replace

from sqlalchemy import bindparam, delete, insert

from dp.accounting.budget import Budget, budget_to_json, same_kind
from dp.errors import InvalidArgument
from lake.blocks.rules import Blocks
from lake.errors import LedgerError
from lake.ledger.amounts import require_capacity, write_budget
from lake.ledger.layouts import Layout, set_aside
from lake.ledger.ledger import Ledger
from lake.ledger.passes import settle_time
from lake.ledger.rows import ClaimRow, claim_numbered, most_of
from lake.ledger.schema import approvals
from lake.ledger.settings import APPROVAL_SECONDS, read_settings, write_settings
from lake.scheduling import Scheduler

__all__ = ["Steward"]

_FORGET = delete(approvals).where(approvals.c.release_key == bindparam("key"))
_APPROVE = insert(approvals).values({column: bindparam(column.name) for column in approvals.columns})


class Steward:
    """The steward's hand on a ledger.

    Guarantees:
        Nothing here raises a capacity or gives budget back. Every change is in the audit log. Whoever may only use the
        ledger is refused by the store: by the server's roles, or by the file's permissions.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Act on an open ledger.

        Args:
            ledger: opened as the user who owns it.
        """
        self.ledger = ledger

    def lay_out(self, rule: Blocks, *, capacity: Budget) -> Layout:
        """Cut a table into blocks: each gives `capacity`, which is taken from the whole once, for good.

        Every unit of the table lies in one block, so all blocks together cost it no more than one of them. Laying out
        the same again changes nothing.

        Args:
            rule: which blocks there are; it has the layout's name.
            capacity: of each block, above nothing; of the ledger's kind.

        Raises:
            BudgetExceeded: less is left of the whole.
            InvalidArgument: another layout has that name, or a capacity of another kind, of nothing, or below zero.
        """
        self._check_kind("capacity", capacity)
        require_capacity("capacity", capacity)
        if not any(capacity.amounts.values()):
            raise InvalidArgument("capacity", str(capacity), "a block needs some budget")
        with self.ledger.books() as books:
            return set_aside(books, rule, capacity)

    def schedule(self, scheduler: Scheduler) -> None:
        """Choose who is granted when claims compete, from now on; what is unlocked stays unlocked.

        Args:
            scheduler: such as `lake.DPF(lake.ByArrivals(175))`.
        """
        with self.ledger.books() as books:
            settings = read_settings(books.tx)
            settle_time(books, settings)
            write_settings(books.tx, replace(settings, scheduler=scheduler))

    def require_approval(self, above: Budget | None, *, wait_seconds: float = APPROVAL_SECONDS) -> None:
        """From now on, arm no claim that costs more than this on any block until it is approved.

        An exact opening has no price that could be compared, so it needs approval too.

        Args:
            above: what may go unasked, of the ledger's kind; nothing of every amount asks for every approval. None: no
                claim needs any.
            wait_seconds: how long a job waits for the approval, before it reads a row; 0: it fails at once, and goes
                through when it is run again.

        Raises:
            InvalidArgument: of another kind, below zero, or no time that one can wait.
        """
        if above is not None:
            self._check_kind("above", above)
            require_capacity("above", above)
        if not (math.isfinite(wait_seconds) and wait_seconds >= 0):
            raise InvalidArgument("wait_seconds", wait_seconds, "give a finite number of seconds, 0 for not at all")
        with self.ledger.books() as books:
            chosen = replace(read_settings(books.tx), approval_above=above, approval_seconds=float(wait_seconds))
            write_settings(books.tx, chosen)

    def approve(self, number: int) -> ClaimRow:
        """Agree to what a claim pays for, at its price: now, and whenever it is asked for again.

        Args:
            number: of the claim; it may have been given back meanwhile.

        Raises:
            LedgerError: there is no such claim, or it pays for no release.
        """
        with self.ledger.books() as books:
            row = claim_numbered(books.tx, number)
            if row is None or not row.request.release_key:
                remedy = "`spark-mpc ledger claims` lists them"
                raise LedgerError(self.ledger.name, f"claim {number} pays for no release, or is unknown", remedy)
            key, price = row.request.release_key, most_of(row.request.demand)
            books.tx.write(_FORGET, key=key)
            books.tx.write(_APPROVE, release_key=key, price=write_budget(price), approved_at=books.tx.now)
            books.tx.record("approved", claim=number, release_key=key, price=budget_to_json(price))
        return row

    def _check_kind(self, parameter: str, budget: Budget) -> None:
        if not same_kind(budget, self.ledger.capacity):
            remedy = f"ledger {self.ledger.name!r} counts in {', '.join(self.ledger.capacity.amounts)}"
            raise InvalidArgument(parameter, str(budget), remedy)
