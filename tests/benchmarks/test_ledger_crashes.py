"""Crashes: no statement at which a process can die loses, doubles or blocks budget; and what would is noticed."""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks._faults import Abandoned, Thrown, store_of, throw
from benchmarks._ledger_audit import Auditor
from benchmarks._ledger_crew import Crew
from benchmarks._ledger_jobs import Job
from benchmarks.ledger_crashes import abandoned, killed
from dp.accounting.budget import PureDP
from lake.ledger import Ledger
from lake.ledger.postgres import is_address
from lake.ledger.rows import Request
from lake.ledger.selection import Named
from tests.benchmarks.test_cli import quick_records
from tests.tools.ledgers import Clock, Place, reserve

STEPS = ("ask", "look", "renew", "arm", "commit")


def small(crew: Crew, within: Job | None = None) -> Job:
    """A request for little, which is granted at once."""
    name = f"small {len(crew.jobs)}"
    parent = None if within is None else int(within.claim.claim_id)
    request = Request(name, 600.0, parent=parent, release_key=f"key of {name}")
    crew.jobs[name] = job = Job(request, Named(("whole",), crew.priced(1), ""))
    return job


def lived(crew: Crew, until: str) -> Job:
    """A job that has taken every step before one."""
    job = small(crew)
    for step in STEPS[: STEPS.index(until)]:
        crew.step(job, step)
    return job


def points_of(crew: Crew, step: str, begin: Callable[[], Job], effect: Callable[[], NoReturn]) -> int:
    """Let a step go wrong at its first point, then with a new job at its second, and so on; how many there are."""
    for point in itertools.count():
        job = begin()
        crew.fuse.set(point, effect)
        crew.step(job, step)
        missed, crew.fuse.points = crew.fuse.points is not None, None
        if missed:
            return point
    raise AssertionError


@pytest.mark.parametrize("how", ["abandon", "throw"])
def test_every_step_can_go_wrong_at_every_statement(new_place: Place, how: str) -> None:
    place = new_place()
    crew = Crew(place, seed=4)
    effect = crew.abandon if how == "abandon" else throw
    count = {step: points_of(crew, step, partial(lived, crew, step), effect) for step in STEPS}
    count["give_back"] = points_of(crew, "give_back", lambda: lived(crew, "renew"), effect)
    count["within"] = points_of(crew, "ask", lambda: small(crew, lived(crew, "renew")), effect)
    crew.finish()
    crew.leave()
    assert crew.problems == []
    # before, a statement, before COMMIT, after; only before and after where a step is one call of a server
    assert min(count.values()) >= (2 if is_address(place) else 4)
    assert (
        (crew.crashes if how == "abandon" else crew.faults) >= sum(count.values()) > (25 if is_address(place) else 40)
    )


def test_random_work_with_crashes(tmp_path: Path) -> None:
    outcome = abandoned(str(tmp_path / "ledger"), seed=1, operations=200)
    assert outcome.problems == ()
    assert outcome.operations >= 200
    assert min(outcome.crashes, outcome.faults) > 0


@pytest.mark.slow
def test_ten_thousand_operations_with_crashes(tmp_path: Path) -> None:
    outcomes = [abandoned(str(tmp_path / str(seed)), seed) for seed in range(10)]
    assert [problem for outcome in outcomes for problem in outcome.problems] == []
    assert sum(outcome.operations for outcome in outcomes) >= 10_000
    assert sum(outcome.crashes for outcome in outcomes) > 500


@pytest.mark.slow
def test_random_work_with_crashes_in_either_store(new_place: Place) -> None:
    assert abandoned(new_place(), seed=2, operations=300).problems == ()


@pytest.mark.slow
def test_processes_that_are_really_killed(new_place: Place) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcome = pool.submit(killed, new_place(), 3, 8).result()
    assert outcome.problems == ()
    assert outcome.crashes == 8


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("postgres")  # skipped where there is none
def test_the_benchmark_finds_no_violation_on_either_store() -> None:
    records = quick_records("ledger_crashes")
    assert [record["case"] for record in records] == [
        f"{store}, {how}" for store in ("sqlite", "postgresql") for how in ("abandoned", "killed")
    ]
    assert all(record["violations"] == 0 and record["crashes"] > 0 for record in records)


