"""Polynomials that stand for a function on an interval, and their values at secret points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial import Polynomial as PowerSeries
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, concatenated

__all__ = ["PRECISION", "Polynomial", "evaluated", "fitted"]

PRECISION = 30
"""Bits behind the binary point inside of functions: products of numbers below 2 then fit 62 bits."""

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_GRID = 1 << 12
_MOST_DEGREE = 16


@dataclass(frozen=True)
class Polynomial:
    """a_0 + a_1 u + a_2 u^2 + ... with u = (x - middle) 2^stretch, |u| <= 1.

    Attributes:
        middle: of the interval, a multiple of 2^-PRECISION.
        stretch: an integer.
        coefficients: a_0, a_1, ...
        error: the largest distance from the function on a dense grid of the interval.
    """

    middle: float
    stretch: int
    coefficients: tuple[float, ...]
    error: float

    @property
    def coefficient_bits(self) -> int:
        """Behind the binary point of coefficients, so that the sum of all terms fits 62 bits."""
        return 61 - PRECISION - math.ceil(math.log2(sum(map(abs, self.coefficients))))

    def words(self) -> tuple[int, ...]:
        """Coefficients as integers."""
        return tuple(round(math.ldexp(a, self.coefficient_bits)) for a in self.coefficients)


@lru_cache(maxsize=64)
def fitted(function: Function, low: float, high: float, error: float) -> Polynomial:
    """The polynomial of least degree through the Chebyshev nodes of an interval that is near enough to a function.

    Every party computes the coefficients for itself; rounded to integers they are the same on all machines, since none
    of those in use lies near a half.

    Args:
        function: smooth on the interval, of numpy arrays.
        low: of the interval; low + high is a multiple of 2^-20.
        high: above low.
        error: the largest distance allowed.

    Returns:
        One whose distance on a dense grid is at most `error`; the degree is at most 16, or an assertion fails.
    """
    middle, stretch = (low + high) / 2, math.floor(-math.log2((high - low) / 2))
    grid = np.linspace(low, high, _GRID + 1)
    for degree in range(1, _MOST_DEGREE + 1):
        nodes = Chebyshev.interpolate(function, degree, domain=[low, high])
        reach = math.ldexp(1, -stretch)
        series = nodes.convert(kind=PowerSeries, domain=[middle - reach, middle + reach], window=[-1, 1])
        distance = float(np.max(np.abs(series(grid) - function(grid))))
        if distance <= error:
            return Polynomial(middle, stretch, tuple(map(float, series.coef)), distance)
    raise AssertionError(f"no polynomial of degree {_MOST_DEGREE} is within {error} on {low}..{high}")


def evaluated(engine: Engine, polynomial: Polynomial, x: Arithmetic) -> Arithmetic:
    """Values of a polynomial at secret points.

    Args:
        engine: of this party.
        polynomial: its interval has every point.
        x: shape (n,), with PRECISION bits behind the binary point, as the result.

    Guarantees: in units of 2^-PRECISION, off the polynomial by at most 1 for the last truncation, (k - 1) |a_k| for
        each power and half a unit of the coefficients for each term.
    Leaks: nothing. Cost: for degree d 3 ceil(log2(d)) + 2 rounds, 17.3 (d - 1) + 9.3 bytes an element and party.
    """
    u = engine.plus_public(x, -round(math.ldexp(polynomial.middle, PRECISION))).times(1 << polynomial.stretch)
    constant, *others = polynomial.words()
    powers = _powers(engine, u, len(others))
    terms = [power.times(word) for power, word in zip(powers, others, strict=True)]
    total = sum(terms[1:], start=terms[0])
    return engine.truncated(engine.plus_public(total, constant << PRECISION), polynomial.coefficient_bits)


def _powers(engine: Engine, u: Arithmetic, degree: int) -> list[Arithmetic]:
    """u, u^2, ..., u^degree: each round of products doubles how far they go."""
    powers = [u]
    while (count := len(powers)) < degree:
        lower = powers[: degree - count]
        products = engine.multiply(concatenated(lower), concatenated([powers[-1]] * len(lower)))
        raised = engine.truncated(products, PRECISION)
        powers += [raised.piece(slice(k * len(u), (k + 1) * len(u))) for k in range(len(lower))]
    return powers
