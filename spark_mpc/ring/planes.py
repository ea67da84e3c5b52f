"""Bits of words as planes: each word of plane j holds bit j of 64 elements, so that one operation works on all.

Bit i of word k of a plane belongs to element 64 k + i.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spark_mpc.ring.masks import Words

__all__ = ["WORD_BITS", "from_planes", "packed", "plane_words", "to_planes", "unpacked"]

WORD_BITS = 64
_SQUARES_AT_ONCE = 512
"""Squares of 64 x 64 bits that are transposed together: 256 KiB, which stays in cache."""


def plane_words(length: int) -> int:
    """Words of a plane of `length` elements."""
    return -(-length // WORD_BITS)


def to_planes(words: Words) -> Words:
    """Transpose words to planes.

    Args:
        words: uint64, shape (n,); n is padded with zeros to a multiple of 64.

    Returns:
        uint64, shape (64, ceil(n / 64)): plane j first holds bit j of word 0.
    """
    return _transposed_squares(words)


def from_planes(planes: Words, length: int) -> Words:
    """The inverse of `to_planes`; planes that are left out at the top count as zero.

    Args:
        planes: uint64, shape (j, ceil(length / 64)), j <= 64.
        length: elements.

    Returns:
        uint64, shape (length,).
    """
    out = np.empty((planes.shape[1], WORD_BITS), np.uint64)
    for start in range(0, planes.shape[1], _SQUARES_AT_ONCE):
        square = np.zeros((WORD_BITS, min(_SQUARES_AT_ONCE, planes.shape[1] - start)), np.uint64)
        square[: len(planes)] = planes[:, start : start + _SQUARES_AT_ONCE]
        _transpose(square)
        out[start : start + _SQUARES_AT_ONCE] = square.T
    return out.reshape(-1)[:length]


def packed(bits: NDArray[np.generic]) -> Words:
    """Zeros and ones, shape (n,), as one plane of ceil(n / 64) words."""
    size = plane_words(len(bits))
    out = np.zeros(8 * size, np.uint8)
    packed_bytes = np.packbits(bits.astype(np.bool_, copy=False), bitorder="little")
    out[: len(packed_bytes)] = packed_bytes
    return out.view("<u8").astype(np.uint64, copy=False)


def unpacked(plane: Words, length: int) -> NDArray[np.uint8]:
    """The first `length` bits of a plane, one a byte."""
    return np.unpackbits(plane.astype("<u8", copy=False).view(np.uint8), count=length, bitorder="little")


def _transposed_squares(words: Words) -> Words:
    count = plane_words(len(words))
    out = np.empty((WORD_BITS, count), np.uint64)
    for start in range(0, count, _SQUARES_AT_ONCE):
        piece = words[WORD_BITS * start : WORD_BITS * (start + _SQUARES_AT_ONCE)]
        if len(piece) % WORD_BITS:
            piece = np.concatenate([piece, np.zeros(-len(piece) % WORD_BITS, np.uint64)])
        square = piece.reshape(-1, WORD_BITS).T.copy(order="C")  # always a copy: it is transposed in place
        _transpose(square)
        out[:, start : start + square.shape[1]] = square
    return out


def _transpose(square: Words) -> None:
    """Transpose 64 x 64 bits in place, for all columns at once: swap ever smaller blocks off the diagonal.

    Source: Warren, Hacker's Delight, section 7-3.
    """
    width, mask = WORD_BITS // 2, np.uint64(0x0000_0000_FFFF_FFFF)
    while width:
        shift = np.uint64(width)
        blocks = square.reshape(WORD_BITS // (2 * width), 2, width, -1)
        low, high = blocks[:, 0], blocks[:, 1]
        swap = ((low >> shift) ^ high) & mask
        high ^= swap
        low ^= swap << shift
        width //= 2
        mask ^= mask << np.uint64(width)
