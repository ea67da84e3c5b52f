"""The ledger's rules in one process, over both stores: exact amounts, leases, fences and idempotency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ClaimLost, LeaseExpired
from lake.ledger import Ledger
from tests.tools.ledgers import Clock, Place, reserve, state

SECRET = b"noised-vector-\x00\xff-that-nobody-may-see"


@pytest.fixture
def place(new_place: Place) -> str:
    return new_place()


@pytest.fixture
def ledger(place: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger.create(place, capacity=PureDP("1"), clock=clock) as made:
        yield made


# --- amounts


@pytest.mark.parametrize("prices", [["0.1", "0.9"], ["0.1"] * 10, ["1/3"] * 3, ["1"]])
def test_exact_amounts_exhaust_the_budget(ledger: Ledger, prices: list[str]) -> None:
    for number, price in enumerate(prices):
        ledger.arm(reserve(ledger, f"r{number}", price), b"")
    assert ledger.remaining() == PureDP(0)
    assert ledger.spent() == ledger.capacity
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "one more", "1/1000000000000")


def test_a_refusal_names_asked_remaining_and_ledger_and_changes_nothing(ledger: Ledger) -> None:
    reserve(ledger, "first", "0.6")
    before = (ledger.balance(), ledger.entries())
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.5, remaining epsilon=0\.4") as caught:
        reserve(ledger, "second", "0.5")
    assert ledger.name in str(caught.value)
    assert (ledger.balance(), ledger.entries()) == before


def test_every_amount_of_a_price_must_fit(new_place: Place) -> None:
    with Ledger.create(new_place(), capacity=ApproxDP("1", "1e-6")) as ledger:
        reserve(ledger, "r0", ApproxDP("0.1", "9e-7"))
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "r1", ApproxDP("0.1", "2e-7"))
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "r2", ApproxDP("0.95", "1e-8"))
        reserve(ledger, "r3", ApproxDP("0.9", "1e-7"))
        assert ledger.remaining() == ApproxDP(0, 0)


@pytest.mark.parametrize("price", [ZCDP("0.1"), ApproxDP("0.1", "1e-9"), PureDP(0)])
def test_a_price_of_another_kind_or_of_nothing_is_refused(ledger: Ledger, price: Budget) -> None:
    with pytest.raises(InvalidArgument, match="price"):
        reserve(ledger, "r", price)
    assert ledger.entries() == []


@pytest.mark.parametrize(
    "lease_seconds",
    [0, -1, math.nan, math.inf, 10**300, 10**400, 1e300, True, "60", None, Fraction(121, 2), Decimal(60), np.int64(60)],
    ids=repr,
)
def test_an_unusable_lease_is_refused(ledger: Ledger, lease_seconds: Any) -> None:
    with pytest.raises(InvalidArgument, match="lease_seconds"):
        reserve(ledger, "r", lease_seconds=lease_seconds)
    assert ledger.entries() == []


def test_a_lease_is_what_python_counts_with(ledger: Ledger) -> None:
    for number, lease_seconds in enumerate((60, 60.5, np.float64(60.5))):
        assert reserve(ledger, f"r{number}", lease_seconds=lease_seconds).lease_seconds == lease_seconds


def test_a_text_of_a_class_of_its_own_is_the_same_request(ledger: Ledger) -> None:
    class Names(str, Enum):  # noqa: UP042 - what a StrEnum prints is what it is, and hides the difference
        NIGHTLY = "nightly"

    first = reserve(ledger, Names.NIGHTLY)
    assert reserve(ledger, "nightly") == first == reserve(ledger, Names.NIGHTLY)
    assert ledger.reserved() == PureDP("0.1")


# --- the life of an entry


def test_reserved_armed_spent(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "0.25")
    assert (ledger.reserved(), ledger.spent()) == (PureDP("0.25"), PureDP(0))
    ledger.arm(claim, SECRET)
    assert (ledger.reserved(), ledger.spent()) == (PureDP(0), PureDP("0.25"))
    assert state(ledger, claim) == "armed"
    ledger.commit(claim, b"release")
    assert state(ledger, claim) == "spent"
    assert ledger.stored_release("key") == b"release"
    assert ledger.remaining() == PureDP("0.75")


def test_a_released_reservation_is_free_and_stays_released(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "1")
    ledger.release(claim)
    ledger.release(claim)
    assert ledger.remaining() == PureDP(1)
    for step in (lambda: ledger.arm(claim, b""), lambda: ledger.renew(claim), lambda: ledger.commit(claim, b"")):
        with pytest.raises(ClaimLost):
            step()
    with pytest.raises(ClaimLost, match="new request id"):
        reserve(ledger, "r", "1")


def test_armed_is_never_refunded(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r", "1")
    ledger.arm(claim, b"")
    clock.now += 1e9
    for _ in range(2):
        with pytest.raises(ClaimLost, match="armed"):
            ledger.release(claim)
    with pytest.raises(ClaimLost, match="armed"):
        ledger.arm(claim, b"other")
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "s", "0.1")
    ledger.commit(claim, None)
    with pytest.raises(ClaimLost, match="spent"):
        ledger.release(claim)
    assert ledger.remaining() == PureDP(0)


def test_an_unarmed_claim_cannot_be_committed(ledger: Ledger) -> None:
    claim = reserve(ledger, "r")
    with pytest.raises(ClaimLost):
        ledger.commit(claim, b"free lunch")
    assert ledger.stored_release("key") is None


def test_claims_of_nobody_and_of_other_ledgers_are_refused(ledger: Ledger, new_place: Place) -> None:
    claim = reserve(ledger, "r")
    with pytest.raises(ClaimLost, match="unknown"):
        ledger.arm(replace(claim, claim_id="made up"), b"")
    with (
        Ledger.create(new_place(), capacity=PureDP(1)) as other,
        pytest.raises(InvalidArgument, match="another"),
    ):
        other.arm(claim, b"")


# --- idempotency


def test_the_same_request_is_debited_once(ledger: Ledger) -> None:
    first = reserve(ledger, "r", "0.6")
    assert reserve(ledger, "r", "0.6") == first
    assert ledger.reserved() == PureDP("0.6")
    ledger.arm(first, b"")
    assert reserve(ledger, "r", "0.6") == first
    assert ledger.spent() == PureDP("0.6")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "r", "0.5")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "r", "0.6", key="another release")


def test_committing_again_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET)
    ledger.commit(claim, b"release")
    before = (ledger.balance(), ledger.entries())
    clock.now += 5
    ledger.commit(claim, b"release")
    ledger.commit(claim, b"a second answer")
    ledger.commit(claim, None)
    assert (ledger.balance(), ledger.entries()) == before
    assert ledger.stored_release("key") == b"release"


# --- leases


def test_an_expired_lease_can_neither_be_armed_nor_refunded_twice(ledger: Ledger, clock: Clock) -> None:
    late = reserve(ledger, "late", "0.6")
    clock.now += 60
    with pytest.raises(LeaseExpired, match="new request id"):
        ledger.arm(late, b"")
    with pytest.raises(LeaseExpired):
        ledger.renew(late)
    assert ledger.remaining() == PureDP(1)
    other = reserve(ledger, "other", "0.6")  # takes what the expired lease gave back
    with pytest.raises(LeaseExpired):
        ledger.arm(late, b"")
    ledger.release(late)
    assert (ledger.reserved(), ledger.remaining()) == (PureDP("0.6"), PureDP("0.4"))
    ledger.arm(other, b"")
    assert ledger.spent() == PureDP("0.6")


def test_a_clock_set_back_gives_nothing_back(ledger: Ledger, clock: Clock) -> None:
    expired = reserve(ledger, "expired", "0.6")
    clock.now += 100
    winner = reserve(ledger, "winner", "0.6")
    clock.now -= 100  # the first lease would run again, but it was given back
    with pytest.raises(ClaimLost):
        ledger.arm(expired, b"")
    ledger.release(expired)
    assert ledger.remaining() == PureDP("0.4")
    ledger.arm(winner, b"")
    clock.now = 0.0
    assert (ledger.spent(), ledger.remaining()) == (PureDP("0.6"), PureDP("0.4"))
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "too much", "0.5")


def test_renewal_extends_the_lease_and_voids_older_tickets(ledger: Ledger, clock: Clock) -> None:
    old = reserve(ledger, "r")
    clock.now += 50
    new = ledger.renew(old)
    assert new.lease_expires_at == clock.now + 60
    clock.now += 50
    for step in (lambda: ledger.arm(old, b""), lambda: ledger.renew(old), lambda: ledger.release(old)):
        with pytest.raises(ClaimLost, match="another holder"):
            step()
    ledger.arm(new, b"")
    with pytest.raises(ClaimLost, match="another holder"):
        ledger.commit(old, b"")


# --- resuming


def test_a_paid_vector_can_be_sent_again_until_its_release_is_stored(ledger: Ledger) -> None:
    assert ledger.resumable("key") is None
    claim = reserve(ledger, "r")
    assert ledger.resumable("key") is None
    ledger.arm(claim, SECRET)
    resumed = ledger.resumable("key")
    assert resumed is not None
    assert (resumed.claim, resumed.noised) == (claim, SECRET)
    assert ledger.resumable("another version of the data") is None
    ledger.commit(claim, None)  # this party receives no result
    assert ledger.resumable("key") == resumed
    ledger.commit(resumed.claim, b"release")
    assert ledger.resumable("key") is None
    assert ledger.stored_release("key") == b"release"


def test_the_newest_vector_is_resumed_and_the_first_release_stays(ledger: Ledger) -> None:
    claims = [reserve(ledger, f"r{number}") for number in range(2)]
    for number, claim in enumerate(claims):
        ledger.arm(claim, b"%d" % number)
    resumed = ledger.resumable("key")
    assert resumed is not None
    assert resumed.noised == b"1"
    ledger.commit(claims[0], b"first")
    ledger.commit(claims[1], b"second")
    assert ledger.stored_release("key") == b"first"
    assert ledger.spent() == PureDP("0.2")


# --- restarts


def test_on_restart_armed_becomes_spent_and_a_running_job_still_commits(
    ledger: Ledger, place: str, clock: Clock
) -> None:
    armed, waiting = reserve(ledger, "armed", "0.5"), reserve(ledger, "waiting", "0.1")
    ledger.arm(armed, SECRET)
    with Ledger.open(place, clock=clock) as again:
        assert (state(again, armed), state(again, waiting)) == ("spent", "reserved")
        with pytest.raises(ClaimLost):
            again.release(armed)
    ledger.commit(armed, b"release")
    assert ledger.stored_release("key") == b"release"
    assert ledger.balance().spent == PureDP("0.5")


def test_everything_survives_reopening(ledger: Ledger, place: str, clock: Clock) -> None:
    claim = reserve(ledger, "r", "1/7")
    ledger.arm(claim, SECRET)
    ledger.commit(claim, b"release")
    before = (ledger.balance(), ledger.entries(), ledger.ledger_id)
    ledger.close()
    with Ledger.open(place, clock=clock) as again:
        assert (again.balance(), again.entries(), again.ledger_id) == before
        assert again.stored_release("key") == b"release"
        assert reserve(again, "r", "1/7") == claim


# --- threads


def test_threads_may_share_a_handle(place: str) -> None:
    with Ledger.create(place, capacity=PureDP(20)) as ledger, ThreadPoolExecutor(8) as pool:

        def attempt(number: int) -> str:
            try:
                ledger.arm(reserve(ledger, f"r{number}", "1"), b"")
            except BudgetExceeded:
                return "refused"
            return "spent"

        assert Counter(pool.map(attempt, range(32))) == {"spent": 20, "refused": 12}
        assert ledger.spent() == PureDP(20)


# --- secrets


def test_nothing_secret_is_shown_or_exported(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET)
    texts = [repr(ledger), repr(ledger.resumable("key")), str(ledger.resumable("key"))]
    texts += [repr(ledger.entries()), repr(ledger.export_rows()), repr(claim)]
    for step in (lambda: ledger.arm(claim, SECRET), lambda: ledger.release(claim)):
        with pytest.raises(ClaimLost) as caught:
            step()
        texts.append(repr(caught.value))
    assert not any("noised-vector" in text for text in texts)
    assert "key" in texts[1]


def test_export_is_exact(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "1/3")
    (row,) = ledger.export_rows()
    assert row == {
        "ledger_id": ledger.ledger_id,
        "claim_id": claim.claim_id,
        "run_id": "run",
        "table": "visits",
        "data_version": "t@3",
        "purpose": "a test",
        "state": "reserved",
        "created_at": "1970-01-12T13:46:40.000+00:00",
        "updated_at": "1970-01-12T13:46:40.000+00:00",
        "release_key": "key",
        "disclosure": "",
        "blocks": "whole",
        "owner": "",
        "waits_until": "",
        "parent": "",
        "demand": '{"epsilon": "1/3", "kind": "pure"}',
        "held": '{"epsilon": "1/3", "kind": "pure"}',
        "kind": "pure",
        "epsilon": "1/3",
    }
