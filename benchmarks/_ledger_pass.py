"""A scheduling pass of a real ledger: read who waits, decide, write who is granted, in one durable transaction."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dp.accounting.budget import PureDP
from lake.blocks import Blocks
from lake.ledger import Ledger, Steward
from lake.ledger.layouts import make_due
from lake.ledger.passes import run_pass
from lake.ledger.rows import Request, open_claims
from lake.ledger.settings import Settings, read_settings
from lake.scheduling import DPF, AtOnce, DPack, FirstComeFirstServed, RoundRobin, Scheduler

__all__ = ["pass_records"]

_BLOCKS = 1_000
_RULE = Blocks.users(_BLOCKS, name="people")
_SCHEDULERS: tuple[Scheduler, ...] = (
    FirstComeFirstServed(),
    RoundRobin(AtOnce()),
    DPF(AtOnce()),
    DPack(AtOnce()),
)


def pass_records(quick: bool) -> Iterator[dict[str, object]]:
    """Passes over 10^3, 10^4 and 10^5 waiting claims on 10^3 blocks.

    "first": nothing is granted yet, and about as many are as the blocks can bear. "next": one of these was given back,
    and everybody else still waits, as on most days.
    """
    before: dict[str, float] = {}
    for claims in (1_000,) if quick else (1_000, 10_000, 100_000):
        for scheduler in _SCHEDULERS:
            for which, seconds, granted in _passes(scheduler, claims):
                case = f"{which} pass of {scheduler.name}"
                growth = {"growth": seconds / before[case]} if case in before else {}
                before[case] = seconds
                yield {
                    "case": case,
                    "seconds": seconds,
                    "claims": claims,
                    "blocks": _BLOCKS,
                    "granted": granted,
                    **growth,
                }


def _passes(scheduler: Scheduler, claims: int) -> Iterator[tuple[str, float, int]]:
    with (
        tempfile.TemporaryDirectory(prefix="ledger-") as folder,
        Ledger.create(Path(folder) / "ledger", capacity=PureDP(1)) as ledger,
    ):
        Steward(ledger).lay_out(_RULE, capacity=PureDP(1))
        _let_wait(ledger, claims)
        Steward(ledger).schedule(scheduler)
        seconds = _one_pass(ledger)
        with ledger.books() as books:
            granted = open_claims(books.tx, "reserved")
            for row in granted[:1]:
                books.release(row)
        yield "first", seconds, len(granted)
        seconds = _one_pass(ledger)
        with ledger.books() as books:
            yield "next", seconds, len(open_claims(books.tx, "reserved")) - len(granted[1:])


def _one_pass(ledger: Ledger) -> float:
    began = time.perf_counter()
    with ledger.books() as books:
        run_pass(books, read_settings(books.tx))
    return time.perf_counter() - began


def _let_wait(ledger: Ledger, claims: int) -> None:
    """Claims of one block or of ten in a row, 3 to 1, of which the blocks can bear a part."""
    names = [block.name for block in _RULE.due(0)]
    with ledger.books() as books:
        make_due(books, Settings(), names, _RULE.fingerprint)
        for number in range(claims):
            place = number * 7919 % _BLOCKS
            wanted = [names[(place - k) % _BLOCKS] for k in range(10 if number % 4 == 0 else 1)]
            demand = dict.fromkeys(wanted, PureDP(f"{1 + number % 7}/20"))
            books.wait(Request(f"claim {number}", 3600.0, demand, timeout_seconds=3600.0))
