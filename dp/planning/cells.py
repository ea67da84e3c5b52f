"""Cell rules: what surviving rows add to which cells of a query's vector, in numpy, modulo 2^64.

A measure that occupies `offset` onwards with `stride` cells a group adds into offset + group * stride + j. Every rule
is total: no value of a row raises, and integers wrap as the ring's do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from dp.errors import InvalidArgument

__all__ = [
    "BinCount",
    "CellRule",
    "Column",
    "Contribution",
    "DistinctItems",
    "Norm",
    "RowCount",
    "RowSum",
    "Surviving",
    "TruncatedUnits",
    "UnitCount",
    "UnitSizes",
    "UnitTotal",
    "VectorSum",
]

Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Norm = Literal["l1", "l2", "linf"]
Contribution = tuple[Int64s, Int64s | None]
"""Cells, one per addition, and what is added there; None adds 1."""


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
class Surviving:
    """The rows that bounding let through, for cell rules to add up.

    Attributes:
        rows: positions of the rows among those of `columns`, in the order of their (unit, group) runs.
        group: the rows' group codes.
        run_group: the group code of every surviving (unit, group).
        run: for every row, the index of its (unit, group) in `run_group`.
        columns: measure columns by name, before bounding.
        units: units before bounding.
        truncated_units: those that lost a row.
    """

    rows: Int64s
    group: Int64s
    run_group: Int64s
    run: Int64s
    columns: Mapping[str, Column]
    units: int
    truncated_units: int

    @cached_property
    def _taken(self) -> dict[str, Column]:
        return {}

    def column(self, name: str) -> Column:
        """A measure column of the surviving rows."""
        if name not in self._taken:
            self._taken[name] = self.columns[name].take(self.rows)
        return self._taken[name]

    def regrouped(self, codes: Int64s) -> Surviving:
        """The same rows, in which group g is `codes[g]`."""
        return replace(self, group=codes[self.group], run_group=codes[self.run_group])

    def complete(self, names: tuple[str, ...]) -> Mask | None:
        """Where none of these columns is NULL; None: everywhere."""
        masks = [column.valid for name in names if (column := self.column(name)).valid is not None]
        return None if not masks else np.logical_and.reduce(masks)


@dataclass(frozen=True)
class CellRule(ABC):
    """What surviving rows add to which cells.

    Args:
        offset: the first cell, >= 0.
        stride: cells from one group to the next, >= 1.

    Raises:
        InvalidArgument: an offset or a stride out of range.
    """

    offset: int
    stride: int

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise InvalidArgument("offset", self.offset, "cells are numbered from 0")
        if self.stride < 1:
            raise InvalidArgument("stride", self.stride, "a group has at least one cell")

    @property
    def columns(self) -> tuple[str, ...]:
        """The integer columns that are read."""
        return ()

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same rule over columns of other names."""
        return self

    @abstractmethod
    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        """Additions, in any order."""

    def _cells(self, group: Int64s) -> Int64s:
        if self.stride == 1 and self.offset == 0:
            return group
        return group * self.stride + self.offset


@dataclass(frozen=True)
class RowCount(CellRule):
    """Adds 1 per row in which none of the columns is NULL."""

    present: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.present

    def renamed(self, names: Mapping[str, str]) -> Self:
        return replace(self, present=tuple(names[name] for name in self.present))

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        counted = alive.complete(self.present)
        yield self._cells(alive.group if counted is None else alive.group[counted]), None


@dataclass(frozen=True)
class UnitCount(CellRule):
    """Adds 1 per (unit, group)."""

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        yield self._cells(alive.run_group), None


@dataclass(frozen=True)
class TruncatedUnits(CellRule):
    """Counts, in two cells for all groups together, the units that bounding took rows from, and all units."""

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        yield np.array([self.offset, self.offset + 1]), np.array([alive.truncated_units, alive.units])


@dataclass(frozen=True)
class UnitSizes(CellRule):
    """Adds 1 per (unit, group) to the bin of its number of rows: bin i holds 2^i to 2^(i+1) - 1, the last all above."""

    bins: int = 1

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        sizes = np.bincount(alive.run, minlength=len(alive.run_group))
        powers = np.int64(2) ** np.arange(1, self.bins)
        yield self._cells(alive.run_group) + np.searchsorted(powers, sizes, side="right"), None


