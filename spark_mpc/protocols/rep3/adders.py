"""What an addition of two boolean numbers carries: sign bits, and whole sums, as circuits of logarithmic depth.

The secret d = d0 + d1 + d2 is the sum of u = d0 + d1, which party 0 knows and inputs, and v = d2, which parties 1 and 2
hold and share for free. Bit planes of both; g = u & v generates a carry, p = u ^ v hands it on.
Source: Mohassel, Rindal 2018, section 5.3; Brent, Kung 1982 and Sklansky 1960 for the trees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spark_mpc.protocols.rep3.boolean import conjunction, conjunctions, decided_in_chunks
from spark_mpc.protocols.rep3.context import Context, cut
from spark_mpc.protocols.rep3.replication import XOR, Pair, dealt
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
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
    return decided_in_chunks(context, len(x), lambda piece: _sign_plane(context, x.piece(piece)))


def _sign_plane(context: Context, x: Arithmetic) -> Pair:
    with context.step("sign"):
        u, v = summands(context, x)
        top = u[0][-1] ^ v[0][-1], u[1][-1] ^ v[1][-1]
        below = (u[0][:-1], u[1][:-1]), (v[0][:-1], v[1][:-1])
        generates = conjunction(context, "generate", *below)
        return _xored(top, carry(context, generates, _xored(*below)))


def summands(context: Context, x: Arithmetic) -> tuple[Pair, Pair]:
    """Planes of d0 + d1, input by party 0, and of d2, which parties 1 and 2 hold.

    Leaks: nothing. Cost: 1 round; party 0 sends 8 bytes an element.
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

    Leaks: nothing. Cost: a round for each level of the wider side's tree, and one to join both sides.
    """
    low, high = _folded(
        context,
        [
            _Group(_planes(generates, 0, at), _planes(propagates, 1, at)),
            _Group(_planes(generates, at), _planes(propagates, at)),
        ],
    )
    joined = conjunction(context, "carry/join", high.propagates, low.generates)
    out = _xored(joined, high.generates)
    return (low.generates[0][0], low.generates[1][0]), (out[0][0], out[1][0])


def carry(context: Context, generates: Pair, propagates: Pair) -> Pair:
    """What comes out above all planes.

    Leaks: nothing. Cost: a round for each doubling of the planes.
    """
    (whole,) = _folded(context, [_Group(generates, _planes(propagates, 1))])
    return whole.generates[0][0], whole.generates[1][0]


@dataclass(frozen=True)
class _Group:
    """Neighbouring planes that become one: (g, p) of two is (g_high ^ p_high g_low, p_high p_low).

    Attributes:
        generates: the lowest first.
        propagates: of the same planes; the lowest group lacks that of its first one, which nobody needs.
    """

    generates: Pair
    propagates: Pair

    @property
    def half(self) -> int:
        """How many pairs there are; an odd plane waits at the top."""
        return len(self.generates[0]) // 2

    @property
    def lacking(self) -> int:
        """1 in the lowest group, else 0."""
        return len(self.generates[0]) - len(self.propagates[0])

    def factors(self) -> list[tuple[Pair, Pair]]:
        """Of p_high g_low, and of p_high p_low."""
        g_low = _planes(self.generates, 0, 2 * self.half, 2)
        p_low = _planes(self.propagates, self.lacking, 2 * self.half - 1 - self.lacking, 2)
        p_high = _planes(self.propagates, 1 - self.lacking, 2 * self.half - self.lacking, 2)
        return [(p_high, g_low), (_planes(p_high, self.lacking), p_low)]

    def merged(self, generates: Pair, propagates: Pair) -> _Group:
        """The next level, from both products."""
        g = _xored(generates, _planes(self.generates, 1, 2 * self.half, 2))
        if len(self.generates[0]) % 2 == 0:
            return _Group(g, propagates)
        return _Group(_topped(g, self.generates), _topped(propagates, self.propagates))


def _folded(context: Context, groups: list[_Group]) -> list[_Group]:
    """Merge the planes of each group to one, all groups in the same messages; the lowest stands first."""
    while (width := max(len(group.generates[0]) for group in groups)) > 1:
        factors = [pair for group in groups for pair in group.factors()]
        products = iter(conjunctions(context, f"carry/{width}", factors))
        groups = [group.merged(next(products), next(products)) for group in groups]
    return groups


def to_binary(context: Context, x: Arithmetic) -> Binary:
    """Words shared by exclusive or, from words shared by sums.

    Leaks: nothing. Cost: 8 rounds a chunk, 49.3 bytes an element and party.
    """
    out = np.empty((2, len(x)), np.uint64)
    for piece in cut(slice(0, len(x)), context.chunk):
        with context.step("binary"):
            planes = _sum_planes(context, *summands(context, x.piece(piece)))
        for whole, part in zip(out, planes, strict=True):
            whole[piece] = from_planes(part, piece.stop - piece.start)
    return Binary((out[0], out[1]))


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


def _planes(planes: Pair, start: int, stop: int | None = None, step: int = 1) -> Pair:
    return planes[0][start:stop:step], planes[1][start:stop:step]


def _topped(lower: Pair, planes: Pair) -> Pair:
    """Planes with the uppermost one of others above them."""
    return np.concatenate([lower[0], planes[0][-1:]]), np.concatenate([lower[1], planes[1][-1:]])
