"""Streams for lockstep protocols: one suite between threads and over mutual TLS, with parties that misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.errors import AbortedByPeer, CertificateRefused, PeerLost, RunAborted, WireError
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.talk import public_reason
from spark_mpc.transport import MemoryHub, Traffic, tls_transport
from spark_mpc.transport.base import Pipe
from spark_mpc.transport.endpoint import Endpoint
from spark_mpc.transport.stream_frames import Transcript
from spark_mpc.transport.streams import StreamChannel, open_channel, verify
from spark_mpc.wire import INLINE_BYTES
from tests.tools.federations import at_once, loopback_federation

NAMES = ("a", "b", "c")
RUN, OTHER_RUN = b"r" * 32, b"o" * 32
TIMEOUT_SECONDS = 2.0
NOTICED_SECONDS = 3 * TIMEOUT_SECONDS  # the timeout, and room for a busy machine
BULK_BYTES = 64 << 20  # more than the sockets between two parties hold

T = TypeVar("T")
Make = Callable[..., Endpoint]
Program = Callable[[StreamChannel], Any]


@pytest.fixture(params=["memory", pytest.param("tls", marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes the transport of a party."""
    if request.param == "memory":
        return MemoryHub(NAMES, timeout_seconds=TIMEOUT_SECONDS, rendezvous_seconds=TIMEOUT_SECONDS).transport
    loopback = loopback_federation(NAMES, timeout_seconds=TIMEOUT_SECONDS, rendezvous_seconds=TIMEOUT_SECONDS)
    return lambda name, **options: tls_transport(loopback.identities[name], loopback.file, **options)


@pytest.fixture
def parties(make: Make) -> Iterator[list[Endpoint]]:
    with ExitStack() as started:
        yield [started.enter_context(make(name)) for name in NAMES]


@pytest.fixture
def running(parties: list[Endpoint]) -> list[Endpoint]:
    for party in parties:
        party.begin(RUN)
    return parties


def play(party: Endpoint, program: Callable[[StreamChannel], T]) -> T:
    """A party's part; an error of its own ends the run, as a session's does."""
    try:
        with open_channel(party, RUN, NAMES) as channel:
            result = program(channel)
            verify(channel, party, RUN, NAMES)
            return result
    except Exception as error:
        party.abort(RUN, public_reason(error))
        raise


def lockstep(running: list[Endpoint], program: Callable[[StreamChannel], T]) -> list[T]:
    return at_once(*(partial(play, party, program) for party in running))


def failures(running: list[Endpoint], *programs: Program) -> list[BaseException | None]:
    """How each party's part ended."""
    with ThreadPoolExecutor(len(running)) as threads:
        parts = [threads.submit(play, party, program) for party, program in zip(running, programs, strict=True)]
        return [part.exception(timeout=2 * NOTICED_SECONDS) for part in parts]


def words(*of: int) -> NDArray[np.uint64]:
    return np.array(of, np.uint64)


def idle(_: StreamChannel) -> None:
    """Take no part in what the others do."""


def receives(sender: int, step: str = "sort/0", length: int = 1) -> Program:
    return lambda channel: channel.receive(sender, step, np.zeros(length, np.uint64))


def sends(to: int, step: str = "sort/0", length: int = 1) -> Program:
    return lambda channel: channel.send(to, step, np.zeros(length, np.uint64))


@contextmanager
def dialled(party: Endpoint, peer: str, run: bytes = RUN) -> Iterator[Pipe]:
    """A stream that a party opens without a channel around it."""
    pipe = party.streams(peer, run).dial()
    try:
        yield pipe
    finally:
        pipe.close()


# -- messages ----------------------------------------------------------------------------------------------------------


def test_parties_have_their_numbers_in_the_order_given(running: list[Endpoint]) -> None:
    def number(party: Endpoint) -> int:
        with open_channel(party, RUN, ("c", "a", "b")) as channel:
            return channel.me

    assert at_once(*(partial(number, party) for party in running)) == [1, 2, 0]


ARRAYS: list[NDArray[Any]] = [
    words(1, 2, 3),
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.zeros((0, 3), np.uint64),
    np.array(7, np.uint64),
    np.arange(INLINE_BYTES, dtype=np.uint32).astype(np.uint8),
    np.arange(INLINE_BYTES + 1, dtype=np.uint32).astype(np.uint8),
    np.arange(300_000, dtype=np.uint64),
    np.array([True, False]),
]


