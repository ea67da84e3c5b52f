"""Bounds chosen privately: what is asked of the data first, and which bounds follow from the noisy answers.

Everything here is post-processing of releases that were paid for; nothing else of the data is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dp.errors import SparkMpcError

__all__ = ["SIZE_BINS", "BoundsNotFound", "chosen_clamp", "chosen_rows", "clamp_edges"]

SIZE_BINS = 24
"""Bins of units by their number of rows: bin i holds 2^i to 2^(i+1) - 1 rows, the last one all above."""

_FALSE_ALARM = 0.001
"""How often, over all bins, noise alone may stand out."""

_KEPT = 0.98
"""Where nobody knows how many groups there are: the share of rows that a bound on rows keeps."""


class BoundsNotFound(SparkMpcError):
    """No bounds could be told from noise: the first part of the budget was spent, the rest was not."""


def clamp_edges(*, integral: bool) -> tuple[Fraction, ...]:
    """Public edges of the bins among which bounds are found: zero and powers of two of either sign."""
    powers = [Fraction(2) ** k for k in (range(52) if integral else range(-20, 41))]
    return (*(-power for power in reversed(powers)), Fraction(0), *powers)


def _stand_out(counts: NDArray[np.int64], noise_stddev: float) -> NDArray[np.bool_]:
    """Which bins noise alone would hardly fill: a Laplace tail, which is the longer one, over all bins."""
    return np.asarray(counts > noise_stddev / math.sqrt(2) * math.log(counts.size / _FALSE_ALARM))


def chosen_clamp(
    counts: NDArray[np.int64], edges: Sequence[Fraction], noise_stddev: float, column: str
) -> tuple[Fraction, Fraction]:
    """The edges around all bins that stand out from noise.

    Args:
        counts: noisy rows per bin.
        edges: of the bins, one more than counts.
        noise_stddev: of every count.
        column: for the error.

    Raises:
        BoundsNotFound: no bin stands out.
    """
    found = np.flatnonzero(_stand_out(counts, noise_stddev))
    if found.size == 0:
        raise BoundsNotFound(
            f"bounds of {column!r}: no values stand out from noise; give bounds, or more epsilon, or more rows"
        )
    return edges[int(found[0])], edges[int(found[-1]) + 1]


def chosen_rows(units: NDArray[np.int64], noise_stddev: float, groups: int | None, epsilon: float) -> int:
    """How many rows of one unit to use: the power of two with the least expected error of a count per group.

    A wider bound drops fewer rows and adds more noise. Dropped rows are spread over the groups; a count's noise has
    scale rows / epsilon in each of them.

    Args:
        units: noisy number of units per bin of `SIZE_BINS`.
        noise_stddev: of every number.
        groups: of the query; None where nobody knows: then as many rows as keep nearly all.
        epsilon: roughly what a count will get.

    Raises:
        BoundsNotFound: no bin stands out.
    """
    counts = np.where(_stand_out(units, noise_stddev), units, 0).astype(np.float64)
    if not counts.any():
        raise BoundsNotFound("max_total_rows: no units stand out from noise; give bounds, or more epsilon")
    rows = 1.5 * 2.0 ** np.arange(len(counts)) - 0.5  # of a unit in the middle of its bin
    candidates = 2.0 ** np.arange(len(counts) + 1)
    dropped = np.maximum(rows - candidates[:, None], 0) @ counts
    if groups is None:
        enough = dropped <= (1 - _KEPT) * (rows @ counts)
        return int(candidates[int(np.argmax(enough))])
    error = dropped / groups + candidates / epsilon
    return int(candidates[int(np.argmin(error))])
