"""Which blocks a claim gets, what each of them gives, and how a steward lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dp.accounting.budget import ZCDP, PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME, USERS, Selector
from lake.errors import LedgerError
from lake.ledger import Ledger, Steward
from tests.lake.claiming import DAY_SECONDS, DAYS, VISITS, parts, pay, states
from tests.tools.ledgers import Clock

PATIENTS = Blocks.users(3, name="patients")
BOTH = Blocks.every("12 hours", "at", since="1970-01-12", name="both", users=2)


def claimed(ledger: Ledger, selector: Selector | None, epsilon: str = "0.3", **more: Any) -> tuple[str, ...]:
    """The blocks that a claim gets; they are given back."""
    with ledger.claim(VISITS, selector, demand=PureDP(epsilon), **more) as claim:
        return claim.blocks


def consume(ledger: Ledger, epsilon: str, *blocks: str) -> None:
    """Somebody spends that."""
    claim = pay(ledger, f"{epsilon} of {blocks}", epsilon, *blocks)
    ledger.arm(claim, b"")


def days(*numbers: int) -> tuple[str, ...]:
    return tuple(f"visits/1970-01-{number:02}" for number in numbers)


# --- selectors


def test_a_selector_over_time(visits: Ledger) -> None:
    cases: tuple[tuple[Selector | None, tuple[str, ...]], ...] = (
        (None, DAYS),
        (TIME >= "1970-01-11", days(11, 12)),
        (TIME < "1970-01-10", days(8, 9)),
        ((TIME > "1970-01-08") & (TIME <= "1970-01-10"), days(9, 10)),
        (TIME == "1970-01-09", days(9)),
        (TIME.isin("1970-01-12", "1970-01-08"), days(8, 12)),
        (TIME >= "1970-01-11T01:00:00Z", days(12)),  # windows are selected by where they begin
    )
    for selector, blocks in cases:
        assert claimed(visits, selector) == blocks


@pytest.mark.parametrize("selector", [TIME < "1970-01-08", TIME == "1970-01-13", TIME > "1970-01-12"], ids=str)
def test_too_few_blocks_are_refused_at_once(visits: Ledger, selector: Selector) -> None:
    """The 13th is tomorrow."""
    before = visits.head()
    with pytest.raises(BudgetExceeded, match=r"min_blocks=1: 0 block\(s\) of layout 'visits'"):
        claimed(visits, selector, timeout_seconds=1e6)
    assert visits.head() == before


def test_selectors_over_users_and_over_both(visits: Ledger) -> None:
    for rule in (PATIENTS, BOTH):
        Steward(visits).lay_out(rule, capacity=PureDP(1))
    half_days = ("both/1970-01-12T00:00:00Z", "both/1970-01-12T12:00:00Z")
    cases: Sequence[tuple[Blocks, Selector, tuple[str, ...]]] = [
        (PATIENTS, Selector(), tuple(f"patients/users-{number}-of-3" for number in range(3))),
        (PATIENTS, USERS >= 1, ("patients/users-1-of-3", "patients/users-2-of-3")),
        (PATIENTS, USERS.isin(0, 2), ("patients/users-0-of-3", "patients/users-2-of-3")),
        (BOTH, USERS == 1, tuple(f"{half}/users-1-of-2" for half in half_days)),
        (BOTH, (TIME > "1970-01-12") & (USERS == 0), (f"{half_days[1]}/users-0-of-2",)),
    ]
    for rule, selector, blocks in cases:
        with visits.claim(rule, selector, demand=PureDP("0.1")) as claim:
            assert claim.blocks == blocks
            assert {parts(visits, block)[2] for block in blocks} == {"1/10"}
    for rule, selector in ((PATIENTS, TIME >= "1970-01-08"), (VISITS, USERS == 0), (PATIENTS, USERS == 3)):
        with pytest.raises(InvalidArgument, match="selector"), visits.claim(rule, selector, demand=PureDP("0.1")):
            raise AssertionError


def test_blocks_come_into_being_when_their_window_begins(visits: Ledger, clock: Clock) -> None:
    assert [state.name for state in visits.blocks()] == ["whole"]
    assert claimed(visits, TIME >= "1970-01-12") == DAYS[-1:]
    assert [state.name for state in visits.blocks()] == [DAYS[-1], "whole"]
    with pytest.raises(InvalidArgument, match="its window has not begun yet"):
        pay(visits, "early", "0.1", *days(13))
    clock.now += DAY_SECONDS
    consume(visits, "0.1", *days(13))
    assert claimed(visits, TIME >= "1970-01-12") == days(12, 13)


# --- fewer than all


def test_blocks_with_too_little_left_are_passed_over(visits: Ledger) -> None:
    consume(visits, "0.8", *days(9, 12))
    assert claimed(visits, None, min_blocks=1) == days(8, 10, 11)
    assert claimed(visits, None, "0.2", min_blocks=1) == DAYS
    assert claimed(visits, None, min_blocks=3) == days(8, 10, 11)
    before = visits.head()
    with pytest.raises(BudgetExceeded, match=r"min_blocks=4: 3 block\(s\)"):
        claimed(visits, None, min_blocks=4, timeout_seconds=1e6)
    assert visits.head() == before


def test_the_latest_blocks_are_taken(visits: Ledger) -> None:
    assert claimed(visits, None, max_blocks=2) == days(11, 12)
    assert claimed(visits, None, max_blocks=9) == DAYS
    consume(visits, "0.8", *days(11))
    assert claimed(visits, None, min_blocks=1, max_blocks=2) == days(10, 12)
    with pytest.raises(BudgetExceeded, match=r"on block 'visits/1970-01-11'"):
        claimed(visits, None, max_blocks=2)  # of no fewer than these
    with pytest.raises(InvalidArgument, match="max_blocks"):
        claimed(visits, None, min_blocks=3, max_blocks=2)


def test_budget_that_others_hold_may_come_back_and_is_not_passed_over(visits: Ledger) -> None:
    with (
        visits.claim(VISITS, TIME == "1970-01-12", demand=PureDP("0.8")),
        pytest.raises(BudgetExceeded, match=r"on block 'visits/1970-01-12'"),
    ):
        claimed(visits, None, min_blocks=1)


def test_each_block_gives_its_own(visits: Ledger) -> None:
    consume(visits, "0.8", *days(9))
    demand = {day: PureDP(f"0.{number}") for number, day in enumerate(DAYS, 1)}
    with visits.claim(VISITS, demand=demand) as claim:
        assert claim.blocks == DAYS
        assert [parts(visits, day)[2] for day in DAYS] == ["1/10", "1/5", "3/10", "2/5", "1/2"]
    with visits.claim(VISITS, demand={**demand, DAYS[1]: PureDP("0.3")}, min_blocks=1) as claim:
        assert claim.blocks == days(8, 10, 11, 12)
    with pytest.raises(InvalidArgument, match=rf"says nothing of block '{DAYS[-1]}'"):
        visits.claim(VISITS, demand=dict(list(demand.items())[:-1])).__enter__()


# --- layouts


def test_a_layout_takes_its_capacity_from_the_whole_once(visits: Ledger) -> None:
    steward = Steward(visits)
    assert parts(visits, "whole") == ("0", "9", "0", "1")
    steward.lay_out(PATIENTS, capacity=PureDP("2.5"))
    assert parts(visits, "whole") == ("0", "13/2", "0", "7/2")
    claimed(visits, None, "1")
    with visits.claim(PATIENTS, demand=PureDP("2.5")):
        assert parts(visits, "whole") == ("0", "13/2", "0", "7/2")  # however many blocks there are
    assert [(layout.rule, layout.capacity) for layout in visits.layouts()] == [
        (PATIENTS, PureDP("2.5")),
        (VISITS, PureDP(1)),
    ]
    assert [entry.purpose for entry in visits.entries("spent")] == [
        f"set aside for each block of {rule}" for rule in (VISITS, PATIENTS)
    ]


def test_laying_out_again_changes_nothing_and_another_under_the_name_is_refused(visits: Ledger) -> None:
    steward, before = Steward(visits), visits.head()
    assert steward.lay_out(VISITS, capacity=PureDP(1)).rule == VISITS
    other = Blocks.every("2 days", "admitted", since="1970-01-09", name="visits")
    for rule, capacity in ((VISITS, "2"), (VISITS, "1/2"), (other, "1")):
        with pytest.raises(InvalidArgument, match="another layout of this ledger has it"):
            steward.lay_out(rule, capacity=PureDP(capacity))
    assert visits.head() == before


def test_no_more_is_set_aside_than_there_is(visits: Ledger) -> None:
    steward = Steward(visits)
    with visits.claim(demand=PureDP("0.5")):
        before = visits.head()
        with pytest.raises(BudgetExceeded, match=r"asked epsilon=9, remaining epsilon=8\.5"):
            steward.lay_out(PATIENTS, capacity=PureDP(9))  # what others hold may be spent by them
        assert visits.head() == before
    steward.lay_out(PATIENTS, capacity=PureDP(9))
    with pytest.raises(BudgetExceeded):
        pay(visits, "q", "1/1000")
    with pytest.raises(BudgetExceeded):
        steward.lay_out(BOTH, capacity=PureDP("1/1000"))


@pytest.mark.parametrize("capacity", [PureDP(0), ZCDP("0.1")])
def test_a_capacity_of_nothing_or_of_another_kind_is_refused(visits: Ledger, capacity: Any) -> None:
    before = visits.head()
    with pytest.raises(InvalidArgument, match="capacity"):
        Steward(visits).lay_out(PATIENTS, capacity=capacity)
    assert visits.head() == before


def test_rows_that_another_rule_cut_are_refused(visits: Ledger) -> None:
    """Its blocks have the same names, and other rows."""
    other = Blocks.every("1 day", "discharged", since="1970-01-08", name="visits")
    before = visits.head()
    with pytest.raises(InvalidArgument, match=r"declare the table with the blocks .*every 1 day of admitted"):
        visits.claim(other, demand=PureDP("0.1")).__enter__()
    with pytest.raises(InvalidArgument, match="declare the table"):
        pay(visits, "q", "0.1", DAYS[0], layout=other.fingerprint)
    with visits.claim(VISITS, demand=PureDP("0.1")) as claim, pytest.raises(InvalidArgument, match="declare the table"):
        pay(claim, "q", "0.1", DAYS[0], layout=other.fingerprint)
    assert states(visits)[1:] == ["released"]
    assert visits.head() != before  # by the claim alone


def test_blocks_that_no_layout_makes_are_refused(visits: Ledger) -> None:
    before = visits.head()
    with pytest.raises(LedgerError, match="has no layout 'patients'"):
        visits.claim(PATIENTS, demand=PureDP("0.1")).__enter__()
    for block in ("visits/1970-01-07", "visits/1970-1-8", "visits/1970-01-08/users-0-of-2", "visits/whole"):
        with pytest.raises(InvalidArgument, match="makes no such block"):
            pay(visits, "q", "0.1", block)
    assert visits.head() == before


# --- retired


def test_what_is_used_up_is_out_of_reach_for_good(visits: Ledger, clock: Clock) -> None:
    consume(visits, "0.9", *days(10))
    consume(visits, "0.1", *days(10))
    retired = {state.name: state.retired for state in visits.blocks()}
    assert retired == {"visits/1970-01-10": True, "whole": False}
    clock.now += 1000 * DAY_SECONDS
    with pytest.raises(BudgetExceeded, match=r"remaining epsilon=0 of epsilon=1 on block 'visits/1970-01-10'"):
        claimed(visits, TIME < "1970-01-13", "1/1000000", timeout_seconds=1e6)
    assert claimed(visits, TIME < "1970-01-13", "1/1000000", min_blocks=1) == days(8, 9, 11, 12)
