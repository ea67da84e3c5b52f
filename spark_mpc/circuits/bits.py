"""Bits of secret words, and numbers made of bits: the leading one, digits of exponents, powers of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spark_mpc.circuits.columns import bits_at
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, concatenated
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import packed, unpacked

__all__ = [
    "digit_masks",
    "leading_place",
    "masks",
    "numbers",
    "parities",
    "powers_of_two",
    "product",
    "smeared",
    "to_arithmetic",
]


def masks(bits: Bits) -> Binary:
    """Words of ones where the bit is one, else of zeros. Local."""
    return Binary(tuple(np.negative(unpacked(part, len(bits)).astype(np.uint64)) for part in bits.parts))


def parities(words: Binary, chosen: Sequence[int]) -> Bits:
    """For each word of `chosen`, whether an odd number of the bits that it has in common with the words is one.

    Args:
        words: shape (n,).
        chosen: public words.

    Returns:
        n bits for the first chosen word, then n for the next. Local.
    """
    return Bits(
        tuple(packed(np.concatenate([_parity(part & np.uint64(word)) for word in chosen])) for part in words.parts),
        len(chosen) * len(words),
    )


def _parity(words: Words) -> Words:
    for reach in (32, 16, 8, 4, 2, 1):
        words = words ^ (words >> np.uint64(reach))
    return words & np.uint64(1)


def smeared(engine: Engine, words: Binary, width: int) -> Binary:
    """Every bit from the leading one down is one.

    Args:
        engine: of this party.
        words: shape (n,); only their lowest `width` bits count, the others of the result are zero.
        width: 1 to 64.

    Leaks: nothing. Cost: ceil(log2(width)) rounds of 8 bytes an element and party.
    """
    words = words.masked((1 << width) - 1)
    reach = 1
    while reach < width:
        below = words.shifted_right(reach)
        words = words ^ below ^ engine.and_words(words, below)
        reach *= 2
    return words


def leading_place(engine: Engine, words: Binary, width: int) -> Binary:
    """Words with a single one: at place k + 1 for the leading one at place k, at place 0 for none.

    Args:
        engine: of this party.
        words: shape (n,); only their lowest `width` bits count.
        width: 1 to 63.

    Leaks: nothing. Cost: as `smeared`.
    """
    ones = smeared(engine, words, width).map(lambda part: part << np.uint64(1))
    ones = engine.xor_words(ones, 1)
    return ones ^ ones.shifted_right(1)


def numbers(engine: Engine, bits: Bits, count: int) -> list[Arithmetic]:
    """Bits of `count` columns, one behind the other, as columns of zeros and ones.

    Leaks: nothing. Cost: 2 rounds, 10.7 bytes a bit and party.
    """
    ones, length = engine.bits_to_arithmetic(bits), len(bits) // count
    return [ones.piece(slice(start, start + length)) for start in range(0, count * length, length)]


def to_arithmetic(engine: Engine, words: Binary, width: int) -> Arithmetic:
    """Words shared by exclusive or as words shared by sums.

    Args:
        engine: of this party.
        words: shape (n,); only their lowest `width` bits count.
        width: 1 to 64.

    Guarantees: exact. Leaks: nothing. Cost: 2 rounds, 8 + 2.7 * width bytes an element and party.
    """
    places = np.arange(width, dtype=np.uint64)[:, None]

    def valued(ones: Words) -> Words:
        result: Words = (ones.reshape(width, -1) << places).sum(axis=0, dtype=np.uint64)
        return result

    return engine.combined_bits(bits_at(words, range(width)), valued)


def product(engine: Engine, factors: Sequence[Arithmetic]) -> Arithmetic:
    """The product of columns of one length, modulo 2^64.

    Leaks: nothing. Cost: ceil(log2(k)) rounds for k columns; 8 (k - 1) bytes an element and party.
    """
    while len(factors) > 1:
        half = len(factors) // 2
        rest = factors[2 * half :]
        merged = engine.multiply(concatenated(factors[:half]), concatenated(factors[half : 2 * half]))
        length = len(merged) // half
        factors = [*(merged.piece(slice(k * length, (k + 1) * length)) for k in range(half)), *rest]
    return factors[0]


def powers_of_two(engine: Engine, digits: Sequence[Arithmetic]) -> list[Arithmetic]:
    """Factors whose product is 2^e, for e in binary digits, the lowest first: each is 1 or 2^(2^i). Local."""
    assert len(digits) <= 6
    return [engine.plus_public(digit.times((1 << (1 << place)) - 1), 1) for place, digit in enumerate(digits)]


def digit_masks(values: Sequence[int]) -> list[int]:
    """Words for `parities` that read a table: of a word whose single one is at place p, the digits of values[p]."""
    digits = max(values).bit_length()
    return [sum(1 << place for place, value in enumerate(values) if value >> digit & 1) for digit in range(digits)]
