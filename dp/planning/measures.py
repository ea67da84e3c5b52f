"""Measures: the parts of a query that are added up. Each adds integers over rows; aggregates are computed from them.

A measure fills `width` cells for every group of the query's vector. Its sensitivity is an integer that follows
from the contribution bounds and the declared facts alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

from dp.planning import inputs
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import (
    BinCount,
    CellRule,
    DistinctItems,
    Norm,
    RowCount,
    RowSum,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
    UnitTotal,
    VectorSum,
)
from dp.planning.fixed_point import FixedPoint
from dp.planning.inputs import Input
from dp.planning.tree import Tree

__all__ = [
    "Bins",
    "Distinct",
    "Items",
    "Measure",
    "Moments",
    "Names",
    "Present",
    "Rows",
    "Sensitivity",
    "Sizes",
    "Squares",
    "Total",
    "TreeCells",
    "Truncation",
    "UnitTotals",
    "Units",
    "Vectors",
]

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


def _rows_sensitivity(bounds: ContributionBounds, greatest: int) -> Sensitivity:
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
        return _rows_sensitivity(bounds, 1)

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
        return _rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Present(self.source, self.integral),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (RowCount(offset, stride, (names[self.inputs[0]],)),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "present", "column": self.source}


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
        return _rows_sensitivity(bounds, self.encoding.greatest)

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
        return _rows_sensitivity(bounds, self.encoding.greatest**2 - self.middle)

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
class Bins(Measure):
    """Rows per bin of a column: bin i holds edges[i] <= x < edges[i + 1]; others go to the outermost bins."""

    source: str
    edges: tuple[Fraction, ...]
    integral: bool

    @property
    def width(self) -> int:
        return len(self.edges) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Index(self.source, self.edges, self.integral),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (BinCount(offset, stride, names[self.inputs[0]], self.width),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "bins", "column": self.source, "edges": [str(edge) for edge in self.edges]}


@dataclass(frozen=True)
class TreeCells(Measure):
    """Rows per node of a tree over a column's bounds: every row counts once on each level."""

    source: str
    tree: Tree

    @property
    def width(self) -> int:
        return self.tree.nodes

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        level, height = _rows_sensitivity(bounds, 1), self.tree.shape.height
        return Sensitivity(height * level.l1, height * level.l2_squared)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Leaf(self.source, self.tree),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        shape, leaf = self.tree.shape, names[self.inputs[0]]
        return tuple(
            BinCount(
                offset + shape.level_offset(level),
                stride,
                leaf,
                shape.branching**level,
                shape.branching ** (shape.height - level),
            )
            for level in range(1, shape.height + 1)
        )

    def to_json(self) -> dict[str, object]:
        return {"measure": "tree", "column": self.source, **self.tree.to_json()}


@dataclass(frozen=True)
class Items(Measure):
    """Rows per value of a public list; rows with another value, or none, count nowhere."""

    source: str
    values: tuple[int | str | bool, ...]

    @property
    def width(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Listed(self.source, self.values),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (BinCount(offset, stride, names[self.inputs[0]], self.width),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "items", "column": self.source, "values": list(self.values)}


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different values a column has in the rows that bounding let through.

    One unit brings at most as many values as rows; without it the union of everybody's values loses at most those. So
    the sensitivity is that of a count of rows, whoever else has the same values.
    """

    source: str
    real: bool

    @property
    def adds_over_parties(self) -> bool:
        return False

    @property
    def adds_over_groups(self) -> bool:
        return False

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return _rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Item(self.source, self.real),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (DistinctItems(offset, stride, names[self.inputs[0]]),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "distinct", "column": self.source}


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
        one = _rows_sensitivity(bounds, 1)
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
