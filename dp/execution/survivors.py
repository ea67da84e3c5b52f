"""Contribution bounding of the rows of whole units, in numpy: which rows survive.

Every choice is a salted hash of the row's own content, so that it depends on the rows of its unit alone: not on
their order, not on other units, not on the attempt. The salt need not be secret; the bounds hold for every salt.
Arithmetic is modulo 2^64 throughout: no value of a row can raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dp.planning.bounds import ContributionBounds
from dp.planning.cells import Column

__all__ = ["SHARE_ROWS", "Survivors", "UnitRows", "group_draw", "mix64", "shares", "survivors"]

Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

SHARE_ROWS = 1 << 20
"""About how many rows are bounded at once: sorting more of them at a time costs more for each, and memory."""

_MOST_SHARES = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


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

    def take(self, rows: Int64s) -> UnitRows:
        """These rows, of which no unit may lose one."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return UnitRows(self.unit[rows], self.unit_hash[rows], self.group[rows], columns)


@dataclass(frozen=True)
class Survivors:
    """What bounding lets through: surviving rows in the order of their (unit, group) runs.

    Args:
        rows: positions of the surviving rows.
        group: their group codes.
        run_starts: where in `rows` every surviving (unit, group) begins.
        units: how many units there are.
        truncated_units: how many of them lost a row.
    """

    rows: Int64s
    group: Int64s
    run_starts: Int64s
    units: int
    truncated_units: int

    @property
    def run_group(self) -> Int64s:
        """The group code of every surviving (unit, group)."""
        return self.group[self.run_starts]


@dataclass(frozen=True)
class _Ordered:
    """Some rows by unit, and those of a unit by their groups' lots: rows of one (unit, group) are contiguous."""

    rows: Int64s
    unit: Int64s
    group: Int64s

    @cached_property
    def run_starts(self) -> Int64s:
        """Where a (unit, group) begins."""
        return np.flatnonzero(_starts(self.unit) | _starts(self.group))

    @cached_property
    def unit_starts(self) -> Int64s:
        """Where a unit begins."""
        return np.flatnonzero(_starts(self.unit))

    def only(self, kept: Mask) -> _Ordered:
        """The rows that are kept, in the same order."""
        if kept.all():
            return self
        alive = np.flatnonzero(kept)
        return _Ordered(self.rows[alive], self.unit[alive], self.group[alive])


def mix64(words: Words) -> Words:
    """A bijection of 64-bit words that spreads every bit over all others (Steele, Lea and Flood 2014, SplitMix64)."""
    shifted = words >> np.uint64(30)
    mixed = words ^ shifted
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= np.right_shift(mixed, np.uint64(27), out=shifted)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= np.right_shift(mixed, np.uint64(31), out=shifted)
    return mixed


def group_draw(unit_hash: Words, group: Int64s) -> Words:
    """The lot that a unit draws for a group: its groups with the lowest lots survive."""
    return mix64(unit_hash + group.view(np.uint64) * _GOLDEN)


