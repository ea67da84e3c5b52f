"""The ledger against a model: random operations, a clock that jumps both ways, reopening at any time."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dp.accounting.budget import PureDP
from dp.accounting.ledger import Claim
from dp.errors import BudgetExceeded
from lake.errors import ClaimLost
from lake.ledger import Ledger
from tests.lake.test_ledger import Clock, reserve


@dataclass(frozen=True)
class Expected:
    """What the model knows of one claim."""

    price: Fraction
    state: str
    fence: int
    lease_expires_at: float


class LedgerMachine(RuleBasedStateMachine):
    """Every operation succeeds or fails exactly as the model says, and the balance is the model's sum."""

    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger"
        self.clock = Clock()
        self.ledger = Ledger.create(self.path, capacity=PureDP(1), clock=self.clock)
        self.model: dict[str, Expected] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def total(self, *states: str) -> Fraction:
        live = (entry for entry in self.model.values() if entry.state in states)
        return sum((entry.price for entry in live if entry.state != "reserved" or self.runs(entry)), Fraction(0))

    def runs(self, entry: Expected) -> bool:
        return entry.lease_expires_at > self.clock.now

    @rule(
        target=claims,
        price=st.fractions(min_value="1/20", max_value="1/2", max_denominator=60),
        lease_seconds=st.integers(1, 20),
    )
    def reserve(self, price: Fraction, lease_seconds: int) -> Claim:
        request_id = f"r{len(self.model)}"
        affordable = self.total("reserved", "armed", "spent") + price <= 1
        try:
            claim = reserve(self.ledger, request_id, PureDP(price), key=request_id, lease_seconds=lease_seconds)
        except BudgetExceeded:
            assert not affordable
            return Claim("refused", self.ledger.ledger_id, request_id, PureDP(price), request_id, 1, 0.0)
        assert affordable
        for claim_id, entry in self.model.items():
            if entry.state == "reserved" and not self.runs(entry):
                self.model[claim_id] = replace(entry, state="released")
        self.model[claim.claim_id] = Expected(price, "reserved", 1, self.clock.now + lease_seconds)
        return claim

    @rule(claim=claims)
    def arm(self, claim: Claim) -> None:
        entry = self.model.get(claim.claim_id)
        allowed = entry and entry.state == "reserved" and entry.fence == claim.fence and self.runs(entry)
        self.expect(bool(allowed), lambda: self.ledger.arm(claim, b"noised"))
        if entry and allowed:
            self.model[claim.claim_id] = replace(entry, state="armed")

    @rule(target=claims, claim=consumes(claims))
    def renew(self, claim: Claim) -> Claim:
        entry = self.model.get(claim.claim_id)
        if not (entry and entry.state == "reserved" and entry.fence == claim.fence and self.runs(entry)):
            self.expect(False, lambda: self.ledger.renew(claim))
            return claim
        renewed = self.ledger.renew(claim)
        self.model[claim.claim_id] = replace(entry, fence=renewed.fence, lease_expires_at=renewed.lease_expires_at)
        return renewed

    @rule(claim=claims, release=st.none() | st.binary(max_size=4))
    def commit(self, claim: Claim, release: bytes | None) -> None:
        entry = self.model.get(claim.claim_id)
        allowed = entry and entry.state in ("armed", "spent") and entry.fence == claim.fence
        self.expect(bool(allowed), lambda: self.ledger.commit(claim, release))
        if entry and allowed:
            self.model[claim.claim_id] = replace(entry, state="spent")

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        entry = self.model.get(claim.claim_id)
        free = entry and (entry.state == "released" or (entry.state == "reserved" and entry.fence == claim.fence))
        self.expect(bool(free), lambda: self.ledger.release(claim))
        if entry and free:
            self.model[claim.claim_id] = replace(entry, state="released")

    @rule(seconds=st.integers(-15, 25))
    def move_clock(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path, clock=self.clock)
        for claim_id, entry in self.model.items():
            if entry.state == "armed":
                self.model[claim_id] = replace(entry, state="spent")

    @invariant()
    def nothing_is_lost_or_created(self) -> None:
        balance = self.ledger.balance()
        assert balance.spent == PureDP(self.total("armed", "spent"))
        assert balance.reserved == PureDP(self.total("reserved"))
        assert balance.remaining == PureDP(1 - self.total("armed", "spent", "reserved"))
        assert {entry.claim_id: entry.state for entry in self.ledger.entries()} == {
            claim_id: entry.state for claim_id, entry in self.model.items()
        }

    def expect(self, allowed: bool, step: object) -> None:
        assert callable(step)
        if allowed:
            step()
        else:
            with pytest.raises(ClaimLost):
                step()


LedgerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
TestLedgerLaws = pytest.mark.slow(LedgerMachine.TestCase)
