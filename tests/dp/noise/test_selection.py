"""Selections: every inequality of the guarantee in exact arithmetic, thresholds that cannot be lower, refusals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.accounting.selections import gaussian_threshold, laplace_threshold
from dp.errors import InvalidArgument
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.noise.selection import MAX_TABLE, Selection, TruncatedGeometric
from dp.noise.thresholds import GaussianThreshold, LaplaceThreshold
from tests.tools.entropy import seeded_random

HUNDRED_DIGITS = Context(prec=100)
GRID = 1 << 64

Threshold = LaplaceThreshold | GaussianThreshold

epsilons = st.fractions(Fraction(1, 20), 8, max_denominator=1000)
deltas = st.builds(lambda digits, m: Fraction(m, 10**digits), st.integers(1, 14), st.integers(1, 9))
groups = st.integers(1, 6)
sizes = st.integers(1, 4)


def exponential(value: Fraction, *, margin: int) -> Fraction:
    """e^value within a relative 1e-90, moved by `margin` times as much."""
    ratio = HUNDRED_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    return Fraction(HUNDRED_DIGITS.exp(ratio)) * (1 + Fraction(margin, 10**90))


def kept_exactly(selection: TruncatedGeometric) -> list[Fraction]:
    """Keep probabilities as the sampler uses them, followed by a few certain ones."""
    return [Fraction(int(word), GRID) for word in selection._table] + [Fraction(1)] * (selection.group_size + 2)


def violations(kept: list[Fraction], epsilon: Fraction, delta: Fraction, apart: int = 1) -> int:
    """How many of the inequalities of (epsilon, delta) fail between counts that lie `apart`."""
    rate = exponential(epsilon, margin=-1)
    pairs = [pair for p, q in zip(kept, kept[apart:], strict=False) for pair in ((p, q), (q, p))]
    outcomes = [(p, q) for p, q in pairs] + [(1 - p, 1 - q) for p, q in pairs]
    return sum(p > rate * q + delta for p, q in outcomes)


@settings(deadline=None, max_examples=60)
@given(epsilons, deltas, groups)
def test_every_inequality_holds_for_every_count(epsilon: Fraction, delta: Fraction, max_groups: int) -> None:
    selection = TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=max_groups)
    assert violations(kept_exactly(selection), epsilon / max_groups, delta / max_groups) == 0


@settings(deadline=None, max_examples=15)
@given(epsilons, deltas, groups, sizes)
def test_units_protected_together_stay_within_the_budget(
    epsilon: Fraction, delta: Fraction, max_groups: int, group_size: int
) -> None:
    selection = TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=max_groups, group_size=group_size)
    # c of the k units in a group may cost c / k of a group's share: such costs add up to the budget wherever units are
    for joined in range(1, group_size + 1):
        share = Fraction(joined, group_size * max_groups)
        assert violations(kept_exactly(selection), epsilon * share, delta * share, joined) == 0


@settings(deadline=None, max_examples=30)
@given(epsilons, deltas)
def test_one_step_of_the_grid_more_breaks_an_inequality(epsilon: Fraction, delta: Fraction) -> None:
    kept = kept_exactly(TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=1))
    more = [kept[0]] + [min(p + Fraction(1, GRID), Fraction(1)) for p in kept[1:]]
    assert violations(more, epsilon, delta) > 0


@settings(deadline=None, max_examples=30)
@given(epsilons, deltas)
def test_the_recursion_loses_next_to_nothing(epsilon: Fraction, delta: Fraction) -> None:
    kept = kept_exactly(TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=1))
    rate, ideal = exponential(epsilon, margin=0), Fraction(0)
    for n in range(min(len(kept) - 3, 60)):
        ideal = min(rate * ideal + delta, 1 - (1 - ideal - delta) / rate, Fraction(1))
        assert kept[n + 1] <= ideal <= kept[n + 1] + 3 * (n + 1) * rate ** (n + 1) / GRID


def test_the_table_is_the_source_s_formula() -> None:
    epsilon, delta = 0.5, 1e-5
    selection = TruncatedGeometric(epsilon=Fraction(1, 2), delta=Fraction(1, 10**5), max_groups=1)
    crossover = 1 + math.floor(
        math.log((math.exp(epsilon) + 2 * delta - 1) / (delta * (math.exp(epsilon) + 1))) / epsilon
    )
    for n in range(1, crossover + 1):
        assert selection.keep_probability(n) == pytest.approx(delta * math.expm1(n * epsilon) / math.expm1(epsilon))
    at_crossover = selection.keep_probability(crossover)
    for m in range(1, 60):
        decay = math.exp(-m * epsilon)
        expected = (1 - decay) * (1 + delta / math.expm1(epsilon)) + decay * at_crossover
        assert selection.keep_probability(crossover + m) == pytest.approx(min(expected, 1.0))


def test_a_word_is_compared_strictly_and_certain_groups_need_none() -> None:
    selection = TruncatedGeometric(**{**SHARED, "max_groups": 1})
    word = int(selection._table[3])
    asked: list[int] = []

    def source(words_drawn: list[int]) -> RandomSource:
        return lambda count: asked.append(count) or np.array(words_drawn, "<u8").tobytes()  # type: ignore[func-returns-value]

    counts = np.array([3, 0, 3, 10**6])
    assert selection.keep(counts, source([word - 1, word])).tolist() == [True, False, False, True]
    assert asked == [16]  # a word for each group whose fate is open


# thresholds


def laplace_tail_exactly(scale: Fraction, point: int, *, margin: int) -> Fraction:
    """P(X >= point), within a relative 1e-88."""
    return exponential(-point / scale, margin=margin) / (1 + exponential(-1 / scale, margin=-margin))


@settings(deadline=None, max_examples=60)
@given(epsilons, st.fractions(Fraction(1, 10**14), Fraction(1, 10)), groups, sizes)
def test_the_mass_at_the_laplace_threshold_counts(
    epsilon: Fraction, delta: Fraction, max_groups: int, group_size: int
) -> None:
    selection = laplace_threshold(epsilon=epsilon, delta=delta, max_groups=max_groups, group_size=group_size)
    named, scale = max_groups * group_size, selection.noise.scale
    point = selection.threshold - group_size
    assert selection.epsilon <= epsilon
    assert named * laplace_tail_exactly(scale, point, margin=2) <= delta
    if point > 1:  # a threshold that is lower by one would be too low
        assert named * laplace_tail_exactly(scale, point - 1, margin=-2) > delta


def gaussian_weights(variance: float) -> NDArray[np.float64]:
    """P(X >= x) for x = 0, 1, ..., by direct summation of positive terms."""
    reach = math.ceil(30 * math.sqrt(variance)) + 2
    weights = np.exp(-(np.arange(reach) ** 2) / (2 * variance))
    return np.asarray(np.cumsum(weights[::-1])[::-1] / (2 * weights.sum() - 1))


@settings(deadline=None, max_examples=60)
@given(epsilons, st.fractions(Fraction(1, 10**12), Fraction(1, 20)), groups, sizes)
def test_the_mass_at_the_gaussian_threshold_counts(
    epsilon: Fraction, delta: Fraction, max_groups: int, group_size: int
) -> None:
    selection = gaussian_threshold(epsilon=epsilon, delta=delta, max_groups=max_groups, group_size=group_size)
    tails = max_groups * group_size * gaussian_weights(float(selection.noise.variance))
    point = selection.threshold - group_size
    allowed = float(selection.threshold_delta)
    assert tails[point] <= allowed * (1 + 1e-9)
    assert point == 1 or tails[point - 1] > allowed * 0.99 or tails[point - 2] > allowed  # at most one above the least
    assert 0.49 < selection.threshold_delta / delta < 0.51
    assert selection.rho == max_groups * group_size**2 / (2 * selection.noise.variance)


def joint_law(selection: Threshold, counts: tuple[int, ...]) -> NDArray[np.float64]:
    """The law of what is published on at most two groups: for each, nothing, or a noisy count from the threshold on."""
    tail, noise = _tail(selection)
    joint = np.ones(1)
    for count in counts:
        points = np.arange(selection.threshold, selection.threshold + noise) - count
        masses = np.array([tail(int(p)) - tail(int(p) + 1) for p in points]) if count else np.zeros(noise)
        joint = np.outer(joint, np.concatenate([[1 - masses.sum()], masses])).ravel()
    return joint


def _tail(selection: Threshold) -> tuple[Callable[[int], float], int]:
    """P(X >= m) of a selection's noise, and a length beyond which nothing matters."""

    def upper(m: int) -> float:
        if isinstance(selection, LaplaceThreshold):
            scale = float(selection.noise.scale)
            return math.exp(-m / scale) / (1 + math.exp(-1 / scale))
        return float(table[m]) if m < table.size else 0.0

    table = (
        np.zeros(0) if isinstance(selection, LaplaceThreshold) else gaussian_weights(float(selection.noise.variance))
    )
    return lambda m: upper(m) if m > 0 else 1 - upper(1 - m), math.ceil(30 * selection.noise.stddev)


