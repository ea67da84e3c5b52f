"""Division of words by powers of two: what keeps fixed point in place after a product.

The secret x is the sum of u = x0 + x1, which party 0 knows, and v = x2, which parties 1 and 2 know. Each shifts its
own. What is left to find is whether u + v wraps around 2^64 and, for exact results, what it carries into the lowest
bit that is kept. Leaving the wrap to chance fails with probability about |x| / 2^64 for each element, which fixed
point of useful width cannot afford; here it is found, and results are never wrong (decision 0020).
Source: Mohassel, Rindal 2018, section 5.1 (shares truncated by their holders, two against one); Rathee et al. 2021
(SiRnn: the wrap from the uppermost bits of the shares, where the secret's own is known).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.adders import carries, summands
from spark_mpc.protocols.rep3.arithmetic import plus_public
from spark_mpc.protocols.rep3.boolean import conjunction
from spark_mpc.protocols.rep3.context import CACHED, Context, cut
from spark_mpc.protocols.rep3.replication import Pair, dealt, sums
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import WORD_BITS, unpacked

__all__ = ["MOST_BITS", "truncated", "truncated_exactly", "wrap_type"]

MOST_BITS = WORD_BITS - 2
"""The most that a word is shifted by, and the logarithm of the domain of `truncated`."""


def wrap_type(bits: int) -> type[Any]:
    """Of the shares of a wrap, which counts 2^(64 - bits): only its lowest `bits` bits matter."""
    return np.uint32 if bits <= 32 else np.uint64


def truncated(context: Context, x: Arithmetic, bits: int) -> Arithmetic:
    """x / 2^bits, rounded down or up: floor(x / 2^bits), plus one by chance.

    u + v = x + 2^62 lies in [0, 2^63), so that it wraps exactly where one of u and v has its uppermost bit.

    Args:
        context: of this party.
        x: uint64, shape (n,), |x| < 2^62.
        bits: 0 to 62.

    Guarantees: in the domain every result is floor(x / 2^bits) or one more. It is floor((x + r) / 2^bits) for r = -x2
        modulo 2^bits: right on average where x2 is uniform, as after a product; the floor where x2 is zero, as in
        public words and in what party 0 has input. Outside the domain it may be wrong by multiples of 2^(64 - bits).
    Leaks: nothing before an opening. Each party by itself can tell r: an opened result says of x as much as
        floor((x + r) / 2^bits) with a public r does, so that a sensitivity counts one unit for it.
    Cost: 2 rounds; 9.3 bytes an element and party (party 0 sends 12, the others 8), 10.7 beyond 32 bits.
    """
    assert 0 <= bits <= MOST_BITS
    if not bits:
        return x

    def write(piece: slice, out: Words) -> None:
        summand = _summand(context, x.piece(piece), 1 << MOST_BITS)
        low = (~summand >> np.uint64(WORD_BITS - 1)).astype(wrap_type(bits))  # 1 where it is below 2^63
        u_low = dealt(context, 0, low if context.me == 0 else None, len(out), sums(wrap_type(bits)))
        both_low = u_low[context.me - 1] * low  # at party 0 without meaning, and not used
        for cached in cut(slice(0, len(out)), CACHED):
            out[cached] = _rounded_part(context, summand[cached], both_low[cached], bits)

    with context.step("truncate"):
        return Arithmetic(context.reshared_in_messages("share", len(x), x.dtype, write))


def _summand(context: Context, x: Arithmetic, lift: int) -> Words:
    """u = x0 + x1 + lift at party 0, v = x2 at the others."""
    summand: Words = x.parts[context.me % 2]
    if context.me == 0:
        summand = summand + x.parts[1]
        summand += np.uint64(lift)
    return summand


def _rounded_part(context: Context, summand: Words, both_low: NDArray[Any], bits: int) -> Words:
    """This party's part of x / 2^bits, from its summand of x + 2^62 and its part of [u < 2^63] [v < 2^63].

    It is floor(u / 2^bits) + ceil(v / 2^bits) + [u < 2^63] [v < 2^63] 2^(64 - bits), less what was added to x, and less
    the wrap of a sum of which one summand is 2^63 or more.
    """
    part = context.zero_sum(len(summand), np.uint64)
    shift = np.uint64(bits)
    if context.me == 0:
        part += summand >> shift
        part -= np.uint64((1 << (MOST_BITS - bits)) + (1 << (WORD_BITS - bits)))
        return part
    if context.me == 1:
        part += summand >> shift
        part += (summand & np.uint64((1 << bits) - 1)) != 0
    part += both_low.astype(np.uint64) << np.uint64(WORD_BITS - bits)
    return part


def truncated_exactly(context: Context, x: Arithmetic, bits: int) -> Arithmetic:
    """floor(x / 2^bits): an arithmetic shift.

    Args:
        context: of this party.
        x: uint64, shape (n,), any words.
        bits: 0 to 62.

    Guarantees: exact for every word in two's complement.
    Leaks: nothing. Cost: at most 11 rounds a chunk; 37.7 bytes an element and party for 20 bits, 38.9 at most.
    """
    assert 0 <= bits <= MOST_BITS
    if not bits:
        return x
    out = np.empty((2, len(x)), np.uint64)
    for piece in cut(slice(0, len(x)), context.chunk):
        with context.step("floor"):
            out[:, piece] = _floor(context, x.piece(piece), bits)
    return Arithmetic((out[0], out[1]))


def _floor(context: Context, x: Arithmetic, bits: int) -> Pair:
    """floor(u / 2^bits) + floor(v / 2^bits) + carry - wrap 2^(64 - bits), modulo 2^64, for u + v = x + 2^63."""
    lifted = plus_public(context, x, 1 << (WORD_BITS - 1))
    u, v = summands(context, lifted)
    generates = conjunction(context, "generate", u, v)
    carry, wrap = carries(context, generates, (u[0] ^ v[0], u[1] ^ v[1]), bits)
    part = context.zero_sum(len(x), np.uint64)
    part += _bit_part(context, "carry", carry, len(x), np.uint64)
    part -= _bit_part(context, "wrap", wrap, len(x), wrap_type(bits)).astype(np.uint64) << np.uint64(WORD_BITS - bits)
    if context.me == 0:
        part += (lifted.parts[0] + lifted.parts[1]) >> np.uint64(bits)
        part -= np.uint64(1 << (WORD_BITS - 1 - bits))
    elif context.me == 1:
        part += lifted.parts[1] >> np.uint64(bits)
    return context.reshared("share", part)


def _bit_part(context: Context, name: str, plane: Pair, length: int, dtype: type[Any]) -> NDArray[Any]:
    """This party's part of a bit b = c + d - 2 c d; c = b0 ^ b1 is party 0's, d = b2 that of parties 1 and 2.

    Never sent as it is: a fresh sharing of zero goes over it.
    """
    first, second = (unpacked(part, length).astype(dtype) for part in plane)
    with context.step(name):
        c = dealt(context, 0, first ^ second if context.me == 0 else None, length, sums(dtype))
    part: NDArray[Any]
    if context.me == 0:
        part = first ^ second
    elif context.me == 1:
        part = second - dtype(2) * c[0] * second
    else:
        part = np.negative(dtype(2) * c[1] * first)
    return part
