"""Calibration: scales give at most the budget and waste next to none; conversions hold against the exact curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from dp.accounting.calibration import (
    delta_of_distance,
    distance_of_delta,
    distributed_gaussian_rho,
    distributed_gaussian_variance,
    gaussian_variance,
    laplace_scale,
    zcdp_epsilon,
    zcdp_rho,
)
from dp.errors import InvalidArgument
from dp.noise.mechanisms import DiscreteLaplace

epsilons = st.fractions(Fraction(1, 1000), 20)
deltas = st.builds(lambda digits, m: Fraction(m, 10**digits), st.integers(2, 15), st.integers(1, 9))
rhos = st.fractions(Fraction(1, 10**5), 20)


@given(st.integers(1, 2**40), st.fractions(Fraction(1, 10**4), 100))
def test_laplace_scale_gives_the_budget_and_no_less(sensitivity: int, epsilon: Fraction) -> None:
    scale = laplace_scale(sensitivity, epsilon)
    assert sensitivity / scale <= epsilon <= sensitivity / scale * (1 + Fraction(1, 2**47))
    assert DiscreteLaplace(scale).scale == scale  # short enough for the sampler


def test_short_laplace_scales_are_exact() -> None:
    assert laplace_scale(3, Fraction(1, 10)) == 30
    assert laplace_scale(1, Fraction(3)) == Fraction(1, 3)


@given(st.integers(1, 1000), st.integers(1, 1000), epsilons)
def test_a_greater_sensitivity_never_lowers_the_noise(sensitivity: int, more: int, budget: Fraction) -> None:
    assert laplace_scale(sensitivity + more, budget) >= laplace_scale(sensitivity, budget)
    assert gaussian_variance(sensitivity + more, budget) >= gaussian_variance(sensitivity, budget)


def test_gaussian_variance_is_exact() -> None:
    assert gaussian_variance(9, Fraction(1, 2)) == 9
    assert gaussian_variance(1, Fraction(1, 3)) == Fraction(3, 2)


def _least_epsilon(rho: float, delta: float) -> float:
    """The source's bound on a dense grid, written from its delta form."""
    excess = np.exp(np.linspace(-12, 25, 400_001))
    order = 1 + excess
    log_term = -np.log(delta) - np.log(excess) + order * np.log1p(-1 / order)
    return float(np.min(order * rho + log_term / excess))


