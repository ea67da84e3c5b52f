"""One pass over everybody who waits: what the scheduler is told, and that all its grants are written or none."""

from __future__ import annotations

import contextlib
import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from sqlalchemy import bindparam, update

from dp.accounting.budget import PureDP
from lake.errors import LedgerError
from lake.ledger import Ledger
from lake.ledger.books import Books
from lake.ledger.layouts import make_due
from lake.ledger.passes import run_pass
from lake.ledger.rows import ClaimRow, Request, open_claims
from lake.ledger.schema import claims
from lake.ledger.settings import Settings
from lake.scheduling import AtOnce, Supply, Unlocking, Waiting
from lake.scheduling.problem import Ints
from tests.lake.claiming import DAYS, VISITS
from tests.tools.ledgers import Clock

CLAIMS = 40
_END = update(claims).where(claims.c.number == bindparam("claim")).values(state="failed")


@dataclass
class Told:
    """A scheduler that remembers what it was told, and grants whom it likes."""

    likes: Callable[[Waiting], list[int]]
    seen: list[tuple[Supply, Waiting]] = field(default_factory=list)
    unlocking: Unlocking = field(default_factory=AtOnce)
    name = "told"

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        self.seen.append((supply, waiting))
        return np.array(self.likes(waiting), dtype=np.int64)


@contextmanager
def queue(ledger: Ledger) -> Iterator[tuple[Books, list[ClaimRow]]]:
    """Claims that wait: on some days, the same amount of each or not, few different ones, of two weights."""
    chance = random.Random(4)
    with ledger.books() as books:
        make_due(books, Settings(), DAYS, VISITS.fingerprint)
        for number in range(CLAIMS):
            days = chance.sample(DAYS, chance.choice([1, 3]))
            if number % 5:
                demand = dict.fromkeys(days, PureDP(chance.choice(["1/300", "1/150"])))
            else:
                demand = {day: PureDP(chance.choice(["1/300", "1/200"])) for day in days}
            books.wait(Request(str(number), 30.0, demand, timeout_seconds=60.0, weight=chance.choice([1, 7])))
    with ledger.books() as books:
        yield books, open_claims(books.tx, "waiting")


def test_a_scheduler_is_told_what_everybody_asks(visits: Ledger) -> None:
    scheduler = Told(lambda waiting: [])
    with queue(visits) as (books, rows):
        run_pass(books, Settings(scheduler))  # type: ignore[arg-type]
    ((supply, waiting),) = scheduler.seen
    assert waiting.number.tolist() == [row.number for row in rows]
    assert waiting.weight.tolist() == [row.request.weight for row in rows]
    assert waiting.counts.tolist() == [len(row.request.demand) for row in rows]
    pairs = [(day, row.request.demand[day].epsilon) for row in rows for day in sorted(row.request.demand)]  # type: ignore[union-attr]
    days = sorted({day for day, _ in pairs})
    assert [days[block] for block in waiting.block.tolist()] == [day for day, _ in pairs]
    whole = supply.capacity.tolist()[0][0]  # of each block: an epsilon of 1
    assert supply.available.tolist() == [[whole]] * len(days)
    assert [Fraction(grains, whole) for (grains,) in waiting.demand.tolist()] == [epsilon for _, epsilon in pairs]


def test_grants_are_on_record_in_the_schedulers_order(visits: Ledger, clock: Clock) -> None:
    with queue(visits) as (books, rows):
        before = books.tx.head().sequence
        clock.now += 5
        granted = random.Random(1).sample(range(CLAIMS), 25)
        run_pass(books, Settings(Told(lambda waiting: granted)))  # type: ignore[arg-type]
    events = [event.fields for event in visits.events(before)]
    assert [event["claim"] for event in events] == [rows[i].number for i in granted]
    assert {event["event"] for event in events} == {"reserved"}
    for event, i in zip(events, granted, strict=True):
        epsilons = {day: Fraction(amount["epsilon"]) for day, amount in event["demand"].items()}
        assert epsilons == {day: amount.epsilon for day, amount in rows[i].request.demand.items()}  # type: ignore[union-attr]
    held = Counter[str]()
    for i in granted:
        held.update({day: amount.epsilon for day, amount in rows[i].request.demand.items()})  # type: ignore[union-attr, misc]
    blocks = {state.name: state.acquired.amounts["epsilon"] for state in visits.blocks() if state.name in DAYS}
    assert blocks == {day: held[day] for day in DAYS}
    now = {row.number: row for row in waiting_or_reserved(visits)}
    assert [i for i, row in enumerate(rows) if now[row.number].state == "reserved"] == sorted(granted)
    assert visits.verify() == visits.head()


def waiting_or_reserved(ledger: Ledger) -> list[ClaimRow]:
    with ledger.books() as books:
        return [*open_claims(books.tx, "waiting"), *open_claims(books.tx, "reserved")]


def test_a_claim_that_was_changed_meanwhile_undoes_the_pass(visits: Ledger) -> None:
    with pytest.raises(LedgerError, match="changed by another program"):
        pass_with_interference(visits)
    assert [row.state for row in waiting_or_reserved(visits)] == ["waiting"] * CLAIMS


def pass_with_interference(ledger: Ledger) -> None:
    with queue(ledger) as (books, rows):

        def interfere(waiting: Waiting) -> list[int]:
            books.tx.write(_END, claim=rows[5].number)  # by somebody who did not take the lock
            return [3, 5, 8]

        run_pass(books, Settings(Told(interfere)))  # type: ignore[arg-type]


def test_no_claim_is_granted_twice(visits: Ledger) -> None:
    with (
        pytest.raises(LedgerError, match="changed by another program"),
        queue(visits) as (books, _),
    ):
        run_pass(books, Settings(Told(lambda waiting: [3, 5, 3])))  # type: ignore[arg-type]
    assert [row.state for row in waiting_or_reserved(visits)] == ["waiting"] * CLAIMS


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("likes", [[3, 5], [3, 5, 3]], ids=["granted", "undone"])
def test_garbage_is_collected_after_a_pass_if_it_was_before(visits: Ledger, collects: bool, likes: list[int]) -> None:
    meanwhile = []

    def looks(waiting: Waiting) -> list[int]:
        meanwhile.append(gc.isenabled())
        return likes

    try:
        with contextlib.suppress(LedgerError), queue(visits) as (books, _):
            if not collects:
                gc.disable()
            run_pass(books, Settings(Told(looks)))  # type: ignore[arg-type]
        assert (meanwhile, gc.isenabled()) == ([False], collects)
    finally:
        gc.enable()


def test_a_pass_leaves_no_garbage_for_each_claim(visits: Ledger) -> None:
    with queue(visits) as (books, _):
        gc.collect()
        gc.disable()  # also afterwards: what is left must not be collected before it is counted
        try:
            run_pass(books, Settings(Told(lambda waiting: [3, 5, 8])))  # type: ignore[arg-type]
            assert gc.collect() < CLAIMS  # some other thread may leave a little
        finally:
            gc.enable()
