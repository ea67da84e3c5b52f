"""One suite for every transport: what `Transport` promises holds between threads and over mutual TLS alike."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.errors import AbortedByPeer, PeerLost, RunAborted, WireError
from spark_mpc.transport import RENDEZVOUS, MemoryHub, Traffic, tls_transport
from spark_mpc.transport.endpoint import Endpoint
from spark_mpc.wire import INCARNATION_BYTES, INLINE_BYTES, Header, Kind
from tests.tools.federations import at_once, loopback_federation

pytestmark = pytest.mark.slow  # waits out timeouts on real sockets

NAMES = ("a", "b", "c")
RUN, OTHER_RUN = b"r" * 32, b"o" * 32
TIMEOUT_SECONDS = 2.0
LOST_WITHIN_SECONDS = 3 * TIMEOUT_SECONDS  # the timeout, and room for a busy machine
BULK = bytes(range(256)) * 2048  # 512 KiB: more than a message that is sent at once

Make = Callable[..., Endpoint]


@pytest.fixture(params=["memory", "tls"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes the transport of a party; every call is another process of it, as far as the peers can see."""
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


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def noticed(condition: Callable[[], bool]) -> bool:
    """Whether something that another thread brings about happens in time."""
    deadline = time.monotonic() + LOST_WITHIN_SECONDS
    poll = threading.Event()
    while not condition() and time.monotonic() < deadline:
        poll.wait(0.01)
    return condition()


def raised(future: Future[object]) -> BaseException | None:
    return future.exception(timeout=LOST_WITHIN_SECONDS + TIMEOUT_SECONDS)


def crafted(sender: Endpoint, *, sequence: int, step: str, length: int, incarnation: bytes | None = None) -> Header:
    return Header(Kind.MESSAGE, RUN, step, incarnation or sender.incarnation, sequence, length)


def inject(sender: Endpoint, receiver: Endpoint, header: Header, payload: bytes) -> None:
    sender.link.deliver(receiver.me, header, memoryview(payload), lambda: None)


# -- greetings ---------------------------------------------------------------------------------------------------------


def test_names_are_known(parties: list[Endpoint]) -> None:
    assert [(party.me, party.peers) for party in parties] == [("a", ("b", "c")), ("b", ("a", "c")), ("c", ("a", "b"))]


def test_greetings_meet(parties: list[Endpoint]) -> None:
    def greet(party: Endpoint) -> list[bytes]:
        for peer in party.peers:
            party.send(peer, RENDEZVOUS, "hello", party.me.encode())
        return [party.receive(peer, RENDEZVOUS, "hello", 10) for peer in party.peers]

    assert at_once(*(partial(greet, party) for party in parties)) == [[b"b", b"c"], [b"a", b"c"], [b"a", b"b"]]


def test_the_newest_greeting_wins(parties: list[Endpoint]) -> None:
    a, b, _ = parties
    a.send("b", RENDEZVOUS, "hello", b"first")
    a.send("b", RENDEZVOUS, "hello", b"second")
    a.send("b", RENDEZVOUS, "check", b"apart")
    assert b.receive("a", RENDEZVOUS, "hello", 10) == b"second"
    assert b.receive("a", RENDEZVOUS, "check", 10) == b"apart"


def test_a_greeting_waits_for_the_peer_to_start(make: Make) -> None:
    awaited = threading.Event()
    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        awaited.set()

    with ExitStack() as started:
        a = started.enter_context(make("a", on_progress=progress))

        def start_late() -> bytes:
            assert awaited.wait(LOST_WITHIN_SECONDS)
            b = started.enter_context(make("b"))
            return b.receive("a", RENDEZVOUS, "hello", 10)

        assert at_once(lambda: a.send("b", RENDEZVOUS, "hello", b"early"), start_late) == [None, b"early"]
    assert lines == ["waiting for b (not started)"]


def test_a_peer_that_never_starts_is_named(make: Make) -> None:
    with make("a") as a, pytest.raises(PeerLost, match=r"lost b .*start it"):
        a.send("b", RENDEZVOUS, "hello", b"")


def test_a_peer_that_never_greets_is_named(parties: list[Endpoint]) -> None:
    with pytest.raises(PeerLost, match=r"lost b .*no greeting within 2 s"):
        parties[0].receive("b", RENDEZVOUS, "hello", 10)


