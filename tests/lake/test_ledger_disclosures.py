"""What is opened exactly, in the ledger: its price is nothing, its name stands there, it lives as any entry does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP, summed
from dp.accounting.ledger import Claim
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ClaimLost, LeaseExpired
from lake.ledger import Ledger
from tests.tools.ledgers import Clock, reserve, state

NAME = "exposure-2026"
EXACT = b"the exact sum"
KINDS = [PureDP(1), ApproxDP(1, "1e-6"), ZCDP("1/2"), RenyiDP({"3/2": "1/2", 2: 1, 4: "1/3"})]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger.create(path, capacity=PureDP("1"), clock=clock) as made:
        yield made


def disclose(
    ledger: Ledger, request_id: str, *, key: str = "key", name: str = NAME, lease_seconds: float = 60
) -> Claim:
    nothing = summed((), ledger.capacity)
    return reserve(ledger, request_id, nothing, key=key, lease_seconds=lease_seconds, disclosure=name)


# --- the price


@pytest.mark.parametrize("capacity", KINDS, ids=str)
def test_the_price_is_nothing_exactly_for_a_disclosure(path: Path, capacity: Budget) -> None:
    nothing = summed((), capacity)
    with Ledger.create(path, capacity=capacity) as ledger:
        assert disclose(ledger, "exact").price == nothing
        with pytest.raises(InvalidArgument, match=r"price=.*unless it names a disclosure"):
            reserve(ledger, "free", nothing)
        with pytest.raises(InvalidArgument, match=rf"price=.*no price pays for disclosure '{NAME}'.*give summed"):
            reserve(ledger, "paid", capacity, disclosure=NAME)
        assert [entry.disclosure for entry in ledger.entries()] == [NAME]
        assert ledger.remaining() == capacity


def test_one_amount_above_nothing_is_a_price(path: Path) -> None:
    with Ledger.create(path, capacity=ApproxDP(1, "1e-6")) as ledger:
        with pytest.raises(InvalidArgument, match="no price pays"):
            reserve(ledger, "r", ApproxDP(0, "1e-9"), disclosure=NAME)
        reserve(ledger, "r", ApproxDP(0, "1e-9"))


def test_nothing_of_another_kind_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InvalidArgument, match="PureDP prices only"):
        reserve(ledger, "r", ZCDP(0), disclosure=NAME)


@pytest.mark.parametrize("name", [" ", "Exposure", "exposure 2026", "exposure\n", "a" * 65, "é", None, 1, False])
def test_a_malformed_name_is_refused(ledger: Ledger, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"disclosure=.*looks like"):
        disclose(ledger, "r", name=name)
    assert ledger.entries() == []


@pytest.mark.parametrize("capacity", KINDS, ids=str)
def test_a_ledger_with_nothing_left_still_records_disclosures(path: Path, capacity: Budget) -> None:
    with Ledger.create(path, capacity=capacity) as ledger:
        ledger.arm(reserve(ledger, "all", capacity), b"")
        before = ledger.balance()
        ledger.arm(disclose(ledger, "exact"), EXACT)
        assert ledger.balance() == before
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "more", capacity)


# --- the life of an entry


def test_it_lives_from_reservation_to_commit_and_no_balance_changes(ledger: Ledger) -> None:
    reserve(ledger, "noised", "0.3", key="another")
    before = ledger.balance()
    claim = disclose(ledger, "r")
    assert (state(ledger, claim), ledger.balance()) == ("reserved", before)
    claim = ledger.renew(claim)
    assert claim.fence == 2
    ledger.arm(claim, EXACT)
    assert (state(ledger, claim), ledger.balance()) == ("armed", before)
    with pytest.raises(ClaimLost, match="armed"):
        ledger.release(claim)
    resumed = ledger.resumable("key")
    assert resumed is not None
    assert (resumed.claim, resumed.noised) == (claim, EXACT)
    ledger.commit(claim, b"release")
    assert (state(ledger, claim), ledger.balance()) == ("spent", before)
    assert ledger.stored_release("key") == b"release"
    assert ledger.resumable("key") is None
    assert [entry.disclosure for entry in ledger.entries()] == ["", NAME]


def test_it_can_be_given_back_and_its_lease_runs_out(ledger: Ledger, clock: Clock) -> None:
    given_back, late = disclose(ledger, "given back"), disclose(ledger, "late")
    ledger.release(given_back)
    with pytest.raises(ClaimLost):
        ledger.arm(given_back, b"")
    clock.now += 60
    for step in (lambda: ledger.arm(late, EXACT), lambda: ledger.renew(late)):
        with pytest.raises(LeaseExpired):
            step()
    disclose(ledger, "next")  # writes down that the lease has run out
    assert [entry.state for entry in ledger.entries()] == ["released", "released", "reserved"]


def test_a_repeated_request_names_the_same_disclosure(ledger: Ledger) -> None:
    claim = disclose(ledger, "r")
    assert disclose(ledger, "r") == claim
    assert len(ledger.entries()) == 1
    with pytest.raises(InvalidArgument, match="other content"):
        disclose(ledger, "r", name="exposure-2027")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "r", "0.1")
    reserve(ledger, "noised", "0.1")
    with pytest.raises(InvalidArgument, match="other content"):
        disclose(ledger, "noised")


def test_it_survives_reopening(ledger: Ledger, path: Path, clock: Clock) -> None:
    claim = disclose(ledger, "r")
    ledger.arm(claim, EXACT)
    ledger.commit(claim, b"release")
    before = (ledger.balance(), ledger.entries())
    ledger.close()
    with Ledger.open(path, clock=clock) as again:
        assert (again.balance(), again.entries()) == before
        assert again.entries()[0].disclosure == NAME
        assert again.stored_release("key") == b"release"
        assert disclose(again, "r") == claim


def test_export_names_it(ledger: Ledger) -> None:
    disclose(ledger, "r")
    reserve(ledger, "noised")
    assert [(row["disclosure"], row["kind"], row["epsilon"]) for row in ledger.export_rows()] == [
        (NAME, "pure", "0"),
        ("", "pure", "1/10"),
    ]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.booleans(), st.fractions("1/20", "1/2", max_denominator=20), st.sampled_from(["", "arm", "release"])
        )
    )
)
@settings(deadline=None, max_examples=25, derandomize=True, database=None)
def test_the_balance_is_that_of_the_ledger_without_its_disclosures(steps: list[tuple[bool, str, str]]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "with", capacity=PureDP(100)) as mixed,
        Ledger.create(Path(folder) / "without", capacity=PureDP(100)) as noised,
    ):
        for number, (exact, price, then) in enumerate(steps):
            claims = [(mixed, disclose(mixed, str(number)))] if exact else []
            if not exact:
                claims = [(one, reserve(one, str(number), PureDP(price))) for one in (mixed, noised)]
            for ledger, claim in claims:
                if then == "arm":
                    ledger.arm(claim, b"")
                if then == "release":
                    ledger.release(claim)
            assert mixed.balance() == noised.balance()
