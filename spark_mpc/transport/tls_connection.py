"""One mutually authenticated TLS connection, and the frames on it.

Both ends trust exactly the certificates that the federation file pins: after the handshake the peer's certificate is
compared with them byte for byte, and its dates are checked against this party's clock.
"""

from __future__ import annotations

import datetime
import errno
import os
import socket
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from spark_mpc.errors import CertificateRefused, WireError
from spark_mpc.identity import Identity
from spark_mpc.transport.mailbox import POLL_SECONDS
from spark_mpc.transport.waits import Check
from spark_mpc.wire import PREFIX_BYTES, Header, decode_header, encode_header, step_bytes

__all__ = ["Connection", "client_context", "dial", "pinned_owner", "server_context", "tune"]

_CHUNK_BYTES = 1 << 20
_KEEPALIVE_SECONDS = 30
_UNSENT_BYTES = 1 << 18
"""So much waits in the kernel for the network to take it: megabytes there would leave the cache before they are sent.
What is under way is not limited by this, so that long ways lose nothing."""


def server_context(me: Identity, pinned: Iterable[str]) -> ssl.SSLContext:
    """TLS 1.3 that demands one of the pinned certificates (PEM) from whoever dials."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, me, pinned)
    context.num_tickets = 0  # no resumption: every connection shows its certificate
    return context


def client_context(me: Identity, pinned: Iterable[str]) -> ssl.SSLContext:
    """TLS 1.3 that demands one of the pinned certificates (PEM), for the name that is dialled."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, me, pinned)
    context.check_hostname = True
    return context


def pinned_owner(channel: ssl.SSLSocket, owners: Mapping[bytes, str], peer: str) -> str:
    """The party whose pinned certificate (DER -> name) the other end showed, exactly and within its dates.

    Args:
        channel: after the handshake.
        owners: the certificates that may be shown.
        peer: how to call the other end in an error.

    Raises:
        CertificateRefused: another certificate, or out of date.
    """
    shown = channel.getpeercert(binary_form=True)
    if shown is None or shown not in owners:
        raise CertificateRefused(peer, "it is not pinned in the federation file: compare the files")
    certificate = x509.load_der_x509_certificate(shown)
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateRefused(peer, f"valid {dates}: make a new one with `spark-mpc init`, or set the clock")
    return owners[shown]


class _Channel(ssl.SSLSocket):
    """A TLS socket that is closed if the other end has gone before the handshake; Python's own stays open then, and may
    be handed out without one.
    """

    def getpeername(self) -> object:
        """The other end's address. Python asks for it before the handshake, and only then.

        Raises:
            ConnectionResetError: the other end has gone; the socket is closed.
        """
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, error.strerror) from None


