"""Every cell rule against its twin in plain Python, on values that wrap, are NULL, or lie outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.execution.partials import every_row_survives, partial_items, partial_sums, surviving
from dp.execution.survivors import UnitRows, survivors
from dp.planning.bounds import MAX_BOUND, ContributionBounds
from dp.planning.cells import (
    BinCount,
    CellRule,
    Column,
    DistinctItems,
    RowCount,
    RowSum,
    Surviving,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
    UnitTotal,
    VectorSum,
)
from tests.tools.bounding import Row, add_up, assert_sensitivity, mix, plain_cells, reference_cells

GROUPS = 4
NAMES = ("bin", "x", "y", "z")
REACH = 2**21
"""Of the coordinates of a vector."""

EXTREMES = (-(2**63), 2**63 - 1, 2**62, -1, 0, 1, 3)
RULES: dict[str, CellRule] = {
    "rows": RowCount(0, 1),
    "present": RowCount(5, 3, ("x", "y")),
    "units": UnitCount(1, 2),
    "sum": RowSum(0, 1, ("x",)),
    "product": RowSum(2, 3, ("x", "y")),
    "square": RowSum(0, 1, ("x", "x"), 2**61),
    "triple": RowSum(0, 1, ("x", "y", "x"), -7, ("bin",)),
    "sum of nothing": RowSum(0, 1, (), 5, ("y",)),
    "plain count": RowSum(0, 1),
    "unit total": UnitTotal(0, 1, "x", -5, 2**52),
    "positive unit total": UnitTotal(3, 2, "y", 2, 9),
    "unit sizes": UnitSizes(1, 5, 3),
    "bins": BinCount(0, 3, "bin", 3),
    "merged bins": BinCount(1, 2, "bin", 2, 3),
    "l1": VectorSum(0, 2, ("y", "z"), "l1", 1000),
    "l2": VectorSum(4, 3, ("y", "z", "y"), "l2", 3),
    "linf": VectorSum(0, 2, ("z", "y"), "linf", 2),
    "no vector": VectorSum(0, 2, ("z", "y"), "l2", 0),
    "distinct": DistinctItems(0, 1, "x"),
    "distinct bins": DistinctItems(7, 2, "bin"),
    "truncated": TruncatedUnits(0, 2),
}
UNBOUNDED = ContributionBounds(MAX_BOUND, MAX_BOUND)

small = st.integers(1, 3)
any_bounds = st.one_of(
    st.builds(ContributionBounds, max_groups=small, max_rows=small),
    st.builds(ContributionBounds, max_total_rows=small),
    st.builds(ContributionBounds, max_groups=small, max_total_rows=small),
    st.builds(ContributionBounds, max_groups=small),
)
maybe_extreme = st.none() | st.sampled_from(EXTREMES) | st.integers(-3, 3)
coordinate = st.none() | st.sampled_from([-REACH, REACH, -1, 0]) | st.integers(-REACH, REACH)
one_row = st.tuples(
    st.integers(0, 3), st.integers(0, GROUPS - 1), st.none() | st.integers(-1, 6), maybe_extreme, coordinate, coordinate
)
any_rows = st.lists(one_row, max_size=25).map(
    lambda drawn: [Row(row[0], mix(row[0]), row[1], tuple(zip(NAMES, row[2:], strict=True))) for row in drawn]
)


def columns_of(rows: list[Row], *, masks_always: bool) -> dict[str, Column]:
    columns = {}
    for index, name in enumerate(NAMES):
        values = [row.values[index][1] for row in rows]
        valid = np.array([value is not None for value in values], np.bool_)
        mask = None if valid.all() and not masks_always else valid
        columns[name] = Column(np.array([value or 0 for value in values], np.int64), mask)
    return columns


def alive(rows: list[Row], bounds: ContributionBounds, *, masks_always: bool = False) -> Surviving:
    part = UnitRows(
        np.array([row.unit for row in rows], np.int64),
        np.array([row.unit_hash for row in rows], np.uint64),
        np.array([row.group for row in rows], np.int64),
        columns_of(rows, masks_always=masks_always),
    )
    return surviving(part, survivors(part, bounds))


def cells_of(rows: Surviving, *rules: CellRule) -> dict[int, int]:
    return add_up(partial_sums(rows, rules), partial_items(rows, rules))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@given(any_rows, any_bounds, st.booleans())
def test_cells_are_those_of_the_twin(
    rule: CellRule, rows: list[Row], bounds: ContributionBounds, masks_always: bool
) -> None:
    assert cells_of(alive(rows, bounds, masks_always=masks_always), rule) == reference_cells(rows, [rule], bounds)


@given(any_rows, any_bounds)
def test_rules_beside_one_another_do_not_disturb_each_other(rows: list[Row], bounds: ContributionBounds) -> None:
    """A column is taken once for all rules; none may change it for the next."""
    rules = [replace(rule, offset=rule.offset + 100 * place) for place, rule in enumerate(RULES.values())]
    assert cells_of(alive(rows, bounds), *rules) == reference_cells(rows, rules, bounds)


@given(any_rows)
def test_rows_that_are_units_all_count(rows: list[Row]) -> None:
    columns = columns_of(rows, masks_always=False)
    every = every_row_survives(np.array([row.group for row in rows], np.int64), columns)
    apart = [row._replace(unit=number) for number, row in enumerate(rows)]
    rules = [replace(rule, offset=rule.offset + 100 * place) for place, rule in enumerate(RULES.values())]
    assert cells_of(every, *rules) == plain_cells(apart, rules)


@given(any_rows, any_bounds.filter(lambda bounds: bounds.max_rows or bounds.max_total_rows))
@settings(max_examples=50)
def test_one_unit_changes_no_more_than_the_bounds(rows: list[Row], bounds: ContributionBounds) -> None:
    clamped = [
        row._replace(values=tuple((name, None if v is None else max(-9, min(v, 9))) for name, v in row.values))
        for row in rows
    ]
    rules = [
        replace(rule, offset=100 * place, **({"minus": 3} if isinstance(rule, RowSum) else {}))
        for place, rule in enumerate(RULES.values())
    ]
    everyone = cells_of(alive(clamped, bounds), *rules)
    for unit in {row.unit for row in rows}:
        others = cells_of(alive([row for row in clamped if row.unit != unit], bounds), *rules)
        assert_sensitivity(everyone, others, rules, bounds, groups=GROUPS, largest=9)


@pytest.mark.parametrize(
    ("rule", "fault", "bound"),
    [
        (VectorSum(0, 2, ("x", "y"), "l2", 3), VectorSum(0, 2, ("x", "y"), "l2", 9), "Linf"),
        (UnitTotal(0, 1, "x", -3, 3), RowSum(0, 1, ("x",)), "Linf"),
        (DistinctItems(0, 1, "x"), RowSum(0, 1, ("x",)), "Linf"),
        (UnitSizes(0, 3, 3), RowCount(0, 3), "Linf"),
    ],
    ids=["vectors that are not shrunk", "totals that are not clamped", "items that are added", "rows for units"],
)
def test_the_law_catches_rules_that_add_too_much(rule: CellRule, fault: CellRule, bound: str) -> None:
    rows = [Row(1, mix(1), 0, (("bin", 0), ("x", 9), ("y", 9), ("z", 9)))] * 2
    bounds = ContributionBounds(max_groups=1, max_rows=2)
    assert_sensitivity(cells_of(alive(rows, bounds), rule), {}, [rule], bounds, groups=GROUPS, largest=9)
    with pytest.raises(AssertionError, match=bound):
        assert_sensitivity(cells_of(alive(rows, bounds), fault), {}, [rule], bounds, groups=GROUPS, largest=9)


def test_sums_of_one_unit_are_clamped_wherever_they_wrap() -> None:
    """A hundred times 2^63 - 1 is -100 modulo 2^64, and two times -(2^63) is nothing."""
    rule = UnitTotal(0, 1, "x", -10, 10)
    for value, times, total in [(2**63 - 1, 100, 10), (-(2**63), 2, -10), (-(2**63), 3, -10), (2**62, 4, 10)]:
        rows = [Row(1, mix(1), 0, tuple((name, value) for name in NAMES))] * times
        assert cells_of(alive(rows, UNBOUNDED), rule) == {0: total % 2**64}


def test_items_of_different_partitions_are_counted_once() -> None:
    def named(values: list[int]) -> Surviving:
        return alive([Row(1, mix(1), 0, tuple((name, value) for name in NAMES)) for value in values], UNBOUNDED)

    rule = DistinctItems(0, 1, "x")
    pairs = [pair for values in ([1, 1, 2], [2, 3]) for pair in partial_items(named(values), [rule])]
    assert [len(cells) for cells, _ in pairs] == [2, 2]
    assert add_up([], pairs) == {0: 3}
    assert list(partial_sums(named([1]), [rule])) == [], "items are no sums"
