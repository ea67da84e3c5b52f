"""Products of integer matrices modulo 2^64, exact: a kernel that numba compiles where it is installed, else BLAS."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from spark_mpc.ring.masks import Words

__all__ = ["add_matrix_product", "add_matrix_product_by_digits"]

_DIGIT_BITS = np.int64(22)
_EXACT_COLUMNS = 1 << 10
"""So many products of two digits, twice each, add up to at most 2^53: no float64 is ever rounded."""
_ROWS_AT_ONCE = 128
"""Of the result: what is between BLAS and the result stays in cache."""
_UNROLLED = 8


def add_matrix_product(out: Words, x: Words, y: Words) -> None:
    """Add x @ y modulo 2^64 in place, for uint64 matrices.

    Args:
        out: shape (n, m), contiguous.
        x: shape (n, k).
        y: shape (k, m).
    """
    kernel = _compiled()
    if kernel is None:
        add_matrix_product_by_digits(out, x, y)
    else:
        kernel(np.ascontiguousarray(x), np.ascontiguousarray(y), out)


def add_matrix_product_by_digits(out: Words, x: Words, y: Words) -> None:
    """The same by BLAS: words are three signed digits of 22 bits; float64 holds their products and sums exactly.

    Of nine products of digits three are multiples of 2^64; the others are one BLAS call for each power of two.
    """
    for start in range(0, x.shape[1], _EXACT_COLUMNS):
        columns = slice(start, start + _EXACT_COLUMNS)
        _add_exactly(out.view(np.int64), x[:, columns], y[columns])


def _add_exactly(out: NDArray[np.int64], x: Words, y: Words) -> None:
    left, right = np.hstack(_digits(x)), np.vstack(_digits(y)[::-1])
    width = x.shape[1]
    for start in range(0, len(out), _ROWS_AT_ONCE):
        rows = left[start : start + _ROWS_AT_ONCE]
        total = (rows @ right).astype(np.int64)  # x0 y2 + x1 y1 + x2 y0
        total <<= _DIGIT_BITS
        total += (rows[:, : 2 * width] @ right[width:]).astype(np.int64)  # x0 y1 + x1 y0
        total <<= _DIGIT_BITS
        total += (rows[:, :width] @ right[2 * width :]).astype(np.int64)  # x0 y0
        out[start : start + _ROWS_AT_ONCE] += total


def _digits(words: Words) -> list[NDArray[np.float64]]:
    """Signed digits to the base 2^22, the lowest first: in absolute value at most 2^21, the third at most 2^19."""
    rest, unused = words.view(np.int64), np.int64(64) - _DIGIT_BITS
    low = (rest << unused) >> unused
    rest = (rest - low) >> _DIGIT_BITS
    middle = (rest << unused) >> unused
    high = (rest - middle) >> _DIGIT_BITS
    return [digit.astype(np.float64) for digit in (low, middle, high)]


@cache
def _compiled() -> Callable[[Words, Words, Words], None] | None:
    """The kernel as machine code; None without the extra `fast`."""
    try:
        from numba import njit
    except ImportError:
        return None
    kernel: Callable[[Words, Words, Words], None] = njit(nogil=True)(_add_product)  # a second or so, once
    return kernel


def _add_product(x: Words, y: Words, out: Words) -> None:
    """Add x @ y; eight rows of y at a time, so that a row of the result is loaded and stored for eight products."""
    whole = x.shape[1] - x.shape[1] % _UNROLLED
    for k in range(0, whole, _UNROLLED):
        y0, y1, y2, y3, y4, y5, y6, y7 = y[k], y[k + 1], y[k + 2], y[k + 3], y[k + 4], y[k + 5], y[k + 6], y[k + 7]
        for i in range(x.shape[0]):
            x0, x1, x2, x3 = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
            x4, x5, x6, x7 = x[i, k + 4], x[i, k + 5], x[i, k + 6], x[i, k + 7]
            row = out[i]
            for j in range(y.shape[1]):
                row[j] += (
                    x0 * y0[j] + x1 * y1[j] + x2 * y2[j] + x3 * y3[j]
                    + x4 * y4[j] + x5 * y5[j] + x6 * y6[j] + x7 * y7[j]
                )  # fmt: skip
    for k in range(whole, x.shape[1]):
        for i in range(x.shape[0]):
            for j in range(y.shape[1]):
                out[i, j] += x[i, k] * y[k, j]
