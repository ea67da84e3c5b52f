"""A process that spends budget, for the tests that race it and kill it: python -m tests.lake.debits MODE LEDGER ...

It prints one line for every step that the ledger has acknowledged, and nothing before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from dp.accounting.budget import PureDP
from dp.accounting.ledger import Claim
from dp.errors import BudgetExceeded
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME
from lake.ledger import Ledger


def reserve(ledger: Ledger, request_id: str, price: str) -> Claim:
    return ledger.reserve(
        request_id=request_id,
        price=PureDP(price),
        table="t",
        data_version="t@0",
        release_key=request_id,
        run_id="run",
        purpose="race",
        lease_seconds=600,
    )


def spend(ledger: Ledger, request_id: str, price: str) -> None:
    """One debit, from wherever an earlier process that was killed left it."""
    if ledger.stored_release(request_id) is not None:
        return
    paid = ledger.resumable(request_id)
    claim = paid.claim if paid else arm(ledger, request_id, price)
    ledger.commit(claim, b"release " + request_id.encode())


def arm(ledger: Ledger, request_id: str, price: str) -> Claim:
    claim = reserve(ledger, request_id, price)
    ledger.arm(claim, b"noised " + request_id.encode())
    return claim


def race(path: str, name: str, attempts: str) -> None:
    """Spend 1 as often as the ledger allows; start on a line of input."""
    with Ledger.open(path) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(int(attempts)):
            try:
                spend(ledger, f"{name}-{number}", "1")
                print("spent", flush=True)
            except BudgetExceeded:
                print("refused", flush=True)


def stream(path: str, first: str, stop: str) -> None:
    """Spend 1/1000 for each number, and acknowledge it."""
    with Ledger.open(path) as ledger:
        for number in range(int(first), int(stop)):
            spend(ledger, f"r{number}", "1/1000")
            print(number, flush=True)


def claim(path: str, name: str) -> None:
    """Claim 0.6 of a day's blocks, now or not at all, and spend it; start on a line of input."""
    rule = Blocks.every("1 day", "day", since="2026-03-01", name="days")
    with Ledger.open(path) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            with ledger.claim(rule, TIME == "2026-03-01", demand=PureDP("0.6"), owner=name) as held:
                paid = held.reserve(
                    request_id=name,
                    price=PureDP("0.6"),
                    table="t",
                    data_version="t@0",
                    release_key=name,
                    run_id="run",
                    purpose="race",
                    lease_seconds=600,
                    blocks=held.blocks,
                    layout=rule.fingerprint,
                )
                held.arm(paid, b"")
                print("granted", flush=True)
        except BudgetExceeded:
            print("refused", flush=True)


def hang(path: str) -> None:
    """Arm one claim, reserve another, and wait to be killed."""
    with Ledger.open(path) as ledger:
        arm(ledger, "armed", "1/2")
        reserve(ledger, "reserved", "1/4")
        print("armed", flush=True)
        sys.stdin.readline()


MODES: dict[str, Callable[..., None]] = {"race": race, "claim": claim, "stream": stream, "hang": hang}

if __name__ == "__main__":
    MODES[sys.argv[1]](*sys.argv[2:])
