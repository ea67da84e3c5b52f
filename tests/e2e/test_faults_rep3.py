"""Parties under rep3 that die or stall at a step: what the others see, what ledgers hold, and the query asked again.

Unlike under `additive` nothing is stored from which a run could go on. So a query that broke off after a ledger had
armed is paid again, unless somebody holds the result. Three of the four parties compute; one stands outside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest

from dp.accounting.budget import ApproxDP
from dp.execution.leases import LEASE_SECONDS
from spark_mpc.party import STEPS
from tests.e2e.harness import PARTIES, Books, Parties
from tests.e2e.test_faults import ARMED, GIVEN_BACK, NOTHING, RESERVED, SPENT, Aftermath, says_who

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OUTSIDE = "d"
_CASES = itertools.count(1)

AFTERMATHS = {
    "agree": Aftermath(NOTHING, (NOTHING,)),
    "reserve": Aftermath(NOTHING, (GIVEN_BACK,)),
    "local": Aftermath(RESERVED, (GIVEN_BACK,)),
    "share": Aftermath(RESERVED, (GIVEN_BACK,)),
    "compute": Aftermath(RESERVED, (GIVEN_BACK,)),
    "noise": Aftermath(RESERVED, (GIVEN_BACK,)),
    "ready": Aftermath(RESERVED, (GIVEN_BACK,)),
    "arm": Aftermath(RESERVED, (ARMED,)),  # nobody opens anything: one ledger has not armed
    "open": Aftermath(ARMED, (ARMED,)),  # it never said that it has armed
    "commit": Aftermath(ARMED, (ARMED, SPENT)),  # its part of the opening may have reached a survivor, or not
    "release": Aftermath(SPENT, (SPENT,)),
}


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    with Parties(tmp_path_factory.mktemp("rep3"), "rep3", (*PARTIES, OUTSIDE)) as parties:
        parties.all_ready()
        yield parties


@pytest.fixture
def epsilon() -> Fraction:
    """Another one for every case, hence another release."""
    return Fraction(next(_CASES), 1000)


def test_every_step_has_an_aftermath() -> None:
    assert [*AFTERMATHS] == [*STEPS]


def all_books(parties: Parties, epsilon: Fraction) -> dict[str, Books]:
    return {name: parties.books(name, epsilon) for name in parties.names}


def begin(parties: Parties, epsilon: Fraction, victim: str, fault: str, step: str, *, task: str = "query") -> None:
    """Everybody asks, and one has a fault at a step."""
    parties.all_ready()
    usual, faulty = parties.asks(epsilon, task=task), parties.asks(epsilon, fault, step, task=task)
    parties.order({**dict.fromkeys(parties.names, usual), victim: faulty})


def check_survivors(parties: Parties, epsilon: Fraction, victim: str, allowed: Aftermath) -> None:
    """What they hold is the result or an error that names the victim, and a ledger that says the same."""
    for name, outcome in parties.outcomes(*(name for name in parties.names if name != victim)).items():
        books = parties.books(name, epsilon)
        assert books.states in allowed.survivors
        assert (outcome["event"] == "released") == (books.states == SPENT) == (books.stored is not None)
        assert outcome["event"] == "released" or says_who(outcome, victim), outcome


def check_rerun(parties: Parties, epsilon: Fraction, task: str = "query") -> None:
    """All ask again: one result, free where somebody held it; otherwise noise is drawn anew, and everybody pays."""
    before, spent = all_books(parties, epsilon), parties.spent()
    held = {books.stored for books in before.values() if books.stored is not None}
    parties.all_ready()
    again = parties.ask(epsilon, task=task)
    assert {(outcome["event"], outcome.get("free")) for outcome in again.values()} == {("released", bool(held))}, again
    assert len({str(outcome["values"]) + outcome["run"] for outcome in again.values()}) == 1
    after, debits = all_books(parties, epsilon), int(not held)
    assert len({books.stored for books in after.values()} | held) == 1
    assert {name: books.paid for name, books in after.items()} == {
        name: books.paid + debits for name, books in before.items()
    }
    assert parties.spent() == {name: parties.plus(budget, debits, epsilon) for name, budget in spent.items()}


CASES = [(PARTIES[STEPS.index(step) % len(PARTIES)], step) for step in AFTERMATHS]
CASES += [(OUTSIDE, step) for step in ("share", "open", "commit")]
QUICK = [("b", "arm"), ("a", "commit"), (OUTSIDE, "open")]  # where budget is at stake


@pytest.mark.parametrize(
    ("victim", "step"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.long) for case in CASES],
)
def test_a_party_killed_at_a_step(parties: Parties, epsilon: Fraction, victim: str, step: str) -> None:
    allowed, task, spent = AFTERMATHS[step], "program" if step == "compute" else "query", parties.spent()
    begin(parties, epsilon, victim, "kill", step, task=task)
    parties[victim].wait_for_death()
    check_survivors(parties, epsilon, victim, allowed)
    books = all_books(parties, epsilon)
    assert books[victim].states == allowed.victim
    assert parties.reserved(victim, seconds_from_now=LEASE_SECONDS + 1) == ApproxDP(0, 0)  # nobody has to tidy up
    assert parties.spent() == {name: parties.plus(spent[name], books[name].paid, epsilon) for name in parties.names}
    check_rerun(parties, epsilon, task)


AWAKE = {"noise": GIVEN_BACK, "arm": ARMED, "open": ARMED}
"""What has become of a claim when a party that was stopped goes on: one that it has armed was paid for nothing."""


@pytest.mark.long
@pytest.mark.parametrize("step", AWAKE)
def test_a_compute_party_that_stalls_at_a_step_and_goes_on_later(
    parties: Parties, epsilon: Fraction, step: str
) -> None:
    victim, allowed = "b", AFTERMATHS[step]
    begin(parties, epsilon, victim, "stop", step)
    check_survivors(parties, epsilon, victim, allowed)
    assert parties.books(victim, epsilon).states == allowed.victim
    parties[victim].resume()
    outcome, books = parties[victim].outcome(), parties.books(victim, epsilon)
    assert outcome["kind"] == "AbortedByPeer", outcome
    assert (books.states, books.stored) == (AWAKE[step], None)
    check_rerun(parties, epsilon)