def test_arrays_arrive_unaltered_and_in_order(running: list[Endpoint]) -> None:
    def program(channel: StreamChannel) -> bool:
        arrived = []
        for array in ARRAYS:
            for peer in {0, 1, 2} - {channel.me}:
                channel.send(peer, "same/label", array)
            for peer in {0, 1, 2} - {channel.me}:
                out = np.empty_like(array)
                channel.receive(peer, "same/label", out)
                arrived.append((out == array).all())
        return all(arrived)

    assert lockstep(running, program) == [True] * 3


def test_many_messages_may_be_under_way(running: list[Endpoint]) -> None:
    def program(channel: StreamChannel) -> list[int]:
        for number in range(500):
            channel.send((channel.me + 1) % 3, f"round/{number}", words(number))
        received = []
        for number in range(500):
            out = words(0)
            channel.receive((channel.me - 1) % 3, f"round/{number}", out)
            received.append(int(out[0]))
        return received

    assert lockstep(running, program) == [list(range(500))] * 3


def test_what_went_is_counted(running: list[Endpoint]) -> None:
    def program(channel: StreamChannel) -> tuple[int, int, int]:
        for number in range(3):
            channel.send((channel.me + 1) % 3, f"round/{number}", words(1, 2))
            channel.receive((channel.me - 1) % 3, f"round/{number}", words(0, 0))
        return channel.meter.sent_bytes, channel.meter.sent_messages, channel.meter.rounds

    def whole(party: Endpoint) -> tuple[tuple[int, int, int], Traffic]:
        with open_channel(party, RUN, NAMES) as channel:
            result = program(channel), party.traffic(RUN)
            verify(channel, party, RUN, NAMES)
            return result

    expected = Traffic(sent_messages=3, sent_bytes=48, received_messages=3, received_bytes=48)
    assert at_once(*(partial(whole, party) for party in running)) == [((48, 3, 3), expected)] * 3


def test_rounds_follow_the_longest_chain(running: list[Endpoint]) -> None:
    def program(channel: StreamChannel) -> int:
        if channel.me == 0:
            channel.send(1, "chain/0", words(0))
        elif channel.me == 1:
            channel.receive(0, "chain/0", words(0))
            channel.send(2, "chain/1", words(0))
        else:
            channel.receive(1, "chain/1", words(0))
        return channel.meter.rounds

    assert lockstep(running, program) == [0, 1, 2]


def test_the_tap_sees_what_is_sent(make: Make) -> None:
    seen: list[tuple[str, str, bytes]] = []
    with ExitStack() as started:
        tapped = make("a", tap=lambda peer, _, step, payload: seen.append((peer, step, bytes(payload))))
        running = [started.enter_context(party) for party in (tapped, make("b"), make("c"))]
        for party in running:
            party.begin(RUN)
        at_once(
            lambda: play(running[0], sends(1)),
            lambda: play(running[1], receives(0)),
            lambda: play(running[2], idle),
        )
    assert ("b", "sort/0", bytes(8)) in seen


@pytest.mark.slow
def test_all_may_send_bulk_at_once_before_they_receive(running: list[Endpoint]) -> None:
    array = np.arange(BULK_BYTES // 8, dtype=np.uint64)

    def program(channel: StreamChannel) -> bool:
        peers = sorted({0, 1, 2} - {channel.me})
        for number in range(2):
            for peer in peers:
                channel.send(peer, f"bulk/{number}", array)
        out = np.zeros_like(array)
        equal = []
        for number in range(2):
            for peer in peers:
                channel.receive(peer, f"bulk/{number}", out)
                equal.append(np.array_equal(out, array))
        return all(equal)

    assert lockstep(running, program) == [True] * 3


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "length", "reason"),
    [
        ("sort/1", 1, "'sort/1' came where 'sort/0' was awaited"),
        ("sort/0", 2, "16 bytes where exactly 8"),
        ("sort/0", 0, "0 bytes where exactly 8"),
        ("sort/0", 1 << 20, "8388608 bytes where exactly 8"),
    ],
)
def test_another_message_than_the_awaited_one_ends_the_run(
    running: list[Endpoint], step: str, length: int, reason: str
) -> None:
    a, b, c = failures(running, receives(1), sends(0, step, length), receives(0))
    assert isinstance(a, WireError)
    assert reason in str(a)
    assert isinstance(b, RunAborted)
    assert isinstance(c, AbortedByPeer)
    assert reason in str(c)


