"""From budgets to noise scales and back: exact rationals, every bound rounded to the safe side.

Floats only choose where a bound is evaluated, never its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.exact import MARGIN, exp_above, log_near, root_above, rounded

__all__ = [
    "delta_of_distance",
    "distance_of_delta",
    "distributed_gaussian_rho",
    "distributed_gaussian_variance",
    "gaussian_variance",
    "laplace_scale",
    "renyi_epsilon",
    "zcdp_epsilon",
    "zcdp_rho",
]

_PI_SQUARED_BELOW = Fraction(98696044010893586188, 10**19)
_EXACT_NUMERATOR_BITS = 50  # a scale with a longer numerator is rounded up to this many bits
_DIGITS = 15


def laplace_scale(l1_sensitivity: int, epsilon: Fraction) -> Fraction:
    """The least scale of discrete Laplace noise that gives epsilon-differential privacy.

    Args:
        l1_sensitivity: by how much one unit changes the vector of integers in the l1 norm, >= 1.
        epsilon: > 0, exact.

    Returns:
        l1_sensitivity / epsilon; rounded up to 50 significant bits where its numerator is longer.

    Raises:
        InvalidArgument: a sensitivity below 1, or epsilon <= 0.
    """
    _positive("l1_sensitivity", l1_sensitivity)
    _positive("epsilon", epsilon)
    scale = l1_sensitivity / epsilon
    if scale.numerator.bit_length() <= _EXACT_NUMERATOR_BITS:
        return scale
    magnitude = scale.numerator.bit_length() - scale.denominator.bit_length()  # scale is about 2^magnitude
    unit = Fraction(2) ** (magnitude + 1 - _EXACT_NUMERATOR_BITS)
    return math.ceil(scale / unit) * unit


def gaussian_variance(l2_sensitivity_squared: int, rho: Fraction) -> Fraction:
    """The least variance of discrete Gaussian noise that gives rho zero-concentrated differential privacy.

    Args:
        l2_sensitivity_squared: square of the change that one unit makes in the l2 norm, >= 1.
        rho: > 0, exact.

    Raises:
        InvalidArgument: a sensitivity below 1, or rho <= 0.
    """
    _positive("l2_sensitivity_squared", l2_sensitivity_squared)
    _positive("rho", rho)
    return l2_sensitivity_squared / (2 * rho)


@cache
def zcdp_epsilon(rho: Fraction, delta: Fraction) -> Fraction:
    """An epsilon such that rho-zCDP implies (epsilon, delta)-differential privacy.

    Args:
        rho: >= 0, exact.
        delta: 0 < delta < 1, exact.

    Returns:
        `renyi_epsilon` of a rho at the best order a that was found.

    Raises:
        InvalidArgument: rho < 0, or a delta outside (0, 1).

    Source:
        Bun and Steinke 2016, Definition 1.1: rho-zCDP is a divergence of at most a rho at every order a > 1.
    """
    _open_unit("delta", delta)
    if rho < 0:
        raise InvalidArgument("rho", rho, "give rho >= 0")
    if rho == 0:
        return Fraction(0)
    approximate = float(rho)
    excess = _best_excess_order(lambda x: (1 + x) * approximate + _overheads(x, delta))
    return renyi_epsilon((1 + excess) * rho, 1 + excess, delta)


def renyi_epsilon(loss: Fraction, order: Fraction, delta: Fraction) -> Fraction:
    """An epsilon such that a Renyi divergence of one order implies (epsilon, delta)-differential privacy.

    Args:
        loss: the divergence, exact.
        order: > 1, exact.
        delta: 0 < delta < 1, exact.

    Returns:
        The bound of the source, at least 0, rounded up to a multiple of 10^-15.

    Raises:
        InvalidArgument: an order of at most 1, or a delta outside (0, 1).

    Source:
        Canonne, Kamath and Steinke 2020, section 2.3: loss + (log(1 / delta) - log(a)) / (a - 1) + log(1 - 1 / a).
    """
    _open_unit("delta", delta)
    _positive("order - 1", order - 1)
    epsilon = loss + _overhead_above(order - 1, delta)
    return Fraction(math.ceil(max(epsilon, Fraction(0)) * 10**_DIGITS), 10**_DIGITS)


@cache
def zcdp_rho(epsilon: Fraction, delta: Fraction) -> Fraction:
    """A rho, close to the greatest, such that rho-zCDP implies (epsilon, delta)-differential privacy.

    Args:
        epsilon: > 0, exact.
        delta: 0 < delta < 1, exact.

    Returns:
        A rational, rounded down, for which `zcdp_epsilon(rho, delta) <= epsilon` was verified.

    Raises:
        InvalidArgument: epsilon <= 0, or so small that no rho was found; or a delta outside (0, 1).

    Source:
        As `zcdp_epsilon`, solved for rho.
    """
    _positive("epsilon", epsilon)
    _open_unit("delta", delta)
    approximate = float(epsilon)
    excess = _best_excess_order(lambda x: (_overheads(x, delta) - approximate) / (1 + x))
    greatest = (epsilon - _overhead_above(excess, delta)) / (1 + excess)
    for loss in (Fraction(4**k, 10**14) for k in range(24)):
        rho = rounded(greatest * (1 - loss), math.floor)
        if rho > 0 and zcdp_epsilon(rho, delta) <= epsilon:
            return rho
    raise InvalidArgument("epsilon", epsilon, "give an epsilon of at least 1e-9")


def distributed_gaussian_rho(
    *, l2_sensitivity_squared: int, l1_sensitivity: int, variance_each: Fraction, honest_parties: int, cells: int
) -> Fraction:
    """The price, in rho, of the sum of the discrete Gaussians that several parties add to every cell.

    Args:
        l2_sensitivity_squared: square of the change that one unit makes in the l2 norm, >= 1.
        l1_sensitivity: the change that one unit makes in the l1 norm, >= 1.
        variance_each: parameter of each party's noise, >= 1/4.
        honest_parties: parties whose noise nobody else knows, >= 1.
        cells: coordinates of the vector, >= 1; those that one unit can change suffice.

    Returns:
        An upper bound; exactly l2_sensitivity_squared / (2 variance_each) for one party.

    Raises:
        InvalidArgument: an argument outside its range.

    Source:
        Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism" (2021), Proposition 14: its three
        bounds, with tau = 10 sum over k < n of exp(-2 pi^2 variance k / (k + 1)).
    """
    for name, value in (
        ("l2_sensitivity_squared", l2_sensitivity_squared),
        ("l1_sensitivity", l1_sensitivity),
        ("honest_parties", honest_parties),
        ("cells", cells),
    ):
        _positive(name, value)
    if variance_each < Fraction(1, 4):
        raise InvalidArgument("variance_each", variance_each, "give every party a variance of at least 1/4")
    variance = honest_parties * variance_each
    one_gaussian = l2_sensitivity_squared / (2 * variance)
    if honest_parties == 1:
        return one_gaussian
    tau = _distance_from_gaussian(variance_each, honest_parties)
    square = tau**2 * cells / 2
    excess = min(
        tau * cells,
        square + tau * l1_sensitivity * root_above(1 / variance),
        square + tau * root_above(cells * l2_sensitivity_squared / variance),
    )
    return rounded(one_gaussian + excess, math.ceil)


def distributed_gaussian_variance(
    *, l2_sensitivity_squared: int, l1_sensitivity: int, rho: Fraction, honest_parties: int, cells: int
) -> Fraction:
    """A variance, close to the least, that every party adds so that the honest parties' sum costs at most rho.

    Args:
        l2_sensitivity_squared: square of the change that one unit makes in the l2 norm, >= 1.
        l1_sensitivity: the change that one unit makes in the l1 norm, >= 1.
        rho: > 0, exact.
        honest_parties: parties whose noise nobody else knows, >= 1.
        cells: coordinates of the vector, >= 1; those that one unit can change suffice.

    Returns:
        A variance for which `distributed_gaussian_rho(...) <= rho` was verified.

    Raises:
        InvalidArgument: an argument outside its range.
    """
    least = max(gaussian_variance(l2_sensitivity_squared, rho) / max(honest_parties, 1), Fraction(1, 4))
    variance = least
    for step in range(200):
        price = distributed_gaussian_rho(
            l2_sensitivity_squared=l2_sensitivity_squared,
            l1_sensitivity=l1_sensitivity,
            variance_each=variance,
            honest_parties=honest_parties,
            cells=cells,
        )
        if price <= rho:
            return variance
        # doubles the surplus: it starts below any use and ends far above any need
        variance = rounded(least * (1 + Fraction(2**step, 10**14)), math.ceil)
    raise AssertionError("the price falls to that of one Gaussian, which falls with the variance")


def delta_of_distance(distance: Fraction, epsilon: Fraction) -> Fraction:
    """The delta to charge where noise lies within a statistical distance of noise that gives pure epsilon.

    Args:
        distance: total variation distance, >= 0, exact.
        epsilon: >= 0, exact.

    Returns:
        (1 + e^epsilon) distance, rounded up.

    Raises:
        InvalidArgument: a negative argument.
    """
    if distance < 0 or epsilon < 0:
        raise InvalidArgument("distance", distance, "give a distance and an epsilon >= 0")
    return rounded((1 + exp_above(epsilon)) * distance, math.ceil)


def distance_of_delta(delta: Fraction, epsilon: Fraction) -> Fraction:
    """The statistical distance from noise of pure epsilon that a delta pays for, rounded down; see `delta_of_distance`.

    Args:
        delta: > 0, exact.
        epsilon: >= 0, exact.

    Raises:
        InvalidArgument: an argument outside its range.
    """
    if delta <= 0 or epsilon < 0:
        raise InvalidArgument("delta", delta, "give a delta > 0 and an epsilon >= 0")
    return rounded(delta / (1 + exp_above(epsilon)), math.floor)


def _distance_from_gaussian(variance_each: Fraction, parties: int) -> Fraction:
    """tau of the source: how far a sum of discrete Gaussians is from one discrete Gaussian."""
    rate = 2 * _PI_SQUARED_BELOW * variance_each
    return 10 * sum((exp_above(-rate * Fraction(k, k + 1)) for k in range(1, parties)), Fraction(0))


def _best_excess_order(objective: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Fraction:
    """Where, over x = order - 1 > 0, the objective is least. Any x is valid; a better one gives a better bound."""
    low, high = -30.0, 60.0
    for _ in range(5):
        exponents = np.linspace(low, high, 1001)
        best = exponents[int(np.argmin(objective(np.exp(exponents))))]
        reach = (high - low) / 500
        low, high = best - reach, best + reach
    # few digits: the optimum is flat, and a public number must not depend on the last bit of somebody's libm
    return Fraction(f"{math.exp(best):.4g}")


def _overheads(excess: NDArray[np.float64], delta: Fraction) -> NDArray[np.float64]:
    """What a conversion at order 1 + excess adds to order * rho; approximate."""
    log_delta = float(log_near(delta))
    result: NDArray[np.float64] = -(log_delta + np.log1p(excess)) / excess - np.log1p(1 / excess)
    return result


def _overhead_above(excess: Fraction, delta: Fraction) -> Fraction:
    """What a conversion at order 1 + excess adds to order * rho; an upper bound."""
    log_delta, log_order, log_ratio = (log_near(value) for value in (delta, 1 + excess, excess / (1 + excess)))
    terms = (-log_delta / excess, -log_order / excess, log_ratio)
    return sum(terms, Fraction(0)) + MARGIN * (1 + sum(abs(term) for term in terms))


def _positive(parameter: str, value: Fraction | int) -> None:
    if value <= 0:
        raise InvalidArgument(parameter, value, f"give {parameter} > 0")


def _open_unit(parameter: str, value: Fraction) -> None:
    if not 0 < value < 1:
        raise InvalidArgument(parameter, value, f'give 0 < {parameter} < 1, such as "1e-6"')
