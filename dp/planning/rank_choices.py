"""One quantile by private choice: among the leaves of a grid, the one that lies nearest to the rank asked for.

For one rank this is several times closer than a tree of counts; but it tells no interval, and every rank costs again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.aggregates import Aggregate, ColumnType, Estimate, ExpectedError, NoiseOf, Opened, Schema
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import BinCount, CellRule
from dp.planning.choices import Choices, shortfall
from dp.planning.facts import PublicFacts
from dp.planning.inputs import Input, Leaf
from dp.planning.measures import Measure, Names, Rows, Sensitivity
from dp.planning.sums import declared_bounds
from dp.planning.tree import Tree

__all__ = ["ChosenRank", "Leaves", "RankChoice"]


@dataclass(frozen=True)
class Leaves(Measure):
    """Rows per leaf of a grid over a column's bounds."""

    source: str
    tree: Tree

    @property
    def width(self) -> int:
        return self.tree.leaves

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        return Rows().sensitivity(bounds)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Leaf(self.source, self.tree),)

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return (BinCount(offset, stride, names[self.inputs[0]], self.width),)

    def to_json(self) -> dict[str, object]:
        return {"measure": "leaves", "column": self.source, **self.tree.to_json()}


@dataclass(frozen=True)
class RankChoice(Choices):
    """The leaf that lies nearest to a rank.

    With rank p/d, n rows and F_j of them left of leaf j's boundary, leaf j is worth
    -max(d F_j - p n, p n - d F_(j+1), 0): minus d times the number of rows by which it misses the rank.

    Attributes:
        rank: p/d, within 0..1.
    """

    rank: Fraction = Fraction(1, 2)

    @property
    def range_factor(self) -> int:
        """2 max(p, d - p).

        One more row adds a = 0 or d to d F_j, the same for all boundaries from its own on, and p to p n. So each worth
        moves by at most max(p, d - p), up or down, and a difference of two by at most twice that.
        """
        p, d = self.rank.numerator, self.rank.denominator
        return 2 * max(p, d - p)

    def utilities(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        p, d = self.rank.numerator, self.rank.denominator
        right = d * np.cumsum(counts, axis=1)
        left = right - d * counts
        wanted = p * counts.sum(axis=1, keepdims=True)
        return np.asarray(-np.maximum(np.maximum(left - wanted, wanted - right), 0))

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "measure": "rank choice", "rank": str(self.rank)}


@dataclass(frozen=True, kw_only=True)
class ChosenRank(Aggregate):
    """One quantile, as the middle of the leaf that was chosen; without an error bar."""

    column: str
    rank: Fraction
    lower: Fraction | None
    upper: Fraction | None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

    def unbounded(self, facts: PublicFacts) -> tuple[str, ...]:
        return (self.column,) if self.lower is None and self.column not in facts.bounds else ()

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        super().resolve(facts, columns)
        lower, upper = declared_bounds(self.column, self.lower, self.upper, facts)
        Tree.plan(lower, upper, integral=columns[self.column].integral, groups=1)  # refuses what no grid holds
        return replace(self, lower=lower, upper=upper)

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (RankChoice(self._leaves(schema), 1, self.rank),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        (measure,) = self.measures(schema)
        chosen, edges = opened.cells(measure).argmax(axis=1), self._leaves(schema).tree.edges
        middle = (edges[chosen] + edges[np.minimum(chosen + 1, len(edges) - 1)]) / 2
        values = np.floor(middle) if schema.columns[self.column].integral else middle
        none = np.full(values.shape, np.nan)
        return Estimate(values, none, none, none)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        (measure,) = self.measures(schema)
        like = noise(measure, 1.0).mechanism
        assert isinstance(like, DiscreteLaplace)
        missed = shortfall(like.scale, measure.width, 1, confidence) / self.rank.denominator
        return ExpectedError(missed, per_row=True, of="rank")

    def _leaves(self, schema: Schema) -> Leaves:
        assert self.lower is not None  # since `resolve`
        assert self.upper is not None
        integral, groups = schema.columns[self.column].integral, schema.groups or 1
        return Leaves(self.column, Tree.plan(self.lower, self.upper, integral=integral, groups=groups))
