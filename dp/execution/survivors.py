"""Contribution bounding of the rows of whole units, in numpy: which rows survive.

Every choice is a salted hash of the row's own content, so that it depends on the rows of its unit alone: not on
their order, not on other units, not on the attempt. The salt need not be secret; the bounds hold for every salt.
Arithmetic is modulo 2^64 throughout: no value of a row can raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dp.planning.bounds import ContributionBounds

__all__ = ["Column", "Survivors", "UnitRows", "group_draw", "mix64", "survivors"]

Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_GROUP_BITS = 27  # of a sort key: 37 bits of the unit's hash, then 27 bits of the group's draw
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


@dataclass(frozen=True)
class Column:
    """One measure column: its integers, and where it is not NULL (`None`: everywhere); a NULL's integer is 0."""

    values: Int64s
    valid: Mask | None = None

    def take(self, rows: Int64s) -> Column:
        """The column of these rows."""
        return Column(self.values[rows], None if self.valid is None else self.valid[rows])

    def exact(self) -> list[Int64s]:
        """Integers that two rows share exactly when they have the same value, or both have none."""
        return [self.values] if self.valid is None else [self.values, self.valid.astype(np.int64)]


@dataclass(frozen=True)
class UnitRows:
    """Rows of whole units: no unit has further rows elsewhere.

    Args:
        unit: the unit's exact identity within these rows; equal numbers are one unit.
        unit_hash: salted hash of the unit, the same in every run; two units may share it, which costs time only.
        group: group codes, >= 0.
        columns: measure columns by name.
    """

    unit: Int64s
    unit_hash: Words
    group: Int64s
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class Survivors:
    """What bounding lets through: surviving rows in the order of their (unit, group) runs.

    Args:
        rows: positions of the surviving rows.
        group: their group codes.
        run_group: the group code of every surviving (unit, group).
    """

    rows: Int64s
    group: Int64s
    run_group: Int64s


