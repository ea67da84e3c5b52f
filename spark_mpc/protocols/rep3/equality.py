"""Whether secret words are zero, without an adder."""

from __future__ import annotations

import numpy as np

from spark_mpc.protocols.rep3.boolean import conjunction, decided_in_chunks, xor_public
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import XOR, Pair, dealt
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.planes import WORD_BITS, plane_words, to_planes

__all__ = ["zero", "zero_binary"]

_ONES = np.uint64(2**64 - 1)


def zero(context: Context, x: Arithmetic) -> Bits:
    """Whether elements are zero: whether d0 + d1 and -d2 agree in every bit.

    Args:
        context: of this party.
        x: uint64, shape (n,).

    Guarantees: exact for every word.
    Leaks: nothing. Cost: 7 rounds a chunk; 10.5 bytes an element and party (8 input by party 0, then the tree).
    """
    return decided_in_chunks(context, len(x), lambda piece: _zero_plane(context, x.piece(piece)))


def _zero_plane(context: Context, x: Arithmetic) -> Pair:
    with context.step("zero"):
        shape = (WORD_BITS, plane_words(len(x)))
        known = to_planes(x.parts[0] + x.parts[1]) if context.me == 0 else None
        differs = dealt(context, 0, known, shape, XOR)
        # parts of -d2: x_2 stands second at party 1 and first at party 2
        if context.me == 1:
            differs = differs[0], differs[1] ^ to_planes(-x.parts[1])
        elif context.me == 2:
            differs = differs[0] ^ to_planes(-x.parts[0]), differs[1]
        return _all_planes(context, xor_public(context, differs, _ONES))


def zero_binary(context: Context, x: Binary, width: int) -> Bits:
    """Whether the lowest bits of words are zero.

    Args:
        context: of this party.
        x: uint64, shape (n,).
        width: how many bits count, 1 to 64.

    Leaks: nothing. Cost: one round for each doubling of the width; 1 bit less than the width, an element and party.
    """

    def plane(piece: slice) -> Pair:
        first, second = (to_planes(part)[:width] for part in x.piece(piece).parts)
        with context.step("zero"):
            return _all_planes(context, xor_public(context, (first, second), _ONES))

    return decided_in_chunks(context, len(x), plane)


def _all_planes(context: Context, agrees: Pair) -> Pair:
    """Where all planes are one: halves are joined, level by level; an odd plane waits at the top."""
    while (width := len(agrees[0])) > 1:
        half = width // 2
        lower, upper = (agrees[0][:half], agrees[1][:half]), (agrees[0][half : 2 * half], agrees[1][half : 2 * half])
        joined = conjunction(context, f"agree/{width}", lower, upper)
        first, second = (np.concatenate([both, all_[2 * half :]]) for both, all_ in zip(joined, agrees, strict=True))
        agrees = (first, second) if width % 2 else joined
    return agrees[0][0], agrees[1][0]
