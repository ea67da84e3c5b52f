"""Aggregates from one noised tree of counts: quantiles, median, minimum, maximum. Further ranks cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np

from dp.planning.aggregates import Aggregate, ColumnType, Estimate, ExpectedError, NoiseOf, Opened, Schema
from dp.planning.bin_measures import TreeCells
from dp.planning.facts import PublicFacts
from dp.planning.measures import Measure
from dp.planning.sums import declared_bounds
from dp.planning.tree import Tree

__all__ = ["Quantiles", "RankValue"]

_ONE_STDDEV = 0.6827  # the probability within one standard deviation of a Gaussian
_PRIVATE_GROUPS = 256  # how many groups a tree is planned for where nobody can know


@dataclass(frozen=True, kw_only=True)
class Quantiles(Aggregate):
    """Values below which given shares of a group's rows lie, every row's value clamped to the bounds; a list.

    Attributes:
        ranks: each within 0..1, increasing: 0 is the minimum, 1 the maximum.
    """

    column: str
    ranks: tuple[Fraction, ...]
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
        Tree.plan(lower, upper, integral=columns[self.column].integral, groups=1)  # refuses what no tree holds
        return replace(self, lower=lower, upper=upper)

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self._cells(schema),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        cells = self._cells(schema)
        counts, noise, ranks = opened.cells(cells), opened.noise(cells, 1.0), [float(rank) for rank in self.ranks]
        values = cells.tree.quantiles(counts, noise, ranks)
        lower, upper = cells.tree.intervals(counts, noise, ranks, opened.confidence)
        low, high = cells.tree.intervals(counts, noise, ranks, _ONE_STDDEV)
        return Estimate(values, (high - low) / 2, lower, upper, np.array([f"{rank:g}" for rank in ranks], object))

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        cells = self._cells(schema)
        rows = cells.tree.rank_error(noise(cells, 1.0), [float(rank) for rank in self.ranks], confidence)
        return ExpectedError(float(rows.max()), per_row=True, of="rank")

    def _cells(self, schema: Schema) -> TreeCells:
        assert self.lower is not None  # since `resolve`
        assert self.upper is not None
        tree = Tree.plan(
            self.lower,
            self.upper,
            integral=schema.columns[self.column].integral,
            groups=schema.groups or _PRIVATE_GROUPS,
            norm=schema.noise_norm,
        )
        return TreeCells(self.column, tree)


@dataclass(frozen=True, kw_only=True)
class RankValue(Quantiles):
    """One quantile, as a number: a median, a minimum, a maximum."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        listed = super().estimate(schema, opened)
        values = np.asarray(listed.values[:, 0], np.float64)
        return Estimate(values, listed.stddev[:, 0], listed.lower[:, 0], listed.upper[:, 0])
