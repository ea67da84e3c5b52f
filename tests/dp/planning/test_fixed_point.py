"""Fixed-point encoding: integer bounds that hold for every value, and a rounding error within the stated one."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.planning.fixed_point import FixedPoint

FRACTIONS = st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=10**9)
BOUNDS = st.tuples(FRACTIONS, FRACTIONS).map(sorted)


@given(BOUNDS, st.booleans())
def test_real_bounds_are_rounded_first_and_span_about_twenty_bits(bounds: list[Fraction], centred: bool) -> None:
    lower, upper = bounds
    encoding = FixedPoint.plan(lower, upper, integral=False, centred=centred)
    assert isinstance(encoding.greatest, int)
    assert encoding.lower <= encoding.upper
    assert max(abs(encoding.lower), abs(encoding.upper)) <= 2**20
    assert abs(encoding.lower * encoding.unit - lower) <= encoding.unit / 2
    assert abs(encoding.upper * encoding.unit - upper) <= encoding.unit / 2
    reach = max(abs(lower), abs(upper))
    if reach >= Fraction(1, 2**64):  # half a unit is 2^-21 of the power of two at or above the bound
        assert reach * Fraction(1, 2**20) <= encoding.unit < 2 * reach * Fraction(1, 2**20) or reach == 0


@given(BOUNDS, st.booleans())
def test_the_middle_halves_the_sensitivity(bounds: list[Fraction], integral: bool) -> None:
    lower, upper = bounds[0].__floor__(), bounds[1].__ceil__()
    plain = FixedPoint.plan(Fraction(lower), Fraction(upper), integral=integral, centred=False)
    centred = FixedPoint.plan(Fraction(lower), Fraction(upper), integral=integral, centred=True)
    assert plain.greatest == max(abs(plain.lower), abs(plain.upper))
    assert centred.greatest == -(-(plain.upper - plain.lower) // 2)
    assert plain.centre_value == 0


@given(BOUNDS, FRACTIONS, st.booleans())
def test_a_wider_bound_never_lowers_the_sensitivity(bounds: list[Fraction], more: Fraction, centred: bool) -> None:
    """In the column's own unit, up to the rounding of the bounds."""
    lower, upper = bounds
    narrow = FixedPoint.plan(lower, upper, integral=False, centred=centred)
    wide = FixedPoint.plan(lower, upper + abs(more), integral=False, centred=centred)
    assert wide.greatest * wide.unit >= narrow.greatest * narrow.unit - 2 * wide.unit


@pytest.mark.parametrize(
    ("lower", "upper", "expected"), [("-0.5", "1.5", (0, 1)), ("1/2", 1, (1, 1)), (-3, -1, (-3, -1))]
)
def test_integer_bounds_shrink_to_the_integers_between_them(
    lower: str | int, upper: str | int, expected: tuple[int, int]
) -> None:
    encoding = FixedPoint.plan(Fraction(lower), Fraction(upper), integral=True, centred=False)
    assert (encoding.lower, encoding.upper, encoding.unit) == (*expected, 1)


@pytest.mark.parametrize(
    ("lower", "upper", "integral"),
    [
        (Fraction(1, 4), Fraction(3, 4), True),  # holds no integer
        (Fraction(0), Fraction(2**52 + 1), True),
        (Fraction(-(2**63)), Fraction(0), True),
        (Fraction(0), Fraction(2**256 + 1), False),
        (Fraction(0), Fraction(10) ** 400, False),  # no double holds it
    ],
)
def test_bounds_that_no_encoding_holds_are_refused(lower: Fraction, upper: Fraction, integral: bool) -> None:
    with pytest.raises(InvalidArgument, match="bounds="):
        FixedPoint.plan(lower, upper, integral=integral, centred=True)


def test_bounds_beyond_2_to_the_20_have_a_unit_above_one() -> None:
    encoding = FixedPoint.plan(Fraction(0), Fraction(2**30), integral=False, centred=False)
    assert (encoding.shift, encoding.unit, encoding.upper) == (-10, 2**10, 2**20)


REALS = [
    *(0.0, -0.0, 5e-324, -5e-324, 1e-300, 0.1, 1 / 3, 2.5, -2.5, 1e308, -1e308, math.inf, -math.inf),
    *(math.nextafter(1.0, 0.0), 1.0, math.nextafter(1.0, 2.0), 999.9999999, 1000.0, 1000.0000001, -1000.0, 2.0**63),
    *(sign * (k + 0.5) * 2.0**-10 for k in range(4) for sign in (1, -1)),  # halves of the unit of (-1000, 1000)
]
ENCODINGS = {
    f"{lower}..{upper} {centred}": FixedPoint.plan(Fraction(lower), Fraction(upper), integral=False, centred=centred)
    for lower, upper in [
        ("-1000", "1000"),
        ("0.1", "0.7"),
        ("-1e30", "1e-30"),
        ("5", "5"),
        ("0", "0"),
        ("-2.5", "1e12"),
    ]
    for centred in (False, True)
}
INTEGERS = [0, 1, -1, 2**31, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 7]
INTEGER_ENCODINGS = {
    f"{lower}..{upper}": FixedPoint.plan(Fraction(lower), Fraction(upper), integral=True, centred=True)
    for lower, upper in [(-5, 20), (0, 2**52), (7, 7)]
}


def encoded(encoding: FixedPoint, value: float) -> int:
    """The definition, in exact arithmetic."""
    if math.isinf(value):
        return (encoding.upper if value > 0 else encoding.lower) - encoding.centre
    rounded = round(Fraction(value) / encoding.unit)  # half to even
    return max(min(rounded, encoding.upper), encoding.lower) - encoding.centre


@pytest.mark.slow
def test_spark_encodes_as_defined_and_never_raises(spark: SparkSession) -> None:
    """In a session with ANSI on, where a cast or an addition out of range would raise."""
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"
    wanted = [F.col("d"), *(encoding.encode(F.col("d")) for encoding in ENCODINGS.values())]
    rows = spark.createDataFrame([(value,) for value in [*REALS, math.nan, None]], "d double").select(*wanted).collect()
    for value, row in zip([*REALS, math.nan, None], rows, strict=True):
        expected = [
            None if value is None or math.isnan(value) else encoded(encoding, value) for encoding in ENCODINGS.values()
        ]
        assert list(row)[1:] == expected, value

    columns = [F.col("v").alias("value"), *(encoding.encode(F.col("v")) for encoding in INTEGER_ENCODINGS.values())]
    for row in spark.createDataFrame([(v,) for v in [*INTEGERS, None]], "v long").select(*columns).collect():
        for given_back, encoding in zip(list(row)[1:], INTEGER_ENCODINGS.values(), strict=True):
            inside = None if row.value is None else max(min(row.value, encoding.upper), encoding.lower)
            assert given_back == (None if inside is None else inside - encoding.centre)
