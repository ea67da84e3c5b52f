"""The state of a run: its peers, what they sent, and the receive that waits. Guarded by the mailbox's condition."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from spark_mpc.errors import AbortedByPeer, FederationError, RunAborted, WireError
from spark_mpc.transport.base import Pipe, Traffic
from spark_mpc.wire import Header, RunState

__all__ = ["Line", "Run", "Runs", "Sink"]

_MAX_CLOSED_RUNS = 256  # runs that are over are remembered, so that pings about them are answered


@dataclass
class Sink:
    """A receive that waits: which step, how long at most, and where to put it.

    Args:
        step: the label that the message must have.
        max_bytes: its greatest length; with a buffer, its exact length.
        buffer: where to write it; without one, memory is allocated when the length is known and accepted.
    """

    step: str
    max_bytes: int
    buffer: memoryview | None = None
    result: memoryview = field(default_factory=lambda: memoryview(b""), init=False)
    filling: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)
    error: FederationError | None = field(default=None, init=False)
    broke_off: bool = field(default=False, init=False)

    def refusal(self, step: str, length: int) -> str | None:
        """Why a message cannot be the awaited one, or None."""
        if step != self.step:
            return f"{step!r} came where {self.step!r} was awaited: the parties do not run the same plan"
        if self.buffer is not None and length != self.max_bytes:
            return f"{step!r} has {length} bytes where exactly {self.max_bytes} are expected"
        if length > self.max_bytes:
            return f"{step!r} has {length} bytes, at most {self.max_bytes} are accepted"
        return None

    def room(self, length: int) -> memoryview:
        """The memory for an accepted message."""
        self.result = self.buffer if self.buffer is not None else memoryview(bytearray(length))
        return self.result


@dataclass
class Line:
    """One peer within one run."""

    incarnation: bytes | None
    next_sequence: int = 0
    busy: bool = False  # a message is being taken
    steps: set[str] = field(default_factory=set)
    arrived: deque[tuple[str, memoryview]] = field(default_factory=deque)
    sink: Sink | None = None
    lost: str | None = None
    finished: bool = False
    peer_step: str = "start"
    stream: Pipe | None = None  # opened by the peer, not taken yet
    streamed: bool = False  # it has opened one
    took_stream: bool = False

    def admit_stream(self) -> None:
        """The peer opens its stream.

        Raises:
            WireError: its second one.
        """
        if self.streamed:
            raise WireError("a party opens one stream to each peer in a run")
        self.streamed = True

    def taken_stream(self) -> Pipe | None:
        """The stream, for its only user, if it is there already.

        Raises:
            WireError: it was taken before.
        """
        if self.took_stream:
            raise WireError("the streams of a run are opened once")
        stream, self.stream = self.stream, None
        self.took_stream = stream is not None
        return stream

    def disorder(self, header: Header) -> str | None:
        """Why a message cannot be this peer's next one, or None."""
        if self.busy:
            return "another message of this sender is still being taken"
        if header.sequence != self.next_sequence:
            return f"message {header.sequence} came where {self.next_sequence} is due: replayed or out of order"
        if header.step in self.steps:
            return f"{header.step!r} was delivered already"
        return None


@dataclass
class Run:
    """One run, and how it ended."""

    lines: dict[str, Line]
    state: RunState = RunState.OPEN
    ended_by: str | None = None  # the peer that aborted it; None: this party
    reason: str = ""
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def ending(self) -> RunAborted:
        """Who ended it and why, of a run that was aborted."""
        return RunAborted(self.reason) if self.ended_by is None else AbortedByPeer(self.ended_by, self.reason)

    def require_open(self) -> None:
        """Raise if the run is over."""
        if self.state is RunState.ABORTED:
            raise self.ending
        if self.state is not RunState.OPEN:
            raise WireError("the run is finished: begin a new one")

    def close_streams(self) -> None:
        """Close those that nobody has taken."""
        for line in self.lines.values():
            if line.stream is not None:
                line.stream.close()
                line.stream = None


class Runs(dict[bytes, Run]):
    """All runs that a party remembers, by name."""

    def open(self, run: bytes) -> Run:
        """A run that is open, or the reason why it is not, raised."""
        known = self.get(run)
        if known is None:
            raise WireError("the run has not begun here: call begin first")
        known.require_open()
        return known

    def watched(self, peer: str) -> list[bytes]:
        """The open runs in which a peer must be watched."""
        return [
            run
            for run, known in self.items()
            if known.state is RunState.OPEN and not known.lines[peer].finished and known.lines[peer].lost is None
        ]

    def finish(self, run: bytes) -> None:
        """Close a run that went well; without effect on one that is over."""
        known = self.get(run)
        if known is not None and known.state is RunState.OPEN:
            known.state = RunState.FINISHED
            known.close_streams()

    def end(self, run: bytes, peer: str | None, reason: str) -> None:
        """Close a run that did not go well, on the account of a peer or of this party; without effect on one over."""
        known = self.get(run)
        if known is not None and known.state is RunState.OPEN:
            known.ended_by, known.reason = peer, reason
            known.state = RunState.ABORTED  # after its reason: `Mailbox.check` reads without the lock
            known.close_streams()

    def forget_old(self) -> None:
        """Keep a bounded number of runs that are over."""
        over = [run for run, known in self.items() if known.state is not RunState.OPEN]
        for run in over[: max(0, len(over) - _MAX_CLOSED_RUNS)]:
            del self[run]
