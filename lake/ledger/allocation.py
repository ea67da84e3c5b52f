"""Who gets budget when: a claim that arrives."""

from __future__ import annotations

from collections.abc import Sequence

from dp.errors import InvalidArgument
from lake.ledger.balances import counted, together
from lake.ledger.books import Books
from lake.ledger.passes import run_pass, unlock
from lake.ledger.rows import ClaimRow, Request, new_row
from lake.ledger.settings import Settings
from lake.scheduling import ByArrivals

__all__ = ["allocate", "granted_at_once"]


def granted_at_once(books: Books, settings: Settings, requests: Sequence[Request]) -> list[int]:
    """New claims on blocks that have room for all of them, while nobody waits, by their numbers; otherwise none, and
    nothing was done.

    One that takes from another claim, or opens something exactly, is never among them.
    """
    apart = any(request.parent is not None or request.disclosure for request in requests)
    if apart or not requests or books.tx.start.anybody_waits:
        return []
    asked = counted(request.demand for request in requests)
    try:
        total = together(asked)
    except InvalidArgument:  # deltas of several may pass 1: no block has so much
        return []
    if not books.fits(total):
        return []
    for demand, arrivals in asked:
        unlock(books, settings, demand, arrivals)
    return books.hold(requests, total)


def allocate(books: Books, settings: Settings, request: Request) -> ClaimRow:
    """A new claim: reserved if the scheduler grants it now, waiting if it may wait, otherwise failed.

    Raises:
        BudgetExceeded: it can never be granted; or not now, and nothing has to be remembered of that.
    """
    if request.parent is not None or request.disclosure:
        return books.reserve(request)
    for number in granted_at_once(books, settings, [request]):
        return new_row(number, request, request.demand, "reserved", books.tx.now)
    books.refuse_hopeless(request.demand)
    unlock(books, settings, request.demand, arrivals=1)
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
