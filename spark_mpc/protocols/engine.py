"""The face of a protocol that computes on secret arrays: three parties walk one program, each with its own engine.

Circuits, `Shared` values and noise are written against it; replicated sharing and the plaintext twin of the tests
implement it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, OneShare
from spark_mpc.ring.masks import Words

__all__ = ["Combination", "Costs", "Engine"]

Combination = Callable[[NDArray[Any]], NDArray[Any]]
"""A public map of ring elements, linear modulo the ring."""

EVERYBODY = (0, 1, 2)


class Costs(Protocol):
    """What each operation of an engine sends, by its public shape; local operations are not listed, they are free."""

    def input_words(self, owner: int, length: int, dtype: type[Any]) -> Cost: ...
    def input_binary(self, owner: int, length: int) -> Cost: ...
    def input_bits(self, owner: int, length: int) -> Cost: ...
    def open_words(self, length: int, dtype: type[Any], to: tuple[int, ...]) -> Cost: ...
    def open_bits(self, length: int, to: tuple[int, ...]) -> Cost: ...
    def multiply(self, length: int, dtype: type[Any]) -> Cost: ...
    def dot(self, rows: int, dtype: type[Any] = np.uint64) -> Cost: ...
    def matmul(self, rows: int, columns: int) -> Cost: ...
    def conjunction(self, words: int) -> Cost: ...
    def negative(self, length: int) -> Cost: ...
    def zero(self, length: int) -> Cost: ...
    def zero_binary(self, length: int, width: int) -> Cost: ...
    def precedes(self, length: int, sums: int, planes: int) -> Cost: ...
    def bits_to_arithmetic(self, length: int, dtype: type[Any]) -> Cost: ...
    def combined_bits(self, length: int, results: int, dtype: type[Any]) -> Cost: ...
    def to_binary(self, length: int) -> Cost: ...
    def truncated(self, length: int, bits: int) -> Cost: ...
    def truncated_exactly(self, length: int, bits: int) -> Cost: ...
    def shuffled(self, length: int, widths: Sequence[int]) -> Cost: ...


class Engine(Protocol):
    """One party's side of every operation. All parties call the same operations in the same order.

    Guarantees, leakage and cost of each stand with its implementation.
    """

    @property
    def name(self) -> str:
        """Of the protocol, as a plan prints it."""

    @property
    def me(self) -> int:
        """This party's number."""

    @property
    def costs(self) -> Costs:
        """What operations send."""

    @property
    def chunk(self) -> int:
        """Elements that go through all rounds of an operation together."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Label the messages of what is done inside; lower case, digits, "-" and "_"."""

    # into and out of sharing
    def input_words(
        self, owner: int, values: NDArray[Any] | None, length: int, dtype: type[Any] = np.uint64
    ) -> Arithmetic:
        """Words of one party, shape (length,), shared by sums."""

    def input_binary(self, owner: int, values: Words | None, length: int) -> Binary:
        """Words of one party, shape (length,), shared by exclusive or."""

    def input_bits(self, owner: int, values: NDArray[Any] | None, length: int) -> Bits:
        """Zeros and ones of one party, shape (length,)."""

    def constant(self, values: NDArray[Any]) -> Arithmetic:
        """Public words as shares."""

    def constant_bits(self, values: NDArray[Any]) -> Bits:
        """Public zeros and ones as shares."""

    def open_words(self, shared: Arithmetic | Binary, to: tuple[int, ...] = EVERYBODY) -> NDArray[Any] | None:
        """The secret words, at the named parties; None elsewhere."""

    def open_bits(self, shared: Bits, to: tuple[int, ...] = EVERYBODY) -> NDArray[np.uint8] | None:
        """The secret bits, one a byte, at the named parties; None elsewhere."""

    # sums modulo 2^64 (or 2^32)
    def plus_public(self, shared: Arithmetic, values: NDArray[Any] | int) -> Arithmetic:
        """Add public words."""

    def multiply(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Products of elements, shape (n,)."""

    def dot(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Inner products over the last axis, shapes (rows, n) to (rows,)."""

    def matmul(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Matrix product, uint64."""

    # bits
    def xor_public(self, shared: Bits, values: NDArray[Any] | int) -> Bits:
        """Flip where public zeros and ones, shape (n,), are one; 1 flips all."""

    def both(self, x: Bits, y: Bits) -> Bits:
        """And."""

    def and_words(self, x: Binary, y: Binary) -> Binary:
        """And of words, bit by bit."""

    def xor_words(self, shared: Binary, values: Words | int) -> Binary:
        """Flip bits of words by public ones."""

    def random_bits(self, length: int) -> Bits:
        """Uniform bits that nobody knows."""

    def random_binary(self, length: int) -> Binary:
        """Uniform words that nobody knows."""

    # between both
    def negative(self, x: Arithmetic) -> Bits:
        """Whether elements are negative in two's complement."""

    def zero(self, x: Arithmetic) -> Bits:
        """Whether elements are zero."""

    def zero_binary(self, x: Binary, width: int) -> Bits:
        """Whether the lowest `width` bits of words are zero."""

    def precedes(
        self, x: Sequence[Arithmetic | Binary], y: Sequence[Arithmetic | Binary], widths: Sequence[int]
    ) -> Bits:
        """Whether rows of columns x come before those of y in lexicographic order."""

    def bits_to_arithmetic(self, bits: Bits, dtype: type[Any] = np.uint64) -> Arithmetic:
        """Bits as zeros and ones of the ring."""

    def combined_bits(self, bits: Bits, combine: Combination, dtype: type[Any] = np.uint64) -> Arithmetic:
        """A public linear map of bits as zeros and ones of the ring, at the price of its results."""

    def to_binary(self, x: Arithmetic) -> Binary:
        """The same words, shared by exclusive or."""

    def truncated(self, x: Arithmetic, bits: int) -> Arithmetic:
        """floor(x / 2^bits) or one more, by chance, of words |x| < 2^62; bits from 0 to 62."""

    def truncated_exactly(self, x: Arithmetic, bits: int) -> Arithmetic:
        """floor(x / 2^bits) of any words in two's complement; bits from 0 to 62."""

    def shuffled(self, columns: Sequence[OneShare]) -> list[OneShare]:
        """Rows in an order that nobody knows; columns arithmetic or binary."""
