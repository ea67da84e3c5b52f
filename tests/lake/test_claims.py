"""The life of a claim that is held open: waiting, granted, paid out of, given back."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from dp.accounting.budget import ZCDP, PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from lake.blocks.selectors import TIME
from lake.errors import ClaimLost, LeaseExpired
from lake.ledger import Ledger, OpenClaim
from lake.ledger.selection import Wanted
from tests.lake.claiming import DAYS, LAST, VISITS, asked, parts, pay, states
from tests.tools.ledgers import Clock, Place

DAY = DAYS[-1]


def claimed(ledger: Ledger, epsilon: str, **more: Any) -> AbstractContextManager[OpenClaim]:
    return ledger.claim(VISITS, LAST, demand=PureDP(epsilon), **more)


# --- holding


def test_what_is_claimed_is_held_and_comes_back(visits: Ledger) -> None:
    with visits.claim(VISITS, demand=PureDP("0.3")) as claim:
        assert claim.blocks == DAYS
        assert (claim.capacity, claim.remaining()) == (PureDP("0.3"), PureDP("0.3"))
        assert {parts(visits, day) for day in DAYS} == {("0", "7/10", "3/10", "0")}
    assert {parts(visits, day) for day in DAYS} == {("0", "1", "0", "0")}
    assert claim.remaining() == PureDP(0)


def test_a_claim_without_blocks_is_on_the_whole(visits: Ledger) -> None:
    with visits.claim(demand=PureDP("0.5")) as claim:
        assert claim.blocks == ("whole",)
        visits_paid = pay(claim, "q", "0.2")
        claim.arm(visits_paid, b"")
        assert parts(visits, "whole") == ("0", "17/2", "3/10", "6/5")  # 1 of what is consumed is the layout's
    assert parts(visits, "whole") == ("0", "44/5", "0", "6/5")


def test_a_claim_is_paid_out_of_in_parts(visits: Ledger) -> None:
    with claimed(visits, "0.6") as claim:
        first, second, third = (pay(claim, f"q{n}", f"0.{n}", DAY) for n in (1, 2, 3))
        assert claim.remaining() == PureDP(0)
        assert (claim.spent(), claim.reserved()) == (PureDP(0), PureDP("0.6"))
        claim.arm(first, b"noised")
        claim.commit(first, b"release")
        claim.arm(second, b"noised")
        assert parts(visits, DAY) == ("0", "2/5", "3/10", "3/10")
        claim.release(third)  # to the claim: it may pay for something else
        assert (claim.remaining(), claim.spent(), claim.reserved()) == (PureDP("0.3"), PureDP("0.3"), PureDP(0))
        claim.arm(pay(claim, "q4", "0.05", DAY), b"")
        assert parts(visits, DAY) == ("0", "2/5", "1/4", "7/20")
    assert parts(visits, DAY) == ("0", "13/20", "0", "7/20")
    assert claim.stored_release("key of q1") == b"release"


def test_the_rest_comes_back_when_the_job_fails(visits: Ledger) -> None:
    def job() -> None:
        with claimed(visits, "0.6") as claim:
            claim.arm(pay(claim, "q", "0.1", DAY), b"")
            pay(claim, "under way", "0.2", DAY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
    assert states(visits)[1:] == ["released", "armed", "reserved"]
    assert parts(visits, DAY) == ("0", "7/10", "1/5", "1/10")


def test_its_queries_are_listed_and_exported(visits: Ledger) -> None:
    with claimed(visits, "0.5", owner="ann", purpose="a report", weight=7) as claim:
        pay(visits, "beside", "0.1", DAY)
        query = pay(claim, "q", "0.1", DAY)
        (entry,) = claim.entries()
        assert (entry.claim_id, entry.owner, entry.blocks) == (query.claim_id, "ann", (DAY,))
        assert [row["claim_id"] for row in claim.export_rows()] == [query.claim_id]
        assert visits.poll(claim.number).request.weight == 7
    assert [(entry.owner, entry.purpose) for entry in visits.entries()][1] == ("ann", "a report")


def test_an_auditor_sees_what_was_asked_and_is_held_of_each_block(visits: Ledger) -> None:
    demand = {DAYS[0]: PureDP("0.2"), DAYS[1]: PureDP("0.5")}
    with visits.claim(VISITS, TIME < "1970-01-10", demand=demand) as claim:
        pay(claim, "p", "0.1", DAYS[0])
        _, whole, part = visits.export_rows()
        assert (whole["epsilon"], whole["parent"], part["epsilon"], part["parent"]) == ("1/2", "", "1/10", "2")
        assert [json.loads(whole[name])["each"] for name in ("demand", "held")] == [
            {DAYS[0]: {"kind": "pure", "epsilon": "1/5"}, DAYS[1]: {"kind": "pure", "epsilon": "1/2"}},
            {DAYS[0]: {"kind": "pure", "epsilon": "1/10"}, DAYS[1]: {"kind": "pure", "epsilon": "1/2"}},
        ]
        assert [json.loads(part[name]) for name in ("demand", "held")] == 2 * [{"kind": "pure", "epsilon": "1/10"}]
    _, whole, outlives = visits.export_rows()
    assert (whole["state"], whole["held"], outlives) == ("released", "", part)


def test_the_amounts_of_a_claim_on_unequal_blocks(visits: Ledger) -> None:
    demand = {DAYS[0]: PureDP("0.2"), DAYS[1]: PureDP("0.5")}
    with visits.claim(VISITS, TIME < "1970-01-10", demand=demand) as claim:
        assert (claim.capacity, claim.remaining()) == (PureDP("0.5"), PureDP("0.2"))
        assert claim.remaining(DAYS[1:2]) == PureDP("0.5")
        claim.arm(pay(claim, "q", "0.5", DAYS[1]), b"")
        assert claim.remaining() == PureDP(0)  # of a query on both
        claim.arm(pay(claim, "r", "0.2", DAYS[0]), b"")
    assert [parts(visits, day)[3] for day in DAYS[:2]] == ["1/5", "1/2"]


# --- refused


@pytest.mark.parametrize(
    ("price", "blocks", "error", "message"),
    [
        ("0.1", DAYS[:1], InvalidArgument, "is on others"),
        ("0.1", (DAY, DAYS[0]), InvalidArgument, "is on others"),
        ("0.1", (), InvalidArgument, "is on others"),  # the whole
        ("0.5", (DAY,), BudgetExceeded, r"asked epsilon=0\.5, remaining epsilon=0\.4 of claim"),
    ],
)
def test_a_query_beyond_its_claim_is_refused_before_anything_is_written(
    visits: Ledger, price: str, blocks: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with claimed(visits, "0.4") as claim:
        before = (visits.head(), visits.blocks(), claim.remaining())
        with pytest.raises(error, match=message):
            pay(claim, "q", price, *blocks)
        assert (visits.head(), visits.blocks(), claim.remaining()) == before


def test_all_blocks_or_none(visits: Ledger) -> None:
    with claimed(visits, "0.8"):
        before = visits.blocks()
        with (
            pytest.raises(BudgetExceeded, match=rf"remaining epsilon=0\.2 of epsilon=1 on block '{DAY}'"),
            visits.claim(VISITS, demand=PureDP("0.3")),
        ):
            raise AssertionError
        assert visits.blocks() == before


def test_what_can_never_suffice_is_refused_at_once(visits: Ledger) -> None:
    visits.arm(pay(visits, "spent", "0.5", DAY), b"")
    before = visits.head()
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.6, remaining epsilon=0\.5"):
        asked(visits, "never", "0.6", timeout_seconds=1e6)
    assert visits.head() == before
    with claimed(visits, "0.5"):
        assert asked(visits, "some day", "0.5").state == "waiting"  # held is not consumed: it may come back


@pytest.mark.parametrize("demand", [ZCDP("0.1"), PureDP(0), {DAY: PureDP("0.1"), DAYS[0]: ZCDP("0.1")}])
def test_a_demand_of_another_kind_or_of_nothing_is_refused(visits: Ledger, demand: Any) -> None:
    before = visits.head()
    with (
        pytest.raises(InvalidArgument, match="price"),
        visits.claim(VISITS, TIME.isin("1970-01-08", "1970-01-12"), demand=demand),
    ):
        raise AssertionError
    assert visits.head() == before


def test_parameters_that_cannot_be_used(visits: Ledger) -> None:
    before = visits.head()
    for parameter, values in {
        "timeout_seconds": (-1.0, float("inf"), float("nan"), "5", True),
        "lease_seconds": (0.0, float("nan"), "60"),
        "weight": (0, 1.5, True, 10**7),
        "request_id": ("",),
        "min_blocks": (0, True),
        "max_blocks": (0, 2.0),
    }.items():
        for value in values:
            given: dict[str, Any] = {parameter: value}
            with pytest.raises(InvalidArgument, match=parameter), claimed(visits, "0.1", **given):
                raise AssertionError
    assert visits.head() == before


# --- waiting


def test_a_claim_waits_until_another_gives_back(visits: Ledger) -> None:
    def wait() -> tuple[int, str]:
        with claimed(visits, "0.8", timeout_seconds=1e6) as claim:
            return claim.number, parts(visits, DAY)[2]

    with ThreadPoolExecutor(1) as pool:
        with claimed(visits, "0.5") as first:
            waits = pool.submit(wait)
            while not visits.entries("waiting"):
                assert not waits.done()
        number, held = waits.result()
    assert (number, held) == (first.number + 1, "4/5")
    assert states(visits)[1:] == ["released", "released"]


def test_a_claim_that_waits_holds_nothing_and_fails_at_its_deadline(visits: Ledger, clock: Clock) -> None:
    held = asked(visits, "first", "0.8", lease_seconds=1000)
    late = asked(visits, "late", "0.5", timeout_seconds=40, lease_seconds=1000)
    assert (held.state, late.state) == ("reserved", "waiting")
    assert parts(visits, DAY) == ("0", "1/5", "4/5", "0")
    clock.now += 39
    assert visits.poll(late.number).state == "waiting"
    clock.now += 1
    assert visits.poll(late.number).state == "failed"
    assert parts(visits, DAY) == ("0", "1/5", "4/5", "0")
    assert '"why": "nothing came free in time"' in visits.events()[-1].event
    visits.release(held.ticket(visits.ledger_id))
    assert visits.poll(late.number).state == "failed"  # for good
    assert parts(visits, DAY) == ("0", "1", "0", "0")


class Striding(Clock):
    """Moves a second whenever somebody looks at it."""

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_who_waited_in_vain_is_told(new_place: Place) -> None:
    where = new_place()
    with Ledger.create(where, capacity=PureDP(1), clock=Striding()) as ledger, ledger.claim(demand=PureDP("0.6")):
        with (
            pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.5 of whole, not granted within timeout_seconds=3 "),
            ledger.claim(demand=PureDP("0.5"), timeout_seconds=3),
        ):
            raise AssertionError
        assert states(ledger) == ["reserved", "failed"]
        assert ledger.remaining() == PureDP("0.4")


def test_a_claim_whose_holder_is_gone_waits_no_longer_than_its_lease(visits: Ledger, clock: Clock) -> None:
    first = asked(visits, "first", "1", lease_seconds=1000)
    gone = asked(visits, "gone", "0.7", timeout_seconds=500, lease_seconds=30)
    there = asked(visits, "there", "0.7", timeout_seconds=500, lease_seconds=30)
    for _ in range(3):
        clock.now += 20
        there = visits.poll(there.number)  # still heard of, so it may wait on
    assert states(visits)[2:] == ["failed", "waiting"]
    assert any('"why": "its holder is gone"' in event.event for event in visits.events())
    visits.release(first.ticket(visits.ledger_id))
    assert visits.poll(gone.number).state == "failed"
    assert visits.poll(there.number).state == "reserved"


def test_who_gives_up_waits_no_longer(visits: Ledger) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    first = asked(visits, "first", "1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lake.ledger.claim.time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt), claimed(visits, "0.5", timeout_seconds=1e6):
            raise AssertionError
    visits.release(first.ticket(visits.ledger_id))
    assert states(visits)[1:] == ["released", "failed"]
    assert parts(visits, DAY) == ("0", "1", "0", "0")


# --- the holder's death, and the end


def test_a_granted_claim_of_a_dead_holder_comes_back(visits: Ledger, clock: Clock) -> None:
    dead = asked(visits, "dead", "0.8", lease_seconds=30)
    heir = asked(visits, "heir", "0.8", timeout_seconds=100, lease_seconds=100)
    clock.now += 30
    assert visits.poll(heir.number).state == "reserved"
    assert visits.poll(dead.number).state == "released"
    assert parts(visits, DAY) == ("0", "1/5", "4/5", "0")
    with pytest.raises(LeaseExpired):
        visits.renew(dead.ticket(visits.ledger_id))
    visits.release(dead.ticket(visits.ledger_id))
    assert parts(visits, DAY) == ("0", "1/5", "4/5", "0")


def test_the_lease_is_kept_while_the_job_works(visits: Ledger, clock: Clock) -> None:
    with claimed(visits, "0.5", lease_seconds=0.03) as claim:  # renewed every hundredth of a second, in real time
        for _ in range(10):
            clock.now += 0.02
            while claim.ticket.lease_expires_at < clock.now + 0.03:
                assert visits.poll(claim.number).state == "reserved"
        assert claim.ticket.fence > 10
        pay(claim, "q", "0.5", DAY)


@pytest.mark.parametrize("ended", ["given back", "run out"])
def test_nothing_is_paid_out_of_a_claim_that_has_ended(visits: Ledger, clock: Clock, ended: str) -> None:
    with claimed(visits, "0.5", lease_seconds=30) as claim:
        if ended == "run out":
            clock.now += 30
            with pytest.raises(ClaimLost, match="make a new claim"):
                pay(claim, "late", "0.1", DAY)
    with pytest.raises(ClaimLost, match="make a new claim"):
        pay(claim, "later", "0.1", DAY)
    assert states(visits)[1:] == ["released"]
    assert parts(visits, DAY) == ("0", "1", "0", "0")


@pytest.mark.parametrize("end", [Ledger.arm, Ledger.release], ids=["armed", "given back"])
def test_a_query_outlives_the_claim_that_it_is_paid_from(visits: Ledger, end: Callable[..., None]) -> None:
    with claimed(visits, "0.5") as claim:
        query = pay(claim, "q", "0.2", DAY)
    assert parts(visits, DAY) == ("0", "4/5", "1/5", "0")
    if end is Ledger.arm:
        visits.arm(query, b"")
        assert parts(visits, DAY) == ("0", "4/5", "0", "1/5")
    else:
        visits.release(query)  # to the block: nobody else has it
        assert parts(visits, DAY) == ("0", "1", "0", "0")


def test_a_query_and_its_claim_that_run_out_together_give_back_once(visits: Ledger, clock: Clock) -> None:
    with claimed(visits, "0.5", lease_seconds=30) as claim:
        pay(claim, "q", "0.2", DAY)
        clock.now += 30
        assert parts(visits, DAY) == ("0", "1", "0", "0")
    assert states(visits)[1:] == ["released", "released"]


# --- the same request again


def test_a_request_that_is_repeated_is_one_claim(visits: Ledger) -> None:
    with claimed(visits, "0.6", request_id="nightly") as claim:
        with claimed(visits, "0.6", request_id="nightly", timeout_seconds=9, lease_seconds=9) as again:
            assert again.number == claim.number
            assert parts(visits, DAY) == ("0", "2/5", "3/5", "0")
        with pytest.raises(ClaimLost, match="released"), claimed(visits, "0.6", request_id="nightly"):
            raise AssertionError
    assert states(visits)[1:] == ["released"]


def test_a_job_that_died_takes_its_claim_up_again(visits: Ledger, clock: Clock) -> None:
    died = asked(visits, "nightly", "0.6", lease_seconds=30)
    clock.now += 29
    again = asked(visits, "nightly", "0.6", lease_seconds=30)
    assert (again.number, again.state) == (died.number, "reserved")
    assert parts(visits, DAY) == ("0", "2/5", "3/5", "0")
    clock.now += 1
    with pytest.raises(ClaimLost, match="new request id"):
        asked(visits, "nightly", "0.6")


def test_a_request_that_waits_is_repeated_without_a_second_place(visits: Ledger) -> None:
    first = asked(visits, "first", "0.8")
    places = [asked(visits, "second", "0.8").number for _ in range(3)]
    assert places == [first.number + 1] * 3
    assert states(visits)[1:] == ["reserved", "waiting"]


def test_the_same_name_for_another_request_is_refused(visits: Ledger) -> None:
    request: dict[str, Any] = {"selector": LAST, "demand": PureDP("0.6"), "request_id": "nightly"}
    others: tuple[dict[str, Any], ...] = (
        {"demand": PureDP("0.5")},
        {"selector": TIME >= "1970-01-12"},
        {"weight": 2},
        {"owner": "bob"},
        {"purpose": "another"},
        {"min_blocks": 1},
        {"max_blocks": 1},
    )
    with visits.claim(VISITS, **request):
        before = visits.head()
        for other in others:
            with pytest.raises(InvalidArgument, match="other content"), visits.claim(VISITS, **request | other):
                raise AssertionError
        assert visits.head() == before


def test_a_claim_that_failed_needs_a_new_name(visits: Ledger, clock: Clock) -> None:
    first = asked(visits, "first", "0.8", lease_seconds=1000)
    asked(visits, "second", "0.8", timeout_seconds=5)
    clock.now += 5
    visits.release(first.ticket(visits.ledger_id))
    with pytest.raises(ClaimLost, match="was failed"):
        asked(visits, "second", "0.8", timeout_seconds=5)
    assert asked(visits, "third", "0.8").state == "reserved"


def test_a_query_that_is_repeated_is_paid_once(visits: Ledger) -> None:
    with claimed(visits, "0.6") as claim:
        assert pay(claim, "q", "0.2", DAY) == pay(claim, "q", "0.2", DAY)
        with pytest.raises(InvalidArgument, match="other content"):
            pay(visits, "q", "0.2", DAY)  # under its name, but out of the block
        assert claim.remaining() == PureDP("0.4")


def test_a_selector_needs_blocks() -> None:
    with pytest.raises(InvalidArgument, match="the whole has no blocks"):
        Wanted(None, LAST, PureDP(1))


def test_claims_without_a_name_are_two(visits: Ledger) -> None:
    with claimed(visits, "0.1") as one, claimed(visits, "0.1") as two:
        assert one.number != two.number
