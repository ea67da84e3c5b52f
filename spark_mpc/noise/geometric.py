"""Geometric noise that nobody knows: never negative, for what may only grow, such as the size of padding.

The binary digits of a geometric variable are independent coins (`dp.noise.coins`): g = sum over j of 2^j g_j.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.noise.coins import LaplaceCoins
from spark_mpc.noise.coins import toss_cost, tossed
from spark_mpc.protocols.cost import FREE, Cost
from spark_mpc.protocols.engine import Costs, Engine
from spark_mpc.protocols.shares import Arithmetic, Bits, concatenated
from spark_mpc.ring.planes import WORD_BITS, plane_words

__all__ = ["geometric_cost", "geometric_noise"]


def geometric_noise(engine: Engine, coins: LaplaceCoins, cells: int) -> Arithmetic:
    """Draws g >= 0 with probability (1 - r) r^g, where r = exp(-1 / scale).

    Args:
        engine: of this party.
        coins: of a draw, as `dp.noise.coins.laplace_coins` plans them; the first of them, which tells zero from the
            rest, is not needed.
        cells: draws.

    Returns:
        uint64 words, shape (cells,), fresh for every call.

    Guarantees:
        Independent draws from exactly these coins, given uniform key streams, within `coins.distance` of the law each.
        One party alone learns nothing about a draw. Added to an integer it hides no unit by itself, since it only adds:
        what is released of the sum must be shifted, and cut off at what a delta pays for.
    Leaks:
        Nothing; scale and length are public.
    Cost:
        `geometric_cost`. 9 rounds for each `engine.chunk` coins at a precision of 36 to 64; 9.25 bytes for each digit
        of a draw and party, and the conversion, where party 0 sends 8 for each digit and all send 8.
    Source:
        Dwork, Kenthapadi, McSherry, Mironov and Naor 2006.
    """
    if not coins.digits or not cells:
        return engine.constant(np.zeros(cells, np.uint64))
    with engine.step("noise"):
        return concatenated([_drawn(engine, coins, count) for count in _pieces(engine.chunk, coins, cells)])


def geometric_cost(costs: Costs, chunk: int, coins: LaplaceCoins, cells: int) -> Cost:
    """What `geometric_noise` sends on an engine of these costs and this chunk."""
    total = FREE
    for count in _pieces(chunk, coins, cells) if coins.digits else ():
        tosses = coins.digits * plane_words(count)
        total += toss_cost(costs, tosses, coins.precision)
        total += costs.combined_bits(WORD_BITS * tosses, count, np.uint64)
    return total


def _pieces(chunk: int, coins: LaplaceCoins, cells: int) -> Iterator[int]:
    """Draws that are made together: about `chunk` coins."""
    most = max(chunk // coins.digits // WORD_BITS, 1) * WORD_BITS
    for start in range(0, cells, most):
        yield min(most, cells - start)


def _drawn(engine: Engine, coins: LaplaceCoins, cells: int) -> Arithmetic:
    words = plane_words(cells)
    digits = tossed(engine, coins.probabilities[1:], [words] * coins.digits, coins.precision)
    bits = Bits(digits.parts, WORD_BITS * len(digits))
    return engine.combined_bits(bits, partial(_numbers, coins.digits, cells))


def _numbers(digits: int, cells: int, bits: NDArray[Any]) -> NDArray[Any]:
    """Sums of 2^j times the j-th row; what fills the last word up is left out."""
    weights = np.array([1 << j for j in range(digits)], bits.dtype)
    rows = bits.reshape(digits, -1)[:, :cells]
    return np.asarray((weights[:, None] * rows).sum(axis=0, dtype=bits.dtype))
