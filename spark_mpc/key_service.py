"""Mask keys for a party's own executors, without putting them into closures, configuration or event logs.

The driver opens a TLS port for as long as one job runs. What travels in the job's closure is a ticket: address,
certificate and a token made for this job, worthless once the port is closed.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from spark_mpc.errors import FederationError
from spark_mpc.identity import Identity
from spark_mpc.ring.masks import KEY_BYTES, PairKey

__all__ = ["KeyTicket", "serve_keys"]

_SERVER_NAME = "driver"
_TOKEN_BYTES = 32
_RECORD_BYTES = KEY_BYTES + 1
_TIMEOUT_SECONDS = 30.0
_MAX_KEYS = 4096


@dataclass(frozen=True)
class KeyTicket:
    """Where an executor fetches the mask keys of a job, and what entitles it to.

    Attributes:
        host: of the driver, as executors reach it.
        port: of the driver's key service.
        certificate: PEM; the only one that the executor accepts.
        token: 32 bytes; never shown.
    """

    host: str
    port: int
    certificate: str = field(repr=False)
    token: bytes = field(repr=False)

    def fetch(self) -> tuple[PairKey, ...]:
        """The keys, over TLS.

        Raises:
            FederationError: the service is closed, or is not the driver's.
        """
        context = ssl.create_default_context(cadata=self.certificate)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=_TIMEOUT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=_SERVER_NAME) as tls,
            ):
                tls.sendall(self.token)
                data = b"".join(iter(lambda: tls.recv(_RECORD_BYTES * 64), b""))
        except OSError as error:
            raise FederationError(f"an executor cannot fetch its mask keys: {type(error).__name__}") from None
        if not data or len(data) % _RECORD_BYTES:
            raise FederationError("an executor was refused its mask keys: the job that it belongs to is over")
        records = (data[i : i + _RECORD_BYTES] for i in range(0, len(data), _RECORD_BYTES))
        return tuple(PairKey(record[:KEY_BYTES], bool(record[KEY_BYTES])) for record in records)


@contextmanager
def serve_keys(keys: tuple[PairKey, ...], host: str) -> Iterator[KeyTicket]:
    """Serve the keys on a free port of `host` until the block ends.

    Args:
        keys: one for every other party.
        host: an address of this machine that its executors reach.
    """
    assert len(keys) <= _MAX_KEYS
    identity, token = Identity.create(_SERVER_NAME, valid_days=1), secrets.token_bytes(_TOKEN_BYTES)
    answer = b"".join(pair.key + bytes([pair.adds]) for pair in keys)
    server = _KeyServer((host, 0), _server_context(identity), token, answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield KeyTicket(host, server.server_address[1], identity.certificate, token)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _KeyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, token: bytes, answer: bytes) -> None:
        self.context, self.token, self.answer = context, token, answer
        super().__init__(address, _KeyRequest)


class _KeyRequest(socketserver.BaseRequestHandler):
    server: _KeyServer

    def handle(self) -> None:
        self.request.settimeout(_TIMEOUT_SECONDS)
        with suppress(OSError), self.server.context.wrap_socket(self.request, server_side=True) as tls:
            if hmac.compare_digest(_read_exactly(tls, _TOKEN_BYTES), self.server.token):
                tls.sendall(self.server.answer)
            tls.unwrap()


def _read_exactly(tls: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = tls.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def _server_context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with TemporaryDirectory() as folder:  # ssl reads keys from files only; the folder is ours alone, and gone at once
        identity.save(folder)
        context.load_cert_chain(Path(folder) / f"{identity.name}.crt", Path(folder) / f"{identity.name}.key")
    return context