NEIGHBOURS: dict[int, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    1: [((0,), (1,)), ((1,), (2,)), ((3,), (4,)), ((9,), (10,))],
    2: [((0, 0), (1, 1)), ((0, 5), (1, 6)), ((0, 5), (1, 5)), ((3, 5), (4, 6)), ((2, 0), (3, 0))],
}


def worst_delta(selection: Threshold) -> float:
    """The greatest hockey-stick divergence at the selection's epsilon over the neighbours, both ways round."""
    rate = math.exp(float(selection.epsilon))
    laws = [(joint_law(selection, a), joint_law(selection, b)) for a, b in NEIGHBOURS[selection.max_groups]]
    return max(float(np.maximum(p - rate * q, 0).sum()) for a, b in laws for p, q in ((a, b), (b, a)))


BUILD_THRESHOLD: list[Callable[..., Threshold]] = [laplace_threshold, gaussian_threshold]
SMALL: list[Threshold] = [
    build(epsilon=Fraction(epsilon), delta=Fraction(delta), max_groups=max_groups)
    for build in BUILD_THRESHOLD
    for epsilon, delta in (("1", "0.01"), ("2", "0.003"), ("1/2", "0.05"))
    for max_groups in (1, 2)
]


@pytest.mark.parametrize("selection", SMALL, ids=str)
def test_names_and_noisy_counts_together_stay_within_the_budget(selection: Threshold) -> None:
    assert worst_delta(selection) <= float(selection.delta) * (1 + 1e-6)


