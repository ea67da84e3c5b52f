"""The privacy loss of a composition of pure mechanisms: dominating distributions on a grid, every mass rounded up.

Floats here are only multiplied and added, one after the other, and none is negative: IEEE 754 makes every result the
same on every machine, and the relative error is at most the number of operations times 2^-53, which is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dp.exact import MARGIN, decimal_near, exp_above, exp_below

__all__ = ["MAX_EVENTS", "Losses", "pure_losses"]

MAX_EVENTS = 4096
"""More pure events than this are not convolved: concentrated differential privacy bounds so many well."""

_UNDERFLOW = Fraction(1, 10**290)  # more than all products that fell below the least float
_DIGITS = Context(prec=30)
_RESOLVED = Decimal("1e-12")  # a difference of probabilities that still has eighteen of these digits
_FORGO = 1e-9  # far above the error of a quotient of such differences


@dataclass(frozen=True, eq=False)
class Losses:
    """A privacy loss distribution on a grid.

    Attributes:
        first: the least loss.
        step: between neighbouring losses, > 0.
        masses: upper bounds of the probabilities of first, first + step, ..., up to `error`.
        error: relative error of every mass.
    """

    first: Fraction
    step: Fraction
    masses: NDArray[np.float64]
    error: Fraction

    def delta(self, epsilon: Fraction) -> Fraction:
        """An upper bound of the least delta at this epsilon: the sum of mass * (1 - e^(epsilon - loss)) above it."""
        start = max(math.floor((epsilon - self.first) / self.step) + 1, 0)
        above = self.masses[start:]
        if not above.size:
            return Fraction(0)
        distance = self.first + start * self.step - epsilon  # > 0
        factors = np.full(above.size, _float_above(exp_above(-self.step)))
        factors[0] = 1.0
        # 1 - e^-(distance + i step), built from positive terms: no difference of nearly equal numbers
        rises = np.add.accumulate(_float_above(1 - exp_below(-self.step)) * np.multiply.accumulate(factors))
        weights = np.full(above.size, _float_above(1 - exp_below(-distance)))
        weights[1:] += _float_above(exp_above(-distance)) * rises[:-1]
        error = self.error + Fraction(4 * above.size + 8, 2**53)
        return min(Fraction(math.fsum(above * weights)) * (1 + error) + _UNDERFLOW, Fraction(1))

    def expected(self, delta_left: Callable[[Fraction], Fraction]) -> Fraction:
        """An upper bound of the mean of `delta_left(loss)`: what an independent mechanism makes of each loss."""
        present = np.flatnonzero(self.masses)
        total = sum(Fraction(self.masses[i].item()) * delta_left(self.first + int(i) * self.step) for i in present)
        return min(total * (1 + self.error) + _UNDERFLOW, Fraction(1))


def pure_losses(epsilons: Mapping[Fraction, int], cells: int) -> Losses:
    """Losses that dominate an adaptive composition of pure mechanisms.

    Args:
        epsilons: each > 0, with how often it was spent; at least one, and at most MAX_EVENTS in all.
        cells: how fine the grid is. Where all epsilons are multiples of one that divides their sum into at most so many
            parts, the result is exact but for rounding.

    Source:
        Kairouz, Oh and Viswanath 2015, Theorem 3.3, and Murtagh and Vadhan 2016: every epsilon-DP mechanism is made of
        randomised response, whose loss is epsilon or -epsilon. Off the grid, randomised response is made of a mixture
        of its two neighbours on the grid (`docs/privacy.md`, section 4.6).
    """
    total = sum((epsilon * count for epsilon, count in epsilons.items()), Fraction(0))
    unit = _common_divisor(list(epsilons))
    if total <= unit * cells:
        atoms = [(count, _on_grid(epsilon, unit)) for epsilon, count in epsilons.items()]
        first, step = -total, 2 * unit
    else:
        step = total / cells
        uppers = {math.ceil(epsilon / step) for epsilon in epsilons}
        responses = {place: _response(place * step) for upper in uppers for place in (upper - 1, upper)}
        atoms = [(count, _off_grid(epsilon / step, step, responses)) for epsilon, count in epsilons.items()]
        first = -step * sum(math.ceil(epsilon / step) * count for epsilon, count in epsilons.items())
    steps = sum(count for count, _ in atoms)
    return Losses(first, step, _convolved(atoms), Fraction(8 * steps + 8, 2**53))


def _on_grid(epsilon: Fraction, unit: Fraction) -> list[tuple[int, float]]:
    """Randomised response: (steps of 2 unit above the least loss, mass)."""
    likely, unlikely = _response(epsilon)
    return [(0, unlikely), (int(epsilon / unit), likely)]


def _off_grid(place: Fraction, step: Fraction, responses: Mapping[int, tuple[float, float]]) -> list[tuple[int, float]]:
    """A mixture of randomised responses at the multiples of step around place * step, of the same total variation."""
    upper = math.ceil(place)
    part = _part_of_lower(place, step)
    atoms = []
    for neighbour, weight in ((upper, 1 - part), (upper - 1, part)):
        likely, unlikely = responses[neighbour]
        atoms += [(upper + neighbour, weight * likely), (upper - neighbour, weight * unlikely)]
    return atoms


def _part_of_lower(place: Fraction, step: Fraction) -> float:
    """The lower neighbour's part in the mixture. Every smaller part is sound, so what digits lose is forgone."""
    upper = math.ceil(place)
    with localcontext(_DIGITS):
        above, here, below = (1 / (1 + (-decimal_near(x * step)).exp()) for x in (upper, place, upper - 1))
        return max(float((above - here) / (above - below)) - _FORGO, 0.0) if above - below > _RESOLVED else 0.0


def _response(epsilon: Fraction) -> tuple[float, float]:
    """Upper bounds of e^epsilon / (1 + e^epsilon) and of the rest."""
    least, greatest = exp_below(-epsilon), exp_above(-epsilon)
    return _float_above(1 / (1 + least)), _float_above(greatest / (1 + greatest))


def _convolved(atoms: list[tuple[int, list[tuple[int, float]]]]) -> NDArray[np.float64]:
    masses = np.ones(1)
    for count, places in atoms:
        reach = max(place for place, _ in places)
        for _ in range(count):
            longer = np.zeros(masses.size + reach)
            for place, mass in places:
                longer[place : place + masses.size] += mass * masses
            masses = longer
    return masses


def _common_divisor(values: list[Fraction]) -> Fraction:
    denominator = math.lcm(*(value.denominator for value in values))
    return Fraction(math.gcd(*(int(value * denominator) for value in values)), denominator)


def _float_above(value: Fraction) -> float:
    return math.nextafter(float(value * (1 + MARGIN)), math.inf)
