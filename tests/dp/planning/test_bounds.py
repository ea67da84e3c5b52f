"""ContributionBounds: what it refuses, and the L0, Linf and L1 that a price is computed from."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from dp.planning.bounds import MAX_BOUND, ContributionBounds

small = st.integers(1, 1000)


@given(groups=small, rows=small)
def test_groups_and_rows(groups, rows):
    bounds = ContributionBounds(max_groups=groups, max_rows=rows)
    assert (bounds.groups, bounds.rows_per_group, bounds.rows) == (groups, rows, groups * rows)


@given(total=small)
def test_total_rows_alone_bounds_everything(total):
    bounds = ContributionBounds(max_total_rows=total)
    assert (bounds.groups, bounds.rows_per_group, bounds.rows) == (total, total, total)


@given(groups=small, total=small)
def test_groups_beside_total_rows(groups, total):
    bounds = ContributionBounds(max_groups=groups, max_total_rows=total)
    assert (bounds.groups, bounds.rows_per_group, bounds.rows) == (min(groups, total), total, total)


@given(groups=small, rows=small, wider=small)
def test_a_wider_bound_never_lowers_a_sensitivity(groups, rows, wider):
    narrow, wide = ContributionBounds(groups, rows), ContributionBounds(groups + wider, rows)
    assert narrow.groups <= wide.groups
    assert narrow.rows <= wide.rows


def test_the_greatest_bounds_do_not_overflow():
    assert ContributionBounds(MAX_BOUND, MAX_BOUND).rows == MAX_BOUND**2 < 2**62


@pytest.mark.parametrize("bad", [0, -1, MAX_BOUND + 1, 1.0, float("nan"), float("inf"), "4", True])
@pytest.mark.parametrize("name", ["max_groups", "max_rows", "max_total_rows"])
def test_a_bound_is_a_positive_integer(name, bad):
    given = {"max_groups": 1, "max_rows": 1} if name != "max_total_rows" else {}
    with pytest.raises(InvalidArgument) as error:
        ContributionBounds(**{**given, name: bad})
    assert error.value.parameter == name
    assert str(MAX_BOUND) in str(error.value)


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "max_groups"),
        ({"max_rows": 1}, "max_groups"),
        ({"max_rows": 1, "max_total_rows": 1}, "max_rows"),
        ({"max_groups": 1, "max_rows": 1, "max_total_rows": 1}, "max_rows"),
    ],
)
def test_what_bounds_nothing_or_twice_is_refused(given, parameter):
    with pytest.raises(InvalidArgument) as error:
        ContributionBounds(**given)
    assert error.value.parameter == parameter


def test_groups_alone_bound_everything_but_rows():
    bounds = ContributionBounds(max_groups=3)
    assert bounds.groups == 3
    for unknown in ("rows", "rows_per_group"):
        with pytest.raises(InvalidArgument, match="max_rows=None: what adds up rows needs a bound on them"):
            getattr(bounds, unknown)


def test_bounds_are_frozen():
    with pytest.raises(FrozenInstanceError):
        ContributionBounds(1, 1).max_rows = 2
