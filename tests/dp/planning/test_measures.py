"""Sensitivities of measures: integers that follow from declared facts, and hold against brute force.

Everything that one unit can do within its bounds is added up by the measures' own cell rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from dp.execution.partials import partial_items, partial_sums
from dp.planning.aggregates import OneMeasure, Schema
from dp.planning.bin_measures import Bins, Distinct, Items, TreeCells
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import Column, Surviving
from dp.planning.fixed_point import FixedPoint
from dp.planning.keys import PrivateKeys
from dp.planning.measures import Measure, Present, Rows, Sensitivity, Sizes, Truncation, Units
from dp.planning.plan import make_plan
from dp.planning.sum_measures import Moments, Squares, Total, UnitTotals, Vectors
from dp.planning.tree import Tree
from spark_mpc import dp
from tests.tools.bounding import add_up
from tests.tools.plans import paper_query

ENCODING = FixedPoint.plan(Fraction(-2), Fraction(3), integral=True, centred=False)
CENTRED = FixedPoint(True, 0, -3, 3, 0)
TREE = Tree.plan(Fraction(0), Fraction(3), integral=True, groups=1)
MEASURES: list[Measure] = [
    Rows(),
    Units(),
    Present("v", integral=True),
    Total("v", ENCODING),
    Squares("v", CENTRED),
    UnitTotals("v", ENCODING),
    Bins("v", (Fraction(0), Fraction(1), Fraction(2)), integral=True),
    Items("v", (3, -2)),
    Sizes(3),
    TreeCells("v", TREE),
    Distinct("v", real=False),
    Vectors(("v", "w"), ENCODING, "l1", 3),
    Vectors(("v", "w"), ENCODING, "l2", 3),
    Vectors(("v", "w"), CENTRED, "linf", 3),
    Moments(("v", "w"), (CENTRED, CENTRED), 0),
    Moments(("v", "w"), (CENTRED, CENTRED), 1),
    Moments(("v", "w"), (CENTRED, CENTRED), 2),
    Truncation(),
]
BOUNDS = [
    ContributionBounds(max_groups=1, max_rows=1),
    ContributionBounds(max_groups=2, max_rows=2),
    ContributionBounds(max_groups=3, max_rows=1),
    ContributionBounds(max_total_rows=3),
    ContributionBounds(max_groups=2, max_total_rows=3),
    ContributionBounds(max_groups=3, max_total_rows=2),
]
GROUPS = range(3)
CONTENTS: list[tuple[int | None, int | None]] = [(3, -3), (-2, 3), (3, 0), (0, 0), (None, 3)]
UnitsRow = tuple[int, tuple[int | None, int | None]]
"""A group, and the values of v and w."""


@cache
def everything_one_unit_can_do(bounds: ContributionBounds) -> list[tuple[UnitsRow, ...]]:
    """All multisets of up to three rows within the bounds, and four rows where there may be so many."""
    return [*_up_to_three_rows(bounds), *(_twice_two_rows() if bounds.rows > 3 else ())]


def _up_to_three_rows(bounds: ContributionBounds) -> Iterator[tuple[UnitsRow, ...]]:
    for count in range(min(bounds.rows, 3) + 1):
        for rows in combinations_with_replacement(list(product(GROUPS, CONTENTS)), count):
            per_group = [sum(group == g for group, _ in rows) for g in GROUPS]
            if sum(n > 0 for n in per_group) > bounds.groups or max(per_group) > bounds.rows_per_group:
                continue
            if per_group == sorted(per_group, reverse=True):  # which group is which makes no difference
                yield rows


def _twice_two_rows() -> Iterator[tuple[UnitsRow, ...]]:
    for pair in combinations_with_replacement(CONTENTS, 2):
        yield tuple((group, content) for group in range(2) for content in pair)


INDEX: dict[type[Measure], Callable[[int], int | None]] = {
    Bins: lambda v: int(v >= 1),
    Items: {3: 0, -2: 1}.get,
    TreeCells: lambda v: min(max(v, 0), TREE.shape.leaves - 1),
}
"""What Catalyst makes of the column `v`, in plain Python."""


def columns_of(measure: Measure, rows: Sequence[UnitsRow]) -> dict[str, Column]:
    columns = {}
    for index, source in enumerate(("v", "w")):
        values = [content[index] for _, content in rows]
        if type(measure) in INDEX:
            values = [None if value is None else INDEX[type(measure)](value) for value in values]
        valid = np.array([value is not None for value in values], np.bool_)
        columns[source] = Column(np.array([value or 0 for value in values], np.int64), valid)
    return columns


def rows_of_one_unit(measure: Measure, rows: Sequence[UnitsRow]) -> Surviving:
    """A unit's rows, encoded as this measure reads them."""
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])
    group = np.array([rows[i][0] for i in order], np.int64)
    run_group, run = np.unique(group, return_inverse=True)
    columns = columns_of(measure, rows)
    return Surviving(np.array(order, np.int64), group, run_group, run, columns, units=1, truncated_units=1)


def added_cells(measure: Measure, alive: Surviving) -> dict[int, int]:
    """What surviving rows add to every cell."""
    names = {needed: needed.source for needed in measure.inputs}  # type: ignore[attr-defined]
    rules = measure.rules(0, measure.width, names)
    cells = add_up(partial_sums(alive, rules), partial_items(alive, rules))
    return {cell: word - 2**64 if word >= 2**63 else word for cell, word in cells.items()}


def contribution(measure: Measure, rows: Sequence[UnitsRow], *, one_cell: bool = False) -> dict[int, int]:
    """What the rows of one unit add to every cell; with `one_cell` those of all groups lie over one another."""
    signed: dict[int, int] = {}
    for cell, amount in added_cells(measure, rows_of_one_unit(measure, rows)).items():
        place = cell % measure.width if one_cell else cell
        signed[place] = signed.get(place, 0) + amount
    return signed


