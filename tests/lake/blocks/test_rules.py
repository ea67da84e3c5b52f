"""Rules: every instant lies in one block, names and JSON come back, and what could not be a block is refused."""

# ruff: noqa: SIM300  dimensions are written as constants are, and stand on the left

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from lake.blocks.instants import DAY, LAST, seconds_of, text_of
from lake.blocks.rules import MOST_BLOCKS, MOST_RANGES, Blocks, Windows
from lake.blocks.selectors import TIME, USERS, Selector

FIRST = seconds_of("0001-01-01", "")
LENGTHS = st.sampled_from(["1 second", "90 minutes", "6 hours", "1 day", "5 days", "1 week", "400 weeks"])
DAILY = Blocks.every("1 day", "admitted", since="2026-01-01", name="visits")
HOURLY = Blocks.every("1 hour", "at", since="2026-01-01", name="hours", users=10)
PATIENTS = Blocks.users(16, name="patients")


def names(rule: Blocks, at: str) -> list[str]:
    return [block.name for block in rule.due(seconds_of(at, "at"))]


@st.composite
def rules(draw: st.DrawFn) -> Blocks:
    ranges = draw(st.none() | st.integers(1, 20))
    if ranges is not None and draw(st.booleans()):
        return Blocks.users(ranges, name="a")
    length = draw(LENGTHS)
    seconds = Blocks.every(length, "t", since="1970-01-01", name="a").windows.seconds  # type: ignore[union-attr]
    since = draw(st.integers(FIRST // seconds + 1, LAST // seconds)) * seconds
    return Blocks("a", Windows("t", seconds, since), ranges)


def around(rule: Blocks, draw: Any) -> int:
    """A moment at which the rule has few windows."""
    if rule.windows is None:
        return int(draw(st.integers(FIRST, LAST)))
    return int(rule.windows.since + draw(st.integers(-2 * rule.windows.seconds, 9 * rule.windows.seconds)))


@given(rule=rules(), data=st.data())
def test_every_instant_from_the_first_window_on_lies_in_one_window(rule: Blocks, data: st.DataObject) -> None:
    at = min(around(rule, data.draw), LAST)
    holding = [b for b in rule.due(at) if b.start is None or (b.end is not None and b.start <= at < b.end)]
    inside = rule.windows is None or at >= rule.windows.since
    assert sorted(b.user_range or 0 for b in holding) == (list(range(rule.user_ranges or 1)) if inside else [])


@given(rule=rules(), data=st.data())
def test_blocks_only_ever_come_into_being(rule: Blocks, data: st.DataObject) -> None:
    early, late = sorted((around(rule, data.draw), around(rule, data.draw)))
    before, after = rule.due(early), rule.due(late)
    assert after[: len(before)] == before
    assert all(b.start is None or b.start <= late for b in after)


@given(rule=rules(), data=st.data())
def test_names_are_distinct_ordered_and_come_back(rule: Blocks, data: st.DataObject) -> None:
    blocks = rule.due(around(rule, data.draw))
    found = [block.name for block in blocks]
    assert found == sorted(set(found))
    assert tuple(rule.block(name) for name in found) == blocks


@given(rule=rules(), other=rules())
def test_rules_come_back_from_their_json_and_differ_in_their_fingerprints(rule: Blocks, other: Blocks) -> None:
    assert Blocks.from_json(rule.to_json()) == rule
    assert (rule == other) == (rule.fingerprint == other.fingerprint)


def test_names_are_canonical() -> None:
    assert names(DAILY, "2026-01-02T23:59:59Z") == ["visits/2026-01-01", "visits/2026-01-02"]
    assert names(HOURLY, "2026-01-01T00:30:00Z")[9] == "hours/2026-01-01T00:00:00Z/users-09-of-10"
    assert names(PATIENTS, "1970-01-01")[3] == "patients/users-03-of-16"
    block = DAILY.block("visits/2026-01-02")
    assert (block.start, block.end) == (seconds_of("2026-01-02", ""), seconds_of("2026-01-03", ""))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (DAILY, "visits/2025-12-31"),
        (DAILY, "visits/2026-01-01T00:00:00Z"),
        (DAILY, "visits/2026-1-1"),
        (DAILY, "visits/20260101"),
        (DAILY, "visits/2026-02-30"),
        (DAILY, "visits/"),
        (DAILY, "visits"),
        (DAILY, "whole"),
        (DAILY, "other/2026-01-01"),
        (DAILY, "visits/2026-01-01/users-0-of-1"),
        (DAILY, "visits/2026-01-01/"),
        (DAILY, 7),
        (HOURLY, "hours/2026-01-01T00:00:00Z"),
        (HOURLY, "hours/2026-01-01T00:30:00Z/users-00-of-10"),
        (HOURLY, "hours/2026-01-01T01:00:00+01:00/users-00-of-10"),
        (HOURLY, "hours/2026-01-01/users-00-of-10"),
        (PATIENTS, "patients/users-3-of-16"),
        (PATIENTS, "patients/users-16-of-16"),
        (PATIENTS, "patients/users-03-of-32"),
        (PATIENTS, "patients/users-٠3-of-16"),
        (PATIENTS, "patients/users-03-of-16\n"),
    ],
)
def test_names_that_a_rule_never_gives_are_refused(rule: Blocks, name: Any) -> None:
    with pytest.raises(InvalidArgument, match="makes no such block; its names look like"):
        rule.block(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blocks.every("1 week", "t", since="2026-01-02", name="a"), "begin at 2026-01-01"),
        (lambda: Blocks.every("1 month", "t", since="2026-01-01", name="a"), "length='1 month'"),
        (lambda: Blocks.every("1 day", "t", since="2026-01-01T00:00:00", name="a"), "with its zone"),
        (lambda: Blocks.every("1 day", "t", since="yesterday", name="a"), "give a day"),
        (lambda: Blocks.every("1 day", "t", since=datetime(2026, 1, 1), name="a"), "with its zone"),
        (lambda: Blocks.every("1 day", "t", since=20260101, name="a"), "since='20260101'"),  # type: ignore[arg-type]
        (lambda: Blocks.every("1 day", "", since="2026-01-01", name="a"), "name a date or timestamp"),
        (lambda: Blocks.every("1 day", "t", since="2026-01-01", name="whole"), "is what is not cut"),
        (lambda: Blocks.every("1 day", "t", since="2026-01-01", name="a/b"), "give 1 to 64"),
        (lambda: Blocks.every("1 day", "t", since="2026-01-01", name="a", users=0), "number of ranges"),
        (lambda: Blocks.users(0, name="a"), "number of ranges"),
        (lambda: Blocks.users(True, name="a"), "number of ranges"),
        (lambda: Blocks.users(MOST_RANGES + 1, name="a"), "number of ranges"),
        (lambda: Blocks("a", None, None), "say how to cut"),
        (lambda: DAILY.due(datetime(2026, 1, 1)), "at='2026"),
        (lambda: DAILY.due(float("nan")), "at=nan"),
        (lambda: DAILY.due(True), "at=True"),
        (lambda: Blocks.every("1 second", "t", since="2026-01-01", name="a").due(LAST), f"{MOST_BLOCKS:,} blocks"),
    ],
)
def test_what_makes_no_blocks_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"name": "whole"},
        {"user_ranges": True},
        {"user_ranges": "4"},
        {"windows": None},
        {"windows": {"column": "t", "seconds": -DAY, "since": "2026-01-01T00:00:00Z"}},
        {"windows": {"column": "t", "seconds": True, "since": "2026-01-01T00:00:00Z"}},
        {"windows": {"column": "t", "seconds": DAY, "since": "2026-01-01"}},
        {"windows": {"column": "t", "seconds": DAY, "since": "2026-01-01T00:00:00Z", "more": 1}},
        {"more": 1},
    ],
)
def test_json_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Blocks.from_json({**DAILY.to_json(), **change})
    with pytest.raises(InvalidArgument):
        Blocks.from_json([])  # type: ignore[arg-type]


