"""Operations on Spark columns that give NULL where Spark would raise under ANSI, or read past the end without it.

Every function here takes columns of one kind of `dp.frames.kinds` and gives the same value with ANSI on and off.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.frames.kinds import DATE, DOUBLE, LONG, TIMESTAMP

__all__ = [
    "MOST_CHARACTERS",
    "absolute",
    "civil",
    "cut",
    "date_plus",
    "floor_or_ceil",
    "item",
    "item_from_one",
    "long_of",
    "negated",
    "truncated_date",
]

MOST_CHARACTERS = 65_536
"""Longest text that concat, concat_ws and replace give: texts that double at every step would fill a memory."""

_LEAST = -(2**63)
_MOST_DAYS = 3_652_059  # days from the year 1 to the year 9999
_CIVIL = {
    "date": ("0001-01-01", "9999-12-31"),
    "timestamp": ("0001-01-02 00:00:00", "9999-12-30 00:00:00"),  # a day in, for any time zone
    "timestamp_ntz": ("0001-01-02 00:00:00", "9999-12-30 00:00:00"),
}


def long_of(column: Column) -> Column:
    """A narrower integer as a long."""
    return column.cast(LONG)


def absolute(column: Column, kind: T.DataType) -> Column:
    """|x|; the least long has none."""
    return F.abs(column) if kind == DOUBLE else F.when(column != F.lit(_LEAST), F.abs(column))


def negated(column: Column, kind: T.DataType) -> Column:
    """-x; the least long has none."""
    return F.negative(column) if kind == DOUBLE else F.try_subtract(F.lit(0).cast(LONG), column)


def floor_or_ceil(column: Column, *, up: bool) -> Column:
    """The nearest whole number below or above, as a long; Spark makes 0 of NaN, which is no value of the row."""
    inside = (column >= F.lit(-(2.0**63))) & (column < F.lit(2.0**63))
    return F.when(inside, F.ceil(column) if up else F.floor(column))


def item(array: Column, index: Column) -> Column:
    """The item at an index from 0, a long; NULL outside of the array."""
    inside = (index >= F.lit(0)) & (index < F.array_size(array))
    return F.get(array, F.when(inside, index).try_cast("int"))


def item_from_one(array: Column, index: Column) -> Column:
    """The item at an index from 1, or from the end at -1; `try_element_at` raises at 0 and misreads the least int."""
    from_end = F.try_add(F.array_size(array).cast(LONG), index)
    return item(array, F.when(index > F.lit(0), index - F.lit(1)).when(index < F.lit(0), from_end))


def civil(column: Column, kind: T.DataType) -> Column:
    """A date or timestamp of the years 1 to 9999, otherwise NULL: beyond them calendar arithmetic overflows."""
    first, last = (F.lit(end).cast(kind) for end in _CIVIL[kind.simpleString()])
    return F.when(column.between(first, last), column)


def date_plus(date: Column, days: Column) -> Column:
    """A date so many days later; NULL outside of the years 1 to 9999."""
    near = F.when(days.between(F.lit(-_MOST_DAYS), F.lit(_MOST_DAYS)), days).try_cast("int")
    return civil(F.date_add(civil(date, DATE), near), DATE)


def truncated_date(timestamp: Column, unit: str) -> Column:
    """The timestamp at the beginning of its unit, in the session's time zone."""
    return F.date_trunc(unit, civil(timestamp, TIMESTAMP))


def cut(text: Column) -> Column:
    """The first MOST_CHARACTERS characters."""
    return F.substring(text, 1, MOST_CHARACTERS)
