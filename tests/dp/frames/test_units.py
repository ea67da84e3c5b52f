"""Privacy units: columns, nested fields, expressions, rows and windows of time; and `df.dp(...)`."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from dp.frames.units import identify
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp

SCHEMA = T.StructType(
    [
        T.StructField("id", T.LongType(), nullable=False),
        T.StructField("name", T.StringType()),
        T.StructField("person", T.StructType([T.StructField("id", T.LongType()), T.StructField("w", T.DoubleType())])),
        T.StructField("day", T.DateType(), nullable=False),
        T.StructField("at", T.TimestampType(), nullable=False),
        T.StructField("local", T.TimestampNTZType()),
        T.StructField("odd.name", T.LongType()),
    ]
)


def test_a_unit_is_columns_or_what_is_derived_from_them() -> None:
    assert identify(SCHEMA, "id").columns == ("id",)
    assert identify(SCHEMA, ["id", "day"]).columns == ("id", "day")
    assert identify(SCHEMA, "odd.name").derived == {}
    assert identify(SCHEMA, dp.ROW).columns == ()
    nested = identify(SCHEMA, ["person.id", "id"])
    assert (nested.columns, list(nested.derived)) == (("person.id", "id"), ["person.id"])
    windows = identify(SCHEMA, dp.window("person.id", "at", "6 hours"))
    assert windows.columns == ("person.id", "at / 6 hours")
    assert list(windows.derived) == ["person.id", "at / 6 hours"]


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ([], "name the column"),
        (None, "name the column"),
        ([1], "name the column"),
        (["id", "id"], "once"),
        ("person.nope", "is no column"),
        ("person.id + rand()", "at every run"),
        ("Odd.Name", "no such column"),
    ],
)
def test_units_that_are_none(unit: object, message: str) -> None:
    with pytest.raises(dp.InvalidArgument, match=message) as caught:
        identify(SCHEMA, unit)  # type: ignore[arg-type]
    assert caught.value.parameter == "unit"


@pytest.mark.parametrize("length", ["", "day", "0 days", "1 month", "1.5 days", "-1 day", "1 day ", 86400])
def test_lengths_that_are_none(length: object) -> None:
    with pytest.raises(dp.InvalidArgument, match="length="):
        dp.window("id", "at", length)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time", "length", "message"),
    [("name", "1 day", "give a date"), ("local", "1 day", "with time zone"), ("day", "6 hours", "whole days")],
)
def test_windows_over_no_time(time: str, length: str, message: str) -> None:
    with pytest.raises(dp.InvalidArgument, match=message):
        identify(SCHEMA, dp.window("id", time, length))


@pytest.fixture(scope="module")
def people(spark: SparkSession) -> DataFrame:
    rows = spark.sql("""
        SELECT id, name, named_struct('id', id + 10, 'w', 1.0D) AS person, day, at, at AS local, id AS `odd.name`
        FROM VALUES (1L, 'a', date'2025-01-01', timestamp'2025-01-01 23:59:59.999999 UTC'),
            (1L, 'A', date'2025-01-02', timestamp'2025-01-02 00:00:00 UTC'),
            (1L, ' a\\u00a0', date'1969-12-31', timestamp'1969-12-31 23:59:59.999999 UTC'),
            (2L, NULL, date'0001-01-01', timestamp_micros(-9223372036854775808L)),
            (2L, 'b', date'9999-12-31', timestamp_micros(9223372036854775807L)) AS t(id, name, day, at)""")
    return rows.withColumn("local", rows["at"].cast("timestamp_ntz"))


@pytest.mark.slow
def test_windows_are_exact_at_their_edges_and_never_missing(people: DataFrame) -> None:
    by_day = dp.private(people, unit=dp.window("id", "at", "1 day"))
    assert by_day.facts.unit == ("id", "at / 1 day")
    numbers = [row[0] for row in by_day.df.select("`at / 1 day`").collect()]
    assert numbers[:3] == [(date(2025, 1, 1) - date(1970, 1, 1)).days, (date(2025, 1, 2) - date(1970, 1, 1)).days, -1]
    assert None not in numbers
    weeks = dp.private(people, unit=dp.window("id", "day", "1 week")).df.select("`day / 1 week`").collect()
    assert [row[0] for row in weeks[:3]] == [2869, 2870, -1]
    assert not dp.private(people, unit=dp.window("id", "at", "1 second")).df.schema["at / 1 second"].nullable


@pytest.mark.slow
def test_every_edge_of_a_window_is_where_it_belongs(spark: SparkSession) -> None:
    """A rounding that reaches an edge would put midnight into the day before."""
    edges = spark.range(-80_000_000, 80_000_000, 997).selectExpr("id", "timestamp_seconds(id * 3600) AS at")
    wrong = dp.private(edges, unit=dp.window("id", "at", "1 hour")).df.where("`at / 1 hour` <> id").count()
    just_before = edges.selectExpr("id", "timestamp_micros(id * 3600000000 - 1) AS at")
    wrong += dp.private(just_before, unit=dp.window("id", "at", "1 hour")).df.where("`at / 1 hour` <> id - 1").count()
    assert wrong == 0


@pytest.mark.slow
def test_the_columns_of_a_derived_unit_are_kept_and_protected(people: DataFrame) -> None:
    frame = dp.private(people, unit="person.id", null_units="drop")
    assert frame.facts.unit == ("person.id",)
    assert frame.select("name").df.columns == ["name", "person.id"]
    redefined = frame.withColumn("person", "1")  # the unit was derived before
    assert sorted({row[0] for row in redefined.df.select("`person.id`").collect()}) == [11, 12]
    with pytest.raises(dp.InvalidArgument, match=r"the unit is person\.id"):
        frame.withColumn("person.id", "1")


@pytest.mark.slow
def test_null_units_are_dropped_or_refused_by_choice(people: DataFrame) -> None:
    for unit in ("name", ["id", "name"], dp.normalize_id("name")):
        with pytest.raises(dp.InvalidArgument, match="may be NULL"):
            dp.private(people, unit=unit)
        assert dp.private(people, unit=unit, null_units="drop").facts.unit[-1]
    assert dp.private(people, unit="id").facts.unit == ("id",)


@pytest.mark.slow
def test_the_accessor_is_the_function(people: DataFrame) -> None:
    frame = people.dp(unit="id", name="people", bounds={"id": (0, 5)}, max_units=9, group_size=2)  # type: ignore[operator]
    assert isinstance(frame, dp.PrivateFrame)
    assert (frame.name, frame.facts.group_size, frame.facts.max_units) == ("people", 2, 9)
    assert "dp" not in people.__dict__
    with pytest.raises(dp.InvalidArgument, match="give a DataFrame"):
        dp.private("people", unit="id")  # type: ignore[arg-type]


@pytest.mark.slow
def test_rows_that_nothing_pins_are_never_answered_from_the_ledger(people: DataFrame, tmp_path: Path) -> None:
    """ATTACKS 23: a stored release must not answer for data that may have changed."""
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    query = dp.private(people, unit="id", name="people").agg(dp.count(), max_rows=1)
    assert "guarantee covers what follows dp(...)" in str(query.explain(epsilon="1"))
    assert not query.release(epsilon="1", ledger=ledger).paid_before
    assert not query.release(epsilon="1", ledger=ledger).paid_before
    assert ledger.spent() == dp.PureDP(2)
    versions = [entry.data_version for entry in ledger.entries()]
    assert len(set(versions)) == 2
    assert all(version.startswith("unpinned-") for version in versions)


@pytest.mark.slow
def test_tables_take_every_kind_of_unit(people: DataFrame, spark: SparkSession, tmp_path: Path) -> None:
    people.drop("odd.name", "local").write.format("delta").save(str(tmp_path / "people"))
    path = tmp_path / "people"
    for unit in ("id", "person.id", dp.normalize_id("name"), dp.window("id", "at", "1 day")):
        assert set(Table.forPath(spark, path, unit=unit, null_units="drop").facts.unit) <= set(
            Table.forPath(spark, path, unit=unit, null_units="drop").private().df.columns
        )
        with pytest.raises(dp.InvalidArgument, match="may be NULL"):
            Table.forPath(spark, path, unit=unit)
    assert Table.forPath(spark, path, unit=dp.ROW).private().facts.unit == ()
