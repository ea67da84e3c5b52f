"""Dialling a party that has gone when the handshake should begin, and transfers that lose their purpose."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from spark_mpc.errors import RunAborted
from spark_mpc.identity import Identity
from spark_mpc.transport import tls_connection
from spark_mpc.transport.tls_channel import TlsChannel
from spark_mpc.transport.tls_connection import Connection, client_context, dial, server_context

AT_ONCE = struct.pack("ii", 1, 0)


def hang_up(listener: socket.socket, connected: threading.Event) -> None:
    """Take one caller, and reset the connection once it knows that it is connected."""
    caller, _ = listener.accept()
    connected.wait(10)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    caller.close()


def test_who_hangs_up_before_the_handshake_is_gone_and_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own TLS sockets leave the handshake out then."""
    me, dialled, connected = Identity.create("b"), [], threading.Event()

    def until_reset(raw: socket.socket) -> None:
        dialled.append(raw.fileno())
        connected.set()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                raw.getpeername()
            except OSError:
                return
            time.sleep(0.001)
        raise AssertionError("the reset never came")

    monkeypatch.setattr(tls_connection, "tune", until_reset)
    context = client_context(me, [Identity.create("a").certificate])
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(hang_up, listener, connected)
        with pytest.raises(ConnectionResetError):
            dial(listener.getsockname(), "a", context, {}, 5)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(dialled[0])


@pytest.mark.parametrize("way", ["writes", "reads"])
def test_a_long_transfer_asks_its_check_while_bytes_flow(way: str) -> None:
    """Some 4 MB/s: no call ever times out. An abort has to end it all the same."""
    a, b = Identity.create("a"), Identity.create("b")
    over, began = threading.Event(), time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 0.5:
            raise RunAborted("over")

    def steadily(other: Connection) -> None:
        room = memoryview(bytearray(1 << 16))
        with suppress(ConnectionError):
            while not over.wait(1 / 64):
                (other.read_into if way == "writes" else other.write)(room, lambda: None)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        raw = socket.create_connection(listening.getsockname(), 10)
        accepted, _ = listening.accept()
        accepted.settimeout(10)
        serving = pool.submit(TlsChannel, accepted, server_context(a, [b.certificate]), None)
        mine = Connection(TlsChannel(raw, client_context(b, [a.certificate]), "a"), "a")
        other = Connection(serving.result(10), "b")
        flowing = pool.submit(steadily, other)
        try:
            with pytest.raises(RunAborted):
                (mine.write if way == "writes" else mine.read_into)(memoryview(bytearray(64 << 20)), check)
            assert time.monotonic() - began < 3
        finally:
            over.set()
            mine.close()
            flowing.result(10)
            other.close()
