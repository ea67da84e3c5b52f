"""Columns between their forms, and rows in a public order: all of it local."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, OneShare
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import packed, unpacked

__all__ = ["Column", "bits_at", "constant_words", "index_bits", "rows", "words_of"]

Column = Arithmetic | Binary
"""Secret words, one for each row."""


def rows(columns: Sequence[OneShare], places: NDArray[np.integer[Any]]) -> list[OneShare]:
    """The rows at public places."""
    return [column.map(lambda part: part.take(places)) for column in columns]


def bits_at(column: Binary, places: Sequence[int]) -> Bits:
    """The bits at some places of every word: those of the first place, then those of the next."""

    def taken(part: Words) -> Words:
        return packed(np.concatenate([part >> part.dtype.type(place) & part.dtype.type(1) for place in places]))

    return Bits(tuple(map(taken, column.parts)), len(places) * len(column))


def words_of(bits: Bits) -> Binary:
    """Bits as words, zero or one."""
    return Binary(tuple(unpacked(part, len(bits)).astype(np.uint64) for part in bits.parts))


def constant_words(engine: Engine, values: NDArray[Any]) -> Binary:
    """Public words as shares by exclusive or: where one part alone is not zero, it is the sum and the exclusive or."""
    return Binary(engine.constant(values).parts)


def index_bits(length: int) -> int:
    """Bits that number so many rows."""
    return max(1, (length - 1).bit_length())
