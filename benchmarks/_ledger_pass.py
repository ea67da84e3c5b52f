"""A scheduling pass of a real ledger: read who waits, decide, write who is granted, in one transaction."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dp.accounting.budget import PureDP
from lake.blocks import Blocks
from lake.ledger import Ledger, Steward
from lake.ledger.allocation import run_pass
from lake.ledger.layouts import make_due
from lake.ledger.rows import Request
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
    """One pass over 10^3, 10^4 and 10^5 waiting claims on 10^3 blocks, of which a tenth can be granted."""
    before: dict[str, float] = {}
    for claims in (1_000,) if quick else (1_000, 10_000, 100_000):
        for scheduler in _SCHEDULERS:
            seconds, granted = _one_pass(scheduler, claims)
            growth = {"growth": seconds / before[scheduler.name]} if scheduler.name in before else {}
            before[scheduler.name] = seconds
            yield {
                "case": f"pass of {scheduler.name}",
                "seconds": seconds,
                "claims": claims,
                "blocks": _BLOCKS,
                "granted": granted,
                **growth,
            }


def _one_pass(scheduler: Scheduler, claims: int) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        with Ledger.create(Path(folder) / "ledger", capacity=PureDP(1)) as ledger:
            Steward(ledger).lay_out(_RULE, capacity=PureDP(1))
            _let_wait(ledger, claims)
            Steward(ledger).schedule(scheduler)
            began = time.perf_counter()
            with ledger.books() as books:
                run_pass(books, read_settings(books.tx))
            return time.perf_counter() - began, sum(entry.state == "reserved" for entry in ledger.entries())


def _let_wait(ledger: Ledger, claims: int) -> None:
    """Claims of the last block or of the last ten, 3 to 1, that ask ten times what there is."""
    names = [block.name for block in _RULE.due(0)]
    mouse = PureDP(f"{10 * _BLOCKS}/{claims * 13}")
    with ledger.books() as books:
        make_due(books, Settings(), names, _RULE.fingerprint)
        for number in range(claims):
            place = number * 7919 % _BLOCKS
            wanted = [names[(place - k) % _BLOCKS] for k in range(10 if number % 4 == 0 else 1)]
            demand = dict.fromkeys(wanted, PureDP(mouse.epsilon * (1 + number % 7) / 4))
            books.wait(Request(f"claim {number}", 3600.0, demand, timeout_seconds=3600.0))
