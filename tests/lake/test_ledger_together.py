"""Claims made together: whoever is at work makes what others posted if that is granted surely, and nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from dp.accounting.budget import ApproxDP, PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ClaimLost, LedgerError
from lake.ledger import Ledger, Steward, sqlite
from lake.ledger.board import Board, Heard
from lake.ledger.posts import written_post
from lake.ledger.selection import Named
from lake.scheduling import DPF, ByArrivals
from tests.lake.claiming import DAYS, asked, parts, pay
from tests.lake.posting import ASKED, at_work, beside, check, file_place, moments, posted, put, requests
from tests.tools.ledgers import Clock, Place, reserve

__all__ = ["file_place"]

DAY, BEFORE = DAYS[-1], DAYS[-2]
PROCESSES, DEBITS = 6, 60


@pytest.fixture
def new_place(file_place: Place) -> Place:
    return file_place


@pytest.fixture
def ledger(new_place: Place, clock: Clock) -> Iterator[Ledger]:
    """A new ledger of epsilon 1, whose books and log are right after every test."""
    with Ledger.create(new_place(), capacity=PureDP(1), clock=clock) as made:
        yield made
        check(made)


def test_what_was_posted_is_made_by_whoever_comes_next_and_debited_once(new_place: Place) -> None:
    with Ledger.create(new_place(), capacity=PureDP(1)) as ledger:
        put(ledger, posted(ledger, "theirs", "0.2"), posted(ledger, "another's", "0.3"))
        mine = reserve(ledger, "mine", "0.1")
        made = requests(ledger)
        assert (made[0], sorted(made)) == ("mine", ["another's", "mine", "theirs"])
        assert len(set(moments(ledger))) == 1
        theirs = reserve(ledger, "theirs", "0.2")
        assert ledger.reserved() == PureDP("0.6")
        ledger.arm(theirs, b"noised")
        ledger.release(mine)
        assert (ledger.spent(), ledger.reserved()) == (PureDP("0.2"), PureDP("0.3"))
        check(ledger)


def check_served_together(holder: Ledger, one: Ledger, other: Ledger) -> None:
    """Two who wait, the second of whom posts: one transaction serves both."""
    with ThreadPoolExecutor(2) as threads:
        with at_work(holder) as until:
            first = threads.submit(reserve, one, "r1", "1/7")
            until(1)
            second = threads.submit(reserve, other, "r2", "1/7")
            until(2)
        assert sorted([first.result(20).claim_id, second.result(20).claim_id]) == ["1", "2"]
    assert (len(moments(one)), len(set(moments(one)))) == (2, 1)
    assert one.reserved() == PureDP("2/7")


def test_those_who_wait_are_served_in_one_transaction(new_place: Place) -> None:
    place = new_place()
    with Ledger.create(place, capacity=PureDP(1)) as holder, Ledger.open(place) as one, Ledger.open(place) as other:
        check_served_together(holder, one, other)
        check(holder)


def test_a_claim_that_is_made_for_others_arrives_once(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(10)))
    visits.release(pay(visits, "first", "0.1", DAY))
    put(visits, posted(visits, "theirs", "0.1", DAY))
    reserve(visits, "mine")
    assert parts(visits, DAY) == ("4/5", "1/10", "1/10", "0")
    pay(visits, "theirs", "0.1", DAY)
    assert parts(visits, DAY) == ("4/5", "1/10", "1/10", "0")


def test_others_get_what_leases_that_ran_out_gave_back(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "old", "0.9")
    clock.now += 61
    put(ledger, posted(ledger, "theirs", "0.9"))
    reserve(ledger, "mine")
    assert requests(ledger) == ["old", "mine", "theirs"]


def test_each_claim_of_a_lot_arrives(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(10)))
    visits.release(pay(visits, "first", "0.1", DAY))
    put(visits, posted(visits, "theirs", "0.05", DAY), posted(visits, "another's", "0.05", DAY))
    reserve(visits, "mine")
    assert requests(visits)[-3:] == ["mine", "theirs", "another's"]
    assert parts(visits, DAY) == ("7/10", "1/5", "1/10", "0")


def test_of_a_lot_that_is_too_much_the_first_are_made(ledger: Ledger) -> None:
    put(
        ledger,
        *(posted(ledger, name, price) for name, price in {"a": "0.4", "b": "0.4", "c": "0.3", "d": "0.1"}.items()),
    )
    reserve(ledger, "mine", "0.1")
    assert requests(ledger) == ["mine", "a", "b", "d"]
    assert ledger.remaining() == PureDP(0)


def test_who_opens_something_exactly_makes_what_others_posted(ledger: Ledger) -> None:
    put(ledger, *(posted(ledger, name, price) for name, price in {"a": "0.4", "b": "0.3", "c": "0.4"}.items()))
    reserve(ledger, "mine", "0", disclosure="totals")
    put(ledger, posted(ledger, "d", "0.2"), posted(ledger, "e", "0.1"))
    reserve(ledger, "again", "0", disclosure="totals")
    assert requests(ledger) == ["mine", "a", "b", "again", "d", "e"]
    assert ledger.reserved() == PureDP(1)


def test_a_request_that_is_posted_twice_is_made_once(ledger: Ledger) -> None:
    put(ledger, posted(ledger, "theirs", "0.2"), posted(ledger, "mine", "0.1"), posted(ledger, "theirs", "0.2"))
    reserve(ledger, "mine", "0.1")
    put(ledger, posted(ledger, "theirs", "0.2"), posted(ledger, "another's", "0.2"))
    reserve(ledger, "last", "0.1")
    assert requests(ledger) == ["mine", "theirs", "last", "another's"]
    assert ledger.reserved() == PureDP("0.6")


def test_claims_of_one_transaction_are_in_the_log_in_their_order(ledger: Ledger) -> None:
    put(ledger, *(posted(ledger, name, price) for name, price in {"a": "0.4", "b": "0.1", "c": "0.4"}.items()))
    reserve(ledger, "mine", "0.1")
    logged = [(event.fields["claim"], event.fields["demand"]) for event in ledger.events()[-4:]]
    prices = ["1/10", "2/5", "1/10", "2/5"]
    assert logged == [(i + 1, {"whole": {"kind": "pure", "epsilon": price}}) for i, price in enumerate(prices)]


def test_a_lot_of_more_deltas_than_there_are_is_made_as_far_as_there_is_room(new_place: Place) -> None:
    with Ledger.create(new_place(), capacity=ApproxDP(9, "0.9")) as ledger:
        for name, delta in {"much": "0.6", "theirs": "0.5"}.items():
            choice = Named(("whole",), ApproxDP(1, delta), "")
            post = written_post(ledger.ledger_id, ledger.capacity, replace(ASKED, request_id=name), choice)
            assert post is not None
            put(ledger, post)
        ledger.ask(replace(ASKED, request_id="mine"), Named(("whole",), ApproxDP(1, "0.4"), ""))
        assert requests(ledger) == ["mine", "theirs"]
        check(ledger)


def test_who_is_alone_again_posts_nothing_and_does_not_wait(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other, ThreadPoolExecutor(1) as thread:
        with at_work(ledger) as until:
            waiting = thread.submit(reserve, other, "met", "0.1")
            until(1)
        waiting.result(20)
        written: list[object] = []
        for call in ("post", "wait"):
            monkeypatch.setattr(other._store._board, call, lambda *asked: written.append(asked))
        for number in range(4):
            reserve(other, f"r{number}", "0.1")
    assert written == []


# --- what is not


def test_what_is_too_expensive_is_left_to_its_own_process(ledger: Ledger) -> None:
    put(ledger, posted(ledger, "theirs", "0.8"), posted(ledger, "cheap", "0.1"))
    reserve(ledger, "mine", "0.3")
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.8, remaining epsilon=0\.6 of epsilon=1"):
        reserve(ledger, "theirs", "0.8")
    assert requests(ledger) == ["mine", "cheap"]
    assert ledger.reserved() == PureDP("0.4")


def test_blocks_are_not_made_for_others(visits: Ledger) -> None:
    put(visits, posted(visits, "theirs", "0.1", DAY))
    reserve(visits, "mine")
    assert [block.name for block in visits.blocks()] == ["whole"]
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=2, remaining epsilon=1"):
        pay(visits, "much", "2", DAY)
    pay(visits, "theirs", "0.1", DAY)
    assert parts(visits, DAY) == ("0", "9/10", "1/10", "0")


def test_nobody_is_let_past_those_who_wait(visits: Ledger) -> None:
    pay(visits, "first", "0.6", DAY)
    pay(visits, "second", "0.1", BEFORE)
    assert asked(visits, "patient", "0.5").state == "waiting"
    put(visits, posted(visits, "theirs", "0.1", BEFORE))
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.7, remaining epsilon=0\.4"):
        pay(visits, "mine", "0.7", DAY)
    reserve(visits, "another")
    assert "theirs" not in requests(visits)
    pay(visits, "theirs", "0.1", BEFORE)
    assert parts(visits, BEFORE) == ("0", "4/5", "1/5", "0")


def test_a_post_that_is_not_made_is_no_arrival(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(10)))
    pay(visits, "first", "0.1", DAY)
    put(visits, posted(visits, "theirs", "0.5", DAY))
    reserve(visits, "mine")
    assert parts(visits, DAY) == ("9/10", "0", "1/10", "0")
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.5, remaining epsilon=0\.1"):
        pay(visits, "theirs", "0.5", DAY)
    assert parts(visits, DAY) == ("4/5", "1/10", "1/10", "0")


def test_a_refusal_loses_nobodys_claim(ledger: Ledger) -> None:
    put(ledger, posted(ledger, "theirs", "0.2"), posted(ledger, "another's", "0.3"))
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "mine", "2")
    assert requests(ledger) == []
    for request_id, price in (("theirs", "0.2"), ("another's", "0.3")):
        reserve(ledger, request_id, price)
    assert sorted(requests(ledger)) == ["another's", "theirs"]
    assert ledger.reserved() == PureDP("0.5")


def test_what_was_refused_is_not_made_by_somebody_else_later(ledger: Ledger) -> None:
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other, ThreadPoolExecutor(1) as thread:
        much = reserve(ledger, "much", "0.9")
        with at_work(ledger) as until:
            future = thread.submit(reserve, other, "refused", "0.5")
            until(1)
        with pytest.raises(BudgetExceeded):
            future.result(20)
    ledger.release(much)
    reserve(ledger, "mine")
    assert requests(ledger) == ["much", "mine"]


def test_what_was_refused_is_off_the_board_before_anybody_else_can_take_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody is put off while he writes there, so that its line stays when it is read."""
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other, ThreadPoolExecutor(1) as thread:
        store, seen = other._store, []
        roll_back = store._roll_back
        monkeypatch.setattr(store, "_roll_back", lambda: (seen.append(beside(ledger).read_bytes()), roll_back()))
        with ExitStack() as stack:
            with at_work(ledger) as until:
                future = thread.submit(reserve, other, "refused", "2")
                until(1)
                fcntl.flock(stack.enter_context(beside(ledger).open("rb")), fcntl.LOCK_SH)
            with pytest.raises(BudgetExceeded):
                future.result(20)
    assert seen[0] == b""


