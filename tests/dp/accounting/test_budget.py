"""Budgets: exact sums, comparisons within one kind, JSON and what is refused."""

from __future__ import annotations

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.accounting.budget import (
    ZCDP,
    ApproxDP,
    Budget,
    PureDP,
    RenyiDP,
    budget_from_json,
    budget_to_json,
    left_after,
    same_kind,
)
from dp.errors import InvalidArgument

amounts = st.fractions(0, 100)
deltas = st.fractions(0, Fraction(999, 1000))
budgets = st.one_of(st.builds(PureDP, amounts), st.builds(ZCDP, amounts), st.builds(ApproxDP, amounts, deltas))


def test_ten_tenths_are_one() -> None:
    total = PureDP(0)
    for _ in range(10):
        total = total + PureDP("0.1")
    assert total == PureDP("1")
    assert PureDP("0.1") + PureDP("0.9") <= PureDP(1)


@given(amounts, amounts, deltas, deltas)
def test_amounts_add_and_are_taken_back(a: Fraction, b: Fraction, c: Fraction, d: Fraction) -> None:
    assert (PureDP(a) + PureDP(b)).minus(PureDP(b)) == PureDP(a)
    assert (ZCDP(a) + ZCDP(b)).minus(ZCDP(b)) == ZCDP(a)
    assert (ApproxDP(a, c) + ApproxDP(b, d)).minus(ApproxDP(b, d)) == ApproxDP(a, c)


@given(amounts, amounts)
def test_nothing_is_left_below_zero(a: Fraction, b: Fraction) -> None:
    assert PureDP(0) <= PureDP(a).minus(PureDP(b))
    assert ZCDP(a).minus(ZCDP(a + b)) == ZCDP(0)


def test_approximate_budgets_compare_in_both_amounts() -> None:
    assert ApproxDP(1, "1e-6") <= ApproxDP(1, "1e-6")
    assert not ApproxDP(1, "1e-6") <= ApproxDP(2, "1e-7")
    assert not ApproxDP(2, 0) <= ApproxDP(1, "1e-6")
    heavy = ApproxDP(0, "0.9") + ApproxDP(0, "0.9")
    assert heavy.delta == Fraction(18, 10)
    assert not heavy <= ApproxDP(1, "0.999")


@pytest.mark.parametrize(
    ("one", "other"), [(PureDP(1), ZCDP(1)), (ZCDP(1), ApproxDP(1, 0)), (ApproxDP(1, 0), PureDP(1))]
)
def test_kinds_do_not_mix(one: Budget, other: Budget) -> None:
    assert one != other
    with pytest.raises(TypeError):
        one + other  # type: ignore[operator]
    with pytest.raises(TypeError):
        one <= other  # type: ignore[operator]  # noqa: B015


@pytest.mark.parametrize("value", ["-1", -0.1, Fraction(-1, 3), "nan", True])
def test_amounts_that_are_none_are_refused(value: str) -> None:
    for make in (PureDP, ZCDP, lambda x: ApproxDP(x, 0), lambda x: ApproxDP(0, x)):
        with pytest.raises(InvalidArgument):
            make(value)


@pytest.mark.parametrize("delta", [1, "1.5"])
def test_delta_is_a_probability_below_one(delta: str) -> None:
    with pytest.raises(InvalidArgument, match="delta"):
        ApproxDP(1, delta)


@given(budgets)
def test_json_round_trip_is_exact(budget: Budget) -> None:
    assert budget_from_json(budget_to_json(budget)) == budget


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "renyi", "epsilon": "1"},
        {"kind": "pure"},
        {"kind": "pure", "rho": "1"},
        {"kind": "zcdp", "rho": "-1"},
    ],
)
def test_json_of_another_shape_is_refused(data: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        budget_from_json(data)


def test_text_shows_exact_amounts() -> None:
    assert str(PureDP("0.1")) == "epsilon=0.1"
    assert str(ZCDP("1/3")) == "rho=0.333333 (1/3)"
    assert str(ApproxDP(1, "1e-6")) == "epsilon=1, delta=1e-06"


few = st.sampled_from((0, "0.1", "1/3", 2))  # so that some are equal
alike = st.one_of(
    st.builds(PureDP, few), st.builds(ZCDP, few), st.builds(ApproxDP, few, few.filter(lambda part: part != 2))
)


@given(alike, alike)
def test_budgets_are_equal_where_kind_and_amounts_are_and_then_have_one_hash(one: Budget, other: Budget) -> None:
    assert (one == other) == ((type(one), one.amounts) == (type(other), other.amounts))
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert hash(again) == hash(one)
    assert one.of_amounts(dict(reversed(one.amounts.items()))) == one
    assert hash(one.of_amounts(dict(reversed(one.amounts.items())))) == hash(one)


def test_a_budget_is_equal_to_nothing_else() -> None:
    assert PureDP("0.1") != Fraction(1, 10)
    assert PureDP("0.1") != ZCDP("0.1")
    assert PureDP("0.1") != RenyiDP({2: "0.1"})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (PureDP(1), PureDP(2), True),
        (PureDP(1), ZCDP(1), False),
        (RenyiDP({2: 1, 4: 1}), RenyiDP({4: 2, 2: 2}), True),
        (RenyiDP({2: 1, 4: 1}), RenyiDP({2: 1}), False),
        (RenyiDP({2: 1}), PureDP(1), False),
        (PureDP(1), RenyiDP({2: 1}), False),
    ],
)
def test_budgets_of_one_kind_and_the_same_orders_add_up(one: Budget, other: Budget, same: bool) -> None:
    assert same_kind(one, other) is same
    if same:
        assert left_after(one, other.of_amounts(dict.fromkeys(other.amounts, Fraction(0)))) == one
    else:
        with pytest.raises(InvalidArgument, match="same amounts"):
            left_after(one, other)
