"""A ledger whose table is laid out in blocks, in both stores; the auditor looks at it after every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks._ledger_audit import Auditor
from dp.accounting.budget import PureDP
from lake.ledger import Ledger, Steward
from tests.lake.claiming import VISITS
from tests.tools.ledgers import Clock, Place

__all__ = ["visits"]


@pytest.fixture
def visits(new_place: Place, clock: Clock) -> Iterator[Ledger]:
    """A ledger of epsilon 10 whose visits are laid out in days of epsilon 1 each; five of them have begun."""
    with Ledger.create(new_place(), capacity=PureDP(10), clock=clock) as ledger:
        Steward(ledger).lay_out(VISITS, capacity=PureDP(1))
        yield ledger
        assert Auditor(ledger._store).look().problems == ()
