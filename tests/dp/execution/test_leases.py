"""A reservation lives as long as its job, and no longer than a lease after it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dp.accounting.budget import PureDP
from dp.accounting.ledger import Claim
from dp.execution.leases import LEASE_SECONDS, keep_lease
from lake.errors import LeaseExpired, LedgerError
from lake.ledger import Ledger
from lake.ledger.sqlite import SQLiteStore

OFTEN = 0.001
PATIENCE = 30.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class WatchedLedger(Ledger):
    """Tells when it has renewed; fails to where it is told to."""

    def __init__(self, store: SQLiteStore) -> None:
        super().__init__(store)
        self.renewed, self.renewals, self.is_broken = threading.Event(), 0, False

    def renew(self, claim: Claim) -> Claim:
        try:
            if self.is_broken:
                raise LedgerError(self.name, "the disk is gone", "see to it")
            return super().renew(claim)
        finally:
            self.renewals += 1
            self.renewed.set()

    def renew_once_more(self) -> None:
        """Wait for a renewal that begins after this call."""
        for _ in range(2):  # the first may have been under way
            self.renewed.clear()
            assert self.renewed.wait(PATIENCE)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[WatchedLedger]:
    WatchedLedger.create(tmp_path / "ledger", capacity=PureDP(1), clock=clock).close()
    with WatchedLedger(SQLiteStore(tmp_path / "ledger", clock)) as ledger:
        yield ledger


def reserve(ledger: Ledger) -> Claim:
    return ledger.reserve(
        request_id="request",
        price=PureDP(1),
        table="claims",
        data_version="claims@1",
        release_key="key",
        run_id="run",
        purpose="n",
        lease_seconds=LEASE_SECONDS,
    )


def lease_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "spark-mpc lease"]


def test_a_living_job_outlasts_its_lease(ledger: WatchedLedger, clock: Clock) -> None:
    with keep_lease(ledger, reserve(ledger), OFTEN) as lease:
        for _ in range(5):
            clock.now += 0.9 * LEASE_SECONDS
            ledger.renew_once_more()
    ledger.arm(lease.claim, b"noised")
    assert [entry.state for entry in ledger.entries()] == ["armed"]
    assert lease_threads() == []


def test_a_job_that_fails_gives_its_claim_back(ledger: WatchedLedger) -> None:
    def job() -> None:
        with keep_lease(ledger, reserve(ledger), OFTEN):
            ledger.renew_once_more()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
    assert [entry.state for entry in ledger.entries()] == ["released"]
    assert ledger.remaining() == PureDP(1)
    assert lease_threads() == []


def test_an_interrupt_gives_it_back_too(ledger: WatchedLedger) -> None:
    with pytest.raises(KeyboardInterrupt), keep_lease(ledger, reserve(ledger)):
        raise KeyboardInterrupt
    assert ledger.remaining() == PureDP(1)


def test_a_lease_that_ran_out_can_neither_be_armed_nor_hides_the_jobs_own_error(
    ledger: WatchedLedger, clock: Clock
) -> None:
    def job() -> None:
        with keep_lease(ledger, reserve(ledger)) as lease:
            clock.now += LEASE_SECONDS + 1  # the machine slept: nobody renewed
            ledger.arm(lease.claim, b"noised")

    with pytest.raises(LeaseExpired):
        job()
    assert ledger.spent() == PureDP(0)
    assert ledger.remaining() == PureDP(1)


def test_a_ledger_that_fails_for_a_while_is_tried_again(ledger: WatchedLedger, clock: Clock) -> None:
    with keep_lease(ledger, reserve(ledger), OFTEN) as lease:
        ledger.is_broken = True
        ledger.renew_once_more()
        ledger.is_broken = False
        clock.now += 0.9 * LEASE_SECONDS
        ledger.renew_once_more()
        clock.now += 0.9 * LEASE_SECONDS
    ledger.arm(lease.claim, b"noised")


def test_whoever_cannot_renew_in_time_is_told_when_it_arms(ledger: WatchedLedger, clock: Clock) -> None:
    with keep_lease(ledger, reserve(ledger), OFTEN) as lease:
        ledger.renew_once_more()
        ledger.is_broken = True
        ledger.renew_once_more()
        clock.now += LEASE_SECONDS + 1
        ledger.is_broken = False
        ledger.renew_once_more()
    assert lease_threads() == []
    with pytest.raises(LeaseExpired):
        ledger.arm(lease.claim, b"noised")


def test_the_newest_ticket_is_the_one_that_arms(ledger: WatchedLedger) -> None:
    first = reserve(ledger)
    with keep_lease(ledger, first, OFTEN) as lease:
        ledger.renew_once_more()
    assert lease.claim.fence > first.fence
    with pytest.raises(LedgerError):
        ledger.arm(first, b"noised")
    ledger.arm(lease.claim, b"noised")


def test_a_job_that_ends_at_once_waits_for_no_renewal(ledger: WatchedLedger) -> None:
    with keep_lease(ledger, reserve(ledger), interval_seconds=3600):
        assert len(lease_threads()) == 1
    assert lease_threads() == []
    assert ledger.renewals == 0
