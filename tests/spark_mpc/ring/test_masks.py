"""The ring and its masks: they wrap, they cancel over all parties, and any piece of a stream can be made alone."""

from __future__ import annotations

import secrets
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from spark_mpc.ring.masks import KEY_BYTES, PairKey, Words, add_masks, keystream

CHUNK = 1 << 15
KEY = bytes(range(KEY_BYTES))

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
words = st.lists(st.integers(0, 2**64 - 1), max_size=40).map(lambda values: np.array(values, np.uint64))


def stream(key: bytes, start: int, length: int) -> Words:
    out = np.empty(length, np.uint64)
    keystream(key, start, out)
    return out


@given(keys, st.integers(0, 500).map(lambda n: 2 * n), st.integers(0, 200))
def test_a_stream_at_a_position_is_that_slice_of_the_whole(key: bytes, start: int, length: int) -> None:
    np.testing.assert_array_equal(stream(key, start, length), stream(key, 0, start + length)[start:])


def test_the_stream_is_aes_in_counter_mode() -> None:
    """Against ECB on counters written out; positions beyond 2^32 AES blocks too."""
    for start in (0, 2**20, 2**40):
        blocks = b"".join((start // 2 + i).to_bytes(16, "big") for i in range(4))
        expected = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update(blocks)
        assert stream(KEY, start, 8).astype("<u8").tobytes() == expected


def test_a_stream_begins_at_whole_blocks_only() -> None:
    with pytest.raises(AssertionError):
        stream(KEY, 1, 2)


@given(keys, keys)
def test_streams_of_two_keys_differ(one: bytes, other: bytes) -> None:
    assert (one == other) == bool((stream(one, 0, 8) == stream(other, 0, 8)).all())


@given(st.integers(2, 6), words, st.integers(0, 2**30).map(lambda n: 2 * n))
def test_the_masks_of_all_parties_cancel(parties: int, vector: Words, start: int) -> None:
    held: list[list[PairKey]] = [[] for _ in range(parties)]
    for first, second in combinations(range(parties), 2):
        key = secrets.token_bytes(KEY_BYTES)
        held[first].append(PairKey(key, adds=True))
        held[second].append(PairKey(key, adds=False))
    vectors = [vector + np.uint64(number) for number in range(parties)]
    uploads = [add_masks(one, own, start) for one, own in zip(vectors, held, strict=True)]
    np.testing.assert_array_equal(sum(uploads, np.zeros_like(vector)), sum(vectors, np.zeros_like(vector)))
    if len(vector) and parties > 1:  # one missing upload, and nothing has cancelled
        partial, clear = sum(uploads[1:], np.zeros_like(vector)), sum(vectors[1:], np.zeros_like(vector))
        assert (partial != clear).any()


@given(words)
def test_masking_wraps_and_leaves_its_input_alone(vector: Words) -> None:
    before = vector.copy()
    masked = add_masks(vector, [PairKey(KEY, adds=True)], 0)
    np.testing.assert_array_equal(vector, before)
    expected = [(int(word) + int(mask)) % 2**64 for word, mask in zip(vector, stream(KEY, 0, len(vector)), strict=True)]
    assert masked.tolist() == expected
    np.testing.assert_array_equal(add_masks(masked, [PairKey(KEY, adds=False)], 0), vector)


@pytest.mark.parametrize("length", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_vector_is_masked_like_its_pieces(length: int) -> None:
    """Whole, or in two blocks that know their positions: the same words, across the chunks of the key stream."""
    vector = np.arange(length, dtype=np.uint64)
    pairs = [PairKey(KEY, adds=True), PairKey(KEY[::-1], adds=False)]
    cut = length // 4 * 2
    pieces = [add_masks(vector[:cut], pairs, 0), add_masks(vector[cut:], pairs, cut)]
    np.testing.assert_array_equal(add_masks(vector, pairs, 0), np.concatenate(pieces))


def test_without_keys_nothing_is_masked() -> None:
    vector = np.array([1, 2**64 - 1], np.uint64)
    np.testing.assert_array_equal(add_masks(vector, [], 0), vector)


def test_a_key_is_not_shown() -> None:
    pair = PairKey(KEY, adds=True)
    for shown in (repr(pair), str(pair), f"{pair}", repr([pair])):
        assert "adds=True" in shown
        assert KEY.hex() not in shown
        assert repr(KEY)[2:-1] not in shown


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_of_another_length_is_impossible(length: int) -> None:
    with pytest.raises(AssertionError):
        PairKey(bytes(length), adds=True)
