"""Exact numbers: what is read, and what is refused."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from dp.exact import Exact, exp_above, exp_below, rational, root_above, rounded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1", Fraction(1, 10)),
        (0.1, Fraction(1, 10)),
        ("1/3", Fraction(1, 3)),
        ("1e-6", Fraction(1, 10**6)),
        (1e-7, Fraction(1, 10**7)),
        (3, Fraction(3)),
        (Decimal("2.50"), Fraction(5, 2)),
        (Fraction(2, 7), Fraction(2, 7)),
        (" 4 ", Fraction(4)),
        (-0.0, Fraction(0)),
    ],
)
def test_numbers_are_read_exactly(value: Exact, expected: Fraction) -> None:
    assert rational(value, "x") == expected


@pytest.mark.parametrize("value", ["", "one", "1/0", "nan", "inf", float("nan"), float("inf"), True, None, b"1", [1]])
def test_what_is_no_finite_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^epsilon=") as caught:
        rational(value, "epsilon")
    assert caught.value.parameter == "epsilon"


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal("sNaN")])
def test_decimals_that_are_not_finite_are_refused(value: Decimal) -> None:
    with pytest.raises(InvalidArgument):
        rational(value, "x")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_decimal_that_it_prints(value: float) -> None:
    assert rational(value, "x") == rational(repr(value), "x")
    assert float(rational(value, "x")) == value


@given(st.fractions())
def test_a_fraction_survives_its_text(value: Fraction) -> None:
    assert rational(str(value), "x") == value


@given(st.fractions(-1200, 1200))
def test_bounds_of_the_exponential_enclose_it_closely(value: Fraction) -> None:
    context = Context(prec=100)
    truth = Fraction(context.exp(context.divide(Decimal(value.numerator), Decimal(value.denominator))))
    assert exp_below(value) < truth < exp_above(value)
    if value >= -1000:
        assert exp_above(value) - exp_below(value) < truth / 10**36


@given(st.fractions(0, 10**12))
def test_the_bound_of_the_root_lies_above_it_closely(value: Fraction) -> None:
    assert value <= root_above(value) ** 2 <= value * (1 + Fraction(1, 10**39))


@given(st.fractions(Fraction(1, 10**9), 10**9))
def test_rounding_keeps_fifteen_digits_on_the_side_asked_for(value: Fraction) -> None:
    below, above = rounded(value, math.floor), rounded(value, math.ceil)
    assert below <= value <= above <= below * (1 + Fraction(1, 10**14))
    assert rounded(Fraction(0), math.ceil) == 0
