"""Groups kept by every selection against the law of its family, computed apart, by exact binomial tests.

The false-alarm rate of each comparison is 1e-6. Seeds are fixed. Each case has twins that keep too many groups of one
protected unit, and the same test must reject them: a threshold lower by one, a threshold computed without the mass at
tau, the threshold of another family, and a table that starts one count too late.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dp.accounting.selections import gaussian_threshold, laplace_threshold
from dp.noise.selection import Selection, TruncatedGeometric
from dp.noise.thresholds import GaussianThreshold, LaplaceThreshold
from tests.tools.entropy import seeded_random
from tests.tools.laws import Law, gaussian_law, laplace_law

FALSE_ALARM = 1e-6
SIZE = 200_000
LAPLACE = laplace_threshold(epsilon=Fraction(1), delta=Fraction("0.0135"), max_groups=1)
GAUSSIAN = gaussian_threshold(epsilon=Fraction(2), delta=Fraction("0.052"), max_groups=2)
GEOMETRIC = TruncatedGeometric(epsilon=Fraction(3, 2), delta=Fraction("0.02"), max_groups=2)


def kept_p_value(selection: Selection, count: int, probability: float, alternative: str = "two-sided") -> float:
    """P-value of how many of `SIZE` groups with so many units are kept."""
    kept = int(selection.keep(np.full(SIZE, count), seeded_random(f"{selection.kind} {count}")).sum())
    return float(stats.binomtest(kept, SIZE, probability, alternative).pvalue)


def within_delta(selection: Selection, delta: Fraction) -> bool:
    """Whether groups of one protected unit are kept as rarely as one group's share of delta asks."""
    return kept_p_value(selection, 1, float(delta), "greater") > FALSE_ALARM


def share(selection: LaplaceThreshold | GaussianThreshold | TruncatedGeometric) -> Fraction:
    """What one group may have of delta."""
    whole = selection.delta if isinstance(selection, TruncatedGeometric) else selection.threshold_delta
    return whole / selection.max_groups


def at_least(law: Law, point: int) -> float:
    return float(1 - law.below(np.array([float(point)]))[0])


def optimal(count: int) -> float:
    """The closed recursion of the source in floats."""
    rate, delta, kept = math.exp(0.75), 0.01, 0.0
    for _ in range(count):
        kept = min(rate * kept + delta, 1 - (1 - kept - delta) / rate, 1.0)
    return kept


def law_of(selection: Selection, count: int) -> float:
    if isinstance(selection, LaplaceThreshold):
        return at_least(laplace_law(float(selection.noise.scale)), selection.threshold - count)
    if isinstance(selection, GaussianThreshold):
        return at_least(gaussian_law(float(selection.noise.variance)), selection.threshold - count)
    return optimal(count)


def with_threshold(selection: LaplaceThreshold | GaussianThreshold, threshold: int) -> Selection:
    twin = dataclasses.replace(selection, delta=selection.delta)
    vars(twin)["threshold"] = threshold
    return twin


def least_threshold(law: Law, delta: float, *, beyond: int) -> int:
    """The least tau with P(1 + X >= tau + beyond) <= delta."""
    return next(tau for tau in range(2, 10**4) if at_least(law, tau + beyond - 1) <= delta)


@pytest.mark.parametrize("selection", [LAPLACE, GAUSSIAN, GEOMETRIC], ids=lambda s: s.kind)
def test_groups_are_kept_with_the_probability_of_the_law(selection: Selection) -> None:
    for count in {1, 2, 3, selection.threshold_at(0.3), selection.threshold_at(0.7), selection.threshold_at(0.99)}:
        assert kept_p_value(selection, count, law_of(selection, count)) > FALSE_ALARM
        assert selection.keep_probability(count) == pytest.approx(law_of(selection, count), rel=1e-9)
    for count in (1, selection.threshold_at(0.3)):  # the twin sees one unit more
        assert kept_p_value(selection, count + 1, law_of(selection, count)) < FALSE_ALARM


@pytest.mark.parametrize("selection", [LAPLACE, GAUSSIAN, GEOMETRIC], ids=lambda s: s.kind)
def test_one_unit_alone_is_named_within_delta(selection: Any) -> None:
    assert within_delta(selection, share(selection))
    assert law_of(selection, 1) > 0.9 * share(selection)  # so that a twin does not pass for want of mass


@pytest.mark.parametrize("selection", [LAPLACE, GAUSSIAN], ids=lambda s: s.kind)
def test_a_threshold_minus_one_is_rejected(selection: Any) -> None:
    assert not within_delta(with_threshold(selection, selection.threshold - 1), share(selection))


@pytest.mark.parametrize(
    ("selection", "law"),
    [(LAPLACE, laplace_law(float(LAPLACE.noise.scale))), (GAUSSIAN, gaussian_law(float(GAUSSIAN.noise.variance)))],
    ids=["laplace", "gaussian"],
)
def test_a_threshold_without_the_mass_at_tau_is_rejected(selection: Any, law: Law) -> None:
    delta = float(share(selection))
    assert selection.threshold == least_threshold(law, delta, beyond=0)
    assert not within_delta(with_threshold(selection, least_threshold(law, delta, beyond=1)), share(selection))


def test_the_threshold_of_another_family_is_rejected() -> None:
    law = gaussian_law(LAPLACE.noise.stddev**2)  # the normal quantile at the Laplace noise's own deviation
    delta = Fraction(1, 1000)
    strict = laplace_threshold(epsilon=Fraction(1), delta=delta, max_groups=1)
    assert within_delta(strict, delta)
    assert not within_delta(with_threshold(strict, least_threshold(law, float(delta), beyond=0)), delta)


def test_a_threshold_of_the_continuous_law_is_rejected() -> None:
    # P(X >= t) of the continuous Laplace law is exp(-t / b) / 2, below that of the discrete one for every b
    delta = Fraction("0.22")
    discrete = laplace_threshold(epsilon=Fraction(1), delta=delta, max_groups=1)
    continuous = 1 + math.ceil(-math.log(2 * float(delta)))
    assert within_delta(discrete, delta)
    assert not within_delta(with_threshold(discrete, continuous), delta)


def test_a_table_that_starts_one_count_late_is_rejected() -> None:
    twin = dataclasses.replace(GEOMETRIC, delta=GEOMETRIC.delta)
    vars(twin)["_table"] = GEOMETRIC._table[1:]
    assert not within_delta(twin, share(GEOMETRIC))
