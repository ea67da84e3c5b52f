"""Columns for tests of circuits: shapes and values at the edges of the domain, made by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from spark_mpc.ring.masks import Words
from tests.tools.conformance import Operands

__all__ = ["LENGTHS", "operands", "signed_operands", "stable_order"]

LENGTHS = [0, 1, 2, 3, 64, 65, 129, 300]
_FORMS = ["random", "equal", "ascending", "descending", "few", "extremes"]


def _words(form: str, length: int, most: int, rng: np.random.Generator) -> Words:
    """Words from 0 to `most`."""
    if form == "equal":
        return np.full(length, rng.integers(0, most, endpoint=True, dtype=np.uint64), np.uint64)
    if form == "few":
        return rng.integers(0, min(most, 2), length, dtype=np.uint64, endpoint=True)
    if form == "extremes":
        return rng.choice(np.array([0, 1, most - 1, most], np.uint64), length)
    words = rng.integers(0, most, length, dtype=np.uint64, endpoint=True)
    if form == "random":
        return words
    words.sort()
    return words if form == "ascending" else words[::-1].copy()


@st.composite
def operands(draw: st.DrawFn, bits: int, lengths: tuple[int, ...] = tuple(LENGTHS)) -> Operands:
    """Keys x of so many bits, and the rows' numbers as y."""
    length, form = draw(st.sampled_from(lengths)), draw(st.sampled_from(_FORMS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Operands(_words(form, length, (1 << bits) - 1, rng), np.arange(length, dtype=np.uint64))


@st.composite
def signed_operands(draw: st.DrawFn) -> Operands:
    """Values |x| < 2^62 in x, and in the lowest bits of y marks of rows."""
    length, form = draw(st.sampled_from([1, 2, 3, 7, 8, 65, 300])), draw(st.sampled_from(_FORMS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    words = _words(form, length, 2**63 - 2, rng) - np.uint64(2**62 - 1)
    return Operands(words, _words(draw(st.sampled_from(["random", "equal", "few"])), length, 7, rng))


def stable_order(*keys: Words) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Of rows by keys, the most significant first."""
    return np.lexsort(keys[::-1])