@pytest.mark.parametrize("selection", [s for s in SMALL if isinstance(s, LaplaceThreshold)], ids=str)
def test_a_threshold_minus_one_exceeds_the_budget(selection: LaplaceThreshold) -> None:
    twin = dataclasses.replace(selection, delta=selection.delta)
    vars(twin)["threshold"] = selection.threshold - 1
    union = 1.0 if selection.max_groups == 1 else 0.98  # the bound adds two probabilities that may come together
    assert worst_delta(twin) > float(selection.delta) * union


def test_the_threshold_of_the_other_family_exceeds_the_budget() -> None:
    laplace = laplace_threshold(epsilon=Fraction(1, 2), delta=Fraction(1, 10**4), max_groups=1)
    variance = laplace.noise.stddev**2
    gaussian_point = int(np.argmax(gaussian_weights(variance) <= 1e-4))
    twin = dataclasses.replace(laplace, delta=laplace.delta)
    vars(twin)["threshold"] = gaussian_point + 1
    assert worst_delta(laplace) <= 1e-4 * (1 + 1e-6) < 3e-4 < worst_delta(twin)


# all selections

SHARED: dict[str, Any] = {"epsilon": Fraction(1), "delta": Fraction(1, 10**5), "max_groups": 3}
BUILDERS = [TruncatedGeometric, laplace_threshold, gaussian_threshold]