def frame(*, label: bytes = b"sort/0", sequence: int = 0, length: int = 8) -> bytes:
    numbers = (0).to_bytes(4, "big") + sequence.to_bytes(8, "big") + length.to_bytes(8, "big")
    return bytes([len(label)]) + numbers + label


@pytest.mark.parametrize(
    ("crafted", "reason"),
    [
        (frame(sequence=1), "message 1 came where 0 is due"),
        (frame(length=2**63), "exactly 8 are expected"),
        (frame(label=b""), "1 to 64 bytes, not 0"),
        (frame(label=b"x" * 65), "1 to 64 bytes, not 65"),
        (frame(label=b"\xff\n"), "was awaited"),
        (frame(label=b"sort/"), "was awaited"),
    ],
    ids=["out of order", "oversized", "no label", "long label", "no text", "another label"],
)
def test_a_crafted_frame_is_refused_before_its_payload(running: list[Endpoint], crafted: bytes, reason: str) -> None:
    a, b, c = running
    with dialled(c, "a"), dialled(b, "a") as pipe:
        pipe.write_some(memoryview(crafted))
        with pytest.raises(WireError, match=reason), open_channel(a, RUN, NAMES) as channel:
            channel.receive(1, "sort/0", words(0))


@pytest.mark.slow
def test_a_truncated_message_loses_its_sender(running: list[Endpoint]) -> None:
    a, b, c = running
    with dialled(c, "a"), dialled(b, "a") as pipe:
        pipe.write_some(memoryview(frame() + b"1234"))
        pipe.interrupt()
        with pytest.raises(PeerLost, match=r"lost b .*'sort/0'.*stream broke"), open_channel(a, RUN, NAMES) as channel:
            channel.receive(1, "sort/0", words(0))


def test_a_party_opens_one_stream_to_a_peer(running: list[Endpoint]) -> None:
    with dialled(running[1], "a"), pytest.raises(WireError, match="one stream to each peer in a run"):
        running[1].streams("a", RUN).dial()


def test_a_channel_is_opened_once_in_a_run(running: list[Endpoint]) -> None:
    lockstep(running, idle)
    with pytest.raises(WireError, match="one stream"), open_channel(running[0], RUN, NAMES):
        pass


def test_streams_of_finished_runs_are_refused(running: list[Endpoint]) -> None:
    a, b, _ = running
    a.finish(RUN)
    with pytest.raises(WireError, match="finished"):
        b.streams("a", RUN).dial()


@pytest.mark.slow
def test_streams_of_unknown_runs_are_refused(running: list[Endpoint]) -> None:
    a, b, _ = running
    b.begin(OTHER_RUN)
    with pytest.raises((WireError, PeerLost), match=r"no such run|not joined"):
        b.streams("a", OTHER_RUN).dial()
    assert a.traffic(OTHER_RUN) == Traffic()


def test_a_stream_that_is_ahead_waits_for_the_run(parties: list[Endpoint]) -> None:
    begun = threading.Barrier(3)

    def program(party: Endpoint) -> int:
        if party.me == "a":
            party.begin(RUN)
            begun.wait(NOTICED_SECONDS)
        else:
            begun.wait(NOTICED_SECONDS)
            party.begin(RUN)
        return play(party, lambda channel: channel.me)

    assert at_once(*(partial(program, party) for party in parties)) == [0, 1, 2]


def test_a_stream_of_another_process_is_refused(running: list[Endpoint]) -> None:
    a, b, _ = running
    b.send("a", RUN, "agree", b"x")
    b.incarnation = bytes(16)
    with pytest.raises(WireError, match="another process"):
        b.streams("a", RUN).dial()
    assert a.receive("b", RUN, "agree", 1) == b"x"


