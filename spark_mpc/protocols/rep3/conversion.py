"""From bits to numbers.

Source: Mohassel, Rindal 2018, section 5.4.1 (bit injection), arranged so that the cross terms are local.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Combination
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import Pair, dealt, sums
from spark_mpc.protocols.shares import Arithmetic, Bits
from spark_mpc.ring.planes import WORD_BITS, plane_words, unpacked

__all__ = ["bits_to_arithmetic", "combined_bits"]


def bits_to_arithmetic(context: Context, bits: Bits, dtype: type[Any]) -> Arithmetic:
    """Zeros and ones of the ring, from bits.

    Args:
        context: of this party.
        bits: n of them.
        dtype: np.uint64 or np.uint32.

    Guarantees: as `combined_bits`, of which this is the case that goes in chunks.
    Leaks: nothing. Cost: 2 rounds; 4/3 elements of `dtype` for each bit and party (party 0 sends two, the others one).
    """
    out = np.empty((2, len(bits)), dtype)
    with context.step("inject"):
        label = context.label("product")

        def product(piece: slice) -> NDArray[Any]:
            once, sent = _injected(context, _piece(bits, piece), lambda ones: ones, dtype)
            np.subtract(once[0], sent + sent, out=out[0, piece])
            out[1, piece] = once[1]
            return sent

        def take(piece: slice) -> None:
            received = np.empty(piece.stop - piece.start, dtype)
            context.channel.receive(context.next, label, received)
            out[1, piece] -= received + received

        context.stream(label, len(bits), sends=(context.previous, product), take=take)
    return Arithmetic((out[0], out[1]))


def combined_bits(context: Context, bits: Bits, combine: Combination, dtype: type[Any]) -> Arithmetic:
    """A public linear map of bits as zeros and ones of the ring; only its result is shared afresh.

    b = b0 ^ b1 ^ b2 is c ^ d = c + d - 2 c d with c = b0 ^ b1, which party 0 knows and inputs, and d = b2, which
    parties 1 and 2 hold; every product of a part of c with d is known to one of them, and so is its combination.

    Args:
        context: of this party.
        bits: n of them.
        combine: the map of n ring elements to m; it must be linear modulo the ring.
        dtype: np.uint64 or np.uint32.

    Guarantees: what party 1 receives of c is masked by party 0's key stream; what is shared afresh, by zeros.
    Leaks: nothing. Cost: 2 rounds; n elements of `dtype` from party 0, and m from every party.
    """
    with context.step("inject"):
        once, part = _injected(context, bits, combine, dtype)
        both = context.reshared("product", part)
    return Arithmetic((once[0] - (both[0] + both[0]), once[1] - (both[1] + both[1])))


def _injected(context: Context, bits: Bits, combine: Combination, dtype: type[Any]) -> tuple[Pair, NDArray[Any]]:
    """This party's two parts of the combined c + d, and its part of the combined c d under a fresh sharing of zeros."""
    first, second = bits.parts
    c_or_d = unpacked((first ^ second, second, first)[context.me], len(bits)).astype(dtype)
    c = dealt(context, 0, c_or_d if context.me == 0 else None, len(bits), sums(dtype))
    if context.me == 0:
        once = combine(c[0]), combine(c[1])
        return once, context.zero_sum(once[0].shape, dtype)
    known, d = c[context.me - 1], c_or_d  # the part of c that is not zero here, and d
    product = combine(known * d)
    product += context.zero_sum(product.shape, dtype)
    return (combine(known), combine(d)) if context.me == 1 else (combine(d), combine(known)), product


def _piece(bits: Bits, at: slice) -> Bits:
    """Some of the bits: from a whole word on."""
    planes = slice(at.start // WORD_BITS, plane_words(at.stop))
    return Bits(tuple(part[planes] for part in bits.parts), at.stop - at.start)
