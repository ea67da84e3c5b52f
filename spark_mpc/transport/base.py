"""What a transport offers: labelled messages between parties, bounded by heartbeats, not by how long work takes.

A run is named by 32 bytes that all parties derived alike. `RENDEZVOUS` names none: before a run there are greetings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Protocol, Self

from spark_mpc.wire import RUN_BYTES

__all__ = ["RENDEZVOUS", "RENDEZVOUS_STEPS", "Pipe", "Progress", "Streams", "Tap", "Traffic", "Transport", "Watch"]

RENDEZVOUS = bytes(RUN_BYTES)
RENDEZVOUS_STEPS = ("hello", "check")

Tap = Callable[[str, bytes, str, memoryview], None]
"""Called with (peer, run, step, payload) for everything that is sent, above TLS: for audits and tests."""

Progress = Callable[[str], None]
"""Called with a line such as "waiting for insurer_b (local)" when a wait takes long and when its cause changes."""


@dataclass(frozen=True)
class Traffic:
    """Messages and their payload bytes; framing and TLS come on top."""

    sent_messages: int = 0
    sent_bytes: int = 0
    received_messages: int = 0
    received_bytes: int = 0

    def sent(self, length: int) -> Traffic:
        """With one more message of `length` bytes sent."""
        return dataclasses.replace(self, sent_messages=self.sent_messages + 1, sent_bytes=self.sent_bytes + length)

    def received(self, length: int) -> Traffic:
        """With one more message of `length` bytes received."""
        return dataclasses.replace(
            self, received_messages=self.received_messages + 1, received_bytes=self.received_bytes + length
        )


class Pipe(Protocol):
    """Bytes between two parties, used one way by one thread at a time."""

    def write_some(self, data: memoryview) -> int:
        """Give away the first bytes of `data` without waiting; returns how many, 0 if none are taken now.

        What was not taken must be what is given next.

        Raises:
            ConnectionError: the other end is gone.
        """

    def write_all(self, data: memoryview) -> None:
        """Give away all of `data`; waits in the system, without a limit, until `interrupt`.

        Raises:
            ConnectionError: the other end is gone, or it was interrupted.
        """

    def read_some(self, room: memoryview) -> int:
        """Write what has come into `room`, one byte at least; returns how many.

        Raises:
            TimeoutError: nothing came in a moment.
            ConnectionError: the other end is gone.
        """

    def interrupt(self) -> None:
        """End it from any thread; whoever uses it gets a ConnectionError."""

    def close(self) -> None:
        """Close it; only when no thread uses it."""


class Watch(Protocol):
    """What a stream asks and tells about a peer in a run."""

    def check(self) -> None:
        """Raise if the run is over or the peer is lost."""

    def patience(self) -> Callable[[], None]:
        """A `check` for one long wait, which is reported as progress."""

    def broke(self, step: str) -> NoReturn:
        """Find out why a stream broke, and raise it.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: as the class says.
        """

    def sent(self, step: str, payload: memoryview) -> None:
        """A message was sent."""

    def received(self, length: int) -> None:
        """A message was received."""


class Streams(Watch, Protocol):
    """The two streams of a run with one peer, one each way; see `spark_mpc.transport.streams`."""

    def dial(self) -> Pipe:
        """Open the stream to the peer.

        Raises:
            PeerLost, RunAborted, AbortedByPeer, CertificateRefused, WireError: as for `Transport.send`.
        """

    def accept(self) -> Pipe:
        """The stream that the peer opens to this party.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: as the class says.
        """


class Transport(Protocol):
    """Labelled messages between the parties of a federation.

    Guarantees: within a run, the messages of one peer arrive in the order in which it sent them, each once, unaltered,
        from the holder of a certificate that is pinned for that peer; a gap, a repetition, a message of a finished run
        and one of another process of that peer are refused. No message makes its receiver allocate more than it asked
        for, beyond 64 messages of 64 KiB and 1 MiB a connection. No wait outlasts a peer: one that is silent for
        `timeout_seconds`, unreachable for 2 s or restarted ends the wait.
    Leaks: who talks to whom and when; run, step label, lengths and process identity stand in the header, under TLS.
    Cost: a message of more than 64 KiB takes two round trips, a shorter one takes one; a header has 71 bytes and its
        label.
    """

    @property
    def me(self) -> str:
        """This party's name."""

    @property
    def peers(self) -> tuple[str, ...]:
        """The other parties' names, sorted."""

    def start(self) -> None:
        """Start to listen."""

    def close(self) -> None:
        """Stop listening and drop all connections; idempotent. Runs that are open are not announced as aborted."""

    def begin(self, run: bytes) -> None:
        """Accept messages of `run` from now on, and watch the peers until it is finished or aborted.

        Raises:
            WireError: a run that was begun before; each attempt has a fresh one.
        """

    def finish(self, run: bytes) -> None:
        """Refuse messages of `run` from now on; without effect on a run that was aborted."""

    def send(self, peer: str, run: bytes, step: str, payload: bytes | memoryview) -> None:
        """Send one message; returns when the peer's process has taken it.

        A greeting (`RENDEZVOUS`, step "hello" or "check", at most 64 KiB) replaces the earlier one of its step and
        waits up to `rendezvous_seconds` for the peer to start. Anything longer than 64 KiB waits until the peer
        receives it.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: as the class says.
            CertificateRefused: the process at the peer's address is not the peer, or does not accept this party.
            WireError: the peer refuses the message.
        """

    def receive(self, peer: str, run: bytes, step: str, max_bytes: int) -> bytes:
        """The next message of `peer` in `run`, which must be labelled `step`.

        Raises:
            WireError: another label, or more than `max_bytes`.
            PeerLost, RunAborted, AbortedByPeer: as the class says.
        """

    def receive_into(self, peer: str, run: bytes, step: str, buffer: memoryview) -> None:
        """Like `receive`, into a writable buffer whose length the message must have; undefined after an error."""

    def streams(self, peer: str, run: bytes) -> Streams:
        """The streams of a run with a peer, for messages in lockstep that nobody acknowledges; once for each peer."""

    def check(self, run: bytes) -> None:
        """Return if the run is open and every peer is there or has finished it; to be called before a step that costs.

        Raises:
            PeerLost, RunAborted, AbortedByPeer: as the class says.
        """

    def abort(self, run: bytes, reason: str) -> None:
        """End the run here and tell all peers, as far as they can be reached at once; `reason` is public text.

        For `RENDEZVOUS`: take back this process's greetings; a peer that used one aborts the run that came of it.
        """

    def step(self, name: str) -> None:
        """Publish the step that this party is in, for the peers' progress lines and errors."""

    def traffic(self, run: bytes) -> Traffic:
        """What the run has sent and received so far."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
