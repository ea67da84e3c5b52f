"""What surviving rows add up to: partial cells of a query's vector, in numpy, modulo 2^64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dp.errors import InvalidArgument
from dp.execution.survivors import Int64s, Survivors, UnitRows, Words

__all__ = ["CellMeasure", "partial_cells"]

_DENSE_FLOOR = 1 << 16  # a table of this many words is allocated without counting rows first


@dataclass(frozen=True)
class CellMeasure:
    """One measure of a query and the cells it occupies: cell = offset + group * width + bin.

    Args:
        offset: the measure's first cell.
        width: cells per group; more than 1 only for a histogram, whose kind is "rows".
        kind: "rows" adds 1 per surviving row, where `column` is given only if it is not NULL;
            "units" adds 1 per surviving (unit, group); "sum" adds the column's integer, 0 where it is NULL.
        column: the integer column read; in a histogram it holds the bin 0..width-1 and anything else counts nowhere.

    Raises:
        InvalidArgument: a width or a column that the kind cannot have.
    """

    offset: int
    width: int
    kind: Literal["rows", "units", "sum"]
    column: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("rows", "units", "sum"):
            raise InvalidArgument("kind", self.kind, 'a measure counts "rows" or "units", or adds a "sum"')
        if self.offset < 0:
            raise InvalidArgument("offset", self.offset, "cells are numbered from 0")
        if self.width < 1 or (self.width > 1 and (self.kind != "rows" or self.column is None)):
            raise InvalidArgument(
                "width", self.width, 'only "rows" with a column of bins has more than one cell a group'
            )
        if (self.kind == "sum") != (self.column is not None) and self.kind != "rows":
            raise InvalidArgument("column", self.column, '"sum" reads a column, "units" reads none')


def partial_cells(part: UnitRows, alive: Survivors, measures: Sequence[CellMeasure]) -> Iterator[tuple[Int64s, Words]]:
    """Add up the surviving rows, measure by measure.

    Args:
        part: the rows that `alive` was chosen from.
        alive: the surviving rows.
        measures: what to add into which cells.

    Returns:
        for each measure (cells, words): distinct cells that got something, and what they got modulo 2^64.
    """
    for measure in measures:
        keys, amounts = _contributions(part, alive, measure)
        cells, words = _sum_by_key(keys, amounts)
        yield cells + measure.offset, words


def _contributions(part: UnitRows, alive: Survivors, measure: CellMeasure) -> tuple[Int64s, Int64s | None]:
    if measure.kind == "units":
        return alive.run_group, None
    if measure.column is None:
        return alive.group, None
    column = part.columns[measure.column]
    values, group = column.values[alive.rows], alive.group
    if measure.kind == "sum":
        return group, values
    counted = np.ones(len(values), np.bool_) if column.valid is None else column.valid[alive.rows]
    if measure.width == 1:
        return group[counted], None
    # a bin outside the histogram would land in another group's cells
    counted = counted & (values >= 0) & (values < measure.width)
    return group[counted] * measure.width + values[counted], None


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