def test_a_peer_restarted_before_it_was_met_gets_our_greeting_again(make: Make) -> None:
    with make("a") as a:
        with make("b"):
            a.send("b", RENDEZVOUS, "hello", b"from a")
        with make("b") as b:
            b.send("a", RENDEZVOUS, "hello", b"from b")
            got = at_once(
                lambda: a.receive("b", RENDEZVOUS, "hello", 10), lambda: b.receive("a", RENDEZVOUS, "hello", 10)
            )
            assert got == [b"from b", b"from a"]


def test_a_greeting_taken_back_is_not_received(parties: list[Endpoint]) -> None:
    a, b, _ = parties
    a.send("b", RENDEZVOUS, "hello", b"x")
    a.abort(RENDEZVOUS, "not now")
    with pytest.raises(PeerLost):
        b.receive("a", RENDEZVOUS, "hello", 10)


def test_a_greeting_taken_back_after_it_was_used_aborts_the_run(parties: list[Endpoint]) -> None:
    a, b, _ = parties
    a.send("b", RENDEZVOUS, "hello", b"x")
    b.receive("a", RENDEZVOUS, "hello", 10)
    b.begin(RUN)
    a.abort(RENDEZVOUS, "the plan is refused")
    with pytest.raises(AbortedByPeer, match="by a: the plan is refused"):
        b.receive("a", RUN, "agree", 10)
    b.begin(OTHER_RUN)
    with pytest.raises(AbortedByPeer):
        b.check(OTHER_RUN)


@pytest.mark.parametrize(("step", "length"), [("agree", 1), ("hello", INLINE_BYTES + 1)])
def test_what_is_no_greeting_is_refused_at_both_ends(parties: list[Endpoint], step: str, length: int) -> None:
    a, b, _ = parties
    with pytest.raises(WireError, match="greeting"):
        a.send("b", RENDEZVOUS, step, bytes(length))
    header = replace(crafted(a, sequence=0, step=step, length=length), run=RENDEZVOUS)
    with pytest.raises(WireError, match="no greeting"):
        inject(a, b, header, bytes(length))


def test_a_greeting_longer_than_asked_is_refused(parties: list[Endpoint]) -> None:
    parties[0].send("b", RENDEZVOUS, "hello", bytes(11))
    with pytest.raises(WireError, match="11 bytes, at most 10"):
        parties[1].receive("a", RENDEZVOUS, "hello", 10)


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", bytes(INLINE_BYTES), bytes(INLINE_BYTES + 1), BULK])
def test_a_message_arrives_unaltered(running: list[Endpoint], payload: bytes) -> None:
    a, b, _ = running
    _, got = at_once(lambda: a.send("b", RUN, "upload/0", payload), lambda: b.receive("a", RUN, "upload/0", len(BULK)))
    assert got == payload
    assert a.traffic(RUN) == Traffic(sent_messages=1, sent_bytes=len(payload))
    assert b.traffic(RUN) == Traffic(received_messages=1, received_bytes=len(payload))


def test_words_go_straight_into_the_buffer(running: list[Endpoint]) -> None:
    a, b, _ = running
    words = np.arange(100_000, dtype=np.uint64)
    room = np.zeros_like(words)
    at_once(lambda: a.send("b", RUN, "upload/0", words.data), lambda: b.receive_into("a", RUN, "upload/0", room.data))
    assert (room == words).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.sampled_from([0, 1, 1000, INLINE_BYTES, INLINE_BYTES + 1, 300_000]), max_size=6))
def test_messages_arrive_in_order(parties: list[Endpoint], lengths: list[int]) -> None:
    a, b, _ = parties
    run = os.urandom(32)  # each run begins once
    payloads = [bytes([index]) * length for index, length in enumerate(lengths)]
    for party in (a, b):
        party.begin(run)

    def send() -> None:
        for index, payload in enumerate(payloads):
            a.send("b", run, f"round/{index}", payload)

    _, got = at_once(send, lambda: [b.receive("a", run, f"round/{i}", 300_000) for i in range(len(payloads))])
    assert got == payloads
    for party in (a, b):
        party.finish(run)


