"""The steward's word on a claim: which claims need it, and how a job waits for it before it reads a row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import bindparam, select

from lake.errors import ApprovalNeeded, ClaimLost
from lake.ledger.amounts import read_budget, within
from lake.ledger.books import Books
from lake.ledger.rows import ClaimRow, open_claims
from lake.ledger.schema import approvals
from lake.ledger.settings import Settings

__all__ = ["lacks_approval", "still_needed", "unapproved", "wait_for"]

_APPROVED = select(approvals.c.price).where(approvals.c.release_key == bindparam("release_key"))

_LOG = logging.getLogger("lake")

_FIRST_LOOK_SECONDS = 0.05
_SLOWEST_LOOK_SECONDS = 2.0


def lacks_approval(books: Books, settings: Settings, row: ClaimRow) -> ApprovalNeeded | None:
    """What to tell who would arm a claim now; None where nothing stands in the way."""
    if not settings.needs_approval(row.held, row.request.disclosure):
        return None
    approved = books.tx.row(_APPROVED, release_key=row.request.release_key)
    if approved is not None and all(within(amount, read_budget(approved[0])) for amount in row.held.values()):
        return None
    problem = f"claim {row.number} needs the steward's approval"
    remedy = f"`spark-mpc ledger approve {books.ledger!r} {row.number}`, and run it again if it has ended"
    return ApprovalNeeded(books.ledger, problem, remedy)


def unapproved(books: Books, settings: Settings) -> list[ClaimRow]:
    """The reserved claims that pay for a release and cannot be armed now, oldest first."""
    if settings.approval_above is None:
        return []
    rows = (row for row in open_claims(books.tx, "reserved") if row.request.release_key)
    return [row for row in rows if lacks_approval(books, settings, row) is not None]


def still_needed(books: Books, settings: Settings, number: int) -> ApprovalNeeded | None:
    """The same of a claim that waits for its approval.

    Raises:
        ClaimLost: it was given back meanwhile.
    """
    row = books.numbered(number)
    if row.state == "released":
        problem = f"claim {number} was given back before it was approved"
        raise ClaimLost(books.ledger, problem, "reserve under a new request id")
    return lacks_approval(books, settings, row) if row.state == "reserved" else None


def wait_for(look: Callable[[], ApprovalNeeded | None], seconds: float, check: Callable[[], None]) -> None:
    """Say once what is missing, then look again and again until it is there.

    Args:
        look: what is missing now; None once nothing is.
        seconds: how long to wait.
        check: called between two looks; what it raises ends the wait.

    Raises:
        ApprovalNeeded: it was still missing at the end.
    """
    missing, until, pause = look(), time.monotonic() + seconds, _FIRST_LOOK_SECONDS
    if missing is not None and seconds > 0:
        _LOG.warning("waiting for %g s: %s", seconds, missing)
    while missing is not None:
        left = until - time.monotonic()
        if left <= 0:
            raise missing
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _SLOWEST_LOOK_SECONDS)
        check()
        missing = look()