@pytest.mark.slow
def test_an_unpinned_certificate_opens_no_stream() -> None:
    loopback = loopback_federation(NAMES, timeout_seconds=TIMEOUT_SECONDS)
    stranger = Identity.create("b")
    theirs = replace(loopback.file.peer("b"), certificates=(stranger.certificate,))
    file = FederationFile("tests", (loopback.file.peer("a"), theirs), timeout_seconds=TIMEOUT_SECONDS)
    with tls_transport(loopback.identities["a"], loopback.file) as a, tls_transport(stranger, file) as impostor:
        for party in (a, impostor):
            party.begin(RUN)
        with pytest.raises(CertificateRefused):
            impostor.streams("a", RUN).dial()


def test_bad_arguments_are_refused(running: list[Endpoint]) -> None:
    def program(channel: StreamChannel) -> None:
        read_only = words(0)
        read_only.flags.writeable = False
        uses: list[Callable[[], None]] = [
            lambda: channel.send(channel.me, "sort/0", words(0)),
            lambda: channel.receive(3, "sort/0", words(0)),
            lambda: channel.send((channel.me + 1) % 3, "sort/0", np.zeros((4, 4))[:, 0]),
            lambda: channel.receive((channel.me + 1) % 3, "sort/0", np.zeros((4, 4))[:, 0]),
            lambda: channel.receive((channel.me + 1) % 3, "sort/0", read_only),
        ]
        for use in uses:
            with pytest.raises(InvalidArgument):
                use()
        with pytest.raises(WireError, match="step"):
            channel.send((channel.me + 1) % 3, "Not a step", words(0))

    lockstep(running, program)  # nothing of it was sent: the transcripts agree


@pytest.mark.parametrize("names", [("a", "b", "b"), ("b", "c", "d")])
def test_a_channel_has_three_parties(running: list[Endpoint], names: tuple[str, str, str]) -> None:
    with (
        pytest.raises(InvalidArgument, match="three compute parties, a among them"),
        open_channel(running[0], RUN, names),
    ):
        pass


# -- transcripts -------------------------------------------------------------------------------------------------------


def test_a_message_that_was_never_received_is_found_at_the_end(running: list[Endpoint]) -> None:
    a, b, _ = failures(running, idle, sends(0), idle)
    assert any(isinstance(error, WireError) and "transcripts differ" in str(error) for error in (a, b))
    assert all(isinstance(error, WireError | RunAborted) for error in (a, b))


def test_an_array_written_to_after_it_was_sent_is_found_at_the_end(running: list[Endpoint]) -> None:
    array, spoiled = np.zeros(BULK_BYTES, np.uint8), threading.Event()

    def spoils(channel: StreamChannel) -> None:
        channel.send(0, "bulk", array)
        array[-1] = 1  # still queued
        spoiled.set()

    def reads(channel: StreamChannel) -> None:
        assert spoiled.wait(NOTICED_SECONDS)
        channel.receive(1, "bulk", np.zeros_like(array))

    a, b, _ = failures(running, reads, spoils, idle)
    assert any(isinstance(error, WireError) and "transcripts differ" in str(error) for error in (a, b))


@pytest.mark.parametrize("other", [[(b"h", b"x"), (b"i", b"z")], [(b"h", b"x")], [(b"i", b"y"), (b"h", b"x")]])
def test_transcripts_tell_messages_apart(other: list[tuple[bytes, bytes]]) -> None:
    def digest(messages: list[tuple[bytes, bytes]]) -> bytes:
        transcript = Transcript()
        for header, payload in messages:
            transcript.add(header, memoryview(payload))
        return transcript.digest()

    messages = [(b"h", b"x"), (b"i", b"y")]
    assert digest(messages) == digest(list(messages))
    assert digest(messages) != digest(other)


# -- aborts and losses -------------------------------------------------------------------------------------------------


@pytest.fixture
def reached() -> threading.Event:
    return threading.Event()


