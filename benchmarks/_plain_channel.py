"""Our streams without TLS and without heartbeats, to be measured beside the real ones: three processes on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from spark_mpc.errors import PeerLost
from spark_mpc.transport.mailbox import POLL_SECONDS
from spark_mpc.transport.pipes import SocketPipe
from spark_mpc.transport.stream_ends import Incoming, Outgoing
from spark_mpc.transport.streams import PeerStreams, StreamChannel

__all__ = ["plain_channel"]

_CONNECT_SECONDS = 60.0


def plain_channel(me: int, ports: Sequence[int]) -> StreamChannel:
    """The channel of party `me`, once all three parties have called this; to be closed.

    Args:
        me: 0, 1 or 2.
        ports: where each party listens on 127.0.0.1.

    Raises:
        PeerLost: a party does not come within a minute.
    """
    others = [number for number in range(len(ports)) if number != me]
    with socket.create_server(("127.0.0.1", ports[me])) as listener:
        listener.settimeout(_CONNECT_SECONDS)
        dialled = {number: _dial(me, number, ports[number]) for number in others}
        accepted = dict(_accept(listener) for _ in others)
    peers = {}
    for number in others:
        watch = _Unwatched(number)
        outgoing = Outgoing(SocketPipe(dialled[number], 0.0), watch)
        peers[number] = PeerStreams(outgoing, Incoming(SocketPipe(accepted[number], POLL_SECONDS), watch), watch)
    return _PlainChannel(me, peers)


def _dial(me: int, peer: int, port: int) -> socket.socket:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            dialled = socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise PeerLost(str(peer), "start", f"nothing listens on port {port}: start it") from None
            time.sleep(POLL_SECONDS)
            continue
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialled.sendall(bytes([me]))
        return dialled


def _accept(listener: socket.socket) -> tuple[int, socket.socket]:
    accepted, _ = listener.accept()
    (number,) = accepted.recv(1)
    return number, accepted


class _PlainChannel(StreamChannel):
    """Nobody compares transcripts at its end, so that what is queued still has to go."""

    def close(self) -> None:
        """Send what is queued, then end the streams."""
        self.drain()
        super().close()


class _Unwatched:
    """A `Watch` that sees nothing: a peer that is gone is noticed when its stream ends, a silent one never."""

    def __init__(self, peer: int) -> None:
        self._peer = str(peer)

    def check(self) -> None:
        """The run is never over."""

    def patience(self) -> Callable[[], None]:
        """See `Watch.patience`."""
        return self.check

    def broke(self, step: str) -> NoReturn:
        """See `Watch.broke`."""
        raise PeerLost(self._peer, step, "its stream ended")

    def sent(self, _step: str, _payload: memoryview) -> None:
        """Nobody counts."""

    def received(self, _length: int) -> None:
        """Nobody counts."""