def _shown(measure: Measure) -> str:
    return " ".join([type(measure).__name__, str(getattr(measure, "norm", getattr(measure, "order", "")))])


def l1(cells: Mapping[int, int]) -> int:
    return sum(map(abs, cells.values()))


def l2_squared(cells: Mapping[int, int]) -> int:
    return sum(cell**2 for cell in cells.values())


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("measure", MEASURES, ids=_shown)
def test_sensitivity_is_the_worst_that_a_unit_can_do(measure: Measure, bounds: ContributionBounds) -> None:
    changes = [contribution(measure, rows) for rows in everything_one_unit_can_do(bounds)]
    declared = measure.sensitivity(bounds)
    assert max(map(l2_squared, changes)) == declared.l2_squared
    if getattr(measure, "norm", None) == "l2":  # (2, 2) is the longest in L1; sqrt(2) 3 is declared, rounded up
        assert (max(map(l1, changes)), declared.l1) == (4 * bounds.rows, 5 * bounds.rows)
    else:
        assert max(map(l1, changes)) == declared.l1


@dataclass(frozen=True, kw_only=True)
class JustOne(OneMeasure):
    """An aggregate of any measure."""

    measure: Measure

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self.measure,)


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("measure", [m for m in MEASURES if m.by_group], ids=_shown)
def test_groups_that_are_added_up_as_the_others_stay_within_the_sensitivity(
    measure: Measure, bounds: ContributionBounds
) -> None:
    """Any of a unit's groups may be among the others, and all of them are the worst."""
    merged = [contribution(measure, rows, one_cell=True) for rows in everything_one_unit_can_do(bounds)]
    query = replace(paper_query([JustOne(name="x", measure=measure)], bounds=bounds), keys=PrivateKeys(other="rest"))
    declared = make_plan(replace(query, bounds=bounds), dp.ApproxDP(1, "1e-6")).parts[0].sensitivity
    assert max(map(l1, merged)) <= declared.l1
    assert max(map(l2_squared, merged)) <= declared.l2_squared
    if measure.width == 1:
        assert max(map(l2_squared, merged)) == declared.l2_squared
    if isinstance(measure, Units) and bounds.groups > 1:  # the planted fault: what is declared without the others
        assert declared.l2_squared > measure.sensitivity(bounds).l2_squared


def test_a_rule_that_adds_twice_is_noticed() -> None:
    """The planted fault: a row that counts twice."""
    bounds = ContributionBounds(max_groups=2, max_rows=2)
    rows = everything_one_unit_can_do(bounds)
    worst = max(l1(contribution(Rows(), of_unit)) for of_unit in [of_unit * 2 for of_unit in rows])
    assert worst == 2 * Rows().sensitivity(bounds).l1


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(1, 100))
def test_sensitivities_are_exact_however_large(groups: int, rows: int, parties: int) -> None:
    """Products beyond 2^64 are integers like any other: nothing overflows, nothing turns into infinity."""
    bounds = ContributionBounds(max_groups=groups, max_rows=rows)
    wide = FixedPoint.plan(Fraction(0), Fraction(2**52), integral=True, centred=False)
    one = Total("v", wide).sensitivity(bounds)
    assert (one.l1, one.l2_squared) == (groups * rows * 2**52, groups * rows**2 * 2**104)
    many = one.times(parties)
    assert (many.l1, many.l2_squared) == (parties * one.l1, parties**2 * one.l2_squared)
    both = Moments(("v", "w"), (wide, wide), 2).sensitivity(bounds)
    assert both.l1 == groups * rows * 2 * 2**104
    lengths = Vectors(("v", "w"), wide, "l2", 2**52).sensitivity(bounds)
    assert lengths.l2_squared == one.l2_squared
    assert 0 <= lengths.l1**2 - (groups * rows) ** 2 * 2**105 < (groups * rows) ** 2 * 2**55


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_wider_bound_never_lowers_a_sensitivity(groups: int, rows: int, more_groups: int, more_rows: int) -> None:
    for measure in MEASURES:
        narrow = measure.sensitivity(ContributionBounds(max_groups=groups, max_rows=rows))
        wide = measure.sensitivity(ContributionBounds(max_groups=groups + more_groups, max_rows=rows + more_rows))
        assert wide.l1 >= narrow.l1
        assert wide.l2_squared >= narrow.l2_squared


@pytest.mark.parametrize("measure", MEASURES, ids=_shown)
def test_what_adds_up_rows_needs_a_bound_on_them(measure: Measure) -> None:
    groups_only = ContributionBounds(max_groups=7)
    if isinstance(measure, (Units, Sizes, UnitTotals, Truncation)):
        with_rows = measure.sensitivity(ContributionBounds(max_groups=7, max_rows=3))
        assert measure.sensitivity(groups_only) == with_rows
    else:
        with pytest.raises(InvalidArgument, match="what adds up rows needs a bound on them"):
            measure.sensitivity(groups_only)


def test_a_unit_at_one_party_costs_what_it_costs_alone() -> None:
    assert Sensitivity(3, 5).times(1) == Sensitivity(3, 5)


def test_public_fields_tell_measures_apart() -> None:
    others = [
        *(Total("v", ENCODING, Fraction(1)), Total("w", ENCODING), Present("w", integral=True)),
        *(Squares("v", CENTRED, Fraction(1)), UnitTotals("v", CENTRED), Distinct("w", real=False)),
        *(Vectors(("v", "w"), ENCODING, "l2", 2), Vectors(("w", "v"), ENCODING, "l2", 3)),
    ]
    texts = [str(measure.to_json()) for measure in (*MEASURES, *others)]
    assert len(set(texts)) == len(texts)