def test_an_abort_wakes_whoever_receives_and_whoever_sends(running: list[Endpoint], reached: threading.Event) -> None:
    bulk = np.zeros(BULK_BYTES // 2, np.uint8)

    def floods(channel: StreamChannel) -> None:
        for number in range(3):
            channel.send(0, f"bulk/{number}", bulk)
        reached.set()
        channel.send(0, "bulk/3", bulk)

    def aborts(_: StreamChannel) -> None:
        assert reached.wait(NOTICED_SECONDS)
        raise ValueError("the disk is full")

    started = time.monotonic()
    a, b, c = failures(running, receives(2), floods, aborts)
    assert time.monotonic() - started < NOTICED_SECONDS
    assert isinstance(c, ValueError)
    for error in (a, b):
        assert isinstance(error, AbortedByPeer)
        assert "ValueError" in str(error)


def test_a_send_waits_when_much_is_queued(running: list[Endpoint], reached: threading.Event) -> None:
    bulk = np.zeros(BULK_BYTES // 2, np.uint8)
    passed = []

    def floods(channel: StreamChannel) -> None:
        for number in range(5):
            channel.send(0, f"bulk/{number}", bulk)
            passed.append(number)
            if number == 2:
                reached.set()

    def reads(channel: StreamChannel) -> None:
        assert reached.wait(NOTICED_SECONDS)
        channel.receive(2, "sort/0", words(0))  # time passes: another message is taken meanwhile
        assert passed == [0, 1, 2]
        for number in range(5):
            channel.receive(1, f"bulk/{number}", np.empty_like(bulk))

    assert failures(running, reads, floods, sends(0)) == [None] * 3


def test_draining_waits_until_the_system_has_everything(running: list[Endpoint], reached: threading.Event) -> None:
    drained = threading.Event()

    def drains(channel: StreamChannel) -> None:
        channel.send(0, "bulk", np.zeros(BULK_BYTES, np.uint8))
        reached.set()
        channel.drain()
        drained.set()

    def reads(channel: StreamChannel) -> None:
        assert reached.wait(NOTICED_SECONDS)
        assert not drained.is_set()
        channel.receive(1, "bulk", np.empty(BULK_BYTES, np.uint8))
        assert drained.wait(NOTICED_SECONDS)

    assert failures(running, reads, drains, idle) == [None] * 3


@pytest.mark.slow
def test_a_party_whose_transport_ends_is_lost(running: list[Endpoint], reached: threading.Event) -> None:
    def ends(_: StreamChannel) -> None:
        assert reached.wait(NOTICED_SECONDS)
        running[1].close()

    def waits(channel: StreamChannel) -> None:
        reached.set()
        channel.receive(1, "sort/0", words(0))

    a, b, _ = failures(running, waits, ends, receives(1))
    assert isinstance(a, PeerLost | AbortedByPeer)
    assert "b" in str(a)
    assert isinstance(b, WireError)


def test_a_failed_write_surfaces_in_the_next_call(running: list[Endpoint], reached: threading.Event) -> None:
    bulk = np.zeros(BULK_BYTES, np.uint8)

    def sends_to_nobody(channel: StreamChannel) -> None:
        channel.send(0, "bulk", bulk)
        reached.set()
        deadline = time.monotonic() + NOTICED_SECONDS
        while time.monotonic() < deadline:
            channel.send(2, "sort/0", words(0))

    def aborts(_: StreamChannel) -> None:
        assert reached.wait(NOTICED_SECONDS)
        raise ValueError

    _, b, _ = failures(running, aborts, sends_to_nobody, receives(0))
    assert isinstance(b, AbortedByPeer)


def test_a_peer_that_finishes_without_a_stream_ends_the_wait(running: list[Endpoint]) -> None:
    a, b, c = running
    with dialled(c, "a"):
        waiting = a.streams("b", RUN)
        b.finish(RUN)
        with pytest.raises(PeerLost, match="finished the run without opening a stream"):
            waiting.accept()


def test_no_thread_outlives_the_channels(make: Make) -> None:
    before = set(threading.enumerate())
    with ExitStack() as started:
        running = [started.enter_context(make(name)) for name in NAMES]
        for party in running:
            party.begin(RUN)
        lockstep(running, idle)
    assert set(threading.enumerate()) <= before


def test_progress_names_the_peer_that_is_awaited(make: Make) -> None:
    lines: list[str] = []
    enough = threading.Event()

    def progress(line: str) -> None:
        lines.append(line)
        enough.set()

    with ExitStack() as started:
        running = [started.enter_context(party) for party in (make("a", on_progress=progress), make("b"), make("c"))]
        running[1].step("compute")
        for party in running:
            party.begin(RUN)

        def answers_late(channel: StreamChannel) -> None:
            assert enough.wait(NOTICED_SECONDS)
            channel.send(0, "sort/0", words(0))

        assert failures(running, receives(1), answers_late, idle) == [None] * 3
    assert lines[0].startswith("waiting for b")
