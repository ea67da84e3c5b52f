"""What goes wrong between parties that are threads of one process: what they are told, and what still goes on."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from threading import Event

import numpy as np
import pytest

import spark_mpc as mpc
from dp.accounting.budget import PureDP
from dp.errors import BudgetExceeded
from dp.execution.release import StoredRelease
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import NoiseParties, make_plan
from dp.planning.query import Query
from lake.errors import LedgerError
from spark_mpc import dp
from spark_mpc.agreement import Greeting, agree, greet
from spark_mpc.errors import AbortedByPeer, Disagreement, PeerLost, RunAborted
from spark_mpc.party import Party
from spark_mpc.run import Outcome, run_party
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.task import QueryTask
from spark_mpc.talk import exchange, public_reason
from spark_mpc.transport import RENDEZVOUS, MemoryHub
from spark_mpc.witness import tell_heads
from tests.tools.federations import at_once
from tests.tools.sparkless import PaidLedger, sparkless_source
from tests.tools.studies import Wire, all_at_once, memory_parties

pytestmark = pytest.mark.slow  # waits out timeouts on real sockets

NAMES = ("a", "b", "c")
RUN = bytes(range(32))
QUERY = Query((), ((),), ContributionBounds(1, 2, None), (dp.count().alias("n"),), PublicFacts(unit=("id",)), {})
PLAN = make_plan(QUERY, PureDP(1), parties=3, noise=NoiseParties(copies=3, honest=1))
TASK = QueryTask("claims", PLAN, NAMES, Additive())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BudgetExceeded("asked 1, remaining 0.4 on ledger '/lake/ledger'"), "BudgetExceeded"),
        (LedgerError("/lake/ledger", "is gone", "look for it"), "LedgerError"),  # type: ignore[arg-type]
        (ValueError("person 17 has 3 rows"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (RunAborted("ValueError"), "RunAborted"),
        (PeerLost("c", "local", "silent"), "lost c (last seen in 'local'): silent"),
        (AbortedByPeer("c", "ValueError"), "told by c: ValueError"),
        (Disagreement(["version: 1 here, 2 at c"]), "the parties disagree: version: 1 here, 2 at c"),
    ],
)
def test_peers_are_told_who_is_meant_and_nothing_private(error: BaseException, told: str) -> None:
    assert public_reason(error) == told


def test_whoever_hears_of_a_lost_peer_second_hand_learns_its_name() -> None:
    hub = MemoryHub(NAMES, timeout_seconds=2, rendezvous_seconds=2)
    with ExitStack() as running:
        a, b, c = (running.enter_context(hub.transport(name)) for name in NAMES)
        for transport in (a, b, c):
            transport.begin(RUN)
        c.close()
        outcomes = all_at_once({one.me: partial(exchange, one, RUN, "ready", b"", 0) for one in (a, b)})
    assert all(isinstance(outcome, PeerLost | AbortedByPeer) for outcome in outcomes.values()), outcomes
    assert all("lost c " in str(outcome) for outcome in outcomes.values()), outcomes


def test_a_restarted_peer_gets_the_greeting_of_this_attempt_and_no_earlier_one() -> None:
    """Its own is there before ours is on its way, and another process of it took the one before."""
    hub, sent, newest, stale = MemoryHub(("a", "b"), timeout_seconds=5, rendezvous_seconds=5), [], [b""], Event()

    def tap(_peer: str, _run: bytes, _step: str, payload: memoryview) -> None:
        sent.append(bytes(payload))
        if sent[-1] != newest[0]:
            stale.set()
        stale.wait(0.05)  # on its way: time enough for whatever else would be sent

    with hub.transport("a", tap=tap) as a:
        for attempt in (b"1", b"2", b"3"):
            with hub.transport("b") as b:
                newest[0] = attempt
                b.send("a", RENDEZVOUS, "hello", b"from b")
                exchange(a, RENDEZVOUS, "hello", attempt, 10)
                assert b.receive("a", RENDEZVOUS, "hello", 10) == attempt
    assert sent == [b"1", b"2", b"3"]


class Waiting(PaidLedger):
    """Has a release, and shows it for the second time when somebody has died."""

    def __init__(self, stored: bytes, died: Event) -> None:
        super().__init__(stored)
        self._looks, self._died = 0, died

    def stored_release(self, release_key: str) -> bytes | None:
        self._looks += 1
        assert self._looks == 1 or self._died.wait(30)
        return super().stored_release(release_key)


def test_who_dies_before_it_fetched_a_stored_release_keeps_it_from_nobody() -> None:
    stored, died = StoredRelease("run", np.array([7], np.uint64)).to_bytes(), Event()
    ledgers = {"a": Waiting(stored, died), "b": PaidLedger(), "c": PaidLedger()}

    def dies(party: Party) -> None:
        greeting = greet(party, TASK, sparkless_source())
        party.transport.begin(greeting.run)
        agreement = agree(party, TASK, greeting)
        tell_heads(party, greeting.run, "ready", party.ledger.head(), agreement.ledgers)
        party.transport.close()
        died.set()

    def walk(party: Party) -> Outcome | None:
        return run_party(party, TASK, sparkless_source(), None)

    # "b" is the one that dies: it would be served before "c"
    with memory_parties(mpc.Federation.local(NAMES), ledgers, Wire()) as parties:  # type: ignore[arg-type]
        first, _, third = at_once(lambda: walk(parties["a"]), lambda: dies(parties["b"]), lambda: walk(parties["c"]))
    for outcome in (first, third):
        assert isinstance(outcome, Outcome)
        assert outcome.paid_before
        assert outcome.stored.words.tolist() == [7]
    assert ledgers["c"].committed == stored


def test_no_text_shows_what_a_party_keeps_to_itself() -> None:
    ledgers = {name: PaidLedger() for name in NAMES}
    with memory_parties(mpc.Federation.local(NAMES), ledgers, Wire()) as parties:  # type: ignore[arg-type]
        greetings = all_at_once({name: partial(greet, parties[name], TASK, sparkless_source()) for name in NAMES})
    for name, greeting in greetings.items():
        assert isinstance(greeting, Greeting)
        assert repr(parties[name]) == f"Party(long_cells={parties[name].long_cells})"
        secret = parties[name].identity.key.private_numbers().private_value
        shown = repr(greeting) + repr(parties[name].identity) + repr(greeting.attempt_key)
        assert "X25519PrivateKey" not in shown
        assert str(secret) not in shown
        assert "attempt_key=AttemptKey" not in repr(greeting)
