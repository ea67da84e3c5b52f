"""Bit planes hold what words hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_mpc.ring.planes import from_planes, packed, plane_words, to_planes, unpacked


@given(st.lists(st.integers(0, 2**64 - 1), max_size=200))
def test_plane_j_holds_bit_j(values: list[int]) -> None:
    words = np.array(values, np.uint64)
    planes = to_planes(words)
    assert planes.shape == (64, plane_words(len(words)))
    for j in (0, 1, 31, 32, 63):
        np.testing.assert_array_equal(unpacked(planes[j], len(words)), (words >> np.uint64(j)) & np.uint64(1))
    np.testing.assert_array_equal(from_planes(planes, len(words)), words)


@pytest.mark.parametrize("length", [64, 64 * 513])
def test_the_words_stay_as_they_are(length: int) -> None:
    """A single square of 64 words is transposed in a copy, too: alone, or left over behind many."""
    words = np.random.default_rng(1).integers(0, 2**64, length, dtype=np.uint64)
    before = words.copy()
    to_planes(words)
    np.testing.assert_array_equal(words, before)


def test_many_squares_are_transposed_alike() -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 64 * 1300 + 5, dtype=np.uint64)
    np.testing.assert_array_equal(from_planes(to_planes(words), len(words)), words)


@given(st.integers(0, 64))
def test_planes_left_out_at_the_top_are_zero(kept: int) -> None:
    words = np.random.default_rng(kept).integers(0, 2**64, 130, dtype=np.uint64)
    expected = words & np.uint64((1 << kept) - 1)
    np.testing.assert_array_equal(from_planes(to_planes(words)[:kept], 130), expected)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
def test_packing_and_unpacking_are_inverse(length: int) -> None:
    bits = np.random.default_rng(length).integers(0, 2, length)
    plane = packed(bits)
    assert plane.shape == (plane_words(length),)
    np.testing.assert_array_equal(unpacked(plane, length), bits)
