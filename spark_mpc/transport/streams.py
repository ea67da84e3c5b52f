"""Long-lived streams for protocols in lockstep: a `Channel` between three compute parties, over any transport.

Within a run, each party dials one stream to each of the two others and uses it one way. No message is acknowledged;
whoever receives reads straight from the stream, without a thread in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.protocols.channel import Meter
from spark_mpc.transport.base import Watch
from spark_mpc.transport.pipes import Incoming, Outgoing

__all__ = ["PeerStreams", "StreamChannel", "open_channel"]


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

    def close(self) -> None:
        """End the streams; what is still queued is not sent. Idempotent; `open_channel` verifies before it."""
        while self._peers:
            _, streams = self._peers.popitem()
            streams.outgoing.close()
            streams.incoming.close()

    def _peer(self, number: int) -> PeerStreams:
        if number not in self._peers:
            raise InvalidArgument("party", number, f"the peers are {', '.join(map(str, sorted(self._peers)))}")
        return self._peers[number]


def _bytes_of(data: NDArray[Any]) -> memoryview:
    if not data.flags.c_contiguous:
        raise InvalidArgument("data", f"strides {data.strides}", "give a contiguous array")
    return data.reshape(-1).view(np.uint8).data
