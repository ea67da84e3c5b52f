"""The transport between processes: one port per party, mutual TLS 1.3 on plain sockets, certificates pinned.

Each run has its own connection to each peer, heartbeats have another. Frames are answered one by one, so that whoever
sends knows that its message was taken. Bulk data is decrypted straight into the receiver's memory. A run's streams are
connections of their own, which carry nothing else and no answers.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from spark_mpc.errors import AbortedByPeer, CertificateRefused, WireError
from spark_mpc.federation_file import FederationFile, Peer, split_address
from spark_mpc.identity import Identity
from spark_mpc.transport.base import RENDEZVOUS, Progress, Tap
from spark_mpc.transport.endpoint import Endpoint, quiet, untapped
from spark_mpc.transport.mailbox import Mailbox
from spark_mpc.transport.tls_connection import Connection, client_context, dial
from spark_mpc.transport.tls_server import TlsServer
from spark_mpc.transport.waits import Check
from spark_mpc.wire import (
    INLINE_BYTES,
    Header,
    Kind,
    Status,
    decode_reason,
    decode_status,
    encode_header,
    encode_reason,
)

__all__ = ["tls_transport"]

_MAX_REPLY_BYTES = 8192
_DIAL_SECONDS = 10.0
_CONTROL = b"control"  # in the place of a run: the connection of the heartbeats


def tls_transport(
    me: Identity,
    federation: FederationFile,
    *,
    listen: str | None = None,
    on_progress: Progress = quiet,
    tap: Tap = untapped,
) -> Endpoint:
    """The transport of the party `me` in a federation; see `Transport`.

    It may be made before or after a SparkSession: it forks nothing and its sockets are not inherited.

    Args:
        me: the party, with its key.
        federation: the rules and the peers.
        listen: "host:port" to listen on where that is not the address in the file, such as "0.0.0.0:7001" behind NAT.
        on_progress: told what a long wait is waiting for.
        tap: told everything that is sent.

    Raises:
        InvalidArgument: the federation has no such party, or lists another certificate for it.
    """
    own = federation.peer(me.name)
    if me.certificate not in own.certificates:
        raise CertificateRefused(me.name, "the key's certificate is not in the federation file: run `spark-mpc init`")
    peers = {peer.name: peer for peer in federation.parties if peer.name != me.name}
    link = _TlsLink(me, peers, split_address(listen or own.address), federation.timeout_seconds)
    return Endpoint(
        me.name,
        tuple(peers),
        link,
        timeout_seconds=federation.timeout_seconds,
        rendezvous_seconds=federation.rendezvous_seconds,
        on_progress=on_progress,
        tap=tap,
    )


class _TlsLink:
    """See `Link`."""

    def __init__(
        self, me: Identity, peers: Mapping[str, Peer], listen: tuple[str, int], timeout_seconds: float
    ) -> None:
        self._me = me
        self._listen = listen
        self._dial_seconds = min(timeout_seconds, _DIAL_SECONDS)
        self._routes = {name: _Route(me, peer) for name, peer in peers.items()}
        self._owners = {der: name for name, route in self._routes.items() for der in route.owners}
        self._lanes: dict[tuple[str, bytes], _Lane] = {}
        self._guard = threading.Lock()
        self._incarnation = b""
        self._server: TlsServer | None = None

    def start(self, mailbox: Mailbox, incarnation: bytes) -> None:
        self._incarnation = incarnation
        pinned = [pem for route in self._routes.values() for pem in route.peer.certificates]
        self._server = TlsServer(self._listen, self._me, pinned, self._owners, mailbox=mailbox, incarnation=incarnation)
        self._server.start()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for run in {run for _, run in self._lanes}:
            self.drop(run)

    def drop(self, run: bytes) -> None:
        for key in [key for key in self._lanes.copy() if key[1] == run]:
            self._lanes.pop(key).end()

    def deliver(self, peer: str, header: Header, payload: memoryview, check: Check) -> bytes:
        greeting = header.run == RENDEZVOUS  # each on a connection of its own: the peer may restart in between
        try:
            lane = self._new_lane(peer, self._dial_seconds) if greeting else self._run_lane(peer, header.run)
        except (ConnectionError, TimeoutError) as error:
            raise ConnectionRefusedError(str(error)) from None  # nothing was sent yet: it may be tried again
        try:
            with lane.used() as connection:
                reply = _post(connection, header, payload, check)
                _judge(connection, header, reply, check)
        finally:
            if greeting:
                lane.end()
        return reply.incarnation

    def dial(self, peer: str, header: Header, check: Check) -> Connection:
        try:
            connection = self._dial(peer, self._dial_seconds)
        except (ConnectionError, TimeoutError) as error:
            raise ConnectionRefusedError(str(error)) from None  # it may be tried again
        try:
            _judge(connection, header, _post(connection, header, memoryview(b""), check), check)
        except BaseException:
            connection.close()
            raise
        return connection.write_only()

    def ping(self, peer: str, run: bytes, timeout_seconds: float) -> tuple[bytes, Status]:
        check = _within(timeout_seconds)
        with self._run_lane(peer, _CONTROL, timeout_seconds).used() as connection:
            connection.write_frame(Header(Kind.PING, run, "ping", self._incarnation), b"", check)
            reply = connection.read_header(check)
            if reply.kind is not Kind.STATUS:
                raise WireError(f"{peer} answered a ping with {reply.kind.name}")
            return reply.incarnation, decode_status(connection.read_short(reply, _MAX_REPLY_BYTES, check))

    def abort(self, peer: str, run: bytes, reason: str, timeout_seconds: float) -> None:
        check = _within(timeout_seconds)
        payload = encode_reason(reason)
        header = Header(Kind.ABORT, run, "abort", self._incarnation, length=len(payload))
        lane = self._new_lane(peer, timeout_seconds)
        try:
            with lane.used() as connection:
                connection.write_frame(header, payload, check)
                connection.read_header(check)
        finally:
            lane.end()

    def _run_lane(self, peer: str, run: bytes, timeout_seconds: float | None = None) -> _Lane:
        """The connection of a run to a peer."""
        lane = self._lanes.get((peer, run))
        if lane is not None and not lane.broken:
            return lane
        dialled = self._new_lane(peer, timeout_seconds or self._dial_seconds)
        with self._guard:
            lane = self._lanes.get((peer, run))
            if lane is None or lane.broken:
                lane = self._lanes[peer, run] = dialled
        if lane is not dialled:  # another thread was faster
            dialled.end()
        if self._server is None:  # closed while we dialled
            self.drop(run)
        return lane

    def _new_lane(self, peer: str, timeout_seconds: float) -> _Lane:
        return _Lane(self._dial(peer, timeout_seconds))

    def _dial(self, peer: str, timeout_seconds: float) -> Connection:
        if self._server is None:
            raise ConnectionAbortedError("the transport is closed")
        route = self._routes[peer]
        connection = dial(route.address, peer, route.context, route.owners, timeout_seconds)
        try:
            # Only now is it sure that the peer accepts our certificate too.
            welcome = connection.read_header(_within(timeout_seconds))
            if welcome.kind is not Kind.WELCOME:
                raise WireError(f"{peer} greeted with {welcome.kind.name}")
        except BaseException:
            connection.close()
            raise
        return connection


class _Route:
    """How to reach a peer, and whom to expect there."""

    def __init__(self, me: Identity, peer: Peer) -> None:
        self.peer = peer
        self.address = split_address(peer.address)
        self.context = client_context(me, peer.certificates)
        self.owners = {ssl.PEM_cert_to_DER_cert(pem): peer.name for pem in peer.certificates}


class _Lane:
    """A connection that one thread at a time uses, and any thread may end."""

    def __init__(self, connection: Connection) -> None:
        self.broken = False
        self._connection = connection
        self._lock = threading.Lock()

    @contextmanager
    def used(self) -> Iterator[Connection]:
        """The connection; an error in its use closes it, because it may stand in the middle of a frame."""
        with self._lock:
            try:
                if self.broken:
                    raise ConnectionAbortedError("the connection was dropped")
                yield self._connection
            except BaseException:
                self._close()
                raise

    def end(self) -> None:
        """Interrupt whoever uses it, and close it."""
        self._connection.interrupt()
        with self._lock:
            self._close()

    def _close(self) -> None:
        if not self.broken:
            self.broken = True
            self._connection.close()


def _post(connection: Connection, header: Header, payload: memoryview, check: Check) -> Header:
    """Send a message; returns the header of the answer to it."""
    if header.length <= INLINE_BYTES:
        connection.write_frame(header, payload, check)
        return connection.read_header(check)
    connection.write(encode_header(header), check)
    reply = connection.read_header(check)
    if reply.kind is not Kind.READY:
        return reply
    connection.write(payload, check)
    return connection.read_header(check)


def _judge(connection: Connection, header: Header, reply: Header, check: Check) -> None:
    if reply.kind is Kind.TAKEN:
        return
    reason = decode_reason(connection.read_short(reply, _MAX_REPLY_BYTES, check))
    if reply.kind is Kind.ABORT:
        raise AbortedByPeer(connection.peer, reason)
    raise WireError(f"{connection.peer} refuses {header.step!r}: {reason or reply.kind.name}")


def _within(seconds: float) -> Check:
    """A check that raises TimeoutError after so many seconds."""
    deadline = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer within {seconds:g} s")

    return check