def shares(part: UnitRows, rows: int = SHARE_ROWS) -> Iterator[UnitRows]:
    """Split the rows into parts of whole units, of about `rows` rows or fewer unless single units have more."""
    bits = min(len(part.unit) // rows, _MOST_SHARES - 1).bit_length()
    if bits == 0:
        yield part
        return
    # the lowest bits of the hash: a share's order is made from the highest
    share = (part.unit_hash & np.uint64((1 << bits) - 1)).astype(np.uint16)
    ends = np.cumsum(np.bincount(share, minlength=1 << bits))
    for of_share in np.split(np.argsort(share, kind="stable"), ends[:-1]):
        yield part.take(of_share)


def survivors(part: UnitRows, bounds: ContributionBounds) -> Survivors:
    """Choose the rows that survive.

    Args:
        part: rows of whole units, in any order.
        bounds: what a unit may contribute.

    Guarantees: of every unit at most `bounds.groups` groups, `bounds.rows_per_group` rows in each and `bounds.rows`
        rows in all survive; which ones depends on that unit's own rows only; a unit within its bounds loses nothing.
    Cost: one sort of the rows, two more of the rows in runs that are too long.
    """
    everything = _by_unit_then_lot(part)
    alive = everything
    if bounds.max_groups is not None:
        alive = alive.only(_in_first_groups(alive, bounds.max_groups))
    # rows: at most max_groups groups of one unit, each of them whole
    if bounds.max_total_rows is not None:
        alive = alive.only(_first_by_lot(part, alive.rows, alive.unit_starts, bounds.max_total_rows))
    elif bounds.max_rows is not None:
        alive = alive.only(_first_by_lot(part, alive.rows, alive.run_starts, bounds.max_rows))
    # every unit still has a row, so that units correspond
    before, after = _lengths(everything.unit_starts, len(everything.rows)), _lengths(alive.unit_starts, len(alive.rows))
    return Survivors(alive.rows, alive.group, alive.run_starts, len(before), int(np.count_nonzero(before != after)))


def _by_unit_then_lot(part: UnitRows) -> _Ordered:
    lot = group_draw(part.unit_hash, part.group)
    unit_bits = (64 - _row_bits(len(lot))) * 3 // 5
    unit_mask = ~np.uint64((1 << (64 - unit_bits)) - 1)
    order, key = _sorted_rows((part.unit_hash & unit_mask) | (lot >> np.uint64(unit_bits)))
    same_prefix = _equal_to_previous(key & unit_mask)
    unit, group = part.unit[order], part.group[order]
    # two units share the bits of a prefix, or two groups of one unit those of a key
    mistaken = (same_prefix & _starts(unit)) | (_equal_to_previous(key) & _starts(group))
    if mistaken.any():
        _put_in_order(order, same_prefix, mistaken, [part.unit, lot, part.group])
        unit, group = part.unit[order], part.group[order]
    return _Ordered(order, unit, group)


def _in_first_groups(ordered: _Ordered, limit: int) -> Mask:
    """Which rows are in the first `limit` groups of their unit."""
    kept = _among_first(ordered.unit[ordered.run_starts], limit)
    return np.repeat(kept, _lengths(ordered.run_starts, len(ordered.rows)))


def _first_by_lot(part: UnitRows, rows: Int64s, starts: Int64s, limit: int) -> Mask:
    """Which of `rows` are among the first `limit` of their run, by the lots that rows draw.

    A lot is a hash of the row's content and of how many equal rows of its run come before it, so that among equal
    rows it does not matter which, and a value that a unit has a hundred times is a hundred times as likely to stay.
    """
    kept = np.ones(len(rows), np.bool_)
    lengths = _lengths(starts, len(rows))
    too_long = lengths > limit
    if not too_long.any():
        return kept
    unsure = np.flatnonzero(np.repeat(too_long, lengths))
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
    kept[unsure[order]] = _among_first(run, limit)
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
    order, sorted_by = _sorted_rows((run.view(np.uint64) << np.uint64(64 - run_bits)) | (key >> np.uint64(run_bits)))
    tied = _equal_to_previous(sorted_by)
    this, previous = order[tied], order[np.flatnonzero(tied) - 1]
    mistaken = np.zeros(len(order), np.bool_)
    mistaken[tied] = np.logical_or.reduce([column[this] != column[previous] for column in (key, *ties)])
    if mistaken.any():
        _put_in_order(order, tied, mistaken, [key, *ties])
    return order


def _row_bits(rows: int) -> int:
    return max(1, (rows - 1).bit_length())


def _sorted_rows(words: Words) -> tuple[Int64s, Words]:
    """An order of rows by the highest bits of their words, and these in that order, the others 0.

    The lowest `_row_bits` make room for the row's number: to sort integers is several times as fast as argsort.
    """
    numbers = np.uint64((1 << _row_bits(len(words))) - 1)
    packed = (words & ~numbers) | np.arange(len(words), dtype=np.uint64)
    packed.sort()
    order = (packed & numbers).view(np.int64)
    packed &= ~numbers
    return order, packed


def _put_in_order(order: Int64s, continues: Mask, mistaken: Mask, columns: Sequence[npt.NDArray[np.generic]]) -> None:
    """Sort, by `columns` of the rows, those blocks of `order` in which something is mistaken.

    Args:
        order: rows; changed in place.
        continues: where the block is that of the row before.
        mistaken: where a row may be out of order.
        columns: the first one counts most.
    """
    starts = np.flatnonzero(~continues)
    blocks = np.unique(np.searchsorted(starts, np.flatnonzero(mistaken), side="right") - 1)
    lengths = _lengths(starts, len(order))[blocks]
    block = np.repeat(np.arange(len(blocks)), lengths)
    places = np.arange(len(block)) + (starts[blocks] - (np.cumsum(lengths) - lengths))[block]
    rows = order[places]
    order[places] = rows[np.lexsort((*(column[rows] for column in reversed(columns)), block))]


def _starts(values: npt.NDArray[np.generic]) -> Mask:
    """Where a run of equal values begins."""
    starts = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts


def _equal_to_previous(values: npt.NDArray[np.generic]) -> Mask:
    return ~_starts(values)


def _lengths(starts: Int64s, rows: int) -> Int64s:
    """How long the runs are that begin there."""
    return np.diff(starts, append=rows)


def _rank_in_run(starts: Mask) -> Int64s:
    """Each row's position in its run, from 0."""
    first = np.flatnonzero(starts)
    return np.arange(len(starts)) - np.repeat(first, _lengths(first, len(starts)))


def _among_first(run: Int64s, limit: int) -> Mask:
    """Which elements are among the first `limit` of their run of equal values."""
    first = np.ones(len(run), np.bool_)
    np.not_equal(run[limit:], run[:-limit], out=first[limit:])
    return first