@dataclass(frozen=True)
class RowSum(CellRule):
    """Adds the product of columns, less `minus`, per row in which none of them, and none of others, is NULL.

    Args:
        factors: a column that stands twice is squared; without any the product is 1.
        minus: a public integer.
        present: further columns that must not be NULL.
    """

    factors: tuple[str, ...] = ()
    minus: int = 0
    present: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.factors + self.present))

    def renamed(self, names: Mapping[str, str]) -> Self:
        factors, present = (tuple(names[name] for name in field) for field in (self.factors, self.present))
        return replace(self, factors=factors, present=present)

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        counted, group, amounts = alive.complete(self.columns), alive.group, None
        for name in self.factors:
            values = alive.column(name).values
            amounts = values if amounts is None else amounts * values
        if counted is not None:
            group, amounts = group[counted], None if amounts is None else amounts[counted]
        if self.minus:
            amounts = (1 if amounts is None else amounts) - np.full(len(group), self.minus)
        yield self._cells(group), amounts


@dataclass(frozen=True)
class UnitTotal(CellRule):
    """Adds, per (unit, group), the column's sum over the unit's rows there, clamped to lower..upper."""

    column: str = ""
    lower: int = 0
    upper: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        return replace(self, column=names[self.column])

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        values = alive.column(self.column).values
        totals = np.zeros(len(alive.run_group), np.int64)
        np.add.at(totals, alive.run, values)
        # a sum that has wrapped has the wrong sign; a double tells on which side it went out
        rough = np.bincount(alive.run, weights=values, minlength=len(totals))
        totals[rough > 2.0**62] = self.upper
        totals[rough < -(2.0**62)] = self.lower
        yield self._cells(alive.run_group), np.clip(totals, self.lower, self.upper)


@dataclass(frozen=True)
class BinCount(CellRule):
    """Adds 1 per row to the bin that a column names: cell + index // merged, for an index in 0..bins * merged - 1.

    Args:
        column: the index; NULL, or one outside, counts nowhere.
        bins: cells of a group that this rule adds into.
        merged: neighbouring indices that share a cell.
    """

    column: str = ""
    bins: int = 1
    merged: int = 1

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        return replace(self, column=names[self.column])

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        column = alive.column(self.column)
        # an index outside would land in another group's cells
        inside = (column.values >= 0) & (column.values < self.bins * self.merged)
        counted = inside if column.valid is None else inside & column.valid
        index, group = column.values[counted], alive.group[counted]
        yield self._cells(group) + (index if self.merged == 1 else index // self.merged), None


@dataclass(frozen=True)
class VectorSum(CellRule):
    """Adds a row's vector, shrunk to a norm of at most `bound`, per row in which no coordinate is NULL.

    Args:
        coordinates: one column per coordinate, at most 2^20, each |value| <= 2^21 (so that no square sum wraps).
        norm: which norm is bounded.
        bound: an integer >= 0.

    Guarantees: what a row adds has integer coordinates and a norm of at most `bound`, exactly: a vector that is too
        long is scaled and rounded towards zero, and one that rounding left too long becomes zero.
    """

    coordinates: tuple[str, ...] = ()
    norm: Norm = "l2"
    bound: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return self.coordinates

    def renamed(self, names: Mapping[str, str]) -> Self:
        return replace(self, coordinates=tuple(names[name] for name in self.coordinates))

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        vectors = np.stack([alive.column(name).values for name in self.coordinates])
        counted = alive.complete(tuple(dict.fromkeys(self.coordinates)))
        group = alive.group
        if counted is not None:
            vectors, group = vectors[:, counted], group[counted]
        cells = self._cells(group)
        for index, amounts in enumerate(self._shrunk(vectors)):
            yield cells + index, amounts

    def _shrunk(self, vectors: Int64s) -> Int64s:
        """Vectors (coordinates, rows) with norms within the bound."""
        if self.norm == "linf":
            return np.clip(vectors, -self.bound, self.bound)
        lengths = self._length(vectors.astype(np.float64))
        too_long = lengths > self.bound
        if too_long.any():
            scale = self.bound * (1 - 1e-12) / lengths[too_long]
            vectors = vectors.copy()
            vectors[:, too_long] = np.trunc(vectors[:, too_long] * scale).astype(np.int64)
        vectors[:, self._exceeds(vectors)] = 0
        return vectors

    def _length(self, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.norm == "l1":
            return np.asarray(np.abs(vectors).sum(axis=0))
        return np.asarray(np.sqrt((vectors**2).sum(axis=0)))

    def _exceeds(self, vectors: Int64s) -> Mask:
        if self.norm == "l1":
            return np.asarray(np.abs(vectors).sum(axis=0) > self.bound)
        return np.asarray((vectors**2).sum(axis=0) > self.bound**2)


@dataclass(frozen=True)
class DistinctItems(CellRule):
    """Names the items of a column per row that is not NULL; a cell counts how many different ones it was given."""

    column: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        return replace(self, column=names[self.column])

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        """Cells and the items named there, not amounts."""
        column = alive.column(self.column)
        if column.valid is None:
            yield self._cells(alive.group), column.values
        else:
            yield self._cells(alive.group[column.valid]), column.values[column.valid]
