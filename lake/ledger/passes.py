"""A pass of the scheduler over everybody who waits, within one transaction."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import Text, bindparam, cast, func, select, update

from dp.accounting.budget import Budget, RenyiDP, summed
from lake.ledger.balances import Accounts, Demand
from lake.ledger.books import Books
from lake.ledger.rows import read_demands
from lake.ledger.schema import claims, ledger
from lake.ledger.settings import Settings
from lake.ledger.store import Row
from lake.scheduling import ByTime, Supply, Waiting, distinct, in_grains, opened_by_time
from lake.scheduling.problem import Ints, among

__all__ = ["run_pass", "settle_time", "unlock"]

# What is asked, and by whom: a database finds the few different things sooner than Python does.
_ASKED = (claims.c.blocks, claims.c.price, claims.c.weight)
_WAITING = (
    select(*_ASKED, func.aggregate_strings(cast(claims.c.number, Text), ","))
    .where(claims.c.state == "waiting")
    .group_by(*_ASKED)
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
    with _uncollected():
        _pass(books, settings)
    books.tx.write(_PASS, passed=books.tx.head().sequence)


def _pass(books: Books, settings: Settings) -> None:
    rows = books.tx.rows(_WAITING)
    if rows:
        queue = _Queue.of(rows)
        books.accounts.fetch(queue.names)
        unlock(books, settings, queue.names)
        _grant(books, queue, settings.scheduler.grants(*queue.problem(books.accounts)))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Put Python's garbage collection off: so many new objects set it off, and it then looks through all that there is
    in the process, which takes an eighth of a pass. A pass leaves nothing behind that only it would find.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def unlock(books: Books, settings: Settings, names: Iterable[str], arrivals: int = 0) -> None:
    """What the time since the last look, and claims that arrived, open of some blocks."""
    unlocking = settings.scheduler.unlocking
    for name in names:
        state = books.accounts.of(name)
        if state.share == 1:
            continue  # nothing is locked
        share, at = opened_by_time(unlocking, state.share, state.shared_at, books.tx.now)
        for _ in range(arrivals):
            share = unlocking.after_arrival(share)
        if share > state.share:
            books.accounts.unlock(name, share, at)


def settle_time(books: Books, settings: Settings) -> None:
    """Count the time until now under these settings, for every block: what follows is counted under others, and so is a
    period that is not over.
    """
    for state in books.accounts.all():
        share, at = opened_by_time(settings.scheduler.unlocking, state.share, state.shared_at, books.tx.now)
        books.accounts.unlock(state.name, share, at)


def _grant(books: Books, queue: _Queue, granted: Ints) -> None:
    """Grant all of these, and add up once what each block gives."""
    books.grant(queue.number[granted].tolist(), (queue.demands[i] for i in queue.which[granted].tolist()))
    total = queue.total(granted)
    assert books.fits(total)  # the scheduler counts in grains; this counts exactly
    books.accounts.acquire(total)


@dataclass(frozen=True)
class _Queue:
    """Everybody who waits; most ask for one of a few things.

    Attributes:
        number: of every claim, ascending, (n,).
        which: of every claim, the place of what it asks, (n,).
        demands: what is asked; one may be there more than once.
        weights: of each of these.
    """

    number: Ints
    which: Ints
    demands: Sequence[Demand]
    weights: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Queue:
        """From rows as `_WAITING` has them."""
        number = np.fromstring(",".join(row[3] for row in rows), dtype=np.int64, sep=",")
        which = np.repeat(np.arange(len(rows)), [row[3].count(",") + 1 for row in rows])
        arrival = np.argsort(number)
        demands = read_demands((blocks, price) for blocks, price, *_ in rows)
        return cls(number[arrival], which[arrival], demands, [row[2] for row in rows])

    @cached_property
    def names(self) -> list[str]:
        """The blocks that somebody waits for, in order."""
        return sorted({name for demand in self.demands for name in demand})

    def problem(self, accounts: Accounts) -> tuple[Supply, Waiting]:
        """Blocks and claims, as a scheduler takes them."""
        first, block, amount = self._pairs
        supply, grains = self._in_grains(accounts, self._amounts[0])
        weight = np.array(self.weights, dtype=np.float64)[self.which]
        return supply, Waiting(self.number, weight, first, block, grains[amount])

    def total(self, claims: Ints) -> Demand:
        """What these claims ask of each block, all together."""
        amounts, (first, block, amount) = self._amounts[0], self._pairs
        pairs = np.repeat(among(len(self.number), claims), np.diff(first))
        asked, counts = np.unique(block[pairs] * len(amounts) + amount[pairs], return_counts=True)
        parts: defaultdict[str, list[tuple[Budget, int]]] = defaultdict(list)
        for pair, count in zip(asked.tolist(), counts.tolist(), strict=True):
            place, kind = divmod(pair, len(amounts))
            parts[self.names[place]].append((amounts[kind], count))
        return {name: summed(prices, amounts[0]) for name, prices in parts.items()}

    @cached_property
    def _amounts(self) -> tuple[list[Budget], Ints]:
        """The different amounts that are asked, and of every part of a demand, demand after demand, its place there."""
        every = [amount for demand in self.demands for amount in demand.values()]
        objects, which = distinct(map(id, every))  # far fewer than parts, and an exact amount takes long to hash
        known = {id(amount): amount for amount in every}
        amounts, place = distinct(known[one] for one in objects)
        return amounts, place[which]

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        """The parts of every claim's demand, by blocks: where each claim's begin, with the end; blocks; amounts."""
        counts = np.array([len(demand) for demand in self.demands], dtype=np.int64)
        begins = (np.cumsum(counts) - counts)[self.which]
        first = np.concatenate(([0], np.cumsum(counts[self.which])))
        parts = np.arange(first[-1]) + np.repeat(begins - first[:-1], counts[self.which])
        place = {name: i for i, name in enumerate(self.names)}
        block = np.array([place[name] for demand in self.demands for name in demand], dtype=np.int64)
        ascending = np.lexsort((block, np.repeat(np.arange(len(counts)), counts)))  # a scheduler would sort all claims'
        return first, block[ascending][parts], self._amounts[1][ascending][parts]

    def _in_grains(self, accounts: Accounts, amounts: Sequence[Budget]) -> tuple[Supply, Ints]:
        states = [accounts.of(name) for name in self.names]
        return in_grains(
            [state.capacity.amounts for state in states],
            [state.unlocked.amounts for state in states],
            [amount.amounts for amount in amounts],
            claims=len(self.number),
            fits="any" if isinstance(states[0].capacity, RenyiDP) else "every",
        )