def test_everybody_may_send_to_everybody_at_once(running: list[Endpoint]) -> None:
    def exchange(party: Endpoint) -> list[bytes]:
        with ThreadPoolExecutor(2) as senders:
            sent = [
                senders.submit(party.send, peer, RUN, "upload/0", party.me.encode() * 2**20) for peer in party.peers
            ]
            got = [party.receive(peer, RUN, "upload/0", 2**20) for peer in party.peers]
            for future in sent:
                future.result(timeout=30)
        return got

    for party, got in zip(running, at_once(*(partial(exchange, party) for party in running)), strict=True):
        assert got == [peer.encode() * 2**20 for peer in party.peers]


def test_the_tap_sees_what_is_sent(make: Make) -> None:
    seen: list[tuple[str, bytes, str, bytes]] = []
    with make("a", tap=lambda peer, run, step, payload: seen.append((peer, run, step, bytes(payload)))) as a, make("b"):
        a.send("b", RENDEZVOUS, "hello", b"hi")
        a.begin(RUN)
    assert seen == [("b", RENDEZVOUS, "hello", b"hi")]


def test_a_message_that_is_ahead_waits_for_the_run(make: Make) -> None:
    ahead = threading.Event()
    with make("a", tap=lambda *_: ahead.set()) as a, make("b") as b:
        a.begin(RUN)

        def follow() -> bytes:
            assert ahead.wait(LOST_WITHIN_SECONDS)
            b.begin(RUN)
            return b.receive("a", RUN, "agree", 10)

        assert at_once(lambda: a.send("b", RUN, "agree", b"ahead"), follow) == [None, b"ahead"]


def test_bulk_waits_for_its_receiver(running: list[Endpoint], aside: ThreadPoolExecutor) -> None:
    a, b, _ = running
    sent = aside.submit(a.send, "b", RUN, "upload/0", BULK)
    a.send("c", RUN, "marker", b"")  # time passes: another message is taken meanwhile
    assert not sent.done()
    assert b.receive("a", RUN, "upload/0", len(BULK)) == BULK
    assert sent.result(timeout=10) is None


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, len(BULK)])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_message_of_another_length_than_the_buffer_is_refused(
    running: list[Endpoint], aside: ThreadPoolExecutor, length: int, difference: int
) -> None:
    a, b, _ = running
    sent = aside.submit(a.send, "b", RUN, "upload/0", BULK[:length])
    with pytest.raises(WireError, match=f"exactly {length + difference}"):
        b.receive_into("a", RUN, "upload/0", memoryview(bytearray(length + difference)))
    if length > INLINE_BYTES:
        assert isinstance(raised(sent), WireError)


def test_a_message_longer_than_accepted_is_refused_at_both_ends(
    running: list[Endpoint], aside: ThreadPoolExecutor
) -> None:
    a, b, _ = running
    sent = aside.submit(a.send, "b", RUN, "upload/0", BULK)
    with pytest.raises(WireError, match="at most 100"):
        b.receive("a", RUN, "upload/0", 100)
    assert isinstance(raised(sent), WireError)


@pytest.mark.parametrize("payload", [b"short", BULK])
def test_another_step_than_awaited_is_refused(
    running: list[Endpoint], aside: ThreadPoolExecutor, payload: bytes
) -> None:
    a, b, _ = running
    aside.submit(a.send, "b", RUN, "upload/1", payload)
    with pytest.raises(WireError, match="'upload/1' came where 'upload/0' was awaited"):
        b.receive("a", RUN, "upload/0", len(BULK))


@pytest.mark.parametrize(
    ("sequence", "step", "reason"),
    [
        (0, "agree", "message 0 came where 1 is due: replayed"),
        (0, "upload/0", "message 0 came where 1 is due"),
        (2, "upload/0", "message 2 came where 1 is due: replayed or out of order"),
        (1, "agree", "'agree' was delivered already"),
    ],
)
def test_replayed_and_reordered_messages_are_refused(
    running: list[Endpoint], sequence: int, step: str, reason: str
) -> None:
    a, b, _ = running
    a.send("b", RUN, "agree", b"x")
    with pytest.raises(WireError, match=reason):
        inject(a, b, crafted(a, sequence=sequence, step=step, length=1), b"x")
    assert b.receive("a", RUN, "agree", 1) == b"x"  # the run goes on


