"""Ledgers in tests: a clock that is moved by hand, fresh places in both stores, and a claim in one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import BudgetLedger, Claim
from lake.ledger import Ledger

__all__ = ["Clock", "Place", "clock", "ledger", "new_place", "reserve", "state"]

Place = Callable[[], str]
"""Gives the path or the address of a ledger that does not exist yet."""


class Clock:
    """A clock that a test moves by hand, in both directions."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Fresh places in a folder, or in a database on the server."""
    names = (f"ledger_{number}" for number in itertools.count())
    if request.param == "sqlite":
        return lambda: str(tmp_path / next(names))
    server: PostgresServer = request.getfixturevalue("postgres")
    database = server.create_database()
    return lambda: server.url(database, ledger=next(names))


@pytest.fixture
def ledger(new_place: Place, clock: Clock) -> Iterator[Ledger]:
    """A new ledger of epsilon 1."""
    with Ledger.create(new_place(), capacity=PureDP("1"), clock=clock) as made:
        yield made


def reserve(
    ledger: BudgetLedger,
    request_id: str,
    price: Budget | str = "0.1",
    *,
    key: str = "key",
    lease_seconds: float = 60,
    disclosure: str = "",
    purpose: str = "a test",
) -> Claim:
    return ledger.reserve(
        request_id=request_id,
        price=PureDP(price) if isinstance(price, str) else price,
        table="visits",
        data_version="t@3",
        release_key=key,
        run_id="run",
        purpose=purpose,
        lease_seconds=lease_seconds,
        disclosure=disclosure,
    )


def state(ledger: Ledger, claim: Claim) -> str:
    return next(entry.state for entry in ledger.entries() if entry.claim_id == claim.claim_id)