def test_who_was_woken_for_nothing_posts_again(ledger: Ledger) -> None:
    """Somebody took its line, and made nothing of it."""
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other, ThreadPoolExecutor(1) as thread:
        with at_work(ledger) as until, closing(Board(beside(ledger), 30)) as board:
            future = thread.submit(reserve, other, "mine")
            for _ in range(3):
                until(1)
                board.tell([one for lot in board.take() for one in lot], {}, 0.0)
        assert future.result(20).claim_id == "1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_was_interrupted_is_not_made_by_somebody_else_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other:
        monkeypatch.setattr(other._store._board, "wait", lambda *_: (_ for _ in ()).throw(error))
        with at_work(ledger), pytest.raises(error):
            reserve(other, "interrupted")
    reserve(ledger, "mine")
    assert requests(ledger) == ["mine"]


def test_a_board_that_somebody_else_could_read_or_write_is_not_used(new_place: Place) -> None:
    for mode in (0o666, 0o640, 0o604):
        with Ledger.create(new_place(), capacity=PureDP(1)) as ledger:
            beside(ledger).touch()
            beside(ledger).chmod(mode)
            put(ledger, posted(ledger, "before"))
            assert beside(ledger).read_bytes() == b""
            beside(ledger).write_text(json.dumps([time.time(), 9, *posted(ledger, "theirs")]) + "\n")
            reserve(ledger, "mine")
            assert requests(ledger) == ["mine"]


