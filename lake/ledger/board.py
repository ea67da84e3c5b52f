"""A board beside a ledger file: who waits for the lock posts what it wants, and whoever holds the lock may do it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lake.ledger.store import Post

__all__ = ["Board", "Posted"]

_LOOPBACK = "127.0.0.1"
_FREE, _DONE = b"\0", b"\1"  # what a bell says
_MOST_BYTES = 1 << 16
_LOT_BYTES = 1 << 20
_LINE = (float, int, str, list)


class Posted(NamedTuple):
    """A line of the board.

    Attributes:
        at: when it was written, in seconds of this machine's clock.
        bell: the port of loopback on which its process hears that it may look.
        post: what it says.
    """

    at: float
    bell: int
    post: Post


class Board:
    """Lines that several processes append, and that one takes; there is no file before the first line.

    Guarantees:
        A line is taken at most once. It may be lost, or torn, and a bell may ring for nothing or not at all: all of it
        is a hint, and whoever waits sees for itself how things are.
    Leaks:
        What claims ask for, to whoever may read the ledger itself: its owner. A bell says that something happened.
    """

    def __init__(self, path: Path, patience_seconds: float) -> None:
        """Use a board.

        Args:
            path: of its file.
            patience_seconds: how long anybody waits: older lines were left by a process that is gone.
        """
        self._path, self._patience = str(path), patience_seconds
        self._file: int | None = None
        self._bell: socket.socket | None = None
        self._port = 0

    def post(self, post: Post) -> None:
        """Append a line, in one call of the system, so that lines do not mix; nothing where that cannot be."""
        try:
            self._socket()
            line = json.dumps([time.time(), self._port, post.request_id, post.content]).encode() + b"\n"
            if len(line) > _MOST_BYTES:
                return
            if self._file is None:
                self._file = self._opened(os.O_CREAT)
            os.write(self._file, line)
        except (OSError, TypeError, ValueError):
            return

    def wait(self, seconds: float) -> bool:
        """Wait until the bell rings, but no longer than that; whether the lock may be free, rather than work done."""
        if self._bell is None:
            time.sleep(seconds)
            return True
        if self._bell.gettimeout() != seconds:
            self._bell.settimeout(seconds)  # this asks the system
        try:
            return self._bell.recv(1) == _FREE
        except OSError:
            return False

    def take(self) -> Iterator[list[Posted]]:
        """Every line, oldest first, in lots: those that are there, then those that came meanwhile. The caller holds the
        lock: nobody else takes any. If it does not ask to the end, all of them stay.
        """
        size = 0
        while lines := self._read(size):
            size += len(lines)
            yield list(self._living(lines))
        self.clear()

    def mine(self, posted: Posted) -> bool:
        """Whether this process wrote that line."""
        return posted.bell == self._port

    def clear(self) -> None:
        """Take every line away; whoever wrote one asks by itself, a moment later."""
        with contextlib.suppress(OSError):
            if self._file is not None and os.fstat(self._file).st_size:
                os.ftruncate(self._file, 0)

    def ring(self, done: Sequence[Posted] = ()) -> None:
        """Let those look who posted what was done; and tell the first who still waits that the lock is free."""
        self._tell(done, _DONE)
        self._tell(self._first(), _FREE)

    def close(self) -> None:
        """Close the file; what was posted stays for whoever takes it."""
        if self._file is not None:
            os.close(self._file)
        if self._bell is not None:
            self._bell.close()
        self._file = self._bell = None

    def _first(self) -> list[Posted]:
        return list(self._living(self._read(0).partition(b"\n")[0]))

    def _tell(self, whom: Iterable[Posted], what: bytes) -> None:
        for port in {one.bell for one in whom} - {self._port}:
            with contextlib.suppress(OSError):
                self._socket().sendto(what, (_LOOPBACK, port))

    def _socket(self) -> socket.socket:
        if self._bell is None:
            self._bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._bell.bind((_LOOPBACK, 0))
            self._port = self._bell.getsockname()[1]
        return self._bell

    def _read(self, begin: int) -> bytes:
        """What was written after the first `begin` bytes, up to the end of a line; of much, the first."""
        try:
            if self._file is None:
                if not os.access(self._path, os.F_OK):  # far quicker than an error
                    return b""
                self._file = self._opened(0)
            size = os.fstat(self._file).st_size
            found = os.pread(self._file, min(size - begin, _LOT_BYTES), begin) if size > begin else b""
        except OSError:
            return b""
        return found[: found.rfind(b"\n") + 1]

    def _opened(self, create: int) -> int:
        """The file; one that others can read or write, or that somebody else has put there, is none."""
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)
        status = os.fstat(file)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            os.close(file)
            raise PermissionError("not this user's alone")
        return file

    def _living(self, lines: bytes) -> Iterator[Posted]:
        now = time.time()
        for posted in map(_parsed, lines.splitlines()):
            if posted is not None and abs(now - posted.at) < self._patience:
                yield posted


def _parsed(line: bytes) -> Posted | None:
    """What a line says; None if it is torn, or never was a post."""
    try:
        said = json.loads(line.decode())
        if not isinstance(said, list) or tuple(map(type, said)) != _LINE:
            return None
        at, bell, request_id, content = said
        request_id.encode()  # an error where no store takes it
    except (ValueError, RecursionError):
        return None
    return Posted(at, bell, Post(request_id, content)) if 0 < bell < 1 << 16 else None
