"""What an addition of two boolean numbers carries: sign bits, and whole sums, as circuits of logarithmic depth.

The secret d = d0 + d1 + d2 is the sum of u = d0 + d1, which party 0 knows and inputs, and v = d2, which parties 1 and 2
hold and share for free. Bit planes of both; g = u & v generates a carry, p = u ^ v hands it on.
Source: Mohassel, Rindal 2018, section 5.3; Brent, Kung 1982 and Sklansky 1960 for the trees.
"""

from __future__ import annotations

import numpy as np

from spark_mpc.protocols.rep3.boolean import conjunction
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import XOR, Pair, dealt
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import WORD_BITS, from_planes, plane_words, to_planes

__all__ = ["carry", "negative", "summands", "to_binary"]


def negative(context: Context, x: Arithmetic) -> Bits:
    """Whether elements are negative in two's complement: their uppermost bits.

    Args:
        context: of this party.
        x: uint64, shape (n,).

    Guarantees: exact for every word; of a difference a - b it says a < b as long as |a - b| < 2^63.
    Leaks: nothing. Cost: 8 rounds a chunk; 25.3 bytes an element and party (8 input by party 0, then the tree).
    """
    out = tuple(np.empty(plane_words(len(x)), np.uint64) for _ in range(2))
    for start in range(0, len(x), context.chunk):
        piece = slice(start, start + context.chunk)
        words = slice(start // WORD_BITS, start // WORD_BITS + plane_words(min(context.chunk, len(x) - start)))
        for whole, part in zip(out, _sign_plane(context, x.piece(piece)), strict=True):
            whole[words] = part
    return Bits((out[0], out[1]), len(x))


def _sign_plane(context: Context, x: Arithmetic) -> Pair:
    with context.step("sign"):
        u, v = summands(context, x)
        top = u[0][-1] ^ v[0][-1], u[1][-1] ^ v[1][-1]
        below = (u[0][:-1], u[1][:-1]), (v[0][:-1], v[1][:-1])
        generates = conjunction(context, "generate", *below)
        carry = carry(context, generates, _xored(*below))
        return _xored(top, carry)


def summands(context: Context, x: Arithmetic) -> tuple[Pair, Pair]:
    """Planes of d0 + d1, input by party 0, and of d2, which parties 1 and 2 hold.

    Cost: 1 round; party 0 sends 8 bytes an element.
    """
    shape = (WORD_BITS, plane_words(len(x)))
    known = to_planes(x.parts[0] + x.parts[1]) if context.me == 0 else None
    u = dealt(context, 0, known, shape, XOR)
    nothing = np.zeros(shape, np.uint64)
    if context.me == 0:
        return u, (nothing, nothing)
    if context.me == 1:
        return u, (nothing, to_planes(x.parts[1]))
    return u, (to_planes(x.parts[0]), nothing)


def carry(context: Context, generates: Pair, propagates: Pair) -> Pair:
    """What comes out above all planes: neighbours are merged, level by level; an odd plane waits at the top.

    (g, p) of a pair is (g_high ^ p_high g_low, p_high p_low); the lowest group never needs its p.
    """
    while (width := len(generates[0])) > 1:
        half = width // 2
        g_low, g_high, g_rest = _halves(generates, half)
        p_low, p_high, p_rest = _halves(propagates, half)
        left = tuple(np.concatenate([high, high[1:]]) for high in p_high)
        right = tuple(np.concatenate([g, p[1:]]) for g, p in zip(g_low, p_low, strict=True))
        merged = conjunction(context, f"carry/{width}", (left[0], left[1]), (right[0], right[1]))
        generates = _stacked(_xored((merged[0][:half], merged[1][:half]), g_high), g_rest)
        unused = np.zeros_like(p_low[0][:1])
        propagates = _stacked(
            (np.concatenate([unused, merged[0][half:]]), np.concatenate([unused, merged[1][half:]])), p_rest
        )
    return generates[0][0], generates[1][0]


def to_binary(context: Context, x: Arithmetic) -> Binary:
    """Words shared by exclusive or, from words shared by sums.

    Leaks: nothing. Cost: 8 rounds a chunk, 59 bytes an element and party.
    """
    pieces = []
    for start in range(0, len(x), context.chunk):
        piece = x.piece(slice(start, start + context.chunk))
        with context.step("binary"):
            planes = _sum_planes(context, *summands(context, piece))
        pieces.append([from_planes(part, len(piece)) for part in planes])
    first, second = ([piece[side] for piece in pieces] for side in range(2))
    return Binary((_joined(first), _joined(second)))


def _sum_planes(context: Context, u: Pair, v: Pair) -> Pair:
    """All planes of u + v modulo 2^64: carries of every prefix, in six levels of at most 32 planes each."""
    digits = _xored(u, v)
    low = (u[0][:-1], u[1][:-1]), (v[0][:-1], v[1][:-1])
    generates = conjunction(context, "generate", *low)
    g, p = list(generates), [part[:-1].copy() for part in digits]
    count, reach = len(g[0]), 1
    while reach < count:
        # planes in the upper half of each block of 2 * reach take in the whole lower half
        upper = np.array([j for j in range(count) if j & reach])
        last = (upper & ~(2 * reach - 1)) | (reach - 1)
        inner = upper >= 2 * reach  # the lowest block never needs its p
        left = (np.concatenate([p[0][upper], p[0][upper[inner]]]), np.concatenate([p[1][upper], p[1][upper[inner]]]))
        right = (np.concatenate([g[0][last], p[0][last[inner]]]), np.concatenate([g[1][last], p[1][last[inner]]]))
        merged = conjunction(context, f"prefix/{reach}", left, right)
        for side in range(2):
            g[side] = g[side].copy()
            g[side][upper] ^= merged[side][: len(upper)]
            p[side][upper[inner]] = merged[side][len(upper) :]
        reach *= 2
    for side in range(2):
        digits[side][1:] ^= g[side]
    return digits


def _xored(x: Pair, y: Pair) -> Pair:
    return x[0] ^ y[0], x[1] ^ y[1]


def _halves(planes: Pair, half: int) -> tuple[Pair, Pair, Pair]:
    """Lower and upper planes of each pair of neighbours, and the odd one at the top."""
    low, high, rest = slice(0, 2 * half, 2), slice(1, 2 * half, 2), slice(2 * half, None)
    return (planes[0][low], planes[1][low]), (planes[0][high], planes[1][high]), (planes[0][rest], planes[1][rest])


def _stacked(lower: Pair, upper: Pair) -> Pair:
    return np.concatenate([lower[0], upper[0]]), np.concatenate([lower[1], upper[1]])


def _joined(pieces: list[Words]) -> Words:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)
