"""What the streams of a run with one peer ask of the transport: to be opened, watched, explained and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from spark_mpc.errors import PeerLost
from spark_mpc.transport.base import Pipe, Tap
from spark_mpc.transport.mailbox import Mailbox
from spark_mpc.transport.waits import Check

__all__ = ["RunStreams"]

_NEWS_SECONDS = 2.0  # a peer that fails closes its streams before it can tell why


class RunStreams:
    """See `Streams`.

    Args:
        peer: the other party.
        run: the run.
        mailbox: knows run and peer.
        dial: opens the stream to the peer.
        ask: pings the peer about the run; whether it answers.
        tap: told everything that is sent.
    """

    def __init__(
        self,
        peer: str,
        run: bytes,
        mailbox: Mailbox,
        *,
        dial: Callable[[], Pipe],
        ask: Callable[[], bool],
        tap: Tap,
    ) -> None:
        self._peer = peer
        self._run = run
        self._mailbox = mailbox
        self._dial = dial
        self._ask = ask
        self._tap = tap

    def dial(self) -> Pipe:
        """See `Streams.dial`."""
        return self._dial()

    def accept(self) -> Pipe:
        """See `Streams.accept`."""
        return self._mailbox.take_stream(self._peer, self._run)

    def check(self) -> None:
        """See `Watch.check`."""
        self._mailbox.check(self._run, self._peer)

    def patience(self) -> Check:
        """See `Watch.patience`."""
        return self._mailbox.patience(self._run, self._peer)

    def broke(self, step: str) -> NoReturn:
        """See `Watch.broke`."""
        self.check()
        answers = self._ask()
        self.check()
        deadline = time.monotonic() + _NEWS_SECONDS
        while answers and time.monotonic() < deadline:
            self._mailbox.pause()
            self.check()
        raise PeerLost(self._peer, step, "its stream broke: begin a new attempt")

    def sent(self, step: str, payload: memoryview) -> None:
        """See `Watch.sent`."""
        self._tap(self._peer, self._run, step, payload)
        self._mailbox.sent(self._run, len(payload))

    def received(self, length: int) -> None:
        """See `Watch.received`."""
        self._mailbox.received(self._run, length)
