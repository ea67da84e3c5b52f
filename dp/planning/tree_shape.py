"""The shape of a tree of counts, and the noise in what is estimated from it. Pure arithmetic on public numbers.

A tree of branching b and height h has b^l nodes on level l = 1..h; the nodes of level h are its leaves. There is no
root: the total is the sum of level 1. Nodes are numbered from level 1 to level h, from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise.accuracy import Noise, NoiseTerm

__all__ = ["TreeShape", "best_shape", "equal_variances", "node_variances", "rank_moments", "rank_reach"]

Reals = NDArray[np.float64]

_NEARLY_BEST = 1.03  # of two shapes this close in accuracy, the one with fewer cells is taken
_MOST_DRAWS = 64  # sums of more equal draws have the quantiles of this many, or normal ones where those are greater


@dataclass(frozen=True)
class TreeShape:
    """Branching and height.

    Attributes:
        branching: children of every inner node, >= 2.
        height: levels below the root, >= 1.

    Raises:
        InvalidArgument: less than that.
    """

    branching: int
    height: int

    def __post_init__(self) -> None:
        if self.branching < 2 or self.height < 1:
            raise InvalidArgument("tree", (self.branching, self.height), "give a branching >= 2 and a height >= 1")

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        leaves: int = self.branching**self.height
        return leaves

    @property
    def nodes(self) -> int:
        """Number of nodes on all levels: the cells of one group."""
        return self.level_offset(self.height + 1)

    def level_offset(self, level: int) -> int:
        """The number of the first node of a level.

        Args:
            level: 1 to height; height + 1 gives the number of nodes.
        """
        passed: int = (self.branching**level - self.branching) // (self.branching - 1)
        return passed

    def level(self, counts: NDArray[np.generic], level: int) -> Reals:
        """A level's nodes as float64, shape (groups, b^level), out of counts of shape (groups, nodes)."""
        return counts[:, self.level_offset(level) : self.level_offset(level + 1)].astype(np.float64)

    def families(self, nodes: Reals) -> Reals:
        """The nodes of a level, shape (groups, b^level), by parent: (groups, b^(level - 1), b)."""
        return nodes.reshape(nodes.shape[0], nodes.shape[1] // self.branching, self.branching)

    def node_counts(self, leaf_counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The counts of all nodes, shape (groups, nodes), that counts of leaves, shape (groups, leaves), add up to."""
        groups = leaf_counts.shape[0]
        levels = [
            leaf_counts.reshape(groups, self.branching**level, self.branching ** (self.height - level)).sum(axis=2)
            for level in range(1, self.height + 1)
        ]
        return np.concatenate(levels, axis=1)


def equal_variances(shape: TreeShape) -> tuple[float, ...]:
    """One on every level. Only ratios matter to estimates, and a common factor comes out of every variance."""
    return (1.0,) * shape.height


def node_variances(shape: TreeShape, variances: tuple[float, ...]) -> tuple[float, ...]:
    """Variances of the best estimates of nodes of level 1..h from their own subtrees.

    Args:
        shape: of the tree.
        variances: noise variance of one cell of level 1..h, each > 0.

    Raises:
        InvalidArgument: not one positive variance a level.
    """
    if len(variances) != shape.height or not min(variances) > 0:
        raise InvalidArgument("variances", variances, f"give {shape.height} variances > 0, from level 1 down")
    below = [variances[-1]]
    for variance in reversed(variances[:-1]):
        below.append(1 / (1 / variance + 1 / (shape.branching * below[-1])))
    return tuple(reversed(below))


def rank_moments(shape: TreeShape, variances: tuple[float, ...], ranks: Reals) -> tuple[Reals, Reals]:
    """Noise in T(k, q) = (estimated rows left of boundary k) - q (estimated rows), from consistent estimates.

    Args:
        shape: of the tree.
        variances: noise variance of one cell of level 1..h.
        ranks: q, each within 0..1; shape (ranks,).

    Returns:
        Two arrays of shape (leaves + 1, ranks): the variance sum(w) of T over all cells, where a cell of coefficient a
        and variance v adds w = a^2 v; and sum(w^2), so that sum(w)^2 / sum(w^2) is how many equal draws T is like.

    T is a fixed linear function of the noised cells. Its coefficients are those of the adjoint of the two passes of
    `dp.planning.tree_estimation.consistent`: a node of level l gets a = t s(l) / v(l), where t is its share of
    the leaves left of k less its parent's (less q on level 1), plus its parent's t times s(l-1) / (b s(l)). The subtree
    of a node that k does not cut has one t on each level, so only the path to k is walked.
    """
    b = shape.branching
    s = node_variances(shape, variances)
    whole = _subtree_moments(shape, variances, s)
    k = np.arange(shape.leaves)[:, None]
    cut = [(k % b ** (shape.height - level)) / b ** (shape.height - level) for level in range(shape.height + 1)]
    moments = [np.zeros((shape.leaves, ranks.size)), np.zeros((shape.leaves, ranks.size))]
    carried = -ranks[None, :]  # of the path's node, minus its share, as its children see it
    for level in range(1, shape.height + 1):
        left = k // b ** (shape.height - level) % b
        own = s[level - 1] ** 2 / variances[level - 1]
        path = cut[level] + carried
        for power in (0, 1):
            exponent = 2 * (power + 1)
            beside = left * (1 + carried) ** exponent + (b - 1 - left) * carried**exponent
            moments[power] += whole[power][level - 1] * beside + own ** (power + 1) * path**exponent
        if level < shape.height:
            carried = path * s[level - 1] / (b * s[level]) - cut[level]
    ends = [whole[power][0] * b * (1 - ranks[None, :]) ** (2 * power + 2) for power in (0, 1)]
    return np.concatenate([moments[0], ends[0]]), np.concatenate([moments[1], ends[1]])


def _subtree_moments(shape: TreeShape, variances: tuple[float, ...], s: tuple[float, ...]) -> tuple[list[float], ...]:
    """Sum(w) and sum(w^2) over a subtree whose top is on level 1..h, for t = 1 at its top."""
    fourth = [s[-1] ** 2]
    for level in range(shape.height - 1, 0, -1):
        passed = s[level - 1] / (shape.branching * s[level])
        fourth.insert(0, (s[level - 1] ** 2 / variances[level - 1]) ** 2 + shape.branching * passed**4 * fourth[0])
    return list(s), fourth


def rank_reach(shape: TreeShape, cell: NoiseTerm, ranks: Reals, confidence: float) -> Reals:
    """What |noise in T(k, q)| does not exceed with this confidence, in rows; shape (leaves + 1, ranks).

    Args:
        shape: of the tree.
        cell: the noise in one cell; the same for all cells, independent.
        ranks: q, each within 0..1; shape (ranks,).
        confidence: of each single bound.

    The quantile is that of a sum of as many equal draws as T is like, exact for the mechanism, times T's standard
    deviation. That number is rounded down to a power of two and the greatest quantile from there on is taken.
    """
    stddev = Noise((cell,)).stddev
    if stddev == 0:  # noise that is zero but with a probability below the smallest double
        return np.zeros((shape.leaves + 1, ranks.size))
    second, fourth = rank_moments(shape, equal_variances(shape), ranks)
    alike = np.divide(second**2, fourth, out=np.ones_like(second), where=fourth > 0) * cell.copies
    powers = np.log2(np.clip(alike * (1 + 1e-9), 1, _MOST_DRAWS)).astype(np.int64)
    quantiles = np.array(_unit_quantiles(cell, confidence))
    return np.asarray(quantiles[powers] * np.sqrt(second) * stddev)


@lru_cache(maxsize=64)
def _unit_quantiles(cell: NoiseTerm, confidence: float) -> tuple[float, ...]:
    """For 1, 2, 4, ... draws: the greatest quantile of |sum| / stddev of so many or more equal draws."""
    sums = [Noise((NoiseTerm(cell.mechanism, 1.0, 1 << power),)) for power in range(_MOST_DRAWS.bit_length())]
    found = [noise.quantile(confidence) / noise.stddev for noise in sums]  # refuses a confidence out of range
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    return tuple(max(*found[power:], normal) for power in range(len(found)))


@lru_cache(maxsize=256)
def best_shape(leaves: int, norm: int) -> TreeShape:
    """The shape with at least this many leaves whose median has the least noise for one budget.

    Args:
        leaves: >= 1.
        norm: of the sensitivity that noise is scaled with: 1 for Laplace (a cell's variance grows as h^2), 2 for
            Gaussian noise (as h).

    The figure is the standard deviation of T(k, 1/2) in rows, averaged over k; here at epsilon 1 (cell variance 2 h^2)
    and at a Gaussian sigma of 1 for one level (cell variance h):

        4096 leaves   2 x 12   4 x 6   8 x 4   16 x 3   64 x 2   4096 x 1
        Laplace        19.5    14.2    12.6     12.5     14.5      45.3
        Gaussian        4.0     4.1     4.5      5.1      7.2      32.0

    Their cells a group: 8190, 5460, 4680, 4368, 4160, 4096. Of shapes within 3% of the best the one with the fewest
    cells is taken: 16 x 3 and 4 x 6.
    """
    shapes = {_least_shape(leaves, height) for height in range(1, max(leaves - 1, 1).bit_length() + 1)}
    figures = {shape: _median_stddev(shape, leaves, norm) for shape in shapes}
    enough = _NEARLY_BEST * min(figures.values())
    return min((s for s in shapes if figures[s] <= enough), key=lambda s: (s.nodes, s.height))


def _least_shape(leaves: int, height: int) -> TreeShape:
    branching = 2
    while branching**height < leaves:
        branching += 1
    return TreeShape(branching, height)


def _median_stddev(shape: TreeShape, used: int, norm: int) -> float:
    """Averaged over the boundaries of the leaves that are used."""
    second, _ = rank_moments(shape, equal_variances(shape), np.array([0.5]))
    return float(np.sqrt(second[: used + 1].mean() * shape.height ** (2 / norm)))