def mix64(words: Words) -> Words:
    """A bijection of 64-bit words that spreads every bit over all others (Steele, Lea and Flood 2014, SplitMix64)."""
    mixed = words ^ (words >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def group_draw(unit_hash: Words, group: Int64s) -> Words:
    """The lot that a unit draws for a group: its groups with the lowest lots survive."""
    return mix64(unit_hash + group.view(np.uint64) * _GOLDEN)


def survivors(part: UnitRows, bounds: ContributionBounds) -> Survivors:
    """Choose the rows that survive.

    Args:
        part: rows of whole units, in any order.
        bounds: what a unit may contribute.

    Guarantees: of every unit at most `bounds.groups` groups, `bounds.rows_per_group` rows in each and `bounds.rows`
        rows in all survive; which ones depends on that unit's own rows only; a unit within its bounds loses nothing.
    Cost: one sort of the rows, a second one of the rows in runs that are too long.
    """
    order = _by_unit_then_lot(part)
    unit, group = part.unit[order], part.group[order]
    new_unit = _starts(unit)
    new_run = new_unit | _starts(group)
    if bounds.max_groups is not None:
        kept = _rank_of_run(new_unit, new_run) < bounds.max_groups
        order, group, new_unit, new_run = order[kept], group[kept], new_unit[kept], new_run[kept]
    # rows: at most max_groups runs of one unit; each unit and each run still begins at its flag
    limit, run_flags = (
        (bounds.rows, new_unit) if bounds.max_total_rows is not None else (bounds.rows_per_group, new_run)
    )
    kept_rows = _first_by_lot(part, order, np.flatnonzero(run_flags), limit)
    if kept_rows is None:
        return Survivors(order, group, group[new_run])
    run = np.cumsum(new_run)[kept_rows]
    order, group = order[kept_rows], group[kept_rows]
    return Survivors(order, group, group[_starts(run)])


def _by_unit_then_lot(part: UnitRows) -> Int64s:
    """An order of the rows in which units are contiguous, and in each its groups in the order of their lots."""
    lot = group_draw(part.unit_hash, part.group)
    low_bits = np.uint64((1 << _GROUP_BITS) - 1)
    key = (part.unit_hash & ~low_bits) | (lot >> np.uint64(64 - _GROUP_BITS))
    order = np.argsort(key)
    key = key[order]
    same_prefix = _equal_to_previous(key & ~low_bits)
    same_key = _equal_to_previous(key)
    unit, group = part.unit[order], part.group[order]
    collision = (same_prefix & _starts(unit)) | (same_key & _starts(group))
    if not collision.any():
        return order
    # Two units, or two groups of one unit, share the bits of a key: put the rows of that prefix in the exact order.
    prefix = np.cumsum(~same_prefix)
    unsure = np.isin(prefix, prefix[collision])
    rows = order[unsure]
    exact = np.lexsort((part.group[rows], lot[rows], part.unit[rows], prefix[unsure]))
    order[unsure] = rows[exact]
    return order


def _first_by_lot(part: UnitRows, rows: Int64s, starts: Int64s, limit: int) -> Mask | None:
    """Which of `rows` are among the first `limit` of their run, by the lots that rows draw; `None`: all of them.

    A lot is a hash of the row's content and of how many equal rows of its run come before it, so that among equal
    rows it does not matter which, and a value that a unit has a hundred times is a hundred times as likely to stay.
    """
    lengths = np.diff(starts, append=len(rows))
    too_long = lengths > limit
    if not too_long.any():
        return None
    unsure = np.repeat(too_long, lengths)
    chosen = rows[unsure]
    lengths = lengths[too_long]
    run = np.repeat(np.arange(len(lengths)), lengths)
    columns = [part.columns[name].take(chosen) for name in sorted(part.columns)]
    group = part.group[chosen]
    content = _content_hash(group_draw(part.unit_hash[chosen], group), columns)
    order = _order_within(run, content, [group, *(ties for column in columns for ties in column.exact())])
    content = content[order]
    equal_rows = _starts(run) | _starts(content)
    lot = mix64(content + _rank_in_run(equal_rows).view(np.uint64) * _GOLDEN)
    order = order[_order_within(run, lot, [np.arange(len(lot))])]
    kept = np.ones(len(rows), np.bool_)
    kept[np.flatnonzero(unsure)[order]] = _rank_in_run(_starts(run)) < limit
    return kept


def _content_hash(seed: Words, columns: Sequence[Column]) -> Words:
    """A hash of each row's values; whether other rows have NULLs, or a mask at all, makes no difference to it."""
    content = seed
    for column in columns:
        content = mix64((content ^ column.values.view(np.uint64)) + _GOLDEN)
        if column.valid is not None:
            content[~column.valid] = mix64(~content[~column.valid])
    return content


def _order_within(run: Int64s, key: Words, ties: Sequence[Int64s]) -> Int64s:
    """The order of rows by (run, key, ties), where `run` is ascending already; rows equal in all are in any order."""
    run_bits = max(1, int(run[-1]).bit_length())
    packed = (run.view(np.uint64) << np.uint64(64 - run_bits)) | (key >> np.uint64(run_bits))
    order = np.argsort(packed)
    tied = np.flatnonzero(_equal_to_previous(packed[order]))
    this, previous = order[tied], order[tied - 1]
    if all(np.array_equal(column[this], column[previous]) for column in (key, *ties)):
        return order
    return np.lexsort((*reversed(ties), key, run))


def _starts(values: npt.NDArray[np.generic]) -> Mask:
    """Where a run of equal values begins."""
    return ~_equal_to_previous(values)


def _equal_to_previous(values: npt.NDArray[np.generic]) -> Mask:
    equal = np.zeros(len(values), np.bool_)
    np.equal(values[1:], values[:-1], out=equal[1:])
    return equal


def _rank_in_run(starts: Mask) -> Int64s:
    """Each row's position in its run, from 0."""
    first = np.flatnonzero(starts)
    return np.arange(len(starts)) - np.repeat(first, np.diff(first, append=len(starts)))


def _rank_of_run(new_unit: Mask, new_run: Mask) -> Int64s:
    """Each row's run, numbered from 0 within its unit."""
    run = np.cumsum(new_run)
    first = np.flatnonzero(new_unit)
    return run - np.repeat(run[first], np.diff(first, append=len(run)))
