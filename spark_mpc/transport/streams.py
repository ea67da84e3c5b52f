"""Long-lived streams for protocols in lockstep: a `Channel` between three compute parties, over any transport.

Within a run, each party dials one stream to each of the two others and uses it one way. No message is acknowledged;
whoever receives reads straight from the stream, without a thread in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.errors import WireError
from spark_mpc.protocols.channel import Meter
from spark_mpc.transport.base import Transport, Watch
from spark_mpc.transport.stream_ends import Incoming, Outgoing

__all__ = ["PARTIES", "PeerStreams", "StreamChannel", "open_channel", "verify"]

PARTIES = 3
_TRANSCRIPT = "transcript"


@dataclass(frozen=True)
class PeerStreams:
    """The streams to and from one peer."""

    outgoing: Outgoing
    incoming: Incoming
    watch: Watch


class StreamChannel:
    """A `Channel` (see there for guarantees) over one stream each way with each peer; one thread uses it.

    Args:
        me: this party's number, 0, 1 or 2.
        peers: by their numbers; owned from now on.
    """

    def __init__(self, me: int, peers: Mapping[int, PeerStreams]) -> None:
        self._me = me
        self._peers = dict(peers)
        self._meter = Meter()

    @property
    def me(self) -> int:
        """This party's number."""
        return self._me

    @property
    def meter(self) -> Meter:
        """What was sent and received."""
        return self._meter

    def send(self, to: int, step: str, data: NDArray[Any]) -> None:
        """See `Channel.send`; `Outgoing` says when it waits.

        Raises:
            InvalidArgument: no peer, or not contiguous.
            WireError: `step` is no label.
            PeerLost, RunAborted, AbortedByPeer: the run is over.
        """
        peer = self._peer(to)
        payload = _bytes_of(data)
        peer.watch.sent(step, payload)
        peer.outgoing.send(step, self._meter.sent(len(payload)), payload)

    def receive(self, sender: int, step: str, out: NDArray[Any]) -> None:
        """See `Channel.receive`; `out` is undefined after an error.

        Raises:
            InvalidArgument: no peer, or an array that is not contiguous or cannot be written.
            WireError: another label, number or length.
            PeerLost, RunAborted, AbortedByPeer: the run is over.
        """
        peer = self._peer(sender)
        room = _bytes_of(out)
        if room.readonly:
            raise InvalidArgument("out", "read-only", "give memory that can be written")
        for other in self._peers.values():
            other.outgoing.raise_error()
        self._meter.received(peer.incoming.receive(step, room))
        peer.watch.received(len(room))

    def transcripts(self, peer: int) -> tuple[bytes, bytes]:
        """Digests of what was sent to a peer, and of what was received from it."""
        streams = self._peer(peer)
        return streams.outgoing.transcript.digest(), streams.incoming.transcript.digest()

    def drain(self) -> None:
        """Wait until everything that was sent is on its way, and is delivered even if this party closes."""
        for streams in self._peers.values():
            streams.outgoing.drain()

    def close(self) -> None:
        """End the streams; what is still queued is not sent. Idempotent; `open_channel` drains before it."""
        while self._peers:
            _, streams = self._peers.popitem()
            streams.outgoing.close()
            streams.incoming.close()

    def _peer(self, number: int) -> PeerStreams:
        if number not in self._peers:
            raise InvalidArgument("party", number, f"the peers are {', '.join(map(str, sorted(self._peers)))}")
        return self._peers[number]


@contextmanager
def open_channel(transport: Transport, run: bytes, parties: tuple[str, str, str]) -> Iterator[StreamChannel]:
    """The channel of this party in an open run; once in a run, by all three parties.

    Before anything follows from what was computed, let all parties `verify` that they saw the same messages. A
    `WireError` anywhere in the context ends the run for all; after any other error the caller ends it, as always.

    Args:
        transport: of this party.
        run: begun here; the peers' begin is awaited.
        parties: the three compute parties in their order; this one is among them.

    Raises:
        InvalidArgument: not three parties, or this one is not among them.
        WireError: a peer refuses.
        PeerLost, RunAborted, AbortedByPeer: the run is over.
    """
    if len(set(parties)) != PARTIES or transport.me not in parties:
        raise InvalidArgument("parties", parties, f"name the three compute parties, {transport.me} among them")
    names = {number: name for number, name in enumerate(parties) if name != transport.me}
    try:
        channel = StreamChannel(parties.index(transport.me), _connected(transport, run, names))
        try:
            yield channel
            channel.drain()
        finally:
            channel.close()
    except WireError as error:
        transport.abort(run, str(error))
        raise


def _connected(transport: Transport, run: bytes, names: Mapping[int, str]) -> dict[int, PeerStreams]:
    """The streams with every peer: all are dialled before the first is awaited."""
    watches = {number: transport.streams(name, run) for number, name in names.items()}
    with ExitStack() as opened:
        outgoing, incoming = {}, {}
        for number, watch in watches.items():
            outgoing[number] = Outgoing(watch.dial(), watch)
            opened.callback(outgoing[number].close)
        for number, watch in watches.items():
            incoming[number] = Incoming(watch.accept(), watch)
            opened.callback(incoming[number].close)
        opened.pop_all()
    return {number: PeerStreams(outgoing[number], incoming[number], watches[number]) for number in watches}


def verify(channel: StreamChannel, transport: Transport, run: bytes, parties: tuple[str, str, str]) -> None:
    """Make sure that every peer has received what this party sent so far, and the other way round.

    All three call it at the same point of their program. It finds faults, not adversaries.

    Raises:
        WireError: the transcripts differ.
        PeerLost, RunAborted, AbortedByPeer: the run is over.

    Cost: 1 round of 64 bytes to each peer.
    """
    names = {number: name for number, name in enumerate(parties) if name != transport.me}
    transcripts = {name: channel.transcripts(number) for number, name in names.items()}
    for peer, (sent, received) in transcripts.items():
        transport.send(peer, run, _TRANSCRIPT, sent + received)
    for peer, (sent, received) in transcripts.items():
        if transport.receive(peer, run, _TRANSCRIPT, len(sent + received)) != received + sent:
            raise WireError(f"transcripts differ: {transport.me} and {peer} have not seen the same messages")


def _bytes_of(data: NDArray[Any]) -> memoryview:
    if not data.flags.c_contiguous:
        raise InvalidArgument("data", f"strides {data.strides}", "give a contiguous array")
    return data.reshape(-1).view(np.uint8).data
