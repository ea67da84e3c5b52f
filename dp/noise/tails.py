"""Tails of the exact noise, and of the privacy loss: proven upper bounds as rationals, and floats for explanations.

The bounds decide thresholds; the floats decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dp.exact import MARGIN, exp_above, exp_below, log_near, root_above, rounded

__all__ = [
    "gaussian_tail",
    "gaussian_tail_above",
    "laplace_tail",
    "laplace_tail_above",
    "least_point",
    "zcdp_delta_above",
]

_TWO_PI_BELOW = Fraction(6283185307179586476, 10**18)
_SUMMED_VARIANCE = 256  # below it 64 terms leave a remainder whose terms shrink by e^(-1/4) or faster
_SUMMED_TERMS = 64
_CONVERGENT = 40  # even: a convergent from above
_TABLE_VARIANCE = 1e6
_GREATEST_POINT = 1 << 62


def laplace_tail_above(scale: Fraction, point: int) -> Fraction:
    """An upper bound of P(X >= point) for discrete Laplace noise, relatively closer than 1e-35 above e^-1000.

    Args:
        scale: > 0, exact.
        point: >= 1.
    """
    return exp_above(-point / scale) / (1 + exp_below(-1 / scale))


def gaussian_tail_above(variance: Fraction, point: int) -> Fraction:
    """An upper bound of P(X >= point) for discrete Gaussian noise, a few thousandths above it at usual tails.

    Args:
        variance: > 0, exact.
        point: >= 1.

    Source:
        Section on key selection of docs/privacy.md: a sum with a geometric remainder, or an integral over a convex
        density; the normaliser is at least sqrt(2 pi variance) by Poisson summation, and at least three of its terms.
    """
    return _summed_tail(variance, point) if variance <= _SUMMED_VARIANCE else _integral_tail(variance, point)


def _summed_tail(variance: Fraction, point: int) -> Fraction:
    end = point + _SUMMED_TERMS
    # the terms from `end` on shrink at least by the first one's ratio
    remainder = exp_above(-(end**2) / (2 * variance)) / (1 - exp_above(-(2 * end + 1) / (2 * variance)))
    total = sum((exp_above(-(x**2) / (2 * variance)) for x in range(point, end)), remainder)
    return total / max(_root_below(_TWO_PI_BELOW * variance), 1 + 2 * exp_below(-1 / (2 * variance)))


def _integral_tail(variance: Fraction, point: int) -> Fraction:
    """exp(-x^2 / (2 variance)) is convex beyond one deviation: its value at x is at most its mean over x +- 1/2."""
    deviations = rounded((point - Fraction(1, 2)) / root_above(variance), math.floor)
    if deviations < 1:
        return Fraction(1, 2)  # symmetry
    ratio = deviations  # Mills' ratio as a continued fraction, t + 1/(t + 2/(t + ...)), from inside
    for k in range(_CONVERGENT, 0, -1):
        ratio = deviations + k / ratio
    return exp_above(-(deviations**2) / 2) / (ratio * _root_below(_TWO_PI_BELOW))


def _root_below(value: Fraction) -> Fraction:
    return root_above(value) * (1 - 3 * MARGIN)


def least_point(tail_above: Callable[[int], Fraction], probability: Fraction) -> int | None:
    """The least point >= 1 at which a bound that falls with the point is at most a probability; None beyond 2^62.

    Args:
        tail_above: the bound.
        probability: > 0, exact.
    """
    above = 1
    while tail_above(above) > probability:
        above *= 2
        if above > _GREATEST_POINT:
            return None
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if tail_above(middle) <= probability else (middle, above)
    return above


def zcdp_delta_above(rho: Fraction, epsilon: Fraction) -> Fraction:
    """A delta such that rho-zCDP implies (epsilon, delta)-differential privacy.

    Args:
        rho: > 0, exact.
        epsilon: > 0, exact.

    Returns:
        The source's bound near the best order, rounded up; it may exceed one.

    Source:
        Canonne, Kamath and Steinke 2020, the conversion from Renyi divergences: for every x = order - 1 > 0,
        log(delta) = x ((1 + x) rho - epsilon) + x log(x) - (1 + x) log(1 + x).
    """
    excess = _best_excess_order(float(rho), float(epsilon))
    terms = (
        excess * ((1 + excess) * rho - epsilon),
        excess * log_near(excess),
        -(1 + excess) * log_near(1 + excess),
    )
    exponent = sum(terms, Fraction(0)) + MARGIN * (1 + sum(abs(term) for term in terms))
    return rounded(exp_above(min(exponent, Fraction(1))), math.ceil)


def _best_excess_order(rho: float, epsilon: float) -> Fraction:
    """Where the exponent's derivative, which rises with x, is zero. Any x > 0 is valid; a better one is tighter."""
    low, high = -30.0, 60.0  # of log(x)
    for _ in range(60):
        middle = (low + high) / 2
        rising = (1 + 2 * math.exp(middle)) * rho - epsilon - math.log1p(math.exp(-middle)) > 0
        low, high = (low, middle) if rising else (middle, high)
    # few digits: the optimum is flat, and a public number must not depend on the last bit of somebody's libm
    return Fraction(f"{math.exp(low):.4g}")


def laplace_tail(scale: float, point: int) -> float:
    """P(X >= point) for discrete Laplace noise, approximately.

    Args:
        scale: > 0.
        point: any integer.
    """
    if point < 1:
        return 1 - laplace_tail(scale, 1 - point)
    return math.exp(-point / scale) / (1 + math.exp(-1 / scale))


def gaussian_tail(variance: float, point: int) -> float:
    """P(X >= point) for discrete Gaussian noise, approximately.

    Args:
        variance: > 0.
        point: any integer.
    """
    if point < 1:
        return 1 - gaussian_tail(variance, 1 - point)
    if variance > _TABLE_VARIANCE:
        return math.erfc((point - 0.5) / math.sqrt(2 * variance)) / 2
    table = _gaussian_tails(variance)
    return float(table[point]) if point < table.size else 0.0


@lru_cache(maxsize=32)
def _gaussian_tails(variance: float) -> NDArray[np.float64]:
    """P(X >= x) for x = 0, 1, ... until it is zero in floats."""
    points = np.arange(math.ceil(39 * math.sqrt(variance)) + 2, dtype=np.float64)
    weights = np.exp(-(points**2) / (2 * max(variance, 1e-300)))
    return np.asarray(np.cumsum(weights[::-1])[::-1] / (2 * weights.sum() - 1))
