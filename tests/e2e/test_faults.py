"""Parties that die, stall or fail at every step of a run: what the others see, what every ledger holds, and the re-run.

The processes live through the whole module; only a victim is restarted. Every case asks for a release of its own, at
an epsilon of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest

from dp.accounting.budget import PureDP
from dp.execution.leases import LEASE_SECONDS
from lake.ledger import Ledger
from spark_mpc.party import STEPS
from tests.e2e.harness import PARTIES, Event, Parties
from tests.e2e.party_worker import Order

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CELLS = 6  # two aggregates over three plans
_CASES = itertools.count(1)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    with Parties(tmp_path_factory.mktemp("faults")) as parties:
        yield parties


@pytest.fixture
def epsilon() -> Fraction:
    """Another one for every case, hence another release."""
    return Fraction(next(_CASES), 1000)


@dataclass(frozen=True)
class Aftermath:
    """What DESIGN says of the ledgers when a victim has died at a step.

    Attributes:
        victim: the possible states of its entries.
        survivors: the same for each of the others; ("spent",) goes with the result in hand, anything else without.
    """

    victim: tuple[str, ...]
    survivors: tuple[tuple[str, ...], ...]


NOTHING, GIVEN_BACK, RESERVED, ARMED, SPENT = (), ("released",), ("reserved",), ("armed",), ("spent",)
AFTERMATHS = {
    "agree": Aftermath(NOTHING, (NOTHING,)),
    "reserve": Aftermath(NOTHING, (GIVEN_BACK,)),
    "local": Aftermath(RESERVED, (GIVEN_BACK,)),
    "noise": Aftermath(RESERVED, (GIVEN_BACK,)),
    "ready": Aftermath(RESERVED, (GIVEN_BACK,)),
    "arm": Aftermath(RESERVED, (ARMED,)),
    "open": Aftermath(ARMED, (ARMED,)),
    "commit": Aftermath(ARMED, (ARMED, SPENT)),  # its upload may have reached a survivor, or not
    "release": Aftermath(SPENT, (SPENT,)),
}


def test_every_step_has_an_aftermath() -> None:
    assert [*AFTERMATHS] == [step for step in STEPS if step not in ("share", "compute")]  # which are rep3's


def others(victim: str) -> list[str]:
    return [name for name in PARTIES if name != victim]


def says_who(outcome: Event, victim: str) -> bool:
    """A clear error: it names the party that failed, whoever told of it."""
    is_known = outcome["kind"] in ("PeerLost", "AbortedByPeer")
    return is_known and (f"lost {victim} " in outcome["message"] or f"by {victim}: " in outcome["message"])


def check_survivor(parties: Parties, name: str, epsilon: Fraction, outcome: Event, allowed: Aftermath) -> None:
    """A survivor's ledger says what happened: spent with a result, or a clear error without one."""
    books = parties.books(name, epsilon)
    assert books.states in allowed.survivors
    assert (outcome["event"] == "released") == (books.states == SPENT) == (books.stored is not None)


def check_rerun(parties: Parties, epsilon: Fraction) -> dict[str, Event]:
    """All ask again: one result, the same everywhere, paid for exactly once by everybody."""
    earlier = {books.stored for name in PARTIES if (books := parties.books(name, epsilon)).stored is not None}
    spent, paid = parties.spent(), {name: parties.books(name, epsilon).paid for name in PARTIES}
    outcomes = parties.ask(epsilon)
    assert {outcome["event"] for outcome in outcomes.values()} == {"released"}, outcomes
    assert len({str(outcome["values"]) + outcome["run"] for outcome in outcomes.values()}) == 1
    books_now = [parties.books(name, epsilon) for name in PARTIES]
    assert len({books.stored for books in books_now} | earlier) == 1  # what somebody held before is what all hold now
    assert [books.paid for books in books_now] == [1, 1, 1]
    prices = {name: epsilon * (1 - times) for name, times in paid.items()}  # who had armed before pays nothing now
    assert parties.spent() == {name: PureDP(spent[name].epsilon + prices[name]) for name in PARTIES}
    assert {outcome["free"] for outcome in outcomes.values()} == {bool(earlier)}
    return outcomes


def test_undisturbed_parties_agree_and_asking_again_is_free(parties: Parties, epsilon: Fraction) -> None:
    parties.all_ready()
    first = check_rerun(parties, epsilon)
    assert not any(outcome["free"] for outcome in first.values())
    again = check_rerun(parties, epsilon)
    assert all(outcome["free"] for outcome in again.values())
    assert [again[name]["values"] for name in PARTIES] == [first[name]["values"] for name in PARTIES]


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=() if step in ("local", "arm", "commit") else pytest.mark.long) for step in AFTERMATHS],
)
def test_a_party_killed_at_a_step(parties: Parties, epsilon: Fraction, step: str) -> None:
    victim, allowed = PARTIES[STEPS.index(step) % len(PARTIES)], AFTERMATHS[step]
    parties.all_ready()
    parties.order({**dict.fromkeys(PARTIES, Order(str(epsilon))), victim: Order(str(epsilon), "kill", step)})
    parties[victim].wait_for_death()
    outcomes = parties.outcomes(*others(victim))
    for name, outcome in outcomes.items():
        check_survivor(parties, name, epsilon, outcome, allowed)
        assert outcome["event"] == "released" or says_who(outcome, victim), outcome
    assert parties.books(victim, epsilon).states == allowed.victim
    assert parties.reserved(victim, seconds_from_now=LEASE_SECONDS + 1) == PureDP(0)  # nobody has to tidy up
    parties.all_ready()
    assert (
        "armed" not in parties.books(victim, epsilon).states
    )  # reopened: nobody knows what became of it, so it is spent
    check_rerun(parties, epsilon)