@pytest.mark.parametrize("build", BUILDERS)
def test_empty_and_small_groups_are_never_kept(build) -> None:  # type: ignore[no-untyped-def]
    for pre_threshold in (1, 5):
        selection = build(**{**SHARED, "delta": Fraction(99, 100)}, pre_threshold=pre_threshold)
        counts = np.repeat(np.arange(-1, pre_threshold), 500)
        assert not selection.keep(counts, seeded_random(1)).any()
        assert all(selection.keep_probability(n) == 0 for n in range(-1, pre_threshold))
        assert selection.keep(np.full(500, pre_threshold), seeded_random(1)).any()


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("pre_threshold", [2, 10])
def test_a_pre_threshold_moves_the_curve(build, pre_threshold: int) -> None:  # type: ignore[no-untyped-def]
    plain, moved = build(**SHARED), build(**SHARED, pre_threshold=pre_threshold)
    for n in (1, 7, 40, 60):
        assert moved.keep_probability(n + pre_threshold - 1) == plain.keep_probability(n)
    assert moved.threshold_at(0.5) == plain.threshold_at(0.5) + pre_threshold - 1
    counts = np.arange(200)
    shifted = moved.keep(counts + pre_threshold - 1, seeded_random(2))
    assert (shifted == plain.keep(counts, seeded_random(2))).all()


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("probability", [1e-6, 0.1, 0.5, 0.99])
def test_threshold_at_is_the_least_count(build, probability: float) -> None:  # type: ignore[no-untyped-def]
    selection = build(**SHARED, pre_threshold=4)
    least = selection.threshold_at(probability)
    assert selection.keep_probability(least) >= probability > selection.keep_probability(least - 1)


@pytest.mark.parametrize("build", BUILDERS)
def test_more_units_are_kept_more_often_and_many_always(build) -> None:  # type: ignore[no-untyped-def]
    selection = build(**SHARED)
    curve = [selection.keep_probability(n) for n in range(400)]
    assert all(a <= b for a, b in pairwise(curve))
    assert selection.keep(np.array([10**6, 2**62]), seeded_random(3)).all()


@pytest.mark.parametrize("build", [laplace_threshold, gaussian_threshold])
def test_noisy_counts_are_shown_of_kept_groups_alone(build) -> None:  # type: ignore[no-untyped-def]
    selection = build(**SHARED, pre_threshold=3)
    counts = np.tile(np.array([0, 2, 3, 30, 45, 60, 500]), 300)
    kept, noisy = selection.keep_noisy(counts, seeded_random(4))
    assert (kept == selection.keep(counts, seeded_random(4))).all()
    assert (noisy[~kept] == 0).all()
    assert noisy[kept].min() >= selection.threshold + 2
    error = (noisy - counts)[counts == 500]  # far above the threshold nothing is cut off
    assert abs(error.mean()) < 6 * selection.noise.stddev / math.sqrt(300)
    assert 0 < kept.mean() < 1


