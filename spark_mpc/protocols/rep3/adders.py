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

__all__ = ["carries", "carry", "negative", "summands", "to_binary"]


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
        return _xored(top, carry(context, generates, _xored(*below)))


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


def carries(context: Context, generates: Pair, propagates: Pair, at: int) -> tuple[Pair, Pair]:
    """What a sum carries into plane `at`, above the lowest, and what comes out above all planes.

    Cost: a round for each level of the wider side's tree, and one to join both sides.
    """
    (low, _), (high, handed_on) = _folded(
        context,
        [(_planes(generates, 0, at), _planes(propagates, 0, at)), (_planes(generates, at), _planes(propagates, at))],
    )
    joined = conjunction(context, "carry/join", handed_on, low)
    out = _xored(joined, high)
    return (low[0][0], low[1][0]), (out[0][0], out[1][0])


def carry(context: Context, generates: Pair, propagates: Pair) -> Pair:
    """What comes out above all planes.

    Cost: a round for each doubling of the planes.
    """
    ((carry, _),) = _folded(context, [(generates, propagates)])
    return carry[0][0], carry[1][0]


def _folded(context: Context, groups: list[tuple[Pair, Pair]]) -> list[tuple[Pair, Pair]]:
    """Merge (g, p) of each group of planes to one, all groups in the same messages; the lowest stands first.

    Neighbours are merged, level by level; an odd plane waits at the top. (g, p) of a pair is
    (g_high ^ p_high g_low, p_high p_low); the lowest pair of all never needs its p, which is left zero.
    """
    while (width := max(len(generates[0]) for generates, _ in groups)) > 1:
        operands = [_operands(*group, int(number == 0)) for number, group in enumerate(groups)]
        left, right = (_stacked(*(operand[side] for operand in operands)) for side in range(2))
        merged, groups_before, start = conjunction(context, f"carry/{width}", left, right), groups, 0
        groups = []
        for group, (operand, _) in zip(groups_before, operands, strict=True):
            groups.append(_merged(*group, _planes(merged, start, start + len(operand[0]))))
            start += len(operand[0])
    return groups


def _operands(generates: Pair, propagates: Pair, unneeded: int) -> tuple[Pair, Pair]:
    """Factors of one level: p_high with g_low, then with p_low, of which the lowest may be unneeded."""
    half = len(generates[0]) // 2
    g_low, _, _ = _halves(generates, half)
    p_low, p_high, _ = _halves(propagates, half)
    return _stacked(p_high, _planes(p_high, unneeded)), _stacked(g_low, _planes(p_low, unneeded))


def _merged(generates: Pair, propagates: Pair, products: Pair) -> tuple[Pair, Pair]:
    half = len(generates[0]) // 2
    _, g_high, g_rest = _halves(generates, half)
    _, _, p_rest = _halves(propagates, half)
    g, p = _xored(_planes(products, 0, half), g_high), _planes(products, half)
    nothing = np.zeros((half - len(p[0]), *p[0].shape[1:]), np.uint64)
    return _stacked(g, g_rest), _stacked((nothing, nothing), p, p_rest)


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
    paired = _planes(planes, 0, 2 * half)
    return (paired[0][::2], paired[1][::2]), (paired[0][1::2], paired[1][1::2]), _planes(planes, 2 * half)


def _planes(planes: Pair, start: int, stop: int | None = None) -> Pair:
    return planes[0][start:stop], planes[1][start:stop]


def _stacked(*lower_first: Pair) -> Pair:
    return np.concatenate([pair[0] for pair in lower_first]), np.concatenate([pair[1] for pair in lower_first])


def _joined(pieces: list[Words]) -> Words:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)
