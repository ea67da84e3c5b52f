"""Probability laws computed apart from the code under test, and the test of a sample against one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Law", "chi_square_p_value", "gaussian_law", "laplace_law"]

_CELLS = 60


@dataclass(frozen=True)
class Law:
    """A distribution over the integers.

    Attributes:
        below: m -> P(x < m).
        reach: nearly all of its mass lies within -reach..reach.
    """

    below: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    reach: int


def laplace_law(scale: float) -> Law:
    """P(x) proportional to exp(-|x| / scale)."""

    def below(m: NDArray[np.float64]) -> NDArray[np.float64]:
        tail = np.exp(-np.where(m > 0, m, 1 - m) / scale) / (1 + math.exp(-1 / scale))  # P(x >= m) or P(x <= m - 1)
        return np.where(m > 0, 1 - tail, tail)

    return Law(below, math.ceil(12 * scale) + 1)


def gaussian_law(variance: float) -> Law:
    """P(x) proportional to exp(-x^2 / (2 variance)); above a million, the continuous one shifted by a half."""
    reach = math.ceil(6 * math.sqrt(variance)) + 1
    if variance > 1e6:
        return Law(lambda m: stats.norm.cdf((m - 0.5) / math.sqrt(variance)), reach)
    weights = np.exp(-(np.arange(-2 * reach, 2 * reach + 1) ** 2) / (2 * variance))
    cumulative = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])
    return Law(lambda m: cumulative[np.asarray(m, np.int64) + 2 * reach], reach)


def chi_square_p_value(sample: NDArray[np.int64], law: Law) -> float:
    """P-value of Pearson's test over at most sixty cells, each of an expected count of at least ten."""
    edges = np.unique(np.round(np.linspace(-law.reach, law.reach, 4001))).astype(np.int64)
    below = law.below(edges.astype(np.float64))
    least = max(10 / sample.size, 1 / _CELLS)
    kept, last = [], 0.0
    for edge, mass in zip(edges, below, strict=True):
        if mass - last >= least * 0.999 and 1 - mass >= 10 / sample.size:
            kept.append(edge)
            last = mass
    # the outermost cells would hide rare large values among many: split off what the sample can still resolve
    rare = [int(e) for e, m in zip(edges, below, strict=True) if 10 / sample.size <= min(m, 1 - m) < least]
    cuts = np.unique(np.array([*kept, *rare[:1], *rare[-1:]], np.int64))
    expected = sample.size * np.diff(np.concatenate([[0.0], law.below(cuts.astype(np.float64)), [1.0]]))
    observed = np.bincount(np.searchsorted(cuts, sample, side="right"), minlength=expected.size)
    return float(stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), expected.size - 1))