def test_a_run_that_broke_off_goes_on_with_the_vectors_that_were_paid_for(parties: Parties, epsilon: Fraction) -> None:
    """Fresh masks, the same noise: the result of the second attempt is the sum of what was stored in the first."""
    parties.all_ready()
    parties.order({**dict.fromkeys(PARTIES, Order(str(epsilon))), "b": Order(str(epsilon), "kill", "open")})
    parties[victim := "b"].wait_for_death()
    parties.outcomes(*others(victim))
    stored = [books.noised for name in PARTIES if (books := parties.books(name, epsilon)).noised is not None]
    assert len(stored) == len(PARTIES)
    parties.all_ready()
    check_rerun(parties, epsilon)
    release = parties.books(victim, epsilon).stored
    assert release is not None
    noised = [np.frombuffer(vector, "<u8") for vector in stored]
    words = np.frombuffer(release[-8 * CELLS :], "<u8")  # the last thing in a stored release
    np.testing.assert_array_equal(words, reduce(np.add, noised))


def test_a_party_killed_between_its_upload_and_its_commit_fetches_the_result(
    parties: Parties, epsilon: Fraction
) -> None:
    victim = "c"
    parties.all_ready()
    parties.order({**dict.fromkeys(PARTIES, Order(str(epsilon))), victim: Order(str(epsilon), "hold", "commit")})
    for name in others(victim):  # they commit: the victim's upload has reached them
        parties[name].until("commit", seconds=60)
    parties[victim].until("commit", seconds=60)
    parties[victim].end()
    outcomes = parties.outcomes(*others(victim))
    assert {outcome["event"] for outcome in outcomes.values()} == {"released"}
    assert parties.books(victim, epsilon).states == ARMED
    assert parties.books(victim, epsilon).stored is None
    parties.all_ready()
    again = check_rerun(parties, epsilon)
    assert again[victim]["values"] == outcomes["a"]["values"]


@pytest.mark.parametrize("step", ["local", "open"])
def test_a_party_that_stalls_at_a_step_and_goes_on_later(parties: Parties, epsilon: Fraction, step: str) -> None:
    victim, allowed = "b", AFTERMATHS[step]
    parties.all_ready()
    parties.order({**dict.fromkeys(PARTIES, Order(str(epsilon))), victim: Order(str(epsilon), "stop", step)})
    for name, outcome in parties.outcomes(*others(victim)).items():
        assert outcome["event"] == "failed"
        assert says_who(outcome, victim), outcome
        check_survivor(parties, name, epsilon, outcome, allowed)
    assert parties.books(victim, epsilon).states == allowed.victim
    parties[victim].resume()
    outcome = parties[victim].outcome()
    books = parties.books(victim, epsilon)
    if outcome["event"] == "released":  # at "open" everybody's upload may have been waiting for it
        assert (step, books.states) == ("open", SPENT)
    else:
        assert outcome["kind"] == "AbortedByPeer", outcome
        assert books.states == {"local": GIVEN_BACK, "open": ARMED}[step]
    check_rerun(parties, epsilon)


def test_a_party_whose_rows_cannot_be_read_tells_the_kind_of_error_and_no_more(
    parties: Parties, epsilon: Fraction
) -> None:
    victim, doomed = "c", parties.folder / "secret-name.delta"
    parties.all_ready()
    before = parties.spent()
    parties.order({victim: Order(str(epsilon), doomed_table=str(doomed))})
    parties[victim].until("agree", seconds=60)  # it has written and lost its table; now the others need not wait
    parties.order(dict.fromkeys(others(victim), Order(str(epsilon))))
    outcomes = parties.outcomes(*PARTIES)
    assert outcomes[victim]["kind"] not in ("PeerLost", "AbortedByPeer")
    for name in others(victim):
        assert says_who(outcomes[name], victim), outcomes[name]
        assert outcomes[victim]["kind"] in outcomes[name]["message"]
        assert not any(word in outcomes[name]["message"] for word in ("secret-name", "/", "parquet"))
    assert [parties.books(name, epsilon).states for name in PARTIES] == [GIVEN_BACK] * 3
    assert parties.spent() == before
    check_rerun(parties, epsilon)


def test_a_party_with_too_little_budget_costs_nobody_anything(parties: Parties, epsilon: Fraction) -> None:
    victim, poor = "a", parties.folder / "poor.ledger"
    left = epsilon * Fraction(777_778, 777_779)
    Ledger.create(poor, capacity=PureDP(left)).close()
    parties.all_ready()
    before = parties.spent()
    parties.start(victim, ledger=poor)
    parties.wait_ready(victim)
    outcomes = parties.ask(epsilon)
    assert outcomes[victim]["kind"] == "BudgetExceeded"
    for name in others(victim):
        assert says_who(outcomes[name], victim), outcomes[name]
        assert outcomes[name]["message"].endswith("by a: BudgetExceeded")
        # a slow one may hear of the refusal before it has reserved anything
        assert parties.books(name, epsilon).states in (GIVEN_BACK, NOTHING)
    assert parties.spent() == before
    with Ledger.open(poor) as ledger:
        assert ledger.entries() == []
    parties.start(victim)
    parties.wait_ready(victim)
    check_rerun(parties, epsilon)
