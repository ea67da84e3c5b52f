"""The board beside a ledger file: lines come back once, a bell wakes who waits; and what nothing comes of."""

from __future__ import annotations

import fcntl
import json
import math
import multiprocessing
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from dp.accounting.budget import ZCDP, PureDP
from lake.blocks.selectors import Selector
from lake.ledger import Ledger
from lake.ledger.amounts import write_budget
from lake.ledger.board import Board, Heard, Posted
from lake.ledger.posts import written_post
from lake.ledger.selection import Named, Wanted
from lake.ledger.store import Post
from tests.lake.claiming import LAST, VISITS
from tests.lake.posting import ASKED, beside, check, file_place, posted, put, requests
from tests.tools.ledgers import Clock, Place, reserve

__all__ = ["file_place"]

PATIENCE = 30.0
LINES = 400
LONG = "x" * 5000
"""Longer than a page, and than what a file's buffer holds at once."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger-board"


@pytest.fixture
def board(path: Path) -> Iterator[Board]:
    """Of the process that takes."""
    with closing(Board(path, PATIENCE)) as made:
        yield made


@pytest.fixture
def other(path: Path) -> Iterator[Board]:
    """Of a process that posts."""
    with closing(Board(path, PATIENCE)) as made:
        yield made


def taken(board: Board) -> list[Posted]:
    """All lots together."""
    return [one for lot in board.take() for one in lot]


def ids(board: Board) -> list[str]:
    return [one.post.request_id for one in taken(board)]


def line(request_id: object = "r", *, age: float = 0.0, bell: object = 9, content: object = ()) -> list[object]:
    """As a process writes it; a tuple is a list of JSON."""
    return [time.time() - age, bell, "secret", request_id, content]


def post_many(path: Path, name: str, text: str = LONG) -> None:
    with closing(Board(path, PATIENCE)) as own:
        for number in range(LINES):
            while not own.post(Post(f"{name}-{number}", [text, number])):  # others take at this moment
                time.sleep(0)


def test_lines_come_back_in_their_order_and_once(board: Board, other: Board) -> None:
    posts = [Post(f"r{number}", [number, "a\nb\r\u2028", {"price": None}]) for number in range(5)]
    secrets = [(board if number % 2 else other).post(post) for number, post in enumerate(posts)]
    assert [one.post for one in taken(board)] == [
        post._replace(secret=secret) for post, secret in zip(posts, secrets, strict=True)
    ]
    assert len({len(secret) for secret in secrets}) == 1
    assert len(set(secrets)) == len(secrets)
    assert taken(board) == taken(other) == []
    other.post(posts[0])
    assert ids(other) == ["r0"]
    assert taken(board) == []


def test_what_a_closed_board_posted_stays(path: Path, board: Board) -> None:
    with closing(Board(path, PATIENCE)) as gone:
        gone.post(Post("left", [1]))
    assert ids(board) == ["left"]


def test_there_is_no_file_before_the_first_line(board: Board, path: Path) -> None:
    assert taken(board) == []
    board.ring()
    assert not path.exists()
    board.post(Post("r", []))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


BROKEN: dict[str, Callable[[], str]] = {
    "torn": lambda: json.dumps(line("torn"))[:-9],
    "empty": lambda: "",
    "not JSON": lambda: "not JSON",
    "not text": lambda: "\x00\xff",
    "a long number": lambda: "9" * 5000,
    "deeper than a reader can go": lambda: "[" * 200_000,
    "nothing": lambda: "null",
    "an object": lambda: '{"at": 1}',
    "a part too few": lambda: json.dumps(line()[:4]),
    "a part too many": lambda: json.dumps([*line(), 1]),
    "a time of text": lambda: json.dumps([str(time.time()), *line()[1:]]),
    "a time that is none": lambda: '[NaN, 9, "secret", "r", []]',
    "an id that is a number": lambda: json.dumps(line(7)),
    "an id that no store takes": lambda: json.dumps(line("\udc80")),
    "a secret that is a number": lambda: json.dumps([time.time(), 9, 7, "r", []]),
    "a secret that cannot be sent": lambda: json.dumps([time.time(), 9, "\udc80", "r", []]),
    "content that is an object": lambda: json.dumps(line(content={"a": 1})),
    "content that is text": lambda: json.dumps(line(content="text")),
    "no port": lambda: json.dumps(line(bell=0)),
    "a port below all": lambda: json.dumps(line(bell=-1)),
    "a port above all": lambda: json.dumps(line(bell=1 << 16)),
    "half a port": lambda: json.dumps(line(bell=9.5)),
    "a port of text": lambda: json.dumps(line(bell="9")),
    "of the past": lambda: json.dumps(line(age=PATIENCE + 1)),
    "of the future": lambda: json.dumps(line(age=-PATIENCE - 9)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_is_no_line_of_today_is_passed_over(
    board: Board, other: Board, path: Path, broken: Callable[[], str]
) -> None:
    other.post(Post("before", []))
    with path.open("ab") as file:
        file.write(broken().encode("latin-1") + b"\n")
    other.post(Post("after", []))
    board.ring()
    assert ids(board) == ["before", "after"]


def test_a_torn_line_spoils_no_more_than_the_next_one(board: Board, other: Board, path: Path) -> None:
    other.post(Post("before", []))
    with path.open("ab") as file:
        file.write(json.dumps(line("torn")).encode()[:-1])
    other.post(Post("next", []))
    other.post(Post("after", []))
    assert ids(board) == ["before", "after"]


def test_a_line_older_than_the_patience_is_not_told_that_the_lock_is_free(path: Path, other: Board) -> None:
    with closing(Board(path, 0.0)) as impatient:
        other.post(Post("r", []))
        impatient.ring()
        assert other.wait(0.05) == Heard()
        assert taken(impatient) == []


def check_appended(board: Board, names: tuple[str, ...]) -> None:
    found = taken(board)
    assert all(one.post.content == [LONG, int(one.post.request_id.split("-")[1])] for one in found)
    for name in names:
        theirs = [one.post.request_id for one in found if one.post.request_id.startswith(f"{name}-")]
        assert theirs == [f"{name}-{number}" for number in range(LINES)]


def test_threads_that_append_never_mix_their_lines(board: Board, path: Path) -> None:
    names = ("one", "two", "three")
    threads = [threading.Thread(target=post_many, args=(path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_appended(board, names)


@pytest.mark.slow
def test_processes_that_append_never_mix_their_lines(board: Board, path: Path) -> None:
    names = ("one", "two")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=post_many, args=(path, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    check_appended(board, names)


def test_no_line_is_lost_that_is_appended_while_others_are_taken(board: Board, path: Path) -> None:
    writer = threading.Thread(target=post_many, args=(path, "r", "short"))
    writer.start()
    seen: Counter[str] = Counter()
    while writer.is_alive():
        seen.update(ids(board))
    writer.join()
    seen.update(ids(board))
    # some come again where the writer is put off for long in the middle of a line
    assert set(seen) == {f"r-{number}" for number in range(LINES)}


def waited(board: Board, seconds: float, secret: str = "") -> tuple[Heard, float]:
    began = time.monotonic()
    return board.wait(seconds, secret), time.monotonic() - began


def test_a_bell_wakes_whoever_waits_for_what_was_done(board: Board, other: Board) -> None:
    other.post(Post("r", []))
    board.tell(taken(board), {}, 0.0)
    heard, seconds = waited(other, 30)
    assert heard == Heard()  # somebody did something: look
    assert seconds < 10


def test_whoever_posted_is_told_what_was_made_of_it(board: Board, other: Board) -> None:
    at = time.time() / 3
    for number in (1, 2**40):
        secret = other.post(Post("r", []))
        board.tell(taken(board), {"another": 9, secret: number}, at)
        heard, seconds = waited(other, 30, secret)
        assert heard == Heard(number=number, at=at)
        assert seconds < 10


def test_nothing_is_believed_that_is_not_told_with_the_secret(path: Path, board: Board, other: Board) -> None:
    """Neither of a guess, nor of an earlier post of the same request, nor where nothing was posted."""
    first = other.post(Post("r", []))
    (earlier,) = taken(board)
    secret = other.post(Post("r", []))
    (posted,) = taken(board)
    guesses = ("0" * len(secret), secret[:-1] + ("1" if secret[-1] == "0" else "0"), "", secret.upper() + "é")
    for guess in guesses:
        board.tell([posted._replace(post=posted.post._replace(secret=guess))], {guess: 1}, 0.0)
        assert waited(other, 30, secret)[0] == Heard()
    board.tell([earlier], {first: 1}, 0.0)
    assert waited(other, 30, secret)[0] == Heard()
    board.tell([posted], {secret: 1}, 0.0)
    assert waited(other, 30)[0] == Heard()


def test_a_bell_tells_the_first_who_still_waits_that_the_lock_is_free(path: Path, board: Board, other: Board) -> None:
    with closing(Board(path, PATIENCE)) as second:
        other.post(Post("first", []))
        second.post(Post("second", []))
        board.ring()
        heard, seconds = waited(other, 30)
        assert heard == Heard(free=True)
        assert seconds < 10
        heard, seconds = waited(second, 0.05)
        assert heard == Heard()
        assert seconds >= 0.04


def test_a_bell_that_comes_while_somebody_waits_ends_the_wait(board: Board, other: Board) -> None:
    other.post(Post("r", []))
    found = taken(board)
    ringing = threading.Timer(0.1, board.tell, args=(found, {}, 0.0))
    ringing.start()
    _, seconds = waited(other, 30)
    ringing.join()
    assert seconds < 10


def test_whatever_anybody_sends_to_a_bell_only_wakes(board: Board, other: Board) -> None:
    other.post(Post("r", []))
    (posted,) = taken(board)
    for message in (b"", b"\xff", b"x" * 1000, b"\1" * 48):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anybody:
            anybody.sendto(message, ("127.0.0.1", posted.bell))
        heard, seconds = waited(other, 30, posted.post.secret)
        assert heard == Heard()
        assert seconds < 10
    assert taken(other) == []


def test_nobody_rings_for_himself(board: Board) -> None:
    board.post(Post("mine", []))
    board.tell(taken(board), {}, 0.0)
    assert waited(board, 0.05)[1] >= 0.04


def test_whose_bell_is_gone_is_passed_over(path: Path, board: Board, other: Board) -> None:
    with closing(Board(path, PATIENCE)) as gone:
        gone.post(Post("gone", []))
    other.post(Post("r", []))
    board.tell(taken(board), {}, 0.0)
    assert waited(other, 30)[1] < 10


def test_without_a_bell_waiting_is_just_waiting(board: Board, path: Path) -> None:
    heard, seconds = waited(board, 0.05)
    assert heard == Heard(free=True)  # nobody can say otherwise
    assert 0.05 <= seconds < 10
    assert not path.exists()


def test_what_is_posted_while_a_lot_is_dealt_with_is_the_next_lot(board: Board, other: Board) -> None:
    for name in ("a", "b"):
        other.post(Post(name, []))
    lots = board.take()
    assert [one.post.request_id for one in next(lots)] == ["a", "b"]
    other.post(Post("c", []))
    assert [[one.post.request_id for one in lot] for lot in lots] == [["c"]]
    assert taken(board) == []


def test_a_line_is_awaited_and_comes(board: Board, other: Board) -> None:
    assert not board.awaited(0.05)
    posting = threading.Timer(0.1, other.post, args=(Post("r", []),))
    posting.start()
    assert board.awaited(30)
    posting.join()
    assert board.awaited(0)
    assert ids(board) == ["r"]
    assert not board.awaited(0)


def test_lines_that_somebody_clears_meanwhile_spoil_no_later_ones(board: Board, other: Board) -> None:
    other.post(Post("cleared", ["x" * 100]))
    lots = board.take()
    next(lots)
    other.clear()
    other.post(Post("later", []))
    assert list(lots) == []
    assert ids(board) == ["later"]


@pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["writing", "taking"])
def test_nobody_waits_for_whoever_was_stopped_at_the_board(board: Board, other: Board, path: Path, how: int) -> None:
    other.post(Post("r", []))
    with path.open("rb") as stopped:
        fcntl.flock(stopped, how)
        began = time.monotonic()
        assert ids(board) == ["r"]  # stays, and comes again
        assert bool(other.post(Post("s", []))) == (how == fcntl.LOCK_SH)
        assert time.monotonic() - began < 10
    assert ids(board)[0] == "r"
    assert ids(board) == []


def test_a_board_that_grows_while_somebody_is_stopped_at_it_is_cleared(board: Board, other: Board, path: Path) -> None:
    for number in range(20):
        other.post(Post(f"r{number}", [LONG]))
    with path.open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_SH)
        assert len(ids(board)) == 20
        assert path.read_bytes() == b""
        assert other.post(Post("later", []))
    assert ids(board) == ["later"]


@pytest.mark.parametrize("call", [lambda board: board.post(Post("r", [])), taken], ids=["writing", "taking"])
def test_an_interrupt_leaves_no_lock_of_the_board(
    board: Board, other: Board, monkeypatch: pytest.MonkeyPatch, call: Callable[[Board], object]
) -> None:
    """One that comes right after the lock was taken."""
    other.post(Post("before", []))
    flock = fcntl.flock

    def interrupted(file: int, how: int) -> None:
        flock(file, how)
        if how != fcntl.LOCK_UN:
            raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(board)
    monkeypatch.undo()
    assert "before" in ids(other)
    assert ids(other) == []


def test_a_text_that_no_store_takes_is_not_posted(board: Board, other: Board, path: Path) -> None:
    """Neither half a character nor two halves, which would be another text for its reader."""
    assert other.post(Post("first", ["\u2028 \U0001f600"]))
    for text in ("\udc80", "\ud83d\ude00"):
        for post in (Post(text, []), Post("r", [text])):
            assert other.post(post) == ""
    assert [one.post.content for one in taken(board)] == [["\u2028 \U0001f600"]]


def test_a_post_is_printed_without_what_it_says(board: Board, other: Board) -> None:
    secret = other.post(Post("r", ["a purpose"]))
    (line,) = taken(board)
    assert line.post == Post("r", ["a purpose"], secret)
    assert "Post('r')" in repr(line)
    assert secret not in repr(line)
    assert "a purpose" not in repr(line)


def serve_until_killed(path: Path, ready: Event) -> None:
    with closing(Board(path, PATIENCE)) as board:
        board.post(Post("r", []))
        with board.serving():
            ready.set()
            time.sleep(600)


@pytest.mark.slow
def test_others_see_whether_somebody_serves_them_until_he_is_gone(board: Board, path: Path) -> None:
    assert not board.served()
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=serve_until_killed, args=(path, ready))
    process.start()
    assert ready.wait(60)
    board.post(Post("mine", []))
    assert board.served()
    assert board.served()
    assert len(taken(board)) == 2
    process.kill()
    process.join()
    assert not board.served()
    with board.serving():
        pass


def serve_and_try_again(path: Path, pipe: Connection) -> None:
    with closing(Board(path, PATIENCE)) as board:
        board.post(Post("r", []))
        with board.serving() as seen:
            for _ in range(2):
                pipe.send("serving")
                pipe.recv()
                seen()


@pytest.mark.slow
def test_who_could_not_be_seen_to_serve_while_somebody_asked_is_seen_once_he_tries_again(
    board: Board, path: Path
) -> None:
    board.post(Post("mine", []))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with path.open("rb") as asking:
        fcntl.lockf(asking, fcntl.LOCK_SH, 1)
        process = context.Process(target=serve_and_try_again, args=(path, theirs), daemon=True)
        process.start()
        theirs.close()
        assert ours.poll(60)
        assert not board.served()  # which ends the asking
        assert ours.recv() == "serving"
        ours.send("try again")
        assert ours.poll(60)
        assert board.served()
        ours.send("end")
        process.join()
    assert not board.served()


def test_lines_stay_where_not_all_are_asked_for(board: Board, other: Board) -> None:
    other.post(Post("a", []))
    assert next(board.take())
    assert ids(board) == ["a"]


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.symlink_to(path)], ids=["a folder", "a loop"])
def test_a_board_that_cannot_be_opened_gives_nothing_and_takes_nothing(
    board: Board, path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    board.post(Post("r", []))
    assert taken(board) == []
    board.ring()


def test_a_board_that_somebody_else_put_there_is_not_used(
    board: Board, other: Board, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.post(Post("theirs", []))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    board.post(Post("mine", []))
    assert taken(board) == []
    assert path.read_bytes().count(b"\n") == 1


def test_a_place_that_is_gone_makes_no_post_fail(board: Board, path: Path) -> None:
    path.parent.rmdir()
    board.post(Post("r", []))
    assert taken(board) == []
    board.ring()
    assert not path.parent.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
def test_a_full_disk_makes_no_post_fail(board: Board, path: Path) -> None:
    path.symlink_to("/dev/full")
    board.post(Post("r", []))
    assert taken(board) == []
    board.ring()


# --- what posts say, to whoever is at work on a ledger


@pytest.fixture
def empty(file_place: Place, clock: Clock) -> Iterator[Ledger]:
    """A new ledger of epsilon 1, whose books and log are right after every test."""
    with Ledger.create(file_place(), capacity=PureDP(1), clock=clock) as made:
        yield made
        check(made)


def test_an_old_post_is_not_made(empty: Ledger) -> None:
    put(empty, posted(empty, "theirs"))
    at, *rest = json.loads(beside(empty).read_text())
    beside(empty).write_text(json.dumps([at - 31, *rest]) + "\n")
    reserve(empty, "mine")
    assert requests(empty) == ["mine"]


def test_a_request_is_made_once_however_often_it_is_posted(empty: Ledger) -> None:
    reserve(empty, "old")
    empty.release(reserve(empty, "ended"))
    twice = posted(empty, "theirs")
    put(empty, posted(empty, "old"), posted(empty, "ended"), posted(empty, "mine"), twice, twice)
    reserve(empty, "mine")
    assert requests(empty) == ["old", "ended", "mine", "theirs"]
    assert empty.reserved() == PureDP("0.3")


def part(place: int, value: object) -> Callable[[list[Any]], None]:
    return lambda content: content.__setitem__(place, value)


IGNORED: dict[str, Callable[[list[Any]], object]] = {
    "of another ledger": part(0, "another"),
    "of no blocks": part(1, []),
    "of a block that is a number": part(1, [1]),
    "of a block whose name no store takes": part(1, ["whole\0"]),
    "with a price of another kind": part(2, write_budget(ZCDP("0.1"))),
    "for nothing": part(2, write_budget(PureDP(0))),
    "with a price divided by zero": part(2, '{"epsilon": "1/0", "kind": "pure"}'),
    "with a price that is a list": part(2, "[]"),
    "with a price that is torn": part(2, '{"epsilon": "1/1'),
    "with nothing": list.clear,
    "with a part too few": list.pop,
    "with a part too many": lambda content: content.append(None),
    "with blocks that are text": part(1, "whole"),
    "with a lease of text": part(-3, "60"),
    "with a lease that no float holds": part(-3, 10**400),
    "with a lease that is no number": part(-3, math.nan),
    "with a lease for ever": part(-3, math.inf),
    "with a lease of nothing": part(-3, 0.0),
    "with a lease beyond all time": part(-3, 1e300),
    "with a time to wait below zero": part(-2, -1.0),
    "with a weight of a half": part(-1, 0.5),
    "with a weight of yes": part(-1, True),
    "with a weight beyond all": part(-1, 10**400),
    "with a purpose that is an object": part(-4, {"of": "much"}),
    "with no owner": part(4, None),
    "with a run that no store takes": part(-5, "\udc80"),
}


@pytest.mark.parametrize("spoil", IGNORED.values(), ids=IGNORED)
def test_nothing_comes_of_a_post(empty: Ledger, spoil: Callable[[list[Any]], object]) -> None:
    reserve(empty, "old")
    broken = posted(empty, "theirs")
    broken = Post(broken.request_id, json.loads(json.dumps(broken.content)))
    spoil(broken.content)
    put(empty, broken, posted(empty, "good"))
    reserve(empty, "mine")
    assert requests(empty) == ["old", "mine", "good"]
    assert empty.reserved() == PureDP("0.3")


def test_nothing_comes_of_a_post_that_is_no_json(empty: Ledger) -> None:
    put(empty, posted(empty, "theirs"))
    beside(empty).write_bytes(beside(empty).read_bytes()[:-9] + b"\n")
    reserve(empty, "mine")
    assert requests(empty) == ["mine"]


def test_what_only_its_own_process_can_make_is_never_posted(empty: Ledger) -> None:
    whole = Named(("whole",), PureDP("0.1"), "")
    assert written_post(empty.ledger_id, empty.capacity, ASKED, whole) is not None
    assert written_post(empty.ledger_id, empty.capacity, replace(ASKED, parent=1), whole) is None
    assert written_post(empty.ledger_id, empty.capacity, replace(ASKED, disclosure="totals"), whole) is None
    for choice in (Wanted(None, Selector(), PureDP("0.1")), Wanted(VISITS, LAST, PureDP("0.1"))):
        assert written_post(empty.ledger_id, empty.capacity, ASKED, choice) is None


def test_a_post_that_is_too_long_is_not_written(board: Board, other: Board) -> None:
    other.post(Post("long", ["x" * 100_000]))
    other.post(Post("short", ["x"]))
    assert ids(board) == ["short"]
