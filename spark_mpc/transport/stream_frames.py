"""The frames on a stream, and the transcript that both of its ends keep.

    label length 1 | rounds 4 | sequence 8 | length 8 | label | payload

Integers are big-endian. Run, process and version are named once, when the stream is opened, not in every frame.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from spark_mpc.errors import WireError
from spark_mpc.wire import INLINE_BYTES, MAX_STEP_BYTES, encode_label

__all__ = ["FRAME_PREFIX_BYTES", "Expected", "Transcript", "encode_frame", "label_bytes"]

_PREFIX = struct.Struct(">BIQQ")
FRAME_PREFIX_BYTES = _PREFIX.size
_WORD_BYTES = 8


def encode_frame(step: str, rounds: int, sequence: int, length: int) -> bytes:
    """What precedes a payload on a stream.

    Args:
        step: label of the message.
        rounds: the sender's, see `Meter.sent`.
        sequence: number of the message on this stream, from 0.
        length: bytes of payload.

    Raises:
        WireError: `step` is no label.
    """
    label = encode_label(step)
    return _PREFIX.pack(len(label), rounds, sequence, length) + label


def label_bytes(prefix: bytes) -> int:
    """How many bytes of label follow the first `FRAME_PREFIX_BYTES` of a frame.

    Raises:
        WireError: no acceptable length.
    """
    if not 0 < prefix[0] <= MAX_STEP_BYTES:
        raise WireError(f"a step label has 1 to {MAX_STEP_BYTES} bytes, not {prefix[0]}")
    return prefix[0]


@dataclass(frozen=True, slots=True)
class Expected:
    """The only frame that a receiver accepts next."""

    step: str
    sequence: int
    length: int

    def judge(self, prefix: bytes, label: bytes) -> int:
        """The sender's rounds.

        Raises:
            WireError: it is another frame than the expected one.
        """
        _, rounds, sequence, length = _PREFIX.unpack(prefix)
        if label != self.step.encode("utf-8"):
            shown = label.decode("ascii", "replace")
            raise WireError(f"{shown!r} came where {self.step!r} was awaited: the parties do not run the same plan")
        if sequence != self.sequence:
            raise WireError(f"message {sequence} came where {self.sequence} is due: replayed or out of order")
        if length != self.length:
            raise WireError(f"{self.step!r} has {length} bytes where exactly {self.length} are expected")
        return int(rounds)


class Transcript:
    """What went over a stream so far: a hash of all headers and of a checksum of each payload.

    TLS guards the bytes on their way. This guards against the ends themselves: a message that was never read, an array
    that was written to after it was sent.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, header: bytes, payload: memoryview) -> None:
        """One more message."""
        self._hash.update(header + _checksum(payload).to_bytes(8, "big"))

    def digest(self) -> bytes:
        """32 bytes, equal at both ends if they saw the same messages."""
        return self._hash.digest()


def _checksum(payload: memoryview) -> int:
    """64 bits. Of what is long, the sum of its words: a CRC of it costs more than sending it (decision 0013)."""
    if len(payload) <= INLINE_BYTES:
        return zlib.crc32(payload)
    whole = len(payload) // _WORD_BYTES * _WORD_BYTES
    total = int(np.frombuffer(payload[:whole], np.uint64).sum()) + zlib.crc32(payload[whole:])
    return total % 2**64
