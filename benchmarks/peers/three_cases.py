"""What three-party engines are asked to do, on which inputs, and how the result is checked.

This module runs in the environments of the peers, and imports nothing that they may lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CASES", "COMPARED", "RADIX_BITS", "Case", "Inputs"]

Inputs = tuple[NDArray[Any], ...]
"""Signed 64-bit integers (secret numbers), unsigned ones (secret words of bits), booleans (secret bits), or floats
(secret fixed-point numbers). Of a sum each party has one input, in the clear, and sharing it is part of the work."""

_INNER = 100  # columns of the left matrix
COMPARED = 2**61
"""Numbers that are compared or sorted lie in [-2^61, 2^61)."""
RADIX_BITS = 32
"""The uppermost bits of a word are the key of a radix sort; below them is the row's number, which moves along."""


@dataclass(frozen=True)
class Case:
    """One operation.

    Attributes:
        name: of the operation.
        rows: elements of each input; of a matrix product, rows of the result.
        quick_rows: the same in a quick run.
        inputs: drawn from a generator, for a number of rows.
        truth: what numpy makes of the inputs.
        tolerance: greatest absolute error that counts as right; above 0 for reals, in fixed point.
        ordered: False where only the result's multiset is known.
    """

    name: str
    rows: tuple[int, ...]
    quick_rows: int
    inputs: Callable[[np.random.Generator, int], Inputs]
    truth: Callable[..., NDArray[Any]]
    tolerance: float = 0.0
    ordered: bool = True

    def drawn(self, rows: int) -> Inputs:
        """The same inputs in every process."""
        return self.inputs(np.random.default_rng(rows), rows)

    def max_error(self, result: NDArray[Any], rows: int) -> float:
        """The greatest absolute error of a result.

        Raises:
            ValueError: the result is wrong.
        """
        truth = self.truth(*self.drawn(rows))
        if not self.ordered:
            result, truth = np.sort(result), np.sort(truth)
        error = float(np.abs(result - truth).max() if self.tolerance else np.count_nonzero(result != truth))
        if error > self.tolerance:
            raise ValueError(f"{self.name} of {rows} rows is wrong: {error} where at most {self.tolerance} is right")
        return error


def _any_words(rng: np.random.Generator, rows: int) -> Inputs:
    return _integers(rng, 2**63, rows), _integers(rng, 2**63, rows)


def _numbers(rng: np.random.Generator, rows: int) -> Inputs:
    return _integers(rng, COMPARED, rows), _integers(rng, COMPARED, rows)


def _half_equal(rng: np.random.Generator, rows: int) -> Inputs:
    x, y = _numbers(rng, rows)
    return x, np.where(rng.integers(0, 2, rows) == 1, x, y)


def _chosen(rng: np.random.Generator, rows: int) -> Inputs:
    return rng.integers(0, 2, rows).astype(np.bool_), *_numbers(rng, rows)


def _matrices(rng: np.random.Generator, rows: int) -> Inputs:
    return _integers(rng, 2**63, (rows, _INNER)), _integers(rng, 2**63, (_INNER, rows))


def _one_column(rng: np.random.Generator, rows: int) -> Inputs:
    return (_integers(rng, COMPARED, rows),)


def _three_vectors(rng: np.random.Generator, rows: int) -> Inputs:
    return *_any_words(rng, rows), *_any_words(rng, rows)[:1]


def _numbered_keys(rng: np.random.Generator, rows: int) -> Inputs:
    keys = rng.integers(0, 2**RADIX_BITS, rows, dtype=np.uint64)
    return (keys << np.uint64(64 - RADIX_BITS) | np.arange(rows, dtype=np.uint64),)


def _integers(rng: np.random.Generator, bound: int, shape: int | tuple[int, ...]) -> NDArray[Any]:
    return rng.integers(-bound, bound - 1, shape, dtype=np.int64, endpoint=True)


def _reals(bound: float) -> Callable[[np.random.Generator, int], Inputs]:
    return lambda rng, rows: (rng.uniform(-bound, bound, rows),)


def _two_reals(rng: np.random.Generator, rows: int) -> Inputs:
    return rng.uniform(-100, 100, rows), rng.uniform(-100, 100, rows)


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 / (1 + np.exp(-x)))


_MANY, _FEW = (1_000_000,), 100_000

CASES = {
    case.name: case
    for case in (
        Case("sum of three", (1_000_000, 10_000_000), _FEW, _three_vectors, lambda x, y, z: x + y + z),
        Case("multiply", _MANY, _FEW, _any_words, np.multiply),
        Case("compare", _MANY, _FEW, _numbers, np.less),
        Case("equality", _MANY, _FEW, _half_equal, np.equal),
        Case("select", _MANY, _FEW, _chosen, np.where),
        Case("bits to numbers", _MANY, _FEW, lambda rng, rows: _chosen(rng, rows)[:1], lambda bits: bits.astype(int)),
        Case("shuffle", _MANY, _FEW, _one_column, lambda x: x, ordered=False),
        Case("sort", (100_000, 1_000_000), 10_000, _one_column, np.sort),
        Case("radix sort", (100_000, 1_000_000), 10_000, _numbered_keys, np.sort),
        Case("matmul", (1000,), 200, _matrices, np.matmul),
        Case("fixed-point multiply", _MANY, _FEW, _two_reals, np.multiply, tolerance=0.01),
        Case("sigmoid", _MANY, _FEW, _reals(6.0), _sigmoid, tolerance=0.01),
    )
}
"""By name, of 64-bit numbers."""
