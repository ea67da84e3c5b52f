"""A ledger that counts in Renyi orders: what fits it, what it deducts, and that its file keeps every order exactly."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.accountants import price
from dp.accounting.budget import ApproxDP, PureDP, RenyiDP, left_after, summed
from dp.accounting.events import GaussianEvent, LaplaceEvent, compose
from dp.errors import BudgetExceeded, InvalidArgument
from lake.blocks import Blocks
from lake.ledger import Ledger, Steward
from tests.tools.ledgers import Place, reserve

WHOLE = RenyiDP({"3/2": 0, 2: 1, 4: "1/3"})


def make(folder: Path, capacity: RenyiDP = WHOLE) -> Ledger:
    return Ledger.create(folder / "ledger", capacity=capacity)


def test_a_claim_needs_one_order_and_is_deducted_at_all(tmp_path: Path) -> None:
    with make(tmp_path) as ledger:
        ledger.arm(reserve(ledger, "at order 2", RenyiDP({"3/2": "0.1", 2: "0.5", 4: 1})), b"")
        assert ledger.remaining() == WHOLE.minus(RenyiDP({"3/2": "0.1", 2: "0.5", 4: 1}))
        assert ledger.remaining().amounts["epsilon(4)"] == Fraction(-2, 3)
        with pytest.raises(BudgetExceeded, match=r"asked renyi .*2: 0\.51.*remaining renyi .*4: -0\.6667"):
            reserve(ledger, "too much", RenyiDP({"3/2": "0.01", 2: "0.51", 4: "0.01"}))
        reserve(ledger, "what is left", RenyiDP({"3/2": 1, 2: "0.5", 4: 1}))
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "nothing is left", RenyiDP({"3/2": "1/1000", 2: "1/1000", 4: "1/1000"}))


def test_what_remains_below_zero_is_no_price(new_place: Place) -> None:
    """It would give budget back at that order."""
    with Ledger.create(new_place(), capacity=WHOLE) as ledger:
        ledger.arm(reserve(ledger, "at order 2", RenyiDP({"3/2": 0, 2: "0.5", 4: 1})), b"")
        left = ledger.remaining()
        with pytest.raises(InvalidArgument, match="no amount of a price is below zero"):
            reserve(ledger, "all that is left", left)
        assert [entry.run_id for entry in ledger.entries()] == ["run"]
        assert ledger.remaining() == left
        assert ledger.verify() == ledger.head()


def test_what_could_not_be_read_again_is_refused_before_anything_is_written(new_place: Place) -> None:
    """Nobody could open a ledger that holds it; and a block with too little at one order would give too much later."""
    place = new_place()
    left = WHOLE.minus(RenyiDP({"3/2": 0, 2: "0.5", 4: 1}))
    with pytest.raises(InvalidArgument, match=r"capacity='?renyi.*leave out the orders that are used up"):
        Ledger.create(place, capacity=left)
    with pytest.raises(InvalidArgument, match=r"capacity=.*delta is a probability below 1"):
        Ledger.create(place, capacity=ApproxDP(1, "1/2") + ApproxDP(1, "3/4"))
    with Ledger.create(place, capacity=WHOLE) as ledger:  # the place is free still
        head = ledger.head()
        with pytest.raises(InvalidArgument, match=r"capacity=.*leave out the orders that are used up"):
            Steward(ledger).lay_out(Blocks.users(2, name="people"), capacity=left)
        with pytest.raises(InvalidArgument, match=r"above=.*leave out the orders that are used up"):
            Steward(ledger).require_approval(left)
        assert ledger.head() == head
        assert ledger.remaining() == WHOLE


def test_the_file_keeps_every_order_exactly(tmp_path: Path) -> None:
    capacity = RenyiDP.capacity(3, "1e-6")
    cost = price(
        compose([LaplaceEvent(Fraction(1, 3), Fraction(6)), GaussianEvent(4, 2, Fraction(99, 7), 2, 4)]), RenyiDP
    )
    with make(tmp_path, capacity) as ledger:
        claim = reserve(ledger, "a", cost)
        assert claim.price == cost
        ledger.arm(claim, b"")
    with Ledger.open(tmp_path / "ledger") as again:
        assert again.capacity == capacity
        assert again.spent() == cost
        assert again.entries()[0].price == cost
        (row,) = again.export_rows()
        assert row["kind"] == "renyi"
        assert Fraction(row["epsilon(1000000)"]) == cost.epsilons[-1]


def test_what_is_given_back_can_be_claimed_again(tmp_path: Path) -> None:
    with make(tmp_path) as ledger:
        for attempt in range(3):
            claim = reserve(ledger, f"r{attempt}", RenyiDP({"3/2": 1, 2: 1, 4: 1}))
            assert ledger.reserved() == claim.price
            ledger.release(claim)
        assert ledger.remaining() == WHOLE


@pytest.mark.parametrize("cost", [PureDP(1), RenyiDP({2: "0.1"}), RenyiDP({"3/2": 0, 2: 0, 4: 0})], ids=str)
def test_other_kinds_other_orders_and_nothing_are_refused(tmp_path: Path, cost: PureDP | RenyiDP) -> None:
    with make(tmp_path) as ledger, pytest.raises(InvalidArgument, match="price"):
        reserve(ledger, "r", cost)


amounts = st.fractions(0, 1, max_denominator=20)
prices = st.builds(lambda a, b, c: RenyiDP({"3/2": a, 2: b, 4: c}), amounts, amounts, amounts).filter(
    lambda one: any(one.epsilons)
)


@pytest.mark.slow
@given(st.lists(st.tuples(prices, st.sampled_from(["reserve", "arm", "release"])), max_size=8))
@settings(deadline=None, max_examples=25)
def test_the_balance_is_exact_and_what_stands_fits_at_some_order(steps: list[tuple[RenyiDP, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder, make(Path(folder)) as ledger:
        standing: list[RenyiDP] = []
        for number, (cost, what) in enumerate(steps):
            affordable = cost.fits_in(left_after(WHOLE, *standing))  # type: ignore[arg-type]
            if not affordable:
                with pytest.raises(BudgetExceeded):
                    reserve(ledger, str(number), cost)
                continue
            claim = reserve(ledger, str(number), cost)
            if what == "release":
                ledger.release(claim)
                continue
            standing.append(cost)
            if what == "arm":
                ledger.arm(claim, b"")
            balance = ledger.balance()
            assert summed(((balance.spent, 1), (balance.reserved, 1), (balance.remaining, 1)), WHOLE) == WHOLE
            total = summed(((one, 1) for one in standing), WHOLE)
            assert left_after(WHOLE, total) == balance.remaining
            assert any(used <= room for used, room in zip(total.amounts.values(), WHOLE.epsilons, strict=True))
