"""What rows are sorted by: columns of declared width, joined into as few words as they fit in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dp.errors import InvalidArgument
from spark_mpc.circuits.columns import Column, constant_words
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.planes import WORD_BITS

__all__ = ["MOST_SUM_BITS", "Key", "index_key", "packed_keys"]

_NARROW_BITS = 32

MOST_SUM_BITS = 62
"""Bits of a word shared by sums that is compared: see the domains of `precedes`."""


@dataclass(frozen=True)
class Key:
    """A column by which rows are sorted, in ascending order.

    Attributes:
        column: values in [0, 2^bits). Signed values are shifted into this range; for a descending order they are
            taken from its greatest value. Other values are not noticed here: the order, and what comparisons tell when
            they are opened, are undefined then.
        bits: at most 62 where the column is shared by sums, at most 64 where it is shared by exclusive or.

    Raises:
        InvalidArgument: a width out of this range.
    """

    column: Column = field(repr=False)
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= self.most_bits:
            raise InvalidArgument("bits", self.bits, f"declare a width of 1 to {self.most_bits} bits for this column")

    @property
    def most_bits(self) -> int:
        """How many bits a word of this kind may have."""
        return MOST_SUM_BITS if isinstance(self.column, Arithmetic) else WORD_BITS

    def over(self, lower: Key, most: int = WORD_BITS) -> Key | None:
        """Both keys in one word of at most so many bits, this one above; None where they do not fit. Local."""
        bits = self.bits + lower.bits
        if type(self.column) is not type(lower.column) or bits > min(most, self.most_bits):
            return None
        shift = np.uint64(lower.bits)
        combine = np.add if isinstance(self.column, Arithmetic) else np.bitwise_xor
        upper = self.column.map(lambda part: part << shift)
        parts = tuple(combine(a, b) for a, b in zip(upper.parts, lower.column.parts, strict=True))
        return Key(replace(self.column, parts=parts), bits)


def packed_keys(keys: Sequence[Key], most: int = WORD_BITS) -> list[Key]:
    """The same order by fewer columns: neighbours join as long as they fit in a word of so many bits. Local."""
    first, *others = keys
    words = [first]
    for key in others:
        together = words[-1].over(key, most)
        words[-1:] = [words[-1], key] if together is None else [together]
    return words


def index_key(engine: Engine, last: Key, length: int, bits: int) -> Key:
    """The rows' own numbers as the least significant key: it makes rows distinct and a sort by it stable.

    It is of the last key's kind where both fit in one word, and shared by exclusive or where they do not.
    """
    numbers = np.arange(length, dtype=np.uint64)
    if last.bits + bits > last.most_bits:
        narrow = np.uint32 if bits <= _NARROW_BITS else np.uint64
        return Key(constant_words(engine, numbers.astype(narrow)), bits)
    shared = engine.constant(numbers) if isinstance(last.column, Arithmetic) else constant_words(engine, numbers)
    return Key(shared, bits)
