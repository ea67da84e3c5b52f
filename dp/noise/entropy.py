"""Where randomness comes from: the operating system, or in tests a seeded source passed as an argument."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument

__all__ = ["RandomSource", "Words", "os_random", "uniform_below", "words"]

RandomSource = Callable[[int], bytes]
"""Given n, returns n fresh uniform bytes. Two calls never return related bytes."""

Words = NDArray[np.uint64]

_OS_CHUNK_BYTES = 1 << 20
_MAX_BOUND = 1 << 63


def os_random(count: int) -> bytes:
    """Fresh bytes from the operating system's generator.

    Args:
        count: how many bytes, >= 0.

    Guarantees:
        Nothing is buffered in this process, so a fork or a retried task never sees the same bytes again.
    """
    if count <= _OS_CHUNK_BYTES:
        return os.urandom(count)
    return b"".join(os.urandom(min(_OS_CHUNK_BYTES, count - start)) for start in range(0, count, _OS_CHUNK_BYTES))


def words(random: RandomSource, count: int) -> Words:
    """Uniform 64-bit words.

    Args:
        random: the source of bytes.
        count: how many words, >= 0.

    Raises:
        InvalidArgument: the source returned another number of bytes than was asked.
    """
    data = random(8 * count)
    if len(data) != 8 * count:
        raise InvalidArgument("random", random, f"a random source returns exactly the bytes asked, here {8 * count}")
    return np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False)


def uniform_below(bound: int, size: int, random: RandomSource) -> Words:
    """Independent integers, each exactly uniform in 0..bound-1, by rejection.

    Args:
        bound: 1 <= bound <= 2^63.
        size: how many, >= 0.
        random: the source of bytes.

    Raises:
        InvalidArgument: a bound outside 1..2^63.
    """
    if not 1 <= bound <= _MAX_BOUND:
        raise InvalidArgument("bound", bound, "give a bound from 1 to 2^63")
    if bound & (bound - 1) == 0:
        return words(random, size) & np.uint64(bound - 1) if bound > 1 else np.zeros(size, np.uint64)
    drawn = words(random, size)
    # The greatest multiple of bound that is at most 2^64, less one: what lies above it would favour small remainders.
    greatest = np.uint64((1 << 64) // bound * bound - 1)
    if bool((rejected := drawn > greatest).any()):
        drawn = np.where(rejected, np.uint64(0), drawn)
        drawn[rejected] = uniform_below(bound, int(rejected.sum()), random)
    return drawn - drawn // np.uint64(bound) * np.uint64(bound)
