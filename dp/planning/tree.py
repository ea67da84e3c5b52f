"""Quantiles of a bounded column from one noised tree of counts; further ranks cost nothing.

Leaves are equal bins of the bounds. A row adds one to its node on every level, so a tree of height h has h times the
L1 sensitivity of a row count and h times its squared L2 sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.fixed_point import GREATEST_REAL
from dp.planning.tree_estimation import consistent, nonnegative, positions, possible_leaves
from dp.planning.tree_shape import TreeShape, best_shape, equal_variances, node_variances, rank_reach

__all__ = ["Tree"]

Reals = NDArray[np.float64]
Counts = NDArray[np.int64] | NDArray[np.float64]

_LEAVES = 4096
_FEWEST_LEAVES = 16
_CELLS = 2**22
_GREATEST_INTEGER = 2**52
_CLOSEST_REALS = Fraction(1, 2**256)


@dataclass(frozen=True)
class Tree:
    """Bounds of a column and the tree over them. Make it with `plan`.

    Attributes:
        lower: lower bound; values below it count as it.
        upper: upper bound, in the same way.
        shape: branching and height.
        integral: the column has an integer type: leaves hold whole integers, and answers are integers.

    Raises:
        InvalidArgument: real bounds that are closer than 2^-256 or beyond 2^256, or integer bounds that hold no integer
            or are beyond 2^52.
    """

    lower: Fraction
    upper: Fraction
    shape: TreeShape
    integral: bool

    def __post_init__(self) -> None:
        bounds = (str(self.lower), str(self.upper))
        if self.integral:
            if self._low > self._high:
                raise InvalidArgument("bounds", bounds, "no integer lies between them; widen the bounds")
            if max(-self._low, self._high) > _GREATEST_INTEGER:
                raise InvalidArgument("bounds", bounds, "bounds of integer columns stay within 2^52")
            return
        if max(abs(self.lower), abs(self.upper)) > GREATEST_REAL:
            raise InvalidArgument("bounds", bounds, "bounds of real columns stay within 2^256")
        if self.upper - self.lower < _CLOSEST_REALS or not float(self.lower) < float(self.upper):
            raise InvalidArgument("bounds", bounds, "give an upper bound above the lower one, by 2^-256 at least")

    @classmethod
    def plan(cls, lower: Fraction, upper: Fraction, *, integral: bool, groups: int, norm: int = 1) -> Tree:
        """Choose the tree from public facts.

        Args:
            lower: declared lower bound.
            upper: declared upper bound.
            integral: the column has an integer type.
            groups: of the query, >= 1.
            norm: 1 where noise follows the L1 sensitivity (Laplace), 2 where it follows L2 (Gaussian).

        Returns:
            4096 leaves or a little more; fewer where groups times nodes would pass 2^22 cells, but at least 16; an
            exact tree, one integer a leaf, where the bounds hold no more integers than that.

        Raises:
            InvalidArgument: as `Tree`, no group, or another norm.
        """
        if groups < 1 or norm not in (1, 2):
            raise InvalidArgument("groups, norm", (groups, norm), "give at least one group, and norm 1 or 2")
        trivial = cls(lower, upper, TreeShape(2, 1), integral)  # refuses bounds before anything is computed from them
        leaves = min(_LEAVES, trivial._high - trivial._low + 1) if integral else _LEAVES
        while leaves > _FEWEST_LEAVES and groups * best_shape(leaves, norm).nodes > _CELLS:
            leaves = max(leaves // 2, _FEWEST_LEAVES)
        return cls(lower, upper, best_shape(leaves, norm), integral)

    @property
    def leaves(self) -> int:
        """Number of leaves; for integers the last ones may be empty for certain."""
        return self.shape.leaves

    @property
    def nodes(self) -> int:
        """Cells a group."""
        return self.shape.nodes

    @property
    def exact(self) -> bool:
        """Whether each leaf holds one integer."""
        return self.integral and self._width == 1

    @property
    def middle(self) -> float:
        """What stands for every quantile of a group without rows."""
        return float((self._low + self._high) // 2 if self.integral else (self.lower + self.upper) / 2)

    @cached_property
    def edges(self) -> Reals:
        """Boundaries, shape (leaves + 1,): leaf j holds edges[j] <= x < edges[j + 1], after the clamp.

        Exact for integers. For reals, the least double that `leaf_of` puts into the leaf, within rounding of
        `exact_edges`; the last leaf holds the last edge too.
        """
        if self.integral:
            return np.array([float(edge) for edge in self.exact_edges])
        low, high = (np.full(self.leaves - 1, end) for end in self._reals)
        wanted = np.arange(1, self.leaves)
        below, reached = _ordered(low), _ordered(high)  # leaf(below) < wanted <= leaf(reached)
        for _ in range(64):
            middle = (below >> 1) + (reached >> 1) + (below & reached & 1)
            enough = self.leaf_of(_from_ordered(middle)) >= wanted
            below, reached = np.where(enough, below, middle), np.where(enough, middle, reached)
        return np.concatenate([[self._reals[0]], _from_ordered(reached), [self._reals[1]]])

    @property
    def exact_edges(self) -> tuple[Fraction, ...]:
        """The boundaries that are meant, leaves + 1 of them; for integers none is above the bound's successor."""
        if self.integral:
            end = self._high + 1
            return tuple(Fraction(min(self._low + j * self._width, end)) for j in range(self.leaves + 1))
        return tuple(self.lower + (self.upper - self.lower) * j / self.leaves for j in range(self.leaves + 1))

    def leaf_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """The leaf of each value, as `leaf_column` computes it; -1 for NaN.

        Args:
            values: integers (int64) for an integer column, else doubles; any shape.
        """
        if self.integral:
            inside = np.clip(np.asarray(values, np.int64), self._low, self._high)
            return np.asarray((inside - self._low) // self._width)
        real = np.asarray(values, np.float64)
        clamped = np.clip(np.where(np.isnan(real), self._reals[0], real), *self._reals)
        leaf = np.floor((clamped - self._reals[0]) * self._scale).astype(np.int64)
        return np.where(np.isnan(real), -1, np.minimum(leaf, self.leaves - 1))

    def leaf_column(self, value: Column) -> Column:
        """The leaf of a column (long); NULL where it is NULL or NaN. Never raises on a row.

        The clamp comes before the arithmetic, so nothing can overflow; the operations and their order are those of
        `leaf_of`, so that both agree on every double.
        """
        if self.integral:
            low, high = F.lit(self._low).cast("long"), F.lit(self._high).cast("long")
            inside = F.greatest(F.least(value.cast("long"), high), low)
            leaf = F.call_function("div", inside - low, F.lit(self._width).cast("long"))
            return F.when(value.isNull(), F.lit(None)).otherwise(leaf).cast("long")
        real = value.cast("double")
        low, high = (F.lit(end) for end in self._reals)
        clamped = F.greatest(F.least(real, high), low)  # NaN counts as greatest, so this is never NaN
        leaf = F.least(F.floor((clamped - low) * F.lit(self._scale)), F.lit(self.leaves - 1).cast("long"))
        return F.when(real.isNull() | F.isnan(real), F.lit(None)).otherwise(leaf).cast("long")

    def quantiles(self, counts: Counts, cell: NoiseTerm, ranks: Sequence[float]) -> Reals:
        """Estimates of quantiles; shape (groups, ranks).

        Args:
            counts: noised counts, shape (groups, nodes).
            cell: the noise in one cell.
            ranks: each within 0..1: 0 is the minimum, 1 the maximum.

        Returns:
            Values within the bounds, increasing in rank; `middle` where the estimated number of rows is not positive.
            Ranks closer to either end than `discount` rows are moved there: what is further out cannot be told from
            noise.

        Raises:
            InvalidArgument: a rank outside 0..1.
        """
        leaves = consistent(self.shape, counts, equal_variances(self.shape))
        return self._estimates(leaves, _checked(ranks), self.discount(cell))

    def intervals(
        self,
        counts: Counts,
        cell: NoiseTerm,
        ranks: Sequence[float],
        confidence: float,
    ) -> tuple[Reals, Reals]:
        """Lower and upper ends of intervals around `quantiles`; each of shape (groups, ranks).

        Args:
            counts: noised counts, shape (groups, nodes).
            cell: the noise in one cell.
            ranks: each within 0..1.
            confidence: 0 < confidence <= 1 - 1e-9, of each interval alone.

        Raises:
            InvalidArgument: a rank or a confidence outside its range.

        Guarantees:
            For every group with rows, the quantile of the bounded column (every x with at most a share q of the rows
            below it and at least a share q at or below it) lies inside with at least this probability, up to the
            approximation of quantiles in `rank_reach`. Noise is covered, the width of a leaf is added; rows dropped by
            contribution bounds are not covered.
        """
        wanted = _checked(ranks)
        leaves = consistent(self.shape, counts, equal_variances(self.shape))
        reach = rank_reach(self.shape, cell, wanted, confidence)
        found = [possible_leaves(leaves, float(q), reach[:, r]) for r, q in enumerate(wanted)]
        lower = np.stack([self.edges[first] for first, _ in found], axis=1)
        upper = np.stack([self._last_values[last] for _, last in found], axis=1)
        values = self._estimates(leaves, wanted, self.discount(cell))
        return np.minimum(lower, values), np.maximum(upper, values)

    def rank_error(self, cell: NoiseTerm, ranks: Sequence[float], confidence: float) -> Reals:
        """By how many rows noise may move each rank with this confidence, known before any row is read.

        Args:
            cell: the noise in one cell.
            ranks: each within 0..1.
            confidence: 0 < confidence <= 1 - 1e-9.

        Returns:
            Rows, shape (ranks,), the greatest over where the quantile may lie; at least `discount` at the ends. Divided
            by the rows of a group it is an error in rank.
        """
        wanted = _checked(ranks)
        moved: Reals = np.maximum(rank_reach(self.shape, cell, wanted, confidence).max(axis=0), self.discount(cell))
        return moved

    def discount(self, cell: NoiseTerm) -> float:
        """The rows at either end that are left to noise: one standard deviation of the count of a node of level 1."""
        return Noise((cell,)).stddev * math.sqrt(node_variances(self.shape, equal_variances(self.shape))[0])

    def to_json(self) -> dict[str, object]:
        """The tree as public plan fields."""
        shape = {"branching": self.shape.branching, "height": self.shape.height}
        return {"lower": str(self.lower), "upper": str(self.upper), **shape}

    def _estimates(self, leaves: Reals, ranks: Reals, discount: float) -> Reals:
        found = positions(nonnegative(self.shape, leaves), ranks, discount)
        leaf = np.clip(np.ceil(np.nan_to_num(found)) - 1, 0, self.leaves - 1).astype(np.int64)
        low, high = self.edges[leaf], self.edges[leaf + 1]
        values = np.clip(low + (found - leaf) * (high - low), low, self._last_values[leaf])
        return np.where(np.isnan(found), self.middle, np.floor(values) if self.integral else values)

    @property
    def _last_values(self) -> Reals:
        """The end of each leaf: for integers the last one in it, for reals its upper edge."""
        ends: Reals = self.edges[1:]
        return np.asarray(np.clip(ends - 1, self._low, self._high)) if self.integral else ends

    @property
    def _low(self) -> int:
        return -((-self.lower) // 1)

    @property
    def _high(self) -> int:
        return self.upper // 1

    @property
    def _width(self) -> int:
        """Integers a leaf."""
        return -(-(self._high - self._low + 1) // self.leaves)

    @property
    def _reals(self) -> tuple[float, float]:
        return float(self.lower), float(self.upper)

    @property
    def _scale(self) -> float:
        low, high = self._reals
        return float(self.leaves / (Fraction(high) - Fraction(low)))


def _checked(ranks: Sequence[float]) -> Reals:
    given = np.asarray(ranks, np.float64)
    if given.ndim != 1 or not np.all((given >= 0) & (given <= 1)):
        raise InvalidArgument("ranks", list(ranks), "give ranks within 0..1, such as [0.25, 0.5, 0.75]")
    return given


def _ordered(real: Reals) -> NDArray[np.int64]:
    """Integers in the order of finite doubles, without gaps but between the two zeros."""
    bits = real.view(np.int64)
    return np.where(bits >= 0, bits, -(bits & np.int64(2**63 - 1)))


def _from_ordered(ordered: NDArray[np.int64]) -> Reals:
    magnitude = np.abs(ordered).view(np.float64)
    return np.where(ordered >= 0, magnitude, -magnitude)
