"""Replicated sharing behind the face of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Combination
from spark_mpc.protocols.rep3 import (
    adders,
    arithmetic,
    boolean,
    conversion,
    equality,
    lexicographic,
    shuffle,
    truncation,
)
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, OneShare
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import packed

__all__ = ["Rep3"]

_EVERYBODY = (0, 1, 2)
_ALL_ONES = np.uint64(2**64 - 1)


class Rep3:
    """One party's side of replicated secret sharing over Z_2^64 and bits. See `Engine` for the operations.

    Guarantees: what one party sees, its shares and all messages, is uniform and independent of everybody's inputs,
        computationally, as long as no two parties join what they know; all follow the protocol (semi-honest).
    Leaks: lengths, labels and the number of rounds, which are public; what `open_words` and `open_bits` name.
    Cost: `costs`. Where an operation says one round, it is one for every `WINDOW` chunks; bytes an element are those of
        columns that fill whole words of 64 bits.
    Memory: a share of a word has 16 bytes. Beside its arguments, and its result and what is on its way included, an
        operation takes at most 4 shares a row, a shuffle 5.5 (9 for three columns), `combined_bits` 2.75 for each of
        its bits; circuits of several operations up to 8, a radix sort 15, a quicksort 14. What lies between the rounds
        of a chunk comes on top, some 60 MiB at most, whatever the rows.
    Source: Araki, Furukawa, Lindell, Nof, Ohara 2016; Mohassel, Rindal 2018.
    """

    name = "rep3"

    def __init__(self, context: Context) -> None:
        self._context = context
        self.costs = Rep3Costs(context.chunk)

    @property
    def me(self) -> int:
        return self._context.me

    @property
    def chunk(self) -> int:
        return self._context.chunk

    def step(self, name: str) -> AbstractContextManager[None]:
        return self._context.step(name)

    def input_words(
        self, owner: int, values: NDArray[Any] | None, length: int, dtype: type[Any] = np.uint64
    ) -> Arithmetic:
        return arithmetic.input_words(self._context, owner, values, length, dtype)

    def input_binary(self, owner: int, values: Words | None, length: int) -> Binary:
        return boolean.input_binary(self._context, owner, values, length)

    def input_bits(self, owner: int, values: NDArray[Any] | None, length: int) -> Bits:
        return boolean.input_bits(self._context, owner, values, length)

    def constant(self, values: NDArray[Any]) -> Arithmetic:
        return arithmetic.constant(self._context, values)

    def constant_bits(self, values: NDArray[Any]) -> Bits:
        plane = packed(values)
        nothing = np.zeros_like(plane)
        return Bits(boolean.xor_public(self._context, (nothing, nothing), plane), len(values))

    def open_words(self, shared: Arithmetic | Binary, to: tuple[int, ...] = _EVERYBODY) -> NDArray[Any] | None:
        if isinstance(shared, Binary):
            return boolean.open_binary(self._context, shared, to)
        return arithmetic.open_words(self._context, shared, to)

    def open_bits(self, shared: Bits, to: tuple[int, ...] = _EVERYBODY) -> NDArray[np.uint8] | None:
        return boolean.open_bits(self._context, shared, to)

    def plus_public(self, shared: Arithmetic, values: NDArray[Any] | int) -> Arithmetic:
        return arithmetic.plus_public(self._context, shared, values)

    def multiply(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        return arithmetic.multiply(self._context, x, y)

    def dot(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        return arithmetic.dot(self._context, x, y)

    def matmul(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        return arithmetic.matmul(self._context, x, y)

    def xor_public(self, shared: Bits, values: NDArray[Any] | int) -> Bits:
        plane = (_ALL_ONES if values else np.uint64(0)) if isinstance(values, int) else packed(values)
        first, second = shared.parts
        return Bits(boolean.xor_public(self._context, (first, second), plane), shared.length)

    def both(self, x: Bits, y: Bits) -> Bits:
        (x0, x1), (y0, y1) = x.parts, y.parts
        return Bits(boolean.conjunction_in_chunks(self._context, "and", (x0, x1), (y0, y1)), x.length)

    def and_words(self, x: Binary, y: Binary) -> Binary:
        (x0, x1), (y0, y1) = x.parts, y.parts
        return Binary(boolean.conjunction_in_chunks(self._context, "and", (x0, x1), (y0, y1)))

    def xor_words(self, shared: Binary, values: Words | int) -> Binary:
        first, second = shared.parts
        word = np.uint64(values) if isinstance(values, int) else values
        return Binary(boolean.xor_public(self._context, (first, second), word))

    def random_bits(self, length: int) -> Bits:
        return boolean.random_bits(self._context, length)

    def random_binary(self, length: int) -> Binary:
        return Binary(boolean.random_words(self._context, length))

    def negative(self, x: Arithmetic) -> Bits:
        return adders.negative(self._context, x)

    def zero(self, x: Arithmetic) -> Bits:
        return equality.zero(self._context, x)

    def zero_binary(self, x: Binary, width: int) -> Bits:
        return equality.zero_binary(self._context, x, width)

    def precedes(
        self, x: Sequence[Arithmetic | Binary], y: Sequence[Arithmetic | Binary], widths: Sequence[int]
    ) -> Bits:
        return lexicographic.precedes(self._context, x, y, widths)

    def bits_to_arithmetic(self, bits: Bits, dtype: type[Any] = np.uint64) -> Arithmetic:
        return conversion.bits_to_arithmetic(self._context, bits, dtype)

    def combined_bits(self, bits: Bits, combine: Combination, dtype: type[Any] = np.uint64) -> Arithmetic:
        return conversion.combined_bits(self._context, bits, combine, dtype)

    def to_binary(self, x: Arithmetic) -> Binary:
        return adders.to_binary(self._context, x)

    def truncated(self, x: Arithmetic, bits: int) -> Arithmetic:
        return truncation.truncated(self._context, x, bits)

    def truncated_exactly(self, x: Arithmetic, bits: int) -> Arithmetic:
        return truncation.truncated_exactly(self._context, x, bits)

    def shuffled(self, columns: Sequence[OneShare]) -> list[OneShare]:
        return shuffle.shuffled(self._context, columns)
