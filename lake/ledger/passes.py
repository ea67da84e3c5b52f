"""A pass of the scheduler over everybody who waits, within one transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import bindparam, select, update

from dp.accounting.budget import Budget, RenyiDP, summed
from lake.ledger.balances import Accounts, BlockState, Demand
from lake.ledger.books import Books
from lake.ledger.rows import read_demand
from lake.ledger.schema import claims, ledger
from lake.ledger.settings import Settings
from lake.ledger.store import Row
from lake.scheduling import ByTime, Supply, Waiting, distinct, in_grains
from lake.scheduling.problem import Ints

__all__ = ["run_pass", "settle_time", "unlock"]

_WAITING = (
    select(claims.c.number, claims.c.blocks, claims.c.price, claims.c.weight)
    .where(claims.c.state == "waiting")
    .order_by(claims.c.number)
)
_PASS = update(ledger).values(passed=bindparam("passed"))


def run_pass(books: Books, settings: Settings) -> None:
    """Let the scheduler grant what it can, if anything has happened since it last looked.

    Cost:
        Reads every waiting claim once; a few writes for each that is granted, and one for each block.
    """
    scheduler = settings.scheduler
    if books.tx.head().sequence == books.tx.start.passed and not isinstance(scheduler.unlocking, ByTime):
        return
    rows = books.tx.rows(_WAITING)
    if rows:
        queue = _Queue.of(rows)
        books.accounts.fetch(queue.names)
        unlock(books, settings, queue.names)
        granted = scheduler.grants(*queue.problem(books.accounts))
        _grant(books, [(rows[i][0], queue.demands[queue.which[i]]) for i in granted])
    books.tx.write(_PASS, passed=books.tx.head().sequence)


def unlock(books: Books, settings: Settings, names: Iterable[str], arrivals: int = 0) -> None:
    """What the time since the last look, and claims that arrived, open of some blocks."""
    unlocking = settings.scheduler.unlocking
    for name in names:
        state = books.accounts.of(name)
        elapsed = _elapsed(books, state)
        share = unlocking.after_time(state.share, elapsed)
        for _ in range(arrivals):
            share = unlocking.after_arrival(share)
        if share > state.share:
            books.accounts.unlock(name, share, state.shared_at + elapsed / 1000)


def settle_time(books: Books, settings: Settings) -> None:
    """Count the time until now under these settings, for every block: what follows is counted under others."""
    for state in books.accounts.all():
        share = settings.scheduler.unlocking.after_time(state.share, _elapsed(books, state))
        books.accounts.unlock(state.name, share, max(books.tx.now, state.shared_at))


def _elapsed(books: Books, state: BlockState) -> int:
    """Milliseconds since its share was brought up to date; none if the clock was set back."""
    return max(int((books.tx.now - state.shared_at) * 1000), 0)


def _grant(books: Books, granted: Sequence[tuple[int, Demand]]) -> None:
    """Grant all of these, and add up once what each block gives."""
    sums: defaultdict[str, Counter[Budget]] = defaultdict(Counter)
    for number, demand in granted:
        books.grant(number, demand)
        for block, amount in demand.items():
            sums[block][amount] += 1
    total = {block: summed(counts.items(), next(iter(counts))) for block, counts in sums.items()}
    assert books.fits(total)  # the scheduler counts in grains; this counts exactly
    books.accounts.acquire(total)


@dataclass(frozen=True)
class _Queue:
    """Everybody who waits; most ask for one of a few things.

    Attributes:
        rows: as `_WAITING` has them.
        demands: the different demands.
        which: of every row, its demand, (n,).
    """

    rows: Sequence[Row]
    demands: Sequence[Demand]
    which: Ints

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Queue:
        texts, which = distinct((row[1], row[2]) for row in rows)
        return cls(rows, [read_demand(*text) for text in texts], which)

    @cached_property
    def names(self) -> list[str]:
        """The blocks that somebody waits for."""
        return distinct(name for demand in self.demands for name in demand)[0]

    def problem(self, accounts: Accounts) -> tuple[Supply, Waiting]:
        """Blocks and claims, as a scheduler takes them."""
        amounts, amount_of = distinct(amount for demand in self.demands for amount in demand.values())
        supply, grains = self._in_grains(accounts, amounts)
        place = {name: index for index, name in enumerate(self.names)}
        blocks = np.array([place[name] for demand in self.demands for name in demand], dtype=np.int64)
        parts, first = self._parts()
        waiting = Waiting(
            number=np.array([row[0] for row in self.rows], dtype=np.int64),
            weight=np.array([row[3] for row in self.rows], dtype=np.float64),
            first=first,
            block=blocks[parts],
            demand=grains[amount_of[parts]],
        )
        return supply, waiting

    def _in_grains(self, accounts: Accounts, amounts: Sequence[Budget]) -> tuple[Supply, Ints]:
        states = [accounts.of(name) for name in self.names]
        return in_grains(
            [state.capacity.amounts for state in states],
            [state.unlocked.amounts for state in states],
            [amount.amounts for amount in amounts],
            claims=len(self.rows),
            fits="any" if isinstance(states[0].capacity, RenyiDP) else "every",
        )

    def _parts(self) -> tuple[Ints, Ints]:
        """Of every row, one after the other, the parts of its demand; and where each row's begin."""
        counts = np.array([len(demand) for demand in self.demands], dtype=np.int64)
        begins = (np.cumsum(counts) - counts)[self.which]
        first = np.concatenate(([0], np.cumsum(counts[self.which])))
        return np.arange(first[-1]) + np.repeat(begins - first[:-1], counts[self.which]), first
