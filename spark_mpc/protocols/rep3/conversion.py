"""From bits to numbers.

Source: Mohassel, Rindal 2018, section 5.4.1 (bit injection), arranged so that the cross terms are local.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.replication import dealt, sums
from spark_mpc.protocols.shares import Arithmetic, Bits
from spark_mpc.ring.planes import unpacked

__all__ = ["bits_to_arithmetic"]


def bits_to_arithmetic(context: Context, bits: Bits, dtype: type[Any]) -> Arithmetic:
    """Zeros and ones of the ring, from bits.

    b = b0 ^ b1 ^ b2 is c ^ d = c + d - 2 c d with c = b0 ^ b1, which party 0 knows and inputs, and d = b2, which
    parties 1 and 2 hold; every product of a part of c with d is known to one of them.

    Args:
        context: of this party.
        bits: n of them.
        dtype: np.uint64 or np.uint32.

    Leaks: nothing. Cost: 2 rounds; 4/3 elements of `dtype` for each bit and party (party 0 sends two, the others one).
    """
    with context.step("inject"):
        first, second = (unpacked(part, len(bits)).astype(dtype) for part in bits.parts)
        known = first ^ second if context.me == 0 else None
        c = dealt(context, 0, known, len(bits), sums(dtype))
        nothing = np.zeros(len(bits), dtype)
        d = ((nothing, nothing), (nothing, second), (first, nothing))[context.me]
        both = context.reshared("product", _cross_terms(context, c, d))
    return Arithmetic((c[0] + d[0] - (both[0] + both[0]), c[1] + d[1] - (both[1] + both[1])))


def _cross_terms(context: Context, c: tuple[NDArray[Any], ...], d: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """This party's part of c d = (c_0 + c_1) d_2: party 1 knows c_1 and d_2, party 2 knows c_0 and d_2."""
    part = context.zero_sum(c[0].shape, c[0].dtype.type)
    if context.me == 1:
        part += c[0] * d[1]
    elif context.me == 2:
        part += c[1] * d[0]
    return part
