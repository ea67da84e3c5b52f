"""Measures that count by value: bins, listed values, nodes of a tree, different values."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dp.planning import inputs
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import BinCount, CellRule, DistinctItems
from dp.planning.inputs import Input
from dp.planning.measures import Measure, Names, Sensitivity, rows_sensitivity
from dp.planning.tree import Tree

__all__ = ["Bins", "Distinct", "Items", "TreeCells"]


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
        return rows_sensitivity(bounds, 1)

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
        level, height = rows_sensitivity(bounds, 1), self.tree.shape.height
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
        return rows_sensitivity(bounds, 1)

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
        return rows_sensitivity(bounds, 1)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (inputs.Item(self.source, self.real),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (DistinctItems(offset, stride, names[self.inputs[0]]),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "distinct", "column": self.source}
