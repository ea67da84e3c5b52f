"""What every operation of replicated sharing sends: declared here, measured against in the conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spark_mpc.protocols.cost import FREE, Cost
from spark_mpc.protocols.rep3.context import PARTIES, WINDOW
from spark_mpc.protocols.rep3.truncation import wrap_type
from spark_mpc.ring.planes import WORD_BITS, plane_words

__all__ = ["Rep3Costs"]

_WORD_BYTES = 8


class Rep3Costs:
    """See `engine.Costs`.

    Args:
        chunk: elements that go through all rounds of an operation together.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk

    def input_words(self, owner: int, length: int, dtype: type[Any] = np.uint64) -> Cost:
        return _from_one(owner, length * np.dtype(dtype).itemsize)

    def input_binary(self, owner: int, length: int) -> Cost:
        return _from_one(owner, length * _WORD_BYTES)

    def input_bits(self, owner: int, length: int) -> Cost:
        return _from_one(owner, plane_words(length) * _WORD_BYTES)

    def open_words(self, length: int, dtype: type[Any] = np.uint64, to: tuple[int, ...] = (0, 1, 2)) -> Cost:
        return self._opened(length, length * np.dtype(dtype).itemsize, to)

    def open_bits(self, length: int, to: tuple[int, ...] = (0, 1, 2)) -> Cost:
        return self._opened(plane_words(length), plane_words(length) * _WORD_BYTES, to)

    def multiply(self, length: int, dtype: type[Any] = np.uint64) -> Cost:
        return self._streamed(length, np.dtype(dtype).itemsize)

    def dot(self, rows: int, dtype: type[Any] = np.uint64) -> Cost:
        return _from_all(rows * np.dtype(dtype).itemsize)

    def matmul(self, rows: int, columns: int) -> Cost:
        return _from_all(rows * columns * _WORD_BYTES)

    def conjunction(self, words: int) -> Cost:
        return self._streamed(words, _WORD_BYTES)

    def negative(self, length: int) -> Cost:
        """63 generates; then 62 merges, of which 62 - 6 + 1 also hand a carry on."""
        return self._by_chunks(length, lambda plane: _summands(plane) + _from_all(63 * plane) + _carries(plane, 63))

    def zero(self, length: int) -> Cost:
        return self._by_chunks(
            length, lambda plane: _summands(plane) + sum((_from_all(n * plane) for n in (32, 16, 8, 4, 2, 1)), FREE)
        )

    def zero_binary(self, length: int, width: int) -> Cost:
        return self._by_chunks(length, lambda plane: _halvings(plane, width))

    def precedes(self, length: int, sums: int, planes: int) -> Cost:
        """Of columns shared by sums, and of all planes of the others."""

        def cost(plane: int) -> Cost:
            inputs = Cost(1, (sums * WORD_BITS * plane, 0, 0)) if sums else FREE
            generates = _from_all((sums * (WORD_BITS - 1) + planes) * plane)
            return inputs + generates + _carries(plane, sums * WORD_BITS + planes)

        return self._by_chunks(length, cost)

    def bits_to_arithmetic(self, length: int, dtype: type[Any] = np.uint64) -> Cost:
        size = length * np.dtype(dtype).itemsize
        return Cost(2 * self._windows(length), (2 * size, size, size))

    def combined_bits(self, length: int, results: int, dtype: type[Any] = np.uint64) -> Cost:
        size = np.dtype(dtype).itemsize
        return _from_one(0, length * size) + _from_all(results * size)

    def to_binary(self, length: int) -> Cost:
        return self._by_chunks(length, lambda plane: _summands(plane) + _from_all(63 * plane) + _prefixes(plane))

    def truncated(self, length: int, bits: int) -> Cost:
        if not bits:
            return FREE
        input_bytes = length * np.dtype(wrap_type(bits)).itemsize
        return Cost(self._windows(length), (input_bytes, 0, 0)) + self._streamed(length, _WORD_BYTES)

    def truncated_exactly(self, length: int, bits: int) -> Cost:
        """Generates, trees below and above `bits`, one merge to join them; then two bits become numbers."""
        if not bits:
            return FREE

        def piece(elements: int) -> Cost:
            plane = plane_words(elements) * _WORD_BYTES
            tree = _from_all(64 * plane) + _carries(plane, bits, 64 - bits) + _from_all(plane)
            numbers = _from_one(0, elements * (_WORD_BYTES + np.dtype(wrap_type(bits)).itemsize))
            return _summands(plane) + tree + numbers + _from_all(elements * _WORD_BYTES)

        return self._in_pieces(length, piece)

    def shuffled(self, length: int, widths: Sequence[int]) -> Cost:
        """Every party sends in two hops of three."""
        return Cost(3 if length else 0, (2 * length * sum(widths),) * PARTIES)

    def _streamed(self, length: int, element_bytes: int) -> Cost:
        return Cost(self._windows(length), (length * element_bytes,) * PARTIES)

    def _opened(self, elements: int, size: int, to: tuple[int, ...]) -> Cost:
        sent = tuple(size if (party + 1) % PARTIES in to else 0 for party in range(PARTIES))
        return Cost(self._windows(elements), sent)

    def _windows(self, length: int) -> int:
        """What is waited for in turn: nobody is further than a window of chunks ahead of what it has received."""
        return max(-(-length // (self._chunk * WINDOW)), 1)

    def _by_chunks(self, length: int, cost: Callable[[int], Cost]) -> Cost:
        return self._in_pieces(length, lambda elements: cost(plane_words(elements) * _WORD_BYTES))

    def _in_pieces(self, length: int, cost: Callable[[int], Cost]) -> Cost:
        whole, rest = divmod(length, self._chunk)
        total = cost(self._chunk) * whole
        return total + cost(rest) if rest else total


def _from_one(owner: int, size: int) -> Cost:
    return Cost(1, tuple(size if party == owner else 0 for party in range(PARTIES)))


def _from_all(size: int) -> Cost:
    return Cost(1, (size,) * PARTIES)


def _summands(plane_bytes: int) -> Cost:
    return _from_one(0, WORD_BITS * plane_bytes)


def _carries(plane_bytes: int, *widths: int) -> Cost:
    """Trees over groups of planes: at each level every pair merges, and all but the lowest hand a carry on."""
    total = FREE
    while max(widths) > 1:
        merges = sum(2 * (width // 2) for width in widths) - (widths[0] > 1)
        total += _from_all(merges * plane_bytes)
        widths = tuple(width // 2 + width % 2 for width in widths)
    return total


def _halvings(plane_bytes: int, width: int) -> Cost:
    """The conjunction of planes, two by two."""
    total = FREE
    while width > 1:
        total += _from_all(width // 2 * plane_bytes)
        width -= width // 2
    return total


def _prefixes(plane_bytes: int) -> Cost:
    total, count, reach = FREE, WORD_BITS - 1, 1
    while reach < count:
        upper = [j for j in range(count) if j & reach]
        total += _from_all((len(upper) + sum(j >= 2 * reach for j in upper)) * plane_bytes)
        reach *= 2
    return total
