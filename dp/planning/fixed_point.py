"""Fixed-point encoding of bounded columns: integers on the way in, exact rationals on the way out."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pyspark.sql import Column
from pyspark.sql import functions as F

from dp.errors import InvalidArgument

__all__ = ["GREATEST_REAL", "FixedPoint"]

_REAL_BITS = 20
"""Bits of a real-valued bound: a row's rounding error is at most 2^-21 of the power of two at or above the bound."""

_GREATEST_BOUND = 2**52
"""Encoded bounds stay exact as doubles, with room to add a row's rounding."""

GREATEST_REAL = 2**256
"""Bounds and edges of real columns stay within it, so that their squares are doubles too."""


@dataclass(frozen=True)
class FixedPoint:
    """Integers `lower..upper` that stand for multiples of 2^-shift, counted from `centre`.

    A value x is clamped to the bounds, rounded half to even to a multiple of 2^-shift, and encoded as that
    multiple less `centre`. Bounds are rounded first, so the sensitivity `greatest` is an integer and exact.

    Attributes:
        integral: the column has an integer type: resolution 1, no rounding.
        shift: resolution is 2^-shift; 0 for integer columns. May be negative for bounds beyond 2^20.
        lower: least encoded value before the centre is subtracted.
        upper: greatest one.
        centre: integer that is subtracted from every encoded value; 0 for a plain sum.
    """

    integral: bool
    shift: int
    lower: int
    upper: int
    centre: int

    @classmethod
    def plan(cls, lower: Fraction, upper: Fraction, *, integral: bool, centred: bool) -> FixedPoint:
        """Choose resolution and rounded bounds for a column.

        Args:
            lower: declared lower bound.
            upper: declared upper bound, >= lower.
            integral: the column has an integer type: resolution 1, no rounding error at all.
            centred: count from the middle of the bounds, which halves the sensitivity of a mean.

        Raises:
            InvalidArgument: bounds that hold no value of the column, or beyond 2^52 (integers) or 2^256 (reals).
        """
        if integral:
            shift, low, high = 0, -((-lower) // 1), upper // 1
        else:
            reach = max(abs(lower), abs(upper), Fraction(1, 2**64))
            if reach > GREATEST_REAL:
                raise InvalidArgument("bounds", (str(lower), str(upper)), "bounds of real columns stay within 2^256")
            shift = _REAL_BITS - _log2_ceiling(reach)
            low, high = round(lower * Fraction(2) ** shift), round(upper * Fraction(2) ** shift)
        if low > high:
            raise InvalidArgument("bounds", (str(lower), str(upper)), "no integer lies between them; widen the bounds")
        if max(abs(low), abs(high)) > _GREATEST_BOUND:
            raise InvalidArgument("bounds", (str(lower), str(upper)), "bounds of integer columns stay within 2^52")
        return cls(integral, shift, low, high, (low + high) // 2 if centred else 0)

    @classmethod
    def squarable(cls, lower: Fraction, upper: Fraction, *, integral: bool, bits: int) -> FixedPoint:
        """Choose a resolution, and count from the middle, so that no encoded value is greater than 2^bits.

        Args:
            lower: declared lower bound.
            upper: declared upper bound, >= lower.
            integral: the column has an integer type; resolution 1 where that is fine enough, a power of two otherwise.
            bits: 1..26; squares of encoded values stay below 2^(2 bits).

        Raises:
            InvalidArgument: as `plan`.
        """
        exact = cls.plan(lower, upper, integral=integral, centred=True)
        if integral and exact.greatest <= 2**bits:
            return exact
        half = max((upper - lower) / 2, max(abs(lower), abs(upper)) / 2**26, Fraction(1, 2**64))
        shift = bits - 1 - _log2_ceiling(half)
        low, high = (round(bound * Fraction(2) ** shift) for bound in (lower, upper))
        return cls(False, shift, low, high, (low + high) // 2)

    @property
    def greatest(self) -> int:
        """The greatest absolute encoded value: one row's sensitivity, in encoded units."""
        return max(abs(self.lower - self.centre), abs(self.upper - self.centre))

    def unclamped(self) -> FixedPoint:
        """The same resolution for values that have no bound of their own: saturating far beyond any."""
        return FixedPoint(self.integral, self.shift, -_GREATEST_BOUND, _GREATEST_BOUND, 0)

    @property
    def unit(self) -> Fraction:
        """The value of one encoded unit."""
        return Fraction(2) ** -self.shift

    @property
    def centre_value(self) -> Fraction:
        """The value that encodes to zero."""
        return self.centre * self.unit

    def encoded(self, value: Fraction) -> int:
        """What a public value is encoded as."""
        return max(min(round(value / self.unit), self.upper), self.lower) - self.centre

    def encode(self, value: Column) -> Column:
        """The encoded column (long); NULL where `value` is NULL or NaN; infinities are clamped. Never raises on a row.

        The clamp comes before the rounding (so the cast cannot overflow) and again after it (so the integer bounds
        hold whatever the rounding did).
        """
        if self.integral:
            rounded = value
        else:
            real = value.cast("double")
            scale = float(Fraction(2) ** self.shift)
            reach = (F.lit(self.lower / scale), F.lit(self.upper / scale))
            clamped = F.greatest(F.least(real, reach[1]), reach[0])
            rounded = F.when(F.isnan(real), F.lit(None)).otherwise(F.rint(clamped * F.lit(scale)))
        return self._clamp(rounded, value)

    def _clamp(self, rounded: Column, value: Column) -> Column:
        low, high = F.lit(self.lower).cast("long"), F.lit(self.upper).cast("long")
        inside = F.greatest(F.least(rounded.cast("long"), high), low) - F.lit(self.centre).cast("long")
        # greatest/least skip NULL, so a missing value would become a bound: put the NULL back.
        return F.when(value.isNull() | rounded.isNull(), F.lit(None)).otherwise(inside).cast("long")

    def to_json(self) -> dict[str, int]:
        """The encoding as public plan fields."""
        return {"shift": self.shift, "lower": self.lower, "upper": self.upper, "centre": self.centre}


def _log2_ceiling(value: Fraction) -> int:
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - 1
    while Fraction(2) ** exponent < value:
        exponent += 1
    return exponent
