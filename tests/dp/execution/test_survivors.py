"""The numpy kernel of contribution bounding against its plain Python twin, and the law that a price rests on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from dp.execution.partials import partial_sums, surviving
from dp.execution.survivors import UnitRows, _order_within, group_draw, mix64, shares, survivors
from dp.planning.bounds import MAX_BOUND, ContributionBounds
from dp.planning.cells import BinCount, Column, RowCount, RowSum, UnitCount
from tests.tools.bounding import (
    Row,
    add_up,
    assert_sensitivity,
    group_lot,
    mix,
    plain_cells,
    reference_cells,
    reference_survivors,
)

GROUPS, BINS, LARGEST = 5, 3, 7
EXTREMES = (-(2**63), 2**63 - 1, -1, 0, 1, 2**62)
RULES = (
    RowCount(0, 1),
    RowCount(5, 1, ("x",)),
    UnitCount(10, 1),
    RowSum(15, 1, ("x",)),
    BinCount(20, BINS, "bin", BINS),
)
UNBOUNDED = ContributionBounds(MAX_BOUND, MAX_BOUND)
HASHES = {
    "spread": mix,
    "all equal": lambda unit: 42,  # every unit collides with every other
    "equal prefixes": lambda unit: (42 << 27) | mix(unit) >> 37,  # only the bits that a sort key leaves out differ
}

small = st.integers(1, 3)
bounds_strategy = st.one_of(
    st.builds(ContributionBounds, max_groups=small, max_rows=small),
    st.builds(ContributionBounds, max_total_rows=small),
    st.builds(ContributionBounds, max_groups=small, max_total_rows=small),
)


def rows_strategy(values):
    row = st.tuples(
        st.integers(0, 4), st.integers(0, GROUPS - 1), st.none() | values, st.none() | st.integers(-1, BINS)
    )
    hashes = st.sampled_from(sorted(HASHES))
    return st.tuples(st.lists(row, max_size=40), hashes).map(
        lambda drawn: [
            Row(unit, HASHES[drawn[1]](unit), group, (("bin", bin_), ("x", x))) for unit, group, x, bin_ in drawn[0]
        ]
    )


any_rows = rows_strategy(st.sampled_from(EXTREMES))
clamped_rows = rows_strategy(st.integers(-LARGEST, LARGEST))


def as_part(rows, *, masks_always=False):
    columns = {}
    for index, name in enumerate(("bin", "x")):
        values = [row.values[index][1] for row in rows]
        valid = np.array([value is not None for value in values], np.bool_)
        mask = None if valid.all() and not masks_always else valid
        columns[name] = Column(np.array([value or 0 for value in values], np.int64), mask)
    return UnitRows(
        np.array([row.unit for row in rows], np.int64),
        np.array([row.unit_hash for row in rows], np.uint64),
        np.array([row.group for row in rows], np.int64),
        columns,
    )


def kernel_survivors(rows, bounds):
    return Counter(rows[index] for index in survivors(as_part(rows), bounds).rows)


def kernel_cells(rows, bounds, rules=RULES):
    return cells_of_part(as_part(rows), bounds, rules)


def cells_of_part(part, bounds, rules=RULES):
    return add_up(partial_sums(surviving(part, survivors(part, bounds)), rules))


@given(any_rows, bounds_strategy)
def test_survivors_are_those_of_the_twin(rows, bounds):
    assert kernel_survivors(rows, bounds) == Counter(reference_survivors(rows, bounds))


@given(any_rows, bounds_strategy)
def test_cells_are_those_of_the_twin(rows, bounds):
    assert kernel_cells(rows, bounds) == reference_cells(rows, RULES, bounds)


@given(any_rows, bounds_strategy)
def test_bounds_hold_for_every_unit_and_survivors_are_a_subset(rows, bounds):
    alive = kernel_survivors(rows, bounds)
    assert alive <= Counter(rows)
    by_run = Counter()
    for row, times in alive.items():
        by_run[row.unit, row.group] += times
    for unit in {row.unit for row in rows}:
        runs = [times for (owner, _), times in by_run.items() if owner == unit]
        assert len(runs) <= bounds.groups
        assert max(runs, default=0) <= bounds.rows_per_group
        assert sum(runs) <= bounds.rows
        assert runs, "a unit never vanishes altogether"


@given(any_rows, st.randoms(use_true_random=False), bounds_strategy)
def test_row_order_and_masks_are_irrelevant(rows, random, bounds):
    shuffled = random.sample(rows, len(rows))
    part = as_part(shuffled, masks_always=True)
    assert kernel_cells(rows, bounds) == cells_of_part(part, bounds)


@given(any_rows)
def test_within_the_bounds_it_is_plain_aggregation_with_wrap_around(rows):
    assert kernel_cells(rows, UNBOUNDED) == plain_cells(rows, RULES)


@given(clamped_rows, bounds_strategy)
def test_one_unit_changes_no_more_than_the_bounds(rows, bounds):
    everyone = kernel_cells(rows, bounds)
    for unit in {row.unit for row in rows}:
        others = kernel_cells([row for row in rows if row.unit != unit], bounds)
        assert_sensitivity(everyone, others, RULES, bounds, groups=GROUPS, largest=LARGEST)


@pytest.mark.parametrize(
    ("groups", "repeats", "bound"),
    [(1, 3, "Linf"), (3, 1, "L0")],
)
def test_the_law_catches_a_kernel_that_does_not_bound(groups, repeats, bound):
    claimed = ContributionBounds(max_groups=2, max_rows=2)
    rows = [Row(1, mix(1), group, (("bin", 0), ("x", 1))) for group in range(groups)] * repeats
    with pytest.raises(AssertionError, match=bound):
        assert_sensitivity(kernel_cells(rows, UNBOUNDED), {}, [RowCount(0, 1)], claimed, groups=GROUPS, largest=LARGEST)


def test_the_law_catches_a_total_that_is_not_bounded():
    claimed = ContributionBounds(max_total_rows=3)
    rows = [Row(1, mix(1), group, (("bin", 0), ("x", 1))) for group in range(2)] * 2
    with pytest.raises(AssertionError, match="L1"):
        assert_sensitivity(kernel_cells(rows, UNBOUNDED), {}, RULES[:1], claimed, groups=GROUPS, largest=LARGEST)


@given(st.integers(0, 2**64 - 1))
def test_mix_is_splitmix(word):
    assert int(mix64(np.array([word], np.uint64))[0]) == mix(word)


def test_groups_whose_lots_share_a_sort_key_are_told_apart():
    groups = np.arange(200_000)
    lots = group_draw(np.zeros(len(groups), np.uint64), groups)
    order = np.argsort(lots)
    twins = np.flatnonzero(np.diff(lots[order] >> np.uint64(37)) == 0)
    assert len(twins), "200,000 groups hold about 150 pairs that share 27 bits"
    first, second = (int(groups[order[twins[0] + step]]) for step in (0, 1))
    rows = [Row(1, 0, group, (("bin", 0), ("x", index))) for index, group in enumerate([second, first] * 4)]
    bounds = ContributionBounds(max_groups=1, max_rows=8)
    assert group_lot(0, first) < group_lot(0, second)
    assert kernel_survivors(rows, bounds) == Counter(row for row in rows if row.group == first)


def test_keys_that_differ_only_in_the_dropped_bits_are_sorted_exactly():
    run = np.array([0, 0, 0, 1, 1, 1])
    key = np.array([7, 6, 7, 5, 5, 4], np.uint64)
    tie = np.array([1, 0, 0, 1, 0, 0])
    assert _order_within(run, key, [tie]).tolist() == [1, 2, 0, 5, 4, 3]


def many_rows(hash_bits, *, units, groups, count=50_000):
    """Rows of units whose hashes have only so many bits: the fewer, the more of them collide."""
    random = np.random.default_rng(count)
    unit, group = random.integers(0, units, count), random.integers(0, groups, count)
    dropped = np.uint64(64 - hash_bits)
    unit_hash = mix64(unit.view(np.uint64)) >> dropped << dropped
    return UnitRows(unit, unit_hash, group, {"x": Column(random.integers(0, 3, count))})


@pytest.mark.parametrize("hash_bits", [64, 30, 12])
@pytest.mark.parametrize(("units", "groups"), [(5_000, 1_000), (50_000, 3), (7, 40_000)])
def test_of_many_rows_those_in_the_groups_with_the_lowest_lots_survive(hash_bits, units, groups):
    """So many that their numbers leave a sort key too few bits to tell all lots and units apart."""
    part = many_rows(hash_bits, units=units, groups=groups)
    lot = group_draw(part.unit_hash, part.group)
    order = np.lexsort((part.group, lot, part.unit))
    unit, group = part.unit[order], part.group[order]
    run = np.cumsum(np.diff(unit, prepend=-1).astype(bool) | np.diff(group, prepend=-1).astype(bool))
    first_run = run[np.searchsorted(unit, unit)]
    expected = order[run - first_run < 2]
    alive = survivors(part, ContributionBounds(max_groups=2))
    assert sorted(alive.rows.tolist()) == sorted(expected.tolist())
    assert alive.units == len(np.unique(part.unit))
    lost = np.setdiff1d(order, expected)
    assert alive.truncated_units == len(np.unique(part.unit[lost]))


@pytest.mark.parametrize("hash_bits", [64, 12])
@pytest.mark.parametrize("bounds", [ContributionBounds(2, 2), ContributionBounds(max_total_rows=3)])
def test_shares_hold_whole_units_and_change_no_result(hash_bits, bounds):
    part = many_rows(hash_bits, units=5_000, groups=50)
    parts = list(shares(part, rows=4_000))
    units = [set(some.unit.tolist()) for some in parts]
    assert sum(map(len, units)) == len(set.union(*units)) == len(np.unique(part.unit))
    assert sum(len(some.unit) for some in parts) == len(part.unit)
    if hash_bits == 64:
        assert max(len(some.unit) for some in parts) < 8_000
    rules = (RowCount(0, 1), UnitCount(50, 1), RowSum(100, 1, ("x",)))
    together = add_up(pair for some in parts for pair in partial_sums(surviving(some, survivors(some, bounds)), rules))
    assert together == cells_of_part(part, bounds, rules)


def test_few_rows_are_one_share():
    part = many_rows(64, units=10, groups=3, count=100)
    assert list(shares(part, rows=101)) == [part]
    assert sum(len(some.unit) for some in shares(part, rows=1)) == 100


def test_a_frequent_value_survives_in_proportion():
    """Of 99 equal rows and one other, one survives: the other one in about 1% of units, not in half of them.

    False-alarm rate: 4,000 units at 1% give 40 +- 6.3; the interval is five standard deviations wide.
    """
    units = np.repeat(np.arange(4000), 100)
    value = np.tile(np.array([1] + [0] * 99), 4000)
    part = UnitRows(units, mix64(units.view(np.uint64)), np.zeros(len(units), np.int64), {"x": Column(value)})
    alive = survivors(part, ContributionBounds(max_groups=1, max_rows=1))
    rare = int(value[alive.rows].sum())
    assert len(alive.rows) == 4000
    assert 40 - 32 < rare < 40 + 32


def test_the_lots_of_groups_are_fair():
    """10,000 units choose one of 10 groups; chi-square with 9 degrees of freedom, false-alarm rate 1e-6."""
    units, groups = np.repeat(np.arange(10_000), 10), np.tile(np.arange(10), 10_000)
    part = UnitRows(units, mix64(units.view(np.uint64)), groups, {})
    chosen = np.bincount(survivors(part, ContributionBounds(1, 1)).group, minlength=10)
    assert chosen.sum() == 10_000
    assert ((chosen - 1000) ** 2 / 1000).sum() < chi2(9).isf(1e-6)


def test_few_rows_in_a_long_vector_need_no_long_table():
    part = UnitRows(*(np.array([1, 2]), np.array([1, 2], np.uint64), np.array([0, 2**40])), {})
    assert kernel_cells([], UNBOUNDED) == {}
    found = cells_of_part(part, UNBOUNDED, [RowCount(3, 1)])
    assert found == {3: 1, 3 + 2**40: 1}
