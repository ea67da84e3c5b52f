"""Biased coins that nobody knows: public probabilities, 64 coins in a word.

A coin of probability c / 2^n takes n fair bits, which are free. Let R be the number of ones before the first zero. The
coin is bit R of c, from the uppermost; it is 0 if there is no zero. So it is one with the probability
sum of c_R 2^-(R + 1) = c / 2^n. What decides are the products of the first bits, E_i = e_0 ... e_i, E_-1 = 1:

    coin = sum over i of c_i (E_(i-1) - E_i),

a linear map of products, as c is public. n - 1 products are needed: the coin has degree n in the bits, since its
probability is an odd multiple of 2^-n. This is what a comparison of a uniform word with c costs, on bits that were
flipped, to no effect, where c has zeros.

Products are made in runs of four bits, one after another, and runs are merged as a tree: 74 products in 7 rounds for
n = 64, where one long run would take 63 in 63 rounds, and a tree down to the bits 89 in 6 rounds.
Source: the comparison tree of MPC folklore, as in `adders`, with one operand public and leaves of four bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Costs, Engine
from spark_mpc.protocols.shares import Binary, concatenated
from spark_mpc.ring.masks import Words

__all__ = ["RUN", "toss_cost", "tossed"]

RUN = 4
"""Bits of a run; the precision of a coin is a multiple of it."""

_ONES = np.uint64(2**64 - 1)


def tossed(engine: Engine, probabilities: Sequence[int], words: Sequence[int], precision: int) -> Binary:
    """Independent coins, 64 in a word.

    Args:
        engine: of this party.
        probabilities: in units of 2^-precision, each from 0 to 2^precision - 1.
        words: how many words of coins each probability gets.
        precision: bits of a probability, a multiple of 4.

    Returns:
        The words of the first probability, then those of the second, and so on: shape (sum of words,).

    Guarantees:
        Exactly these probabilities, independent, given uniform key streams; one party alone learns nothing about them.
    Leaks:
        Nothing; probabilities and lengths are public.
    Cost:
        At a precision of 64: 7 rounds, 9.25 bytes a coin and party. Local memory: 4 words for each bit and word.
    """
    assert precision % RUN == 0
    digits = _digits(probabilities, words, precision)
    uniform = engine.random_binary(digits.size).map(lambda part: part.reshape(digits.shape))
    with engine.step("toss"):
        return _merged(engine, *_runs(engine, uniform, digits))


def toss_cost(costs: Costs, words: int, precision: int) -> Cost:
    """What `tossed` sends for so many words in all."""
    groups = precision // RUN
    total = costs.conjunction(groups * words) * (RUN - 1)
    while groups > 1:
        half, carried = _pairs(groups)
        total += costs.conjunction((half + carried) * words)
        groups -= half
    return total


def _digits(probabilities: Sequence[int], words: Sequence[int], precision: int) -> Words:
    """Bits of the probabilities as words of all zeros or ones, shape (runs, 4, words): uppermost first."""
    bits = np.array([[c >> place & 1 for c in probabilities] for place in reversed(range(precision))], np.bool_)
    masks = np.where(bits.reshape(precision, -1), _ONES, np.uint64(0))
    return np.repeat(masks, np.asarray(words, np.int64), axis=1).reshape(precision // RUN, RUN, -1)


def _runs(engine: Engine, uniform: Binary, digits: Words) -> tuple[Binary, Binary]:
    """For each run of bits: the coin if its first zero is in it (else 0), and whether all its bits are ones."""
    ones = _place(uniform, 0)
    coin = engine.xor_words(ones.masked(digits[:, 0]), digits[:, 0])
    for place in range(1, RUN):
        longer = _both(engine, ones, _place(uniform, place))
        coin ^= (ones ^ longer).masked(digits[:, place])
        ones = longer
    return coin, ones


def _merged(engine: Engine, coin: Binary, ones: Binary) -> Binary:
    """Neighbours (c, o), (c', o') become (c ^ o c', o o'), level by level; the lowest group never needs its ones."""
    while (groups := len(coin)) > 1:
        half, carried = _pairs(groups)
        upper, lower, rest = slice(0, 2 * half, 2), slice(1, 2 * half, 2), slice(2 * half, None)
        left = concatenated([ones.piece(upper), ones.piece(upper).piece(slice(carried))])
        right = concatenated([coin.piece(lower), ones.piece(lower).piece(slice(carried))])
        products = _both(engine, left, right)
        coin = concatenated([coin.piece(upper) ^ products.piece(slice(half)), coin.piece(rest)])
        ones = concatenated([products.piece(slice(half, None)), ones.piece(rest)])
    return coin.map(lambda part: part[0])


def _pairs(groups: int) -> tuple[int, int]:
    """Pairs of neighbours, and those of them that hand on their ones; an odd group waits at the lower end."""
    half = groups // 2
    return half, half - 1 + groups % 2


def _place(uniform: Binary, place: int) -> Binary:
    return uniform.map(lambda part: part[:, place])


def _both(engine: Engine, x: Binary, y: Binary) -> Binary:
    """And, of words in any one shape."""
    flat = engine.and_words(x.map(_flat), y.map(_flat))
    return flat.map(lambda part: part.reshape(x.shape))


def _flat(part: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return part.reshape(-1)
