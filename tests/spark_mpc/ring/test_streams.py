"""Key streams: two holders take the same words, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from spark_mpc.ring import streams
from spark_mpc.ring.streams import KeyStream

KEY = bytes(range(16))


def blocks(section: int, *counters: int) -> bytes:
    """An independent construction by ECB: 12 bytes that name the section, 4 bytes of counter."""
    encrypt = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    return encrypt.update(b"".join(section.to_bytes(12, "big") + count.to_bytes(4, "big") for count in counters))


@pytest.fixture(params=[streams._galois, streams._plain], ids=["galois", "plain"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is faster on this machine: others may take the other."""
    monkeypatch.setattr(streams, "_fastest", lambda: request.param)


@pytest.mark.usefixtures("start")
def test_the_stream_is_aes_128_in_counter_mode_from_two() -> None:
    assert KeyStream(KEY).words(4, np.uint64).tobytes() == blocks(0, 2, 3)


@pytest.mark.usefixtures("start")
def test_a_new_section_has_its_own_counter_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of 40 bytes in place of 2^35: no counter block is used twice, whole or in part."""
    monkeypatch.setattr(streams, "_SECTION_BYTES", 40)
    expected = blocks(0, 2, 3, 4)[:40] + blocks(1, 2, 3, 4)[:40] + blocks(2, 2)
    assert KeyStream(KEY).words(12, np.uint64).tobytes() == expected


def test_a_section_ends_before_its_counter_of_32_bits_does() -> None:
    assert 2 + streams._SECTION_BYTES // 16 <= 2**32


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from([np.uint8, np.uint32, np.uint64])), max_size=6))
def test_however_it_is_taken_it_is_one_stream(takes: list[tuple[int, type[np.uint64]]]) -> None:
    taken = KeyStream(KEY)
    pieces = b"".join(taken.words(length, dtype).tobytes() for length, dtype in takes)
    assert KeyStream(KEY).words(len(pieces), np.uint8).tobytes() == pieces
    assert taken.taken_bytes == len(pieces)


@given(
    st.lists(st.tuples(st.integers(0, 700), st.sampled_from([np.uint8, np.uint32, np.uint64])), min_size=1, max_size=6)
)
def test_a_mask_is_the_exclusive_or_of_the_next_words(takes: list[tuple[int, type[np.uint64]]]) -> None:
    masks, taken, rng = KeyStream(KEY), KeyStream(KEY), np.random.default_rng(7)
    for length, dtype in takes:
        data = rng.integers(0, np.iinfo(dtype).max, length, dtype, endpoint=True)
        before, out = data.copy(), np.empty_like(data)
        masks.mask(data, out)
        assert (out == before ^ taken.words(length, dtype)).all()
        assert (data == before).all()
    assert masks.taken_bytes == taken.taken_bytes


@pytest.mark.usefixtures("start")
def test_a_mask_goes_on_into_new_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_SECTION_BYTES", 40)
    data, out = np.arange(3_000, dtype=np.uint64), np.empty(3_000, np.uint64)
    KeyStream(KEY).mask(data, out)
    assert (out == data ^ KeyStream(KEY).words(3_000, np.uint64)).all()


def test_what_is_not_contiguous_is_not_filled_in_vain() -> None:
    """A reshaped view of it would be a copy, and the masks would be lost."""
    stream, data = KeyStream(KEY), np.zeros((4, 6), np.uint64)
    for out in (np.empty((6, 4), np.uint64).T, np.empty((4, 12), np.uint64)[:, ::2]):
        with pytest.raises(AssertionError, match="strides"):
            stream.fill(out)
        with pytest.raises(AssertionError, match="strides"):
            stream.mask(data, out)
    with pytest.raises(AssertionError, match="192 bytes for 384"):
        stream.mask(data, np.empty((4, 12), np.uint64))
    assert stream.taken_bytes == 0


def test_long_arrays_are_filled_to_the_end_in_any_shape() -> None:
    long = KeyStream(KEY).words((7, 100_003), np.uint64)
    assert (long.reshape(-1) == KeyStream(KEY).words(700_021, np.uint64)).all()
    assert (long[-1, -5:] != 0).all()


def test_other_keys_give_other_streams_and_no_key_shows() -> None:
    other = KeyStream(bytes(16))
    assert (other.words(8, np.uint64) != KeyStream(KEY).words(8, np.uint64)).all()
    assert repr(other) == "KeyStream(taken_bytes=64)"


def test_the_faster_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams._fastest() in (streams._galois, streams._plain)
    for fast in (streams._galois, streams._plain):
        monkeypatch.setattr(streams, "_least_seconds", lambda start, fast=fast: 1.0 if start is fast else 2.0)
        assert streams._fastest.__wrapped__() is fast
