"""A transport over any link: numbering, counting, retries and heartbeats; the link only moves frames."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

from dp.errors import InvalidArgument
from spark_mpc.errors import AbortedByPeer, FederationError, PeerLost, WireError
from spark_mpc.transport.base import RENDEZVOUS, RENDEZVOUS_STEPS, Pipe, Progress, Streams, Tap, Traffic
from spark_mpc.transport.heartbeat import Heartbeat
from spark_mpc.transport.mailbox import Mailbox
from spark_mpc.transport.run_streams import RunStreams
from spark_mpc.transport.runs import Sink
from spark_mpc.transport.waits import Check
from spark_mpc.wire import INCARNATION_BYTES, INLINE_BYTES, Header, Kind, Status, encode_header

__all__ = ["Endpoint", "Link", "quiet", "untapped"]

T = TypeVar("T")


def quiet(_: str) -> None:
    """Progress that nobody reads."""


def untapped(_peer: str, _run: bytes, _step: str, _payload: memoryview) -> None:
    """A tap that nobody listens to."""


class Link(Protocol):
    """Moves single frames to a peer, and what peers send into the mailbox; says plainly when it cannot.

    `ConnectionRefusedError` means that no process of the peer listens; any other `ConnectionError` that one went away
    in the middle; `TimeoutError` that it is silent.
    """

    def start(self, mailbox: Mailbox, incarnation: bytes) -> None:
        """Listen, and bring what comes to the mailbox."""

    def close(self) -> None:
        """Stop listening and drop every connection."""

    def drop(self, run: bytes) -> None:
        """Drop the connections of a run."""

    def deliver(self, peer: str, header: Header, payload: memoryview, check: Check) -> bytes:
        """Bring one message; returns the process that took it.

        Raises:
            ConnectionError, TimeoutError: as the class says.
            WireError, AbortedByPeer, CertificateRefused: the peer's answer.
            Exception: what `check` raises, which is called while waiting.
        """

    def dial(self, peer: str, header: Header, check: Check) -> Pipe:
        """Open the stream of a run to the peer, once the peer has accepted it.

        Raises:
            ConnectionError, TimeoutError, WireError, AbortedByPeer, CertificateRefused, Exception: as for `deliver`.
        """

    def ping(self, peer: str, run: bytes, timeout_seconds: float) -> tuple[bytes, Status]:
        """Ask the peer about the run: (its process, status).

        Raises:
            ConnectionError, TimeoutError, CertificateRefused: as for `deliver`.
        """

    def abort(self, peer: str, run: bytes, reason: str, timeout_seconds: float) -> None:
        """Tell the peer that the run is over, or that greetings are taken back.

        Raises:
            ConnectionError, TimeoutError, CertificateRefused: as for `deliver`.
        """


class Endpoint:
    """A `Transport` (see there for guarantees) over a link.

    Args:
        me: this party.
        peers: the others.
        link: what moves the frames.
        timeout_seconds: a peer that is silent for longer is lost.
        rendezvous_seconds: how long a greeting waits for the peer to start.
        on_progress: told what a long wait is waiting for.
        tap: told everything that is sent.
    """

    def __init__(
        self,
        me: str,
        peers: tuple[str, ...],
        link: Link,
        *,
        timeout_seconds: float,
        rendezvous_seconds: float,
        on_progress: Progress = quiet,
        tap: Tap = untapped,
    ) -> None:
        self._me = me
        self._peers = tuple(sorted(peers))
        self.link = link
        self.incarnation = os.urandom(INCARNATION_BYTES)
        self._timeout_seconds = timeout_seconds
        self._tap = tap
        self._mailbox = Mailbox(self._peers, timeout_seconds, rendezvous_seconds, on_progress)
        self._lanes: dict[tuple[str, bytes], threading.Lock] = {}
        self._sequences: defaultdict[tuple[str, bytes], int] = defaultdict(int)
        self._greetings: dict[tuple[str, str], tuple[bytes, bytes]] = {}  # who took which of our greetings
        self._heartbeats: list[Heartbeat] = []

    @property
    def me(self) -> str:
        """This party's name."""
        return self._me

    @property
    def peers(self) -> tuple[str, ...]:
        """The other parties' names, sorted."""
        return self._peers

    def start(self) -> None:
        """Start to listen and to watch."""
        self.link.start(self._mailbox, self.incarnation)
        self._heartbeats = [
            Heartbeat(peer, self.link.ping, self._mailbox, self._timeout_seconds) for peer in self._peers
        ]
        for heartbeat in self._heartbeats:
            heartbeat.start()

    def close(self) -> None:
        """Stop listening and watching; idempotent."""
        self._mailbox.close()
        self.link.close()
        for heartbeat in self._heartbeats:
            heartbeat.stop()
        self._heartbeats = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, run: bytes) -> None:
        """See `Transport.begin`."""
        self._mailbox.begin(run)

    def finish(self, run: bytes) -> None:
        """See `Transport.finish`."""
        self._mailbox.finish(run)
        self._drop(run)

    def send(self, peer: str, run: bytes, step: str, payload: bytes | memoryview) -> None:
        """See `Transport.send`."""
        self._require_peer(peer)
        content = memoryview(payload).cast("B")
        if run == RENDEZVOUS:
            self._require_greeting(step, len(content))
            self._greet(peer, step, bytes(content))
            return
        with self._lanes.setdefault((peer, run), threading.Lock()):
            self._mailbox.check(run, peer)
            header = self._header(run, step, self._sequences[peer, run], len(content))
            self._tap(peer, run, step, content)
            self._deliver(peer, header, content)
            self._sequences[peer, run] += 1
        self._mailbox.sent(run, len(content))

    def receive(self, peer: str, run: bytes, step: str, max_bytes: int) -> bytes:
        """See `Transport.receive`."""
        self._require_peer(peer)
        if run == RENDEZVOUS:
            return self._receive_greeting(peer, step, max_bytes)
        sink = Sink(step, max_bytes)
        self._take(peer, run, sink)
        return bytes(sink.result)

    def receive_into(self, peer: str, run: bytes, step: str, buffer: memoryview) -> None:
        """See `Transport.receive_into`."""
        self._require_peer(peer)
        view = buffer.cast("B")
        if view.readonly:
            raise InvalidArgument("buffer", "read-only", "give memory that can be written")
        self._take(peer, run, Sink(step, len(view), view))

    def streams(self, peer: str, run: bytes) -> Streams:
        """See `Transport.streams`."""
        self._require_peer(peer)
        header = Header(Kind.STREAM, run, "stream", self.incarnation)

        def dial() -> Pipe:
            self._mailbox.check(run, peer)
            return self._insist(peer, header, lambda check: self.link.dial(peer, header, check))

        return RunStreams(peer, run, self._mailbox, dial=dial, ask=partial(self._ask, peer, run), tap=self._tap)

    def check(self, run: bytes) -> None:
        """See `Transport.check`."""
        self._mailbox.check_all(run)

    def abort(self, run: bytes, reason: str) -> None:
        """See `Transport.abort`."""
        self._mailbox.abort(run, reason)
        if run == RENDEZVOUS:
            self._greetings.clear()
        deadline = min(1.0, self._timeout_seconds)
        tellers = [threading.Thread(target=self._tell, args=(peer, run, reason, deadline)) for peer in self._peers]
        for teller in tellers:
            teller.start()
        for teller in tellers:
            teller.join()
        self._drop(run)

    def step(self, name: str) -> None:
        """See `Transport.step`."""
        encode_header(self._header(RENDEZVOUS, name))  # refuses what is no label
        self._mailbox.step = name

    def traffic(self, run: bytes) -> Traffic:
        """See `Transport.traffic`."""
        return self._mailbox.traffic(run)

    def _require_peer(self, peer: str) -> None:
        if peer not in self._peers:
            raise InvalidArgument("peer", peer, f"the peers are {', '.join(self._peers)}")

    @staticmethod
    def _require_greeting(step: str, length: int) -> None:
        if step not in RENDEZVOUS_STEPS or length > INLINE_BYTES:
            raise WireError(f"a greeting is one of {', '.join(RENDEZVOUS_STEPS)}, of at most {INLINE_BYTES} bytes")

    def _header(self, run: bytes, step: str, sequence: int = 0, length: int = 0) -> Header:
        return Header(Kind.MESSAGE, run, step, self.incarnation, sequence, length)

    def _deliver(self, peer: str, header: Header, content: memoryview) -> bytes:
        return self._insist(peer, header, lambda check: self.link.deliver(peer, header, content, check))

    def _insist(self, peer: str, header: Header, act: Callable[[Check], T]) -> T:
        """Let the link act until the peer takes or refuses what it brings, or is lost."""

        def check() -> None:
            self._mailbox.check(header.run, peer)

        while True:
            try:
                return act(check)
            except ConnectionRefusedError:
                self._mailbox.pause()  # not up, or gone: the heartbeats decide
                check()
            except (ConnectionError, TimeoutError):
                self._ask(peer, header.run)
                check()
                raise PeerLost(peer, header.step, "the connection broke: begin a new attempt") from None
            except AbortedByPeer as error:
                self._mailbox.aborted_by(peer, header.run, self.incarnation, error.reason)
                raise

    def _take(self, peer: str, run: bytes, sink: Sink) -> None:
        try:
            self._mailbox.take(peer, run, sink)
        except PeerLost:
            if sink.broke_off:
                self._ask(peer, run)
                self._mailbox.check_open(run)
            raise

    def _ask(self, peer: str, run: bytes) -> bool:
        """Look why a connection broke: the peer may have aborted, for instance because this process was stopped.

        Returns:
            Whether the peer answers.
        """
        with suppress(OSError, FederationError):
            self._mailbox.heard(peer, run, *self.link.ping(peer, run, min(1.0, self._timeout_seconds)))
            return True
        return False

    def _greet(self, peer: str, step: str, payload: bytes) -> None:
        header = self._header(RENDEZVOUS, step, length=len(payload))
        self._tap(peer, RENDEZVOUS, step, memoryview(payload))
        check = self._mailbox.deadline(peer)
        while True:
            try:
                taker = self.link.deliver(peer, header, memoryview(payload), check)
                break
            except (ConnectionError, TimeoutError):
                self._mailbox.pause()
                check()
        self._greetings[peer, step] = (taker, payload)

    def _receive_greeting(self, peer: str, step: str, max_bytes: int) -> bytes:
        sender, payload = self._mailbox.take_greeting(peer, step)
        taker, mine = self._greetings.get((peer, step), (sender, b""))
        if taker != sender:  # the process that took our greeting is gone; the one that runs now waits for it
            self._greet(peer, step, mine)
        if len(payload) > max_bytes:
            raise WireError(f"the greeting of {peer} has {len(payload)} bytes, at most {max_bytes} are accepted")
        return payload

    def _tell(self, peer: str, run: bytes, reason: str, timeout_seconds: float) -> None:
        with suppress(OSError, FederationError):  # who cannot be told finds out by its heartbeats
            self.link.abort(peer, run, reason, timeout_seconds)

    def _drop(self, run: bytes) -> None:
        self.link.drop(run)
        for peer in self._peers:
            self._lanes.pop((peer, run), None)
            self._sequences.pop((peer, run), None)