@settings(deadline=None, max_examples=25)
@given(epsilons, st.builds(lambda d: Fraction(1, 10**d), st.integers(3, 12)), groups)
def test_truncated_geometric_is_never_below_laplace(epsilon: Fraction, delta: Fraction, max_groups: int) -> None:
    best = TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=max_groups)
    other = laplace_threshold(epsilon=epsilon, delta=delta, max_groups=max_groups)
    for n in range(0, 2 * other.threshold, max(1, other.threshold // 50)):
        assert best.keep_probability(n) >= other.keep_probability(n) - 1e-9


@settings(deadline=None, max_examples=25)
@given(epsilons, st.builds(lambda d: Fraction(1, 10**d), st.integers(3, 12)))
def test_truncated_geometric_is_never_below_gaussian_for_one_group(epsilon: Fraction, delta: Fraction) -> None:
    best = TruncatedGeometric(epsilon=epsilon, delta=delta, max_groups=1)
    other = gaussian_threshold(epsilon=epsilon, delta=delta, max_groups=1)
    for n in range(0, 2 * other.threshold, max(1, other.threshold // 50)):
        assert best.keep_probability(n) >= other.keep_probability(n) - 1e-9


def test_gaussian_keeps_smaller_groups_where_a_unit_is_in_many() -> None:
    # an equal share for each of L0 groups costs a factor L0; Gaussian noise grows with its root
    for max_groups, wins in ((1, False), (16, True), (100, True)):
        shared: dict[str, Any] = {"epsilon": Fraction(1), "delta": Fraction(1, 10**6), "max_groups": max_groups}
        at_half = [build(**shared).threshold_at(0.5) for build in (TruncatedGeometric, gaussian_threshold)]
        assert (at_half[1] < at_half[0]) == wins


def test_totals_and_json_are_exact() -> None:
    shared: dict[str, Any] = {"delta": Fraction(1, 10**5), "max_groups": 3, "pre_threshold": 2, "group_size": 2}
    written = {"delta": "1/100000", "max_groups": "3", "pre_threshold": "2", "group_size": "2"}
    cases: list[tuple[Selection, dict[str, str]]] = [
        (TruncatedGeometric(epsilon=Fraction(1, 3), **shared), {"selection": "truncated_geometric", "epsilon": "1/3"}),
        (
            LaplaceThreshold(noise=DiscreteLaplace(Fraction(18)), **shared),
            {"selection": "laplace_threshold", "scale": "18"},
        ),
        (
            GaussianThreshold(noise=DiscreteGaussian(Fraction(9000)), epsilon=Fraction(1, 3), **shared),
            {"selection": "gaussian_threshold", "variance": "9000", "epsilon": "1/3"},
        ),
    ]
    for selection, own in cases:
        assert selection.to_json() == {**own, **written}
        assert (selection.epsilon, selection.delta) == (Fraction(1, 3), Fraction(1, 10**5))
        assert len({selection, selection}) == 1


# refusals


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(
    ("parameter", "value"),
    [("epsilon", Fraction(0)), ("epsilon", Fraction(-1)), ("delta", Fraction(0)), ("delta", Fraction(1))]
    + [(name, value) for name in ("max_groups", "pre_threshold", "group_size") for value in (0, -1)],
)
def test_bad_parameters_are_refused(build, parameter: str, value: object) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument):
        build(**{**SHARED, parameter: value})


def test_a_delta_below_the_grid_is_refused_by_name() -> None:
    assert TruncatedGeometric(epsilon=Fraction(1), delta=Fraction(1, GRID), max_groups=1).keep_probability(1) > 0
    changes: list[dict[str, Any]] = [{"delta": Fraction(1, GRID + 1)}, {"max_groups": 2}, {"group_size": 2}]
    for change in changes:
        with pytest.raises(InvalidArgument, match="delta"):
            TruncatedGeometric(**{**SHARED, "delta": Fraction(1, GRID), "max_groups": 1, **change})


def test_a_table_that_would_be_too_long_is_refused_by_epsilon() -> None:
    with pytest.raises(InvalidArgument, match="epsilon"):
        TruncatedGeometric(epsilon=Fraction(1, 10**6), delta=Fraction(1, 10**12), max_groups=1)
    long = TruncatedGeometric(epsilon=Fraction(1, 10**4), delta=Fraction(1, 10**10), max_groups=1)
    assert 10**5 < long._table.size <= MAX_TABLE


def test_noise_that_takes_all_of_delta_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="variance"):
        GaussianThreshold(
            noise=DiscreteGaussian(Fraction(1)), epsilon=Fraction(1, 10), delta=Fraction(1, 10**9), max_groups=1
        )


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("probability", [0.0, 1.0, -1.0, 2.0])
def test_threshold_at_refuses_what_is_no_probability(build, probability: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument, match="probability"):
        build(**SHARED).threshold_at(probability)
