"""The listening side of mutual TLS: lets pinned peers in, and answers their frames out of the mailbox."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Mapping

from spark_mpc.errors import FederationError, RunAborted, WireError
from spark_mpc.identity import Identity
from spark_mpc.transport.base import RENDEZVOUS
from spark_mpc.transport.mailbox import POLL_SECONDS, Mailbox
from spark_mpc.transport.tls_channel import TlsChannel
from spark_mpc.transport.tls_connection import Connection, pinned_owner, server_context, tune
from spark_mpc.wire import INLINE_BYTES, Header, Kind, decode_reason, encode_reason, encode_status

__all__ = ["TlsServer"]

_HANDSHAKE_SECONDS = 10.0
_MAX_HANDSHAKES = 64  # strangers can hold no more threads than this, each for ten seconds
_MAX_CONNECTIONS_PER_PEER = 64
_FAREWELL_SECONDS = 2.0
_MAX_REASON_BYTES = 1024


class TlsServer:
    """Listens on one address.

    Args:
        address: (host, port).
        me: this party.
        pinned: the peers' certificates, PEM.
        owners: the same, DER -> name.
        mailbox: where messages go.
        incarnation: names this process.
    """

    def __init__(
        self,
        address: tuple[str, int],
        me: Identity,
        pinned: Iterable[str],
        owners: Mapping[bytes, str],
        *,
        mailbox: Mailbox,
        incarnation: bytes,
    ) -> None:
        self._address = address
        self._context = server_context(me, pinned)
        self._owners = owners
        self._mailbox = mailbox
        self._incarnation = incarnation
        self._closing = threading.Event()
        self._handshakes = threading.BoundedSemaphore(_MAX_HANDSHAKES)
        self._guard = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._acceptor = threading.Thread(target=self._accept, name="transport: accept", daemon=True)
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            FederationError: the address cannot be listened on.
        """
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=_MAX_HANDSHAKES)
        except OSError as error:
            raise FederationError(
                f"address={host}:{port}: {error.strerror}: is another process of this party running?"
            ) from None
        self._listener.settimeout(POLL_SECONDS)
        self._acceptor.start()

    def close(self) -> None:
        """Stop listening, finish the answers that are due, and end every connection."""
        self._closing.set()
        if self._listener is None:
            return
        self._acceptor.join()
        self._listener.close()
        with self._guard:
            remaining = dict(self._connections)
        patience = time.monotonic() + _FAREWELL_SECONDS  # a message that was taken gets its answer
        for thread in remaining.values():
            thread.join(max(0.0, patience - time.monotonic()))
        for connection in remaining:
            connection.interrupt()
        for thread in remaining.values():
            thread.join()

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # the caller went away, or this process has no file descriptors left
                self._closing.wait(POLL_SECONDS)
                continue
            if not self._handshakes.acquire(blocking=False):
                raw.close()
                continue
            threading.Thread(target=self._serve, args=(raw,), name="transport: serve", daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            connection = self._let_in(raw)
        finally:
            self._handshakes.release()
        if connection is None:
            return
        lent = False
        try:
            lent = self._converse(connection)
        except (OSError, FederationError):
            pass  # the connection is given up; whoever waits for the peer learns it from its heartbeats
        finally:
            with self._guard:
                self._connections.pop(connection, None)
            if not lent:
                connection.close()

    def _let_in(self, raw: socket.socket) -> Connection | None:
        """The connection, registered under its peer; None for whoever is not a pinned peer."""
        channel: socket.socket | TlsChannel = raw
        try:
            raw.settimeout(_HANDSHAKE_SECONDS)
            tune(raw)
            channel = tls = TlsChannel(raw, self._context, None)
            connection = Connection(tls, pinned_owner(tls, self._owners, "a caller"))
        except (OSError, FederationError):
            channel.close()
            return None
        with self._guard:
            crowd = sum(other.peer == connection.peer for other in self._connections)
            if not self._closing.is_set() and crowd < _MAX_CONNECTIONS_PER_PEER:
                self._connections[connection] = threading.current_thread()
                return connection
        connection.close()
        return None

    def _converse(self, connection: Connection) -> bool:
        """Answer frames until the connection breaks; returns when it is lent to the mailbox as a stream."""
        self._reply(connection, Header(Kind.WELCOME, RENDEZVOUS, "welcome", self._incarnation), Kind.WELCOME)
        while True:
            try:
                header = connection.read_header(self._alive)
                if header.kind is Kind.STREAM and self._lend(connection, header):
                    return True
                if header.kind is not Kind.STREAM:
                    self._answer(connection, header)
            except WireError as error:
                malformed = Header(Kind.REFUSED, RENDEZVOUS, "refused", self._incarnation)
                self._reply(connection, malformed, Kind.REFUSED, encode_reason(str(error)))
                raise

    def _answer(self, connection: Connection, header: Header) -> None:
        if header.kind is Kind.MESSAGE:
            self._take(connection, header)
        elif header.kind is Kind.PING:
            connection.read_short(header, 0, self._alive)
            self._reply(connection, header, Kind.STATUS, encode_status(self._mailbox.status(header.run)))
        elif header.kind is Kind.ABORT:
            reason = decode_reason(connection.read_short(header, _MAX_REASON_BYTES, self._alive))
            self._mailbox.aborted_by(connection.peer, header.run, header.incarnation, reason)
            self._reply(connection, header, Kind.TAKEN)
        else:
            raise WireError(f"{header.kind.name} is no request")

    def _lend(self, connection: Connection, header: Header) -> bool:
        """Whether the mailbox has taken the connection: it carries a stream from now on, and no replies."""

        def welcome() -> Connection:
            self._reply(connection, header, Kind.TAKEN)
            return connection

        connection.read_short(header, 0, self._alive)
        try:
            self._mailbox.accept_stream(connection.peer, header, welcome, self._alive)
        except (WireError, RunAborted) as error:
            self._refuse(connection, header, error)
            return False
        return True

    def _take(self, connection: Connection, header: Header) -> None:
        inline = header.length <= INLINE_BYTES
        short = connection.read(header.length, self._alive) if inline else b""
        flowing = False

        def fill(buffer: memoryview) -> None:
            nonlocal flowing
            if inline:
                buffer[:] = short
                return
            self._reply(connection, header, Kind.READY)
            flowing = True
            connection.read_into(buffer, lambda: self._mailbox.check(header.run, connection.peer))

        try:
            self._mailbox.accept(connection.peer, header, fill, self._alive)
        except (WireError, RunAborted) as error:
            if flowing:
                raise ConnectionAbortedError from None  # the rest of the payload is not read
            self._refuse(connection, header, error)
        else:
            self._reply(connection, header, Kind.TAKEN)

    def _refuse(self, connection: Connection, header: Header, error: WireError | RunAborted) -> None:
        ended = isinstance(error, RunAborted)
        reason = error.retold if isinstance(error, RunAborted) else str(error)
        self._reply(connection, header, Kind.ABORT if ended else Kind.REFUSED, encode_reason(reason))

    def _reply(self, connection: Connection, header: Header, kind: Kind, payload: bytes = b"") -> None:
        reply = Header(kind, header.run, header.step, self._incarnation, header.sequence, len(payload))
        connection.write_frame(reply, payload, self._alive)

    def _alive(self) -> None:
        if self._closing.is_set():
            raise ConnectionAbortedError("the transport is closing")
