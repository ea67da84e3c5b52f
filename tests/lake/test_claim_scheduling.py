"""Schedulers in a ledger that is at work: what unlocks, who is granted, and that events alone decide."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import PureDP
from dp.accounting.ledger import Claim
from dp.errors import BudgetExceeded, SparkMpcError
from lake.blocks.selectors import TIME, Selector
from lake.ledger import Ledger, Steward
from lake.scheduling import DPF, AtOnce, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin, Scheduler
from tests.lake.claiming import DAYS, LAST, VISITS, asked, parts, pay, states
from tests.tools.ledgers import Clock, Place

DAY, BEFORE = DAYS[-1], DAYS[-2]


def share(ledger: Ledger, block: str) -> Fraction:
    """The part of a block that is unlocked so far, used or not."""
    return 1 - Fraction(parts(ledger, block)[0])


def give_back(ledger: Ledger, *claims: int) -> None:
    for number in claims:
        ledger.release(ledger.poll(number).ticket(ledger.ledger_id))


# --- unlocking


def test_each_arriving_claim_unlocks_its_part_of_its_blocks_and_nothing_else_does(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(7)))
    first = asked(visits, "1", "1/7")
    assert first.state == "reserved"
    assert parts(visits, DAY) == ("6/7", "0", "1/7", "0")
    assert asked(visits, "2", "1/7", TIME >= "1970-01-11").state == "reserved"
    assert (share(visits, DAY), share(visits, BEFORE)) == (Fraction(2, 7), Fraction(1, 7))
    asked(visits, "1", "1/7")  # the same once more
    visits.poll(first.number)
    give_back(visits, first.number)
    assert share(visits, DAY) == Fraction(2, 7)
    with visits.claim(VISITS, TIME == "1970-01-11", demand=PureDP("1/7"), timeout_seconds=9) as claim:
        pay(claim, "child", "1/7", BEFORE)  # takes from its claim: unlocks nothing
    assert share(visits, BEFORE) == Fraction(2, 7)


def test_claims_that_were_refused_have_arrived_too(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(10)))
    for number in range(1, 10):
        with pytest.raises(BudgetExceeded):
            asked(visits, f"too much {number}", "1", timeout_seconds=0)
        assert share(visits, DAY) == Fraction(number, 10)
    assert asked(visits, "the tenth", "1", timeout_seconds=0).state == "reserved"
    assert states(visits)[1:] == ["failed"] * 9 + ["reserved"]
    assert share(visits, DAY) == 1


def test_queries_that_claim_nothing_first_are_arrivals_as_well(visits: Ledger) -> None:
    Steward(visits).schedule(DPF(ByArrivals(10)))
    pay(visits, "q", "1/10", DAY)
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.2, remaining epsilon=0\.1"):
        pay(visits, "r", "2/10", DAY)
    assert parts(visits, DAY) == ("4/5", "1/10", "1/10", "0")


def test_what_is_hopeless_unlocks_nothing(visits: Ledger) -> None:
    """Otherwise anybody could unlock every block by asking for more than there is."""
    Steward(visits).schedule(DPF(ByArrivals(10)))
    asked(visits, "1", "1/10")
    before = visits.head()
    with pytest.raises(BudgetExceeded):
        asked(visits, "2", "11/10")
    assert (visits.head(), share(visits, DAY)) == (before, Fraction(1, 10))


def test_time_unlocks_evenly_however_often_somebody_looks(visits: Ledger, clock: Clock) -> None:
    Steward(visits).schedule(DPF(ByTime(1000)))
    small, large = (asked(visits, e, e, timeout_seconds=1e6, lease_seconds=1e6) for e in ("1/4", "3/4"))
    assert share(visits, DAY) == 0
    for seconds in (0.125, 100, 149.875):
        clock.now += seconds
        small = visits.poll(small.number)
    assert small.state == "reserved"
    assert parts(visits, DAY) == ("3/4", "0", "1/4", "0")
    clock.now -= 500
    assert visits.poll(large.number).state == "waiting"
    assert share(visits, DAY) == Fraction(1, 4)  # a clock set back locks nothing again
    clock.now += 500 + 750
    assert visits.poll(large.number).state == "reserved"
    assert parts(visits, DAY) == ("0", "0", "1", "0")


@pytest.mark.parametrize("odd", [0, 0.000456, 0.4567])
def test_a_period_unlocks_when_it_ends_and_who_came_meanwhile_competes(
    visits: Ledger, clock: Clock, odd: float
) -> None:
    """T of DPF-T and DPack. Without it the first is granted once there is enough, and the second not."""
    start = clock.now // 100 * 100 + 200
    clock.now = start + 60 + odd
    Steward(visits).schedule(DPF(ByTime(1000, period_seconds=100)))
    visits.remaining((DAY,))  # makes the day
    made = share(visits, DAY)
    assert 0 < made <= Fraction(200, 1000)
    large, small = (
        asked(visits, str(parts), str(made + Fraction(parts, 1000)), timeout_seconds=1e6, lease_seconds=1e6)
        for parts in (60, 50)
    )
    clock.now = start + 99.999
    assert [visits.poll(row.number).state for row in (large, small)] == ["waiting", "waiting"]
    assert share(visits, DAY) == made
    clock.now = start + 100 + odd
    assert [visits.poll(row.number).state for row in (large, small)] == ["waiting", "reserved"]
    assert share(visits, DAY) == made + Fraction(100, 1000)
    clock.now = start + 350 + odd
    visits.poll(large.number)
    assert share(visits, DAY) == made + Fraction(300, 1000)


def test_every_block_unlocks_when_a_period_ends_whenever_it_was_made(visits: Ledger, clock: Clock) -> None:
    start = clock.now // 1000 * 1000 + 1000
    clock.now = start + 300.25
    Steward(visits).schedule(DPF(ByTime(10_000, period_seconds=1000)))
    shares = []
    for day in DAYS[:3]:
        clock.now += 200
        visits.remaining((day,))
        shares.append({share(visits, made) for made in DAYS[: len(shares) + 1]})
    assert len(set.union(*shares)) == 1
    clock.now = start + 1000.0001
    Steward(visits).schedule(DPF(ByTime(10_000)))  # looks at all
    assert {share(visits, day) - min(shares[0]) for day in DAYS[:3]} == {Fraction(1, 10)}


def test_a_change_loses_no_time_of_a_period_that_is_not_over(visits: Ledger, clock: Clock) -> None:
    start = clock.now // 100 * 100 + 100
    clock.now = start + 10.0007
    steward = Steward(visits)
    steward.schedule(DPF(ByTime(1000, period_seconds=100)))
    visits.remaining((DAY,))  # makes the day
    made = share(visits, DAY)  # as of the start
    chosen = (ByTime(1000, period_seconds=100), ByTime(1000, period_seconds=7), ByTime(1000, period_seconds=9000))
    for rule in (*chosen, ByTime(1000)):
        clock.now += 33
        steward.schedule(DPF(rule))
    assert made < share(visits, DAY) < made + Fraction(142, 1000)
    clock.now = start + 150.25
    steward.schedule(DPF(ByTime(1000)))  # looks
    assert share(visits, DAY) == made + Fraction(150_250, 1_000_000)


def test_a_change_is_on_record_and_locks_nothing_again(visits: Ledger, clock: Clock) -> None:
    steward = Steward(visits)
    chosen: list[Scheduler] = [
        DPF(ByArrivals(2)),
        DPF(ByArrivals(100)),
        DPF(ByTime(1000)),
        RoundRobin(ByTime(10_000)),
        FirstComeFirstServed(ByArrivals(1000)),
        DPack(ByArrivals(4), recompute_every=3),
        DPF(AtOnce()),
    ]
    shares = []
    for number, scheduler in enumerate(chosen):
        before = share(visits, DAY) if number else Fraction(0)
        steward.schedule(scheduler)
        clock.now += 10
        assert not number or share(visits, DAY) == before
        with suppress(BudgetExceeded):
            asked(visits, str(number), "1/1000", timeout_seconds=0)
        shares.append(share(visits, DAY))
        assert visits.settings().scheduler == scheduler
    half, hundredth = Fraction(1, 2), Fraction(1, 100)
    assert shares[:2] == [half, half + hundredth]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    recorded = [json.loads(event.event) for event in visits.events()]
    changes = [event["settings"]["scheduling"] for event in recorded if event["event"] == "settings"]
    assert [change["scheduler"] for change in changes] == [scheduler.name for scheduler in chosen]
    assert [change["unlocking"] for change in changes][:3] == [
        {"arrivals": 2},
        {"arrivals": 100},
        {"lifetime_seconds": 1000},
    ]


def test_what_a_dead_claim_unlocked_stays_unlocked(visits: Ledger, clock: Clock) -> None:
    Steward(visits).schedule(DPF(ByArrivals(3)))
    row = asked(visits, "1", "1/3", lease_seconds=5)
    clock.now += 5
    assert visits.poll(row.number).state == "released"
    assert parts(visits, DAY) == ("2/3", "1/3", "0", "0")


# --- who is granted


def contest(ledger: Ledger, scheduler: Scheduler, *claims: tuple[str, int]) -> list[int]:
    """Claims (amount, weight) wait for a day that somebody holds; it comes free, and one of them looks. Who got it?"""
    Steward(ledger).schedule(scheduler)
    holder = asked(ledger, "holder", "1")
    waiting = [asked(ledger, f"{n}", epsilon, weight=weight) for n, (epsilon, weight) in enumerate(claims)]
    assert [row.state for row in waiting] == ["waiting"] * len(claims)
    give_back(ledger, holder.number)
    ledger.poll(waiting[0].number)
    return [n for n, row in enumerate(waiting) if ledger.poll(row.number).state == "reserved"]


@pytest.mark.parametrize(
    ("scheduler", "claims", "granted"),
    [
        (FirstComeFirstServed(), [("0.6", 1), ("0.5", 1)], [0]),
        (FirstComeFirstServed(), [("0.6", 1), ("0.5", 1), ("0.4", 1)], [0, 2]),  # skips what does not fit
        (DPF(AtOnce()), [("0.6", 1), ("0.5", 9)], [1]),  # the smaller share, whatever it weighs
        (DPF(AtOnce()), [("0.6", 1), ("0.5", 1), ("0.5", 1)], [1, 2]),
        (DPack(AtOnce()), [("0.6", 1), ("0.5", 1)], [1]),
        (DPack(AtOnce()), [("0.6", 9), ("0.5", 1)], [0]),  # the heavier one
        (DPack(AtOnce()), [("0.6", 5), ("0.5", 4)], [0]),  # 8.3 for each epsilon, and 8
        (DPack(AtOnce()), [("0.6", 5), ("0.5", 5)], [1]),
        (RoundRobin(AtOnce()), [("0.6", 1), ("0.5", 1)], [1]),
    ],
    ids=str,
)
def test_the_scheduler_decides_who_is_granted(
    visits: Ledger, scheduler: Scheduler, claims: list[tuple[str, int]], granted: list[int]
) -> None:
    assert contest(visits, scheduler, *claims) == granted


def test_who_arrives_does_not_overtake_those_who_wait(visits: Ledger, clock: Clock) -> None:
    Steward(visits).schedule(FirstComeFirstServed(ByTime(100)))
    first = asked(visits, "first", "1/2", lease_seconds=60)
    clock.now += 50  # nobody looked meanwhile
    second = asked(visits, "second", "1/2")
    assert [visits.poll(row.number).state for row in (first, second)] == ["reserved", "waiting"]


# --- events alone decide

SCHEDULERS: dict[str, Scheduler] = {
    "fcfs": FirstComeFirstServed(),
    "dpf-n": DPF(ByArrivals(12)),
    "dpf-t": DPF(ByTime(400)),
    "dpack-t": DPack(ByTime(400, period_seconds=30)),
    "dpack": DPack(ByArrivals(9)),
    "rr": RoundRobin(ByTime(300)),
}


def live(where: str, scheduler: Scheduler, seed: int) -> list[object]:
    """A ledger's life by a list of events, and all that is to be seen of it; its own random name aside."""
    chance, clock, tickets = random.Random(seed), Clock(), list[Claim]()
    with Ledger.create(where, capacity=PureDP(10), clock=clock) as ledger:
        Steward(ledger).lay_out(VISITS, capacity=PureDP(1))
        Steward(ledger).schedule(scheduler)
        for number in range(40):
            clock.now += chance.randrange(12)
            with suppress(SparkMpcError):
                happen(ledger, chance, number, tickets)
        log = [json.loads(event.event.replace(ledger.ledger_id, "ID")) for event in ledger.events()]
        assert {"reserved", "waiting"} <= {event["event"] for event in log}
        return [log, ledger.blocks(), ledger.entries()]


