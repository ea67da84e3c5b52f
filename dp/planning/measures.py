"""Measures: the linear parts of a query. Each adds integers over rows; every aggregate is computed from measures.

A measure fills `width` cells for every group of the query's vector. Its sensitivity is an integer that follows
from the contribution bounds and the declared facts alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

from dp.planning.bounds import ContributionBounds
from dp.planning.fixed_point import FixedPoint
from dp.planning.names import quoted

__all__ = ["Bins", "Measure", "Present", "Rows", "Sensitivity", "Total", "Units"]


@dataclass(frozen=True)
class Sensitivity:
    """How far one privacy unit can move a measure's cells, added or removed.

    Attributes:
        l1: greatest L1 distance.
        l2_squared: greatest squared L2 distance.
    """

    l1: int
    l2_squared: int

    def over_parties(self, parties_per_unit: int) -> Sensitivity:
        """The sensitivity of the sum over parties where a unit may be at `parties_per_unit` of them."""
        return Sensitivity(self.l1 * parties_per_unit, self.l2_squared * parties_per_unit**2)


def _rows_sensitivity(bounds: ContributionBounds, greatest: int) -> Sensitivity:
    """Every surviving row adds at most `greatest` to one cell of its group."""
    per_cell = min(bounds.rows_per_group, bounds.rows) * greatest
    total = bounds.rows * greatest
    return Sensitivity(l1=total, l2_squared=min(bounds.groups * per_cell**2, total**2))


class Measure(ABC):
    """One linear part of a query. Instances are frozen, compare by content and are public."""

    cell_kind: Literal["rows", "units", "sum"] = "rows"

    @property
    def width(self) -> int:
        """Cells per group."""
        return 1

    @abstractmethod
    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        """How far one unit within the contribution bounds moves the cells of this measure."""

    @abstractmethod
    def column(self) -> Column | None:
        """The encoded column that rows bring along (long, NULL where the row adds nothing); None where none is read."""

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """The measure as public plan fields."""


@dataclass(frozen=True)
class Rows(Measure):
    """The number of rows."""

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    def column(self) -> Column | None:
        return None

    def to_json(self) -> dict[str, object]:
        return {"measure": "rows"}


@dataclass(frozen=True)
class Units(Measure):
    """The number of privacy units; a unit counts once in each of its groups (and once at each party that has it)."""

    cell_kind: Literal["rows", "units", "sum"] = "units"

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        groups = min(bounds.groups, bounds.rows)
        return Sensitivity(l1=groups, l2_squared=groups)

    def column(self) -> Column | None:
        return None

    def to_json(self) -> dict[str, object]:
        return {"measure": "units"}


@dataclass(frozen=True)
class Present(Measure):
    """The number of rows in which a column is neither NULL nor NaN: the denominator of its mean."""

    source: str
    integral: bool

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    def column(self) -> Column | None:
        return F.when(_missing(F.col(quoted(self.source)), self.integral), F.lit(None)).otherwise(F.lit(1)).cast("long")

    def to_json(self) -> dict[str, object]:
        return {"measure": "present", "column": self.source}


@dataclass(frozen=True)
class Total(Measure):
    """The sum of a clamped column in encoded units; missing values add `imputed`, or nothing where that is None."""

    source: str
    encoding: FixedPoint
    imputed: Fraction | None = None
    cell_kind: Literal["rows", "units", "sum"] = "sum"

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, self.encoding.greatest)

    def column(self) -> Column | None:
        encoded = self.encoding.encode(F.col(quoted(self.source)))
        if self.imputed is None:
            return encoded
        units = round(self.imputed / self.encoding.unit)
        clamped = max(min(units, self.encoding.upper), self.encoding.lower) - self.encoding.centre
        return F.coalesce(encoded, F.lit(clamped).cast("long"))

    def to_json(self) -> dict[str, object]:
        imputed = None if self.imputed is None else str(self.imputed)
        return {"measure": "total", "column": self.source, "imputed": imputed, **self.encoding.to_json()}


@dataclass(frozen=True)
class Bins(Measure):
    """Rows per bin of a column: bin i holds edges[i] <= x < edges[i + 1]; others go to the outermost bins."""

    source: str
    edges: tuple[Fraction, ...]
    integral: bool

    @property
    def width(self) -> int:
        return len(self.edges) - 1

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    def column(self) -> Column | None:
        value = F.col(quoted(self.source))
        missing = _missing(value, self.integral)
        inner = [(value >= _literal(edge, self.integral)).cast("long") for edge in self.edges[1:-1]]
        return F.when(missing, F.lit(None)).otherwise(reduce(add, inner, F.lit(0).cast("long"))).cast("long")

    def to_json(self) -> dict[str, object]:
        return {"measure": "bins", "column": self.source, "edges": [str(edge) for edge in self.edges]}


def _missing(value: Column, integral: bool) -> Column:
    return value.isNull() if integral else value.isNull() | F.isnan(value.cast("double"))


def _literal(edge: Fraction, integral: bool) -> Column:
    """An edge that compares with the column without a lossy cast: integers for integers, doubles for the rest."""
    return F.lit(-((-edge) // 1)) if integral else F.lit(float(edge))
