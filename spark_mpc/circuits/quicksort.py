"""Sort by comparisons that are opened: safe, because rows are distinct and stand in an order that nobody knows.

After a shuffle, what the comparisons tell is a uniformly random permutation, whatever the rows hold; so is everything
that follows from it: pivots, sizes, rounds. Which rows are compared depends on what was opened before and on nothing
else. Three phases make few comparisons in few steps: some splitters are ordered by all their pairs; the others find
their places between them by halving; the short segments are parted around pivots until all pairs that are left fit in
one step.
Source: Hamada, Kikuchi, Ikarashi, Chida, Takahashi 2012 (shuffle, then open comparisons); Frazer, McKellar 1970
(splitters from a sample).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spark_mpc.circuits.columns import Column, index_bits, rows
from spark_mpc.circuits.keys import Key, index_key, packed_keys
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Bits

__all__ = ["pairs_at_once", "quicksorted", "splitter_depth"]

_FEW_PAIRS = 1 << 13
"""Of 128 rows: they weigh less than the rounds of several steps."""

_Order = NDArray[np.int32]
"""Numbers of rows or places, or counts of them, one for each row or segment."""

_Places = NDArray[np.intp]


def quicksorted(engine: Engine, keys: Sequence[Key], columns: Sequence[Column]) -> list[Column]:
    """Columns in the order of keys; rows with equal keys keep their order.

    Args:
        engine: of this party.
        keys: the most significant first.
        columns: what is sorted, n rows each; keys are not among them unless they are given here, too.

    Guarantees: rows' own numbers make all keys distinct, so the opened comparisons are a function of a permutation that
        a shuffle has made uniform.
    Leaks: nothing. Cost: random, but of a distribution that n alone decides: see `expected_quicksort`. With keys and
        row numbers in one word shared by sums, 473 bytes a row and party and 255 rounds at 10^5 rows, 573 bytes at
        10^6; 32 for this word's columns and 16 for each further column of 64 bits come on top.
    """
    length = len(keys[0].column)
    if length < 2:
        return list(columns)
    numbers = index_key(engine, packed_keys(keys)[-1], length, index_bits(length))
    with engine.step("quick"):
        shuffled = engine.shuffled(list[Column]([*(key.column for key in keys), numbers.column, *columns]))
        words = [Key(column, key.bits) for key, column in zip([*keys, numbers], shuffled, strict=False)]
        order = _order(_Less(engine, packed_keys(words)))
    return rows(shuffled[len(words) :], order)


@dataclass(frozen=True)
class _Less:
    """Opened comparisons of shuffled rows.

    Attributes:
        engine: of this party.
        words: what is compared, the most significant first.
    """

    engine: Engine
    words: Sequence[Key]

    @property
    def columns(self) -> list[Column]:
        return [word.column for word in self.words]

    def __call__(self, keys: Sequence[Column], x: _Places, y: _Places) -> NDArray[np.bool_]:
        """Whether rows at places x come before those at places y."""
        chunk, widths = self.engine.chunk, [word.bits for word in self.words]
        pieces = []
        for start in range(0, len(x), chunk):
            piece = slice(start, start + chunk)
            pieces.append(self.engine.precedes(rows(keys, x[piece]), rows(keys, y[piece]), widths))
        opened = self.engine.open_bits(_all_bits(pieces))
        assert opened is not None
        return opened.view(np.bool_)


def _all_bits(pieces: Sequence[Bits]) -> Bits:
    """Bits one behind the other; all pieces but the last fill their words."""
    parts = zip(*(piece.parts for piece in pieces), strict=True)
    return Bits(tuple(np.concatenate(same) for same in parts), sum(map(len, pieces)))


@dataclass(frozen=True)
class _Segments:
    """Rows that are not in order yet, in segments, each between rows that are.

    Attributes:
        keys: what is compared, segment by segment.
        rows: which shuffled rows these are.
        sizes: rows of each segment.
        places: where each segment begins in the order.
    """

    keys: list[Column]
    rows: _Order
    sizes: _Order
    places: _Order

    @property
    def begins(self) -> _Order:
        """The first row of each segment."""
        return _starts(self.sizes)

    @property
    def pairs(self) -> int:
        """Of rows within segments."""
        sizes = self.sizes.astype(np.int64)
        return int((sizes * (sizes - 1)).sum()) // 2


def _order(less: _Less) -> _Order:
    """Which shuffled row comes at each place."""
    keys, length = less.columns, len(less.columns[0])
    order, at_once = np.empty(length, np.int32), pairs_at_once(length)
    everything = _Segments(keys, np.arange(length, dtype=np.int32), np.array([length], np.int32), np.zeros(1, np.int32))
    segments = everything if everything.pairs <= at_once else _between_splitters(less, length, order)
    while segments.pairs > at_once:
        segments = _parted(less, segments, order)
    if segments.pairs:
        order[np.repeat(segments.places, segments.sizes) + _ranks(less, segments.keys, segments.sizes)] = segments.rows
    return order


def _between_splitters(less: _Less, length: int, order: _Order) -> _Segments:
    """Order the first rows by all their pairs; each other row finds by halving how many of them come before it."""
    keys, depth = less.columns, splitter_depth(length)
    count = (1 << depth) - 1
    splitters = np.argsort(_ranks(less, keys, np.array([count], np.int32)))
    others, before = np.arange(count, length), np.zeros(length - count, np.int32)
    for step in (1 << j for j in reversed(range(depth))):
        before += np.int32(step) * ~less(keys, others, splitters[before + np.int32(step - 1)])
    sizes: _Order = np.bincount(before, minlength=count + 1).astype(np.int32)
    places: _Order = np.add(_starts(sizes), np.arange(count + 1), dtype=np.int32)
    order[(places + sizes)[:-1]] = splitters
    by_segment = others[np.argsort(before.astype(np.uint16), kind="stable")]
    return _left(_Segments(keys, np.arange(length, dtype=np.int32), sizes, places), by_segment, order)


def _parted(less: _Less, segments: _Segments, order: _Order) -> _Segments:
    """Part every segment around its first row: those before it, itself, those after it."""
    pivots, counts = segments.begins, segments.sizes - 1
    is_other = np.ones(len(segments.rows), np.bool_)
    is_other[pivots] = False
    others = np.flatnonzero(is_other)
    before = less(segments.keys, others, np.repeat(pivots, counts))
    lower = np.add.reduceat(before, _starts(counts), dtype=np.int32)
    order[segments.places + lower] = segments.rows[pivots]
    sizes: _Order = np.stack([lower, counts - lower], axis=1).reshape(-1)
    places = np.stack([segments.places, segments.places + lower + 1], axis=1).reshape(-1)
    slots = np.repeat(np.tile([True, False], len(lower)), sizes)
    by_segment = np.empty(len(others), np.intp)
    by_segment[slots], by_segment[~slots] = others[before], others[~before]
    return _left(_Segments(segments.keys, segments.rows, sizes, places), by_segment, order)


def _left(parted: _Segments, by_segment: _Places, order: _Order) -> _Segments:
    """What is left to sort, once rows stand segment by segment: a row alone in its segment has its place."""
    sizes, places = parted.sizes, parted.places
    alone, several = sizes == 1, sizes > 1
    order[places[alone]] = parted.rows[by_segment[parted.begins[alone]]]
    remaining = by_segment[np.repeat(several, sizes)]
    return _Segments(rows(parted.keys, remaining), parted.rows[remaining], sizes[several], places[several])


def _ranks(less: _Less, keys: Sequence[Column], sizes: _Order) -> _Order:
    """Each row's place within its segment, by comparing all pairs in one step."""
    length = int(sizes.sum())  # of further rows nothing is asked
    later: _Order = np.repeat(_starts(sizes) + sizes, sizes) - np.arange(1, length + 1, dtype=np.int32)
    left = np.repeat(np.arange(length), later)
    right = np.arange(len(left)) - np.repeat(_starts(later), later) + left + 1
    before = less(keys, left, right)
    greater = np.where(before, right, left)  # of each pair the one that comes after the other
    return np.bincount(greater, minlength=length).astype(np.int32)


def _starts(sizes: _Order) -> _Order:
    return np.cumsum(sizes, dtype=np.int32) - sizes


def pairs_at_once(length: int) -> int:
    """So many pairs are compared in one step rather than in several: they hardly weigh beside all comparisons."""
    return max(_FEW_PAIRS, length // 8)


def splitter_depth(length: int) -> int:
    """Steps in which rows find their place among splitters; these are 2^depth - 1, and their pairs an eighth to a half
    of a comparison a row."""
    return max(1, ((length // 4).bit_length()) // 2)