@pytest.mark.parametrize("rho", ["1/100000", "1/1000", "1/40", "1", "20"])
@pytest.mark.parametrize("delta", ["1e-2", "1e-6", "1e-15"])
def test_zcdp_epsilon_is_the_bound_of_its_source(rho: str, delta: str) -> None:
    expected = _least_epsilon(float(Fraction(rho)), float(delta))
    assert float(zcdp_epsilon(Fraction(rho), Fraction(delta))) == pytest.approx(max(expected, 0), rel=1e-6, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(rhos, deltas)
def test_zcdp_epsilon_covers_the_gaussian_and_beats_the_standard_bound(rho: Fraction, delta: Fraction) -> None:
    epsilon = float(zcdp_epsilon(rho, delta))
    # Balle and Wang 2018, Theorem 8: the exact delta of a Gaussian with this rho
    sigma = math.sqrt(1 / (2 * float(rho)))
    log_second = epsilon + special.log_ndtr(-1 / (2 * sigma) - epsilon * sigma)
    exact = special.ndtr(1 / (2 * sigma) - epsilon * sigma) - math.exp(log_second)
    assert exact <= float(delta) * (1 + 1e-6)
    # Bun and Steinke 2016, Proposition 1.3
    assert epsilon <= float(rho) + 2 * math.sqrt(float(rho) * -math.log(delta)) + 1e-9


@settings(max_examples=50, deadline=None)
@given(epsilons, deltas)
def test_zcdp_rho_keeps_the_budget_and_uses_it(epsilon: Fraction, delta: Fraction) -> None:
    rho = zcdp_rho(epsilon, delta)
    assert zcdp_epsilon(rho, delta) <= epsilon
    assert zcdp_epsilon(rho * Fraction(1001, 1000), delta) > epsilon


@given(deltas)
def test_no_rho_costs_nothing(delta: Fraction) -> None:
    assert zcdp_epsilon(Fraction(0), delta) == 0


def _sum_of_discrete_gaussians(variance: float, parties: int) -> NDArray[np.float64]:
    x = np.arange(-25, 26)
    one = np.exp(-(x**2) / (2 * variance))
    total = np.ones(1)
    for _ in range(parties):
        total = np.convolve(total, one / one.sum())
    return total


def _divergence(law: NDArray[np.float64], shift: int, order: float) -> float:
    inside = law > 1e-290
    p, q = np.log(law[inside][shift:]), np.log(law[inside][:-shift])
    return float(np.logaddexp.reduce(order * p + (1 - order) * q) / (order - 1))


@pytest.mark.parametrize("variance", ["1/4", "1/3", "1/2", "1", "3"])
@pytest.mark.parametrize("parties", [1, 2, 3, 5])
@pytest.mark.parametrize("shift", [1, 2])
def test_the_price_of_a_sum_of_gaussians_covers_its_divergence(variance: str, parties: int, shift: int) -> None:
    rho = distributed_gaussian_rho(
        l2_sensitivity_squared=shift**2,
        l1_sensitivity=shift,
        variance_each=Fraction(variance),
        honest_parties=parties,
        cells=1,
    )
    law = _sum_of_discrete_gaussians(float(Fraction(variance)), parties)
    for order in (1.01, 1.5, 2.0, 5.0):
        assert _divergence(law, shift, order) <= order * float(rho) * (1 + 1e-9)


def test_a_sum_of_narrow_gaussians_costs_more_than_one_gaussian() -> None:
    # so the test above could fail: the price without tau is too low here
    law = _sum_of_discrete_gaussians(0.25, 2)
    assert max(_divergence(law, 1, order) / order for order in (1.01, 1.5, 2.0)) > 1 / (2 * 2 * 0.25)


def test_the_price_of_one_gaussian_is_exact_and_of_wide_ones_nearly() -> None:
    def of(parties: int, variance: int) -> Fraction:
        return distributed_gaussian_rho(
            l2_sensitivity_squared=9,
            l1_sensitivity=5,
            variance_each=Fraction(variance),
            honest_parties=parties,
            cells=7,
        )

    assert of(1, 1) == Fraction(9, 2)
    assert Fraction(9, 2 * 3 * 10) < of(3, 10) < Fraction(9, 2 * 3 * 10) * (1 + Fraction(1, 10**9))


@given(st.integers(1, 10**4), st.integers(1, 8), st.integers(1, 10**6), st.fractions(Fraction(1, 10**4), 3))
@settings(max_examples=40, deadline=None)
def test_distributed_variance_keeps_the_budget(square: int, parties: int, cells: int, rho: Fraction) -> None:
    def cost(variance: Fraction) -> Fraction:
        return distributed_gaussian_rho(
            l2_sensitivity_squared=square,
            l1_sensitivity=square,
            variance_each=variance,
            honest_parties=parties,
            cells=cells,
        )

    variance = distributed_gaussian_variance(
        l2_sensitivity_squared=square, l1_sensitivity=square, rho=rho, honest_parties=parties, cells=cells
    )
    assert cost(variance) <= rho
    if variance > 4:  # the distance from one Gaussian is negligible, so next to nothing is wasted
        assert cost(variance * Fraction(999, 1000)) > rho


@pytest.mark.parametrize("epsilon", ["0", "1", "10"])
def test_delta_of_distance_is_rounded_up(epsilon: str) -> None:
    delta = delta_of_distance(Fraction(1, 10**9), Fraction(epsilon))
    assert float(delta) == pytest.approx(1e-9 * (1 + math.exp(float(epsilon))), rel=1e-13)
    assert delta_of_distance(Fraction(0), Fraction(epsilon)) == 0
    assert delta_of_distance(Fraction(1), Fraction(0)) >= 2


@pytest.mark.parametrize("delta", ["1e-6", "1e-30", "123456789/10000000000"])
@pytest.mark.parametrize("epsilon", ["0", "1", "10", "200"])
def test_distance_of_delta_is_what_the_delta_pays_for(epsilon: str, delta: str) -> None:
    exact = Fraction(delta)
    distance = distance_of_delta(exact, Fraction(epsilon))
    assert exact * (1 - Fraction(1, 10**13)) <= delta_of_distance(distance, Fraction(epsilon)) <= exact


def test_arguments_out_of_range_are_refused_by_name() -> None:
    half, tiny = Fraction(1, 2), Fraction(1, 10**6)
    good = {"l2_sensitivity_squared": 1, "l1_sensitivity": 1, "honest_parties": 1, "cells": 1}
    calls: list[Callable[[], object]] = [
        lambda: laplace_scale(0, half),
        lambda: laplace_scale(1, Fraction(0)),
        lambda: gaussian_variance(0, half),
        lambda: gaussian_variance(1, -half),
        lambda: zcdp_epsilon(-half, tiny),
        lambda: zcdp_epsilon(half, Fraction(0)),
        lambda: zcdp_epsilon(half, Fraction(1)),
        lambda: zcdp_rho(Fraction(0), tiny),
        lambda: zcdp_rho(half, Fraction(2)),
        lambda: delta_of_distance(-tiny, half),
        lambda: distance_of_delta(Fraction(0), half),
        lambda: distance_of_delta(tiny, -half),
        lambda: distributed_gaussian_rho(**good, variance_each=Fraction(1, 5)),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            call()
    for name in good:
        with pytest.raises(InvalidArgument, match=name):
            distributed_gaussian_rho(**{**good, name: 0}, variance_each=half)
