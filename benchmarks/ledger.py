"""Debits a second on one ledger that eight processes share, and what a pass of a scheduler over many waiters takes.

On each store, in turns within one run: a bare update of one row in a transaction of its own ("bare"), with the same
durability; one debit (`Ledger.reserve`: the budget is checked and taken, on record, in one durable transaction); and
all that one release costs (reserve, arm, commit). A ratio compares seconds per durable transaction, and totals are
checked to the last fraction.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

from benchmarks._bare import BareRow
from benchmarks._ledger_pass import pass_records
from benchmarks._postgres import NoPostgres, PostgresServer
from dp.accounting.budget import PureDP
from dp.accounting.ledger import Claim, new_request_id
from lake.ledger import Ledger

__all__ = ["check_totals", "run", "store_records"]

_PROCESSES = 8
_SECONDS = 2.0  # of a turn: short, as a shared machine's speed drifts
_PRICE = Fraction(1, 10**9)
_STATEMENTS = {"bare": 1, "debit": 1, "release": 3}  # durable transactions of one piece of work

_Work = Callable[[], object]


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Both stores, eight processes, sixty seconds each; then passes of schedulers."""
    turns = 3 if quick else 30
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ledgers-")))
        yield from store_records("sqlite", str(folder / "ledger"), str(folder / "bare"), turns)
        try:
            server = stack.enter_context(PostgresServer())
        except NoPostgres as error:
            yield {"case": "postgresql", "seconds": 0.0, "skipped": str(error)}
        else:
            address = server.url(server.create_database())
            yield from store_records("postgresql", address, address, turns)
    yield from pass_records(quick)


def store_records(store: str, where: str, bare: str, turns: int) -> Iterator[dict[str, object]]:
    """What eight processes do on one store.

    Args:
        store: its name in the records.
        where: address of a ledger, which is made.
        bare: where the bare row is made.
        turns: of two seconds, of each case.

    Raises:
        AssertionError: the totals are not what was done.
    """
    capacity = PureDP(1)
    Ledger.create(where, capacity=capacity).close()
    with closing(BareRow(bare)) as row:
        row.make()
    done: dict[str, int] = dict.fromkeys(_STATEMENTS, 0)
    with _Crew(where, bare) as crew:
        for _ in range(turns):
            for case in _STATEMENTS:
                done[case] += crew.work(case)
    check_totals(where, bare, done)
    # each process ends its last piece of a turn when the time is over, some after a long wait for a lock
    in_time = {case: count - turns * _PROCESSES for case, count in done.items()}
    for case, transactions in _STATEMENTS.items():
        share = transactions * in_time[case] / in_time["bare"]
        yield {
            "case": f"{store}, {case}",
            "seconds": turns * _SECONDS,
            "processes": _PROCESSES,
            "done": in_time[case],
            "a_second": in_time[case] / (turns * _SECONDS),
            "transactions": transactions,
            "against": "bare",
            "ratio": 1 / share,
            "share_of_bare": share,
        }


def check_totals(where: str, bare: str, done: Mapping[str, int]) -> None:
    """Nothing lost, nothing twice: to the last fraction.

    Raises:
        AssertionError: otherwise.
    """
    with Ledger.open(where) as ledger:
        balance, rows = ledger.balance(), len(ledger.entries())
    with closing(BareRow(bare)) as row:
        found = (balance.reserved, balance.spent, rows, row.total())
    debits, releases = done["debit"], done["release"]
    right = (PureDP(debits * _PRICE), PureDP(releases * _PRICE), debits + releases, done["bare"])
    if found != right:
        raise AssertionError(f"totals are {found}, not {right}")


class _Crew:
    """Processes that start together, work for a while, and count."""

    def __init__(self, where: str, bare: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._start = context.Barrier(_PROCESSES + 1)
        self._orders = [context.Queue() for _ in range(_PROCESSES)]
        self._counts = context.Queue()
        self._processes = [
            context.Process(target=_labour, args=(where, bare, orders, self._counts, self._start), daemon=True)
            for orders in self._orders
        ]

    def __enter__(self) -> _Crew:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for orders in self._orders:
            orders.put(None)
        for process in self._processes:
            process.join(60)

    def work(self, case: str) -> int:
        """How many pieces of work they did together in a turn."""
        for orders in self._orders:
            orders.put(case)
        self._start.wait()
        return sum(self._counts.get(timeout=600) for _ in self._processes)


def _labour(where: str, bare: str, orders: multiprocessing.Queue, counts: multiprocessing.Queue, start: object) -> None:  # type: ignore[type-arg]
    with Ledger.open(where) as ledger, closing(BareRow(bare)) as row:
        pieces = {
            "bare": row.add,
            "debit": lambda: _reserve(ledger),
            "release": lambda: _release(ledger),
        }
        while (case := orders.get()) is not None:
            start.wait()  # type: ignore[attr-defined]
            counts.put(_counted(pieces[case]))


def _counted(piece: _Work) -> int:
    count, end = 0, time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        piece()
        count += 1
    return count


def _reserve(ledger: Ledger) -> Claim:
    """One debit, as a query makes it."""
    return ledger.reserve(
        request_id=new_request_id(),
        price=PureDP(_PRICE),
        table="visits",
        data_version="c2f0a5f4-5a2e-4a57-a3a5-5d3c1d0a1f7b-0123456789abcdef@17",
        release_key=os.urandom(32).hex(),
        run_id=os.urandom(32).hex(),
        purpose="n, cost by ward",
        lease_seconds=3600,
    )


def _release(ledger: Ledger) -> None:
    claim = _reserve(ledger)
    ledger.arm(claim, b"")
    ledger.commit(claim, b"the release of a small query", plan="{}")
