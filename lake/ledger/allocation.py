"""Who gets budget when: a claim that arrives, and a pass of the scheduler over everybody who waits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from sqlalchemy import bindparam, select, update

from dp.accounting.budget import Budget, RenyiDP
from lake.ledger.balances import Accounts
from lake.ledger.books import Books
from lake.ledger.rows import ClaimRow, Request, read_demand
from lake.ledger.schema import claims, ledger
from lake.ledger.settings import Settings
from lake.ledger.store import Row
from lake.scheduling import ByArrivals, ByTime, Supply, Waiting, distinct, in_grains

__all__ = ["allocate", "run_pass"]

_WAITING = (
    select(claims.c.number, claims.c.blocks, claims.c.price, claims.c.weight)
    .where(claims.c.state == "waiting")
    .order_by(claims.c.number)
)
_PASS = update(ledger).values(passed=bindparam("passed"))


def allocate(books: Books, settings: Settings, request: Request) -> ClaimRow:
    """A new claim: reserved if the scheduler grants it now, waiting if it may wait, otherwise failed.

    Raises:
        BudgetExceeded: it can never be granted; or not now, and nothing has to be remembered of that.
    """
    if request.parent is not None or request.disclosure:
        return books.reserve(request)
    books.refuse_hopeless(request.demand)
    _unlock(books, settings, request.demand, arrivals=1)
    alone = not books.tx.start.anybody_waits
    if alone and (books.fits(request.demand) or _leaves_no_trace(settings, request)):
        return books.reserve(request)
    row = books.wait(request)
    run_pass(books, settings)
    row = books.numbered(row.number)
    if row.state == "waiting" and request.timeout_seconds == 0:
        return books.fail(row, "not granted at once")
    return row


def _leaves_no_trace(settings: Settings, request: Request) -> bool:
    """Whether a claim that is refused now may be forgotten: where arrivals unlock blocks, they count."""
    return request.timeout_seconds == 0 and not isinstance(settings.scheduler.unlocking, ByArrivals)


def run_pass(books: Books, settings: Settings) -> None:
    """Let the scheduler grant what it can, if anything has happened since it last looked."""
    scheduler = settings.scheduler
    if books.tx.head().sequence == books.tx.start.passed and not isinstance(scheduler.unlocking, ByTime):
        return
    rows = books.tx.rows(_WAITING)
    if rows:
        _unlock(books, settings, {name for row in rows for name, _ in _pairs(row[1], row[2])}, arrivals=0)
        for index in scheduler.grants(*_problem(rows, books.accounts)):
            books.grant(books.numbered(rows[index][0]))
    books.tx.write(_PASS, passed=books.tx.head().sequence)


def _unlock(books: Books, settings: Settings, names: Iterable[str], *, arrivals: int) -> None:
    """What the time since the last look, and claims that arrived, open of some blocks."""
    unlocking = settings.scheduler.unlocking
    for name in names:
        state = books.accounts.of(name)
        elapsed = max(int((books.tx.now - state.shared_at) * 1000), 0)
        share = unlocking.after_time(state.share, elapsed)
        for _ in range(arrivals):
            share = unlocking.after_arrival(share)
        if share > state.share:
            books.accounts.unlock(name, share, state.shared_at + elapsed / 1000)


def _problem(rows: list[Row], accounts: Accounts) -> tuple[Supply, Waiting]:
    """Blocks and waiting claims as a scheduler takes them; most claims repeat a few lists and demands."""
    pairs = [pair for row in rows for pair in _pairs(row[1], row[2])]
    names, block = distinct(name for name, _ in pairs)
    amounts, which = distinct(amount for _, amount in pairs)
    states = [accounts.of(name) for name in names]
    supply, demand = in_grains(
        [state.capacity.amounts for state in states],
        [state.unlocked.amounts for state in states],
        [amount.amounts for amount in amounts],
        claims=len(rows),
        fits="any" if isinstance(states[0].capacity, RenyiDP) else "every",
    )
    counts = [len(_pairs(row[1], row[2])) for row in rows]
    waiting = Waiting(
        number=np.array([row[0] for row in rows], dtype=np.int64),
        weight=np.array([row[3] for row in rows], dtype=np.float64),
        first=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        block=block,
        demand=demand[which],
    )
    return supply, waiting


@lru_cache(maxsize=2**14)
def _pairs(blocks: str, price: str) -> tuple[tuple[str, Budget], ...]:
    return tuple(read_demand(blocks, price).items())
