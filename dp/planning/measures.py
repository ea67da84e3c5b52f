"""Measures: the parts of a query that are added up. Each adds integers over rows; aggregates are computed from them.

A measure fills `width` cells for every group of the query's vector. Its sensitivity is an integer that follows
from the contribution bounds and the declared facts alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from dp.planning import inputs
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import (
    CellRule,
    RowCount,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
)
from dp.planning.inputs import Input

__all__ = ["Measure", "Names", "Present", "Rows", "Sensitivity", "Sizes", "Truncation", "Units", "rows_sensitivity"]

Names = Mapping[Input, str]
"""Inputs and the columns that hold them."""


@dataclass(frozen=True)
class Sensitivity:
    """How far one privacy unit can move a measure's cells, added or removed.

    Attributes:
        l1: greatest L1 distance.
        l2_squared: greatest squared L2 distance.
    """

    l1: int
    l2_squared: int

    def times(self, factor: int) -> Sensitivity:
        """The sensitivity of a sum of so many: of a unit's rows at several parties, or of several units together."""
        return Sensitivity(self.l1 * factor, self.l2_squared * factor**2)


def rows_sensitivity(bounds: ContributionBounds, greatest: int) -> Sensitivity:
    """Every surviving row adds at most `greatest` to one cell of its group."""
    per_cell = min(bounds.rows_per_group, bounds.rows) * greatest
    total = bounds.rows * greatest
    return Sensitivity(l1=total, l2_squared=min(bounds.groups * per_cell**2, total**2))


class Measure(ABC):
    """One part of a query. Instances are frozen, compare by content and are public."""

    @property
    def width(self) -> int:
        """Cells per group."""
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is released per group: () for one number, (n,) for a list."""
        return ()

    @property
    def unit(self) -> Fraction:
        """The value of one in a cell, in the unit of what is measured."""
        return Fraction(1)

    @property
    def in_units(self) -> bool:
        """Whether `unit` is one value for all cells."""
        return True

    @property
    def label(self) -> str:
        """What is measured, for people: "total(cost)"."""
        public = self.to_json()
        columns = public.get("columns", [public["column"]] if "column" in public else [])
        assert isinstance(columns, list)
        return f"{public['measure']}({', '.join(columns)})" if columns else str(public["measure"])

    @property
    def adds_over_parties(self) -> bool:
        """Whether the measure of several parties' rows together is the sum of theirs."""
        return True

    @property
    def adds_over_groups(self) -> bool:
        """Whether the measure of several groups together is the sum of theirs."""
        return self.by_group

    @property
    def by_group(self) -> bool:
        """Whether every group has cells of its own."""
        return True

    def cells(self, groups: int) -> int:
        """Cells in all."""
        return groups * self.width if self.by_group else self.width

    @abstractmethod
    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        """How far one unit within the contribution bounds moves the cells of this measure.

        Raises:
            InvalidArgument: the bounds do not limit what this measure adds up.
        """

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The columns that rows bring along."""
        return ()

    @abstractmethod
    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        """What rows add to cells offset + group * stride + 0..width-1."""

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """The measure as public plan fields."""


@dataclass(frozen=True)
class Rows(Measure):
    """The number of rows."""

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return rows_sensitivity(bounds, 1)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (RowCount(offset, stride),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "rows"}


@dataclass(frozen=True)
class Units(Measure):
    """The number of privacy units; a unit counts once in each of its groups (and once at each party that has it)."""

    @property
    def adds_over_groups(self) -> bool:
        return False

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return Sensitivity(l1=bounds.groups, l2_squared=bounds.groups)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (UnitCount(offset, stride),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "units"}


@dataclass(frozen=True)
class Sizes(Measure):
    """Units by their number of rows in a group, in powers of two; `cells.UnitSizes` says which."""

    bins: int

    @property
    def width(self) -> int:
        return self.bins

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.bins,)

    @property
    def adds_over_groups(self) -> bool:
        return False

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return Sensitivity(l1=bounds.groups, l2_squared=bounds.groups)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (UnitSizes(offset, stride, self.bins),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "sizes", "bins": self.bins}


@dataclass(frozen=True)
class Present(Measure):
    """The number of rows in which a column is neither NULL nor NaN: the denominator of its mean."""

    source: str
    integral: bool

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Present(self.source, self.integral),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (RowCount(offset, stride, (names[self.inputs[0]],)),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "present", "column": self.source}


@dataclass(frozen=True)
class Truncation(Measure):
    """The units that bounding took rows from, and all units, over all groups."""

    @property
    def width(self) -> int:
        return 2

    @property
    def by_group(self) -> bool:
        return False

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return Sensitivity(l1=2, l2_squared=2)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (TruncatedUnits(offset, stride),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "truncation"}
