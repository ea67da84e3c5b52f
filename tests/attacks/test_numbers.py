"""ATTACKS 2 to 5: sums that depend on order, overflow, values that are none, and ANSI errors that tell of a row.

Every test runs in a session with ANSI on, where Spark's own `sum` and casts raise.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from pyspark.errors import ArithmeticException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import make_plan
from spark_mpc import dp
from tests.tools.plans import exact_cells, of_part, paper_query

pytestmark = pytest.mark.slow

MANY = ContributionBounds(max_total_rows=10_000)
SCHEMA = "id long, k int, v long, d double"


def test_no_order_and_no_partitioning_changes_a_sum(spark: SparkSession) -> None:
    """ATTACKS 2: in doubles 1e16 + 1 - 1e16 is 0 or 1, as the rows come."""
    values = [1e16, 1.0, -1e16, 0.1, 1 / 3, 1e-9, -0.1, 5e-324] * 20
    plan = make_plan(paper_query([dp.sum("d", -1e16, 1e16), dp.sum("d", -1, 1).alias("s")], bounds=MANY), dp.PureDP(1))
    rows = [(i, 0, 1, value) for i, value in enumerate(values)]
    assert sum(values) != sum(sorted(values))  # what plain addition does
    straight = exact_cells(spark.createDataFrame(rows, SCHEMA), plan)
    mixed = exact_cells(spark.createDataFrame(sorted(rows, key=lambda row: row[3]), SCHEMA).repartition(7), plan)
    np.testing.assert_array_equal(straight, mixed)
    unit = plan.parts[1].measure.encoding.unit  # type: ignore[attr-defined]
    clamped = [max(min(Fraction(value), Fraction(1)), Fraction(-1)) for value in values]
    assert of_part(straight, plan.parts[1]) == [sum(round(value / unit) for value in clamped)]


def test_values_at_the_ends_of_their_type_do_not_wrap(spark: SparkSession) -> None:
    """ATTACKS 3: three values of 2^62, clamped at 2^62, once came out as -2^62; Spark's sum raises or gives NULL."""
    rows = [(i, k, value, 0.0) for k, value in enumerate((2**62, 2**63 - 1, -(2**63))) for i in range(3)]
    df = spark.createDataFrame(rows, SCHEMA)
    with pytest.raises(ArithmeticException):
        df.where("k = 0").agg(F.sum("v")).collect()
    most = 2**52
    bounds, facts = ContributionBounds(max_groups=3, max_rows=1), PublicFacts(unit=("id",), max_units=100)
    plan = make_plan(paper_query([dp.sum("v", -most, most)], groups=3, bounds=bounds, facts=facts), dp.PureDP(1))
    assert of_part(exact_cells(df, plan), plan.parts[0]) == [3 * most, 3 * most, -3 * most]


@pytest.mark.parametrize("bound", [2**62, 2**63, 2**53])
def test_bounds_whose_sums_could_wrap_are_refused_up_front(bound: int) -> None:
    """Where 2^62 cannot be summed safely, nobody may declare it."""
    with pytest.raises(dp.InvalidArgument, match="bounds of integer columns stay within"):
        paper_query([dp.sum("v", 0, bound)])


WEIRD = {
    "nothing": (None, None),
    "nan": (None, math.nan),
    "infinite": (2**63 - 1, math.inf),
    "minus infinite": (-(2**63), -math.inf),
    "minus zero": (0, -0.0),
    "subnormal": (0, 5e-324),
    "largest": (1, 1.7976931348623157e308),
    "usual": (2, 2.0),
}


def test_values_that_are_none_are_left_out_or_imputed_and_never_become_a_bound(spark: SparkSession) -> None:
    """ATTACKS 4: in Spark greatest(least(NULL, 100), 0) is 100, and NaN is greater than everything."""
    rows = [(i, k, *values) for i in range(3) for k, values in enumerate(WEIRD.values())]
    aggregates = [
        dp.count(),
        dp.sum("v", -7, 100),
        dp.sum("v", -7, 100, missing=5).alias("v5"),
        dp.sum("d", -8, 64),
        dp.sum("d", -8, 64, missing=4).alias("d4"),
        dp.mean("d", -8, 64),
        dp.histogram("d", [-8, 0, 64]),
    ]
    plan = make_plan(paper_query(aggregates, groups=len(WEIRD), bounds=MANY), dp.PureDP(1))
    df = spark.createDataFrame(rows, SCHEMA)
    cells = exact_cells(df, plan)
    count, v, v5, d_centred, present, d4, bins = plan.parts

    def clamped_d(part: object) -> list[float]:
        return [cell * float(part.measure.encoding.unit) for cell in of_part(cells, part)]  # type: ignore[attr-defined, arg-type]

    assert [part.measure.to_json()["measure"] for part in plan.parts] == [
        *("rows", "total", "total", "total", "present", "total", "bins")
    ]
    assert of_part(cells, count) == [3] * 8
    assert of_part(cells, v) == [0, 0, 300, -21, 0, 0, 3, 6]
    assert of_part(cells, v5) == [15, 15, 300, -21, 0, 0, 3, 6]
    assert of_part(cells, present) == [0, 0, 3, 3, 3, 3, 3, 3]
    centred = [sum_d - 28 * n for sum_d, n in zip([0, 0, 192, -24, 0, 0, 192, 6], of_part(cells, present), strict=True)]
    assert clamped_d(d_centred) == centred
    assert clamped_d(d4) == [12, 12, 192, -24, 0, 0, 192, 6]
    pairs = np.array(of_part(cells, bins)).reshape(-1, 2).tolist()
    assert pairs == [[0, 0], [0, 0], [0, 3], [3, 0], [0, 3], [0, 3], [0, 3], [0, 3]]

    # neighbours: without one unit, whatever it brings, every measure moves by no more than its sensitivity
    one_each = ContributionBounds(max_groups=8, max_rows=1)
    bounded = make_plan(paper_query(aggregates, groups=len(WEIRD), bounds=one_each), dp.PureDP(1))
    whole, without = exact_cells(df, bounded), exact_cells(df.where("id > 0"), bounded)
    for part in bounded.parts:
        change = np.abs(np.array(of_part(whole, part)) - np.array(of_part(without, part)))
        assert change.sum() <= part.sensitivity.l1
        assert (change**2).sum() <= part.sensitivity.l2_squared


def test_narrow_and_exact_types_are_widened_before_anything_is_computed(spark: SparkSession) -> None:
    """ATTACKS 6: sums of bytes, shorts, floats and decimals beyond their own range."""
    df = spark.createDataFrame([(i, 0) for i in range(300)], "id long, k int").selectExpr(
        *("id", "k", "cast(127 AS byte) AS b", "cast(32767 AS short) AS s", "cast(0.1 AS float) AS f"),
        "cast('9.99' AS decimal(3,2)) AS n",
    )
    types = dp.PrivateFrame(spark, df, paper_query([dp.count()]).facts, "t", "1")
    query = types.groupBy("k", keys=[0], max_total_rows=1000).agg(
        *(dp.sum("b", 0, 127), dp.sum("s", 0, 2**15), dp.sum("f", 0, 1), dp.sum("n", 0, 16))
    )
    plan = make_plan(query.query, dp.PureDP(1))
    b, s, f, n = (of_part(exact_cells(df, plan), part)[0] for part in plan.parts)
    assert (b, s) == (300 * 127, 300 * 32767)
    assert f == 300 * round(Fraction(float(np.float32(0.1))) * 2**20)
    assert n == 300 * round(Fraction(9.99) * 2**16)
