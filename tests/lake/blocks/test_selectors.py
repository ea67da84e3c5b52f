"""Selectors: what they take, their exact record, and the mistakes that would silently select something else."""

# ruff: noqa: SIM300  dimensions are written as constants are, and stand on the left

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from lake.blocks.block import Block
from lake.blocks.instants import DAY, text_of
from lake.blocks.selectors import TIME, USERS, Selector

PLACES = st.integers(0, 5)
WEEK = (TIME >= "2026-03-01") & (TIME < "2026-03-08") & USERS.isin(0, 1)


def at(day: int, user_range: int = 0) -> Block:
    return Block("a", day * DAY, (day + 1) * DAY, user_range)


def day(number: int) -> str:
    return text_of(number * DAY)


@given(a=PLACES, b=PLACES, x=PLACES, u=PLACES)
def test_comparisons_are_those_of_the_numbers(a: int, b: int, x: int, u: int) -> None:
    block = at(x, u)
    assert (TIME < day(a)).matches(block) == (x < a)
    assert (TIME <= day(a)).matches(block) == (x <= a)
    assert (TIME == day(a)).matches(block) == (x == a)
    assert (TIME >= day(a)).matches(block) == (x >= a)
    assert (TIME > day(a)).matches(block) == (x > a)
    assert TIME.between(day(a), day(b)).matches(block) == (a <= x <= b)
    assert USERS.isin(a, b).matches(block) == (u in (a, b))
    assert ((TIME < day(a)) & (USERS >= b)).matches(block) == (x < a and u >= b)


def test_what_a_dimension_does_not_cut_never_matches() -> None:
    assert not (USERS >= 0).matches(Block("a", 0, DAY))
    assert not (TIME >= "0001-01-01").matches(Block("a", user_range=0))
    assert Selector().matches(Block("a"))


def test_the_record_is_exact_and_comes_back() -> None:
    written = [
        ["time", ">=", ["2026-03-01T00:00:00Z"]],
        ["time", "<", ["2026-03-08T00:00:00Z"]],
        ["users", "in", [0, 1]],
    ]
    assert WEEK.to_json() == written
    assert Selector.from_json(json.loads(json.dumps(written))) == WEEK
    assert Selector.from_json([]) == Selector()


@given(conditions=st.lists(st.tuples(st.sampled_from(["<", "<=", "==", ">=", ">", "in"]), st.sets(PLACES, min_size=1))))
def test_every_selector_comes_back_from_its_json(conditions: list[tuple[str, set[int]]]) -> None:
    fields: list[object] = [["users", op, sorted(ps) if op == "in" else [min(ps)]] for op, ps in conditions]
    assert Selector.from_json(fields).to_json() == fields


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        ["time"],
        [["time", "!=", ["2026-03-01T00:00:00Z"]]],
        [["space", "<", [1]]],
        [["users", "<", []]],
        [["users", "<", [1, 2]]],
        [["users", "in", [2, 1]]],
        [["users", "in", [1, 1]]],
        [["users", "<", [True]]],
        [["users", "<", ["1"]]],
        [["time", "<", ["2026-03-01"]]],
        [["time", "<", [0]]],
    ],
)
def test_json_of_another_form_is_refused(fields: Any) -> None:
    with pytest.raises(InvalidArgument):
        Selector.from_json(fields)


def test_people_read_what_they_wrote() -> None:
    assert repr(WEEK) == "(TIME >= '2026-03-01T00:00:00Z') & (TIME < '2026-03-08T00:00:00Z') & USERS.isin(0, 1)"
    assert eval(repr(WEEK), {"TIME": TIME, "USERS": USERS}) == WEEK
    assert repr(Selector()) == "every block"
    assert (repr(TIME), len({TIME, USERS})) == ("TIME", 2)


def test_a_selector_is_no_truth_value() -> None:
    """`a <= TIME < b`, `and`, `not` and `!=` would drop a condition without a word."""
    for misuse in (
        lambda: "2026-03-01" <= TIME < "2026-03-08",
        lambda: (TIME > "2026-03-01") and (USERS > 0),
        lambda: not WEEK,
        lambda: bool(Selector()),
    ):
        with pytest.raises(InvalidArgument, match="no truth value"):
            misuse()
    with pytest.raises(InvalidArgument, match="use isin"):
        _ = USERS != 0


@pytest.mark.parametrize("value", [1.0, True, "0", -1, None])
def test_users_are_numbers(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="USERS="):
        _ = USERS == value
    with pytest.raises(InvalidArgument, match="USERS="):
        USERS.isin(0, value)


@pytest.mark.parametrize("value", [0, "2026-03", "2026-03-01T00:00:00", "2026-03-01T00:00:00.5Z", "2026-02-30", None])
def test_times_are_days_or_instants_with_a_zone(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="TIME="):
        _ = TIME >= value


def test_an_instant_may_be_written_as_a_date_a_datetime_or_a_text() -> None:
    for value in (date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01", "2026-03-01T01:00:00+01:00"):
        assert (TIME == value) == (TIME == "2026-03-01T00:00:00Z")


def test_only_selectors_are_combined() -> None:
    with pytest.raises(InvalidArgument, match="combine selectors"):
        _ = WEEK & True  # type: ignore[operator]
    with pytest.raises(InvalidArgument, match="at least one"):
        USERS.isin()
