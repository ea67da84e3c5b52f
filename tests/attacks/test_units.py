"""ATTACKS 17: ids in several spellings, NULL ids, ids that a join splits or multiplies, redefined columns."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.planning.bounds import ContributionBounds
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.plans import exact_cells, of_part

pytestmark = pytest.mark.slow

SPELLINGS = ["a", "A", "a ", " a", "\ta", "a\u00a0", "a\n"]


def units_and_rows(frame: dp.PrivateFrame) -> tuple[int, int]:
    """Exact counts after bounding to one row of a unit; no noise."""
    query = frame.agg(dp.count_units(), dp.count(), max_rows=1).query
    plan: Plan = make_plan(query, dp.PureDP(1))
    cells = exact_cells(frame.df, plan)
    units, rows = (of_part(cells, part)[0] for part in plan.parts)
    return units, rows


@pytest.fixture(scope="module")
def spelled(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(name, 1) for name in (*SPELLINGS, None)], "id string, v int")


def test_spellings_of_one_id_are_one_unit_if_normalised(spelled: DataFrame) -> None:
    as_written = dp.private(spelled, unit="id", null_units="drop")
    normalised = dp.private(spelled, unit=dp.normalize_id("id"), null_units="drop")
    assert units_and_rows(as_written) == (len(SPELLINGS), len(SPELLINGS))  # what goes wrong without it
    assert units_and_rows(normalised) == (1, 1)


def test_unicode_forms_stay_apart_as_documented(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("\u00e9",), ("e\u0301",)], "id string")
    assert units_and_rows(dp.private(rows, unit=dp.normalize_id("id"), null_units="drop")) == (2, 2)
    assert "normal\n    forms" in (dp.normalize_id.__doc__ or "")


def test_null_ids_count_nowhere(spelled: DataFrame) -> None:
    nobody = spelled.where("id IS NULL")
    assert units_and_rows(dp.private(nobody.union(nobody), unit="id", null_units="drop")) == (0, 0)
    with pytest.raises(dp.InvalidArgument, match="null_units="):
        dp.private(spelled, unit="id")


def neighbours_differ_by(frame: dp.PrivateFrame, others: dp.PrivateFrame) -> int:
    with_unit, without = units_and_rows(frame), units_and_rows(others)
    return max(abs(one - other) for one, other in zip(with_unit, without, strict=True))


def test_no_join_lets_a_unit_count_twice(spark: SparkSession) -> None:
    """A public table with a thousand rows for a key, and a private one with a thousand rows for a unit."""
    visits = spark.createDataFrame([(i, "w", i) for i in range(4)] + [(0, "w", 9)] * 50, "id long, ward string, v int")
    wards = spark.range(1000).selectExpr("'w' AS ward", "id AS room")
    bills = spark.createDataFrame([(0, b) for b in range(1000)] + [(1, 1), (2, 2)], "id long, bill int")

    def joined(where: str) -> dp.PrivateFrame:
        left = dp.private(visits.where(where), unit="id", null_units="drop")
        right = dp.private(bills.where(where), unit="id", null_units="drop")
        return left.join(wards, on="ward").join_on_unit(right, max_rows=(3, 2))

    assert neighbours_differ_by(joined("true"), joined("id > 0")) == 1
    assert neighbours_differ_by(joined("true"), joined("id <> 3")) == 0  # unit 3 has no bill
    per_unit = [row["count"] for row in joined("true").df.groupBy("id").count().collect()]
    assert max(per_unit) <= 3 * 2
    planted = visits.join(bills, "id").groupBy("id").count().agg(F.max("count")).first()
    assert planted is not None
    assert planted[0] > 3 * 2  # without the bounds of the join


def test_what_a_unit_brings_does_not_decide_which_rows_of_others_stay(spark: SparkSession) -> None:
    """The salted hash of the join looks at one unit's rows alone."""
    left = spark.createDataFrame([(i, v) for i in range(5) for v in range(20)], "id long, v int")
    right = spark.createDataFrame([(i, w) for i in range(5) for w in range(20)], "id long, w int")
    frames = [dp.private(df, unit="id", null_units="drop") for df in (left, right)]
    df = frames[0].join_on_unit(frames[1], max_rows=(2, 2)).df
    assert [row["count"] for row in df.groupBy("id").count().collect()] == [4] * 5


def test_redefining_a_column_after_its_bounds_voids_them(spelled: DataFrame) -> None:
    frame = dp.private(spelled, unit="id", bounds={"v": (0, 1)}, null_units="drop")
    assert frame.agg(dp.sum("v"), max_rows=1).query.bounds == ContributionBounds(max_groups=1, max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="a lower and an upper bound"):
        frame.withColumn("v", "v * 1000000").agg(dp.sum("v"), max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="the unit is id"):
        frame.withColumn("id", "cast(v AS string)")


def test_an_id_and_a_window_are_bounded_window_by_window(spark: SparkSession) -> None:
    """One id in three days is three units; its rows of one day are one."""
    rows = spark.sql(
        "SELECT 1L AS id, timestamp'2025-01-01 00:00:00 UTC' + make_interval(0,0,0,id DIV 10,0,0,0) AS at "
        "FROM range(30)"
    )
    frame = dp.private(rows, unit=dp.window("id", "at", "1 day"), null_units="drop")
    assert units_and_rows(frame) == (3, 3)
