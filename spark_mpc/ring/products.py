"""Products of integer matrices modulo 2^64."""

from __future__ import annotations

from spark_mpc.ring.masks import Words

__all__ = ["matrix_product"]


def matrix_product(x: Words, y: Words) -> Words:
    """x @ y modulo 2^64, for uint64 matrices of shapes (n, k) and (k, m)."""
    return x @ y
