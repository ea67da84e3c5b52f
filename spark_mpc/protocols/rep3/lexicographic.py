"""Which of two rows comes first, by several columns at once, in one tree of carries.

Whether x precedes y is decided plane by plane, from the least significant one up: t becomes g ^ p t. A plane of words
shared by exclusive or decides where the rows differ (g = y there) and hands t on where they agree. Of words shared by
sums the planes of y - x - 1 are added, with t as the carry that comes in, and the uppermost turns the carry into t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.adders import carry, summands
from spark_mpc.protocols.rep3.arithmetic import plus_public
from spark_mpc.protocols.rep3.boolean import conjunctions, decided_in_chunks, xor_public
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import Pair
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import WORD_BITS, to_planes

__all__ = ["precedes"]

_ONES = np.uint64(2**64 - 1)
_HALF = WORD_BITS // 2


def precedes(
    context: Context, x: Sequence[Arithmetic | Binary], y: Sequence[Arithmetic | Binary], widths: Sequence[int]
) -> Bits:
    """Whether rows of x come before the rows of y in lexicographic order; equal rows do not.

    Args:
        context: of this party.
        x: columns, shape (n,), the most significant first. Words shared by sums (uint64) are signed, those shared by
            exclusive or are not; these may be uint32, too.
        y: columns of the same kinds.
        widths: bits of each column that count, at most 64; those shared by sums always count in full.

    Guarantees: exact as long as |x - y| < 2^63 in columns shared by sums.
    Leaks: nothing. Cost: 2 rounds and one for each doubling of the planes, without the first if all columns are shared
        by exclusive or; at most 3/8 byte a plane and element and party, and 8/3 for each column shared by sums.
    """

    def plane(piece: slice) -> Pair:
        return _decided(context, [a.piece(piece) for a in x], [b.piece(piece) for b in y], widths)

    return decided_in_chunks(context, len(x[0]), plane)


@dataclass(frozen=True)
class _Planes:
    """What one column brings into the tree.

    Attributes:
        left: a factor of what its planes generate.
        right: the other factor.
        propagates: where its planes hand on what comes from below; of the uppermost, too.
        top: what an uppermost plane generates, which needs no product; no plane if all have factors.
    """

    left: Pair
    right: Pair
    propagates: Pair
    top: Pair


def _decided(
    context: Context, x: Sequence[Arithmetic | Binary], y: Sequence[Arithmetic | Binary], widths: Sequence[int]
) -> Pair:
    with context.step("precedes"):
        columns = [_planes(context, *column) for column in zip(reversed(x), reversed(y), reversed(widths), strict=True)]
        products = conjunctions(context, "generate", [(column.left, column.right) for column in columns])
        generates = [
            plane for column, product in zip(columns, products, strict=True) for plane in (product, column.top)
        ]
        return carry(context, _stacked(generates), _stacked([column.propagates for column in columns]))


def _planes(context: Context, x: Arithmetic | Binary, y: Arithmetic | Binary, width: int) -> _Planes:
    if isinstance(x, Arithmetic) and isinstance(y, Arithmetic):
        return _of_sums(context, x, y)
    assert isinstance(x, Binary)
    assert isinstance(y, Binary)
    return _of_words(context, x, y, width)


def _of_sums(context: Context, x: Arithmetic, y: Arithmetic) -> _Planes:
    u, v = summands(context, plus_public(context, y - x, -1))
    propagates = u[0] ^ v[0], u[1] ^ v[1]
    top = propagates[0][-1:].copy(), propagates[1][-1:].copy()
    for part, always in zip(propagates, _public_ones(context, top), strict=True):
        part[-1:] = always
    return _Planes((u[0][:-1], u[1][:-1]), (v[0][:-1], v[1][:-1]), propagates, xor_public(context, top, _ONES))


def _of_words(context: Context, x: Binary, y: Binary, width: int) -> _Planes:
    pairs = [_differing_and_last(a, b, width) for a, b in zip(x.parts, y.parts, strict=True)]
    differ, last = (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
    nothing = differ[0][:0], differ[1][:0]
    return _Planes(differ, last, xor_public(context, differ, _ONES), nothing)


def _differing_and_last(x: NDArray[Any], y: NDArray[Any], width: int) -> tuple[Words, Words]:
    """Planes of x ^ y and of y; narrow ones are transposed together."""
    if width > _HALF:
        return to_planes(x ^ y)[:width], to_planes(y)[:width]
    halves = np.empty((len(x), 2), "<u4")
    halves[:, 1] = y
    np.bitwise_xor(x.astype("<u4", copy=False), halves[:, 1], out=halves[:, 0])
    both = to_planes(halves.reshape(-1).view("<u8").astype(np.uint64, copy=False))
    return both[:width], both[_HALF : _HALF + width]


def _public_ones(context: Context, alike: Pair) -> Pair:
    nothing = np.zeros_like(alike[0])
    return xor_public(context, (nothing, nothing), _ONES)


def _stacked(planes: Sequence[Pair]) -> Pair:
    return np.concatenate([pair[0] for pair in planes]), np.concatenate([pair[1] for pair in planes])
