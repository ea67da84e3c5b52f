"""From a noised tree of counts to ranks: consistent estimates, non-negative ones, and positions of quantiles.

Everything here is post-processing of noised counts. Arrays have a row for each group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dp.planning.tree_shape import TreeShape, node_variances

__all__ = ["consistent", "nonnegative", "positions", "possible_leaves", "total_rows"]

Reals = NDArray[np.float64]

_INSIDE = 1e-9
"""Of all rows: how far inside them the ranks 0 and 1 lie, so that empty leaves beyond are not theirs, without noise."""


def consistent(shape: TreeShape, counts: NDArray[np.generic], variances: tuple[float, ...]) -> Reals:
    """The weighted least-squares estimate of the leaves, given noised counts of all nodes.

    Args:
        shape: of the tree.
        counts: noised counts, shape (groups, nodes).
        variances: noise variance of one cell of level 1..h, each > 0.

    Returns:
        Estimates of shape (groups, leaves), unbiased, some of them negative. Every sum of leaves has the least variance
        of all unbiased linear estimates.

    Raises:
        InvalidArgument: not one positive variance a level.

    Source:
        Hay, Rastogi, Miklau and Suciu, "Boosting the Accuracy of Differentially Private Histograms Through
        Consistency" (2010), section 4.1, generalised to a variance per level and to a tree without a root.
    """
    b, s = shape.branching, node_variances(shape, variances)
    upward = [shape.level(counts, shape.height)]
    for level in range(shape.height - 1, 0, -1):
        children = shape.families(upward[0]).sum(axis=2)
        own = shape.level(counts, level) / variances[level - 1]
        upward.insert(0, s[level - 1] * (own + children / (b * s[level])))
    estimate = upward[0]
    for subtree in upward[1:]:
        families = shape.families(subtree)
        missing = (estimate - families.sum(axis=2)) / b
        estimate = np.reshape(families + missing[:, :, None], subtree.shape)
    return estimate


def nonnegative(shape: TreeShape, leaves: Reals) -> Reals:
    """Non-negative leaves that keep the total, or zeros where the total is not positive.

    Args:
        shape: of the tree.
        leaves: consistent estimates, shape (groups, leaves).

    From the top down, the children of a node are replaced by the nearest non-negative numbers that add up to the
    node's. Empty subtrees become zeros, so their noise does not add up along the range.
    """
    total: Reals = np.maximum(leaves.sum(axis=1), 0.0)[:, None]
    for level in range(1, shape.height + 1):
        nodes = leaves.reshape(leaves.shape[0], shape.branching**level, -1).sum(axis=2)
        total = _nearest(shape.families(nodes), total).reshape(nodes.shape)
    return total


def _nearest(families: Reals, totals: Reals) -> Reals:
    """Per family, the nearest point of the simplex {x >= 0, sum x = total}: subtract one number, cut at zero."""
    descending = -np.sort(-families, axis=-1)
    size = np.arange(1, families.shape[-1] + 1)
    shifts = (np.cumsum(descending, axis=-1) - totals[..., None]) / size
    kept = np.maximum((descending > shifts).sum(axis=-1), 1)
    shift = np.take_along_axis(shifts, kept[..., None] - 1, axis=-1)
    return np.asarray(np.maximum(families - shift, 0.0))


def total_rows(leaves: Reals) -> Reals:
    """The estimated rows left of each boundary, shape (groups, leaves + 1)."""
    return np.concatenate([np.zeros((leaves.shape[0], 1)), np.cumsum(leaves, axis=1)], axis=1)


def positions(leaves: Reals, ranks: Reals, discount: float) -> Reals:
    """Where the ranks lie, counted in leaves from the left; shape (groups, ranks).

    Args:
        leaves: non-negative estimates, shape (groups, leaves).
        ranks: each within 0..1; shape (ranks,).
        discount: rows >= 0. A rank closer to either end than so many rows is moved there, at most to the median.

    Returns:
        Positions within 0..leaves, straight lines inside a leaf, increasing in rank. NaN where a group has no rows.
    """
    left = total_rows(leaves)
    rows = left[:, -1]
    least = np.minimum(np.maximum(discount, rows * _INSIDE), rows / 2)
    found = [_position(left, np.clip(rank * rows, least, rows - least)) for rank in ranks]
    return np.where(rows[:, None] > 0, np.stack(found, axis=1), np.nan)


def _position(left: Reals, wanted: Reals) -> Reals:
    """The least position at which the wanted number of rows, one a group, is reached."""
    leaves = left.shape[1] - 1
    after = np.clip((left < wanted[:, None]).sum(axis=1), 1, leaves)
    group = np.arange(left.shape[0])
    before, step = left[group, after - 1], left[group, after] - left[group, after - 1]
    inside = np.divide(wanted - before, step, out=np.zeros_like(step), where=step > 0)
    return np.asarray(after - 1 + np.clip(inside, 0.0, 1.0))


def possible_leaves(leaves: Reals, rank: float, reach: Reals) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last leaf that the rank may lie in, given how far noise may move ranks.

    Args:
        leaves: consistent estimates, shape (groups, leaves), not made non-negative.
        rank: within 0..1.
        reach: bound on the noise of T(k, rank) for every boundary k, shape (leaves + 1,).

    Returns:
        Two arrays of shape (groups,), first <= last; all leaves where none fits.

    The leaf j of the true quantile has T(j) <= 0 <= T(j + 1) before noise, so it is kept unless the noise at one of its
    two boundaries passes its bound on one side.
    """
    left = total_rows(leaves)
    t = left - rank * left[:, -1:]
    far_enough = t[:, 1:] >= -reach[1:]
    not_too_far = t[:, :-1] <= reach[:-1]
    last_leaf = leaves.shape[1] - 1
    first = np.argmax(far_enough, axis=1)
    last = last_leaf - np.argmax(not_too_far[:, ::-1], axis=1)
    fits = far_enough.any(axis=1) & not_too_far.any(axis=1) & (first <= last)
    return np.where(fits, first, 0), np.where(fits, last, last_leaf)
