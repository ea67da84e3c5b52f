"""Random permutations from a key stream, without bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spark_mpc.ring.masks import Words
from spark_mpc.ring.streams import KeyStream

__all__ = ["Permutation", "permutation", "scattered"]

Permutation = NDArray[np.int64]


def permutation(stream: KeyStream, length: int) -> Permutation:
    """A uniform permutation that every holder of the stream draws alike.

    Args:
        stream: its words decide; how many are taken depends on them alone.
        length: >= 0, below 2^40.

    Returns:
        int64, shape (length,): element i of the result of `x[permutation]` comes from its place i.

    Guarantees: exactly uniform where the stream is: elements whose random words tie are ordered by further words.
    """
    assert 0 <= length < 1 << 40
    index_bits = max(1, (length - 1).bit_length())
    keyed = stream.words(length, np.uint64)
    keyed &= ~np.uint64((1 << index_bits) - 1)
    keyed |= np.arange(length, dtype=np.uint64)
    keyed.sort()
    order = (keyed & np.uint64((1 << index_bits) - 1)).view(np.int64)
    keyed >>= np.uint64(index_bits)
    _settle_ties(stream, order, keyed)
    return order


def _settle_ties(stream: KeyStream, order: Permutation, words: Words) -> None:
    """Permute every run of equal words by fresh ones, until none are equal; `order` is changed in place."""
    places = _tied(words)
    while places.size:
        runs = np.cumsum(np.concatenate([[True], words[places[1:]] != words[places[:-1]]]))
        fresh = stream.words(places.size, np.uint64)
        by_run = np.lexsort((fresh, runs))
        order[places] = order[places[by_run]]
        still = _tied(fresh[by_run], runs)
        # equal fresh words within one run: they go through it again, as runs of their own
        words = words.copy()
        words[places] = _numbered(fresh[by_run], runs)
        places = places[still]


def _tied(words: Words, runs: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Places of sorted words that equal a neighbour (of the same run)."""
    equal = words[1:] == words[:-1]
    if runs is not None:
        equal &= runs[1:] == runs[:-1]
    return np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))


def _numbered(words: Words, runs: NDArray[np.int64]) -> Words:
    """A number for every (run, word), the same for equal pairs that stand together."""
    new = np.concatenate([[True], (words[1:] != words[:-1]) | (runs[1:] != runs[:-1])])
    return np.cumsum(new).astype(np.uint64)


def scattered(values: NDArray[np.generic], places: NDArray[np.integer]) -> NDArray[np.generic]:
    """Values brought to their places: the inverse of `values[places]`."""
    out = np.empty_like(values)
    out[places] = values
    return out
