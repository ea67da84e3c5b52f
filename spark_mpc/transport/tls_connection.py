"""One mutually authenticated TLS connection, and the frames on it.

Both ends trust exactly the certificates that the federation file pins: after the handshake the peer's certificate is
compared with them byte for byte, and its dates are checked against this party's clock.
"""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from spark_mpc.errors import CertificateRefused, WireError
from spark_mpc.identity import Identity
from spark_mpc.transport.mailbox import POLL_SECONDS
from spark_mpc.transport.tls_channel import TlsChannel
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


def pinned_owner(channel: TlsChannel, owners: Mapping[bytes, str], peer: str) -> str:
    """The party whose pinned certificate (DER -> name) the other end showed, exactly and within its dates.

    Args:
        channel: after the handshake.
        owners: the certificates that may be shown.
        peer: how to call the other end in an error.

    Raises:
        CertificateRefused: another certificate, or out of date.
    """
    shown = channel.certificate
    if shown is None or shown not in owners:
        raise CertificateRefused(peer, "it is not pinned in the federation file: compare the files")
    certificate = x509.load_der_x509_certificate(shown)
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateRefused(peer, f"valid {dates}: make a new one with `spark-mpc init`, or set the clock")
    return owners[shown]


class Connection:
    """Frames over an authenticated channel; reads and writes give way to `check` while they wait. Also a `Pipe`.

    Args:
        channel: after the handshake; owned by the connection from now on.
        peer: the party at the other end.
    """

    def __init__(self, channel: TlsChannel, peer: str) -> None:
        self.peer = peer
        self._channel = channel
        channel.settimeout(POLL_SECONDS)

    def write(self, data: bytes | memoryview, check: Check) -> None:
        """Send all of `data`.

        Raises:
            ConnectionError: the other end is gone.
        """
        view, ask = memoryview(data), _now_and_then(check)
        while view:
            ask()
            try:
                sent = self._channel.send(view)
            except TimeoutError:
                continue
            except ssl.SSLError as error:
                raise self._broken(error) from None
            view = view[sent:]

    def read_into(self, view: memoryview, check: Check) -> None:
        """Fill `view`.

        Raises:
            ConnectionError: the other end is gone, or the stream ends early.
        """
        ask = _now_and_then(check)
        while view:
            ask()
            with suppress(TimeoutError):
                view = view[self.read_some(view[:_CHUNK_BYTES]) :]

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
            return self._channel.recv_into(room)
        except ssl.SSLError as error:
            raise self._broken(error) from None

    def write_only(self) -> Self:
        """From now on for a stream's writer, and `write_some`: nothing here waits any more."""
        self._channel.settimeout(0.0)
        return self

    def write_some(self, data: memoryview) -> int:
        """See `Pipe.write_some`."""
        try:
            return self._channel.send(data)
        except BlockingIOError:
            return 0
        except ssl.SSLError as error:
            raise self._broken(error) from None

    def write_all(self, data: memoryview) -> None:
        """See `Pipe.write_all`."""
        self._channel.settimeout(None)
        try:
            while data:
                data = data[self._channel.send(data) :]
        except ssl.SSLError as error:
            raise self._broken(error) from None
        self._channel.settimeout(0.0)

    def interrupt(self) -> None:
        """End the connection from any thread; whoever reads or writes on it gets a ConnectionError."""
        try:
            self._channel.shutdown()
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


def _now_and_then(check: Check) -> Check:
    """A check for one transfer: asks `check` if it has not for a moment, whether bytes flow or not."""
    asked = time.monotonic()

    def ask() -> None:
        nonlocal asked
        if time.monotonic() - asked >= POLL_SECONDS:
            check()
            asked = time.monotonic()

    return ask


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
        channel = TlsChannel(raw, context, name)
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
