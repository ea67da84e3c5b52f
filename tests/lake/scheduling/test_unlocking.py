"""How blocks unlock: exactly, cumulatively, and never backwards."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from lake.scheduling import AtOnce, ByArrivals, ByTime, opened_by_time

RULES = st.one_of(
    st.just(AtOnce()),
    st.builds(ByArrivals, st.integers(1, 50)),
    st.builds(ByTime, st.integers(1, 50), st.integers(0, 9)),
)


def test_n_arrivals_unlock_everything_and_no_fewer_do():
    share = Fraction(0)
    for arrived in range(1, 8):
        share = ByArrivals(7).after_arrival(share)
        assert share == Fraction(arrived, 7)
    assert ByArrivals(7).after_arrival(share) == 1


def test_a_lifetime_unlocks_everything_and_no_less_does():
    assert ByTime(3).after_time(Fraction(0), 1_000) == Fraction(1, 3)
    assert ByTime(3).after_time(Fraction(1, 3), 1_999) == Fraction(2_999, 3_000)
    assert ByTime(3).after_time(Fraction(1, 3), 5_000) == 1


def test_each_rule_hears_its_own_event_alone():
    half = Fraction(1, 2)
    assert ByArrivals(7).after_time(half, 10**9) == half
    assert ByTime(7).after_arrival(half) == half
    assert AtOnce().after_arrival(half) == AtOnce().after_time(half, 0) == 1


@given(st.lists(st.tuples(RULES, st.booleans(), st.integers(0, 10_000)), max_size=20))
def test_whatever_rules_follow_each_other_nothing_is_locked_again(events):
    share = Fraction(0)
    for rule, is_arrival, elapsed in events:
        after = rule.after_arrival(share) if is_arrival else rule.after_time(share, elapsed)
        assert share <= after <= 1
        share = after


@given(st.lists(st.integers(0, 5_000), max_size=10), st.integers(1, 20))
def test_time_adds_up_however_it_is_told(parts, lifetime):
    told = Fraction(0)
    for part in parts:
        told = ByTime(lifetime).after_time(told, part)
    assert told == ByTime(lifetime).after_time(Fraction(0), sum(parts))


@given(RULES, st.floats(0, 1e10))
def test_no_time_counts_before_it_has_passed(rule, now):
    until = rule.counts_until(now)
    assert until <= now < until + max(getattr(rule, "period_seconds", 0), 0.001)
    assert rule.counts_until(until) == until


def test_a_period_counts_when_it_is_over():
    rule = ByTime(86400, period_seconds=600)
    assert [rule.counts_until(now) for now in (599.999, 600, 601.5, 1799, 1800.25)] == [0, 600, 600, 1200, 1800]
    assert ByTime(86400).counts_until(601.5) == 601.5


@given(st.floats(1e9, 2e9), st.lists(st.floats(-3, 40), max_size=20), st.integers(1, 500), st.integers(0, 90))
def test_however_often_somebody_looks_no_time_is_lost_or_counted_twice(start, steps, lifetime, period):
    rule, share, at, now = ByTime(lifetime, period), Fraction(0), start, start
    for step in steps:  # back, too: clocks are set
        now += step
        share, at = opened_by_time(rule, share, at, now)
        assert share <= Fraction(max(now, at) + 0.001 - start) / lifetime
    end = (int(max(now, at)) // max(period, 1) + 1) * max(period, 1)
    share, at = opened_by_time(rule, share, at, end)
    passed = 1000 * end - round(1000 * start)  # none, where the start is less than half a millisecond before the end
    assert (share, round(1000 * at)) == (min(Fraction(1), Fraction(passed, 1000 * lifetime)), 1000 * end)


@pytest.mark.parametrize("value", [-1, 1.5, 0.0, True, False, "7", None])
def test_a_period_is_a_whole_number_or_none(value):
    with pytest.raises(InvalidArgument, match="not below zero"):
        ByTime(3, value)


@pytest.mark.parametrize("rule", [ByArrivals, ByTime])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "7", None])
def test_only_whole_numbers_above_zero(rule, value):
    with pytest.raises(InvalidArgument, match="above zero"):
        rule(value)


@pytest.mark.parametrize("rule", [AtOnce(), ByArrivals(3), ByTime(3)])
def test_time_never_runs_backwards(rule):
    with pytest.raises(InvalidArgument, match="elapsed_milliseconds"):
        rule.after_time(Fraction(0), -1)
