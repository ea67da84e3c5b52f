"""What surviving rows add up to: partial cells of a query's vector, in numpy, modulo 2^64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dp.execution.survivors import Int64s, Survivors, UnitRows, Words
from dp.planning.cells import CellRule, Column, DistinctItems, Surviving

__all__ = ["every_row_survives", "numbered", "partial_items", "partial_sums", "surviving"]

_DENSE_FLOOR = 1 << 16  # a table of this many words is allocated without counting rows first


def surviving(part: UnitRows, alive: Survivors) -> Surviving:
    """The rows that were chosen, as cell rules read them."""
    lengths = np.diff(alive.run_starts, append=len(alive.rows))
    run = np.repeat(np.arange(len(lengths)), lengths)
    return Surviving(alive.rows, alive.group, alive.run_group, run, part.columns, alive.units, alive.truncated_units)


def every_row_survives(group: Int64s, columns: Mapping[str, Column]) -> Surviving:
    """All rows, each a unit of its own."""
    rows = np.arange(len(group))
    return Surviving(rows, group, group, rows, columns, units=len(rows), truncated_units=0)


def numbered(codes: Int64s) -> tuple[Int64s, Int64s]:
    """The different codes, ascending, and for each code its place among them."""
    low, high = (int(codes.min()), int(codes.max())) if len(codes) else (0, 0)
    if high - low >= max(_DENSE_FLOOR, 2 * len(codes)):
        return np.unique(codes, return_inverse=True)
    there = np.zeros(high - low + 1, np.bool_)
    there[codes - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[codes - low]


def partial_sums(alive: Surviving, rules: Sequence[CellRule]) -> Iterator[tuple[Int64s, Words]]:
    """Add up the surviving rows, rule by rule, but for items.

    Args:
        alive: the surviving rows.
        rules: what to add into which cells.

    Returns:
        pairs (cells, words): distinct cells that got something, and what they got modulo 2^64.
    """
    for rule in rules:
        if not isinstance(rule, DistinctItems):
            for cells, amounts in rule.contributions(alive):
                yield _sum_by_key(cells, amounts)


def partial_items(alive: Surviving, rules: Sequence[CellRule]) -> Iterator[tuple[Int64s, Int64s]]:
    """The different items that the surviving rows name, rule by rule: pairs (cells, items), each pair once."""
    for rule in rules:
        if isinstance(rule, DistinctItems):
            for cells, items in rule.contributions(alive):
                assert items is not None
                yield _distinct_pairs(cells, items)


def _distinct_pairs(cells: Int64s, items: Int64s) -> tuple[Int64s, Int64s]:
    order = np.lexsort((items, cells))
    cells, items = cells[order], items[order]
    first = np.ones(len(cells), np.bool_)
    first[1:] = (cells[1:] != cells[:-1]) | (items[1:] != items[:-1])
    return cells[first], items[first]


def _sum_by_key(keys: Int64s, amounts: Int64s | None) -> tuple[Int64s, Words]:
    """Sums modulo 2^64 by key; without amounts every key counts 1. The table never outgrows the rows."""
    if len(keys) == 0:
        return keys, np.empty(0, np.uint64)
    if int(keys.max()) >= max(_DENSE_FLOOR, 2 * len(keys)):
        distinct, keys = np.unique(keys, return_inverse=True)
    else:
        distinct = None
    counts = np.bincount(keys)
    hit = np.flatnonzero(counts)
    sums = counts
    if amounts is not None:
        sums = np.zeros(len(counts), np.int64)
        np.add.at(sums, keys, amounts)  # integer arrays wrap silently, which is the ring's addition
    return (hit if distinct is None else distinct), sums[hit].view(np.uint64)
