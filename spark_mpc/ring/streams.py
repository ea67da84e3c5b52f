"""Key streams of which two parties take the same words in the same order: the source of all correlated randomness."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from spark_mpc.ring.masks import KEY_BYTES

__all__ = ["KeyStream", "Unsigned"]

Unsigned = TypeVar("Unsigned", np.uint8, np.uint32, np.uint64)

_ZEROS = bytes(1 << 18)
"""256 KiB at a time: key stream and zeros stay in cache, and OpenSSL is near its best rate."""


class KeyStream:
    """AES-128 in counter mode, taken from its beginning.

    Guarantees: two holders of the key who take the same shapes in the same order get the same words; to anybody else
        they are uniform and independent, computationally. One stream yields at most 2^64 bytes.
    Source: NIST SP 800-38A, section 6.5.
    """

    def __init__(self, key: bytes) -> None:
        """Start the stream of `key`: 16 bytes, used for one attempt and for nothing else."""
        assert len(key) == KEY_BYTES
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self.taken_bytes = 0

    def __repr__(self) -> str:
        return f"KeyStream(taken_bytes={self.taken_bytes})"

    def fill(self, out: NDArray[Unsigned]) -> None:
        """Overwrite a contiguous array with the next words."""
        view = out.reshape(-1).view(np.uint8).data
        self.taken_bytes += len(view)
        for start in range(0, len(view), len(_ZEROS)):
            piece = view[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS if len(piece) == len(_ZEROS) else _ZEROS[: len(piece)], piece)

    def words(self, shape: int | tuple[int, ...], dtype: type[Unsigned]) -> NDArray[Unsigned]:
        """The next words, as a new array."""
        out = np.empty(shape, dtype)
        self.fill(out)
        return out
