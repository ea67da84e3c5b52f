"""The frames that travel between parties: a strict header, then `length` bytes of payload.

    magic 4 | version 1 | kind 1 | step length 1 | run 32 | incarnation 16 | sequence 8 | length 8 | step

Integers are big-endian. Nothing here allocates by what a header says: the length is judged by the receiver first.
"""

from __future__ import annotations

import enum
import json
import re
import struct
from dataclasses import dataclass

from spark_mpc.errors import WireError

__all__ = [
    "INCARNATION_BYTES",
    "INLINE_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_STEP_BYTES",
    "PREFIX_BYTES",
    "RUN_BYTES",
    "Header",
    "Kind",
    "RunState",
    "Status",
    "decode_frame",
    "decode_header",
    "decode_reason",
    "decode_status",
    "encode_header",
    "encode_label",
    "encode_reason",
    "encode_status",
    "step_bytes",
]

RUN_BYTES = 32
INCARNATION_BYTES = 16
MAX_STEP_BYTES = 64
INLINE_BYTES = 1 << 16  # a longer payload is sent only after the receiver has said that it waits for it
MAX_REASON_BYTES = 1024

_MAGIC = b"SMPC"
_VERSION = 1
_PREFIX = struct.Struct(f">4sBBB{RUN_BYTES}s{INCARNATION_BYTES}sQQ")
PREFIX_BYTES = _PREFIX.size
MAX_HEADER_BYTES = PREFIX_BYTES + MAX_STEP_BYTES
_STEP = re.compile(rb"[a-z0-9_-]+(/[a-z0-9_-]+)*")


class Kind(enum.IntEnum):
    """What a frame is; the first three and the last are requests, the others replies."""

    MESSAGE = 1
    PING = 2
    ABORT = 3  # as a reply: the run was aborted here
    WELCOME = 4  # the first frame on a connection, from the side that was dialled
    READY = 5  # a receiver waits: send the payload
    TAKEN = 6
    REFUSED = 7
    STATUS = 8
    STREAM = 9  # a request: from now on this connection carries the run's stream, one way


class RunState(enum.StrEnum):
    """What a party says of a run when it is pinged."""

    UNKNOWN = "unknown"
    OPEN = "open"
    FINISHED = "finished"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Header:
    """What precedes a payload.

    Args:
        kind: request or reply.
        run: 32 bytes that name the run.
        step: what the message is, such as "upload/0".
        incarnation: 16 bytes that name the sender's process.
        sequence: the number of this message among those of its sender, receiver and run, from 0.
        length: bytes of payload that follow.
    """

    kind: Kind
    run: bytes
    step: str
    incarnation: bytes
    sequence: int = 0
    length: int = 0


@dataclass(frozen=True)
class Status:
    """A party's answer to a ping: the state of the run there, the step it is in, and why it aborted."""

    state: RunState
    step: str
    reason: str = ""


def encode_header(header: Header) -> bytes:
    """The header as bytes.

    Raises:
        WireError: a step that is no label, or a run or incarnation of another length.
    """
    step = encode_label(header.step)
    if len(header.run) != RUN_BYTES or len(header.incarnation) != INCARNATION_BYTES:
        raise WireError(f"a run is named by {RUN_BYTES} bytes and a process by {INCARNATION_BYTES}")
    prefix = (_MAGIC, _VERSION, header.kind, len(step), header.run, header.incarnation, header.sequence, header.length)
    return _PREFIX.pack(*prefix) + step


def encode_label(step: str) -> bytes:
    """A step label as bytes.

    Raises:
        WireError: no label.
    """
    return _label(step.encode("utf-8"))


def step_bytes(prefix: bytes) -> int:
    """How many bytes of step label follow the first `PREFIX_BYTES` of a header.

    Raises:
        WireError: not a frame of this version, or no step of an acceptable length.
    """
    if len(prefix) != PREFIX_BYTES:
        raise WireError(f"a frame starts with {PREFIX_BYTES} bytes, not {len(prefix)}")
    magic, version, kind, length, *_ = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise WireError("not a frame of spark-mpc")
    if version != _VERSION:
        raise WireError(f"frame version {version}, this party speaks {_VERSION}: install the same release everywhere")
    if kind not in Kind.__members__.values():
        raise WireError(f"unknown kind of frame {kind}")
    if not 0 < length <= MAX_STEP_BYTES:
        raise WireError(f"a step label has 1 to {MAX_STEP_BYTES} bytes, not {length}")
    return int(length)


def decode_header(data: bytes) -> Header:
    """Read exactly one header.

    Raises:
        WireError: malformed, cut short, or with bytes left over.
    """
    expected = PREFIX_BYTES + step_bytes(data[:PREFIX_BYTES])
    if len(data) != expected:
        raise WireError(f"the header has {len(data)} bytes, it declares {expected}")
    _, _, kind, _, run, incarnation, sequence, length = _PREFIX.unpack(data[:PREFIX_BYTES])
    return Header(Kind(kind), run, _label(data[PREFIX_BYTES:]).decode("ascii"), incarnation, sequence, length)


def decode_frame(data: bytes, max_bytes: int) -> tuple[Header, bytes]:
    """Read exactly one header and its payload of at most `max_bytes`.

    Raises:
        WireError: malformed, too long, cut short, or with bytes left over.
    """
    start = PREFIX_BYTES + step_bytes(data[:PREFIX_BYTES])
    header = decode_header(data[:start])
    if header.length > max_bytes:
        raise WireError(f"{header.step!r} declares {header.length} bytes, at most {max_bytes} are accepted")
    if len(data) - start != header.length:
        raise WireError(f"{header.step!r} declares {header.length} bytes and has {len(data) - start}")
    return header, data[start:]


def encode_reason(reason: str) -> bytes:
    """A reason as the payload of an abort or refusal, cut to its greatest length."""
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")


def decode_reason(payload: bytes) -> str:
    """The text of a reason, with everything that is not printable replaced, so that it can be logged.

    Raises:
        WireError: too long, or not UTF-8.
    """
    if len(payload) > MAX_REASON_BYTES:
        raise WireError(f"a reason has at most {MAX_REASON_BYTES} bytes, not {len(payload)}")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("a reason is UTF-8 text") from None
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def encode_status(status: Status) -> bytes:
    """A status as the payload of a reply to a ping."""
    reason = encode_reason(status.reason).decode("utf-8")
    return json.dumps({"state": status.state.value, "step": status.step, "reason": reason}).encode("ascii")


def decode_status(payload: bytes) -> Status:
    """Read what `encode_status` wrote.

    Raises:
        WireError: anything else.
    """
    try:
        fields = json.loads(payload)
        state, step, reason = fields.pop("state"), fields.pop("step"), fields.pop("reason")
        if fields:
            raise WireError("a status has three fields")
        encode_label(step)
        return Status(RunState(state), step, decode_reason(reason.encode("utf-8")))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise WireError("a status names state, step and reason") from None


def _label(step: bytes) -> bytes:
    if len(step) > MAX_STEP_BYTES or not _STEP.fullmatch(step):
        shown = step[:MAX_STEP_BYTES].decode("ascii", "replace")
        raise WireError(f"step {shown!r}: use a-z, 0-9, _ and -, parts joined by /, at most {MAX_STEP_BYTES}")
    return step
