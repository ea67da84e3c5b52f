"""ATTACKS 3, 7, 8 and 18 for every aggregate: overflow, sensitivities and bounds, rounded means, shared values.

Each defence is shown to be needed: what would happen without it is caught by the same comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from dp.execution.release import make_answers
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import MAX_BOUND, ContributionBounds
from dp.planning.fixed_point import FixedPoint
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from dp.planning.sum_measures import Squares
from spark_mpc import dp
from tests.tools.exact import Record, exact_vector
from tests.tools.plans import FACTS, exact_cells, of_part, paper_query

EVERYTHING: list[Aggregate] = [
    *(dp.count(), dp.count_units(), dp.count_distinct("v"), dp.count_distinct("d").alias("items_d")),
    *(dp.sum("v", -7, 100), dp.sum("d", -8, 64), dp.mean("d", -8, 64), dp.variance("v", -7, 100)),
    *(dp.variance("d", -8, 64, missing=4), dp.stddev("d", -8, 64).weight(2), dp.unit_sum("v", -9, 90)),
    *(dp.unit_sum("d", -9, 90), dp.histogram("d", [-8, 0, 64]), dp.top_k("v", 1, [0, 1, 2**31])),
    *(dp.vector_sum(["v", "d"], bound=9, norm=norm).alias(f"vector_{norm}") for norm in ("l1", "l2", "linf")),
    *(dp.median("d", -8, 64), dp.quantiles("v", [0, 1], -7, 100), dp.truncated_share()),
    *(dp.covariance(["v", "d"], {"v": (-7, 100), "d": (-8, 64)}),),
    *(dp.sufficient_statistics(["v", "d"], {"v": (-7, 100), "d": (-8, 64)}),),
]
EXTREMES: list[tuple[int | None, float | None]] = [
    *((None, None), (None, math.nan), (2**63 - 1, math.inf), (-(2**63), -math.inf), (0, -0.0), (0, 5e-324)),
    *((2**62, 1.7976931348623157e308), (2**62, -1e300), (2, 2.0), (2**53 + 1, 2.0**53)),
]


def a_plan(*aggregates: Aggregate, groups: int = 2, bounds: ContributionBounds | None = None) -> Plan:
    limits = bounds or ContributionBounds(max_groups=2, max_rows=3)
    return make_plan(paper_query(aggregates or EVERYTHING, groups=groups, bounds=limits), dp.PureDP(1))


def assert_no_further_than_declared(plan: Plan, change: NDArray[np.int64]) -> None:
    for part in plan.parts:
        moved = [abs(cell) for cell in of_part(change, part)]
        assert sum(moved) <= part.sensitivity.l1, part.measure
        assert sum(cell**2 for cell in moved) <= part.sensitivity.l2_squared, part.measure


@pytest.mark.slow
def test_no_aggregate_overflows_or_raises_on_any_value(spark: SparkSession) -> None:
    """ATTACKS 3 and 4, under ANSI: one unit brings every extreme, many times over."""
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"
    others = [(unit, unit % 2, *values) for unit in range(1, 9) for values in EXTREMES]
    greedy = [(0, group, *values) for group in range(2) for values in EXTREMES for _ in range(9)]
    plan, schema = a_plan(), "id long, k int, v long, d double"
    with_it = exact_cells(spark.createDataFrame(others + greedy, schema), plan)
    without = exact_cells(spark.createDataFrame(others, schema), replace(plan))
    # which rows of the others survive depends on the salt, which is fresh: compare what one unit is alone, too
    alone = exact_cells(spark.createDataFrame(greedy, schema), plan)
    assert_no_further_than_declared(plan, alone)
    for part in plan.parts:
        most = 9 * part.sensitivity.l1
        assert max(map(abs, of_part(with_it, part) + of_part(without, part))) <= most, part.measure


def wrapped_total(values: list[int], lower: int, upper: int) -> int:
    """What a clamped sum of 64-bit integers is without care."""
    return int(np.clip(np.array(values, np.int64).sum(), lower, upper))


def test_a_unit_whose_total_wraps_is_clamped_all_the_same() -> None:
    """ATTACKS 3: 4096 values that saturate at 2^52 add up to 2^64, which is nothing."""
    plan = a_plan(dp.unit_sum("v", -9, 90), bounds=ContributionBounds(max_groups=1))
    for value, total in [(2**62, 90), (-(2**62), -9)]:
        records: list[Record] = [(1, 0, {"v": value})] * 4096
        assert exact_vector(plan, records).view(np.int64).tolist() == [total, 0]
        saturated = max(-(2**52), min(value, 2**52))
        assert wrapped_total([saturated] * 4096, -9, 90) == 0, "the planted fault"


def planned(query: Query) -> Plan | dp.InvalidArgument:
    """The plan, or why there is none."""
    try:
        return make_plan(query, dp.PureDP(1))
    except dp.InvalidArgument as error:
        return error


@pytest.mark.parametrize("aggregate", EVERYTHING, ids=lambda aggregate: aggregate.name)
def test_the_widest_bounds_mean_much_noise_or_a_refusal_and_never_none(aggregate: Aggregate) -> None:
    """ATTACKS 7: L0 x Linf is beyond 2^61; in 32 bits it would be 1, in doubles it would be rounded."""
    narrow_product = np.array([MAX_BOUND], np.int32) * np.array([MAX_BOUND], np.int32)
    assert narrow_product[0] == 1, "the planted fault"
    facts = replace(FACTS, max_units=1)
    usual = paper_query([aggregate], groups=2, facts=facts)
    plan = planned(replace(usual, bounds=ContributionBounds(max_groups=MAX_BOUND, max_rows=MAX_BOUND)))
    if isinstance(plan, dp.InvalidArgument):
        assert plan.parameter in {"max_units", "epsilon"}
        return
    for part, narrow in zip(plan.parts, make_plan(usual, dp.PureDP(1)).parts, strict=True):
        assert part.sensitivity.l1 >= narrow.sensitivity.l1
        assert part.mechanism.stddev >= narrow.mechanism.stddev > 0


BOUNDED: dict[str, Callable[..., Aggregate]] = {
    "sum": lambda *bounds: dp.sum("d", *bounds),
    "mean": lambda *bounds: dp.mean("d", *bounds),
    "variance": lambda *bounds: dp.variance("d", *bounds),
    "stddev": lambda *bounds: dp.stddev("d", *bounds),
    "unit_sum": lambda *bounds: dp.unit_sum("d", *(bounds or (None, None))),
    "median": lambda *bounds: dp.median("d", *bounds),
    "quantiles": lambda *bounds: dp.quantiles("d", [0.5], *bounds),
    "covariance": lambda *bounds: dp.covariance(["i", "d"], {"i": (0, 1), **({"d": bounds} if bounds else {})}),
    "sufficient": lambda *bounds: dp.sufficient_statistics(
        ["i", "d"], {"i": (0, 1), **({"d": bounds} if bounds else {})}
    ),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "nan", "inf", None])
@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED.keys())
def test_bounds_that_are_no_numbers_are_refused(make: Callable[..., Aggregate], bad: object) -> None:
    assert paper_query([make(0, 1)]).aggregates
    for bounds in ((0, bad), (bad, 0)):
        with pytest.raises(dp.InvalidArgument):
            paper_query([make(*bounds)])


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED.keys())
def test_missing_bounds_never_mean_no_noise(make: Callable[..., Aggregate]) -> None:
    with pytest.raises(dp.InvalidArgument, match="bounds="):
        make_plan(paper_query([make()]), dp.PureDP(1))


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, None])
def test_vectors_without_a_bound_are_refused(bad: object) -> None:
    with pytest.raises(dp.InvalidArgument, match="bound="):
        dp.vector_sum(["d"], bound=bad)  # type: ignore[arg-type]


@pytest.mark.slow
def test_values_are_clamped_after_the_expression_that_makes_them(spark: SparkSession) -> None:
    """ATTACKS 7: declared bounds are those of the column that the table has, not of what it is turned into."""
    df = spark.createDataFrame([(1, 9.0), (2, 5.0)], "id long, d double")
    facts = replace(FACTS, bounds={"d": (Fraction(0), Fraction(10))})
    frame = dp.PrivateFrame(spark, df, facts, "t", "1").withColumn("d", "d * 1000")
    with pytest.raises(dp.InvalidArgument, match="bounds="):
        frame.agg(dp.sum("d"), max_rows=1)
    query = frame.agg(dp.sum("d", 0, 10), max_rows=1).query
    plan = make_plan(query, dp.PureDP(1))
    unit = float(plan.parts[0].measure.unit)
    (total,) = of_part(exact_cells(frame.df, plan), plan.parts[0])
    assert total * unit == 20
    clamped_before = sum(min(row.d, 10) * 1000 for row in df.collect())
    assert clamped_before > 2 * 10, "the planted fault: clamped first, one unit moves the sum by 9000"


SHIFTS = [0, 2**20, -(2**24)]


def squares_of(plan: Plan) -> Squares:
    return next(part.measure for part in plan.parts if isinstance(part.measure, Squares))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("column", ["v", "d"])
def test_far_away_values_make_no_more_noise_in_a_variance(column: str, shift: int) -> None:
    """ATTACKS 8: squares are counted from the middle of the bounds, so a common constant has no effect at all."""

    def released(by: int) -> tuple[Plan, list[dict[str, object]]]:
        aggregates = (dp.variance(column, by, by + 40).alias("var"), dp.stddev(column, by, by + 40).alias("sd"))
        plan = a_plan(*aggregates, groups=1)
        records: list[Record] = [(unit, 0, {column: by + unit % 37}) for unit in range(200)]
        return plan, make_answers(plan, exact_vector(plan, records)).accuracy.to_pylist()

    (near, at_zero), (far, moved) = released(0), released(shift)
    assert [part.mechanism for part in near.parts] == [part.mechanism for part in far.parts]
    assert [row["stddev"] for row in at_zero] == [row["stddev"] for row in moved]
    assert [row["value"] for row in at_zero] == [row["value"] for row in moved]
    if shift:  # the planted fault: squares counted from zero
        measure = squares_of(far)
        careless = FixedPoint.plan(Fraction(shift), Fraction(shift + 40), integral=True, centred=False)
        bounds = far.query.bounds
        assert Squares(column, careless).sensitivity(bounds).l1 > 10**6 * float(measure.unit) * 400


def test_no_mean_of_the_data_enters_a_variance() -> None:
    """ATTACKS 8: what one unit adds does not depend on the others; with a rounded mean inside, it would."""
    plan = a_plan(dp.variance("d", 0, 40), groups=1)
    one: list[Record] = [(0, 0, {"d": 40.0})]

    def moved(others: list[float]) -> list[int]:
        records: list[Record] = [(1 + i, 0, {"d": value}) for i, value in enumerate(others)]
        change = (exact_vector(plan, records + one) - exact_vector(plan, records)).view(np.int64)
        return [int(cell) for cell in change]

    def around_the_rounded_mean(values: list[float]) -> float:
        return sum((value - round(np.mean(values))) ** 2 for value in values)

    backgrounds = [[0.46] * 900, [20.0] * 1000, [0.4, 39.0] * 500]
    assert len({tuple(moved(others)) for others in backgrounds}) == 1
    assert_no_further_than_declared(plan, np.array(moved(backgrounds[0])))
    careless = {around_the_rounded_mean([*others, 40.0]) - around_the_rounded_mean(others) for others in backgrounds}
    assert len(careless) > 1, "the planted fault"
    assert max(careless) > 40**2 - 20**2, "and it is further than a square from the middle of the bounds"


def test_an_outlier_who_shares_values_with_others_moves_a_distinct_count_by_its_bound() -> None:
    """ATTACKS 18: one unit has every value, and everybody else has one of them."""
    plan = a_plan(dp.count_distinct("v"), groups=1, bounds=ContributionBounds(max_groups=1, max_rows=2))
    outlier: list[Record] = [(0, 0, {"v": value}) for value in range(500)]
    others: list[Record] = [(1 + value, 0, {"v": value}) for value in range(500)]
    with_it, without = (int(exact_vector(plan, records)[0]) for records in (outlier + others, others))
    assert without == 500
    assert abs(with_it - without) <= plan.parts[0].sensitivity.l1 == 2
    assert int(exact_vector(plan, outlier)[0]) == 2

    owners: dict[object, int] = {}
    for unit, _, values in outlier + others:  # the planted fault: every value is credited to the first who has it
        owners.setdefault(values["v"], unit)
    credited = sum(min(2, list(owners.values()).count(unit)) for unit in set(owners.values()))
    assert abs(credited - without) > plan.parts[0].sensitivity.l1


@pytest.mark.parametrize("shared", [1, 3, 500])
def test_values_that_many_share_are_counted_once(shared: int) -> None:
    plan = a_plan(dp.count_distinct("v"), groups=2, bounds=ContributionBounds(max_groups=2, max_rows=1))
    records: list[Record] = [(unit, unit % 2, {"v": unit % shared}) for unit in range(1000)]
    expected = [len({values["v"] for _, group, values in records if group == g}) for g in range(2)]
    assert exact_vector(plan, records).tolist() == expected
