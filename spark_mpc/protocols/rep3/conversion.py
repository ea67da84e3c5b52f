"""From bits to numbers.

Source: Mohassel, Rindal 2018, section 5.4.1 (bit injection), arranged so that the cross terms are local.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Combination
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import dealt, sums
from spark_mpc.protocols.shares import Arithmetic, Bits
from spark_mpc.ring.planes import unpacked

__all__ = ["bits_to_arithmetic", "combined_bits"]


def bits_to_arithmetic(context: Context, bits: Bits, dtype: type[Any]) -> Arithmetic:
    """Zeros and ones of the ring, from bits.

    Args:
        context: of this party.
        bits: n of them.
        dtype: np.uint64 or np.uint32.

    Leaks: nothing. Cost: 2 rounds; 4/3 elements of `dtype` for each bit and party (party 0 sends two, the others one).
    """
    return combined_bits(context, bits, lambda ones: ones, dtype)


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
        first, second = (unpacked(part, len(bits)).astype(dtype) for part in bits.parts)
        known = first ^ second if context.me == 0 else None
        c = dealt(context, 0, known, len(bits), sums(dtype))
        nothing = np.zeros(len(bits), dtype)
        d = ((nothing, nothing), (nothing, second), (first, nothing))[context.me]
        once = [combine(c[side] + d[side]) for side in range(2)]
        part = context.zero_sum(once[0].shape, dtype)
        part += combine(_cross_terms(context, c, d))
        both = context.reshared("product", part)
    return Arithmetic((once[0] - (both[0] + both[0]), once[1] - (both[1] + both[1])))


def _cross_terms(context: Context, c: tuple[NDArray[Any], ...], d: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """This party's part of c d = (c_0 + c_1) d_2: party 1 knows c_1 and d_2, party 2 knows c_0 and d_2."""
    if context.me == 0:
        return np.zeros_like(c[0])
    part: NDArray[Any] = c[0] * d[1] if context.me == 1 else c[1] * d[0]
    return part
