"""TLS by way of memory: all bytes arrive in order, whoever is slow, rude or gone, and no wait outlasts its limit."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial

import numpy as np
import pytest

from spark_mpc.identity import Identity
from spark_mpc.transport.tls_channel import TlsChannel
from spark_mpc.transport.tls_connection import client_context, server_context

LISTENER, CALLER = (Identity.create(name, valid_days=1) for name in ("listener", "caller"))
SERVER = server_context(LISTENER, [CALLER.certificate])
CLIENT = client_context(CALLER, [LISTENER.certificate])
BULK_BYTES = 9 << 20  # more than the sockets of both ends hold
MOMENT = 0.3
NOTICED_SECONDS = 3.0  # a moment, and room for a busy machine
AT_ONCE = struct.pack("ii", 1, 0)


@contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection; the first one has dialled."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        dialled = socket.create_connection(listening.getsockname(), 10)
        accepted, _ = listening.accept()
    accepted.settimeout(10)
    with dialled, accepted:
        yield dialled, accepted


@contextmanager
def channels(dialled: socket.socket, accepted: socket.socket) -> Iterator[tuple[TlsChannel, TlsChannel]]:
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(TlsChannel, accepted, SERVER, None)
        caller = TlsChannel(dialled, CLIENT, "listener")
        listener = serving.result(10)
    with closing(caller), closing(listener):
        yield caller, listener


@pytest.fixture
def ends() -> Iterator[tuple[TlsChannel, TlsChannel]]:
    with sockets() as raw, channels(*raw) as both:
        yield both


def sent(channel: TlsChannel, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[channel.send(view) :]


def received(channel: TlsChannel, length: int, room_bytes: int = 1 << 20) -> bytes:
    data, room = bytearray(), memoryview(bytearray(room_bytes))
    while len(data) < length:
        data += room[: channel.recv_into(room[: length - len(data)])]
    return bytes(data)


def record_of(channel: TlsChannel, data: bytes) -> bytes:
    """What would be sent."""
    channel._tls.write(data)
    return channel._outgoing.read()


@pytest.mark.parametrize("room_bytes", [1000, 1 << 14, (1 << 18) + 1, BULK_BYTES])
def test_what_is_sent_arrives_both_ways_at_once(ends: tuple[TlsChannel, TlsChannel], room_bytes: int) -> None:
    """An SSL object is used by one thread at a time: each end sends, then receives, while the other does both, too."""
    caller, listener = ends
    there, back = os.urandom(BULK_BYTES), os.urandom(BULK_BYTES)
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(sent, caller, there)
        assert received(listener, BULK_BYTES, room_bytes) == there
        sending.result(10)
        answering = pool.submit(sent, listener, back)
        assert received(caller, BULK_BYTES, room_bytes) == back
        answering.result(10)


def test_a_record_may_be_read_byte_by_byte(ends: tuple[TlsChannel, TlsChannel]) -> None:
    caller, listener = ends
    sent(caller, b"first")
    sent(caller, b"second")
    assert received(listener, 11, 1) == b"firstsecond"


@pytest.mark.parametrize(("seconds", "too_late"), [(0.0, BlockingIOError), (0.01, TimeoutError)])
def test_what_could_not_be_sent_in_time_goes_with_the_next_call(
    ends: tuple[TlsChannel, TlsChannel], seconds: float, too_late: type[OSError]
) -> None:
    caller, listener = ends
    caller.settimeout(seconds)
    data = os.urandom(BULK_BYTES)
    view, refused = memoryview(data), 0
    with ThreadPoolExecutor(1) as pool:
        receiving = None
        while view:
            try:
                view = view[caller.send(view) :]
            except too_late:
                refused += 1
                receiving = receiving or pool.submit(received, listener, BULK_BYTES)
        assert receiving is not None
        assert receiving.result(10) == data
    assert refused


def test_who_gets_nothing_waits_no_longer_than_its_limit(ends: tuple[TlsChannel, TlsChannel]) -> None:
    caller, _ = ends
    for seconds in (MOMENT, 0.0):
        caller.settimeout(seconds)
        began = time.monotonic()
        with pytest.raises(TimeoutError if seconds else BlockingIOError):
            received(caller, 1)
        assert seconds <= time.monotonic() - began < NOTICED_SECONDS


def test_a_record_that_drips_in_does_not_outlast_the_limit_and_is_not_lost(ends: tuple[TlsChannel, TlsChannel]) -> None:
    """The reader has to come back in between, to look whether its run is still open."""
    caller, listener = ends
    listener.settimeout(MOMENT)
    data = os.urandom(80)

    def drip() -> None:
        for byte in record_of(caller, data):
            caller._raw.sendall(bytes([byte]))
            time.sleep(MOMENT / 20)

    room, taken, waits = memoryview(bytearray(len(data))), 0, 0
    with ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip)
        while not taken:
            began = time.monotonic()
            try:
                taken = listener.recv_into(room)
            except TimeoutError:
                waits += 1
            assert time.monotonic() - began < MOMENT * 3
        dripping.result(10)
    assert room[:taken] == data
    assert waits > 1


def test_a_receiver_that_sips_does_not_keep_the_sender_beyond_its_limit() -> None:
    """Through buffers so small that some bytes go in every moment, and 112 KiB take seconds."""
    over = threading.Event()

    def sip(listener: TlsChannel) -> None:
        room = memoryview(bytearray(1 << 20))
        while not over.wait(MOMENT / 10):
            listener._raw.recv_into(room[: 1 << 12])
        with suppress(OSError):
            while listener._raw.recv_into(room):
                pass

    near, far = socket.socketpair()
    for end in (near, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
    with channels(near, far) as (caller, listener), ThreadPoolExecutor(1) as pool:
        caller.settimeout(MOMENT)
        sipping = pool.submit(sip, listener)
        try:
            view, refused = memoryview(bytes(1 << 20)), 0
            while refused < 3:
                assert view
                began = time.monotonic()
                try:
                    view = view[caller.send(view) :]
                except TimeoutError:
                    refused += 1
                assert time.monotonic() - began < 2 * MOMENT + 0.1
        finally:
            over.set()
            caller.shutdown()
        sipping.result(10)


def test_what_came_before_the_end_is_received_first(ends: tuple[TlsChannel, TlsChannel]) -> None:
    """A record, a farewell, and silence: the end is told again to whoever asks again."""
    caller, listener = ends
    listener.settimeout(MOMENT)
    last = record_of(caller, b"farewell")
    with suppress(ssl.SSLWantReadError):
        caller._tls.unwrap()
    caller._raw.sendall(last + caller._outgoing.read())
    assert received(listener, 8) == b"farewell"
    for _ in range(2):
        with pytest.raises(ConnectionResetError, match="hung up"):
            received(listener, 1)


def test_half_a_record_is_never_received(ends: tuple[TlsChannel, TlsChannel]) -> None:
    caller, listener = ends
    sent(caller, b"whole")
    caller._raw.sendall(record_of(caller, bytes(1 << 12))[:-1])
    caller.close()
    assert received(listener, 5) == b"whole"
    with pytest.raises(ConnectionResetError, match="hung up"):
        received(listener, 1 << 12)


def test_altered_bytes_are_refused_for_good_and_the_sender_hears_it(ends: tuple[TlsChannel, TlsChannel]) -> None:
    caller, listener = ends
    good, bad = record_of(caller, b"one"), bytearray(record_of(caller, b"million"))
    bad[-1] ^= 1
    caller._raw.sendall(good + bad)
    assert received(listener, 3) == b"one"
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            received(listener, 1)
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        received(caller, 1)


@pytest.mark.parametrize("blocked", ["sends", "receives"])
def test_a_thread_that_waits_without_limit_can_be_interrupted(
    ends: tuple[TlsChannel, TlsChannel], blocked: str
) -> None:
    caller, _ = ends
    caller.settimeout(None)
    wait = partial(sent, caller, bytes(BULK_BYTES)) if blocked == "sends" else partial(received, caller, 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        time.sleep(MOMENT)
        assert not waiting.done()
        caller.shutdown()
        with pytest.raises(ConnectionError):
            waiting.result(NOTICED_SECONDS)


def hangs_up(raw: socket.socket) -> None:
    raw.settimeout(MOMENT / 3)
    with suppress(TimeoutError):
        raw.recv(1)


def resets(raw: socket.socket) -> None:
    hangs_up(raw)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


def says_nothing(raw: socket.socket) -> None:
    while raw.recv(1 << 16):
        pass


def drips(raw: socket.socket) -> None:
    """A record of a handshake, so slowly that it takes minutes."""
    with suppress(OSError):
        for byte in b"\x16\x03\x03\x40\x00" + bytes(1 << 14):
            raw.send(bytes([byte]))
            time.sleep(MOMENT / 20)


@pytest.mark.parametrize("dials", [True, False], ids=["dials", "listens"])
@pytest.mark.parametrize(
    ("stranger", "error"),
    [(hangs_up, ConnectionError), (resets, ConnectionError), (says_nothing, TimeoutError), (drips, TimeoutError)],
    ids=["hangs up", "resets", "says nothing", "drips"],
)
def test_a_handshake_with_who_cannot_ends_in_time_and_leaves_no_socket_open(
    stranger: Callable[[socket.socket], None], error: type[OSError], dials: bool
) -> None:
    def stand(raw: socket.socket) -> None:
        with raw:
            stranger(raw)

    with sockets() as raw, ThreadPoolExecutor(1) as pool:
        mine, other = raw if dials else raw[::-1]
        mine.settimeout(MOMENT)
        standing = pool.submit(stand, other)
        began = time.monotonic()
        with pytest.raises(error):
            TlsChannel(mine, CLIENT if dials else SERVER, "listener" if dials else None)
        assert time.monotonic() - began < 3 * MOMENT
        assert mine.fileno() == -1
        standing.result(10)


def test_who_is_refused_hears_why() -> None:
    """The listener does not know the caller's certificate; under TLS 1.3 the caller learns it after its handshake."""
    stranger = client_context(Identity.create("caller", valid_days=1), [LISTENER.certificate])
    with sockets() as (dialled, accepted), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(TlsChannel, accepted, SERVER, None)
        with closing(TlsChannel(dialled, stranger, "listener")) as caller:
            with pytest.raises(ssl.SSLCertVerificationError):
                serving.result(10)
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                received(caller, 1)


