"""The rows of blocks, as a condition on Spark's columns that raises on no value and no time zone changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import and_, or_
from types import MappingProxyType

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.frames.schema import INTEGRAL_BITS
from dp.planning.names import quoted
from lake.blocks.block import Block
from lake.blocks.instants import DAY
from lake.blocks.rules import Blocks, Windows

__all__ = ["rows_in", "user_range"]

_MOST_SPANS = 64
"""Spark plans a condition of thousands of comparisons for minutes."""

_HASH_DIGITS, _HASH_BITS = 10, 40  # hexadecimal; times 2^16 ranges it stays within a long


def rows_in(blocks: Sequence[Block], rule: Blocks, schema: T.StructType, ids: Sequence[str]) -> Column:
    """Whether a row lies in one of the blocks; NULL or false where it does not.

    Time is compared as it is stored, so that Delta can skip files; adjacent windows make one comparison.

    Args:
        blocks: of the rule; at least one.
        rule: what cut them.
        schema: of the rows.
        ids: the columns that are hashed, where users are cut.
    """
    by_start: dict[int | None, set[int]] = defaultdict(set)
    for block in blocks:
        by_start[block.start] |= set() if block.user_range is None else {block.user_range}
    starts: dict[frozenset[int], list[int]] = defaultdict(list)
    for start, ranges in by_start.items():
        starts[frozenset(ranges)] += [] if start is None else [start]
    return _any([_cell(rule, schema, ids, *cell) for cell in starts.items()])


def user_range(schema: T.StructType, ids: Sequence[str], ranges: int) -> Column:
    """The range of users that a row belongs to, 0..ranges-1; NULL if one of the ids is NULL.

    Each id becomes bytes: an integer its decimal digits, a text its UTF-8, a date the digits of its days since
    1970-01-01, a truth value "true" or "false", binary itself. One id: the SHA-256 of these bytes; several: the SHA-256
    of their SHA-256s' hexadecimal digits, one after the other. The first 40 bits of it, as a number h, give the range
    floor(h * ranges / 2^40): the sizes of two ranges differ by at most one of 2^40 values. Distinct ids are hashed as
    distinct bytes; any engine computes the same.

    Args:
        schema: of the rows.
        ids: columns of integer, string, date, boolean or binary type.
        ranges: 1..2^16.
    """
    hashes = [F.sha2(_bytes(schema, name), 256) for name in ids]
    combined = hashes[0] if len(hashes) == 1 else F.sha2(F.concat(*hashes).cast("binary"), 256)
    number = F.conv(F.substring(combined, 1, _HASH_DIGITS), 16, 10).cast("long")
    return F.shiftright(number * F.lit(ranges).cast("long"), _HASH_BITS)


def _cell(
    rule: Blocks, schema: T.StructType, ids: Sequence[str], ranges: frozenset[int], starts: Sequence[int]
) -> Column:
    """Rows of some windows and, within all of them, of the same ranges of users."""
    conditions = [] if rule.windows is None else [_of_windows(rule.windows, schema, starts)]
    if rule.user_ranges is not None:
        conditions.append(_of_users(schema, ids, ranges, rule.user_ranges))
    return reduce(and_, conditions)


def _of_windows(windows: Windows, schema: T.StructType, starts: Sequence[int]) -> Column:
    """Spans of time; where there are many, one around them all, and the start of the row's own window."""
    kind, column = schema[windows.column].dataType, F.col(quoted(windows.column))

    def within(span: tuple[int, int]) -> Column:
        return (column >= _literal(span[0], kind)) & (column < _literal(span[1], kind))

    spans = _merged(starts, windows.seconds)
    if len(spans) <= _MOST_SPANS:
        return _any([within(span) for span in spans])
    seconds = F.unix_date(column) * F.lit(DAY).cast("long") if kind == T.DateType() else F.unix_seconds(column)
    start = seconds - F.pmod(seconds, F.lit(windows.seconds).cast("long"))
    return within((spans[0][0], spans[-1][1])) & start.isin(sorted(starts))


def _of_users(schema: T.StructType, ids: Sequence[str], chosen: frozenset[int], ranges: int) -> Column:
    if len(chosen) == ranges:  # nothing to hash: whoever has an id is in one of them
        return reduce(and_, (F.col(quoted(name)).isNotNull() for name in ids))
    return user_range(schema, ids, ranges).isin(sorted(chosen))


def _merged(starts: Iterable[int], seconds: int) -> list[tuple[int, int]]:
    """Windows as spans (from, before), adjacent ones together."""
    spans: list[tuple[int, int]] = []
    for start in sorted(starts):
        begin = spans.pop()[0] if spans and spans[-1][1] == start else start
        spans.append((begin, start + seconds))
    return spans


def _literal(seconds: int, kind: T.DataType) -> Column:
    """A midnight UTC as a date, or an instant as a timestamp: made from whole numbers, no text and no zone between."""
    if isinstance(kind, T.DateType):
        return F.date_from_unix_date(F.lit(seconds // DAY))
    return F.timestamp_micros(F.lit(seconds * 10**6).cast("long"))


def _any(conditions: Sequence[Column]) -> Column:
    """One of them holds; halved, so that many of them are no deep tree."""
    middle = len(conditions) // 2
    return or_(_any(conditions[:middle]), _any(conditions[middle:])) if middle else conditions[0]


def _of_digits(column: Column) -> Column:
    return column.cast("long").cast("string").cast("binary")


_BYTES: Mapping[type[T.DataType], Callable[[Column], Column]] = MappingProxyType(
    {
        **dict.fromkeys(INTEGRAL_BITS, _of_digits),
        T.StringType: lambda column: column.cast("binary"),
        T.DateType: lambda column: _of_digits(F.unix_date(column)),
        T.BooleanType: lambda column: column.cast("string").cast("binary"),
        T.BinaryType: lambda column: column,
    }
)
"""The types that a unit may have, and the bytes of their values."""


def _bytes(schema: T.StructType, name: str) -> Column:
    return _BYTES[type(schema[name].dataType)](F.col(quoted(name)))