def test_how_a_length_or_an_instant_is_spelled_makes_no_other_rule() -> None:
    east = timezone(timedelta(hours=9))
    for length, since in (
        ("24 hours", "2026-01-01"),
        ("1 days", date(2026, 1, 1)),
        ("1 day", datetime(2026, 1, 1, 9, tzinfo=east)),
        ("1440 minutes", "2026-01-01T09:00:00+09:00"),
    ):
        assert Blocks.every(length, "admitted", since=since, name="visits") == DAILY
    assert str(DAILY) == "layout 'visits' (every 1 day of admitted)"
    assert str(HOURLY) == "layout 'hours' (every 1 hour of at, 10 range(s) of users)"


def test_a_moment_is_rounded_down() -> None:
    last = datetime(2026, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    assert [block.name for block in DAILY.due(last)] == ["visits/2026-01-01"]
    assert DAILY.due(last.timestamp()) == DAILY.due(last)
    assert DAILY.due(seconds_of("2026-01-01", "") - 0.5) == ()


@given(seconds=st.integers(FIRST, LAST + DAY - 1))
def test_instants_come_back_from_their_text(seconds: int) -> None:
    assert seconds_of(text_of(seconds), "at") == seconds
    assert seconds_of(text_of(seconds, days=True), "at") == seconds // DAY * DAY


@given(rule=rules(), data=st.data())
def test_a_selector_takes_from_the_due_blocks_those_that_match(rule: Blocks, data: st.DataObject) -> None:
    """However few windows it looks at: the span of time that it can be in is only a short cut."""
    at = around(rule, data.draw)
    selector = Selector()
    if rule.windows is not None:
        first, last = sorted(min(max(around(rule, data.draw), FIRST), LAST) for _ in range(2))
        selector = (TIME >= text_of(first)) & (TIME < text_of(last))
        if data.draw(st.booleans()) and (starts := rule.windows.starts(None, min(last, LAST))):
            selector &= TIME.isin(*(text_of(start) for start in starts[-3:]))
    if rule.user_ranges is not None:
        selector &= USERS < data.draw(st.integers(0, rule.user_ranges))
    assert rule.matching(selector, at) == tuple(block for block in rule.due(at) if selector.matches(block))


def test_a_long_layout_is_searched_where_the_selector_looks() -> None:
    seconds = Blocks.every("1 second", "t", since="1970-01-01", name="a")
    (block,) = seconds.matching(TIME == "2026-01-01T00:00:07Z", LAST)
    assert block.name == "a/2026-01-01T00:00:07Z"


@pytest.mark.parametrize(
    ("rule", "selector", "message"),
    [
        (DAILY, USERS == 0, "is not cut by users"),
        (PATIENTS, TIME > "2026-01-01", "is not cut by time"),
        (PATIENTS, USERS == 16, "has no block there"),
        (PATIENTS, USERS.isin(0, 99), "has no block there"),
        (DAILY, TIME == "2026-01-01T12:00:00Z", "has no block there"),
        (DAILY, TIME.isin("2025-12-31"), "has no block there"),
        (DAILY, "2026-01-01", "write it with TIME"),
    ],
)
def test_selectors_that_do_not_fit_the_rule_are_refused(rule: Blocks, selector: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        rule.matching(selector, LAST)
