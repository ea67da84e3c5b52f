"""A ledger against a model, over both stores: the whole life of claims, with a clock that jumps both ways."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks._ledger_audit import Auditor
from dp.accounting.budget import ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Claim
from dp.errors import SparkMpcError
from lake.blocks.rules import Blocks
from lake.ledger import Ledger, Steward
from lake.ledger.postgres import PostgresStore, is_address
from lake.ledger.rows import Request
from lake.ledger.selection import Named
from lake.ledger.sqlite import SQLiteStore
from lake.ledger.store import Store
from lake.scheduling import DPF, AtOnce, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin, Scheduler
from tests.lake.ledger_model import PERIOD_SECONDS, Asked, Model, Refusal
from tests.tools.ledgers import Clock, Place

T = TypeVar("T")

DAY = 86_400
VISITS = Blocks.every("1 day", "admitted", since="1970-01-11", name="visits")
STARTS = {f"visits/1970-01-{day}": (day - 1) * DAY for day in range(11, 15)}  # the clock begins on the 12th

Price = tuple[Fraction, Fraction]

KINDS: Mapping[str, tuple[Budget, Callable[[Fraction, Fraction], Budget]]] = {
    "pure": (PureDP(1), lambda one, _: PureDP(one)),
    "approximate": (ApproxDP(1, "1/100"), lambda one, other: ApproxDP(one, other / 100)),
    "renyi": (RenyiDP({2: 1, 4: "1/2", 8: 0}), lambda one, other: RenyiDP({2: one, 4: other, 8: 1})),
}
UNLOCKINGS = {
    "at once": lambda _: AtOnce(),
    "arrivals": ByArrivals,
    "time": ByTime,
    "periods": lambda lifetime: ByTime(lifetime, PERIOD_SECONDS),
}
SCHEDULERS: Mapping[str, Callable[..., Scheduler]] = {
    cls.name: cls for cls in (FirstComeFirstServed, RoundRobin, DPF, DPack)
}

amounts = st.sampled_from([Fraction(n, d) for n, d in ((1, 40), (1, 20), (1, 12), (1, 10), (1, 7), (1, 4), (1, 2))])
prices = st.tuples(amounts, amounts)
days = st.sampled_from([[0], [1], [0, 1], [1], [0, 1, 2], [2, 3]]).map(
    lambda days: [sorted(STARTS)[day] for day in days]
)
names = st.one_of(st.just(["whole"]), days, days.map(lambda names: ["whole", *names]))
leases = st.sampled_from([5, 30, 60, 600])
acts = st.one_of(
    st.tuples(st.just("lay_out"), prices),
    st.tuples(
        st.just("schedule"), st.sampled_from(sorted(SCHEDULERS)), st.sampled_from(sorted(UNLOCKINGS)), st.integers(1, 8)
    ),
    st.tuples(st.just("require_approval"), st.sampled_from([None, (Fraction(1, 40), Fraction(1, 40))])),
)


class LedgerMachine(RuleBasedStateMachine):
    """Every step succeeds or fails exactly as the model says, and after each of them the auditor has nothing to say."""

    tickets: Bundle[Claim] = Bundle("tickets")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.clock = Clock()
        self.where = place()

    @initialize(kind=st.sampled_from(sorted(KINDS)), in_blocks=st.booleans())
    def create(self, kind: str, in_blocks: bool) -> None:
        capacity, self.priced = KINDS[kind]
        self.ledger = Ledger.create(self.where, capacity=capacity, clock=self.clock)
        self.beside = store_of(self.where, self.clock)
        self.auditor = Auditor(self.beside)
        self.model = Model(capacity.amounts, any_order=kind == "renyi", now=self.clock.now)
        self.looked = self.auditor.look()
        self.requests: dict[int, tuple[Request, Named]] = {}
        if in_blocks:
            self.lay_out((Fraction(1, 2), Fraction(1, 3)))

    def teardown(self) -> None:
        if hasattr(self, "beside"):
            self.beside.close()
            self.ledger.close()

    # --- jobs

    @rule(target=tickets, price=prices, lease=leases, timeout=st.sampled_from([0, 30, 300]))
    def ask(self, price: Price, lease: int, timeout: int) -> Claim | MultipleResults[Claim]:
        return self.asked(price, ["whole"], lease, timeout)

    @precondition(lambda self: self.model.starts)
    @rule(target=tickets, price=prices, names=names, lease=leases, timeout=st.sampled_from([0, 30, 300]))
    def ask_for_blocks(
        self, price: Price, names: list[str], lease: int, timeout: int
    ) -> Claim | MultipleResults[Claim]:
        return self.asked(price, names, lease, timeout)

    @rule(target=tickets, parent=tickets, price=prices, part=st.integers(1, 4), lease=leases, other=names)
    def consume(
        self, parent: Claim, price: Price, part: int, lease: int, other: list[str]
    ) -> Claim | MultipleResults[Claim]:
        """Take part of a claim, most often of blocks that it holds."""
        number = int(parent.claim_id)
        held = sorted(self.looked.held.get(number, {})) or other
        return self.asked((price[0] / part, price[1] / part), held if part > 1 else other, lease, 0, number)

    @rule(ticket=tickets, again=st.booleans())
    def ask_again(self, ticket: Claim, again: bool) -> None:
        """The same request, or another under its id."""
        number = int(ticket.claim_id)
        if number not in self.requests:
            return
        request, choice = self.requests[number]
        if not again:
            choice = replace(choice, price=self.priced(Fraction(1, 97), Fraction(1, 97)))
        demand = dict.fromkeys(choice.names, choice.price.amounts)
        asked = replace(self.model.claims[number].asked, demand=demand)
        self.both(lambda: self.ledger.ask(request, choice), lambda model: model.ask(asked, self.looked.states))

    @rule(ticket=tickets)
    def poll(self, ticket: Claim) -> None:
        number = int(ticket.claim_id)
        if number in self.model.claims:
            self.both(lambda: self.ledger.poll(number), lambda model: model.poll(number, self.looked.states))

    @precondition(lambda self: "waiting" in self.looked.states.values())
    @rule(seconds=st.sampled_from([1, 3, 3, 20]))
    def wait(self, seconds: int) -> None:
        """Time passes, and the holder of a claim that waits looks again."""
        self.move_clock(seconds)
        number = max(number for number, state in self.looked.states.items() if state == "waiting")
        self.both(lambda: self.ledger.poll(number), lambda model: model.poll(number, self.looked.states))

    @rule(target=tickets, ticket=consumes(tickets))
    def renew(self, ticket: Claim) -> Claim:
        renewed = self.both(lambda: self.ledger.renew(ticket), lambda model: model.renew(*named(ticket)))
        return ticket if renewed is None else renewed

    @rule(ticket=tickets)
    def arm(self, ticket: Claim) -> None:
        noised = b"noised %s" % ticket.claim_id.encode()
        self.both(lambda: self.ledger.arm(ticket, noised), lambda model: model.arm(*named(ticket), noised))

    @rule(ticket=tickets, release=st.none() | st.binary(min_size=1, max_size=4))
    def commit(self, ticket: Claim, release: bytes | None) -> None:
        self.both(lambda: self.ledger.commit(ticket, release), lambda model: model.commit(*named(ticket), release))

    @rule(ticket=tickets)
    def give_back(self, ticket: Claim) -> None:
        self.both(lambda: self.ledger.release(ticket), lambda model: model.release(*named(ticket)))

    # --- the steward

    @precondition(lambda self: self.model.claims)
    @rule(act=acts)
    def govern(self, act: tuple[Any, ...]) -> None:
        getattr(self, act[0])(*act[1:])

    def lay_out(self, price: Price) -> None:
        """Once; then the same again, which changes nothing."""
        capacity = self.ledger.layouts()[0].capacity if self.model.starts else self.priced(*price)
        self.both(
            lambda: Steward(self.ledger).lay_out(VISITS, capacity=capacity),
            lambda model: model.lay_out(STARTS, capacity.amounts),
        )

    def schedule(self, scheduler: str, unlocking: str, number: int) -> None:
        parts = number * (10 if unlocking in ("time", "periods") else 1)
        chosen = SCHEDULERS[scheduler](UNLOCKINGS[unlocking](parts))
        self.both(
            lambda: Steward(self.ledger).schedule(chosen),
            lambda model: model.schedule((unlocking, parts), leaves_nobody=scheduler != "round-robin"),
        )

    def require_approval(self, price: Price | None) -> None:
        above = None if price is None else self.priced(*price)
        self.both(
            lambda: Steward(self.ledger).require_approval(above),
            lambda model: model.require_approval(None if above is None else above.amounts),
        )

    @rule(ticket=tickets)
    def approve(self, ticket: Claim) -> None:
        number = int(ticket.claim_id)
        if number in self.model.claims:
            self.both(lambda: Steward(self.ledger).approve(number), lambda model: model.approve(number))

    # --- the world

    @rule(seconds=st.sampled_from([-50_000, -30, -5, 1, 10, 30, 100, 40_000]))
    def jump(self, seconds: int) -> None:
        self.move_clock(seconds)

    @precondition(lambda self: self.model.claims)
    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.where, clock=self.clock)
        self.looked = self.auditor.look()
        self.model.reopen()

    @precondition(lambda self: self.model.claims)
    @rule()
    def look(self) -> None:
        self.both(self.ledger.balance, lambda model: model.look())

    # --- what always holds

    @invariant()
    def the_ledger_keeps_its_word(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.looked.problems == ()
        assert self.looked.states == {number: claim.state for number, claim in self.model.claims.items()}
        assert self.looked.leases == {
            number: (claim.fence, claim.lease_until) for number, claim in self.model.claims.items()
        }
        assert self.looked.held == {number: claim.held for number, claim in self.model.claims.items()}
        assert {name: block.share for name, block in self.looked.blocks.items()} == {
            name: block.share for name, block in self.model.blocks.items()
        }
        for name, block in self.looked.blocks.items():
            assert block.acquired.amounts == self.model.total(name, "reserved")
            assert block.consumed.amounts == self.model.total(name, "armed", "spent")
            assert block.retired == self.model.retired(name)

    @invariant()
    def answers_are_kept_and_vectors_until_then(self) -> None:
        if not hasattr(self, "model"):
            return
        for number, claim in self.model.claims.items():
            key = claim.asked.key
            assert self.ledger.stored_release(key) == self.model.releases.get(key)
            resumable = self.ledger.resumable(key)
            if number in self.model.noised and key not in self.model.releases:
                assert resumable is not None
                assert resumable.noised == self.model.noised[int(resumable.claim.claim_id)]
            elif key in self.model.releases:
                assert resumable is None

    # --- both at once

    def move_clock(self, seconds: int) -> None:
        self.clock.now += seconds
        self.model.now = self.clock.now

    def asked(
        self, price: Price, names: list[str], lease: int, timeout: int, parent: int | None = None
    ) -> Claim | MultipleResults[Claim]:
        number = len(self.model.claims) + 1
        key = f"key {number % 5}"
        request = Request(
            f"r{len(self.requests)} {number}", lease, timeout_seconds=timeout, parent=parent, release_key=key
        )
        choice = Named(tuple(names), self.priced(*price), "")
        demand = dict.fromkeys(names, choice.price.amounts)
        asked = Asked(request.request_id, demand, lease, timeout, parent, key)
        row = self.both(lambda: self.ledger.ask(request, choice), lambda model: model.ask(asked, self.looked.states))
        if number in self.model.claims:
            self.requests[number] = (request, choice)
        if row is None:
            return multiple()
        return row.ticket(self.ledger.ledger_id)

    def both(self, step: Callable[[], T], act: Callable[[Model], Refusal]) -> T | None:
        """Take a step, then let the model take it; nothing of the model changes where it raises."""
        error, result = None, None
        try:
            result = step()
        except SparkMpcError as refused:
            error = refused
        self.looked = self.auditor.look()
        expected, trial = None, copy.deepcopy(self.model)
        try:
            expected, self.model = act(trial), trial
        except SparkMpcError as refused:
            expected = type(refused)
        assert (None if error is None else type(error)) is expected, (error, expected)
        return result


def named(ticket: Claim) -> tuple[int, int]:
    return int(ticket.claim_id), ticket.fence


def store_of(where: str, clock: Clock) -> Store:
    return PostgresStore(where, clock) if is_address(where) else SQLiteStore(Path(where), clock)


@pytest.mark.slow
def test_the_ledger_does_what_the_model_says(new_place: Place) -> None:
    examples = 15 if is_address(new_place()) else 80
    run_state_machine_as_test(
        lambda: LedgerMachine(new_place),  # type: ignore[arg-type]  # it calls it, whatever it is
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
