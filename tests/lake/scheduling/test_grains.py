"""Exact budgets as integers: nothing is lost where that can be, and nothing fits that should not where it cannot."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.budget import PureDP, RenyiDP
from dp.errors import InvalidArgument
from lake.scheduling import FirstComeFirstServed, Waiting, distinct, in_grains
from lake.scheduling.problem import LIMIT


def granted(capacity, available, demands, fits="every"):
    """How many of the demands, one after the other on one block, are granted."""
    supply, rows = in_grains([capacity], [available], demands, claims=len(demands), fits=fits)
    n = len(demands)
    waiting = Waiting(np.arange(n), np.ones(n), np.arange(n + 1), np.zeros(n, np.int64), rows)
    return len(FirstComeFirstServed().grants(supply, waiting))


def pure(epsilon):
    return PureDP(epsilon).amounts


@pytest.mark.parametrize("parts", [["0.1", "0.9"], ["1/3"] * 3, ["0.1"] * 10, ["1/7"] * 7, ["1"]])
def test_what_adds_up_to_the_whole_exhausts_it(parts):
    demands = [*map(pure, parts), pure("1e-9")]
    assert granted(pure("1"), pure("1"), demands) == len(parts)


def test_amounts_without_a_common_denominator_in_64_bits_are_rounded_against_the_claim():
    primes = (999983, 999979, 999961, 999959)
    demands = [pure(Fraction(1, p)) for p in primes]
    left = sum(Fraction(1, p) for p in primes)
    assert granted(pure("1"), {"epsilon": left}, demands) == 3  # a hair too much in grains, though it fits exactly
    assert granted(pure("1"), {"epsilon": left * (1 + Fraction(1, 10**9))}, demands) == 4


def test_what_is_there_is_rounded_down_even_where_a_demand_is_hardly_greater():
    there = Fraction(1, 3)
    assert granted(pure("1"), {"epsilon": there}, [{"epsilon": there + Fraction(1, 10**40)}]) == 0
    assert granted(pure("1"), {"epsilon": there}, [{"epsilon": there - Fraction(1, 10**9)}]) == 1


amounts = st.fractions(0, 1, max_denominator=10**9)


@settings(max_examples=25)
@given(st.lists(amounts, min_size=1, max_size=6), amounts, st.integers(0, 3))
def test_what_fits_in_grains_fits_exactly(demands, available, kilo):
    claims = [{"epsilon": demand} for demand in demands]
    supply, rows = in_grains([pure("1")], [{"epsilon": available}], claims, claims=10 ** (2 * kilo), fits="every")
    if int(rows.sum()) <= int(supply.available[0, 0]):
        assert sum(demands) <= available
    lost = Fraction(len(demands) + 1, 2**54 // 10 ** (2 * kilo))
    if sum(demands) + lost <= available:
        assert int(rows.sum()) <= int(supply.available[0, 0])


@settings(max_examples=25)
@given(st.lists(amounts, min_size=1, max_size=6), st.integers(1, 10**6))
def test_no_sum_over_all_claims_overflows(demands, claims):
    huge = [{"epsilon": demand * 10**12} for demand in demands]
    supply, rows = in_grains([pure("1")], [{"epsilon": Fraction(-(10**30))}], huge, claims=claims, fits="any")
    assert int(rows.max()) * claims <= LIMIT
    assert -LIMIT <= int(supply.available.min()) < 0
    assert int(supply.available.min()) - LIMIT >= -(2**63)


def test_each_order_has_a_grain_of_its_own():
    # an order at which amounts are enormous does not coarsen the others
    capacity, demand = RenyiDP({"2": "1", "1000000": "1"}), RenyiDP({"2": "1/3", "1000000": "1e15"})
    assert granted(capacity.amounts, capacity.amounts, [demand.amounts] * 4, "any") == 3


def test_a_demand_far_above_the_capacity_never_fits():
    awkward = pure(Fraction(1, 999983) + Fraction(1, 999979) + Fraction(1, 999961) + Fraction(1, 999959))
    assert granted(pure("1"), pure("1"), [pure("1e30"), awkward]) == 1


def test_nothing_is_nothing():
    supply, rows = in_grains([pure("0")], [pure("0")], [pure("0"), pure("1/3")], claims=2, fits="every")
    assert supply.available.tolist() == [[0]]
    assert rows[0, 0] == 0
    assert rows[1, 0] > 0


def test_equal_keys_share_a_row():
    keys, which = distinct(["b", "a", "b", "c", "a"])
    assert keys == ["b", "a", "c"]
    assert which.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize(
    ("capacity", "available", "demand"),
    [
        ({"epsilon": Fraction(1)}, {"epsilon": Fraction(2)}, {"epsilon": Fraction(1)}),
        ({"epsilon": Fraction(-1)}, {"epsilon": Fraction(-1)}, {"epsilon": Fraction(1)}),
        ({"epsilon": Fraction(1)}, {"epsilon": Fraction(1)}, {"epsilon": Fraction(-1)}),
        ({"epsilon": Fraction(1)}, {"epsilon": Fraction(1)}, {"rho": Fraction(1)}),
    ],
)
def test_amounts_that_cannot_be_are_refused(capacity, available, demand):
    with pytest.raises(InvalidArgument):
        in_grains([capacity], [available], [demand], claims=1, fits="every")