class Connection:
    """Frames over an authenticated channel; reads and writes give way to `check` while they wait. Also a `Pipe`.

    Args:
        channel: after the handshake; owned by the connection from now on.
        peer: the party at the other end.
    """

    def __init__(self, channel: ssl.SSLSocket, peer: str) -> None:
        self.peer = peer
        self._channel = channel
        channel.settimeout(POLL_SECONDS)

    def write(self, data: bytes | memoryview, check: Check) -> None:
        """Send all of `data`.

        Raises:
            ConnectionError: the other end is gone.
        """
        view = memoryview(data)
        while view:
            try:
                sent = self._channel.send(view[:_CHUNK_BYTES])
            except TimeoutError:
                check()
                continue
            except ssl.SSLError as error:
                raise self._broken(error) from None
            view = view[sent:]

    def read_into(self, view: memoryview, check: Check) -> None:
        """Fill `view`.

        Raises:
            ConnectionError: the other end is gone, or the stream ends early.
        """
        while view:
            try:
                view = view[self.read_some(view[:_CHUNK_BYTES]) :]
            except TimeoutError:
                check()

    def read(self, length: int, check: Check) -> bytes:
        """Read `length` bytes, which the caller has found acceptable."""
        data = bytearray(length)
        self.read_into(memoryview(data), check)
        return bytes(data)

    def read_header(self, check: Check) -> Header:
        """Read one header.

        Raises:
            WireError: what comes is no header.
        """
        prefix = self.read(PREFIX_BYTES, check)
        return decode_header(prefix + self.read(step_bytes(prefix), check))

    def write_frame(self, header: Header, payload: bytes | memoryview, check: Check) -> None:
        """Send a header with a short payload, in one piece."""
        self.write(encode_header(header) + bytes(payload), check)

    def read_short(self, header: Header, max_bytes: int, check: Check) -> bytes:
        """Read the payload of a frame that must be short.

        Raises:
            WireError: longer than `max_bytes`.
        """
        if header.length > max_bytes:
            raise WireError(f"{header.kind.name} declares {header.length} bytes, at most {max_bytes} are accepted")
        return self.read(header.length, check)

    def read_some(self, room: memoryview) -> int:
        """See `Pipe.read_some`."""
        try:
            received = self._channel.recv_into(room)
        except ssl.SSLError as error:
            raise self._broken(error) from None
        if received == 0:
            raise ConnectionResetError("the stream ended")
        return received

    def write_only(self) -> Self:
        """From now on for a stream's writer, and `write_some`: nothing here waits any more."""
        self._channel.settimeout(0.0)
        return self

    def write_some(self, data: memoryview) -> int:
        """See `Pipe.write_some`."""
        try:
            return self._channel.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except ssl.SSLError as error:
            raise self._broken(error) from None

    def write_all(self, data: memoryview) -> None:
        """See `Pipe.write_all`."""
        self._channel.settimeout(None)
        try:
            self._channel.sendall(data)
        except ssl.SSLError as error:
            raise self._broken(error) from None
        self._channel.settimeout(0.0)

    def interrupt(self) -> None:
        """End the connection from any thread; whoever reads or writes on it gets a ConnectionError."""
        try:
            socket.socket.shutdown(self._channel, socket.SHUT_RDWR)  # the kernel's: TLS state belongs to its user
        except OSError:
            return  # it is closed already

    def _broken(self, error: ssl.SSLError) -> CertificateRefused | ConnectionResetError:
        reason = error.reason or ""
        if "CERT" in reason or "UNKNOWN_CA" in reason:  # under TLS 1.3 the client learns it after the handshake
            return CertificateRefused(self.peer, f"it does not accept ours ({reason}): compare the federation files")
        return ConnectionResetError(reason)

    def close(self) -> None:
        """Close it; only for the thread that uses it."""
        self.interrupt()
        self._channel.close()


def dial(
    address: tuple[str, int], name: str, context: ssl.SSLContext, owners: Mapping[bytes, str], timeout_seconds: float
) -> Connection:
    """Connect to a party and make sure that it is that party.

    Raises:
        CertificateRefused: it is not.
        ConnectionError, TimeoutError: it cannot be reached; refused when nothing listens there.
    """
    raw = _connect(address, timeout_seconds)
    try:
        tune(raw)
        channel = context.wrap_socket(raw, server_hostname=name)
    except OSError as error:
        raw.close()
        raise _no_handshake(name, error) from None
    try:
        pinned_owner(channel, owners, name)
    except CertificateRefused:
        channel.close()
        raise
    return Connection(channel, name)


def tune(raw: socket.socket) -> None:
    """No delay for small frames; little that waits unsent; probes, so that no idle connection is forgotten."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    if hasattr(socket, "TCP_KEEPIDLE"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)


def _no_handshake(name: str, error: OSError) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateRefused(name, f"{error.verify_message}: is this its address, and is its file the same?")
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return error if isinstance(error, ConnectionError | TimeoutError) else ConnectionResetError(str(error))
    return CertificateRefused(name, f"no mutual TLS at its address ({error.reason}): does another service answer?")


def _connect(address: tuple[str, int], timeout_seconds: float) -> socket.socket:
    try:
        return socket.create_connection(address, timeout_seconds)
    except socket.gaierror as error:
        raise ConnectionRefusedError(f"{address[0]}: {error.strerror}") from None
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:  # no route to the host, network unreachable
        raise ConnectionRefusedError(str(error)) from None


def _context(protocol: ssl._SSLMethod, me: Identity, pinned: Iterable[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.sslsocket_class = _Channel
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # A pinned certificate is an anchor itself; without this, of two pinned for one name only the first is found.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for pem in pinned:
        context.load_verify_locations(cadata=pem)
    _load_key(context, me)
    return context


def _load_key(context: ssl.SSLContext, me: Identity) -> None:
    # The standard library reads keys from files only; this one is encrypted under a password that is forgotten.
    password = os.urandom(32).hex().encode("ascii")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.write_bytes(me.key_pem(serialization.BestAvailableEncryption(password)) + me.certificate.encode("ascii"))
        context.load_cert_chain(path, password=password)