def happen(ledger: Ledger, chance: random.Random, number: int, tickets: list[Claim]) -> None:
    """Somebody claims, gives back, spends or looks."""
    if not tickets or chance.random() < 0.5:
        selector = chance.choice([LAST, TIME >= "1970-01-11", Selector()])
        epsilon, timeout = f"{chance.randrange(1, 12)}/20", chance.choice([0, 40, 200])
        row = asked(ledger, str(number), epsilon, selector, timeout_seconds=timeout, weight=chance.randrange(1, 5))
        tickets.append(row.ticket(ledger.ledger_id))
        return
    ticket = chance.choice(tickets)
    steps: dict[Callable[[], object], int] = {
        lambda: ledger.poll(int(ticket.claim_id)): 4,
        lambda: ledger.release(ticket): 3,
        lambda: ledger.arm(ticket, b""): 1,
    }
    chance.choices(list(steps), list(steps.values()))[0]()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_same_events_make_the_same_ledger(new_place: Place, name: str) -> None:
    first, again = (live(new_place(), SCHEDULERS[name], seed=6) for _ in range(2))
    assert first == again


def test_other_events_or_another_scheduler_make_another_ledger(new_place: Place) -> None:
    """So the comparison above can fail."""
    first = live(new_place(), SCHEDULERS["dpf-n"], seed=6)
    assert live(new_place(), SCHEDULERS["dpf-n"], seed=7) != first
    assert live(new_place(), SCHEDULERS["fcfs"], seed=6)[1:] != first[1:]


@pytest.mark.slow
def test_both_stores_decide_alike(tmp_path: Path, postgres: PostgresServer) -> None:
    database = postgres.create_database()
    for number, scheduler in enumerate(SCHEDULERS.values()):
        in_a_file = live(str(tmp_path / str(number)), scheduler, seed=8)
        assert live(postgres.url(database, ledger=f"ledger_{number}"), scheduler, seed=8) == in_a_file
