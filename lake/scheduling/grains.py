"""Exact budgets as whole numbers of grains, which are 64-bit integers.

Every amount has a grain of its own: the epsilon, the delta, each order. Where a common denominator is small enough a
grain is one part of it, and nothing is lost. Otherwise demands are rounded up and what is there is rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from dp.errors import InvalidArgument
from lake.scheduling.problem import LIMIT, Fits, Ints, Supply

__all__ = ["distinct", "in_grains"]

Amounts = Mapping[str, Fraction]
Key = TypeVar("Key", bound=Hashable)

_HEADROOM = 64


def distinct(keys: Iterable[Key]) -> tuple[list[Key], Ints]:
    """What occurs, in order of first occurrence, and for every key its place there.

    Most claims of a ledger ask for one of a few amounts: convert those, and spread the rows.
    """
    places: dict[Key, int] = {}
    which = [places.setdefault(key, len(places)) for key in keys]
    return list(places), np.array(which, dtype=np.int64)


def in_grains(
    capacity: Sequence[Amounts], available: Sequence[Amounts], demands: Sequence[Amounts], *, claims: int, fits: Fits
) -> tuple[Supply, Ints]:
    """Blocks and demands in grains.

    Args:
        capacity: of every block, by the amounts' names, >= 0.
        available: of every block, at most its capacity; may be negative.
        demands: the different demands that there are, >= 0.
        claims: how many claims wait.
        fits: as in `Supply`.

    Returns:
        The blocks, and the demands' rows, (D, A): spread them over the pairs for `Waiting`.

    Raises:
        InvalidArgument: amounts of different names, a negative demand or capacity, or more available than there is.

    Guarantees:
        Claims that fit in grains, one after the other, fit exactly. The reverse holds for every amount of which all
        the numbers have a common denominator that leaves room for `claims` claims in 64 bits; else each demand is
        rounded up by less than 1 / (2^54 / claims) of the greatest capacity.
        An amount of a demand that is 64 times the greatest capacity, or more, may count as that much.
    """
    names = _names(capacity, available, demands)
    total, left, wanted = (np.empty((len(rows), len(names)), np.int64) for rows in (capacity, available, demands))
    for i, name in enumerate(names):
        column = ([row[name] for row in rows] for rows in (capacity, available, demands))
        total[:, i], left[:, i], wanted[:, i] = _column(*column, most=LIMIT // max(claims, 1))
    return Supply(total, left, fits), wanted


def _names(*rows_of_kind: Sequence[Amounts]) -> list[str]:
    """The names of the amounts, which all rows have in common."""
    rows = [row for rows in rows_of_kind for row in rows]
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        different = sorted({", ".join(row) for row in rows})[:3]
        raise InvalidArgument("demands", different, "give at least one block, and amounts of one kind of budget")
    return list(rows[0])


def _column(
    capacity: list[Fraction], available: list[Fraction], demands: list[Fraction], *, most: int
) -> tuple[list[int], list[int], list[int]]:
    _require(capacity, available, demands)
    greatest = max(capacity, default=Fraction(0))
    scale = _common_denominator([*capacity, *available, *demands])
    if scale is not None:
        total, left, wanted = (_multiplied(rows, scale) for rows in (capacity, available, demands))
        if max([*total, *map(abs, left)], default=0) <= LIMIT and max(wanted, default=0) <= most:
            return total, left, wanted
    grain = Fraction(most, _HEADROOM) / greatest if greatest else Fraction(1)
    return (
        [math.floor(amount * grain) for amount in capacity],
        [max(math.floor(amount * grain), -LIMIT) for amount in available],
        [min(math.ceil(amount * grain), most) for amount in demands],
    )


def _common_denominator(amounts: Iterable[Fraction]) -> int | None:
    """The least one, if it is below the limit."""
    common = 1
    for denominator in {amount.denominator for amount in amounts}:
        common = math.lcm(common, denominator)
        if common > LIMIT:
            return None
    return common


def _multiplied(amounts: Iterable[Fraction], scale: int) -> list[int]:
    """Amounts times a multiple of all their denominators, in whole numbers: fractions take several times as long."""
    return [amount.numerator * (scale // amount.denominator) for amount in amounts]


def _require(capacity: list[Fraction], available: list[Fraction], demands: list[Fraction]) -> None:
    for parameter, amounts in (("capacity", capacity), ("demands", demands)):
        if amounts and min(amounts) < 0:
            raise InvalidArgument(parameter, str(min(amounts)), "a budget is never negative")
    for whole, left in zip(capacity, available, strict=True):
        if left > whole:
            raise InvalidArgument("available", str(left), f"a block never has more than its capacity, {whole}")
