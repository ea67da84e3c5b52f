"""The plaintext twin of the protocols: the same face over values in the clear, which adds up the declared costs.

Its shares have one part, the value itself. It is what a protocol's results are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.cost import FREE, Cost
from spark_mpc.protocols.engine import Combination
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, OneShare
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import packed, unpacked

__all__ = ["Plain"]

_EVERYBODY = (0, 1, 2)


@dataclass
class Plain:
    """An `Engine` in the clear, with everybody's inputs at hand.

    Attributes:
        chunk: as the engine has it to which it is a twin.
        seed: of its random bits and orders.
        spent: declared costs of all operations so far.
    """

    chunk: int = CHUNK
    seed: int = 0
    me: int = 0
    name: str = "plain"
    spent: Cost = FREE
    costs: Rep3Costs = field(init=False)

    def __post_init__(self) -> None:
        self.costs = Rep3Costs(self.chunk)
        self._random = np.random.default_rng(self.seed)

    def step(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def _pay(self, cost: Cost) -> None:
        self.spent += cost

    def input_words(
        self, owner: int, values: NDArray[Any] | None, length: int, dtype: type[Any] = np.uint64
    ) -> Arithmetic:
        self._pay(self.costs.input_words(owner, length, dtype))
        return Arithmetic((_given(values, length).astype(dtype),))

    def input_binary(self, owner: int, values: Words | None, length: int) -> Binary:
        self._pay(self.costs.input_binary(owner, length))
        return Binary((_given(values, length),))

    def input_bits(self, owner: int, values: NDArray[Any] | None, length: int) -> Bits:
        self._pay(self.costs.input_bits(owner, length))
        return Bits((packed(_given(values, length)),), length)

    def constant(self, values: NDArray[Any]) -> Arithmetic:
        return Arithmetic((values,))

    def constant_bits(self, values: NDArray[Any]) -> Bits:
        return Bits((packed(values),), len(values))

    def open_words(self, shared: Arithmetic | Binary, to: tuple[int, ...] = _EVERYBODY) -> NDArray[Any] | None:
        self._pay(self.costs.open_words(shared.parts[0].size, shared.dtype.type, to))
        return shared.parts[0]

    def open_bits(self, shared: Bits, to: tuple[int, ...] = _EVERYBODY) -> NDArray[np.uint8] | None:
        self._pay(self.costs.open_bits(len(shared), to))
        return unpacked(shared.parts[0], len(shared))

    def plus_public(self, shared: Arithmetic, values: NDArray[Any] | int) -> Arithmetic:
        word = values if isinstance(values, np.ndarray) else np.array(values % (1 << 8 * shared.dtype.itemsize))
        return shared.map(lambda part: part + word.astype(shared.dtype))

    def multiply(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        self._pay(self.costs.multiply(len(x), x.dtype.type))
        return Arithmetic((x.parts[0] * y.parts[0],))

    def dot(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        self._pay(self.costs.dot(len(x), x.dtype.type))
        return Arithmetic(((x.parts[0] * y.parts[0]).sum(axis=1, dtype=x.dtype),))

    def matmul(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        self._pay(self.costs.matmul(x.shape[0], y.shape[1]))
        return Arithmetic((x.parts[0] @ y.parts[0],))

    def xor_public(self, shared: Bits, values: NDArray[Any] | int) -> Bits:
        flips = np.full(len(shared), values) if isinstance(values, int) else values
        return Bits((shared.parts[0] ^ packed(flips),), len(shared))

    def both(self, x: Bits, y: Bits) -> Bits:
        self._pay(self.costs.conjunction(x.shape[0]))
        return Bits((x.parts[0] & y.parts[0],), len(x))

    def and_words(self, x: Binary, y: Binary) -> Binary:
        self._pay(self.costs.conjunction(len(x)))
        return Binary((x.parts[0] & y.parts[0],))

    def xor_words(self, shared: Binary, values: Words | int) -> Binary:
        word = np.uint64(values) if isinstance(values, int) else values
        return shared.map(lambda part: part ^ word)

    def random_bits(self, length: int) -> Bits:
        return Bits((packed(self._random.integers(0, 2, length)),), length)

    def random_binary(self, length: int) -> Binary:
        return Binary((self._random.integers(0, 2**64, length, dtype=np.uint64),))

    def negative(self, x: Arithmetic) -> Bits:
        self._pay(self.costs.negative(len(x)))
        return Bits((packed(x.parts[0].view(np.int64) < 0),), len(x))

    def zero(self, x: Arithmetic) -> Bits:
        self._pay(self.costs.zero(len(x)))
        return Bits((packed(x.parts[0] == 0),), len(x))

    def zero_binary(self, x: Binary, width: int) -> Bits:
        self._pay(self.costs.zero_binary(len(x), width))
        return Bits((packed(x.parts[0] << np.uint64(64 - width) == 0),), len(x))

    def precedes(
        self, x: Sequence[Arithmetic | Binary], y: Sequence[Arithmetic | Binary], widths: Sequence[int]
    ) -> Bits:
        planes = [width for column, width in zip(x, widths, strict=True) if isinstance(column, Binary)]
        self._pay(self.costs.precedes(len(x[0]), len(x) - len(planes), sum(planes)))
        before = np.zeros(len(x[0]), np.bool_)
        for a, b in zip(reversed(x), reversed(y), strict=True):
            mine, other = a.parts[0], b.parts[0]
            if isinstance(a, Arithmetic):  # the sign of a difference, which wraps
                before = (other - mine - np.uint64(1) + before.astype(np.uint64)).view(np.int64) >= 0
            else:
                before = np.where(mine == other, before, mine < other)
        return Bits((packed(before),), len(x[0]))

    def bits_to_arithmetic(self, bits: Bits, dtype: type[Any] = np.uint64) -> Arithmetic:
        self._pay(self.costs.bits_to_arithmetic(len(bits), dtype))
        return Arithmetic((unpacked(bits.parts[0], len(bits)).astype(dtype),))

    def combined_bits(self, bits: Bits, combine: Combination, dtype: type[Any] = np.uint64) -> Arithmetic:
        result = combine(unpacked(bits.parts[0], len(bits)).astype(dtype))
        self._pay(self.costs.combined_bits(len(bits), result.size, dtype))
        return Arithmetic((result,))

    def to_binary(self, x: Arithmetic) -> Binary:
        self._pay(self.costs.to_binary(len(x)))
        return Binary(x.parts)

    def truncated(self, x: Arithmetic, bits: int) -> Arithmetic:
        """Rounded down; a protocol may give one more."""
        self._pay(self.costs.truncated(len(x), bits))
        return Arithmetic(((x.parts[0].view(np.int64) >> bits).view(np.uint64),))

    def truncated_exactly(self, x: Arithmetic, bits: int) -> Arithmetic:
        self._pay(self.costs.truncated_exactly(len(x), bits))
        return Arithmetic(((x.parts[0].view(np.int64) >> bits).view(np.uint64),))

    def shuffled(self, columns: Sequence[OneShare]) -> list[OneShare]:
        self._pay(self.costs.shuffled(len(columns[0]), [column.dtype.itemsize for column in columns]))
        order = self._random.permutation(len(columns[0]))
        return [column.map(lambda part: part[order]) for column in columns]


def _given(values: NDArray[Any] | None, length: int) -> NDArray[Any]:
    assert values is not None, "the twin needs everybody's inputs"
    assert len(values) == length
    return values
