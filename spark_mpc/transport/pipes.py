"""Pipes over plain sockets, and what every pipe over a socket needs."""

from __future__ import annotations

import select
import socket

__all__ = ["SocketPipe", "await_room"]


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

    def await_room(self, seconds: float) -> None:
        """See `Pipe.await_room`."""
        await_room(self._channel, seconds)

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


def await_room(channel: socket.socket, seconds: float) -> None:
    """Wait until a socket takes bytes, fails, or so long."""
    poll = select.poll()
    poll.register(channel, select.POLLOUT)
    poll.poll(seconds * 1000)
