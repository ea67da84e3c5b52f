"""Operations on private rows: what comes out, what the plan says of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.planning.facts import PublicFacts
from spark_mpc import dp

pytestmark = pytest.mark.slow

ROWS = [(1, "a", 3, [1, 2, 3]), (1, "b", 5, []), (2, "a", 7, [4]), (None, "a", 9, [5])]
SCHEMA = "id long, ward string, cost int, items array<int>"
FACTS = PublicFacts(unit=("id",), bounds={"cost": (Fraction(0), Fraction(9))}, keys={"ward": ("a", "b")}, max_units=100)


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> dp.PrivateFrame:
    return dp.PrivateFrame(spark, spark.createDataFrame(ROWS, SCHEMA), FACTS, "visits", "7")


@pytest.fixture(scope="module")
def by_row(spark: SparkSession) -> dp.PrivateFrame:
    return dp.private(spark.createDataFrame(ROWS, SCHEMA), unit=dp.ROW)


@pytest.fixture(scope="module")
def wards(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([("a", "north", 10), ("c", "south", 20)], "ward string, region string, beds int")


def rows_of(frame: dp.PrivateFrame, *columns: str) -> list[tuple[object, ...]]:
    return sorted((tuple(row) for row in frame.df.select(*columns).collect()), key=repr)


def test_columns_come_and_go_and_the_unit_stays(frame: dp.PrivateFrame) -> None:
    assert frame.select("COST").df.columns == ["cost", "id"]
    assert frame.drop("items", "ward").df.columns == ["id", "cost"]
    assert frame.withColumn("half", "cost / 2").df.columns[-1] == "half"
    assert frame.withColumnRenamed("ward", "room").df.columns == ["id", "room", "cost", "items"]
    assert rows_of(frame.withColumn("cost", "cost + id"), "cost") == [(4,), (6,), (9,), (None,)]


def test_every_step_is_in_the_plan_in_order_as_text(frame: dp.PrivateFrame, wards: DataFrame) -> None:
    steps = (
        frame.where("cost > 1")
        .withColumn("half", "cost / 2")
        .withColumnRenamed("ward", "odd name")
        .select("half", "odd name", "items")
        .explode("items", max_items=2)
        .drop("half")
        .steps
    )
    assert steps == (
        "where cost > 1",
        "withColumn half = cost / 2",
        "rename ward to `odd name`",
        "select half, `odd name`, items",
        "explode items as items, at most 2",
        "drop half",
    )
    query = frame.where("cost > 1").where("cost > 2").agg(dp.count(), max_rows=1).query
    assert query.filters == ("where cost > 1", "where cost > 2")
    assert query.to_json()["filters"] == list(query.filters)


def test_declared_facts_follow_their_column_and_end_with_it(frame: dp.PrivateFrame) -> None:
    """ATTACKS 17: redefining a column after its bounds were declared voids them."""
    assert frame.withColumn("COST", "cost * 100").facts.bounds == {}
    assert frame.withColumn("ward", "lower(ward)").facts.keys == {}
    assert frame.drop("cost").facts.bounds == {}
    assert frame.select("cost").facts.keys == {}
    assert frame.select("cost").facts.bounds == FACTS.bounds
    assert frame.withColumnRenamed("cost", "price").facts.bounds == {"price": (Fraction(0), Fraction(9))}
    assert frame.explode("items", max_items=1, alias="cost").facts.bounds == {}
    with pytest.raises(dp.InvalidArgument, match="a lower and an upper bound"):
        frame.withColumn("cost", "cost * 100").agg(dp.sum("cost"), max_rows=1)


def test_explode_keeps_the_first_items(frame: dp.PrivateFrame) -> None:
    exploded = frame.explode("items", max_items=2, alias="item")
    assert rows_of(exploded, "id", "item") == [(1, 1), (1, 2), (2, 4), (None, 5)]
    assert exploded.df.columns == [*frame.df.columns, "item"]
    words = frame.explode("split(concat(ward, ' x y'), ' ')", max_items=2, alias="word")
    assert rows_of(words.where("id = 2"), "word") == [("a",), ("x",)]


def test_where_rows_are_units_what_multiplies_them_is_counted(by_row: dp.PrivateFrame, spark: SparkSession) -> None:
    assert by_row.facts.rows_per_unit == 1
    exploded = by_row.explode("items", max_items=3, alias="item")
    assert exploded.facts.rows_per_unit == 3
    assert exploded.where("item > 1").withColumn("k", "ward").facts.rows_per_unit == 3
    twice = spark.createDataFrame([("a", 1), ("a", 2), ("b", 3), (None, 4), (None, 5), (None, 6)], "ward string, m int")
    assert exploded.join(twice, on="ward").facts.rows_per_unit == 6
    assert exploded.union(exploded).facts.rows_per_unit == 6
    with pytest.raises(dp.InvalidArgument, match="one row would become"):
        by_row.explode("items", max_items=2**31 - 1, alias="i").explode("items", max_items=2, alias="j")


def test_where_ids_are_units_bounding_counts_what_comes_out(frame: dp.PrivateFrame, wards: DataFrame) -> None:
    assert frame.explode("items", max_items=3).facts.rows_per_unit == 1
    assert frame.join(wards.union(wards), on="ward").facts.rows_per_unit == 1


def test_a_public_table_adds_columns(frame: dp.PrivateFrame, wards: DataFrame) -> None:
    inner, left = frame.join(wards, on="ward"), frame.join(wards, on=["ward"], how="left")
    assert rows_of(inner, "id", "region") == [(1, "north"), (2, "north"), (None, "north")]
    assert rows_of(left, "id", "region") == [(1, "north"), (1, None), (2, "north"), (None, "north")]
    assert inner.df.columns == [*frame.df.columns, "region", "beds"]


def test_the_content_of_a_public_table_is_part_of_the_plan(frame: dp.PrivateFrame, wards: DataFrame) -> None:
    step = frame.join(wards, on="ward").steps[-1]
    same = frame.join(wards.orderBy(F.desc("beds")).repartition(3), on="ward").steps[-1]
    other = frame.join(wards.withColumn("beds", F.col("beds") + 1), on="ward").steps[-1]
    assert step.startswith("inner join on ward with public rows ")
    assert step == same
    assert step != other
    assert frame.join(wards.limit(1), on="ward").steps[-1] != step


def test_what_a_public_table_held_when_it_was_digested_is_what_is_joined(
    frame: dp.PrivateFrame, wards: DataFrame, spark: SparkSession, tmp_path: Path
) -> None:
    wards.write.parquet(str(tmp_path / "wards"))
    moving = spark.read.parquet(str(tmp_path / "wards"))
    joined = frame.join(moving, on="ward")
    wards.selectExpr("ward", "'moved' AS region", "beds").write.mode("overwrite").parquet(str(tmp_path / "wards"))
    assert {row[0] for row in rows_of(joined, "region")} == {"north"}
    moved = frame.join(spark.read.parquet(str(tmp_path / "wards")), on="ward")
    assert {row[0] for row in rows_of(moved, "region")} == {"moved"}
    assert moved.steps != joined.steps


def test_a_union_is_of_one_unit_and_equal_columns(frame: dp.PrivateFrame, spark: SparkSession) -> None:
    other = dp.PrivateFrame(
        spark,
        spark.createDataFrame([(1, 4, "c", [9])], "id long, cost int, ward string, items array<int>"),
        PublicFacts(unit=("id",), bounds=FACTS.bounds, keys={"ward": ("c",)}, max_units=5),
        "older",
        "3",
    )
    both = frame.where("cost > 3").union(other.where("cost > 1"))
    assert rows_of(both, "id", "cost") == [(1, 4), (1, 5), (2, 7), (None, 9)]
    assert both.steps == ("where cost > 3", 'union with older ["where cost > 1"]')
    assert (both.name, both.data_version) == ("visits + older", "7 + 3")
    assert (both.facts.bounds, both.facts.keys, both.facts.max_units) == (FACTS.bounds, {}, 105)


def test_two_private_frames_meet_on_their_unit_within_bounds(spark: SparkSession) -> None:
    """At most 2 x 3 rows of unit 1 come out, whatever it brings; other units lose nothing."""
    left = dp.private(
        spark.createDataFrame([(1, i) for i in range(50)] + [(2, 99), (None, 7)], "id long, v int"),
        **{"unit": "id", "null_units": "drop", "name": "left"},  # type: ignore[arg-type]
    )
    right = dp.private(
        spark.createDataFrame([(1, i) for i in range(40)] + [(2, 98), (3, 1), (None, 7)], "id long, w int"),
        **{"unit": "id", "null_units": "drop", "name": "right"},  # type: ignore[arg-type]
    )
    joined = left.join_on_unit(right, max_rows=(2, 3))
    rows = rows_of(joined, "id", "v", "w")
    assert len([row for row in rows if row[0] == 1]) == 6
    assert [row for row in rows if row[0] != 1] == [(2, 99, 98)]
    assert rows == rows_of(joined, "id", "v", "w")  # which rows stay does not change by the run
    shuffled = joined.df.sparkSession.createDataFrame(left.df.repartition(7).toArrow())
    assert (
        len(rows_of(dp.private(shuffled, unit="id", null_units="drop").join_on_unit(right, max_rows=(2, 3)), "v")) == 7
    )
    assert joined.steps == ("join on id, at most 2 and 3 rows of a unit, with right",)


def test_a_frame_meets_itself(frame: dp.PrivateFrame) -> None:
    pairs = frame.select("ward").join_on_unit(frame.select("cost"), max_rows=(5, 5))
    assert rows_of(pairs, "id", "ward", "cost") == [(1, "a", 3), (1, "a", 5), (1, "b", 3), (1, "b", 5), (2, "a", 7)]
    assert (pairs.name, pairs.data_version) == ("visits", "7")


Change = Callable[[dp.PrivateFrame, DataFrame], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "redefined unit": (lambda f, w: f.withColumn("ID", "cost"), "the unit is id"),
    "renamed unit": (lambda f, w: f.withColumnRenamed("id", "x"), "the unit is id"),
    "another renamed to the unit": (lambda f, w: f.withColumnRenamed("cost", "Id"), "the unit is id"),
    "dropped unit": (lambda f, w: f.drop("id"), "the unit is id"),
    "exploded into the unit": (lambda f, w: f.explode("items", max_items=2, alias="id"), "the unit is id"),
    "a Column": (lambda f, w: f.where(F.col("cost") > 1), "SQL text"),  # type: ignore[arg-type]
    "a Column as value": (lambda f, w: f.withColumn("x", F.rand()), "SQL text"),  # type: ignore[arg-type]
    "an expression in select": (lambda f, w: f.select("cost + 1"), "no such column"),
    "a Column in select": (lambda f, w: f.select(F.col("cost")), "as strings"),  # type: ignore[arg-type]
    "nothing in select": (lambda f, w: f.select(), "as strings"),
    "twice in select": (lambda f, w: f.select("cost", "COST"), "once"),
    "a NULL without type": (lambda f, w: f.withColumn("x", "NULL"), "cast it"),
    "a name that is taken": (lambda f, w: f.withColumnRenamed("cost", "WARD"), "another column"),
    "explode without a bound": (lambda f, w: f.explode("items", max_items=0), "how many items"),
    "explode of a number": (lambda f, w: f.explode("cost", max_items=1), "only arrays"),
    "explode without a name": (lambda f, w: f.explode("split(ward, ',')", max_items=1), "alias"),
    "union with public rows": (lambda f, w: f.union(w), "takes a private frame"),  # type: ignore[arg-type]
    "union of other columns": (lambda f, w: f.union(f.drop("cost")), "same columns"),
    "union of other types": (lambda f, w: f.union(f.withColumn("cost", "cost + 0")), "same columns"),
    "join of private frames": (lambda f, w: f.join(f, on="id"), "join_on_unit"),  # type: ignore[arg-type]
    "cartesian join": (lambda f, w: f.join(w, on=[]), "each row would meet every other"),
    "join on a condition": (lambda f, w: f.join(w, on=w["ward"] == 1), "name the columns"),  # type: ignore[arg-type]
    "join on a missing column": (lambda f, w: f.join(w, on="nope"), "missing"),
    "join on unequal types": (lambda f, w: f.join(w.withColumnRenamed("beds", "id2"), on="id2"), "missing"),
    "join on text and number": (lambda f, w: f.join(w.withColumn("cost", F.lit("1")), on="cost"), "number on the left"),
    "outer join": (lambda f, w: f.join(w, on="ward", how="outer"), "inner"),  # type: ignore[arg-type]
    "join with a clash": (lambda f, w: f.join(w.withColumn("Cost", F.lit(1)), on="ward"), "withColumnRenamed"),
    "unit join without the unit": (
        lambda f, w: f.select("ward").join_on_unit(f.select("ward"), on="ward", max_rows=(1, 1)),
        "add",
    ),
    "unit join without bounds": (
        lambda f, w: f.select("ward").join_on_unit(f.select("cost"), max_rows=None),  # type: ignore[arg-type]
        "give a pair",
    ),
    "unit join with a bad bound": (
        lambda f, w: f.select("ward").join_on_unit(f.select("cost"), max_rows=(1, 0)),
        "bounds are integers",
    ),
    "unit join with a clash": (lambda f, w: f.join_on_unit(f, max_rows=(1, 1)), "withColumnRenamed"),
    "unit join with public rows": (lambda f, w: f.join_on_unit(w, max_rows=(1, 1)), "takes a private frame"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_break_the_unit_or_mean_something_else_is_refused(
    change: Change, message: str, frame: dp.PrivateFrame, wards: DataFrame
) -> None:
    with pytest.raises(dp.InvalidArgument, match=message):
        change(frame, wards)


def test_frames_of_other_units_do_not_mix(frame: dp.PrivateFrame, by_row: dp.PrivateFrame, spark: SparkSession) -> None:
    with pytest.raises(dp.InvalidArgument, match="of one unit"):
        frame.union(by_row)
    in_groups = dp.private(frame.df, unit="id", null_units="drop", group_size=2)
    with pytest.raises(dp.InvalidArgument, match="of one unit"):
        frame.union(in_groups)
    with pytest.raises(dp.InvalidArgument, match="no two rows belong together"):
        by_row.select("ward").join_on_unit(by_row.select("cost"), max_rows=(1, 1))


def test_a_public_table_has_a_greatest_size(frame: dp.PrivateFrame, spark: SparkSession) -> None:
    large = spark.range(2**20 + 1).selectExpr("cast(id AS string) AS ward")
    with pytest.raises(dp.InvalidArgument, match="at most 1,048,576 rows"):
        frame.join(large, on="ward")