def test_a_message_of_another_process_is_refused(running: list[Endpoint]) -> None:
    a, b, _ = running
    a.send("b", RUN, "agree", b"x")
    header = crafted(a, sequence=1, step="upload/0", length=1, incarnation=bytes(INCARNATION_BYTES))
    with pytest.raises(WireError, match="another process"):
        inject(a, b, header, b"x")


def test_messages_of_finished_and_unknown_runs_are_refused(running: list[Endpoint]) -> None:
    a, b, _ = running
    b.finish(RUN)
    with pytest.raises(WireError, match="finished"):
        inject(a, b, crafted(a, sequence=0, step="agree", length=1), b"x")
    header = replace(crafted(a, sequence=0, step="agree", length=1), run=OTHER_RUN)
    with pytest.raises(WireError, match="no such run"):
        inject(a, b, header, b"x")


def test_a_run_begins_once_and_ends_once(running: list[Endpoint]) -> None:
    a, _, _ = running
    with pytest.raises(WireError, match="begins once"):
        a.begin(RUN)
    a.finish(RUN)
    with pytest.raises(WireError, match="begins once"):
        a.begin(RUN)
    for use in (lambda: a.send("b", RUN, "agree", b""), lambda: a.receive("b", RUN, "agree", 0), lambda: a.check(RUN)):
        with pytest.raises(WireError, match="finished"):
            use()
    with pytest.raises(WireError, match="call begin first"):
        a.receive("b", OTHER_RUN, "agree", 0)


def test_bad_arguments_are_refused(running: list[Endpoint]) -> None:
    a, _, _ = running
    with pytest.raises(InvalidArgument, match="the peers are b, c"):
        a.send("d", RUN, "agree", b"")
    with pytest.raises(InvalidArgument, match="can be written"):
        a.receive_into("b", RUN, "agree", memoryview(b"123"))
    with pytest.raises(WireError, match="step"):
        a.send("b", RUN, "Not a step", b"")
    with pytest.raises(WireError, match="step"):
        a.step("Not a step")


# -- aborts and losses -------------------------------------------------------------------------------------------------


def test_an_abort_reaches_whoever_waits(running: list[Endpoint], aside: ThreadPoolExecutor) -> None:
    a, b, c = running
    waiting = [
        aside.submit(b.receive, "c", RUN, "upload/0", 10),
        aside.submit(c.send, "a", RUN, "upload/0", BULK),
        aside.submit(a.receive, "b", RUN, "upload/0", 10),
    ]
    a.abort(RUN, "the disk is full")
    errors = [raised(future) for future in waiting]
    assert [type(error) for error in errors] == [AbortedByPeer, AbortedByPeer, RunAborted]
    assert all("the disk is full" in str(error) for error in errors)
    with pytest.raises(AbortedByPeer):
        c.check(RUN)
    with pytest.raises(RunAborted, match="the disk is full"):
        a.check(RUN)


def test_an_abort_that_was_not_heard_is_found_by_asking(parties: list[Endpoint]) -> None:
    a, b, _ = parties
    a.begin(RUN)
    a.abort(RUN, "too early")  # b has not begun, so it cannot remember
    b.begin(RUN)
    with pytest.raises(AbortedByPeer, match="too early"):
        b.receive("c", RUN, "agree", 10)


def test_an_abort_heard_from_another_names_who_began_it(parties: list[Endpoint]) -> None:
    a, b, c = parties
    for early in (a, c):
        early.begin(RUN)
    a.abort(RUN, "too early")
    with pytest.raises(AbortedByPeer):
        c.receive("a", RUN, "agree", 10)
    b.begin(RUN)
    with pytest.raises(AbortedByPeer, match="by a: too early"):
        b.send("c", RUN, "agree", b"")


def test_the_first_reason_stays(running: list[Endpoint]) -> None:
    a, b, _ = running
    a.abort(RUN, "first")
    b.abort(RUN, "second")
    with pytest.raises(RunAborted, match="first"):
        a.check(RUN)
    with pytest.raises(AbortedByPeer, match="first"):
        b.check(RUN)


