"""Random work on ledgers whose processes die between any two statements: nothing overspent, lost, doubled or stuck.

One operation is one step of a job that the ledger acknowledged: a request, a look at one that waits, a renewal, arming,
committing, giving back. What is repeated after a crash counts once, and opening a ledger again counts nothing. Ledgers
are of 1,000 operations each, in all kinds of budgets and with all schedulers, with crashes some 60 statements apart. A
violation is anything that `benchmarks._ledger_audit` or the comparison with what was acknowledged finds wrong.

Files lie in memory where the machine has a place for that: a killed process loses nothing that the system has, wherever
that is kept.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks._ledger_crew import Crew
from benchmarks._postgres import NoPostgres, PostgresServer

__all__ = ["Outcome", "abandoned", "killed", "run"]

_OPERATIONS = 1_000  # of one ledger
_POINTS = 60  # between two crashes, on the average
_STEPS = 200  # the most that a process takes before it is killed


@dataclass(frozen=True)
class Outcome:
    """What became of one ledger.

    Attributes:
        operations: steps that were acknowledged.
        crashes: processes that were abandoned or killed.
        faults: exceptions that were thrown into a transaction.
        problems: what was found wrong, in words.
    """

    operations: int
    crashes: int
    faults: int
    problems: tuple[str, ...]


def abandoned(where: str, seed: int, operations: int = _OPERATIONS) -> Outcome:
    """Work on a new ledger; connections are closed in the middle, and exceptions are thrown.

    Args:
        where: a path or an address that is free.
        seed: of everything that is chosen.
        operations: how many.
    """
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it tells of every connection that is closed in the middle
    crew = Crew(where, seed)
    crew.work(operations, points=_POINTS)
    return _outcome(crew)


def killed(where: str, seed: int, processes: int) -> Outcome:
    """The same with processes that are really killed, one after another.

    Args:
        where: a path or an address that is free.
        seed: of everything that is chosen.
        processes: how many die.
    """
    crew = Crew(where, seed)
    for _ in range(processes):
        crew.killed(_STEPS, _POINTS)
    return _outcome(crew)


def _outcome(crew: Crew) -> Outcome:
    crew.finish()
    crew.leave()
    return Outcome(crew.operations, crew.crashes, crew.faults, tuple(crew.problems))


def run(quick: bool) -> Iterator[dict[str, object]]:
    """SQLite, then PostgreSQL; abandoned connections, then processes that are killed.

    Args:
        quick: 4,000 operations on SQLite in place of 1,000,000, 1,000 in place of 20,000 on PostgreSQL, fewer kills.
    """
    with ExitStack() as stack:
        # spawned: a process that is killed is a fork of a worker, which must have no thread
        context = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(os.cpu_count(), mp_context=context))
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ledgers-", dir=memory))
        files = (f"{folder}/{number}" for number in itertools.count())
        yield _record("sqlite, abandoned", _tried(pool, abandoned, files, 4 if quick else 1_000, _OPERATIONS))
        yield _record("sqlite, killed", _tried(pool, killed, files, 2 if quick else 50, 10))
        try:
            server = stack.enter_context(PostgresServer())
        except NoPostgres as error:
            yield {"case": "postgresql", "seconds": 0.0, "skipped": str(error)}
            return
        database = server.create_database()
        places = (server.url(database, ledger=f"ledger_{number}") for number in itertools.count())
        yield _record("postgresql, abandoned", _tried(pool, abandoned, places, 2 if quick else 40, 500))
        yield _record("postgresql, killed", _tried(pool, killed, places, 1 if quick else 10, 10))


def _tried(
    pool: ProcessPoolExecutor, work: Callable[[str, int, int], Outcome], places: Iterator[str], ledgers: int, size: int
) -> Iterable[Outcome]:
    free = [next(places) for _ in range(ledgers)]
    return pool.map(work, free, range(ledgers), itertools.repeat(size))


def _record(case: str, outcomes: Iterable[Outcome]) -> dict[str, object]:
    start, found = time.perf_counter(), list(outcomes)
    problems = [problem for outcome in found for problem in outcome.problems]
    return {
        "case": case,
        "seconds": round(time.perf_counter() - start, 1),
        "ledgers": len(found),
        "operations": sum(outcome.operations for outcome in found),
        "crashes": sum(outcome.crashes for outcome in found),
        "faults": sum(outcome.faults for outcome in found),
        "violations": len(problems),
        **({"first": problems[:5]} if problems else {}),
    }
