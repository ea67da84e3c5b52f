"""A board beside a ledger file: who waits for the lock posts what it wants, and whoever holds the lock may do it."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lake.ledger.store import Post

__all__ = ["FREE", "Board", "Heard", "Made", "Posted"]

_LOOPBACK = "127.0.0.1"
_LOOK_SECONDS = 5e-5
_MOMENT_SECONDS = 5e-4  # about as long as a transaction
_MOST_BYTES = 1 << 16
_SECRET_BYTES, _TURN_BYTES = 16, 8
_TOKEN_BYTES = _SECRET_BYTES + _TURN_BYTES
_ANSWER = struct.Struct(f"!{_TOKEN_BYTES}sBqd")  # token, how many were taken with it, the claim or 0, when


@dataclass(frozen=True)
class Posted:
    """A line of the board.

    Attributes:
        at: when it was written, in seconds of this machine's clock.
        bell: the port of loopback on which its process listens.
        token: shows that an answer comes from somebody who read this line.
        post: what it says.
    """

    at: float
    bell: int
    token: bytes
    post: Post


@dataclass(frozen=True)
class Made:
    """What another process says that it has made of this one's last post; durable before it was said.

    Attributes:
        number: of the claim.
        at: the time of its transaction, in seconds since the epoch.
    """

    number: int
    at: float


FREE: Final = "free"
Heard = Made | Literal["free"] | None
"""Who did it; or that the lock may be free; or nothing from which anything follows."""


class Board:
    """Lines that several processes append, and that one takes; there is no file before the first line.

    Guarantees:
        A line is taken at most once. It may be lost, or torn, and a bell may ring for nothing or not at all: all of it
        is a hint, and whoever waits sees for itself how things are. Only an answer with the token of the last line that
        was posted here is believed: 128 random bits of this process, which stand nowhere but on the board, and a count.
    Leaks:
        What claims ask for, to whoever may read the ledger itself: its owner. A bell says that something happened.
    """

    def __init__(self, path: Path, patience_seconds: float) -> None:
        """Use a board.

        Args:
            path: of its file.
            patience_seconds: how long anybody waits: older lines were left by a process that is gone.
        """
        self._path, self._patience = path, patience_seconds
        self._usual = 0  # how many lines there are when this process takes them
        self._file: int | None = None
        self._bell: socket.socket | None = None
        self._port = 0
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._turn = 0
        self._token = b""  # of the line that may be answered

    def post(self, post: Post) -> None:
        """Append a line, in one call of the system, so that lines do not mix; nothing where that cannot be."""
        try:
            self._socket()
            self._turn += 1
            self._token = self._secret + self._turn.to_bytes(_TURN_BYTES, "big")
            said = [time.time(), self._port, self._token.hex(), post.request_id, post.content]
            line = json.dumps(said).encode() + b"\n"
            if len(line) > _MOST_BYTES:
                return
            if self._file is None:
                self._file = self._opened(os.O_CREAT)
            os.write(self._file, line)
        except (OSError, TypeError, ValueError):
            return

    @property
    def crowded(self) -> bool:
        """Whether there were lines of others when this process last heard of them."""
        return self._usual > 1

    def wait(self, seconds: float) -> Heard:
        """Wait until the bell rings, but no longer than that; what it says."""
        if self._bell is None:
            time.sleep(seconds)
            return FREE
        self._bell.settimeout(seconds)
        try:
            said = self._bell.recv(_ANSWER.size + 1)
        except OSError:
            return None
        return self._heard(said)

    def _heard(self, said: bytes) -> Heard:
        if len(said) != _ANSWER.size:
            return FREE if not said else None
        token, count, number, at = _ANSWER.unpack(said)
        if not hmac.compare_digest(token, self._token):
            return None
        self._token = b""
        self._usual = count
        return Made(number, at) if number else None

    def take(self) -> Iterator[Posted]:
        """Every line of others, oldest first, and those that come meanwhile. The caller holds the lock.

        Where several lines were found before, as many are waited for, a moment long: who was just served comes again.
        If the caller does not ask to the end, all of them stay.
        """
        found, size, end = 0, 0, time.monotonic() + _MOMENT_SECONDS
        while (lines := self._read(size)) or (found < self._usual and time.monotonic() < end):
            for posted in self._living(lines):
                found += 1
                if posted.bell != self._port:
                    yield posted
            size += len(lines)
            if not lines:
                time.sleep(_LOOK_SECONDS)
        self.clear()
        self._usual = max(found, self._usual - 1)

    def clear(self) -> None:
        """Take every line away. The caller holds the lock; whoever wrote one asks by itself, a moment later."""
        with contextlib.suppress(OSError):
            if self._file is not None and os.fstat(self._file).st_size:
                os.ftruncate(self._file, 0)

    def ring(self, taken: Sequence[tuple[Posted, int]] = (), at: float = 0.0) -> None:
        """Tell those whose lines were taken what came of them, and the first who still waits that the lock is free.

        Args:
            taken: what was taken, and the number of the claim that was made of it, durably; 0 for none.
            at: the time of that transaction.
        """
        for posted in self._living(self._read(0).partition(b"\n")[0]):
            self._tell(posted, b"")
        for posted, number in taken:
            self._tell(posted, _ANSWER.pack(posted.token, min(len(taken), 255), number, at))

    def close(self) -> None:
        """Close the file; what was posted stays for whoever takes it."""
        if self._file is not None:
            os.close(self._file)
        if self._bell is not None:
            self._bell.close()
        self._file = self._bell = None

    def _tell(self, whom: Posted, what: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket().sendto(what, (_LOOPBACK, whom.bell))

    def _socket(self) -> socket.socket:
        if self._bell is None:
            self._bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._bell.bind((_LOOPBACK, 0))
            self._port = self._bell.getsockname()[1]
        return self._bell

    def _read(self, begin: int) -> bytes:
        """What was written after the first `begin` bytes, up to the end of a line."""
        try:
            if self._file is None:
                self._file = self._opened(0)
            size = os.fstat(self._file).st_size
            found = os.pread(self._file, size - begin, begin) if size > begin else b""
        except OSError:
            return b""
        return found[: found.rfind(b"\n") + 1]

    def _opened(self, create: int) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)

    def _living(self, lines: bytes) -> Iterator[Posted]:
        for posted in map(_parsed, lines.splitlines()):
            if posted is not None and abs(time.time() - posted.at) < self._patience:
                yield posted


def _parsed(line: bytes) -> Posted | None:
    """What a line says; None if it is torn, or never was a post."""
    try:
        match json.loads(line):
            case [float(at), int(bell), str(token), str(request_id), list(content)] if 0 < bell < 1 << 16:
                request_id.encode()  # an error where no store takes it
                return Posted(at, bell, _token(token), Post(request_id, content))
    except (ValueError, RecursionError):
        return None
    return None


def _token(text: str) -> bytes:
    token = bytes.fromhex(text)
    if len(token) != _TOKEN_BYTES:
        raise ValueError("not a token")
    return token
