"""Shares as a protocol holds them: opaque arrays of one party, on which only what is local can be done.

A share has one part or several (replicated sharing: two); linear and structural work applies to each alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from spark_mpc.ring.masks import Words
from spark_mpc.ring.planes import plane_words

__all__ = ["Arithmetic", "Binary", "Bits", "OneShare", "Share", "concatenated"]

OneShare = TypeVar("OneShare", bound="Share")


@dataclass(frozen=True, eq=False, repr=False)
class Share:
    """One party's parts of a secret array.

    Attributes:
        parts: arrays of one shape and type; never written to once they are here, since they may still be on their way.
    """

    parts: tuple[NDArray[Any], ...] = field(repr=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the secret."""
        return self.parts[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every part."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Self:
        """Apply what is linear or structural to every part: take, slice, reshape, sum."""
        return replace(self, parts=tuple(map(change, self.parts)))

    def piece(self, at: slice) -> Self:
        """Some of the elements, without a copy."""
        return self.map(lambda part: part[at])

    def _with(self, other: Self, operation: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> Self:
        return replace(self, parts=tuple(map(operation, self.parts, other.parts)))

    def _no_value(self, *_: object) -> NoReturn:
        raise TypeError(f"{self!r} is secret and has no value here: use select() for a choice, open() for a result")

    __bool__ = __iter__ = __int__ = __float__ = __index__ = __reduce__ = _no_value


@dataclass(frozen=True, eq=False, repr=False)
class Arithmetic(Share):
    """Parts that add up to the secret modulo 2^64 (or 2^32, for ranks and counts)."""

    def __add__(self, other: Self) -> Self:
        return self._with(other, np.add)

    def __sub__(self, other: Self) -> Self:
        return self._with(other, np.subtract)

    def __neg__(self) -> Self:
        return self.map(np.negative)

    def times(self, factor: Words | int) -> Self:
        """Times public integers, modulo the ring."""
        scale = np.asarray(factor).astype(self.dtype) if isinstance(factor, np.ndarray) else _word(factor, self.dtype)
        return self.map(lambda part: part * scale)


@dataclass(frozen=True, eq=False, repr=False)
class Binary(Share):
    """Words whose parts give the secret by exclusive or."""

    def __xor__(self, other: Self) -> Self:
        return self._with(other, np.bitwise_xor)

    def masked(self, mask: Words | int) -> Self:
        """And with public words."""
        word = mask if isinstance(mask, np.ndarray) else _word(mask, self.dtype)
        return self.map(lambda part: part & word)

    def shifted_right(self, bits: int) -> Self:
        """Logical shift."""
        return self.map(lambda part: part >> self.dtype.type(bits))


@dataclass(frozen=True, eq=False, repr=False)
class Bits(Share):
    """One secret bit for each element, 64 in a word; parts give it by exclusive or.

    Attributes:
        length: elements; what stands behind them in the last word means nothing.
    """

    length: int = 0

    def __post_init__(self) -> None:
        assert self.shape[-1] == plane_words(self.length)

    def __repr__(self) -> str:
        return f"Bits(length={self.length})"

    def __len__(self) -> int:
        return self.length

    def __xor__(self, other: Self) -> Self:
        return self._with(other, np.bitwise_xor)


def concatenated(shares: Sequence[OneShare]) -> OneShare:
    """Shares of one kind, arithmetic or binary, one behind the other."""
    first, *_ = shares
    parts = zip(*(share.parts for share in shares), strict=True)
    return replace(first, parts=tuple(np.concatenate(same) for same in parts))


def _word(value: int, dtype: np.dtype[Any]) -> np.unsignedinteger[Any]:
    """A Python integer of any sign as a ring element."""
    return dtype.type(value % (1 << (8 * dtype.itemsize)))  # type: ignore[no-any-return]
