"""Key streams: two holders take the same words, and nobody else."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from spark_mpc.ring.streams import KeyStream

KEY = bytes(range(16))


def test_the_stream_is_aes_128_in_counter_mode_from_zero() -> None:
    """The first two blocks are the encryptions of 0 and 1: an independent construction by ECB."""
    block = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    expected = block.update(bytes(16) + (1).to_bytes(16, "big"))
    assert KeyStream(KEY).words(4, np.uint64).tobytes() == expected


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from([np.uint8, np.uint32, np.uint64])), max_size=6))
def test_however_it_is_taken_it_is_one_stream(takes: list[tuple[int, type[np.uint64]]]) -> None:
    taken = KeyStream(KEY)
    pieces = b"".join(taken.words(length, dtype).tobytes() for length, dtype in takes)
    assert KeyStream(KEY).words(len(pieces), np.uint8).tobytes() == pieces
    assert taken.taken_bytes == len(pieces)


def test_long_arrays_are_filled_to_the_end_in_any_shape() -> None:
    long = KeyStream(KEY).words((7, 100_003), np.uint64)
    assert (long.reshape(-1) == KeyStream(KEY).words(700_021, np.uint64)).all()
    assert (long[-1, -5:] != 0).all()


def test_other_keys_give_other_streams_and_no_key_shows() -> None:
    other = KeyStream(bytes(16))
    assert (other.words(8, np.uint64) != KeyStream(KEY).words(8, np.uint64)).all()
    assert repr(other) == "KeyStream(taken_bytes=64)"
