"""What one party knows of its runs: which messages it may take, which it has, and whether its peers are still there.

Threads of the transport bring messages and news of the peers; the party's own thread waits for them. Everything changes
under one condition. `check` reads without it, because it is called while bytes flow and while other locks are held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from spark_mpc.errors import PeerLost, WireError
from spark_mpc.transport.base import RENDEZVOUS, RENDEZVOUS_STEPS, Pipe, Progress, Traffic
from spark_mpc.transport.runs import Line, Run, Runs, Sink
from spark_mpc.transport.waits import Check, reported
from spark_mpc.wire import INLINE_BYTES, Header, RunState, Status

__all__ = ["POLL_SECONDS", "Fill", "Mailbox"]

POLL_SECONDS = 0.1
_MAX_WAITING = 64  # short messages of one peer and run that nobody has received yet

Fill = Callable[[memoryview], None]
"""Writes a message's payload into the buffer that the mailbox gives, or raises."""


class Mailbox:
    """The runs of one party, as both its own thread and the transport's threads see them.

    Args:
        peers: the other parties.
        timeout_seconds: how long a message of a run that has not begun here may wait for it.
        rendezvous_seconds: how long a greeting is awaited.
        on_progress: told what a long wait is waiting for.
    """

    def __init__(
        self, peers: tuple[str, ...], timeout_seconds: float, rendezvous_seconds: float, on_progress: Progress
    ) -> None:
        self.step = "start"
        self._peers = peers
        self._timeout_seconds = timeout_seconds
        self._rendezvous_seconds = rendezvous_seconds
        self._on_progress = on_progress
        self._changed = threading.Condition()
        self._runs = Runs()
        self._greetings: dict[tuple[str, str], tuple[bytes, bytes]] = {}  # (peer, step) -> (incarnation, payload)
        self._met: dict[str, bytes] = {}  # the process of each peer whose greeting was received last
        self._withdrawn: dict[str, str] = {}  # ... and why it took that greeting back
        self._closed = False

    # -- the party's own side ------------------------------------------------------------------------------------------

    def begin(self, run: bytes) -> None:
        """Open a run; see `Transport.begin`."""
        with self._changed:
            if run in self._runs or run == RENDEZVOUS:
                raise WireError("a run begins once: derive a fresh one for every attempt")
            self._runs[run] = Run({peer: Line(self._met.get(peer)) for peer in self._peers})
            self._runs.forget_old()
            for peer, reason in self._withdrawn.items():
                self._runs.end(run, peer, reason)
            self._changed.notify_all()

    def finish(self, run: bytes) -> None:
        """Close a run that went well."""
        with self._changed:
            self._runs.finish(run)
            self._changed.notify_all()

    def abort(self, run: bytes, reason: str) -> None:
        """Close a run that did not, on this party's own account."""
        with self._changed:
            self._runs.end(run, None, reason)
            self._changed.notify_all()

    def close(self) -> None:
        """Let every wait end."""
        with self._changed:
            self._closed = True
            for known in self._runs.values():
                known.close_streams()
            self._changed.notify_all()

    def take(self, peer: str, run: bytes, sink: Sink) -> None:
        """Wait until the peer's next message in the run is in the sink."""
        with self._changed:
            known = self._runs.open(run)
            line = known.lines[peer]
            if line.sink is not None:
                raise WireError(f"another thread already receives from {peer} in this run")
            line.sink = sink
            self._changed.notify_all()
            try:
                self._await_sink(peer, run, line, sink)
            finally:
                while sink.filling:  # the transport's thread lets go of the buffer within its poll interval
                    self._changed.wait(POLL_SECONDS)
                line.sink = None
            known.traffic = known.traffic.received(len(sink.result))

    def take_stream(self, peer: str, run: bytes) -> Pipe:
        """Wait for the stream that the peer opens to this party; it belongs to the caller from then on."""
        with self._changed:
            line = self._runs.open(run).lines[peer]
            for _ in self._waiting(lambda: self._whereabouts(run, peer)):
                stream = line.taken_stream()
                if stream is not None:
                    return stream
                self.check(run, peer)
                if line.finished:
                    raise PeerLost(peer, line.peer_step, "it finished the run without opening a stream")
        raise AssertionError("waiting ends by return or raise")

    def take_greeting(self, peer: str, step: str) -> tuple[bytes, bytes]:
        """Wait for the peer's newest greeting: (its process, payload)."""
        deadline = time.monotonic() + self._rendezvous_seconds
        with self._changed:
            for _ in self._waiting(lambda: f"{peer} (not started)"):
                if (peer, step) in self._greetings:
                    incarnation, payload = self._greetings.pop((peer, step))
                    self._met[peer] = incarnation
                    return incarnation, payload
                if time.monotonic() > deadline:
                    raise PeerLost(peer, "start", f"no greeting within {self._rendezvous_seconds:g} s: start it")
        raise AssertionError("waiting ends by return or raise")

    def check(self, run: bytes, peer: str) -> None:
        """Raise if the run is over, or the peer is lost; takes no lock."""
        self._refuse_closed()
        if run == RENDEZVOUS:
            return
        line = self._runs.open(run).lines[peer]
        if line.lost is not None:
            raise PeerLost(peer, line.peer_step, line.lost)

    def check_open(self, run: bytes) -> None:
        """Raise if the run is over."""
        self._runs.open(run)

    def check_all(self, run: bytes) -> None:
        """Raise if the run is over, or a peer that has not finished it is lost."""
        for peer in self._peers:
            line = self._runs.open(run).lines[peer]
            if not line.finished:
                self.check(run, peer)

    def pause(self) -> None:
        """Wait for a change, a moment at most; for whoever retries to reach a peer."""
        with self._changed:
            self._changed.wait(POLL_SECONDS)

    def deadline(self, peer: str) -> Check:
        """A check that raises when the time to meet the peer has passed; it reports that the peer is awaited."""
        started = time.monotonic()

        def check() -> None:
            self._refuse_closed()
            if time.monotonic() - started > self._rendezvous_seconds:
                raise PeerLost(peer, "start", f"not reachable within {self._rendezvous_seconds:g} s: start it")

        return reported(check, lambda: f"{peer} (not started)", self._on_progress)

    def patience(self, run: bytes, peer: str) -> Check:
        """A `check` for one wait outside of the mailbox; it reports that the peer is awaited."""
        return reported(lambda: self.check(run, peer), lambda: self._whereabouts(run, peer), self._on_progress)

    def sent(self, run: bytes, length: int) -> None:
        """Count a message that was sent."""
        with self._changed:
            if run in self._runs:
                self._runs[run].traffic = self._runs[run].traffic.sent(length)

    def received(self, run: bytes, length: int) -> None:
        """Count a message that was received on a stream."""
        with self._changed:
            if run in self._runs:
                self._runs[run].traffic = self._runs[run].traffic.received(length)

    def traffic(self, run: bytes) -> Traffic:
        """What the run has sent and received."""
        with self._changed:
            return self._runs[run].traffic if run in self._runs else Traffic()

    # -- what the transport's threads bring ----------------------------------------------------------------------------

    def accept(self, peer: str, header: Header, fill: Fill, check: Check) -> None:
        """Take one message of a peer whose certificate was checked, or refuse it before memory is spent on it.

        Raises:
            WireError: refused.
            RunAborted: the run was aborted here.
        """
        if header.run == RENDEZVOUS:
            self._accept_greeting(peer, header, fill)
            return
        with self._admitted(peer, header, check) as line:
            if header.length <= INLINE_BYTES:
                self._store(line, header, fill, check)
            else:
                self._hand_over(peer, line, header, fill, check)

    def accept_stream(self, peer: str, header: Header, welcome: Callable[[], Pipe], check: Check) -> None:
        """Keep a stream of a peer whose certificate was checked, until the party takes it or the run ends.

        Args:
            peer: who opens it.
            header: what names the run and the peer's process.
            welcome: tells the peer that it may; returns the stream, which is the mailbox's once this call returns.
            check: is asked while the run is awaited.

        Raises:
            WireError: refused.
            RunAborted: the run was aborted here.
        """
        with self._known_sender(peer, header, check) as line:
            line.admit_stream()
        stream = welcome()
        with self._changed:
            self._refuse_closed()
            self._runs.open(header.run).lines[peer].stream = stream
            self._changed.notify_all()

    def status(self, run: bytes) -> Status:
        """What this party answers to a ping about the run."""
        with self._changed:
            known = self._runs.get(run)
            if known is None:
                return Status(RunState.UNKNOWN, self.step)
            return Status(known.state, self.step, known.ending.retold)

    def runs_to_watch(self, peer: str, patience_seconds: float) -> list[bytes]:
        """The open runs in which the peer must be watched; waits a while if there are none."""
        with self._changed:
            if not self._runs.watched(peer) and not self._closed:
                self._changed.wait(patience_seconds)
            return self._runs.watched(peer)

    def heard(self, peer: str, run: bytes, incarnation: bytes, status: Status) -> None:
        """A peer answered a ping."""
        with self._changed:
            if run not in self._runs:
                return  # over, and forgotten meanwhile
            line = self._runs[run].lines[peer]
            line.peer_step = status.step
            line.incarnation = line.incarnation or incarnation
            if incarnation != line.incarnation:
                line.lost = line.lost or "it was restarted: begin a new attempt"
            line.finished = line.finished or status.state is RunState.FINISHED
            if status.state is RunState.ABORTED:
                self._runs.end(run, peer, status.reason)
            self._changed.notify_all()

    def lost(self, peer: str, run: bytes, reason: str) -> None:
        """A peer is gone."""
        with self._changed:
            if run in self._runs:
                line = self._runs[run].lines[peer]
                line.lost = line.lost or reason
            self._changed.notify_all()

    def aborted_by(self, peer: str, run: bytes, incarnation: bytes, reason: str) -> None:
        """A process of a peer ended a run, or took its greetings back."""
        with self._changed:
            if run == RENDEZVOUS:
                self._withdraw(peer, incarnation, reason)
            else:
                self._runs.end(run, peer, reason)
            self._changed.notify_all()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _refuse_closed(self) -> None:
        if self._closed:
            raise WireError("the transport is closed")

    def _whereabouts(self, run: bytes, peer: str) -> str:
        return f"{peer} ({self._runs.open(run).lines[peer].peer_step})"

    def _waiting(self, what: Callable[[], str]) -> Iterator[None]:
        """Loop until the caller leaves it: each turn follows a change or a short pause; long waits are reported."""
        check = reported(self._refuse_closed, what, self._on_progress)
        while True:
            check()
            yield
            self._changed.wait(POLL_SECONDS)

    def _await_sink(self, peer: str, run: bytes, line: Line, sink: Sink) -> None:
        for _ in self._waiting(lambda: f"{peer} ({line.peer_step})"):
            if sink.error is not None:
                raise sink.error
            if line.arrived and not sink.filling and not sink.done:  # done: what has arrived since is for the next one
                self._deliver_stored(line, sink)
            if sink.done:
                return
            if not sink.filling:
                self.check(run, peer)
                if line.finished and not line.busy:
                    raise PeerLost(peer, line.peer_step, f"it finished the run without sending {sink.step!r}")
            else:
                self._runs.open(run)

    def _deliver_stored(self, line: Line, sink: Sink) -> None:
        step, payload = line.arrived.popleft()
        refusal = sink.refusal(step, len(payload))
        if refusal is not None:
            raise WireError(refusal)
        sink.room(len(payload))[:] = payload
        sink.done = True
        self._changed.notify_all()  # there is room for one more

    def _accept_greeting(self, peer: str, header: Header, fill: Fill) -> None:
        if header.step not in RENDEZVOUS_STEPS or header.length > INLINE_BYTES:
            raise WireError(f"{header.step!r} of {header.length} bytes is no greeting")
        payload = bytearray(header.length)
        fill(memoryview(payload))
        with self._changed:
            self._greetings[peer, header.step] = (header.incarnation, bytes(payload))
            self._withdrawn.pop(peer, None)
            self._changed.notify_all()

    def _withdraw(self, peer: str, incarnation: bytes, reason: str) -> None:
        for key in [key for key, (sender, _) in self._greetings.items() if key[0] == peer and sender == incarnation]:
            del self._greetings[key]
        if self._met.get(peer) == incarnation:
            self._withdrawn[peer] = reason
            for run, known in self._runs.items():
                if known.state is RunState.OPEN:
                    self._runs.end(run, peer, reason)

    @contextmanager
    def _known_sender(self, peer: str, header: Header, check: Check) -> Iterator[Line]:
        """The line of the process that is the peer in this run, which is awaited; under the lock."""
        self._await_begin(header.run, check)
        with self._changed:
            line = self._runs.open(header.run).lines[peer]
            line.incarnation = line.incarnation or header.incarnation
            if header.incarnation != line.incarnation:
                raise WireError("it comes from another process than the run's: begin a new attempt")
            yield line

    @contextmanager
    def _admitted(self, peer: str, header: Header, check: Check) -> Iterator[Line]:
        """The line of a message that is the next one of its sender; only one message at a time is in it."""
        with self._known_sender(peer, header, check) as line:
            refusal = line.disorder(header)
            if refusal is not None:
                raise WireError(refusal)
            line.busy = True
        try:
            yield line
            with self._changed:
                line.next_sequence += 1
                line.steps.add(header.step)
        finally:
            with self._changed:
                line.busy = False
                self._changed.notify_all()

    def _await_begin(self, run: bytes, check: Check) -> None:
        deadline = time.monotonic() + self._timeout_seconds

        def begun() -> bool:
            if run not in self._runs and time.monotonic() > deadline:
                raise WireError("no such run here: it is over, or was never begun")
            return run in self._runs

        self._until(begun, check)

    def _until(self, holds: Callable[[], bool], check: Check) -> None:
        """Wait until `holds()`, asked under the lock after every change; `check` is called without it."""
        while True:
            check()
            with self._changed:
                self._refuse_closed()
                if holds():
                    return
                self._changed.wait(POLL_SECONDS)

    def _store(self, line: Line, header: Header, fill: Fill, check: Check) -> None:
        payload = bytearray(header.length)
        fill(memoryview(payload))

        def stored() -> bool:
            self._runs.open(header.run)
            if len(line.arrived) >= _MAX_WAITING:
                return False
            line.arrived.append((header.step, memoryview(payload)))
            self._changed.notify_all()
            return True

        self._until(stored, check)

    def _hand_over(self, peer: str, line: Line, header: Header, fill: Fill, check: Check) -> None:
        """Let the payload flow straight into the memory of the receive that waits for it."""
        sink = self._await_receiver(line, header, check)
        try:
            fill(sink.room(header.length))
        except (ConnectionError, TimeoutError):
            sink.broke_off = True
            sink.error = PeerLost(peer, header.step, "its message broke off: begin a new attempt")
            raise
        else:
            sink.done = True
        finally:
            with self._changed:
                sink.filling = False
                self._changed.notify_all()

    def _await_receiver(self, line: Line, header: Header, check: Check) -> Sink:
        claimed: list[Sink] = []

        def waits() -> bool:
            self._runs.open(header.run)
            sink = line.sink
            if sink is None or line.arrived or sink.done or sink.error is not None:
                return False
            refusal = sink.refusal(header.step, header.length)
            if refusal is not None:
                sink.error = WireError(refusal)
                self._changed.notify_all()
                raise WireError(refusal)
            sink.filling = True
            claimed.append(sink)
            return True

        self._until(waits, check)
        return claimed[0]
