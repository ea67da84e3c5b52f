"""Products of shared words, of vectors and of matrices: by kernels that numba compiles, else by numpy and BLAS.

Decision 0015 has what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.ring.masks import Words
from spark_mpc.ring.streams import Unsigned

__all__ = ["add_matrix_product", "add_matrix_product_by_digits", "cross_products", "put_cross_products"]

_Pair = tuple[NDArray[Unsigned], NDArray[Unsigned]]
CrossProducts = Callable[[NDArray[Unsigned], _Pair[Unsigned], _Pair[Unsigned], _Pair[Unsigned]], None]
"""Called with (out, (f, g), (x0, x1), (y0, y1)), contiguous vectors of one length: writes
f - g + x0 (y0 + y1) + x1 y0 to `out`, and may use up f."""

_WORTH_COMPILING = 1 << 17
"""Elements of a vector from which on the compiler is waited for: whoever multiplies few needs no second of it."""

_DIGIT_BITS = np.int64(22)
_EXACT_COLUMNS = 1 << 10
"""So many products of two digits, twice each, add up to at most 2^53: no float64 is ever rounded."""
_ROWS_AT_ONCE = 128
"""Of the result: what is between BLAS and the result stays in cache."""
_UNROLLED = 8


def cross_products(length: int) -> CrossProducts[Unsigned]:
    """The fastest way to the masked cross products of vectors of `length` elements, piece by piece."""
    compiled = _compiled(_put_cross_products) if length >= _WORTH_COMPILING else None
    return put_cross_products if compiled is None else compiled


def put_cross_products(out: NDArray[Unsigned], zero: _Pair[Unsigned], x: _Pair[Unsigned], y: _Pair[Unsigned]) -> None:
    """See `CrossProducts`: six passes of numpy, for pieces that stay in cache meanwhile."""
    total, taken = zero
    total -= taken
    term = y[0] + y[1]
    term *= x[0]
    total += term
    np.multiply(x[1], y[0], out=term)
    np.add(total, term, out=out)


def add_matrix_product(out: Words, x: Words, y: Words) -> None:
    """Add x @ y modulo 2^64 in place, for uint64 matrices.

    Args:
        out: shape (n, m), contiguous.
        x: shape (n, k).
        y: shape (k, m).
    """
    subtract, add = _compiled(_subtract_pairs), _compiled(_add_pairwise)
    if subtract is None or add is None:
        add_matrix_product_by_digits(out, x, y)
        return
    left, right = np.ascontiguousarray(x), np.ascontiguousarray(y)
    subtract(left, right, out)
    add(left, right, out)


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
def _compiled(kernel: Callable[..., None]) -> Callable[..., None] | None:
    """A kernel as machine code, which takes about a second; None without the extra `fast`."""
    try:
        from numba import njit
    except ImportError:
        return None
    compiled: Callable[..., None] = njit(nogil=True)(kernel)
    return compiled


def _put_cross_products(out: Words, zero: _Pair[Any], x: _Pair[Any], y: _Pair[Any]) -> None:
    """`put_cross_products` in one pass, which writes nothing but the result."""
    (f, g), (x0, x1), (y0, y1) = zero, x, y
    for i in range(out.size):
        out[i] = f[i] - g[i] + x0[i] * (y0[i] + y1[i]) + x1[i] * y0[i]


def _subtract_pairs(x: Words, y: Words, out: Words) -> None:
    """Subtract what `_add_pairwise` adds beside x @ y: products of neighbours within a row of x or a column of y."""
    whole = x.shape[1] - x.shape[1] % _UNROLLED
    of_columns = np.zeros(y.shape[1], np.uint64)
    for k in range(0, whole, 2):
        for j in range(y.shape[1]):
            of_columns[j] += y[k, j] * y[k + 1, j]
    for i in range(x.shape[0]):
        of_row = np.uint64(0)
        for k in range(0, whole, 2):
            of_row += x[i, k] * x[i, k + 1]
        for j in range(y.shape[1]):
            out[i, j] -= of_row + of_columns[j]


def _add_pairwise(x: Words, y: Words, out: Words) -> None:
    """Add x @ y and what `_subtract_pairs` takes away: two products by one multiplication, which is what is dear.

    (x0 + y1) (x1 + y0) = x0 y0 + x1 y1 + x0 x1 + y0 y1. Eight rows of y at a time, so that a row of the result is
    loaded and stored for eight products; they are copied to where numba aligns them, as numpy does not.
    Source: Winograd 1968.
    """
    whole = x.shape[1] - x.shape[1] % _UNROLLED
    near = np.empty((_UNROLLED, y.shape[1]), np.uint64)
    y0, y1, y2, y3, y4, y5, y6, y7 = near[0], near[1], near[2], near[3], near[4], near[5], near[6], near[7]
    for k in range(0, whole, _UNROLLED):
        for n in range(_UNROLLED):
            for j in range(y.shape[1]):
                near[n, j] = y[k + n, j]
        for i in range(x.shape[0]):
            x0, x1, x2, x3 = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
            x4, x5, x6, x7 = x[i, k + 4], x[i, k + 5], x[i, k + 6], x[i, k + 7]
            row = out[i]
            for j in range(y.shape[1]):
                row[j] += (
                    (x0 + y1[j]) * (x1 + y0[j]) + (x2 + y3[j]) * (x3 + y2[j])
                    + (x4 + y5[j]) * (x5 + y4[j]) + (x6 + y7[j]) * (x7 + y6[j])
                )  # fmt: skip
    for k in range(whole, x.shape[1]):
        for i in range(x.shape[0]):
            for j in range(y.shape[1]):
                out[i, j] += x[i, k] * y[k, j]
