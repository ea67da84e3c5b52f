"""A relay before a PostgreSQL server that can break off between a command's end and the server's readiness."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Relay"]

_FATAL = b"SFATAL\0VFATAL\0C53100\0Mcould not write to the log: the disk is full\0\0"


class Relay:
    """One connection to the server; a context.

    Args:
        path: the server's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.fault: Callable[[socket.socket], None] | None = None
        """What happens, once, in place of the server's next readiness after a command has ended."""

    def __enter__(self) -> Relay:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @staticmethod
    def full_disk(client: socket.socket) -> None:
        """The server cannot keep what it said was done."""
        client.sendall(_message(b"E", _FATAL) + _message(b"Z", b"I"))

    @staticmethod
    def gone(client: socket.socket) -> None:
        """Nobody hears of the server any more."""
        client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._path))
                threading.Thread(target=_forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        before = b""
        with contextlib.suppress(OSError), server, client:
            for message in _messages(server):
                fault = self.fault if (before, message[:1]) == (b"C", b"Z") else None
                if fault is None:
                    client.sendall(message)
                else:
                    self.fault = None
                    fault(client)
                before = message[:1]


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _messages(server: socket.socket) -> Iterator[bytes]:
    held = b""
    while piece := server.recv(1 << 16):
        held += piece
        while len(held) >= 5 and len(held) > (length := struct.unpack("!I", held[1:5])[0]):
            yield held[: length + 1]
            held = held[length + 1 :]


def _forward(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := client.recv(1 << 16):
            server.sendall(piece)
