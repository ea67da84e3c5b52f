"""The benchmark of schedulers: its replay passes over few claims, and grants what passing over all of them would."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from benchmarks._scheduling_kept_shares import KeptShares
from benchmarks._scheduling_pictures import _table
from benchmarks._scheduling_replay import Replay
from benchmarks._scheduling_workload import CASES, Workload
from benchmarks.schedulers import _PLAYED, _over
from lake.scheduling import DPF, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin, Supply
from tests.benchmarks.test_cli import quick_records

SHORT = {
    "many": replace(CASES["many blocks, basic"], horizon_seconds=25.0),
    "Renyi": replace(CASES["single block, Renyi"], horizon_seconds=120.0, timeout_seconds=40.0),
    "single": replace(CASES["single block, basic"], horizon_seconds=150.0, timeout_seconds=60.0),
}


def plainly_replayed(load, scheduler):
    """The same events, and a pass over everybody who waits at each of them."""
    share = [scheduler.unlocking.after_time(Fraction(0), 0) for _ in load.born]
    told, waiting, count = [1000 * int(born) for born in load.born], [], 0
    used = np.zeros((len(share), len(load.capacity)), np.int64)
    ticks = [(float(second), 1, -1) for second in range(1, int(load.case.horizon_seconds) + 1)]
    for time, _, claim in sorted([*ticks, *((at, 0, i) for i, at in enumerate(load.at.tolist()))]):
        for block in range(len(share)):
            if claim >= 0 and load.low[claim] <= block <= load.high[claim]:
                share[block] = scheduler.unlocking.after_arrival(share[block])
            if claim < 0 and time * 1000 > told[block]:
                share[block] = scheduler.unlocking.after_time(share[block], int(time * 1000) - told[block])
                told[block] = int(time * 1000)
        waiting = [i for i in [*waiting, *[claim][: claim >= 0]] if load.at[i] > time - load.case.timeout_seconds]
        open_now = [[int(c) * s.numerator // s.denominator for c in load.capacity] for s in share]
        claims = load.waiting(np.array(waiting, np.int64))
        supply = Supply(np.tile(load.capacity, (len(share), 1)), np.array(open_now) - used, load.case.fits)
        granted = claims.taken(scheduler.grants(supply, claims))
        np.add.at(used, granted.block, granted.demand)
        count += len(granted)
        waiting = [i for i in waiting if i not in set(granted.number.tolist())]
    return count


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize(
    "scheduler",
    [FirstComeFirstServed(), DPF(ByArrivals(60)), DPF(ByTime(50)), DPack(ByTime(50)), RoundRobin(ByArrivals(60))],
    ids=str,
)
def test_looking_at_few_claims_grants_what_looking_at_all_does(name, scheduler):
    load = Workload.drawn(SHORT[name], seed=6)
    replayed = Replay(load, scheduler, tick_seconds=1.0, at_arrivals=True).run()
    assert replayed == plainly_replayed(load, scheduler) > 0


def by_hand(capacity, wants):
    """Claims that arrive a second apart, each of which wants so much of blocks low to high."""
    columns = [np.array(column, np.int64) for column in zip(*wants, strict=True)]
    at, case = np.arange(len(wants), dtype=float), CASES["many blocks, basic"]
    return Workload(case, at, columns[1], columns[2], columns[0][:, None], np.zeros(3), np.array([capacity]))


@pytest.mark.parametrize(
    ("claims", "wants", "granted"),
    [
        (3, [(6, 0, 0), (2, 0, 0), (5, 0, 0)], 2),  # dealt 4; then 2 and 2; then 4 of 5, which is not enough
        (2, [(12, 0, 0), (5, 0, 0)], 0),  # dealt 6; then 3 each: what the great one keeps would have been enough
        (1, [(1, 0, 0), (1, 0, 0)], 1),  # a retired block takes nobody
        (2, [(8, 0, 1), (3, 1, 1), (6, 0, 0)], 2),  # the first lacks 2 of block 0 and 0 of block 1, and then nothing
        (2, [(12, 0, 1), (6, 0, 0), (6, 1, 1)], 1),  # who fails at one block waits for no other
    ],
)
def test_claims_keep_their_shares_until_a_block_retires(claims, wants, granted):
    assert KeptShares(by_hand(12, wants), claims).run() == granted


def test_one_pass_has_the_whole_workload():
    load = Workload.drawn(SHORT["many"], seed=6)
    supply, waiting = load.at_once()
    assert (supply.available == load.capacity).all()
    assert len(supply.available) == len(load.born) > 1
    assert waiting.number.tolist() == list(range(len(load.at)))


@pytest.mark.parametrize("played", _PLAYED, ids=lambda played: played.case)
def test_what_was_published_is_played_with_twenty_seeds(played):
    assert {played.seeds_for(name.split(" ")[1]) for name in played.published} == {20}


def test_dpack_is_compared_with_dpf_seed_by_seed():
    over = _over([100, 99, 104], [100, 100, 100])
    assert over == {"over_dpf": 1.01, "least_over_dpf": 0.99, "most_over_dpf": 1.04, "seeds_below_one": 1}


def test_tables_have_the_columns_that_a_case_has():
    record = {"case": "one", "scheduler": "dpack", "unlocking": "at_once", "seeds": 3, "seconds": 2.0}
    spread = {"granted": 1010.0, "stderr": 1.5, "least": 990, "most": 1040}
    table = _table([record | spread | _over([100, 99, 104], [100, 100, 100]), {"case": "other", "load": 2}], "one")
    assert table.splitlines()[2:] == [
        "| scheduler | unlocking | granted | over DPF: least, mean, most | seeds below one | seeds | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| dpack | at_once | 1,010.0 ± 1.5 (990 to 1,040) | 0.99, 1.01, 1.04 | 1 | 3 | 2.0 |",
    ]


@pytest.mark.slow
@pytest.mark.long
def test_schedulers_stand_in_the_published_order():
    records = [record for record in quick_records("schedulers") if record["case"] == "many blocks, basic"]
    granted = {(record["scheduler"], record["unlocking"]): record["granted"] for record in records}
    best = max(count for (name, _), count in granted.items() if name == "dpf")
    fair = max(count for (name, _), count in granted.items() if name == "round-robin")
    assert granted["fcfs", "at_once"] < fair < best
