"""What the steward has to agree to, how jobs wait for it, and that nothing is armed without it, on both stores."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

import dp
from benchmarks._postgres import PostgresServer
from dp.accounting.budget import ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Claim
from dp.accounting.scratch import ScratchLedger
from dp.errors import InvalidArgument
from dp.execution.leases import keep_lease
from dp.execution.one_lake import release_one_lake
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import make_plan
from dp.planning.query import Query
from lake.errors import ApprovalNeeded, ClaimLost, LedgerError
from lake.ledger import Ledger, Steward
from tests.tools.ledgers import Clock, reserve, state
from tests.tools.sparkless import sparkless_source


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[str]:
    """The address of a new ledger, and of another one the next time."""
    database = postgres.create_database()
    return (postgres.url(database, ledger=f"claims_{number}") for number in count())


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    on_server = request.param == "postgres"
    where = next(request.getfixturevalue("server")) if on_server else tmp_path / "ledger"
    with Ledger.create(where, capacity=PureDP("1")) as made:
        yield made


def test_what_goes_unasked_is_armed_and_more_is_not(ledger: Ledger) -> None:
    Steward(ledger).require_approval(PureDP("0.1"), wait_seconds=0)
    cheap, dear = reserve(ledger, "cheap", "0.1"), reserve(ledger, "dear", "0.11")
    ledger.await_approval(cheap)
    ledger.arm(cheap, b"")
    for step in (ledger.await_approval, lambda claim: ledger.arm(claim, b"")):
        with pytest.raises(ApprovalNeeded, match=f"spark-mpc ledger approve .*{dear.claim_id}"):
            step(dear)
    assert [entry.claim_id for entry in ledger.unapproved()] == [dear.claim_id]
    assert (ledger.spent(), ledger.reserved()) == (PureDP("0.1"), PureDP("0.11"))


def test_a_later_run_of_the_same_query_goes_through_once_it_is_approved(ledger: Ledger) -> None:
    Steward(ledger).require_approval(PureDP(0), wait_seconds=0)
    first = reserve(ledger, "first", "0.5")
    with pytest.raises(ApprovalNeeded), keep_lease(ledger, first):
        ledger.await_approval(first)
    assert ledger.remaining() == ledger.capacity
    Steward(ledger).approve(int(first.claim_id))
    second = reserve(ledger, "second", "0.5")
    ledger.await_approval(second)
    ledger.arm(second, b"")
    assert ledger.spent() == PureDP("0.5")


@pytest.mark.parametrize(("key", "price"), [("another", "0.1"), ("key", "0.2")])
def test_an_approval_is_for_one_release_at_most_at_its_price(ledger: Ledger, key: str, price: str) -> None:
    Steward(ledger).require_approval(PureDP(0), wait_seconds=0)
    Steward(ledger).approve(int(reserve(ledger, "r1", "0.1").claim_id))
    other = reserve(ledger, "r2", price, key=key)
    with pytest.raises(ApprovalNeeded):
        ledger.arm(other, b"")


def test_a_job_waits_says_so_once_and_goes_on_when_it_is_approved(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    Steward(ledger).require_approval(PureDP("0.1"))
    claim, looks = reserve(ledger, "r", "0.5"), []

    def check() -> None:
        looks.append(state(ledger, claim))
        if len(looks) == 3:
            Steward(ledger).approve(int(claim.claim_id))

    with caplog.at_level(logging.WARNING, logger="lake"):
        ledger.await_approval(claim, check)
    assert looks == ["reserved"] * 3
    (said,) = caplog.messages
    assert said.startswith("waiting for 600 s: ")
    assert f"ledger approve {ledger.name!r} {claim.claim_id}" in said
    ledger.arm(claim, b"")


def test_who_waits_hears_what_else_ends_it(ledger: Ledger) -> None:
    class Over(Exception):
        pass

    def check() -> None:
        raise Over

    Steward(ledger).require_approval(PureDP(0))
    claim = reserve(ledger, "r")
    with pytest.raises(Over):
        ledger.await_approval(claim, check)
    with pytest.raises(ClaimLost, match="given back"):
        ledger.await_approval(claim, lambda: ledger.release(claim))


def test_a_renewed_lease_goes_on_waiting_and_one_that_ran_out_does_not(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1), clock=clock) as ledger:
        Steward(ledger).require_approval(PureDP(0))
        claim = reserve(ledger, "r", lease_seconds=60)
        renewals: list[Claim] = []

        def renewed() -> None:
            clock.now += 50
            renewals.append(ledger.renew(renewals[-1] if renewals else claim))
            if len(renewals) == 3:
                Steward(ledger).approve(int(claim.claim_id))

        ledger.await_approval(claim, renewed)
        assert renewals[-1].fence == claim.fence + 3

        def late() -> None:
            clock.now += 61

        with pytest.raises(ClaimLost, match="given back"):
            ledger.await_approval(reserve(ledger, "late", key="other", lease_seconds=60), late)


def test_an_exact_opening_needs_it_wherever_anything_does(ledger: Ledger) -> None:
    exact = reserve(ledger, "before", PureDP(0), disclosure="exposure-2026")
    ledger.await_approval(exact)
    ledger.arm(exact, b"")
    Steward(ledger).require_approval(PureDP(1), wait_seconds=0)  # as much as there is may go unasked
    asked = reserve(ledger, "after", PureDP(0), disclosure="exposure-2026", key="other")
    with pytest.raises(ApprovalNeeded):
        ledger.arm(asked, b"")
    Steward(ledger).approve(int(asked.claim_id))
    ledger.arm(asked, b"")


def test_the_server_itself_refuses_an_exact_opening_that_nobody_approved(server: Iterator[str]) -> None:
    where = next(server)
    address, _, name = where.partition("&ledger=")
    with Ledger.create(where, capacity=PureDP(1)) as ledger:
        Steward(ledger).require_approval(PureDP(1), wait_seconds=0)
        reserve(ledger, "r", PureDP(0), disclosure="exposure-2026")
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="not approved")
    with psycopg.connect(address) as connection, refused:
        connection.execute(f"UPDATE {name}.claims SET state = 'armed'")


def test_what_is_armed_already_needs_nothing_more(ledger: Ledger) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, b"")
    Steward(ledger).require_approval(PureDP(0), wait_seconds=0)
    ledger.await_approval(claim)
    ledger.commit(claim, None)
    assert ledger.unapproved() == []


def test_a_query_under_an_open_claim_waits_too(ledger: Ledger) -> None:
    Steward(ledger).require_approval(PureDP("0.1"), wait_seconds=0)
    with ledger.claim(demand=PureDP("0.5")) as held:  # the claim itself pays for nothing yet
        assert ledger.unapproved() == []
        query = reserve(held, "query", "0.2")
        with pytest.raises(ApprovalNeeded):
            held.await_approval(query)
        Steward(ledger).approve(int(query.claim_id))
        held.await_approval(query)
        held.arm(query, b"")
    assert ledger.spent() == PureDP("0.2")


@pytest.mark.parametrize(
    ("capacity", "above", "price"),
    [
        (ApproxDP(1, "1e-6"), ApproxDP("0.5", "1e-9"), ApproxDP("0.1", "1e-8")),
        (RenyiDP({2: 1, 8: 2}), RenyiDP({2: "1/2", 8: "1/2"}), RenyiDP({2: "1/4", 8: "3/4"})),
    ],
    ids=["approx", "renyi"],
)
def test_every_amount_counts(tmp_path: Path, capacity: Budget, above: Budget, price: Budget) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=capacity) as ledger:
        Steward(ledger).require_approval(above, wait_seconds=0)
        claim = reserve(ledger, "r", price)
        with pytest.raises(ApprovalNeeded):
            ledger.arm(claim, b"")
        Steward(ledger).approve(int(claim.claim_id))
        ledger.arm(claim, b"")


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_a_time_that_nobody_can_wait_is_refused(tmp_path: Path, seconds: float) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        with pytest.raises(InvalidArgument, match="wait_seconds"):
            Steward(ledger).require_approval(PureDP(0), wait_seconds=seconds)
        assert ledger.settings().approval_above is None


def test_what_is_required_is_on_record_and_read_back(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        Steward(ledger).require_approval(PureDP("1/3"), wait_seconds=5)
    with Ledger.open(tmp_path / "ledger") as again:
        assert (again.settings().approval_above, again.settings().approval_seconds) == (PureDP("1/3"), 5.0)
        Steward(again).require_approval(None)
        again.arm(reserve(again, "r", "1"), b"")


def test_a_claim_of_another_ledger_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "other", capacity=PureDP(1)) as other:
        claim = reserve(other, "r")
    with pytest.raises(InvalidArgument, match="another ledger"):
        ledger.await_approval(claim)
    with pytest.raises(LedgerError, match="pays for no release"):
        Steward(ledger).approve(10)


def test_no_row_is_read_before_the_steward_has_agreed(ledger: Ledger) -> None:
    query = Query((), ((),), ContributionBounds(1, 2, None), (dp.count(),), PublicFacts(unit=("id",)), {})
    plan = make_plan(query, PureDP("0.5"))
    Steward(ledger).require_approval(PureDP(0), wait_seconds=0)
    with pytest.raises(ApprovalNeeded):
        release_one_lake(plan, sparkless_source(), ledger, None)  # nobody could read these rows
    (entry,) = ledger.entries()
    assert (entry.state, ledger.remaining()) == ("released", ledger.capacity)
    Steward(ledger).approve(int(entry.claim_id))
    ledger.await_approval(reserve(ledger, "the same again", "0.5", key=entry.release_key))


def test_a_scratch_ledger_asks_nobody() -> None:
    ledger = ScratchLedger(PureDP(1))
    claim = reserve(ledger, "r")
    ledger.await_approval(claim)
    ledger.arm(claim, b"")
    with pytest.raises(InvalidArgument, match="armed"):
        ledger.await_approval(claim)
