"""Dialling a party that is not there any more when the handshake should begin."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from spark_mpc.identity import Identity
from spark_mpc.transport import tls_connection
from spark_mpc.transport.tls_connection import client_context, dial

AT_ONCE = struct.pack("ii", 1, 0)


def hang_up(listener: socket.socket, connected: threading.Event) -> None:
    """Take one caller, and reset the connection once it knows that it is connected."""
    caller, _ = listener.accept()
    connected.wait(10)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    caller.close()


def test_who_hangs_up_before_the_handshake_is_gone_and_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python wraps such a socket and leaves the handshake out."""
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
