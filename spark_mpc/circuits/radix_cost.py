"""What a radix sort sends, before it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spark_mpc.circuits.columns import index_bits
from spark_mpc.circuits.radix_sort import DIGIT_BITS
from spark_mpc.protocols.cost import FREE, Cost
from spark_mpc.protocols.engine import EVERYBODY, Costs

__all__ = ["radix_cost"]

_PLACE_BYTES = 4
_WORD_BYTES = 8
_HALF_WORD_BITS = 32


def radix_cost(
    costs: Costs, length: int, *, chunk: int, sums: int, words: Sequence[int], widths: Sequence[int]
) -> Cost:
    """The cost of `radix_sorted`.

    Args:
        costs: of the engine.
        length: rows, below 2^32.
        chunk: of the engine.
        sums: columns of keys that are shared by sums, and converted.
        words: bits of each word of keys, the most significant first, after wide keys were cut and narrow ones joined.
        widths: bytes of an element of every column that is sorted.

    Guarantees: bytes are exact; rounds are those of all operations one after the other.
    """
    if length < 2:
        return FREE
    total = costs.to_binary(length) * sums
    for others, bits in reversed(list(enumerate(words))):
        moved = [*[_WORD_BYTES] * others, *widths]
        total += _places(costs, length, chunk, bits) + _delivery(costs, length, moved)
    return total


def _places(costs: Costs, length: int, chunk: int, bits: int) -> Cost:
    first, *others = [min(DIGIT_BITS, bits - start) for start in range(0, bits, DIGIT_BITS)]
    total, left = _digit(costs, length, chunk, first), bits - first
    for count in others:
        narrow = left + index_bits(length) <= _HALF_WORD_BITS
        total += _delivery(costs, length, [_PLACE_BYTES if narrow else _WORD_BYTES])
        total += _digit(costs, length, chunk, count)
        left -= count
    return total + _delivery(costs, length, [_PLACE_BYTES]) if others else total


def _digit(costs: Costs, length: int, chunk: int, count: int) -> Cost:
    total = costs.bits_to_arithmetic(count * length, np.uint32)
    for bit in range(1, count):
        total += costs.multiply(((1 << bit) - 1) * length, np.uint32)
    for start in range(0, length, chunk):
        total += costs.dot(min(chunk, length - start), np.uint32)
    return total


def _delivery(costs: Costs, length: int, widths: Sequence[int]) -> Cost:
    return costs.shuffled(length, [*widths, _PLACE_BYTES]) + costs.open_words(length, np.uint32, EVERYBODY)
