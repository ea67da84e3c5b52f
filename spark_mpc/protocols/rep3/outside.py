"""Data parties that do not compute: they share towards the three, and receive what is opened to them.

x = x_0 + x_1 + x_2, where x_0 and x_1 are key streams of seeds that the data party draws.
"""

from __future__ import annotations

import secrets

import numpy as np

from spark_mpc.errors import WireError
from spark_mpc.protocols.rep3.context import PARTIES
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import KEY_BYTES, Words
from spark_mpc.ring.streams import KeyStream

__all__ = ["most_bytes", "opened_bytes", "opened_outside", "shared_inside", "taken_inside"]

_WORD_BYTES = 8


def shared_inside(words: Words) -> tuple[bytes, bytes, bytes]:
    """What a data party sends to each of the three.

    Args:
        words: uint64, shape (n,).

    Guarantees: each message alone, and each party's two parts, are uniform.
    Leaks: nothing but the length. Cost: 1 round; 16 n + 64 bytes in all.
    """
    seeds = [secrets.token_bytes(KEY_BYTES) for _ in range(2)]
    rest = words - _stream(seeds[0], len(words)) - _stream(seeds[1], len(words))
    last = rest.astype("<u8").tobytes()
    return seeds[0] + seeds[1], seeds[1] + last, seeds[0] + last


def most_bytes(me: int, length: int) -> int:
    """The length of the message for compute party `me`."""
    return 2 * KEY_BYTES if me == 0 else KEY_BYTES + _WORD_BYTES * length


def taken_inside(me: int, payload: bytes, length: int) -> Arithmetic:
    """The parts of compute party `me`, from the message of a data party.

    Raises:
        WireError: a message of another length.
    """
    if len(payload) != most_bytes(me, length):
        raise WireError(f"shares of {length} words have {most_bytes(me, length)} bytes here, not {len(payload)}")
    if me == 0:
        return Arithmetic((_stream(payload[:KEY_BYTES], length), _stream(payload[KEY_BYTES:], length)))
    seeded = _stream(payload[:KEY_BYTES], length)
    last = np.frombuffer(payload, "<u8", offset=KEY_BYTES).astype(np.uint64)
    return Arithmetic((seeded, last) if me == 1 else (last, seeded))


def opened_bytes(me: int, length: int) -> int:
    """The length of the message of compute party `me` to a recipient that does not compute; 0 if it sends none."""
    return 0 if me == PARTIES - 1 else _WORD_BYTES * length


def opened_outside(me: int, shared: Arithmetic) -> bytes | None:
    """What compute party `me` sends to a recipient that does not compute; None if nothing.

    Leaks: the value, to the recipient. Cost: 1 round; parties 0 and 1 send 8 bytes an element each.
    """
    if me == PARTIES - 1:
        return None
    first, second = shared.parts
    # x_0 + x_1 from party 0, x_2 from party 1: either alone tells no more than the other and the result
    return np.asarray(first + second if me == 0 else second).astype("<u8").tobytes()


def _stream(seed: bytes, length: int) -> Words:
    return KeyStream(seed).words(length, np.uint64)
