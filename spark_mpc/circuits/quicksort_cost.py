"""What quicksort sends, before it runs: its distribution depends on the number of rows alone.

Splitters leave segments of a known distribution. Within one, the first row parts the others at a uniform place; so both
the comparisons of the next step and the pairs that are left follow from those of shorter segments by an average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spark_mpc.circuits.quicksort import pairs_at_once, splitter_depth
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import EVERYBODY, Costs

__all__ = ["expected_comparisons", "expected_quicksort"]

_LONGEST_SEGMENT = 40
"""In average lengths: longer ones have a chance of e^-40 and are left out."""


def expected_quicksort(costs: Costs, length: int, *, sums: int, planes: int, widths: Sequence[int]) -> Cost:
    """The expected cost of `quicksorted`.

    Args:
        costs: of the engine.
        length: rows, at least 2.
        sums: words shared by sums that are compared, after keys and row numbers were joined.
        planes: bits of all words shared by exclusive or that are compared, after the same.
        widths: bytes of an element of every column that is shuffled: keys, row numbers and payload.

    Guarantees: from 1,000 rows on, the bytes of a run lie within a part of 8 / sqrt(length) of it and the rounds within
        four steps, but for a chance of less than 10^-3; up to 128 rows there is one step, and it is exact.
    """
    total = costs.shuffled(length, widths)
    for comparisons in expected_comparisons(length):
        total += costs.precedes(comparisons, sums, planes) + costs.open_bits(comparisons, EVERYBODY)
    return total


def expected_comparisons(length: int) -> list[int]:
    """How many comparisons each step makes, on average, from the first one on."""
    if length * (length - 1) // 2 <= pairs_at_once(length):
        return [length * (length - 1) // 2]
    depth = splitter_depth(length)
    count = (1 << depth) - 1
    steps: list[float] = [count * (count - 1) // 2, *[length - count] * depth]
    sizes = np.arange(min(length - count, _LONGEST_SEGMENT * length // count) + 1, dtype=np.float64)
    segments = (count + 1) * _chances(length, count, sizes)
    compared, pairs = np.maximum(sizes - 1, 0), sizes * (sizes - 1) / 2
    while (left := float(segments @ pairs)) > pairs_at_once(length):
        steps.append(float(segments @ compared))
        compared, pairs = _after_a_step(compared), _after_a_step(pairs)
    return [round(step) for step in [*steps, left]]


def _chances(length: int, count: int, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every number of rows between neighbouring splitters: C(n - 1 - s, c - 1) / C(n, c)."""
    factors = (length - count - sizes[:-1]) / (length - 1 - sizes[:-1])
    return count / length * np.cumprod(np.concatenate([[1.0], factors]))


def _after_a_step(of_size: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is expected of a segment of every size from the two that it is parted into: 2/s times the sum below s."""
    below = np.cumsum(of_size) - of_size
    return 2 * below / np.maximum(np.arange(len(of_size)), 1)