# --- what would go unnoticed otherwise


def careless(crew: Crew) -> NoReturn:
    """A process dies, and the store keeps half of what it was doing."""
    crew._at_work._store._connection.execute("COMMIT")  # type: ignore[attr-defined]
    crew.abandon()


def test_a_store_that_keeps_half_a_transaction_is_noticed(tmp_path: Path) -> None:
    crew = Crew(str(tmp_path / "ledger"), seed=5)
    job = lived(crew, "arm")
    crew.fuse.set(7, lambda: careless(crew))
    crew.step(job, "arm")
    crew.leave()
    assert crew.crashes == 1
    assert any("acquired" in problem for problem in crew.problems)


def test_a_lost_debit_is_noticed(tmp_path: Path) -> None:
    crew = Crew(str(tmp_path / "ledger"), seed=6)
    job = lived(crew, "arm")
    job.known = "armed"  # as if it had been acknowledged
    crew.check()
    crew.leave()
    assert any(f"{job.request.request_id} was armed" in problem for problem in crew.problems)


def test_a_debit_that_nobody_asked_for_is_noticed(tmp_path: Path) -> None:
    crew = Crew(str(tmp_path / "ledger"), seed=7)
    crew.step(lived(crew, "commit"), "commit")
    crew.jobs.clear()
    crew.finish()
    crew.leave()
    assert any("were paid" in problem for problem in crew.problems)


TAMPERED = {
    'UPDATE blocks SET consumed = \'{"epsilon": "1/20", "kind": "pure"}\'': "what armed and spent claims paid",
    'UPDATE blocks SET acquired = \'{"epsilon": "0", "kind": "pure"}\'': "what reserved claims hold",
    'UPDATE blocks SET capacity = \'{"epsilon": "1/4", "kind": "pure"}\'': "gave more than its capacity",
    "UPDATE blocks SET unlocked = '1/2'": "block whole was",
    "UPDATE claims SET state = 'reserved', noised = NULL WHERE number = 1": "claim 1 was armed, is reserved",
    'UPDATE claims SET price = \'{"epsilon": "1/3", "kind": "pure"}\'': "what armed and spent claims paid",
    "DELETE FROM claims WHERE number = 2": "claim 2 was reserved, is None",
    "INSERT INTO audit VALUES (9, 0, '{}', 'made up')": "does not follow",
}


@pytest.mark.parametrize("statement", TAMPERED)
def test_the_auditor_notices(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "ledger"
    with Ledger.create(path, capacity=PureDP(1), clock=Clock()) as ledger:
        ledger.arm(reserve(ledger, "armed", "1/5"), b"")
        reserve(ledger, "reserved", "1/10")
    with closing(store_of(str(path), Clock())) as store:
        auditor = Auditor(store)
        assert auditor.look().problems == ()
        tamper(path, statement)
        assert any(TAMPERED[statement] in problem for problem in auditor.look().problems)


def tamper(path: Path, statement: str) -> None:
    """A hand that first removes what would stop it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute(statement)


def test_after_an_abandoned_process_the_next_one_waits_for_nothing(tmp_path: Path) -> None:
    crew = Crew(str(tmp_path / "ledger"), seed=8)
    job = lived(crew, "arm")
    crew.fuse.set(3, crew.abandon)
    with pytest.raises(Abandoned):
        crew._arm(job)
    with closing(store_of(str(tmp_path / "ledger"), crew.clock)) as store, store.transaction() as tx:
        assert tx.head().sequence > 0
    crew.leave()


def test_an_exception_leaves_the_handle_usable(tmp_path: Path) -> None:
    crew = Crew(str(tmp_path / "ledger"), seed=9)
    job = lived(crew, "arm")
    crew.fuse.set(3, throw)
    with pytest.raises(Thrown):
        crew._arm(job)
    crew._arm(job)
    assert job.known == "armed"
    crew.check()
    crew.leave()
    assert crew.problems == []
