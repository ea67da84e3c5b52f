"""Gaussian noise: the profile against closed forms, and discrete Gaussians against their exact deltas."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from dp.accounting.events import GaussianEvent
from dp.accounting.gaussian import NearGaussian, gaussian_delta, near_gaussian
from dp.errors import InvalidArgument

mus = st.fractions(Fraction(1, 100), 6, max_denominator=10**4)
epsilons = st.fractions(0, 12, max_denominator=10**4)


def _expected(mu: float, epsilon: float) -> float:
    log_second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
    return float(special.ndtr(mu / 2 - epsilon / mu) - math.exp(log_second))


@given(mus, epsilons)
@settings(deadline=None)
def test_the_profile_is_that_of_its_source(mu: Fraction, epsilon: Fraction) -> None:
    # the float formula cancels, so it is right to 1e-13 in absolute terms only
    assert float(gaussian_delta(mu**2, epsilon)) == pytest.approx(_expected(float(mu), float(epsilon)), abs=1e-13)


@pytest.mark.parametrize(("mu", "epsilon", "delta"), [("0.1", "1", 6.3e-26), ("1", "12", 1.9e-32), ("3", "50", 5e-53)])
def test_tiny_deltas_keep_their_digits(mu: str, epsilon: str, delta: float) -> None:
    value = float(gaussian_delta(Fraction(mu) ** 2, Fraction(epsilon)))
    m, e = float(Fraction(mu)), float(Fraction(epsilon))
    near, far = e / m - m / 2, e / m + m / 2
    ratio = math.sqrt(math.pi / 2) * (special.erfcx(near / math.sqrt(2)) - special.erfcx(far / math.sqrt(2)))
    assert value == pytest.approx(math.exp(-(near**2) / 2) / math.sqrt(2 * math.pi) * ratio, rel=1e-9)
    assert 0 < value < 1e-20


@given(mus, epsilons, st.fractions(0, 3, max_denominator=100))
@settings(deadline=None)
def test_the_profile_falls_with_epsilon_and_grows_with_mu(mu: Fraction, epsilon: Fraction, more: Fraction) -> None:
    here = gaussian_delta(mu**2, epsilon)
    assert gaussian_delta(mu**2, epsilon + more) <= here <= gaussian_delta((mu + more) ** 2, epsilon)


@given(mus, epsilons)
@settings(deadline=None)
def test_below_zero_the_pair_goes_on(mu: Fraction, epsilon: Fraction) -> None:
    value = float(gaussian_delta(mu**2, -epsilon))
    assert value == pytest.approx(_expected(float(mu), -float(epsilon)), abs=1e-12)


def test_extremes() -> None:
    assert gaussian_delta(Fraction(0), Fraction(1)) == 0
    assert gaussian_delta(Fraction(0), Fraction(-1)) > 0
    assert gaussian_delta(Fraction(10**8), Fraction(1)) == 1
    assert 0 < gaussian_delta(Fraction(1, 10**40), Fraction(1)) < Fraction(1, 10**400)
    assert 0 < gaussian_delta(Fraction(1), Fraction(10**6)) < Fraction(1, 10**400)
    with pytest.raises(InvalidArgument, match="mu_squared"):
        gaussian_delta(Fraction(-1), Fraction(1))


def _law(variance: float, parties: int) -> np.ndarray:
    x = np.arange(-60, 61)
    one = np.exp(-(x**2) / (2 * variance))
    total = np.ones(1)
    for _ in range(parties):
        total = np.convolve(total, one / one.sum())
    return total


def _exact_delta(variance: float, parties: int, shifts: tuple[int, ...], epsilon: float) -> float:
    """The least delta of independent discrete noise on a vector whose cells are shifted: a plain sum over outcomes."""
    law = _law(variance, parties)
    here, there = np.ones(1), np.ones(1)
    for shift in shifts:
        here = np.outer(here, np.concatenate([law, np.zeros(shift)])).ravel()
        there = np.outer(there, np.concatenate([np.zeros(shift), law])).ravel()
    return float(np.maximum(here - math.exp(epsilon) * there, 0).sum())


def _event(variance: float, parties: int, shifts: tuple[int, ...]) -> GaussianEvent:
    return GaussianEvent(sum(s * s for s in shifts), sum(shifts), Fraction(variance), parties, len(shifts))


SHIFTS = [(1,), (2,), (5,), (1, 1), (2, 1), (3, 3), (1, 1, 1)]


@pytest.mark.parametrize("shifts", SHIFTS)
@pytest.mark.parametrize(("variance", "parties"), [(0.75, 1), (1.5, 1), (4, 1), (18, 1), (0.25, 3), (0.5, 2), (6, 3)])
def test_discrete_noise_never_exceeds_its_bound(shifts: tuple[int, ...], variance: float, parties: int) -> None:
    if len(shifts) == 3 and parties > 1:
        shifts = shifts[:2]  # the sum over outcomes would not fit
    for epsilon in (0.1, 0.5, 1.0, 2.0, 4.0):
        event = _event(variance, parties, shifts)
        bound = near_gaussian({event: 1}, Fraction(epsilon))
        exact = _exact_delta(variance, parties, shifts, epsilon)
        assert bound is None or exact <= float(bound.delta(Fraction(epsilon))) + 1e-13


def test_without_the_smoothing_the_bound_would_be_wrong() -> None:
    # so the test above can fail: at equal variance the discrete delta is the greater one for some epsilon
    excess = [
        _exact_delta(variance, 1, shifts, epsilon)
        - _expected(math.sqrt(sum(s * s for s in shifts) / variance), epsilon)
        for variance, shifts, epsilon in itertools.product((1.5, 4.0), [(1,), (2,), (1, 1)], (0.1, 0.3, 0.5, 0.7, 1.0))
    ]
    assert max(excess) > 1e-4


@pytest.mark.parametrize("variance", [0.5, 1.5, 4, 18])
def test_a_rounded_continuous_gaussian_is_as_close_as_is_said(variance: float) -> None:
    bound = near_gaussian({_event(variance, 1, (1,)): 1}, Fraction(1))
    assert bound is not None
    continuous = float(1 / bound.mu_squared)
    smoothing = variance - continuous
    grid = np.linspace(-12, 12, 4801) * math.sqrt(continuous)
    density = np.exp(-(grid**2) / (2 * continuous))
    x = np.arange(-60, 61)
    kernel = np.exp(-((x[:, None] - grid[None, :]) ** 2) / (2 * smoothing))
    law = (kernel / kernel.sum(0)) @ density / density.sum()
    near = abs(x) <= 4 * math.sqrt(variance)
    apart = np.abs(np.log(law[near] / _law(variance, 1)[near])).max()
    assert float(bound.closeness) / 10 < apart <= float(bound.closeness) * (1 + 1e-6)


@pytest.mark.parametrize(("variance", "parties"), [(0.25, 2), (0.25, 4), (0.4, 3)])
def test_a_sum_of_parts_is_as_close_to_one_as_is_said(variance: float, parties: int) -> None:
    event = _event(variance, parties, (1,))
    bound = near_gaussian({event: 1}, Fraction(20))
    assert bound is not None
    of_rounding = near_gaussian({_event(variance * parties, 1, (1,)): 1}, Fraction(20))
    assert of_rounding is not None
    assert of_rounding.mu_squared == bound.mu_squared
    of_sum = float(bound.closeness - of_rounding.closeness)
    apart = np.log(_law(variance, parties)[60 * parties - 6 :][:13] / _law(variance * parties, 1)[54:67])
    assert of_sum / 10 < np.abs(apart).max() <= of_sum


def test_closeness_is_paid_on_both_neighbours() -> None:
    # masses e^c times greater here and e^c times less there, on the outcomes that matter
    mu, c, epsilon = 0.5, 0.05, 1.0
    threshold = (epsilon - 2 * c) / mu
    worst = math.exp(c) * special.ndtr(mu / 2 - threshold) - math.exp(epsilon - c) * special.ndtr(-mu / 2 - threshold)
    bound = NearGaussian(Fraction(1, 4), Fraction(1, 20)).delta(Fraction(1))
    assert float(bound) == pytest.approx(worst, rel=1e-9)
    assert float(bound) > 1.2 * _expected(mu, epsilon)


def test_wide_noise_loses_next_to_nothing() -> None:
    event = GaussianEvent(10**8, 10**5, Fraction(2 * 10**9), 1, 100)
    bound = near_gaussian({event: 1}, Fraction(1))
    assert bound is not None
    plain = gaussian_delta(Fraction(1, 20), Fraction(1))
    assert plain <= bound.delta(Fraction(1)) <= plain * (1 + Fraction(1, 10**6))


def test_narrow_noise_has_no_bound() -> None:
    assert near_gaussian({_event(0.125, 1, (1,)): 1}, Fraction(1)) is None


def test_several_gaussians_are_one() -> None:
    wide, narrow = _event(1000, 1, (3,)), _event(500, 1, (1, 1))
    together = near_gaussian({wide: 2, narrow: 1}, Fraction(1))
    assert together is not None
    assert float(together.mu_squared) == pytest.approx(2 * 9 / 1000 + 2 / 500, rel=0.005)
    assert together.mu_squared > Fraction(2 * 9, 1000) + Fraction(2, 500)
