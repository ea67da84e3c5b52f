"""Sensitivities of measures: integers that follow from declared facts, and hold against brute force.

Everything that one unit can do within its bounds is added up by the measures' own cell rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.execution.partials import partial_items, partial_sums
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import Column, Surviving
from dp.planning.fixed_point import FixedPoint
from dp.planning.keys import PrivateKeys
from dp.planning.measures import (
    Bins,
    Distinct,
    Items,
    Measure,
    Moments,
    Present,
    Rows,
    Sensitivity,
    Squares,
    Total,
    Truncation,
    Units,
    UnitTotals,
    Vectors,
)
from dp.planning.plan import make_plan
from spark_mpc import dp
from tests.tools.bounding import add_up
from tests.tools.plans import paper_query

ENCODING = FixedPoint.plan(Fraction(-2), Fraction(3), integral=True, centred=False)
CENTRED = FixedPoint(True, 0, -3, 3, 0)
TOTALS = FixedPoint.plan(Fraction(-2), Fraction(5), integral=True, centred=False)
MEASURES: list[Measure] = [
    Rows(),
    Units(),
    Present("v", integral=True),
    Total("v", ENCODING),
    Squares("v", CENTRED),
    UnitTotals("v", TOTALS),
    Bins("v", (Fraction(0), Fraction(1), Fraction(2)), integral=True),
    Items("v", (3, -2)),
    Distinct("v", real=False),
    Vectors(("v", "w"), ENCODING, "l1", 3),
    Vectors(("v", "w"), ENCODING, "l2", 3),
    Vectors(("v", "w"), CENTRED, "linf", 3),
    Moments(("v", "w"), (CENTRED, CENTRED), 0),
    Moments(("v", "w"), (CENTRED, CENTRED), 1),
    Moments(("v", "w"), (CENTRED, CENTRED), 2),
    Truncation(),
]
LOOSE = {
    ("vectors", "l2"): "of integer coordinates the L1 norm is rounded up, and no row has the longest one",
    ("moments", None): "no row has the greatest square and the least product at once",
}
BOUNDS = [
    ContributionBounds(max_groups=1, max_rows=1),
    ContributionBounds(max_groups=2, max_rows=2),
    ContributionBounds(max_groups=3, max_rows=1),
    ContributionBounds(max_total_rows=3),
    ContributionBounds(max_groups=2, max_total_rows=3),
    ContributionBounds(max_groups=3, max_total_rows=2),
]
GROUPS = range(3)
CONTENTS: list[tuple[int | None, int | None]] = [(3, -3), (-2, 3), (0, 0), (3, None), (None, 3)]
UnitsRow = tuple[int, tuple[int | None, int | None]]
"""A group, and the values of v and w."""


@cache
def everything_one_unit_can_do(bounds: ContributionBounds) -> list[tuple[UnitsRow, ...]]:
    """All multisets of rows within the bounds."""
    return list(_within(bounds))


def _within(bounds: ContributionBounds) -> Iterator[tuple[UnitsRow, ...]]:
    most = min(bounds.rows, 3)  # a fourth row does nothing that a third one does not
    for count in range(most + 1):
        for rows in combinations_with_replacement(list(product(GROUPS, CONTENTS)), count):
            per_group = [sum(group == g for group, _ in rows) for g in GROUPS]
            if sum(n > 0 for n in per_group) <= bounds.groups and max(per_group) <= bounds.rows_per_group:
                yield rows
    if bounds.rows > most:  # but for as many rows as there may be, all alike
        for content in product(CONTENTS, repeat=2):
            yield tuple((group, content[group]) for group in range(2) for _ in range(bounds.rows_per_group))


INDEX = {Bins: lambda v: int(v >= 1), Items: lambda v: {3: 0, -2: 1}.get(v)}
"""What Catalyst makes of the column `v`, in plain Python."""


def columns_of(measure: Measure, rows: Sequence[UnitsRow]) -> dict[str, Column]:
    columns = {}
    for index, source in enumerate(("v", "w")):
        values = [content[index] for _, content in rows]
        if isinstance(measure, (Bins, Items)):
            values = [None if value is None else INDEX[type(measure)](value) for value in values]
        valid = np.array([value is not None for value in values], np.bool_)
        columns[source] = Column(np.array([value or 0 for value in values], np.int64), valid)
    return columns


def contribution(measure: Measure, rows: Sequence[UnitsRow], *, one_cell: bool = False) -> dict[int, int]:
    """What the rows of one unit add to every cell; with `one_cell` those of all groups lie over one another."""
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])
    group = np.array([rows[i][0] for i in order], np.int64)
    run_group, run = np.unique(group, return_inverse=True)
    columns = columns_of(measure, rows)
    alive = Surviving(np.array(order, np.int64), group, run_group, run, columns, units=1, truncated_units=1)
    names = {needed: needed.source for needed in measure.inputs}  # type: ignore[attr-defined]
    rules = measure.rules(0, measure.width, names)
    cells = add_up(partial_sums(alive, rules), partial_items(alive, rules))
    signed: dict[int, int] = {}
    for cell, word in cells.items():
        place = cell % measure.width if one_cell else cell
        signed[place] = signed.get(place, 0) + (word - 2**64 if word >= 2**63 else word)
    return signed


def l1(cells: Mapping[int, int]) -> int:
    return sum(map(abs, cells.values()))


def l2_squared(cells: Mapping[int, int]) -> int:
    return sum(cell**2 for cell in cells.values())


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: f"{type(m).__name__} {m.to_json().get('norm', '')}")
def test_sensitivity_is_the_worst_that_a_unit_can_do(measure: Measure, bounds: ContributionBounds) -> None:
    changes = [contribution(measure, rows) for rows in everything_one_unit_can_do(bounds)]
    declared = measure.sensitivity(bounds)
    worst = Sensitivity(max(map(l1, changes)), max(map(l2_squared, changes)))
    assert worst.l1 <= declared.l1
    assert worst.l2_squared <= declared.l2_squared
    shown = measure.to_json()
    if (shown["measure"], shown.get("norm")) not in LOOSE:
        assert worst == declared
    else:
        assert worst.l1 > declared.l1 * 0.6
        assert worst.l2_squared > declared.l2_squared * 0.5


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("measure", [m for m in MEASURES if m.by_group], ids=lambda m: type(m).__name__)
def test_groups_that_are_added_up_as_others_stay_within_the_sensitivity(
    measure: Measure, bounds: ContributionBounds
) -> None:
    """The cell of the others gets what all groups of a unit add; between that and no group merged, any may be."""
    merged = [contribution(measure, rows, one_cell=True) for rows in everything_one_unit_can_do(bounds)]
    query = replace(paper_query([], groups=1) if False else _of(measure, bounds), keys=PrivateKeys(other="rest"))
    declared = make_plan(query, dp.ApproxDP(1, "1e-6")).parts[0].sensitivity
    assert max(map(l1, merged)) <= declared.l1
    assert max(map(l2_squared, merged)) <= declared.l2_squared
    if isinstance(measure, (Rows, Units, Total)) and bounds.groups > 1:
        assert max(map(l2_squared, merged)) == declared.l2_squared
        if bounds.max_total_rows is None or isinstance(measure, Units):  # what the fault would be
            assert max(map(l2_squared, merged)) > measure.sensitivity(bounds).l2_squared
