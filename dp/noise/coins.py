"""Discrete Laplace noise out of independent biased coins: for a circuit, which cannot reject, look up or branch.

A draw is 0, or +-(1 + g) with g geometric, whose binary digits are independent coins. The coins' probabilities have so
many bits, and there are so many digits, that all draws of a release stay within a distance that the caller allows.
docs/privacy.md proves what is promised here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from dp.errors import InvalidArgument
from dp.exact import exp_above, exp_below

__all__ = ["MAX_DIGITS", "MAX_PRECISION", "PRECISION_STEP", "LaplaceCoins", "distance_of_draws", "laplace_coins"]

MAX_DIGITS = 62
"""Most binary digits of a draw: it is then at most 2^62 in size."""

MAX_PRECISION = 128
"""Most bits of a coin's probability: `dp.exact` knows it to 4e-40, and 2^-128 is 3e-39."""

PRECISION_STEP = 4
"""Bits of a probability come in fours, as the circuit takes them."""


@dataclass(frozen=True)
class LaplaceCoins:
    """Coins of which one draw of discrete Laplace noise is made.

    With coins z, g_0, g_1, ... and a fair sign, the draw is 0 if z is 0, else +-(1 + sum of g_j 2^j).

    Args:
        scale: of the noise, > 0, exact.
        digits: how many g_j there are, 0 to 62.
        precision: bits of a coin's probability, a multiple of 4 from 4 to 128.

    Raises:
        InvalidArgument: an argument outside its range.

    Guarantees:
        A draw from these coins lies within `distance` of discrete Laplace noise, in total variation.
    Source:
        Independent digits of a geometric variable: Dwork, Kenthapadi, McSherry, Mironov and Naor 2006.
    """

    scale: Fraction
    digits: int
    precision: int

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise InvalidArgument("scale", self.scale, "give a scale > 0")
        if not 0 <= self.digits <= MAX_DIGITS:
            raise InvalidArgument("digits", self.digits, f"give 0 to {MAX_DIGITS} digits")
        if self.precision not in range(PRECISION_STEP, MAX_PRECISION + 1, PRECISION_STEP):
            raise InvalidArgument("precision", self.precision, f"give a multiple of 4 from 4 to {MAX_PRECISION}")

    @property
    def coins(self) -> int:
        """Biased coins of one draw."""
        return 1 + self.digits

    @cached_property
    def probabilities(self) -> tuple[int, ...]:
        """Of z, g_0, g_1, ... in units of 2^-precision; each is within one unit of the law's.

        With r = exp(-1 / scale) the law's are 2 r / (1 + r) and r^(2^j) / (1 + r^(2^j)).
        """
        lower = [self._of_digit(j) for j in range(max(self.digits, 1))]
        return tuple(self._in_units(p) for p in (2 * lower[0], *lower[: self.digits]))

    @property
    def distance(self) -> Fraction:
        """An upper bound of a draw's distance from the law: the tail that is left out, and one unit for each coin."""
        return _tail(self.scale, self.digits) + Fraction(self.coins, 1 << self.precision)

    def to_json(self) -> dict[str, int]:
        """What parties must have alike, beside the scale."""
        return {"digits": self.digits, "precision": self.precision}

    def _of_digit(self, j: int) -> Fraction:
        """The probability that the j-th digit is one, from below, closer than 2e-40."""
        odds = exp_below(-(2**j) / self.scale)
        return odds / (1 + odds)

    def _in_units(self, probability: Fraction) -> int:
        """The nearest multiple below one."""
        units = 1 << self.precision
        return min(math.floor(probability * units + Fraction(1, 2)), units - 1)


def laplace_coins(scales: Sequence[Fraction], cells: Sequence[int], distance: Fraction) -> tuple[LaplaceCoins, ...]:
    """Coins for all draws of a release: the fewest digits and the least precision for a distance, half of it for each.

    Args:
        scales: one for each block of cells, > 0, exact.
        cells: draws in each block.
        distance: in total variation, that all draws together may have from the law, > 0.

    Returns:
        Coins for each block, of one precision, with `distance_of_draws(coins, cells) <= distance`.

    Raises:
        InvalidArgument: a distance that 128 bits, or draws of 62 digits, do not keep.
    """
    if distance <= 0:
        raise InvalidArgument("distance", distance, "give a distance > 0: coins of so many bits are never exact")
    draws = max(sum(cells), 1)
    digits = [_digits(scale, distance / (2 * draws)) for scale in scales]
    coins = sum((1 + n) * count for n, count in zip(digits, cells, strict=True))
    bits = math.ceil(2 * max(coins, 1) / distance).bit_length()
    precision = PRECISION_STEP * math.ceil(bits / PRECISION_STEP)
    if precision > MAX_PRECISION:
        remedy = f"coins of {MAX_PRECISION} bits are not so close to it: allow more distance, or ask for fewer cells"
        raise InvalidArgument("distance", float(distance), remedy)
    return tuple(LaplaceCoins(scale, n, precision) for scale, n in zip(scales, digits, strict=True))


def distance_of_draws(coins: Sequence[LaplaceCoins], cells: Sequence[int]) -> Fraction:
    """An upper bound of the total variation distance of all draws of a release from independent exact ones.

    Args:
        coins: of each block of cells.
        cells: draws in each block.
    """
    return sum((each.distance * count for each, count in zip(coins, cells, strict=True)), Fraction(0))


def _digits(scale: Fraction, distance: Fraction) -> int:
    """The fewest digits for which the tail that is left out is at most a distance."""
    for digits in range(MAX_DIGITS + 1):
        if _tail(scale, digits) <= distance:
            return digits
    remedy = f"draws of this scale would need more than {MAX_DIGITS} digits: allow more distance"
    raise InvalidArgument("scale", float(scale), remedy)


def _tail(scale: Fraction, digits: int) -> Fraction:
    """An upper bound of the probability that a geometric variable has more digits."""
    return exp_above(-(2**digits) / scale)
