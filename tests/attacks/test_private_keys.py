"""ATTACKS 9 and 16 end to end: keys of one unit are named within delta, and groups that nobody is in get noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from scipy import stats

from dp.execution.candidates import choose, local_candidates
from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.attacks.test_aggregates import EVERYTHING
from tests.tools.entropy import seeded_random
from tests.tools.plans import exact_cells, of_part, paper_query

pytestmark = pytest.mark.slow

GROUPS = 30_000
FALSE_ALARM = 1e-6
ASKED = dp.ApproxDP(2, "1/20")


def named(plan: Plan, candidates: Any, seed: str) -> int:
    return len(choose(plan, candidates, seeded_random(seed)).plan.keys)


@pytest.mark.parametrize("strategy", ["truncated_geometric", "laplace", "gaussian"])
def test_a_key_of_one_unit_is_named_within_delta(strategy: Any, spark: SparkSession) -> None:
    """ATTACKS 9: 30,000 keys of one unit each, a one-sided exact test; the twin's threshold is lower by one."""
    df = spark.range(GROUPS).selectExpr("id", "concat('k', id) AS k")
    frame = PrivateFrame(spark, df, PublicFacts(("id",), max_units=GROUPS), "t", "1")
    query = frame.groupBy("k", keys=dp.private_keys(strategy=strategy), max_groups=1, max_rows=1).agg().query
    plan = make_plan(query, ASKED)
    candidates = local_candidates(df, plan, partitions=2)
    assert candidates.units.tolist() == [1] * GROUPS

    selection: Any = plan.selection
    delta = float(getattr(selection, "threshold_delta", selection.delta))
    found = named(plan, candidates, f"one unit {strategy}")
    assert stats.binomtest(found, GROUPS, delta, "greater").pvalue > FALSE_ALARM
    assert found > 0, "or a twin would pass for want of mass"

    twin = replace(selection, pre_threshold=1)
    if strategy == "truncated_geometric":
        vars(twin)["_table"] = selection._table[1:]
    else:
        vars(twin)["threshold"] = selection.threshold - 1
    caught = named(replace(plan, selection=twin), candidates, f"one unit {strategy}")
    assert stats.binomtest(caught, GROUPS, delta, "greater").pvalue < FALSE_ALARM


def test_groups_that_nobody_is_in_are_answered_like_all_others(spark: SparkSession) -> None:
    """ATTACKS 16, for every aggregate: keys are the plan's, never the data's; other rows have no effect on anything."""
    plan = make_plan(paper_query(EVERYTHING, groups=3), dp.PureDP(1))
    schema = "id long, k int, v long, d double"
    inside = spark.createDataFrame([(unit, unit % 2, 5, 0.5) for unit in range(20)], schema)
    outside = spark.createDataFrame(
        [(unit, key, 7, 1.5) for unit in range(40) for key in (-1, 3, None) for _ in range(9)], schema
    )
    cells = exact_cells(inside, plan)
    np.testing.assert_array_equal(cells, exact_cells(inside.union(outside), plan))
    nobody = exact_cells(outside, plan)
    assert not nobody.any()
    noise = plan.draw_noise(0, plan.length, seeded_random("nobody")).view(np.int64)
    for part in plan.parts:
        if part.measure.by_group:
            assert not any(of_part(cells, part)[2 * part.measure.width :])
            assert any(of_part(noise, part)[2 * part.measure.width :]), part.measure
    plain = inside.union(outside).groupBy("k").count().collect()
    assert {row.k for row in plain} != {0, 1, 2}, "the planted fault: the groups of the data"
