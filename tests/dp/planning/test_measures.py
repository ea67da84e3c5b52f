"""Sensitivities of measures: integers that follow from declared facts, and hold against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.planning.bounds import ContributionBounds
from dp.planning.fixed_point import FixedPoint
from dp.planning.measures import Bins, Measure, Present, Rows, Sensitivity, Total, Units

ENCODING = FixedPoint.plan(Fraction(-2), Fraction(3), integral=True, centred=False)
MEASURES: list[Measure] = [
    Rows(),
    Units(),
    Present("v", integral=True),
    Total("v", ENCODING),
    Bins("v", (Fraction(0), Fraction(1), Fraction(2)), integral=True),
]
BOUNDS = [
    ContributionBounds(max_groups=1, max_rows=1),
    ContributionBounds(max_groups=2, max_rows=2),
    ContributionBounds(max_groups=3, max_rows=1),
    ContributionBounds(max_total_rows=3),
    ContributionBounds(max_groups=2, max_total_rows=3),
    ContributionBounds(max_groups=3, max_total_rows=2),
]
GROUPS, VALUES = range(3), (-2, 0, 3)


def everything_one_unit_can_do(bounds: ContributionBounds) -> Iterator[tuple[tuple[int, int], ...]]:
    """All multisets of (group, value) rows within the bounds."""
    for count in range(bounds.rows + 1):
        for rows in combinations_with_replacement(list(product(GROUPS, VALUES)), count):
            per_group = [sum(group == g for group, _ in rows) for g in GROUPS]
            if sum(n > 0 for n in per_group) <= bounds.groups and max(per_group) <= bounds.rows_per_group:
                yield rows


def contribution(measure: Measure, rows: tuple[tuple[int, int], ...]) -> list[int]:
    """What the rows add to every cell, by the measures' definitions."""
    cells = [0] * (len(GROUPS) * measure.width)
    for group, value in rows:
        if isinstance(measure, Total):
            cells[group] += value
        elif isinstance(measure, Bins):
            cells[group * measure.width + (value >= 1)] += 1
        elif isinstance(measure, Units):
            cells[group] = 1
        else:
            cells[group] += 1
    return cells


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: type(measure).__name__)
def test_sensitivity_is_the_worst_that_a_unit_can_do(measure: Measure, bounds: ContributionBounds) -> None:
    changes = [contribution(measure, rows) for rows in everything_one_unit_can_do(bounds)]
    declared = measure.sensitivity(bounds)
    assert max(sum(map(abs, cells)) for cells in changes) == declared.l1
    worst = max(sum(cell**2 for cell in cells) for cells in changes)
    assert worst <= declared.l2_squared
    if bounds.max_total_rows is None:  # otherwise the declared one ignores that rows are whole numbers
        assert worst == declared.l2_squared


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(1, 100))
def test_sensitivities_are_exact_however_large(groups: int, rows: int, parties: int) -> None:
    """Products beyond 2^64 are integers like any other: nothing overflows, nothing turns into infinity."""
    bounds = ContributionBounds(max_groups=groups, max_rows=rows)
    wide = FixedPoint.plan(Fraction(0), Fraction(2**52), integral=True, centred=False)
    one = Total("v", wide).sensitivity(bounds)
    assert (one.l1, one.l2_squared) == (groups * rows * 2**52, groups * rows**2 * 2**104)
    many = one.over_parties(parties)
    assert (many.l1, many.l2_squared) == (parties * one.l1, parties**2 * one.l2_squared)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_wider_bound_never_lowers_a_sensitivity(groups: int, rows: int, more_groups: int, more_rows: int) -> None:
    for measure in MEASURES:
        narrow = measure.sensitivity(ContributionBounds(max_groups=groups, max_rows=rows))
        wide = measure.sensitivity(ContributionBounds(max_groups=groups + more_groups, max_rows=rows + more_rows))
        assert wide.l1 >= narrow.l1
        assert wide.l2_squared >= narrow.l2_squared


def test_a_unit_at_one_party_costs_what_it_costs_alone() -> None:
    assert Sensitivity(3, 5).over_parties(1) == Sensitivity(3, 5)


def test_public_fields_tell_measures_apart() -> None:
    others = [Total("v", ENCODING, Fraction(1)), Total("w", ENCODING), Present("w", integral=True)]
    texts = [str(measure.to_json()) for measure in (*MEASURES, *others)]
    assert len(set(texts)) == len(texts)
