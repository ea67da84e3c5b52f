"""TLS on a socket by way of memory: the kernel takes and gives several records at a time, OpenSSL one by one."""

from __future__ import annotations

import math
import socket
import ssl
import time
from contextlib import suppress
from typing import cast

import numpy as np

__all__ = ["TlsChannel"]

_SENT_AT_ONCE = 7 << 14
"""Bytes of seven records: several packets even on loopback, and memory that C need not ask the system for (128 KiB)."""
_RECEIVED_AT_ONCE = 1 << 18
_LEAST_SECONDS = 0.001


class TlsChannel:
    """A TLS connection, shaken hands on. One thread at a time sends or receives.

    With Python's own TLS sockets, OpenSSL calls the kernel once for each record of 16 KiB that it sends, and twice for
    each that it receives. Decision 0013 has what the copies cost that are made here instead. A connection that carries
    long messages keeps up to 1 MiB for them.
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        """Shake hands, within the socket's own time limit.

        Args:
            raw: connected; closed if this fails, else owned by the channel.
            context: of this end.
            server_name: who is dialled; None at the end that listens.

        Raises:
            OSError: the ends do not agree (`ssl.SSLError`), or the other one is gone or too slow.
        """
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._unsent_stands_for = 0
        self._end: OSError | None = None
        try:
            self._room = np.empty(_RECEIVED_AT_ONCE, np.uint8).data  # of which only what is used becomes memory
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
            )
            self._shake_hands()
        except BaseException:
            raw.close()
            raise

    @property
    def certificate(self) -> bytes | None:
        """The other end's, DER; None if it showed none."""
        return self._tls.getpeercert(binary_form=True)

    def settimeout(self, seconds: float | None) -> None:
        """How long `send` and `recv_into` wait from now on: 0 not at all, None without a limit."""
        self._raw.settimeout(seconds)

    def send(self, data: memoryview) -> int:
        """Send the first of `data`, which is made of bytes; returns how many.

        Raises:
            TimeoutError, BlockingIOError: not within the time, twice that if some went. The next call has to begin with
                the same bytes: some of them may be on their way.
            OSError: the other end is gone.
        """
        limit = self._limit()
        if not self._unsent:
            self._unsent_stands_for = self._tls.write(data[:_SENT_AT_ONCE])
            self._unsent = memoryview(self._outgoing.read())
        while True:
            self._unsent = self._unsent[self._raw.send(self._unsent) :]
            if not self._unsent:
                return self._unsent_stands_for
            _raise_after(limit)

    def recv_into(self, room: memoryview) -> int:
        """Write what has come into `room`, which is made of bytes; returns how many, one at least.

        Raises:
            TimeoutError, BlockingIOError: no record came whole within the time, twice that if a part of one came.
            OSError: the other end has hung up or is gone, or what comes is not from it (`ssl.SSLError`); not before all
                that came in order has been received.
        """
        received, limit = 0, self._limit()
        if self._end is None and not (self._incoming.pending or self._tls.pending()):
            self._fetch()
        while self._end is None and received < len(room):
            try:
                taken = cast(int, self._tls.read(len(room) - received, room[received:]))  # bytes only without room
            except ssl.SSLWantReadError:  # a record is there in part
                if received:
                    break
                _raise_after(limit)
                self._fetch()
            except ssl.SSLError as error:
                self._end = error
                self._say_why()
            else:
                received += taken
                if not taken:
                    self._end = _hung_up()
                elif not self._incoming.pending:
                    break
        if self._end is not None and not received:
            raise self._end
        return received

    def shutdown(self) -> None:
        """End the connection below TLS, from any thread; whoever sends or receives gets a ConnectionError.

        Raises:
            OSError: it has ended already.
        """
        self._raw.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; only for the thread that uses it."""
        self._raw.close()

    def _shake_hands(self) -> None:
        limit, seconds = self._limit(), self._raw.gettimeout()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                _raise_after(limit)
                if limit < math.inf:  # for all of it: a stranger who sends byte by byte gains nothing
                    self._raw.settimeout(max(_LEAST_SECONDS, limit - time.monotonic()))
                self._fetch()
            except ssl.SSLError:
                self._say_why()
                raise
            else:
                self._flush()
                self._raw.settimeout(seconds)
                return

    def _flush(self) -> None:
        self._raw.sendall(self._outgoing.read())

    def _say_why(self) -> None:
        """Send the alert that OpenSSL has for the other end, if that can be."""
        with suppress(OSError):
            self._raw.send(self._outgoing.read())

    def _fetch(self) -> None:
        received = self._raw.recv_into(self._room)
        if not received:
            raise _hung_up()
        self._incoming.write(self._room[:received])

    def _limit(self) -> float:
        """When a call ends that waits; one that must not wait at all is ended by the kernel."""
        seconds = self._raw.gettimeout()
        return time.monotonic() + seconds if seconds else math.inf


def _raise_after(limit: float) -> None:
    if time.monotonic() >= limit:
        raise TimeoutError("timed out")


def _hung_up() -> ConnectionResetError:
    return ConnectionResetError("the other end has hung up")
