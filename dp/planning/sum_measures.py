"""Measures that add up clamped columns: totals, squares, totals of units, vectors, products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

from dp.planning import inputs
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import CellRule, Norm, RowSum, UnitTotal, VectorSum
from dp.planning.fixed_point import FixedPoint
from dp.planning.inputs import Input
from dp.planning.measures import Measure, Names, Sensitivity, rows_sensitivity

__all__ = ["Moments", "Squares", "Total", "UnitTotals", "Vectors"]


@dataclass(frozen=True)
class _Encoded(Measure):
    """A measure of one clamped column; missing values count as `imputed`, or not at all where that is None."""

    source: str
    encoding: FixedPoint
    imputed: Fraction | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Value(self.source, self.encoding, self.imputed),)

    @property
    def unit(self) -> Fraction:
        return self.encoding.unit

    def _json(self, measure: str) -> dict[str, object]:
        imputed = None if self.imputed is None else str(self.imputed)
        return {"measure": measure, "column": self.source, "imputed": imputed, **self.encoding.to_json()}


@dataclass(frozen=True)
class Total(_Encoded):
    """The sum of a clamped column in encoded units."""

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return rows_sensitivity(bounds, self.encoding.greatest)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (RowSum(offset, stride, (names[self.inputs[0]],)),)

    def to_json(self) -> dict[str, object]:
        return self._json("total")


@dataclass(frozen=True)
class Squares(_Encoded):
    """The sum of x^2 - `middle` over a clamped column in encoded units, where x^2 is within 0..2 `middle`."""

    @property
    def middle(self) -> int:
        """Half the greatest square: counting from it halves what a row can add."""
        return self.encoding.greatest**2 // 2

    @property
    def unit(self) -> Fraction:
        return self.encoding.unit**2

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return rows_sensitivity(bounds, self.encoding.greatest**2 - self.middle)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        name = names[self.inputs[0]]
        return (RowSum(offset, stride, (name, name), self.middle),)

    def to_json(self) -> dict[str, object]:
        return self._json("squares")


@dataclass(frozen=True)
class UnitTotals(Measure):
    """The sum over units of a column's total over the unit's rows in the group, that total clamped to bounds.

    Attributes:
        source: the column.
        encoding: of totals; its bounds are the clamp.
    """

    source: str
    encoding: FixedPoint

    @property
    def unit(self) -> Fraction:
        return self.encoding.unit

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        greatest = self.encoding.greatest
        return Sensitivity(l1=bounds.groups * greatest, l2_squared=bounds.groups * greatest**2)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Value(self.source, self.encoding.unclamped()),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (UnitTotal(offset, stride, names[self.inputs[0]], self.encoding.lower, self.encoding.upper),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "unit totals", "column": self.source, **self.encoding.to_json()}


@dataclass(frozen=True)
class Vectors(Measure):
    """The sum of rows' vectors, each shrunk to a norm of at most `bound` encoded units."""

    sources: tuple[str, ...]
    encoding: FixedPoint
    norm: Norm
    bound: int

    @property
    def unit(self) -> Fraction:
        return self.encoding.unit

    @property
    def width(self) -> int:
        return len(self.sources)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        """A row adds a vector of L1 norm r and squared L2 norm s; rows of one unit may add up in one direction."""
        most_rows = min(bounds.rows_per_group, bounds.rows)
        l1, l2_squared = {
            "l1": (self.bound, self.bound**2),
            "l2": (math.isqrt(self.width * self.bound**2 - 1) + 1 if self.bound else 0, self.bound**2),
            "linf": (self.width * self.bound, self.width * self.bound**2),
        }[self.norm]
        return Sensitivity(
            l1=bounds.rows * l1,
            l2_squared=min(bounds.groups * most_rows**2, bounds.rows**2) * l2_squared,
        )

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(inputs.Value(source, self.encoding) for source in self.sources)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (VectorSum(offset, stride, tuple(names[i] for i in self.inputs), self.norm, self.bound),)

    def to_json(self) -> dict[str, object]:
        shown = {"measure": "vectors", "columns": list(self.sources), "norm": self.norm, "bound": self.bound}
        return {**shown, **self.encoding.to_json()}


@dataclass(frozen=True)
class Moments(Measure):
    """Sums of products of clamped columns in encoded units, over the rows in which none of them is missing.

    Attributes:
        sources: the columns.
        encodings: one for each.
        order: 0 counts rows; 1 adds the columns; 2 the products of all pairs i <= j, squares less `Squares.middle`.
    """

    sources: tuple[str, ...]
    encodings: tuple[FixedPoint, ...]
    order: int

    @property
    def products(self) -> tuple[tuple[int, ...], ...]:
        """The columns that each cell multiplies, by their positions."""
        return tuple(combinations_with_replacement(range(len(self.sources)), self.order))

    @property
    def width(self) -> int:
        return len(self.products)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def in_units(self) -> bool:
        return self.order == 0

    @property
    def label(self) -> str:
        of = {0: "rows with all of", 1: "sums of", 2: "products of pairs of"}[self.order]
        return f"{of} {', '.join(self.sources)}"

    def middle(self, product: tuple[int, ...]) -> int:
        """What is subtracted from a product: half the greatest square."""
        is_square = len(product) == 2 and product[0] == product[1]
        return self.encodings[product[0]].greatest ** 2 // 2 if is_square else 0

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        greatest = [
            math.prod(self.encodings[i].greatest for i in product) - self.middle(product) for product in self.products
        ]
        one = rows_sensitivity(bounds, 1)
        return Sensitivity(one.l1 * sum(greatest), one.l2_squared * sum(g**2 for g in greatest))

    @property
    def inputs(self) -> tuple[Input, ...]:
        pairs = zip(self.sources, self.encodings, strict=True)
        return tuple(inputs.Value(source, encoding) for source, encoding in pairs)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        columns = tuple(names[i] for i in self.inputs)
        return tuple(
            RowSum(offset + cell, stride, tuple(columns[i] for i in product), self.middle(product), present=columns)
            for cell, product in enumerate(self.products)
        )

    def to_json(self) -> dict[str, object]:
        encodings = [encoding.to_json() for encoding in self.encodings]
        return {"measure": "moments", "columns": list(self.sources), "order": self.order, "encodings": encodings}
