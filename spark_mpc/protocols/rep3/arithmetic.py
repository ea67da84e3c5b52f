"""Input, opening and products of additive shares modulo 2^64 (or 2^32).

Source: Araki, Furukawa, Lindell, Nof, Ohara 2016 (multiplication); Mohassel, Rindal 2018 (rings and conversions).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.rep3.replication import Pair, dealt, missing_part, sums
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from spark_mpc.ring.products import add_matrix_product, cross_products

__all__ = ["constant", "dot", "input_words", "matmul", "multiply", "open_words", "plus_public"]


def input_words(context: Context, owner: int, values: Words | None, length: int, dtype: type[Any]) -> Arithmetic:
    """Share one party's words.

    Args:
        context: of this party.
        owner: whose words they are.
        values: shape (length,), at the owner; None elsewhere.
        length: elements, public.
        dtype: np.uint64 or np.uint32.

    Guarantees: what the next party receives is uniform; the previous one receives nothing.
    Leaks: nothing but the length. Cost: 1 round; the owner sends `dtype`'s bytes for each element, the others nothing.
    """
    return Arithmetic(dealt(context, owner, values, length, sums(dtype)))


def constant(context: Context, values: NDArray[Any]) -> Arithmetic:
    """Public words as shares: x_0 is the value, the other parts are zero. Free."""
    nothing = np.zeros_like(values)
    return Arithmetic(((values, nothing), (nothing, nothing), (nothing, values))[context.me])


def plus_public(context: Context, shared: Arithmetic, values: NDArray[Any] | int) -> Arithmetic:
    """Add public words, modulo the ring. Free."""
    first, second = shared.parts
    word = np.asarray(values if isinstance(values, np.ndarray) else values % (1 << (8 * first.dtype.itemsize)))
    word = word.astype(first.dtype, copy=False)
    if context.me == 0:
        return Arithmetic((first + word, second))
    if context.me == PARTIES - 1:
        return Arithmetic((first, second + word))
    return shared


def open_words(context: Context, shared: Arithmetic, to: tuple[int, ...]) -> NDArray[Any] | None:
    """Open to named parties; None at the others.

    Leaks: the value, to these parties; nothing to the others.
    Cost: 1 round; the party before each recipient sends the words once.
    """
    missing = missing_part(context, shared.parts, to)
    return None if missing is None else shared.parts[0] + shared.parts[1] + missing


def multiply(context: Context, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    """Products, element by element.

    Args:
        context: of this party.
        x: shape (n,).
        y: shape (n,).

    Guarantees: what is sent is uniform, masked by a fresh sharing of zero.
    Leaks: nothing. Cost: 1 round, 8 bytes an element and party (4 in Z_2^32).
    """
    put = cross_products(len(x))

    def write(piece: slice, out: NDArray[Any]) -> None:
        put(out, context.zero_terms(len(out), x.dtype.type), _contiguous(x.parts, piece), _contiguous(y.parts, piece))

    return Arithmetic(context.reshared_in_chunks("multiply", len(x), x.dtype, write))


def dot(context: Context, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    """Inner products over the last axis: as many as there are rows, whatever their length.

    Args:
        context: of this party.
        x: shape (rows, n).
        y: shape (rows, n).

    Leaks: nothing. Cost: 1 round, 8 bytes a row and party.
    """
    (x0, x1), (y0, y1) = x.parts, y.parts
    part = context.zero_sum(x.shape[0], x.dtype.type)
    part += np.einsum("ij,ij->i", x0, y0 + y1)
    part += np.einsum("ij,ij->i", x1, y0)
    return Arithmetic(context.reshared("dot", part))


def matmul(context: Context, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    """The product of two matrices.

    Args:
        context: of this party.
        x: shape (n, k).
        y: shape (k, m).

    Leaks: nothing but the shapes. Cost: 1 round, 8 n m bytes a party.
    """
    (x0, x1), (y0, y1) = x.parts, y.parts
    part = context.zero_sum((x.shape[0], y.shape[1]), np.uint64)
    add_matrix_product(part, np.hstack([x0, x1]), np.vstack([y0 + y1, y0]))
    return Arithmetic(context.reshared("matmul", part))


def _contiguous(parts: tuple[NDArray[Any], ...], piece: slice) -> Pair:
    first, second = parts
    return np.ascontiguousarray(first[piece]), np.ascontiguousarray(second[piece])