def test_who_refuses_says_why() -> None:
    """The caller does not know the listener's certificate."""
    wary = client_context(CALLER, [Identity.create("listener", valid_days=1).certificate])
    with sockets() as (dialled, accepted), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(TlsChannel, accepted, SERVER, None)
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsChannel(dialled, wary, "listener")
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            serving.result(10)


def test_the_time_limit_is_the_same_after_the_handshake(ends: tuple[TlsChannel, TlsChannel]) -> None:
    assert [end._raw.gettimeout() for end in ends] == [10, 10]


def test_both_ends_know_the_other_ones_certificate(ends: tuple[TlsChannel, TlsChannel]) -> None:
    caller, listener = ends
    for channel, identity in ((caller, LISTENER), (listener, CALLER)):
        assert channel.certificate == ssl.PEM_cert_to_DER_cert(identity.certificate)


def test_long_arrays_arrive_word_by_word(ends: tuple[TlsChannel, TlsChannel]) -> None:
    """As streams use it: from the memory of an array into that of another."""
    caller, listener = ends
    words = np.arange(1 << 20, dtype=np.uint64)
    out = np.zeros_like(words)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sent, caller, words.view(np.uint8).data)
        room = out.view(np.uint8).data
        while room:
            room = room[listener.recv_into(room) :]
        sending.result(10)
    assert (out == words).all()
