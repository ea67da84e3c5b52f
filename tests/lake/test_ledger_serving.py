"""Whoever is at work serves others for a while, and tells them: what is believed, and what becomes of his own claim."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from dp.accounting.budget import ZCDP, Budget, PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import LedgerError
from lake.ledger import Ledger, sqlite
from lake.ledger import board as board_module
from lake.ledger.amounts import write_budget
from lake.ledger.asking import Asking
from lake.ledger.board import Board, Heard, Posted
from lake.ledger.selection import Named
from lake.ledger.store import Made, Post, Transaction
from tests.lake.posting import ASKED, at_work, beside, check, file_place, moments, posted, put, requests
from tests.tools.ledgers import Place, reserve

__all__ = ["file_place"]

WHOLE = Named(("whole",), PureDP("0.1"), "")


@pytest.fixture
def ledger(file_place: Place) -> Iterator[Ledger]:
    """A new ledger of epsilon 1, whose books and log are right after every test."""
    with Ledger.create(file_place(), capacity=PureDP(1)) as made:
        yield made
        check(made)


@pytest.fixture
def boards(ledger: Ledger) -> Iterator[tuple[Board, Board]]:
    """Of two other processes."""
    with closing(Board(beside(ledger), 30)) as one, closing(Board(beside(ledger), 30)) as other:
        yield one, other


Then = Callable[[Callable[[], None]], list[float]]


@pytest.fixture
def while_serving(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Then:
    """Something that happens whenever the ledger has served others and looks for more; gives when it did."""

    def then(happens: Callable[[], None]) -> list[float]:
        board = ledger._store._board
        awaited, times = board.awaited, []

        def happened(seconds: float) -> bool:
            times.append(time.monotonic())
            happens()
            return awaited(seconds)

        monkeypatch.setattr(board, "awaited", happened)
        return times

    return then


# --- what those are told whose claims were made


def test_a_claim_that_somebody_else_made_is_told_as_it_stands(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    tell = Asking.told
    monkeypatch.setattr(Asking, "told", lambda asking, number, at: (told.append(number), tell(asking, number, at))[1])
    monkeypatch.setattr(sqlite, "_PAUSE_UNLESS_RUNG", 5.0)  # on a busy machine nobody looks before he is told
    with ExitStack() as stack:
        handles = [stack.enter_context(Ledger.open(ledger.name)) for _ in range(4)]
        threads = stack.enter_context(ThreadPoolExecutor(4))
        with at_work(ledger) as until:
            asked = [
                threads.submit(handle.ask, replace(ASKED, request_id=f"r{i}", lease_seconds=50 + i), WHOLE)
                for i, handle in enumerate(handles)
            ]
            until(4)
        rows = [row.result(20) for row in asked]
    assert [ledger.poll(row.number) for row in rows] == rows
    assert [row.request.request_id for row in rows] == ["r0", "r1", "r2", "r3"]
    assert told


def test_of_two_posts_for_one_request_only_the_one_that_was_made_is_told(
    ledger: Ledger, boards: tuple[Board, Board]
) -> None:
    one, other = boards
    first, second = one.post(posted(ledger, "same", "0.1")), other.post(posted(ledger, "same", "0.2"))
    reserve(ledger, "mine")
    assert one.wait(10, first) == Heard()
    assert other.wait(10, second).number == 2
    assert ledger.reserved() == PureDP("0.3")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "same", "0.1")


def test_of_two_posts_for_one_request_the_one_that_cannot_be_made_is_not_told(
    ledger: Ledger, boards: tuple[Board, Board]
) -> None:
    one, other = boards
    good = posted(ledger, "same", "0.1")
    of_another_kind = good._replace(content=[*good.content[:2], write_budget(ZCDP(1)), *good.content[3:]])
    first, second = one.post(good), other.post(of_another_kind)
    reserve(ledger, "mine")
    assert one.wait(10, first).number == 2
    assert other.wait(10, second) == Heard()


def test_who_posted_what_its_server_asked_for_itself_is_not_told(ledger: Ledger, boards: tuple[Board, Board]) -> None:
    secret = boards[0].post(posted(ledger, "mine", "0.2"))
    reserve(ledger, "mine", "0.1")
    assert boards[0].wait(10, secret) == Heard()
    assert (requests(ledger), ledger.reserved()) == (["mine"], PureDP("0.1"))


def test_nobody_is_told_of_what_was_not_made_or_not_kept(
    ledger: Ledger, boards: tuple[Board, Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = boards[0].post(posted(ledger, "dear", "2"))
    reserve(ledger, "mine")
    assert boards[0].wait(10, dear) == Heard()
    cheap = boards[0].post(posted(ledger, "cheap"))
    lead = Asking.lead

    def failing(asking: Asking, tx: Transaction, posts: object) -> object:
        lead(asking, tx, posts)  # type: ignore[arg-type]
        raise LedgerError("a ledger", "the disk is gone", "get another one")

    monkeypatch.setattr(Asking, "lead", failing)
    with pytest.raises(LedgerError, match="the disk is gone"):
        reserve(ledger, "again")
    assert boards[0].wait(0.1, cheap).number is None
    assert requests(ledger) == ["mine"]


def test_an_answer_that_comes_late_is_not_taken_for_that_of_the_next_call(ledger: Ledger) -> None:
    """Neither by one that posts something else, nor by one that posts nothing and opens something exactly."""
    with Ledger.open(ledger.name) as other, ThreadPoolExecutor(1) as thread:
        board = other._store._board
        with at_work(ledger) as until:
            first = thread.submit(reserve, other, "first")
            until(1)
            with closing(Board(beside(ledger), 30)) as taking:
                (line,) = [one for lot in taking.take() for one in lot]
        first.result(20)
        for number, disclosure in enumerate(("", "totals")):
            with at_work(ledger), closing(Board(beside(ledger), 30)) as late:
                asked = thread.submit(
                    reserve, other, f"next {number}", "0" if disclosure else "0.1", disclosure=disclosure
                )
                for _ in range(20):
                    late.tell([line], {line.post.secret: 1}, 1.0)
                    time.sleep(0.005)
            claim = asked.result(20)
            assert (claim.claim_id, claim.request_id) == (str(number + 2), f"next {number}")
        assert not board.awaited(0)
    assert requests(ledger) == ["first", "next 0", "next 1"]


def test_an_answer_for_a_file_that_was_replaced_is_not_believed(
    file_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, moved = file_place(), pytest.raises(LedgerError, match="was replaced since it was opened")
    with Ledger.create(place, capacity=PureDP(1)) as ledger, Ledger.open(place) as other, moved, at_work(ledger):
        shutil.copy(place, f"{place}.copy")

        def replaced(_: float, secret: str) -> Heard:
            Path(f"{place}.copy").replace(place)
            return Heard(number=1, at=time.time())

        monkeypatch.setattr(other._store._board, "wait", replaced)
        with pytest.raises(LedgerError, match="was replaced since it was opened"):
            reserve(other, "mine")


def test_a_claim_in_a_file_that_is_gone_is_told_to_nobody(file_place: Place) -> None:
    """The file is replaced by a backup while somebody is at work on it, and others post who have opened the backup."""
    place, at_clock, go_on = file_place(), threading.Event(), threading.Event()

    def clock() -> float:
        if threading.current_thread().name.startswith("server") and not at_clock.is_set():
            at_clock.set()
            assert go_on.wait(20)
        return time.time()

    Ledger.create(place, capacity=PureDP(1)).close()
    shutil.copy(place, f"{place}.backup")
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(1, "server"))
        others = stack.enter_context(ThreadPoolExecutor(1))
        server = threads.submit(lambda: reserve(stack.enter_context(Ledger.open(place, clock=clock)), "the server's"))
        assert at_clock.wait(20)
        for suffix in ("", "-wal", "-shm"):
            Path(place + suffix).unlink()
        shutil.copy(f"{place}.backup", place)
        ledger, other = (stack.enter_context(Ledger.open(place)) for _ in range(2))
        with at_work(ledger) as until:
            posting = others.submit(reserve, other, "theirs", "0.5")
            until(1)
            go_on.set()
            with pytest.raises(LedgerError, match="was replaced since it was opened"):
                server.result(20)
            wait([posting], 0.2)
            assert not posting.done()
        claim = posting.result(20)
        assert [(entry.claim_id, entry.price) for entry in ledger.entries()] == [(claim.claim_id, PureDP("0.5"))]
        check(ledger)


def test_those_whose_posts_an_error_took_are_woken(ledger: Ledger, boards: tuple[Board, Board]) -> None:
    secret = boards[0].post(posted(ledger, "theirs"))
    began = time.monotonic()
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "mine", "2")
    assert boards[0].wait(30, secret) == Heard()
    assert time.monotonic() - began < 20


def test_nobody_is_told_of_what_the_disk_did_not_take(ledger: Ledger, boards: tuple[Board, Board]) -> None:
    """A COMMIT that fails, as it would on a full disk: by a constraint that is looked at only then."""
    secret = boards[0].post(posted(ledger, "theirs"))
    store = ledger._store
    assert isinstance(store, sqlite.SQLiteStore)
    store._connection.execute("PRAGMA defer_foreign_keys = ON")
    store._connection.executescript(
        "CREATE TEMP TABLE nobody (number INTEGER PRIMARY KEY);"
        "CREATE TEMP TABLE some (number REFERENCES nobody DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TEMP TRIGGER refuse AFTER INSERT ON main.claims BEGIN INSERT INTO some VALUES (1); END;"
    )
    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        reserve(ledger, "mine")
    assert boards[0].wait(0.1, secret).number is None
    store._connection.execute("DROP TRIGGER refuse")
    assert requests(ledger) == []


# --- serving


def test_who_has_served_others_serves_those_who_come_next(ledger: Ledger, while_serving: Then) -> None:
    names = iter(("b", "c"))
    while_serving(lambda: put(ledger, *(posted(ledger, name) for name in [next(names, None)] if name is not None)))
    put(ledger, posted(ledger, "a"))
    reserve(ledger, "mine")
    assert requests(ledger) == ["mine", "a", "b", "c"]
    assert len(set(moments(ledger))) == 3


def test_who_is_alone_does_not_wait_for_others(ledger: Ledger, while_serving: Then) -> None:
    times = while_serving(lambda: None)
    reserve(ledger, "mine")
    put(ledger, posted(ledger, "dear", "2"))
    reserve(ledger, "again")
    assert times == []


def test_serving_ends_although_others_keep_coming(
    ledger: Ledger, while_serving: Then, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SERVING_SECONDS", 0.2)
    times = while_serving(lambda: put(ledger, posted(ledger, f"r{time.monotonic_ns()}", "1/100000")))
    put(ledger, posted(ledger, "a"))
    reserve(ledger, "mine")
    assert len(times) > 1
    assert times[-1] - times[0] < 10
    assert time.monotonic() - times[-1] < 10


def test_serving_ends_where_nothing_can_be_made(ledger: Ledger, while_serving: Then) -> None:
    times = while_serving(lambda: put(ledger, posted(ledger, f"r{time.monotonic_ns()}", "2")))
    put(ledger, posted(ledger, "a"))
    reserve(ledger, "mine")
    assert len(times) == 1
    assert requests(ledger) == ["mine", "a"]


def test_what_may_not_be_made_is_not_made_while_serving(ledger: Ledger, while_serving: Then) -> None:
    good = posted(ledger, "good")

    def with_price(name: str, price: Budget) -> Post:
        return Post(name, [*good.content[:2], write_budget(price), *good.content[3:]])

    bad = (with_price("free", PureDP(0)), with_price("of another kind", ZCDP(1)), with_price("dear", PureDP(2)))
    elsewhere = Post("elsewhere", ["another ledger", *good.content[1:]])
    while_serving(lambda: put(ledger, *bad, elsewhere, good))
    put(ledger, posted(ledger, "a"))
    reserve(ledger, "mine")
    assert requests(ledger) == ["mine", "a", "good"]


def test_a_clock_that_fails_while_it_serves_takes_nothing_from_the_own_claim(
    ledger: Ledger, while_serving: Then, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> float:
        raise OSError("no clock")

    def fails() -> None:
        put(ledger, posted(ledger, "b"))
        monkeypatch.setattr(ledger._store, "_clock", failing)

    while_serving(fails)
    put(ledger, posted(ledger, "a"))
    mine = reserve(ledger, "mine")
    monkeypatch.setattr(ledger._store, "_clock", time.time)
    assert requests(ledger) == ["mine", "a"]
    ledger.arm(mine, b"noised")


def test_an_error_while_serving_takes_nothing_from_the_own_claim(ledger: Ledger, while_serving: Then) -> None:
    """A real one: the disk is full, as far as SQLite can tell."""
    connection = ledger._store._connection

    def full() -> None:
        connection.execute("PRAGMA max_page_count = 1")  # that is, no more than there are
        put(ledger, *(posted(ledger, f"long {number}", purpose="x" * 30_000) for number in range(9)))

    while_serving(full)
    put(ledger, posted(ledger, "a"))
    mine = reserve(ledger, "mine")
    assert requests(ledger) == ["mine", "a"]
    connection.execute("PRAGMA max_page_count = 1000000")
    ledger.arm(mine, b"noised")
    assert ledger.spent() == PureDP("0.1")


def test_a_ledger_that_goes_while_it_serves_takes_nothing_from_the_own_claim(
    ledger: Ledger, while_serving: Then
) -> None:
    place = Path(ledger.name)

    def gone() -> None:
        place.rename(f"{place}.away")
        put(ledger, posted(ledger, "b"))

    while_serving(gone)
    put(ledger, posted(ledger, "a"))
    mine = reserve(ledger, "mine")
    Path(f"{place}.away").rename(place)
    assert requests(ledger) == ["mine", "a"]
    ledger.arm(mine, b"noised")


def test_who_is_interrupted_while_serving_has_its_claim_and_can_go_on(ledger: Ledger, while_serving: Then) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    times = while_serving(interrupted)
    put(ledger, posted(ledger, "a"))
    with pytest.raises(KeyboardInterrupt):
        reserve(ledger, "mine")
    assert (requests(ledger), len(times)) == (["mine", "a"], 1)
    ledger.release(reserve(ledger, "mine"))
    assert ledger.reserved() == PureDP("0.1")


def test_who_is_interrupted_as_he_ends_to_serve_is_not_seen_to_serve_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, marks = board_module._mark, []

    def interrupted(file: int, how: int) -> bool:
        marks.append(how)
        if marks.count(fcntl.LOCK_UN) == 1 and how == fcntl.LOCK_UN and fcntl.LOCK_EX in marks:
            raise KeyboardInterrupt
        return mark(file, how)

    put(ledger, posted(ledger, "a"))
    ledger._store._board.post(posted(ledger, "b"))  # whose board is open from now on
    monkeypatch.setattr(board_module, "_mark", interrupted)
    monkeypatch.setattr(ledger._store._board, "served", lambda: False)
    with pytest.raises(KeyboardInterrupt):
        reserve(ledger, "mine")
    assert marks == [fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_UN]
    assert requests(ledger) == ["mine", "a", "b"]


# --- processes


def tell_when_asked_to(place: str, pipe: Connection) -> None:
    """Make a claim with one that was posted, and stop before that is told."""
    with Ledger.open(place) as ledger:
        board = ledger._store._board
        tell = board.tell

        def told(taken: Iterable[Posted], made: Made, at: float) -> None:
            pipe.send(len(made))
            pipe.recv()
            tell(taken, made, at)

        board.tell = told  # type: ignore[method-assign]
        reserve(ledger, "theirs")


@pytest.mark.slow
def test_those_who_are_told_see_at_once_that_they_are_served(ledger: Ledger, boards: tuple[Board, Board]) -> None:
    """Otherwise they take the lock between two lots, and their server's work ends, before it has begun."""
    board, _ = boards
    board.post(posted(ledger, "mine"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_when_asked_to, args=(ledger.name, theirs), daemon=True)
    process.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == 1
    assert board.served()
    ours.send("tell")
    process.join()
    assert not board.served()
    assert requests(ledger) == ["theirs", "mine"]


def debit_for_ever(place: str, name: str, heard: str, ready: Barrier | None) -> None:
    """Debit under one name after the other, and write down what each of them got; another life begins anew."""
    life = time.monotonic_ns()
    with Ledger.open(place) as ledger, Path(heard).open("a", encoding="ascii") as file:
        if ready is not None:
            ready.wait(60)
        for number in itertools.count():
            request = f"{name}-{life}-{number}"
            claim = reserve(ledger, request, "1/1000000", lease_seconds=600)
            file.write(f"{request} {claim.request_id} {claim.claim_id} {claim.lease_expires_at!r}\n")
            file.flush()


@pytest.mark.slow
def test_processes_that_are_killed_or_stopped_while_they_serve_lose_and_double_nothing(
    file_place: Place, tmp_path: Path
) -> None:
    place, heard, chance = file_place(), tmp_path / "heard", random.Random(8)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ready = context.Barrier(6)

    def started(name: str, ready: Barrier | None = None) -> multiprocessing.Process:
        process = context.Process(target=debit_for_ever, args=(place, name, str(heard), ready), daemon=True)
        process.start()
        return process

    with Ledger.create(place, capacity=PureDP(1)) as ledger:
        crew = {f"p{i}": started(f"p{i}", ready) for i in range(5)}
        ready.wait(60)
        for _ in range(40):
            time.sleep(chance.uniform(0.01, 0.06))
            name = chance.choice(sorted(crew))
            if chance.random() < 0.3:
                os.kill(crew[name].pid, signal.SIGSTOP)
                time.sleep(chance.uniform(0.01, 0.06))
                os.kill(crew[name].pid, signal.SIGCONT)
            else:
                crew[name].kill()
                crew[name].join()
                crew[name] = started(name)
        for process in crew.values():
            process.kill()
            process.join()
        lines = [line.split() for line in heard.read_text("ascii").splitlines(keepends=True) if line.endswith("\n")]
        made = {entry.claim_id: entry for entry in ledger.entries()}
        for asked, told, number, lease in lines:
            assert asked == told
            row = ledger.poll(int(number))
            assert (row.request.request_id, row.state, repr(row.lease_expires_at)) == (asked, "reserved", lease)
        assert len({number for _, _, number, _ in lines}) == len(lines) > 100
        assert ledger.reserved() == PureDP(Fraction(len(made), 10**6))
        assert max(Counter(moments(ledger)).values()) > 1  # some transaction made several
        check(ledger)
