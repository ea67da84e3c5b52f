"""Columns between their forms, and rows in a public order: all of it local."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, Share
from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import packed, unpacked

__all__ = ["Column", "bits_at", "constant_words", "index_bits", "joined", "rows", "words_of"]

Column = Arithmetic | Binary
"""Secret words, one for each row."""


def rows(columns: Sequence[Column], places: NDArray[Any]) -> list[Column]:
    """The rows at public places, or where a public mask is true."""
    if places.dtype == np.bool_:
        return [column.map(lambda part: part[places]) for column in columns]
    return [column.map(lambda part: part.take(places)) for column in columns]


def joined(columns: Sequence[Share]) -> Any:
    """Columns of one kind, one behind the other; what one column gives is not copied."""
    first, *others = columns
    if not others:
        return first
    return type(first)(tuple(np.concatenate(same) for same in zip(*(c.parts for c in columns), strict=True)))


def bits_at(column: Binary, places: Sequence[int]) -> Bits:
    """The bits at some places of every word: those of the first place, then those of the next."""

    def taken(part: Words) -> Words:
        return packed(np.concatenate([part >> part.dtype.type(place) & part.dtype.type(1) for place in places]))

    return Bits(tuple(map(taken, column.parts)), len(places) * len(column))


def words_of(bits: Bits) -> Binary:
    """Bits as words, zero or one."""
    return Binary(tuple(unpacked(part, len(bits)).astype(np.uint64) for part in bits.parts))


def constant_words(engine: Engine, values: Words) -> Binary:
    """Public words as shares by exclusive or: where one part alone is not zero, it is the sum and the exclusive or."""
    return Binary(engine.constant(values).parts)


def index_bits(length: int) -> int:
    """Bits that number so many rows."""
    return max(1, (length - 1).bit_length())
