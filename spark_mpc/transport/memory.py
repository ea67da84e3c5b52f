"""The transport of parties that are threads of one process: the same mailboxes and frames, without a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dp.errors import InvalidArgument
from spark_mpc.errors import AbortedByPeer, RunAborted, WireError
from spark_mpc.identity import party_name
from spark_mpc.transport.base import Progress, Tap
from spark_mpc.transport.endpoint import Endpoint, quiet, untapped
from spark_mpc.transport.mailbox import POLL_SECONDS, Mailbox
from spark_mpc.transport.pipes import SocketPipe
from spark_mpc.transport.waits import Check
from spark_mpc.wire import Header, Status, decode_header, encode_header

__all__ = ["MemoryHub"]


class MemoryHub:
    """Where the parties of one process meet.

    Args:
        names: all parties.
        timeout_seconds: as for a federation file.
        rendezvous_seconds: as for a federation file.
    """

    def __init__(
        self, names: Sequence[str], *, timeout_seconds: float = 60.0, rendezvous_seconds: float = 300.0
    ) -> None:
        self._names = tuple(party_name(name, "parties") for name in names)
        if len(set(names)) < max(2, len(names)):
            raise InvalidArgument("parties", list(names), "give at least two names, all different")
        self._timeout_seconds = timeout_seconds
        self._rendezvous_seconds = rendezvous_seconds
        self._present: dict[str, tuple[Mailbox, bytes]] = {}

    def transport(self, me: str, *, on_progress: Progress = quiet, tap: Tap = untapped) -> Endpoint:
        """The transport of party `me`; see `Transport`.

        Raises:
            InvalidArgument: no party of this hub.
        """
        if me not in self._names:
            raise InvalidArgument("me", me, f"the parties are {', '.join(self._names)}")
        return Endpoint(
            me,
            tuple(name for name in self._names if name != me),
            _MemoryLink(me, self._present),
            timeout_seconds=self._timeout_seconds,
            rendezvous_seconds=self._rendezvous_seconds,
            on_progress=on_progress,
            tap=tap,
        )


class _MemoryLink:
    """Calls the peer's mailbox in the caller's thread; the mailbox waits and refuses as it does for a network."""

    def __init__(self, me: str, present: dict[str, tuple[Mailbox, bytes]]) -> None:
        self._me = me
        self._present = present
        self._incarnation = b""

    def start(self, mailbox: Mailbox, incarnation: bytes) -> None:
        self._incarnation = incarnation
        self._present[self._me] = (mailbox, incarnation)

    def close(self) -> None:
        if self._present.get(self._me, (None, b""))[1] == self._incarnation:
            del self._present[self._me]

    def drop(self, run: bytes) -> None:
        """There are no connections."""

    def deliver(self, peer: str, header: Header, payload: memoryview, check: Check) -> bytes:
        mailbox, incarnation = self._reach(peer)

        def fill(buffer: memoryview) -> None:
            buffer[:] = payload

        with self._answers(peer, mailbox, check):
            mailbox.accept(self._me, decode_header(encode_header(header)), fill, check)
        return incarnation

    def dial(self, peer: str, header: Header, check: Check) -> SocketPipe:
        mailbox, _ = self._reach(peer)
        near, far = socket.socketpair()
        outgoing, incoming = SocketPipe(near, 0.0), SocketPipe(far, POLL_SECONDS)
        try:
            with self._answers(peer, mailbox, check):
                mailbox.accept_stream(self._me, decode_header(encode_header(header)), lambda: incoming, check)
        except BaseException:
            outgoing.close()
            incoming.close()
            raise
        return outgoing

    def ping(self, peer: str, run: bytes, timeout_seconds: float) -> tuple[bytes, Status]:
        mailbox, incarnation = self._reach(peer)
        return incarnation, mailbox.status(run)

    def abort(self, peer: str, run: bytes, reason: str, timeout_seconds: float) -> None:
        mailbox, _ = self._reach(peer)
        mailbox.aborted_by(self._me, run, self._incarnation, reason)

    @contextmanager
    def _answers(self, peer: str, mailbox: Mailbox, check: Check) -> Iterator[None]:
        """What the peer's mailbox raises, as this party sees it."""
        try:
            yield
        except RunAborted as error:
            check()  # it may be our own run that ended while the peer let us wait
            raise AbortedByPeer(peer, error.retold) from None
        except WireError:
            if self._present.get(peer, (None,))[0] is not mailbox:
                raise ConnectionResetError from None  # it closed meanwhile
            raise

    def _reach(self, peer: str) -> tuple[Mailbox, bytes]:
        if peer not in self._present:
            raise ConnectionRefusedError
        return self._present[peer]
