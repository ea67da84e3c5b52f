"""Bounds that are chosen from noisy counts: laws of the choice, and how often noise alone is taken for data.

Statistical tests have fixed seeds; the false-alarm rate of each acceptance region is 1e-6.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dp.execution.partials import partial_sums
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.auto import SIZE_BINS, BoundsNotFound, chosen_clamp, chosen_rows, clamp_edges
from dp.planning.bin_measures import Bins
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import Surviving, UnitSizes
from dp.planning.counts import UnitSizeHistogram
from dp.planning.fixed_point import FixedPoint
from dp.planning.measures import Sensitivity, Sizes
from dp.planning.plan import make_plan
from dp.planning.tree import Tree
from spark_mpc import dp
from tests.tools.bounding import MODULUS, Row, add_up, plain_cells
from tests.tools.entropy import seeded_random
from tests.tools.plans import paper_query

FALSE_ALARM = 1e-6
STATED = 0.001
"""How often, over all bins of one choice, noise alone may stand out."""

QUIET = 1e-9
"""The standard deviation of noise that hides nothing."""

EDGES = clamp_edges(integral=True)
bins_of_units = st.lists(st.integers(0, 10**4), min_size=SIZE_BINS, max_size=SIZE_BINS).map(
    lambda counts: np.array(counts, np.int64)
)


@pytest.mark.parametrize("integral", [True, False])
def test_edges_are_public_zero_and_powers_of_two_of_either_sign(integral: bool) -> None:
    edges = clamp_edges(integral=integral)
    assert edges == clamp_edges(integral=integral)
    assert all(low < high for low, high in pairwise(edges))
    assert edges == tuple(-edge for edge in reversed(edges))
    assert [edge for edge in edges if edge > 0] == [
        Fraction(2) ** k for k in (range(52) if integral else range(-20, 41))
    ]
    assert 0 in edges


@pytest.mark.parametrize("integral", [True, False])
def test_every_pair_of_edges_is_a_clamp_that_sums_and_quantiles_take(integral: bool) -> None:
    edges = clamp_edges(integral=integral)
    for lower, upper in [*pairwise(edges), (edges[0], edges[-1]), (edges[0], edges[1]), (edges[-2], edges[-1])]:
        FixedPoint.plan(lower, upper, integral=integral, centred=True)
        Tree.plan(lower, upper, integral=integral, groups=1)
    Bins("v", edges, integral)


@given(st.lists(st.integers(0, 10**6), min_size=len(EDGES) - 1, max_size=len(EDGES) - 1), st.floats(1e-3, 1e5))
def test_a_clamp_is_the_edges_around_what_stands_out(counts: list[int], stddev: float) -> None:
    needed = stddev / math.sqrt(2) * math.log(len(counts) / STATED)
    found = [index for index, count in enumerate(counts) if count > needed]
    if not found:
        with pytest.raises(BoundsNotFound, match="'cost': no values stand out from noise; give bounds, or more"):
            chosen_clamp(np.array(counts), EDGES, stddev, "cost")
    else:
        clamp = chosen_clamp(np.array(counts), EDGES, stddev, "cost")
        assert clamp == (EDGES[found[0]], EDGES[found[-1] + 1])


@given(
    st.lists(st.integers(-10, 1000), min_size=len(EDGES) - 1, max_size=len(EDGES) - 1),
    st.integers(0, len(EDGES) - 2),
    st.integers(1, 1000),
    st.floats(0.1, 50),
    st.floats(1, 3),
)
def test_more_rows_never_narrow_a_clamp_and_more_noise_never_widens_one(
    counts: list[int], place: int, rows: int, stddev: float, factor: float
) -> None:
    assume(max(counts) > stddev * factor / math.sqrt(2) * math.log(len(counts) / STATED))
    lower, upper = chosen_clamp(np.array(counts), EDGES, stddev, "v")
    more = np.array(counts)
    more[place] += rows
    wide = chosen_clamp(more, EDGES, stddev, "v")
    assert wide[0] <= lower
    assert wide[1] >= upper
    narrow = chosen_clamp(np.array(counts), EDGES, stddev * factor, "v")
    assert lower <= narrow[0] < narrow[1] <= upper


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=20))
def test_without_noise_a_clamp_holds_all_values_and_is_at_most_twice_too_wide(values: list[int]) -> None:
    index = np.searchsorted(np.array([int(edge) for edge in EDGES]), values, side="right") - 1
    counts = np.bincount(index, minlength=len(EDGES) - 1)
    lower, upper = chosen_clamp(counts, EDGES, QUIET, "v")
    assert lower <= min(values)
    assert max(values) < upper
    assert upper <= max(2 * max(values), 1) or max(values) < 0
    assert lower >= 2 * min(values) - 1 or min(values) >= 0


@pytest.mark.parametrize("stddev", [QUIET, 1.0, 1e6])
def test_without_data_no_bounds_are_found(stddev: float) -> None:
    with pytest.raises(BoundsNotFound, match="bounds of 'cost'"):
        chosen_clamp(np.zeros(len(EDGES) - 1, np.int64), EDGES, stddev, "cost")
    with pytest.raises(BoundsNotFound, match="max_total_rows: no units stand out"):
        chosen_rows(np.zeros(SIZE_BINS, np.int64), stddev, 10, 1.0)


def in_plain_python(units: list[int], groups: int | None, epsilon: Fraction) -> int:
    """The choice among powers of two, in fractions."""
    middles = [Fraction(3 * 2**i - 1, 2) for i in range(len(units))]

    def dropped(rows: int) -> Fraction:
        lost = (count * (middle - rows) for middle, count in zip(middles, units, strict=True) if middle > rows)
        return sum(lost, Fraction(0))

    candidates = [1 << i for i in range(len(units) + 1)]
    if groups is None:
        everything = sum(middle * count for middle, count in zip(middles, units, strict=True))
        return next(rows for rows in candidates if dropped(rows) <= everything / 50)
    return min(candidates, key=lambda rows: (dropped(rows) / groups + rows / epsilon, rows))


@given(bins_of_units, st.none() | st.integers(1, 1000), st.sampled_from(["1/8", "1/2", "1", "4"]))
def test_rows_are_those_of_the_least_expected_error(units: NDArray[np.int64], groups: int | None, epsilon: str) -> None:
    assume(units.any())
    found = chosen_rows(units, QUIET, groups, float(Fraction(epsilon)))
    assert found == in_plain_python(units.tolist(), groups, Fraction(epsilon))


@given(bins_of_units, st.integers(1, 100), st.integers(1, 100), st.floats(0.1, 10), st.floats(1, 100))
def test_the_choice_of_rows_is_monotone(
    units: NDArray[np.int64], groups: int, more: int, epsilon: float, factor: float
) -> None:
    """More budget, fewer groups, or a busier unit never narrow the bound: noise matters less, or rows more."""
    assume(units.any())
    found = chosen_rows(units, QUIET, groups, epsilon)
    assert chosen_rows(units, QUIET, groups, epsilon * factor) >= found
    assert chosen_rows(units, QUIET, groups + more, epsilon) <= found
    busier = units.copy()
    busier[-1] += more
    assert chosen_rows(busier, QUIET, groups, epsilon) >= found
    assert found in [2**i for i in range(SIZE_BINS + 1)]


def test_bins_below_the_noise_have_no_say() -> None:
    units = np.zeros(SIZE_BINS, np.int64)
    units[2] = 100_000
    few = units.copy()
    few[-1] = 100  # of 8 million rows each
    assert chosen_rows(units, 20.0, 5, 1.0) == chosen_rows(few, 20.0, 5, 1.0) == 8
    assert chosen_rows(few, QUIET, 5, 1.0) > 10**6, "without the noise they would have"


NOISES: dict[str, DiscreteLaplace | DiscreteGaussian] = {
    "laplace": DiscreteLaplace(Fraction(40)),
    "gaussian": DiscreteGaussian(Fraction(3200)),
}
RUNS = 20_000


def alarms(noise: DiscreteLaplace | DiscreteGaussian, stddev: float, bins: int, seed: str) -> int:
    """In how many of RUNS choices on no data something was found."""
    drawn = noise.sample(RUNS * bins, seeded_random(f"alarms {seed}")).reshape(RUNS, bins)
    found = 0
    for counts in drawn:
        try:
            if bins == SIZE_BINS:
                chosen_rows(counts, stddev, 10, 1.0)
            else:
                chosen_clamp(counts, range(bins + 1), stddev, "v")  # type: ignore[arg-type]
        except BoundsNotFound:
            continue
        found += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bins", [SIZE_BINS, len(EDGES) - 1])
@pytest.mark.parametrize("family", NOISES)
def test_noise_alone_stands_out_as_rarely_as_stated(family: str, bins: int) -> None:
    noise = NOISES[family]
    assert alarms(noise, noise.stddev, bins, f"{family} {bins}") <= stats.binom.isf(FALSE_ALARM, RUNS, STATED)


@pytest.mark.slow
@pytest.mark.parametrize("bins", [SIZE_BINS, len(EDGES) - 1])
def test_noise_that_is_wider_than_declared_stands_out(bins: int) -> None:
    wider = DiscreteLaplace(Fraction(60))
    found = alarms(wider, NOISES["laplace"].stddev, bins, f"wide {bins}")
    assert found > stats.binom.isf(FALSE_ALARM, RUNS, STATED)


@pytest.mark.slow
def test_one_unit_hardly_ever_changes_what_is_chosen() -> None:
    """With the same noise: it has to lift a bin over the threshold alone, and noise must bring that bin close."""
    scale = 20  # of counts that one unit moves by one
    noise, random = DiscreteLaplace(Fraction(scale)), seeded_random("one unit")
    units = np.zeros(SIZE_BINS, np.int64)
    units[:4] = [50_000, 20_000, 8_000, 2_000]
    outlier = units.copy()
    outlier[16] += 1  # a unit of 10^5 rows
    rows = np.zeros(len(EDGES) - 1, np.int64)
    rows[60:66] = 10_000
    far = rows.copy()
    far[92] += 1  # the one row of a unit that counts, with a value of 10^12
    changed = 0
    for _ in range(RUNS // 4):
        drawn = noise.sample(SIZE_BINS, random)
        sizes = [chosen_rows(some + drawn, noise.stddev, 10, 1.0) for some in (units, outlier)]
        drawn = noise.sample(len(rows), random)
        clamps = [chosen_clamp(some + drawn, EDGES, noise.stddev, "v") for some in (rows, far)]
        changed += sizes[0] != sizes[1] or clamps[0] != clamps[1]
    assert changed <= stats.binom.isf(FALSE_ALARM, RUNS // 4, STATED)
    unbounded = chosen_clamp(np.where(far > rows, 10**5, rows), EDGES, noise.stddev, "v")
    assert unbounded != chosen_clamp(rows, EDGES, noise.stddev, "v"), "without a bound on rows it would"


def cells_of(rows: list[tuple[int, int]], bins: int) -> dict[int, int]:
    """Cells of (unit, group) rows by the real rule."""
    pairs = sorted(rows)
    runs = list(dict.fromkeys(pairs))
    group = np.array([group for _, group in pairs], np.int64)
    run_group = np.array([group for _, group in runs], np.int64)
    run = np.array([runs.index(pair) for pair in pairs], np.int64)
    alive = Surviving(np.arange(len(pairs)), group, run_group, run, {}, units=len(runs), truncated_units=0)
    return add_up(partial_sums(alive, (UnitSizes(2, bins, bins),)))


rows_of_units = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=60)


@given(rows_of_units, st.integers(1, 7))
def test_units_are_counted_by_their_sizes(rows: list[tuple[int, int]], bins: int) -> None:
    expected: Counter[int] = Counter()
    for (_, group), size in Counter(rows).items():
        (place,) = [i for i in range(bins) if 2**i <= size and (size < 2 ** (i + 1) or i == bins - 1)]
        expected[2 + group * bins + place] += 1
    found = cells_of(rows, bins)
    assert found == dict(expected)
    assert found == plain_cells([Row(unit, unit, group, ()) for unit, group in rows], [UnitSizes(2, bins, bins)])


@given(rows_of_units, st.integers(1, 3000), st.integers(1, 7))
def test_a_unit_moves_one_bin_of_each_of_its_groups_by_one(others: list[tuple[int, int]], size: int, bins: int) -> None:
    with_unit, without = cells_of([*others, *[(99, 1)] * size], bins), cells_of(others, bins)
    changes = {cell: (with_unit.get(cell, 0) - without.get(cell, 0)) % MODULUS for cell in with_unit | without}
    assert sorted(changes.values())[-1] == sum(changes.values()) == 1
    assert Sizes(bins).sensitivity(ContributionBounds(max_groups=1)) == Sensitivity(1, 1)


def test_the_first_question_needs_no_bound_on_rows() -> None:
    """Its price rests on one unit in one group, whatever a unit has."""
    asked = UnitSizeHistogram(name="sizes", bins=SIZE_BINS)
    plan = make_plan(paper_query([asked], bounds=ContributionBounds(max_groups=1)), dp.PureDP("1/10"))
    (part,) = plan.parts
    assert (part.sensitivity.l1, part.sensitivity.l2_squared, part.cells) == (1, 1, SIZE_BINS)
    assert isinstance(part.mechanism, DiscreteLaplace)
    assert part.mechanism.scale >= 10