def test_a_request_whose_lease_ran_out_is_lost_in_a_crowd_too(new_place: Place, clock: Clock) -> None:
    place = new_place()
    with Ledger.create(place, capacity=PureDP(1), clock=clock) as ledger, Ledger.open(place, clock=clock) as late:
        reserve(ledger, "old")
        clock.now += 61
        with ThreadPoolExecutor(1) as thread:
            with at_work(ledger):
                future = thread.submit(reserve, late, "old")
                wait([future], 0.3)
            with pytest.raises(ClaimLost, match="was released"):
                future.result(20)


def test_a_price_of_no_kind_is_refused_as_ever(ledger: Ledger) -> None:
    for price in ("0.1", 0.1, None, [PureDP("0.1")]):
        with pytest.raises(InvalidArgument, match="price"):
            ledger.ask(replace(ASKED, request_id="mine"), Named(("whole",), price, ""))  # type: ignore[arg-type]
    assert requests(ledger) == []


def test_no_ledger_takes_the_name_of_anothers_board(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"ends in '-board'.*choose another name"):
        Ledger.create(tmp_path / "ledger-board", capacity=PureDP(1))
    (tmp_path / "old-board").touch()
    with pytest.raises(LedgerError, match="choose another name"):
        Ledger.open(tmp_path / "old-board")


