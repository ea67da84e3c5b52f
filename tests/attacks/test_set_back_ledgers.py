"""ATTACKS 21: a ledger that was set back is refused by the parties that saw it further on, before anybody pays.

Real runs of three parties with real ledgers; only their rows are made up without Spark.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import ClassVar

import numpy as np
import pytest

from dp.accounting.budget import ApproxDP, Budget
from dp.accounting.ledger import Claim
from dp.execution.local import Vector
from dp.execution.one_lake import Source
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from lake.errors import LedgerBehind
from lake.ledger import Head, Ledger
from spark_mpc import AbortedByPeer, Federation, PeerLost, dp
from spark_mpc.handshake import HEAD_BYTES
from spark_mpc.party import Party
from spark_mpc.run import Outcome, run_party
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.base import SumProtocol
from spark_mpc.sums.replicated import Replicated
from spark_mpc.sums.task import QueryTask
from tests.tools.sparkless import sparkless_source
from tests.tools.studies import Wire, all_at_once, memory_parties

NAMES = ("a", "b", "c")
QUERY = Query(
    by=("plan",),
    keys=((0,), (1,)),
    bounds=ContributionBounds(1, 1, None),
    aggregates=(dp.count().alias("n"),),
    facts=PublicFacts(unit=("id",)),
    columns={},
)
PRICE = ApproxDP(1, "1e-9")

Outcomes = dict[str, Outcome | Exception | None]


class Crash(RuntimeError):
    """A process that dies at this point."""


@dataclass(frozen=True)
class CountedTask(QueryTask):
    """A query whose cells every party knows without reading a row."""

    def exact(self, party: Party, source: Source) -> Vector:
        return Vector(self.length, words=np.arange(self.length, dtype=np.uint64))


@dataclass
class Parties:
    """Three parties that ask together again and again.

    Attributes:
        sums: their protocol.
        paths: of their ledgers, by party; a test puts others in their place.
        wire: what the last run sent.
    """

    sums: SumProtocol
    paths: dict[str, Path]
    wire: Wire

    def ask(self, question: str, kinds: Mapping[str, type[Ledger]] | None = None) -> Outcomes:
        """One run, in which every party opens its ledger anew; another question is another release."""
        federation = Federation.local(NAMES, protocol=self.sums.name)
        plan: Plan = make_plan(QUERY, PRICE, parties=3, noise=self.sums.noise_parties(federation.file))
        task = CountedTask(question, plan, NAMES, self.sums)
        self.wire = Wire()
        source = sparkless_source()
        with contextlib.ExitStack() as opened:
            ledgers = {
                name: opened.enter_context((kinds or {}).get(name, Ledger).open(path))
                for name, path in self.paths.items()
            }
            with memory_parties(federation, ledgers, self.wire) as parties:
                return all_at_once({name: partial(run_party, parties[name], task, source, None) for name in NAMES})

    def spent(self) -> dict[str, Budget]:
        """What every ledger has spent; nothing may be left reserved."""
        found = {}
        for name, path in self.paths.items():
            with Ledger.open(path) as ledger:
                assert ledger.reserved() == ApproxDP(0, 0)
                found[name] = ledger.spent()
        return found


@pytest.fixture(params=[Additive(), pytest.param(Replicated(), marks=pytest.mark.slow)], ids=lambda sums: sums.name)
def parties(request: pytest.FixtureRequest, tmp_path: Path) -> Parties:
    paths = {name: tmp_path / f"{name}.ledger" for name in NAMES}
    for path in paths.values():
        Ledger.create(path, capacity=ApproxDP(100, "1e-3")).close()
    return Parties(request.param, paths, Wire())


def copied(path: Path, to: str) -> Path:
    """A backup as docs/ledger.md says."""
    copy = path.with_name(to)
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def spend(path: Path, request: str, price: ApproxDP = PRICE) -> None:
    """A query of this party alone."""
    with Ledger.open(path) as ledger:
        claim = ledger.reserve(
            request_id=request,
            price=price,
            table="t",
            data_version="t@0",
            release_key=request,
            run_id=request,
            purpose="alone",
            lease_seconds=60,
        )
        ledger.arm(claim, b"")
        ledger.commit(claim, b"release")


def answered(outcomes: Outcomes) -> bool:
    return all(isinstance(outcome, Outcome) for outcome in outcomes.values())


def assert_refused(outcomes: Outcomes, whose: str, problem: str) -> None:
    """The owner is told by its own ledger, everybody else by the owner: whose ledger it is, and what is wrong."""
    own = outcomes.pop(whose)
    assert isinstance(own, LedgerBehind)
    assert problem in str(own)
    assert "treat the difference as spent" in str(own)
    for outcome in outcomes.values():
        assert isinstance(outcome, AbortedByPeer)
        assert f"by {whose}: its ledger {problem}" in str(outcome)
        assert "claims" not in str(outcome)
        assert ".ledger" not in str(outcome)  # where it lies is nobody else's business


def test_everybody_keeps_where_the_others_ledgers_were_armed(parties: Parties) -> None:
    assert answered(parties.ask("first"))
    for name in NAMES:
        with Ledger.open(parties.paths[name]) as ledger:
            seen = {peer.party: peer for peer in ledger.peer_heads()}
        assert seen.keys() == set(NAMES) - {name}
        for peer, kept in seen.items():
            with Ledger.open(parties.paths[peer]) as theirs:
                assert kept.ledger_id == theirs.ledger_id
                theirs.check_head(kept.head, name)
                assert theirs.events()[kept.head.sequence - 1].fields["event"] == "armed"


@pytest.mark.slow
def test_a_head_takes_as_many_bytes_whatever_was_spent_and_seen(parties: Parties) -> None:
    """The first run, in which nobody has seen anybody, looks like all later ones."""
    lengths = []
    for question in ("one", "two"):
        assert answered(parties.ask(question))
        lengths.append({(message.step, len(message.payload)) for message in parties.wire.sent})
        spend(parties.paths["b"], question)
    assert lengths[0] == lengths[1]
    assert {("ready", HEAD_BYTES), ("armed", HEAD_BYTES)} <= lengths[0]


@pytest.mark.parametrize("whose", ["a", "c"])
def test_a_restored_ledger_is_refused_until_the_right_one_is_back(parties: Parties, whose: str) -> None:
    backup = copied(parties.paths[whose], "backup")
    assert answered(parties.ask("first"))
    right, parties.paths[whose] = parties.paths[whose], backup
    for _ in range(2):
        assert_refused(parties.ask("second"), whose, "lacks audit event")
    parties.paths[whose] = right
    assert set(parties.spent().values()) == {PRICE}
    assert answered(parties.ask("second"))


def test_a_restored_ledger_that_went_on_is_refused_too(parties: Parties) -> None:
    """However long its log has grown: it has other events where the peers saw the earlier ones."""
    backup = copied(parties.paths["b"], "backup")
    assert answered(parties.ask("first"))
    parties.paths["b"] = backup
    for number in range(5):
        spend(backup, f"other {number}")
    before = parties.spent()
    assert_refused(parties.ask("second"), "b", "has another audit event")
    assert parties.spent() == before


class CopiedAsItReserves(Ledger):
    """A ledger of which somebody takes a copy between agreeing and arming."""

    def await_approval(self, claim: Claim, check: object = None) -> None:
        copied(Path(self.name), "backup")


def test_a_copy_of_the_moment_before_arming_is_refused(parties: Parties) -> None:
    assert answered(parties.ask("first", {"c": CopiedAsItReserves}))
    parties.paths["c"] = parties.paths["c"].with_name("backup")
    assert_refused(parties.ask("second"), "c", "lacks audit event")


@pytest.mark.slow
def test_a_stored_answer_is_not_given_beside_a_ledger_that_was_set_back(parties: Parties) -> None:
    backup = copied(parties.paths["a"], "backup")
    assert answered(parties.ask("first"))
    assert all(outcome.paid_before for outcome in parties.ask("first").values())  # type: ignore[union-attr]
    right, parties.paths["a"] = parties.paths["a"], backup
    assert_refused(parties.ask("first"), "a", "lacks audit event")
    parties.paths["a"] = right
    assert answered(parties.ask("first"))


@pytest.mark.slow
def test_what_a_party_spent_alone_is_seen_when_it_meets_the_others(parties: Parties) -> None:
    """Also where the run comes to nothing: heads are told before arming, too."""
    backup = copied(parties.paths["a"], "backup")
    spend(parties.paths["a"], "alone")
    spend(parties.paths["b"], "everything", ApproxDP("99.5", "1e-9"))
    assert not answered(parties.ask("too much"))
    parties.paths["b"] = parties.paths["b"].with_name("other")
    Ledger.create(parties.paths["b"], capacity=ApproxDP(100, "1e-3")).close()
    assert answered(parties.ask("first"))
    parties.paths["a"] = backup
    assert_refused(parties.ask("second"), "a", "lacks audit event")


def test_a_new_ledger_is_taken_and_told_of(parties: Parties, caplog: pytest.LogCaptureFixture) -> None:
    first = parties.ask("first")
    assert all(outcome.notices == () for outcome in first.values())  # type: ignore[union-attr]
    old = parties.paths["b"]
    parties.paths["b"] = old.with_name("new")
    with Ledger.create(parties.paths["b"], capacity=ApproxDP(100, "1e-3")) as made, Ledger.open(old) as former:
        ids = made.ledger_id, former.ledger_id
    with caplog.at_level(logging.WARNING, "spark_mpc"):
        second = parties.ask("second")
    for name in ("a", "c"):
        outcome = second[name]
        assert isinstance(outcome, Outcome)
        (notice,) = outcome.notices
        assert notice.startswith(f"b pays from a ledger that {name} has never seen, {ids[0]}; it used {ids[1]} before")
        assert notice in caplog.messages
        with Ledger.open(parties.paths[name]) as ledger:
            assert [peer.ledger_id for peer in ledger.peer_heads() if peer.party == "b"] == [ids[1], ids[0]]
    assert second["b"].notices == ()  # type: ignore[union-attr]
    third = parties.ask("third")
    assert all(outcome.notices == () for outcome in third.values())  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_ledger_before_is_remembered_beside_a_new_one(parties: Parties) -> None:
    """A detour over a new ledger does not make the peers forget how far the old one was."""
    old, backup = parties.paths["b"], copied(parties.paths["b"], "backup")
    assert answered(parties.ask("first"))
    parties.paths["b"] = old.with_name("new")
    Ledger.create(parties.paths["b"], capacity=ApproxDP(100, "1e-3")).close()
    assert answered(parties.ask("second"))
    parties.paths["b"] = backup
    assert_refused(parties.ask("third"), "b", "lacks audit event")
    parties.paths["b"] = old
    assert answered(parties.ask("third"))


class ArmsTogether(Ledger):
    """A ledger that goes on when those of all parties have armed."""

    all_armed: ClassVar[Barrier]

    def arm(self, claim: Claim, noised: bytes) -> None:
        super().arm(claim, noised)
        self.all_armed.wait(30)


class DiesOnceItHasArmed(ArmsTogether):
    """Its process dies before it can tell anybody."""

    has_armed = False

    def arm(self, claim: Claim, noised: bytes) -> None:
        super().arm(claim, noised)
        self.has_armed = True

    def head(self) -> Head:
        if self.has_armed:
            raise Crash
        return super().head()


def test_a_death_between_arming_and_telling_changes_nothing_about_what_is_paid(parties: Parties) -> None:
    ArmsTogether.all_armed = Barrier(3)
    outcomes = parties.ask("first", {"a": ArmsTogether, "b": DiesOnceItHasArmed, "c": ArmsTogether})
    assert isinstance(outcomes["b"], Crash)
    assert all(isinstance(outcomes[name], AbortedByPeer | PeerLost) for name in ("a", "c"))
    assert set(parties.spent().values()) == {PRICE}
    again = parties.ask("first")
    assert answered(again)
    times = 1 if isinstance(parties.sums, Additive) else 2  # what is drawn under sharing cannot be resumed
    assert set(parties.spent().values()) == {ApproxDP(times, f"{times}e-9")}
