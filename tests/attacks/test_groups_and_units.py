"""ATTACKS 16 and 17: groups that nobody is in, keys that nobody named, and who is the same unit."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dp.execution.release import make_answers
from dp.frames.frame import PrivateFrame
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.plans import exact_cells, of_part

pytestmark = pytest.mark.slow


def a_plan(frame: PrivateFrame, keys: list[object], column: str = "k") -> Plan:
    groups = frame.groupBy(column, keys=keys, max_groups=2, max_rows=3)  # type: ignore[arg-type]
    query = groups.agg(dp.count(), dp.count_units(), dp.sum("v", 0, 10))
    return make_plan(query.query, dp.PureDP(1))


def test_rows_of_other_groups_have_no_effect_and_missing_groups_get_noise(spark: SparkSession) -> None:
    """Not even through the bounds: a unit's rows in unnamed groups do not crowd out its rows in named ones."""
    named = [(unit, key, 3) for unit in range(6) for key in ("x", "y")]
    others = [(unit, key, 9) for unit in range(6) for key in ("X", "x ", "", "z\0", None) for _ in range(5)]
    keys = ["x", "y", "nobody is here"]
    cells = []
    for rows in (named, named + others):
        df = spark.createDataFrame(rows, "id long, k string, v int")
        plan = a_plan(PrivateFrame(spark, df, PublicFacts(("id",), max_units=100), "t", "1"), keys)
        cells.append(exact_cells(df, plan))
    np.testing.assert_array_equal(cells[0], cells[1])
    assert [of_part(cells[1], part) for part in plan.parts] == [[6, 6, 0], [6, 6, 0], [18, 18, 0]]

    noise = plan.draw_noise(0, plan.length, seeded_random("missing groups"))
    answers = make_answers(plan, cells[1].view(np.uint64) + noise).values.to_pydict()
    assert answers["k"] == keys
    assert all(answers[name][2] != 0 for name in ("count", "count_units", "sum_v"))


UNITS = ["a", "A", "a ", " a", "", "ä", "a\u0308", "a\0", None]


@pytest.mark.parametrize("columns", [("id",), ("id", "site"), ("site", "id")], ids="+".join)
def test_units_are_told_apart_byte_by_byte_and_rows_of_nobody_are_dropped(
    columns: tuple[str, ...], spark: SparkSession
) -> None:
    """'a', 'A' and 'a ' are three units; a row without an identity belongs to no unit, so nothing could bound it."""
    rows = [(unit, 7, 0, 4) for unit in UNITS for _ in range(5)]
    df = spark.createDataFrame(rows, "id string, site int, k int, v int")
    plan = a_plan(PrivateFrame(spark, df, PublicFacts(columns, max_units=100), "t", "1"), [0])
    count, units, total = (of_part(exact_cells(df, plan), part) for part in plan.parts)
    assert units == [len(UNITS) - 1]
    assert count == [3 * (len(UNITS) - 1)]  # max_rows of each
    assert total == [12 * (len(UNITS) - 1)]


def test_two_columns_do_not_run_together(spark: SparkSession) -> None:
    """('1', '23') is another unit than ('12', '3'), and a NULL in either makes a row nobody's."""
    pairs = [("1", "23"), ("12", "3"), ("1:2", "3"), ("", "123"), ("123", ""), (None, "1"), ("1", None), (None, None)]
    df = spark.createDataFrame([(*pair, 0, 1) for pair in pairs], "first string, second string, k int, v int")
    frame = PrivateFrame(spark, df, PublicFacts(("first", "second"), max_units=100), "t", "1")
    plan = a_plan(frame, [0])
    assert of_part(exact_cells(df, plan), plan.parts[1]) == [5]


def test_a_unit_split_over_files_and_partitions_is_bounded_once(spark: SparkSession) -> None:
    rows = [(1, 0, 1)] * 500
    df = spark.createDataFrame(rows, "id long, k int, v int").repartition(11)
    plan = a_plan(PrivateFrame(spark, df, PublicFacts(("id",), max_units=100), "t", "1"), [0])
    assert of_part(exact_cells(df, plan), plan.parts[0]) == [
        ContributionBounds(max_groups=2, max_rows=3).rows_per_group
    ]