# --- processes


def debit(place: str, name: str, ready: Barrier, price: str, number: int) -> None:
    """Claim again and again; the process ends with 0 if each time it was granted or refused."""
    with Ledger.open(place) as ledger:
        ready.wait(60)
        ready.wait(60)
        for debited in range(number):
            with contextlib.suppress(BudgetExceeded):
                reserve(ledger, f"{name}-{debited}", price, lease_seconds=600)


def debiting(ledger: Ledger, place: str, processes: int, price: str, number: int) -> list[int | None]:
    """How processes end that have waited for the lock all together; one with a single debit is killed as it waits."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ready = context.Barrier(processes + 1)
    started = [context.Process(target=debit, args=(place, f"p{i}", ready, price, number)) for i in range(processes)]
    for process in started:
        process.start()
    ready.wait(60)
    with at_work(ledger) as until:
        ready.wait(60)
        until(processes)
        for process in started if number == 1 else ():
            process.kill()
    for process in started:
        process.join(100)
    return [process.exitcode for process in started]


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [PROCESSES * DEBITS, 250], ids=["enough for all", "too little"])
def test_processes_that_race_debit_every_request_once_and_share_transactions(new_place: Place, capacity: int) -> None:
    place, whole = new_place(), PureDP(Fraction(capacity, 7))
    with Ledger.create(place, capacity=whole) as ledger:
        assert debiting(ledger, place, PROCESSES, "1/7", DEBITS) == [0] * PROCESSES
        made = requests(ledger)
        assert len(made) == len(set(made)) == capacity
        assert set(made) <= {f"p{i}-{number}" for i in range(PROCESSES) for number in range(DEBITS)}
        assert ledger.reserved() == whole
        assert max(Counter(moments(ledger)).values()) > 1  # some transaction made several
        check(ledger)


@pytest.mark.slow
def test_what_a_killed_process_had_posted_is_given_back_when_its_lease_ends(new_place: Place, clock: Clock) -> None:
    place = new_place()
    with Ledger.create(place, capacity=PureDP(1), clock=clock) as ledger:
        assert debiting(ledger, place, 1, "0.4", 1) == [-9]
        reserve(ledger, "mine")
        assert requests(ledger) == ["mine", "p0-0"]
        assert ledger.reserved() == PureDP("0.5")
        clock.now += 601
        assert ledger.remaining() == PureDP(1)
        assert [entry.state for entry in ledger.entries()] == ["released", "released"]
        check(ledger)


def test_who_was_stopped_for_longer_than_its_patience_tries_once_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.1)
    with Ledger.open(ledger.name, clock=ledger._store._clock) as other, ThreadPoolExecutor(1) as thread:
        asleep, free = threading.Event(), threading.Event()

        def stopped(*_: object) -> Heard:
            asleep.set()
            free.wait(20)
            time.sleep(0.2)
            return Heard()

        monkeypatch.setattr(other._store._board, "wait", stopped)
        with at_work(ledger):
            asked = thread.submit(reserve, other, "mine")
            assert asleep.wait(20)
        free.set()
        assert asked.result(20).claim_id == "1"


def test_a_holder_that_stops_is_named_and_nothing_is_debited(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.2)
    path = tmp_path / "ledger"
    with Ledger.create(path, capacity=PureDP(1), clock=clock) as ledger, Ledger.open(path, clock=clock) as holder:
        with at_work(holder):
            with pytest.raises(LedgerError, match=r"locked by another process.*see who holds it, then") as refused:
                reserve(ledger, "mine")
            assert beside(ledger).read_bytes() == b""  # what it posted went with it
        assert str(path) in str(refused.value)
        assert (ledger.remaining(), requests(ledger)) == (PureDP(1), [])
        reserve(ledger, "mine")
        assert ledger.reserved() == PureDP("0.1")
        check(ledger)
