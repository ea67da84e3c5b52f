"""Parties under rep3 that die at a step: what the others see, what every ledger holds, and the query asked again.

Unlike under `additive` nothing is stored from which a run could go on. So a query that broke off after a ledger had
armed is paid again, unless somebody holds the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest

from dp.accounting.budget import ApproxDP
from dp.execution.leases import LEASE_SECONDS
from spark_mpc.party import STEPS
from tests.e2e.harness import PARTIES, Parties
from tests.e2e.test_faults import ARMED, GIVEN_BACK, NOTHING, RESERVED, SPENT, Aftermath, others, says_who

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

_CASES = itertools.count(1)

AFTERMATHS = {
    "reserve": Aftermath(NOTHING, (GIVEN_BACK,)),
    "share": Aftermath(RESERVED, (GIVEN_BACK,)),
    "noise": Aftermath(RESERVED, (GIVEN_BACK,)),
    "ready": Aftermath(RESERVED, (GIVEN_BACK,)),
    "arm": Aftermath(RESERVED, (ARMED,)),  # nobody opens anything: one ledger has not armed
    "open": Aftermath(ARMED, (ARMED,)),  # it never said that it has armed
    "commit": Aftermath(ARMED, (ARMED, SPENT)),  # its share of the opening may have reached a survivor, or not
}


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    with Parties(tmp_path_factory.mktemp("rep3"), "rep3") as parties:
        yield parties


@pytest.mark.parametrize("step", AFTERMATHS)
def test_a_party_killed_at_a_step(parties: Parties, step: str) -> None:
    epsilon, victim, allowed = Fraction(next(_CASES), 1000), PARTIES[STEPS.index(step) % 3], AFTERMATHS[step]
    parties.all_ready()
    parties.order({**dict.fromkeys(PARTIES, parties.asks(epsilon)), victim: parties.asks(epsilon, "kill", step)})
    parties[victim].wait_for_death()
    for name, outcome in parties.outcomes(*others(victim)).items():
        books = parties.books(name, epsilon)
        assert books.states in allowed.survivors
        assert (outcome["event"] == "released") == (books.states == SPENT) == (books.stored is not None)
        assert outcome["event"] == "released" or says_who(outcome, victim), outcome
    assert parties.books(victim, epsilon).states == allowed.victim
    assert parties.reserved(victim, seconds_from_now=LEASE_SECONDS + 1) == ApproxDP(0, 0)  # nobody has to tidy up
    held = {books.stored for name in PARTIES if (books := parties.books(name, epsilon)).stored is not None}
    paid = {name: parties.books(name, epsilon).paid for name in PARTIES}
    parties.all_ready()
    again = parties.ask(epsilon)
    assert {outcome["event"] for outcome in again.values()} == {"released"}, again
    assert len({str(outcome["values"]) + outcome["run"] for outcome in again.values()}) == 1
    books_now = {name: parties.books(name, epsilon) for name in PARTIES}
    assert len({books.stored for books in books_now.values()} | held) == 1
    # free where somebody held the result; otherwise noise is drawn anew, and everybody pays for it
    assert {name: books.paid for name, books in books_now.items()} == {
        name: paid[name] + (not held) for name in PARTIES
    }
