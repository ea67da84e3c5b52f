"""A reservation that is kept alive while its job lives, and ends soon after the job dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dp.accounting.ledger import BudgetLedger, Claim
from dp.errors import SparkMpcError

__all__ = ["LEASE_SECONDS", "Lease", "keep_lease"]

LEASE_SECONDS = 120.0
"""A crashed party's reservation stands at most this long; a living one renews it three times as often."""


class Lease:
    """The newest ticket of a claim."""

    def __init__(self, ledger: BudgetLedger, claim: Claim) -> None:
        self._ledger, self._claim, self._lock = ledger, claim, threading.Lock()

    def renew(self) -> None:
        """Start the lease afresh."""
        with self._lock:
            self._claim = self._ledger.renew(self._claim)

    @property
    def claim(self) -> Claim:
        """The ticket that can be armed or released."""
        with self._lock:
            return self._claim


@contextmanager
def keep_lease(ledger: BudgetLedger, claim: Claim, interval_seconds: float | None = None) -> Iterator[Lease]:
    """Renew a claim in the background until the block ends; a block that fails gives the claim back.

    A lease that could not be renewed is left alone: arming it will fail, and say why.

    Args:
        ledger: that gave it.
        claim: with a running lease.
        interval_seconds: between two renewals; None for a third of the lease.
    """
    often = min(claim.lease_seconds, LEASE_SECONDS) / 3 if interval_seconds is None else interval_seconds
    lease, over = Lease(ledger, claim), threading.Event()

    def renew() -> None:
        while not over.wait(often):
            with suppress(SparkMpcError):  # a ledger that is busy now is tried again; a lost lease stays lost
                lease.renew()

    thread = threading.Thread(target=renew, name="spark-mpc lease", daemon=True)
    thread.start()
    try:
        yield lease
    except BaseException:
        over.set()
        thread.join()
        with suppress(SparkMpcError):  # a lease that is over has been given back already
            ledger.release(lease.claim)
        raise
    finally:
        over.set()
        thread.join()
