"""Exact numbers: every budget, bound and noise scale is a rational, never a float.

Transcendental functions are evaluated with sixty decimal digits and a margin far above their error, so each has a
rational bound on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction

from dp.errors import InvalidArgument

__all__ = ["MARGIN", "Exact", "decimal_near", "exp_above", "exp_below", "log_near", "rational", "root_above", "rounded"]

Exact = str | int | float | Decimal | Fraction
"""What a caller may write for an exact number; a float is read as the decimal that it prints."""

MARGIN = Fraction(1, 10**40)
"""Relative error that a dozen operations on sixty digits never reach."""

_ARITHMETIC = Context(prec=60)
_DIGITS = 15
_LEAST_EXPONENT = -1000  # below it an exponential is bounded by e^-1000: a smaller one would only be a longer rational


def rational(value: Exact, parameter: str) -> Fraction:
    """Read an exact number: strings ("0.1", "1e-6", "1/3"), integers, Decimals and Fractions as they stand.

    Args:
        value: the number; a float counts as the decimal that `repr` prints, so 0.1 is one tenth.
        parameter: the caller's parameter, for the error.

    Raises:
        InvalidArgument: NaN, an infinity, a boolean, or anything that is not a number.
    """
    if type(value) is Fraction:
        return value
    remedy = 'give a finite number, best as a string such as "0.1" or "1/3"'
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal, Fraction)):
        raise InvalidArgument(parameter, value, remedy)
    try:
        if isinstance(value, float):
            return Fraction(Decimal(repr(float(value))))
        return Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError, InvalidOperation):
        raise InvalidArgument(parameter, value, remedy) from None


def exp_above(value: Fraction) -> Fraction:
    """An upper bound of e^value, relatively closer than 1e-36; e^-1000 where the value is below -1000."""
    clipped = max(value, Fraction(_LEAST_EXPONENT))
    return Fraction(_ARITHMETIC.exp(decimal_near(clipped))) * (1 + MARGIN * (1 + abs(clipped)))


def exp_below(value: Fraction) -> Fraction:
    """A lower bound of e^value, relatively closer than 1e-36; zero where the value is below -1000."""
    if value < _LEAST_EXPONENT:
        return Fraction(0)
    return Fraction(_ARITHMETIC.exp(decimal_near(value))) * (1 - MARGIN * (1 + abs(value)))


def log_near(value: Fraction) -> Fraction:
    """The natural logarithm of a value > 0, within a relative MARGIN unless the value is within 1e-15 of one."""
    return Fraction(_ARITHMETIC.ln(decimal_near(value)))


def root_above(value: Fraction) -> Fraction:
    """An upper bound of the square root of a value >= 0."""
    return Fraction(_ARITHMETIC.sqrt(decimal_near(value))) * (1 + MARGIN)


def rounded(value: Fraction, direction: Callable[[Fraction], int]) -> Fraction:
    """The value to fifteen digits, rounded in the direction given: `math.floor` or `math.ceil`."""
    if value == 0:
        return value
    unit = Fraction(10) ** (decimal_near(value).adjusted() + 1 - _DIGITS)
    return direction(value / unit) * unit


def decimal_near(value: Fraction) -> Decimal:
    """The value to sixty digits."""
    return _ARITHMETIC.divide(Decimal(value.numerator), Decimal(value.denominator))
