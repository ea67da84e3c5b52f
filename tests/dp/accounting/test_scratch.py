"""The ledger of dry runs: its sums are a ledger's, and nothing outlives it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP, same_kind
from dp.accounting.ledger import Claim, StoredAnswer
from dp.accounting.scratch import ScratchLedger
from dp.errors import BudgetExceeded, InvalidArgument


def claimed(
    ledger: ScratchLedger, price: Budget, request_id: str = "r", release_key: str = "k", disclosure: str = ""
) -> Claim:
    return ledger.reserve(
        request_id=request_id,
        price=price,
        table="t",
        data_version="1",
        release_key=release_key,
        run_id="run",
        purpose="test",
        lease_seconds=1,
        disclosure=disclosure,
    )


def test_an_entry_lives_from_claim_to_commit() -> None:
    ledger = ScratchLedger(PureDP(3))
    claim = claimed(ledger, PureDP(1))
    assert (ledger.reserved(), ledger.spent(), ledger.remaining()) == (PureDP(1), PureDP(0), PureDP(2))
    assert ledger.renew(claim) == claim
    ledger.arm(claim, b"noised")
    assert (ledger.reserved(), ledger.spent(), ledger.remaining()) == (PureDP(0), PureDP(1), PureDP(2))
    resumable = ledger.resumable("k")
    assert resumable is not None
    assert resumable.noised == b"noised"
    ledger.commit(claim, b"first")
    ledger.commit(claim, b"second")
    assert ledger.stored_release("k") == b"first"
    assert ledger.resumable("k") is None
    assert [entry.state for entry in ledger.entries()] == ["spent"]
    assert ledger.export_rows()[0]["epsilon"] == "1"


def test_releases_are_listed_by_table_and_version_with_the_plans_that_were_paid_for() -> None:
    ledger = ScratchLedger(PureDP(3))
    for key, plan in (("a", '{"x":1}'), ("b", ""), ("c", '{"x":2}')):
        claim = claimed(ledger, PureDP("1/2"), key, key)
        ledger.arm(claim, b"")
        ledger.commit(claim, key.encode(), plan=plan)
    assert ledger.stored_releases("t", "1") == [StoredAnswer(1, "a", '{"x":1}'), StoredAnswer(3, "c", '{"x":2}')]
    assert ledger.stored_releases("t", "2") == ledger.stored_releases("u", "1") == []
    assert ledger.stored_release("b") == b"b"


def test_what_is_given_back_is_free_and_what_is_armed_is_not() -> None:
    ledger = ScratchLedger(PureDP(1))
    claim = claimed(ledger, PureDP(1))
    ledger.release(claim)
    ledger.release(claim)
    assert ledger.remaining() == PureDP(1)
    armed = claimed(ledger, PureDP(1), "other")
    ledger.arm(armed, b"")
    with pytest.raises(InvalidArgument, match="it is armed"):
        ledger.release(armed)
    with pytest.raises(InvalidArgument, match="it is released"):
        ledger.arm(claim, b"")
    assert ledger.spent() == PureDP(1)


def test_no_more_than_the_capacity_and_no_other_kind() -> None:
    ledger = ScratchLedger(PureDP(1))
    assert claimed(ledger, PureDP(1)) == claimed(ledger, PureDP(1))  # one request, one claim
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.1, remaining epsilon=0 "):
        claimed(ledger, PureDP("0.1"), "other")
    with pytest.raises(InvalidArgument, match="PureDP prices only"):
        claimed(ledger, ZCDP(1), "another")
    with pytest.raises(InvalidArgument, match="another ledger"):
        ledger.arm(claimed(ScratchLedger(PureDP(1)), PureDP(1)), b"")


def test_a_disclosure_costs_nothing_and_nothing_else_does() -> None:
    ledger = ScratchLedger(PureDP(1))
    ledger.arm(claimed(ledger, PureDP(1)), b"")
    exact = claimed(ledger, PureDP(0), "exact", "k2", "exposure-2026")
    ledger.arm(exact, b"")
    ledger.commit(exact, b"exactly")
    assert ledger.stored_release("k2") == b"exactly"
    assert (ledger.spent(), ledger.remaining()) == (PureDP(1), PureDP(0))
    assert [row["disclosure"] for row in ledger.export_rows()] == ["", "exposure-2026"]
    with pytest.raises(InvalidArgument, match="unless it names a disclosure"):
        claimed(ledger, PureDP(0), "free")
    with pytest.raises(InvalidArgument, match="no price pays for disclosure"):
        claimed(ledger, PureDP(1), "paid", "k3", "exposure-2026")


@pytest.mark.parametrize("like", [PureDP(1), ApproxDP(1, "0.1"), ZCDP(0), RenyiDP({2: 1, "7/2": 0})], ids=str)
def test_there_is_plenty_of_every_kind(like: Budget) -> None:
    ledger = ScratchLedger.plenty(like)
    assert same_kind(ledger.capacity, like)
    assert ledger.remaining() == ledger.capacity
    assert all(amount > Fraction(9, 10) for amount in ledger.capacity.amounts.values())
    assert not any(ledger.spent().amounts.values())
