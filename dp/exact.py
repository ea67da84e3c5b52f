"""Exact numbers: every budget, bound and noise scale is a rational, never a float."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from dp.errors import InvalidArgument

__all__ = ["Exact", "rational"]

Exact = str | int | float | Decimal | Fraction
"""What a caller may write for an exact number; a float is read as the decimal that it prints."""


def rational(value: Exact, parameter: str) -> Fraction:
    """Read an exact number: strings ("0.1", "1e-6", "1/3"), integers, Decimals and Fractions as they stand.

    Args:
        value: the number; a float counts as the decimal that `repr` prints, so 0.1 is one tenth.
        parameter: the caller's parameter, for the error.

    Raises:
        InvalidArgument: NaN, an infinity, a boolean, or anything that is not a number.
    """
    remedy = 'give a finite number, best as a string such as "0.1" or "1/3"'
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal, Fraction)):
        raise InvalidArgument(parameter, value, remedy)
    try:
        if isinstance(value, float):
            return Fraction(Decimal(repr(float(value))))
        return Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError, InvalidOperation):
        raise InvalidArgument(parameter, value, remedy) from None
