"""A board beside a ledger file: who waits for the lock posts what it wants, and whoever holds the lock may do it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple

from lake.ledger.store import Made, Post

__all__ = ["Board", "Heard", "Posted"]

_LOOPBACK = "127.0.0.1"
_FREE, _LOOK = b"\0", b"\1"  # what a bell says, unless it tells what was made
_TOLD = struct.Struct("!32sqd")  # the secret of a post, the number of its claim, and when it was made
_SECRET_BYTES = 16
_MOST_BYTES = 1 << 16
_LOT_BYTES = 1 << 20
_LINE = (float, int, str, str, list)
_to_text = json.JSONEncoder(ensure_ascii=False).encode
_from_text = json.JSONDecoder().raw_decode
# Locks of the whole file, which fall with their process. Nobody waits for one: its holder may have been stopped.
_SHARED, _ALONE = fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_EX | fcntl.LOCK_NB
_NAP_SECONDS = 5e-5
_TAKING_SECONDS = 3e-3


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


class Heard(NamedTuple):
    """What a bell said.

    Attributes:
        free: whether the lock may be free.
        number: of the claim that was made of what this process posted; None: it has to look by itself.
        at: when that claim was made, by the clock of whoever made it.
    """

    free: bool = False
    number: int | None = None
    at: float = 0.0


class Board:
    """Lines that several processes append, and that one takes; there is no file before the first line.

    Guarantees:
        A line is taken once, unless somebody clears the board, or is put off while he writes on it: then it may be lost
        or read again. A bell may ring for nothing or not at all. All of this is a hint, and whoever waits sees for
        itself how things are; except what is told with the secret of a post, which only its reader can know.
    Leaks:
        What claims ask for, to whoever may read the ledger itself: its owner. The number of a claim, its time, and the
        secret of its post, which is then worth nothing, to whoever has taken the port of a process that is gone.
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

    def post(self, post: Post) -> str:
        """Append a line, in one call of the system, so that lines do not mix.

        Returns:
            Its secret, for `wait`; "": nothing was posted, as that cannot be, or not now.
        """
        try:
            self._socket()
            secret = os.urandom(_SECRET_BYTES).hex()
            said = [time.time(), self._port, secret, post.request_id, post.content]
            line = _to_text(said).encode() + b"\n"  # an error where no store takes a text
            if len(line) > _MOST_BYTES:
                return ""
            if self._file is None:
                self._file = self._opened(os.O_CREAT)
            try:  # an interrupt may come right after the call
                fcntl.flock(self._file, _SHARED)  # several write, nobody takes
                os.write(self._file, line)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except (OSError, TypeError, ValueError):
            return ""
        return secret

    def wait(self, seconds: float, secret: str = "") -> Heard:
        """Wait until the bell rings, but no longer than that.

        Args:
            seconds: how long.
            secret: of the post that is waited for; nothing that is told of another one is believed.
        """
        if self._bell is None:
            time.sleep(seconds)
            return Heard(free=True)
        if self._bell.gettimeout() != seconds:
            self._bell.settimeout(seconds)  # this asks the system
        try:
            said = self._bell.recv(2 * _TOLD.size)
        except OSError:
            return Heard()
        if secret and len(said) == _TOLD.size:
            whose, number, at = _TOLD.unpack(said)
            return Heard(number=number, at=at) if compare_digest(whose, secret.encode()) else Heard()
        return Heard(free=said == _FREE)

    def take(self) -> Iterator[list[Posted]]:
        """Every line, oldest first, in lots: those that are there, then those that came meanwhile. The caller holds the
        ledger's lock: nobody else takes any. If it does not ask to the end, all of them stay.
        """
        size, end = 0, time.monotonic() + _TAKING_SECONDS
        while True:
            if lines := self._read(size):
                size += len(lines)
                yield list(self._living(lines))
            elif not size or self._cut(size):
                return
            elif time.monotonic() > end:  # whoever is writing was put off, or stopped
                if size > _MOST_BYTES:
                    self.clear()
                return
            else:
                time.sleep(_NAP_SECONDS)

    def awaited(self, seconds: float) -> bool:
        """Whether a line is there, or comes in that time."""
        end = time.monotonic() + seconds
        while not self._read(0):
            if time.monotonic() > end:
                return False
            time.sleep(_NAP_SECONDS)
        return True

    def mine(self, posted: Posted) -> bool:
        """Whether this process wrote that line."""
        return posted.bell == self._port

    def clear(self) -> None:
        """Take every line away; whoever wrote one asks by itself, a moment later."""
        with contextlib.suppress(OSError):
            if self._file is not None and os.fstat(self._file).st_size:
                os.ftruncate(self._file, 0)

    def tell(self, taken: Iterable[Posted], made: Made, at: float) -> None:
        """Tell each process what was made of its post, or that it has to look; what was made is durable.

        Args:
            taken: the lines.
            made: of which of them claims were made.
            at: when.
        """
        for one in taken:
            number = made.get(one.post.secret)
            said = _LOOK if number is None else _TOLD.pack(one.post.secret.encode(), number, at)
            self._say(said, one.bell)

    def ring(self) -> None:
        """Tell the first who waits that the lock is free."""
        waiting = (one for one in self._living(self._read(0)) if not self.mine(one))
        for one in itertools.islice(waiting, 1):
            self._say(_FREE, one.bell)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Callable[[], None]]:
        """Let others see meanwhile that this process serves them: by a lock that the system lets fall with it.

        Yields:
            What tries again, if that lock could not be had before: not while somebody asks, who may be put off.
        """
        marked = False

        def seen() -> None:
            nonlocal marked
            if self._file is not None and not marked:
                marked = _mark(self._file, fcntl.LOCK_EX)

        try:  # an interrupt may come right after the call
            seen()
            yield seen
        finally:
            self.unseen()

    def unseen(self) -> None:
        """Nobody sees this process serve any more; what `serving` ends with, unless an interrupt comes between."""
        if self._file is not None:
            _mark(self._file, fcntl.LOCK_UN)

    def served(self) -> bool:
        """Whether another process serves those who post; False where that cannot be known.

        It asks for a share of the lock, so that those who ask do not take each other for one who serves.
        """
        if self._file is None:
            return False
        if not _mark(self._file, fcntl.LOCK_SH):
            return True
        self.unseen()
        return False

    def close(self) -> None:
        """Close the file; what was posted stays for whoever takes it."""
        file, bell, self._file, self._bell = self._file, self._bell, None, None
        if file is not None:
            os.close(file)
        if bell is not None:
            bell.close()

    def _say(self, what: bytes, bell: int) -> None:
        if bell != self._port:
            try:
                self._socket().sendto(what, (_LOOPBACK, bell))
            except OSError:
                return  # he looks by himself, a moment later

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

    def _cut(self, size: int) -> bool:
        """Take the lines away, which are so many bytes, unless more have come; whether none is left unread."""
        assert self._file is not None
        try:
            try:
                fcntl.flock(self._file, _ALONE)
                found = os.fstat(self._file).st_size
                if found == size:
                    os.ftruncate(self._file, 0)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError:
            return False
        return found <= size  # less: somebody has cleared it

    def _opened(self, create: int) -> int:
        """The file; one that others can read or write, or that somebody else has put there, is none."""
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)
        status = os.fstat(file)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            os.close(file)
            raise PermissionError("not this user's alone")
        return file

    def _living(self, lines: bytes) -> Iterator[Posted]:
        first, last = time.time() - self._patience, time.time() + self._patience
        for posted in map(_parsed, lines.splitlines()):
            if posted is not None and first < posted.at < last:
                yield posted


def _parsed(line: bytes) -> Posted | None:
    """What a line says; None if it is torn, or never was a post."""
    try:
        text = line.decode()
        said, end = _from_text(text)
        if end != len(text) or type(said) is not list or tuple(map(type, said)) != _LINE:
            return None
        at, bell, secret, request_id, content = said
        f"{secret}{request_id}".encode()  # an error where no store takes it
    except (ValueError, RecursionError):
        return None
    return Posted(at, bell, Post(request_id, content, secret)) if 0 < bell < 1 << 16 else None


def _mark(file: int, how: int) -> bool:
    """Lock or unlock the first byte, beside the locks of the whole; whether that could be."""
    try:
        fcntl.lockf(file, how if how == fcntl.LOCK_UN else how | fcntl.LOCK_NB, 1)
    except OSError:
        return False
    return True
