"""A plaintext twin whose random words are prescribed: the law of a circuit's output is counted, not sampled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.shares import Binary
from spark_mpc.ring.planes import packed

__all__ = ["Listed", "all_patterns"]


@dataclass
class Listed(Plain):
    """A `Plain` that hands out prescribed words.

    Attributes:
        words: what `random_binary` returns, call after call.
    """

    words: list[NDArray[np.uint64]] = field(default_factory=list)

    def random_binary(self, length: int) -> Binary:
        given = self.words.pop(0).reshape(-1)
        assert given.size == length
        return Binary((given,))


def all_patterns(bits: int) -> NDArray[np.uint64]:
    """Planes of all 2^bits patterns, one an element: shape (bits, 2^bits / 64)."""
    assert bits >= 6
    elements = np.arange(2**bits)
    return np.array([packed(elements >> place & 1) for place in range(bits)])
