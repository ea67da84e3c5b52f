"""Reproducible randomness for tests; nothing outside tests imports it."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dp.noise.entropy import RandomSource

__all__ = ["seeded_random"]


def seeded_random(seed: int | str) -> RandomSource:
    """A random source that repeats itself for the same seed: AES-256-CTR keyed by a hash of the seed."""
    key = hashlib.sha256(f"spark-mpc test entropy {seed!r}".encode()).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: stream.update(bytes(count))
