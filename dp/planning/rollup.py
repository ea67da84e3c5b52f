"""Rollups: groups and their totals on every level of a hierarchy of keys, counted with noise and made consistent.

Every level is measured, as every level of a tree of counts is. The noisy cells are then replaced by the consistent
ones that are nearest to them (least squares), so that totals are the sums of their parts and all levels gain accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import CellRule, Contribution, Surviving
from dp.planning.facts import Key
from dp.planning.inputs import Input
from dp.planning.measures import Measure, Names, Sensitivity

__all__ = ["Hierarchy", "RolledUp"]

Int64s = NDArray[np.int64]
Reals = NDArray[np.float64]
Node = tuple[Key | None, ...]


@dataclass(frozen=True)
class Hierarchy:
    """Public keys and what they add up to: level l keeps all but the last l grouping columns.

    Attributes:
        keys: the finest groups, one tuple each.
    """

    keys: tuple[tuple[Key, ...], ...]

    @property
    def levels(self) -> int:
        """The finest groups, one level for each grouping column that is left out, the last being everything."""
        return len(self.keys[0]) + 1

    @cached_property
    def level_nodes(self) -> tuple[tuple[Node, ...], ...]:
        """The nodes of each level, the finest first; what is left out is None, as in Spark's rollup."""
        columns = len(self.keys[0])
        cut = ([key[: columns - level] + (None,) * level for key in self.keys] for level in range(self.levels))
        return tuple(tuple(dict.fromkeys(nodes)) for nodes in cut)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, level by level."""
        return tuple(node for nodes in self.level_nodes for node in nodes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The position of each level's first node among `nodes`."""
        return tuple(sum(len(nodes) for nodes in self.level_nodes[:level]) for level in range(self.levels))

    @cached_property
    def ancestors(self) -> tuple[Int64s, ...]:
        """For each level, the position within it of what each finest group belongs to."""
        positions = [{node: index for index, node in enumerate(nodes)} for nodes in self.level_nodes]
        columns = len(self.keys[0])
        return tuple(
            np.array([found[key[: columns - level] + (None,) * level] for key in self.keys])
            for level, found in enumerate(positions)
        )

    def consistent(self, cells: NDArray[np.int64]) -> Reals:
        """The nearest cells in which every total is the sum of its parts.

        Args:
            cells: of all nodes, noise of one variance in each; shape (nodes, ...).

        Source:
            Hay, Rastogi, Miklau and Suciu 2010, for trees of any shape: a node's own cell and the sum of its children
            are averaged by their variances from below, what is left over is handed down by variance.
        """
        own = [cells[first : first + len(nodes)].astype(np.float64) for first, nodes in self._spans()]
        best, variances = [own[0]], [np.ones(len(own[0]))]
        for level in range(1, self.levels):
            parent, size = self._parents(level), len(own[level])
            below = np.zeros_like(own[level])
            np.add.at(below, parent, best[-1])
            of_children = np.bincount(parent, weights=variances[-1], minlength=size)
            weight = of_children / (1 + of_children)  # of the node's own cell, whose variance is one
            variances.append(weight)
            column = weight.reshape(-1, *[1] * (cells.ndim - 1))
            best.append(column * own[level] + (1 - column) * below)
        final = [best[-1]]
        for level in reversed(range(1, self.levels)):
            parent, lower = self._parents(level), best[level - 1]
            below = np.zeros_like(final[0])
            np.add.at(below, parent, lower)
            total = np.bincount(parent, weights=variances[level - 1], minlength=len(below))
            part = (variances[level - 1] / total[parent]).reshape(-1, *[1] * (cells.ndim - 1))
            final.insert(0, lower + part * (final[0] - below)[parent])
        return np.concatenate(final)

    def _spans(self) -> Iterator[tuple[int, tuple[Node, ...]]]:
        return zip(self.offsets, self.level_nodes, strict=True)

    def _parents(self, level: int) -> Int64s:
        """For every node of the level below, its parent's position on this one."""
        parents = np.zeros(len(self.level_nodes[level - 1]), np.int64)
        parents[self.ancestors[level - 1]] = self.ancestors[level]
        return parents


@dataclass(frozen=True)
class _Regrouped(CellRule):
    """Another rule, in whose eyes groups are what they belong to on one level."""

    rule: CellRule
    hierarchy: Hierarchy
    level: int

    @property
    def columns(self) -> tuple[str, ...]:
        return self.rule.columns

    def renamed(self, names: Mapping[str, str]) -> Self:
        return type(self)(self.offset, self.stride, self.rule.renamed(names), self.hierarchy, self.level)

    def contributions(self, alive: Surviving) -> Iterator[Contribution]:
        return self.rule.contributions(alive.regrouped(self.hierarchy.ancestors[self.level]))


@dataclass(frozen=True)
class RolledUp(Measure):
    """A measure over every node of a hierarchy.

    Args:
        measure: adds up over groups.
        hierarchy: the groups.

    Raises:
        InvalidArgument: a measure of which totals are not sums of their parts.
    """

    measure: Measure
    hierarchy: Hierarchy

    def __post_init__(self) -> None:
        if not self.measure.adds_over_groups:
            name = str(self.measure.to_json()["measure"])
            raise InvalidArgument("agg", name, "totals of it are not sums of groups: ask for it by groupBy")

    @property
    def width(self) -> int:
        return self.measure.width

    @property
    def shape(self) -> tuple[int, ...]:
        return self.measure.shape

    @property
    def unit(self) -> Fraction:
        return self.measure.unit

    @property
    def in_units(self) -> bool:
        return self.measure.in_units

    @property
    def label(self) -> str:
        return f"{self.measure.label} on {self.hierarchy.levels} levels"

    def cells(self, groups: int) -> int:
        return len(self.hierarchy.nodes) * self.width

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        """On every level above the finest, all groups of one unit may be parts of one total."""
        finest, above = self.measure.sensitivity(bounds), self.hierarchy.levels - 1
        return Sensitivity((1 + above) * finest.l1, finest.l2_squared + above * finest.l1**2)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.measure.inputs

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return tuple(
            _Regrouped(rule.offset, rule.stride, rule, self.hierarchy, level)
            for level, first in enumerate(self.hierarchy.offsets)
            for rule in self.measure.rules(offset + first * self.width, stride, names)
        )

    def to_json(self) -> dict[str, object]:
        return {**self.measure.to_json(), "rolled_up": self.hierarchy.levels}
