"""Tails: bounds lie above the tails summed apart, and close to them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from dp.accounting.calibration import zcdp_epsilon
from dp.noise.tails import (
    gaussian_tail,
    gaussian_tail_above,
    laplace_tail,
    laplace_tail_above,
    least_point,
    zcdp_delta_above,
)

VARIANCES = ["1/20", "1/3", "1", "22/7", "104.7", "256", "257", "1000", "12345.6", "1000000"]
SCALES = ["1/10", "1/3", "1", "10/3", "1000", "123456789/10"]


def summed(variance: float, points: range) -> list[float]:
    """P(X >= x) by summation from the far end."""
    reach = math.ceil(38 * math.sqrt(variance)) + 2
    weights = np.exp(-(np.arange(reach, dtype=np.float64) ** 2) / (2 * variance))
    tails = np.cumsum(weights[::-1])[::-1] / (2 * weights.sum() - 1)
    return [float(tails[p]) if p < reach else 0.0 for p in points]


@pytest.mark.parametrize("variance", VARIANCES)
def test_gaussian_bounds_are_above_and_close(variance: str) -> None:
    exact = Fraction(variance)
    deviation = math.sqrt(exact)
    points = range(1, math.ceil(9 * deviation) + 3, max(1, math.floor(deviation / 3)))
    for point, tail in zip(points, summed(float(exact), points), strict=True):
        bound = float(gaussian_tail_above(exact, point))
        assert bound >= tail * (1 - 1e-9)
        if 2 * deviation < point < 8 * deviation:
            assert bound <= tail * 1.02  # a bound that is higher would only raise thresholds
        assert gaussian_tail(float(exact), point) == pytest.approx(tail, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("variance", [10**8, 2**60])
def test_wide_gaussian_bounds_are_above_the_integral(variance: int) -> None:
    for deviations in (0.5, 1.5, 3.0, 6.0, 8.0):
        point = int(deviations * math.sqrt(variance))
        integral = float(special.ndtr(-(point - 0.5) / math.sqrt(variance)))
        bound = float(gaussian_tail_above(Fraction(variance), point))
        assert bound >= integral * (1 - 1e-9)
        assert deviations < 2 or bound <= integral * 1.001
        assert gaussian_tail(float(variance), point) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_laplace_bounds_are_above_and_close(scale: str) -> None:
    value = float(Fraction(scale))
    for point in (1, 2, 5, math.ceil(5 * value), math.ceil(30 * value)):
        tail = math.exp(-point / value) / (1 + math.exp(-1 / value))
        assert float(laplace_tail_above(Fraction(scale), point)) == pytest.approx(tail, rel=1e-9)
        assert laplace_tail(value, point) == pytest.approx(tail)


@pytest.mark.parametrize("tail", [lambda m: laplace_tail(3.3, m), lambda m: gaussian_tail(7.0, m)], ids=["l", "g"])
def test_tails_of_both_signs_add_up(tail) -> None:  # type: ignore[no-untyped-def]
    for point in range(-20, 21):
        assert tail(point) + tail(1 - point) == pytest.approx(1)
        assert tail(point) > tail(point + 1)


@given(st.fractions(Fraction(1, 10**6), 2), st.integers(1, 1000))
def test_least_point_is_the_least(probability: Fraction, steepness: int) -> None:
    def falling(point: int) -> Fraction:
        return Fraction(steepness, point * point)

    least = least_point(falling, probability)
    assert least is not None
    assert falling(least) <= probability
    assert least == 1 or falling(least - 1) > probability


def test_no_point_is_found_where_none_is_below() -> None:
    assert least_point(lambda _: Fraction(1, 2), Fraction(1, 3)) is None


@given(st.fractions(Fraction(1, 10**5), 5), st.fractions(Fraction(1, 100), 20))
def test_delta_of_zcdp_agrees_with_its_inverse(rho: Fraction, epsilon: Fraction) -> None:
    delta = zcdp_delta_above(rho, epsilon)
    if Fraction(1, 10**300) < delta < Fraction(9, 10):
        back = zcdp_epsilon(rho, delta)
        assert back == pytest.approx(epsilon, rel=1e-5)
        assert back >= epsilon * (1 - Fraction(1, 10**6)) - Fraction(1, 10**12)


@pytest.mark.parametrize(("sensitivity", "variance"), [(1, 2), (3, 30)])
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 2.5])
def test_delta_of_zcdp_covers_the_gaussian(sensitivity: int, variance: int, epsilon: float) -> None:
    x = np.arange(-400, 401)
    p, q = (np.exp(-((x - shift) ** 2) / (2 * variance)) for shift in (0, sensitivity))
    exact = float(np.maximum(p - math.exp(epsilon) * q, 0).sum() / p.sum())
    bound = float(zcdp_delta_above(Fraction(sensitivity**2, 2 * variance), Fraction(str(epsilon))))
    assert exact <= bound < 10 * exact
