"""The ring Z_2^64 and the key streams that mask it: pure numpy and AES, no I/O.

Words are uint64; signed values are two's complement; all arithmetic wraps and never raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "PairKey", "Words", "add_masks", "keystream"]

Words = NDArray[np.uint64]

KEY_BYTES = 16
_WORDS_PER_AES_BLOCK = 2
_CHUNK_WORDS = 1 << 15
"""256 KiB of key stream at a time: it stays in cache, and OpenSSL is near its best rate."""

_ZEROS = bytes(8 * _CHUNK_WORDS)


@dataclass(frozen=True)
class PairKey:
    """A key that two parties share for one attempt, and on which side of the mask this party stands.

    Attributes:
        key: 16 bytes of AES-128; never shown.
        adds: this party adds the stream and the other subtracts it.
    """

    key: bytes = field(repr=False)
    adds: bool

    def __post_init__(self) -> None:
        assert len(self.key) == KEY_BYTES


def keystream(key: bytes, start: int, out: Words) -> None:
    """Fill `out` with the key stream from word `start` on: AES-128 in counter mode.

    Args:
        key: 16 bytes, used for one attempt only.
        start: position of the first word; even, since an AES block holds two words.
        out: uint64 words to overwrite, contiguous, at most 2^15.
    """
    assert start % _WORDS_PER_AES_BLOCK == 0
    counter = (start // _WORDS_PER_AES_BLOCK).to_bytes(16, "big")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    view = out.data.cast("B")
    encryptor.update_into(memoryview(_ZEROS)[: view.nbytes], view)


def add_masks(words: Words, keys: Iterable[PairKey], start: int) -> Words:
    """Mask words that stand at position `start` of a vector.

    Args:
        words: uint64 words, shape (n,).
        keys: one key for every other party.
        start: position of the first word in the vector; even.

    Returns:
        New words, shape (n,): plus the streams of keys that add, minus the others; over all parties they cancel.

    Guarantees: towards anyone who lacks at least one of the keys the result is uniform, as long as no key is used for
        two vectors. Cost: no bytes, no rounds. Source: Bonawitz et al. 2017, section 4 (pairwise masks).
    """
    masked = words.copy()
    stream = np.empty(min(_CHUNK_WORDS, max(len(words), 1)), np.uint64)
    pairs = tuple(keys)
    for first in range(0, len(words), _CHUNK_WORDS):
        piece = masked[first : first + _CHUNK_WORDS]
        part = stream[: len(piece)]
        for pair in pairs:
            keystream(pair.key, start + first, part)
            if pair.adds:
                np.add(piece, part, out=piece)
            else:
                np.subtract(piece, part, out=piece)
    return masked
