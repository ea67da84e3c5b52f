"""ATTACKS 14 and 15: which rows survive is a fresh lottery for every release, and no accident of the data's order."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dp.execution.candidates import local_candidates
from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from dp.planning.plan import make_plan
from spark_mpc import dp
from tests.tools.plans import exact_cells

pytestmark = pytest.mark.slow

UNITS, GROUPS = 40, 20


def test_every_release_draws_other_survivors(spark: SparkSession) -> None:
    """Each unit is in all groups, one of which survives: two lotteries agree with probability 20^-40."""
    df = spark.range(UNITS * GROUPS).selectExpr(f"id DIV {GROUPS} AS id", f"cast(id % {GROUPS} AS int) AS k")
    frame = PrivateFrame(spark, df, PublicFacts(("id",), max_units=UNITS), "t", "1")
    query = frame.groupBy("k", keys=range(GROUPS), max_groups=1, max_rows=1).agg(dp.count()).query
    plan = make_plan(query, dp.PureDP(1))
    first, second = (exact_cells(df, plan) for _ in range(2))
    assert first.sum() == second.sum() == UNITS
    assert (first != second).any()


def test_private_keys_draw_other_survivors_and_other_codes(spark: SparkSession) -> None:
    """A code that stayed the same would tell, from one release to the next, that a group is still there.

    Keys of text are hashed with the salt; small integers are their own codes, which nobody but the curator ever sees.
    """
    df = spark.range(UNITS * GROUPS).selectExpr(f"id DIV {GROUPS} AS id", f"concat('ward ', id % {GROUPS}) AS k")
    frame = PrivateFrame(spark, df, PublicFacts(("id",), max_units=UNITS), "t", "1")
    query = frame.groupBy("k", keys=dp.private_keys(), max_groups=1, max_rows=1).agg().query
    plan = make_plan(query, dp.ApproxDP(1, "1e-3"))
    first, second = (local_candidates(df, plan, partitions=2) for _ in range(2))
    assert first.units.sum() == second.units.sum() == UNITS
    assert np.intersect1d(first.codes, second.codes).size == 0
