"""The same over bits: input, opening and conjunction of shares by exclusive or, 64 bits in a word.

Source: Araki, Furukawa, Lindell, Nof, Ohara 2016, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.rep3.replication import XOR, Pair, dealt, missing_part
from spark_mpc.protocols.shares import Binary, Bits
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import WORD_BITS, packed, plane_words, unpacked

__all__ = [
    "conjunction",
    "conjunction_in_chunks",
    "conjunctions",
    "decided_in_chunks",
    "input_binary",
    "input_bits",
    "open_binary",
    "open_bits",
    "random_bits",
    "random_words",
    "xor_public",
]


def input_binary(context: Context, owner: int, values: Words | None, length: int) -> Binary:
    """Share one party's words, uint64, shape (length,); see `replication.dealt` for guarantees.

    Leaks: nothing but the length. Cost: 1 round; the owner sends 8 bytes for each element, the others nothing.
    """
    return Binary(dealt(context, owner, values, length, XOR))


def input_bits(context: Context, owner: int, values: NDArray[Any] | None, length: int) -> Bits:
    """Share one party's zeros and ones, shape (length,).

    Leaks: nothing but the length. Cost: 1 round; the owner sends 1 bit for each element, in whole words.
    """
    plane = None if values is None else packed(values)
    return Bits(dealt(context, owner, plane, plane_words(length), XOR), length)


def open_binary(context: Context, shared: Binary, to: tuple[int, ...]) -> Words | None:
    """Open words to named parties; None at the others.

    Leaks: the value, to these parties. Cost: 1 round, 8 bytes an element from the party before each recipient.
    """
    missing = missing_part(context, shared.parts, to)
    return None if missing is None else shared.parts[0] ^ shared.parts[1] ^ missing


def open_bits(context: Context, shared: Bits, to: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Open bits to named parties, one a byte; None at the others.

    Leaks: the value, to these parties. Cost: 1 round, 1 bit an element from the party before each recipient.
    """
    missing = missing_part(context, shared.parts, to)
    return None if missing is None else unpacked(shared.parts[0] ^ shared.parts[1] ^ missing, shared.length)


def xor_public(context: Context, parts: Pair, values: Words | np.uint64) -> Pair:
    """Flip where public words have ones. Free."""
    first, second = parts
    if context.me == 0:
        return first ^ values, second
    if context.me == PARTIES - 1:
        return first, second ^ values
    return parts


def random_words(context: Context, shape: int | tuple[int, ...]) -> Pair:
    """Uniform words that nobody knows: each part is a key stream that two parties hold. Free."""
    return context.own.words(shape, np.uint64), context.following.words(shape, np.uint64)


def random_bits(context: Context, length: int) -> Bits:
    """Uniform bits that nobody knows. Free."""
    return Bits(random_words(context, plane_words(length)), length)


def conjunction(context: Context, name: str, x: Pair, y: Pair) -> Pair:
    """And, bit by bit, of words in any shape, in one message.

    Guarantees: what is sent is uniform, masked by a fresh sharing of zero.
    Leaks: nothing. Cost: 1 round, 1 bit for a bit and party.
    """
    (both,) = conjunctions(context, name, [(x, y)])
    return both


def conjunctions(context: Context, name: str, factors: Sequence[tuple[Pair, Pair]]) -> list[Pair]:
    """`conjunction` of several pairs of factors, all in one message; they differ in their first axis at most."""
    ends = np.cumsum([len(x[0]) for x, _ in factors])
    product = np.empty((int(ends[-1]), *factors[0][0][0].shape[1:]), np.uint64)
    for piece, (x, y) in zip(np.split(product, ends[:-1]), factors, strict=True):
        _put_masked_and(context, x, y, piece)
    mine, received = (np.split(part, ends[:-1]) for part in context.reshared(name, product))
    return list(zip(mine, received, strict=True))


def conjunction_in_chunks(context: Context, name: str, x: Pair, y: Pair) -> Pair:
    """`conjunction` of many words, shape (n,): sent while the rest is still computed."""

    def write(piece: slice, out: NDArray[Any]) -> None:
        _put_masked_and(context, (x[0][piece], x[1][piece]), (y[0][piece], y[1][piece]), out)

    return context.reshared_in_chunks(name, len(x[0]), x[0].dtype, write)


def decided_in_chunks(context: Context, length: int, plane_of: Callable[[slice], Pair]) -> Bits:
    """One bit for each element, from circuits on planes: every chunk goes through all rounds before the next.

    Args:
        context: of this party.
        length: elements.
        plane_of: the plane of a slice of them.
    """
    out = np.empty(plane_words(length), np.uint64), np.empty(plane_words(length), np.uint64)
    for start in range(0, length, context.chunk):
        piece = slice(start, min(start + context.chunk, length))
        for whole, plane in zip(out, plane_of(piece), strict=True):
            whole[start // WORD_BITS : plane_words(piece.stop)] = plane
    return Bits(out, length)


def _put_masked_and(context: Context, x: Pair, y: Pair, out: NDArray[Any]) -> None:
    """This party's part of a conjunction, with its part of zeros, to `out`."""
    part = np.bitwise_xor(*y, order="C")
    part &= x[0]
    spare = np.bitwise_and(x[1], y[0], order="C")
    part ^= spare
    context.mask(part, spare, out)
