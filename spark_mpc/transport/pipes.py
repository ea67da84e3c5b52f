"""A pipe over a plain socket."""

from __future__ import annotations

import socket

__all__ = ["SocketPipe"]


class SocketPipe:
    """A pipe over a plain socket, for parties that are threads of one process, and for measurements.

    Args:
        channel: owned by the pipe from now on.
        seconds: how long a read waits; 0 at the end that writes.
    """

    def __init__(self, channel: socket.socket, seconds: float) -> None:
        self._channel = channel
        channel.settimeout(seconds)

    def write_some(self, data: memoryview) -> int:
        """See `Pipe.write_some`."""
        try:
            return self._channel.send(data)
        except BlockingIOError:
            return 0

    def write_all(self, data: memoryview) -> None:
        """See `Pipe.write_all`."""
        self._channel.settimeout(None)
        self._channel.sendall(data)
        self._channel.settimeout(0.0)

    def read_some(self, room: memoryview) -> int:
        """See `Pipe.read_some`."""
        received = self._channel.recv_into(room)
        if received == 0:
            raise ConnectionResetError("the stream ended")
        return received

    def interrupt(self) -> None:
        """See `Pipe.interrupt`."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other end is gone, or it is closed already

    def close(self) -> None:
        """See `Pipe.close`."""
        self._channel.close()
