"""Key streams of which two parties take the same words in the same order: the source of all correlated randomness."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from spark_mpc.ring.masks import KEY_BYTES

__all__ = ["KeyStream", "Unsigned"]

Unsigned = TypeVar("Unsigned", np.uint8, np.uint32, np.uint64)

_ZEROS = memoryview(bytes(1 << 18))
"""256 KiB at a time: key stream and zeros stay in cache, and OpenSSL is near its best rate."""

_NONCE_BYTES = 12
_SECTION_BYTES = 1 << 35
"""Of one nonce: half of what its counter of 32 bits allows."""


class KeyStream:
    """AES-128 in counter mode, taken from its beginning.

    The counter blocks are those of Galois/counter mode, with a nonce that counts sections of 2^35 bytes; its tag is
    never asked for. Where plain counter mode is the faster way to the same bytes, it is taken.

    Guarantees: two holders of the key who take the same shapes in the same order get the same words; to anybody else
        they are uniform and independent, computationally: q blocks of 16 bytes within q^2 / 2^129, beside AES itself.
    Source: NIST SP 800-38D, section 6.5 (GCTR) and 7.1.
    """

    def __init__(self, key: bytes) -> None:
        """Start the stream of `key`: 16 bytes, used for one attempt and for nothing else."""
        assert len(key) == KEY_BYTES
        self._key = algorithms.AES(key)
        self.taken_bytes = 0

    def __repr__(self) -> str:
        return f"KeyStream(taken_bytes={self.taken_bytes})"

    def fill(self, out: NDArray[Unsigned]) -> None:
        """Overwrite a contiguous array with the next words."""
        self._encrypt(None, _bytes_of(out))

    def mask(self, data: NDArray[Unsigned], out: NDArray[Unsigned]) -> None:
        """Write `data`, exclusive or the next words, to `out`: contiguous, of one size, and nowhere the same memory."""
        assert data.nbytes == out.nbytes, f"{data.nbytes} bytes for {out.nbytes}"
        self._encrypt(_bytes_of(data), _bytes_of(out))

    def _encrypt(self, data: memoryview | None, out: memoryview) -> None:
        """Counter mode is the exclusive or of a stream and what is encrypted; None stands for zeros."""
        at = 0
        while at < len(out):
            section, taken = divmod(self.taken_bytes, _SECTION_BYTES)
            if not taken:
                nonce = section.to_bytes(_NONCE_BYTES, "big")
                self._encryptor = _fastest()(self._key, nonce)
            end = min(len(out), at + len(_ZEROS), at + _SECTION_BYTES - taken)
            self._encryptor.update_into(_ZEROS[: end - at] if data is None else data[at:end], out[at:end])
            self.taken_bytes += end - at
            at = end

    def words(self, shape: int | tuple[int, ...], dtype: type[Unsigned]) -> NDArray[Unsigned]:
        """The next words, as a new array."""
        out = np.empty(shape, dtype)
        self.fill(out)
        return out


def _bytes_of(words: NDArray[Unsigned]) -> memoryview:
    assert words.flags.c_contiguous, f"strides {words.strides}"  # a copy would be filled in its place
    return words.reshape(-1).view(np.uint8).data


def _galois(key: algorithms.AES, nonce: bytes) -> CipherContext:
    return Cipher(key, modes.GCM(nonce)).encryptor()


def _plain(key: algorithms.AES, nonce: bytes) -> CipherContext:
    """The same blocks: the tag takes the first, whose counter is 1."""
    return Cipher(key, modes.CTR(nonce + (2).to_bytes(4, "big"))).encryptor()


_Start = Callable[[algorithms.AES, bytes], CipherContext]


@cache
def _fastest() -> _Start:
    """The faster of two ways to the same bytes on this machine, measured in a millisecond.

    OpenSSL has Galois/counter mode for the widest registers that some processors have, and computes a tag, too.
    """
    return min((_galois, _plain), key=_least_seconds)


def _least_seconds(start: _Start) -> float:
    key, out, took = algorithms.AES(bytes(KEY_BYTES)), bytearray(len(_ZEROS)), []
    for _ in range(4):
        stream = start(key, bytes(_NONCE_BYTES))
        began = time.perf_counter()
        stream.update_into(_ZEROS, out)
        took.append(time.perf_counter() - began)
    return min(took)
