"""Without noise every aggregate is numpy's answer over the clamped values, within the resolution of its encoding."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from dp.execution.release import make_answers
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.exact import Record, exact_vector
from tests.tools.plans import exact_cells, paper_query

GROUPS = 3
V, D = (-3, 12), (-2.5, 40.0)
AGGREGATES: list[Aggregate] = [
    dp.count(),
    dp.count_units(),
    dp.count_distinct("v"),
    dp.count_distinct("d"),
    dp.sum("v", *V),
    dp.sum("d", *D),
    dp.sum("d", *D, missing=7).alias("sum_d7"),
    dp.mean("v", *V),
    dp.mean("d", *D),
    dp.variance("v", *V),
    dp.variance("d", *D),
    dp.variance("d", *D, missing=7).alias("variance_d7"),
    dp.stddev("d", *D),
    dp.unit_sum("v", -20, 90),
    dp.unit_sum("d", 0, "77.5"),
    dp.vector_sum(["v", "d"], bound=6),
    dp.vector_sum(["v", "d"], bound=6, norm="l1").alias("vector_l1"),
    dp.vector_sum(["v", "d"], bound=6, norm="linf").alias("vector_linf"),
    dp.top_k("v", 2, [5, 1, 2]),
    dp.histogram("d", [0, 1, 10]),
    dp.covariance(["i", "d"], {"i": (0, 50), "d": D}),
    dp.sufficient_statistics(["i", "d"], {"i": (0, 50), "d": D}),
    dp.truncated_share(),
]
UNBOUNDED = ContributionBounds(max_groups=GROUPS, max_rows=1000)


def draw_records(seed: int) -> list[Record]:
    rng = random.Random(seed)
    records: list[Record] = []
    for _ in range(240):
        v = rng.choice([None, -5, -1, 0, 1, 2, 2, 5, 5, 5, 11, 100])
        d = rng.choice([None, float("nan"), -1e9, 1e300, rng.uniform(-2, 39), rng.gauss(10, 3)])
        values = {"v": v, "i": rng.randrange(60), "d": d}
        records.append((rng.randrange(40), rng.randrange(GROUPS), values))
    return records


def is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def present(records: list[Record], group: int, *names: str) -> list[tuple[float, ...]]:
    """The values of these columns where none of them is missing."""
    rows = [[values[name] for name in names] for _, of, values in records if of == group]
    return [tuple(map(float, row)) for row in rows if not any(map(is_missing, row))]  # type: ignore[arg-type]


def clamped(records: list[Record], group: int, name: str, bounds: tuple[float, float]) -> NDArray[np.float64]:
    return np.asarray(np.clip([x for (x,) in present(records, group, name)], *bounds))


def expected_answer(records: list[Record], group: int) -> dict[str, object]:
    """By numpy, from the rows."""
    rows = [(unit, values) for unit, of, values in records if of == group]
    v, d = clamped(records, group, "v", V), clamped(records, group, "d", D)
    d7 = np.concatenate([d, np.full(len(rows) - len(d), 7.0)])
    both = np.clip(np.array(present(records, group, "i", "d")), (0, D[0]), (50, D[1]))
    vectors = np.array(present(records, group, "v", "d"))

    def unit_totals(name: str, lower: float, upper: float) -> float:
        totals = {unit: 0.0 for unit, _ in rows}
        for unit, values in rows:
            value = values[name]
            if isinstance(value, (int, float)) and not is_missing(value):
                totals[unit] += min(max(value, -1e15), 1e15)
        return float(np.clip(list(totals.values()), lower, upper).sum())

    def shrunk(order: float) -> object:
        inside = np.clip(vectors, -6, 6)
        if order == np.inf:
            return inside.sum(axis=0).tolist()
        lengths = np.linalg.norm(inside, order, axis=1)
        return (inside * np.minimum(1, 6 / np.maximum(lengths, 1e-9))[:, None]).sum(axis=0).tolist()

    named = [value for (value,) in present(records, group, "v")]
    frequencies = sorted((-named.count(y), place, y) for place, y in enumerate([5, 1, 2]))
    reals = [x for (x,) in present(records, group, "d")]
    products = [both[:, 0] ** 2, both[:, 0] * both[:, 1], both[:, 1] ** 2]
    return {
        "count": len(rows),
        "count_units": len({unit for unit, _ in rows}),
        "count_distinct_v": len({values["v"] for _, values in rows} - {None}),
        "count_distinct_d": len(set(reals)),
        **{"sum_v": v.sum(), "sum_d": d.sum(), "sum_d7": d7.sum(), "mean_v": v.mean(), "mean_d": d.mean()},
        **{"variance_v": v.var(), "variance_d": d.var(), "variance_d7": d7.var(), "stddev_d": d.std()},
        **{"unit_sum_v": unit_totals("v", -20, 90), "unit_sum_d": unit_totals("d", 0, 77.5)},
        **{"vector_sum": shrunk(2), "vector_l1": shrunk(1), "vector_linf": shrunk(np.inf)},
        "top_2_v": [{"label": str(y), "value": -count} for count, _, y in frequencies[:2]],
        "histogram_d": [sum(x < 1 for x in reals), sum(x >= 1 for x in reals)],
        "covariance": np.cov(both.T, bias=True).ravel().tolist(),
        "sufficient_statistics": [len(both), *both.sum(axis=0), *(float(product.sum()) for product in products)],
        "truncated_share": 0.0,
    }


def a_plan(*aggregates: Aggregate, bounds: ContributionBounds = UNBOUNDED) -> Plan:
    return make_plan(paper_query(aggregates or AGGREGATES, groups=GROUPS, bounds=bounds), dp.ZCDP(1))


def assert_close(found: object, expected: object, name: str) -> None:
    if name.startswith(("count", "top", "histogram", "truncated")):
        assert found == expected, name
        return
    # squares are added up in units of 40 / 2^11, so that a row's value is off by half of that
    tolerance = (
        80.0 if name == "sufficient_statistics" else 0.15 if "variance" in name else 0.8 if "sum" in name else 0.02
    )
    found, expected = np.array(found, float), np.array(expected, float)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_every_aggregate_is_numpys(seed: int) -> None:
    records, plan = draw_records(seed), a_plan()
    for group, found in enumerate(make_answers(plan, exact_vector(plan, records)).values.to_pylist()):
        expected = expected_answer(records, group)
        assert found.keys() == {"k", *expected}
        for name, answer in expected.items():
            assert_close(found[name], answer, name)


def test_a_wrong_answer_is_noticed() -> None:
    """The planted fault: one row's value of each column is another."""
    records, plan = draw_records(0), a_plan()
    place = next(i for i, (_, group, values) in enumerate(records) if group == 0 and values["d"] == 1e300)
    unit, group, values = records[place]
    records[place] = (unit, group, {**values, "d": -1e300, "v": 5, "i": 3})
    found = make_answers(plan, exact_vector(plan, records)).values.to_pylist()[0]
    expected = expected_answer(draw_records(0), 0)
    for name in ("sum_d", "mean_d", "variance_d", "stddev_d", "covariance", "sufficient_statistics", "histogram_d"):
        with pytest.raises(AssertionError, match=name):
            assert_close(found[name], expected[name], name)


def test_where_bounds_take_rows_the_share_of_units_says_so() -> None:
    records = [(unit, group, {"v": 1}) for unit in range(40) for group in range(1 + unit % 2)]
    plan = a_plan(dp.truncated_share(), dp.count(), bounds=ContributionBounds(max_groups=1, max_rows=1))
    answers = make_answers(plan, exact_vector(plan, records)).values.to_pydict()
    assert answers["truncated_share"] == [0.5] * GROUPS
    assert sum(answers["count"]) == 40


@pytest.mark.slow
def test_spark_adds_up_the_same_cells(spark: SparkSession) -> None:
    """Inputs encoded by Catalyst, cells summed over partitions; bit by bit, but for hashed items."""
    records = draw_records(7)
    rows = [(unit, group, values["v"], values["i"], values["d"]) for unit, group, values in records]
    df = spark.createDataFrame(rows, "id long, k int, v long, i int, d double").repartition(3)
    plan = a_plan(dp.quantiles("d", [0, Fraction(1, 2)], *D), *AGGREGATES)
    np.testing.assert_array_equal(exact_cells(df, plan), exact_vector(plan, records).view(np.int64))