@pytest.mark.parametrize("wait", ["receive", "send", "bulk"])
def test_a_peer_that_ends_is_lost(running: list[Endpoint], aside: ThreadPoolExecutor, wait: str) -> None:
    a, b, _ = running
    b.step("local")
    a.step("local")
    b.send("a", RUN, "agree", b"x")
    a.receive("b", RUN, "agree", 1)
    use = {
        "receive": lambda: a.receive("b", RUN, "upload/0", 10),
        "send": lambda: a.send("b", RUN, "upload/0", b"x"),
        "bulk": lambda: a.send("b", RUN, "upload/0", BULK),
    }[wait]
    if wait == "send":
        b.close()
    waiting = aside.submit(use)
    b.close()
    error = raised(waiting)
    assert isinstance(error, PeerLost)
    assert error.peer == "b"
    assert noticed(lambda: lost(a))


def lost(party: Endpoint) -> bool:
    try:
        party.check(RUN)
    except PeerLost:
        return True
    return False


def test_a_restarted_peer_is_lost_to_the_run(make: Make) -> None:
    with make("a") as a, make("c") as c:
        c.begin(RUN)
        with make("b") as b:
            for party in (a, b):
                party.begin(RUN)
            b.send("a", RUN, "agree", b"x")
        with make("b") as b:
            b.begin(RUN)
            assert a.receive("b", RUN, "agree", 1) == b"x"
            with pytest.raises(PeerLost, match="restarted"):
                a.receive("b", RUN, "upload/0", 1)


def test_what_a_lost_peer_had_sent_is_still_received(running: list[Endpoint]) -> None:
    a, b, _ = running
    b.send("a", RUN, "agree", b"x")
    b.close()
    assert noticed(lambda: lost(a))
    assert a.receive("b", RUN, "agree", 1) == b"x"


def test_a_peer_that_finished_without_sending_ends_the_wait(running: list[Endpoint]) -> None:
    a, b, _ = running
    b.finish(RUN)
    with pytest.raises(PeerLost, match="finished the run without sending 'upload/0'"):
        a.receive("b", RUN, "upload/0", 10)


def test_a_peer_that_finished_may_leave(running: list[Endpoint]) -> None:
    a, b, c = running
    b.send("a", RUN, "agree", b"x")
    assert a.receive("b", RUN, "agree", 1) == b"x"
    b.finish(RUN)
    with pytest.raises(PeerLost, match="finished"):  # so `a` has heard of it
        a.receive("b", RUN, "upload/0", 1)
    b.close()
    c.send("a", RUN, "agree", b"y")
    assert a.receive("c", RUN, "agree", 1) == b"y"
    a.check(RUN)


def test_a_peer_that_does_not_join_is_lost(parties: list[Endpoint]) -> None:
    a, _, _ = parties
    a.begin(RUN)
    with pytest.raises(PeerLost, match="has not joined the run in 2 s"):
        a.receive("b", RUN, "agree", 1)


def test_progress_names_the_peer_and_its_step(make: Make) -> None:
    lines: list[str] = []
    enough = threading.Event()

    def progress(line: str) -> None:
        lines.append(line)
        enough.set()

    with make("a", on_progress=progress) as a, make("b") as b:
        b.step("local")
        for party in (a, b):
            party.begin(RUN)

        def answer_late() -> None:
            assert enough.wait(LOST_WITHIN_SECONDS)
            b.send("a", RUN, "upload/0", b"x")

        at_once(answer_late, lambda: a.receive("b", RUN, "upload/0", 1))
    assert lines == ["waiting for b (local)"]


def test_waits_end_when_the_own_transport_closes(running: list[Endpoint], aside: ThreadPoolExecutor) -> None:
    a, _, _ = running
    waiting = aside.submit(a.receive, "b", RUN, "upload/0", 10)
    a.close()
    a.close()
    assert isinstance(raised(waiting), WireError)


def test_no_thread_outlives_the_transports(make: Make) -> None:
    before = set(threading.enumerate())
    with make("a") as a, make("b") as b:
        for party in (a, b):
            party.begin(RUN)
        at_once(lambda: a.send("b", RUN, "agree", b"x"), lambda: b.receive("a", RUN, "agree", 1))
    assert set(threading.enumerate()) <= before


def test_a_hub_needs_two_parties() -> None:
    for names in (["a"], ["a", "a"], []):
        with pytest.raises(InvalidArgument, match="at least two names"):
            MemoryHub(names)
    with pytest.raises(InvalidArgument, match="the parties are"):
        MemoryHub(["a", "b"]).transport("c")
