"""Frames: vectors with corrupt cases, and the law that decoding undoes encoding."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_mpc.errors import WireError
from spark_mpc.wire import (
    MAX_HEADER_BYTES,
    Header,
    Kind,
    RunState,
    Status,
    decode_frame,
    decode_header,
    decode_reason,
    decode_status,
    encode_header,
    encode_reason,
    encode_status,
)
from tests.vectors.wire.generate import FRAMES, frames

_VECTORS: dict[str, list[dict[str, Any]]] = json.loads(FRAMES.read_text(encoding="utf-8"))
_NAME = "name"

headers = st.builds(
    Header,
    kind=st.sampled_from(Kind),
    run=st.binary(min_size=32, max_size=32),
    step=st.from_regex(r"[a-z0-9_-]{1,20}(/[a-z0-9_-]{1,20}){0,2}", fullmatch=True),
    incarnation=st.binary(min_size=16, max_size=16),
    sequence=st.integers(0, 2**64 - 1),
    length=st.integers(0, 2**64 - 1),
)


def test_the_vectors_are_what_the_generator_writes() -> None:
    assert frames() == _VECTORS


@pytest.mark.parametrize("vector", _VECTORS["valid"], ids=lambda vector: vector[_NAME])
def test_valid_vectors(vector: dict[str, Any]) -> None:
    header, payload = decode_frame(bytes.fromhex(vector["frame"]), max_bytes=1000)
    assert header == Header(
        Kind(vector["kind"]),
        bytes.fromhex(vector["run"]),
        vector["step"],
        bytes.fromhex(vector["incarnation"]),
        vector["sequence"],
        len(payload),
    )
    assert payload == bytes.fromhex(vector["payload"])
    assert (encode_header(header) + payload).hex() == vector["frame"]


@pytest.mark.parametrize("vector", _VECTORS["corrupt"], ids=lambda vector: vector[_NAME])
def test_corrupt_vectors(vector: dict[str, Any]) -> None:
    with pytest.raises(WireError, match=vector["reason"]):
        decode_frame(bytes.fromhex(vector["frame"]), max_bytes=1000)


@given(headers)
def test_decoding_undoes_encoding(header: Header) -> None:
    encoded = encode_header(header)
    assert len(encoded) <= MAX_HEADER_BYTES
    assert decode_header(encoded) == header


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_frame(data, max_bytes=1000)


@given(headers, st.data())
def test_a_flipped_bit_never_decodes_to_the_same_header(header: Header, data: st.DataObject) -> None:
    encoded = bytearray(encode_header(header))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(WireError):
        assert decode_header(bytes(encoded)) != header


@pytest.mark.parametrize(
    "header",
    [
        Header(Kind.MESSAGE, bytes(31), "agree", bytes(16)),
        Header(Kind.MESSAGE, bytes(32), "agree", bytes(17)),
        Header(Kind.MESSAGE, bytes(32), "", bytes(16)),
        Header(Kind.MESSAGE, bytes(32), "a" * 65, bytes(16)),
        Header(Kind.MESSAGE, bytes(32), "a b", bytes(16)),
    ],
)
def test_what_would_not_decode_is_not_encoded(header: Header) -> None:
    with pytest.raises(WireError):
        encode_header(header)


@given(st.sampled_from(RunState), st.text(max_size=2000))
def test_a_status_arrives_printable_and_bounded(state: RunState, reason: str) -> None:
    got = decode_status(encode_status(Status(state, "local", reason.encode("utf-8", "ignore").decode("utf-8"))))
    assert (got.state, got.step) == (state, "local")
    assert got.reason.isprintable()
    assert len(got.reason.encode("utf-8")) <= 1024


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"state": "open"}',
        b'{"state": "open", "step": "local", "reason": "", "more": 1}',
        b'{"state": "won", "step": "local", "reason": ""}',
        b'{"state": "open", "step": "lo cal", "reason": ""}',
        b'{"state": "open", "step": 3, "reason": ""}',
        b'{"state": "open", "step": "local", "reason": 3}',
        b"\xff\xfe",
    ],
)
def test_a_malformed_status_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_status(payload)


def test_reasons_are_cut_between_letters_and_control_characters_are_replaced() -> None:
    assert len(encode_reason("ä" * 1000)) == 1024
    assert decode_reason(encode_reason("a\x1b[31mred\n")) == "a?[31mred?"
    for payload in (b"\xff", bytes(1025)):
        with pytest.raises(WireError):
            decode_reason(payload)
