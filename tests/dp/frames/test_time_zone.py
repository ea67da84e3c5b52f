"""The session's time zone is part of a plan that depends on it, and of no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.expressions import compile_expression
from dp.frames.units import identify
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp

SCHEMA = T.StructType().add("at", "timestamp").add("local", "timestamp_ntz").add("day", "date").add("t", "string")
ZONED = ("hour(at)", "cast(at AS date)", "date_trunc('day', at)", "at > timestamp '2025-03-01 00:00:00'",
         "cast(t AS timestamp)", "to_date(at)", "year(cast(local AS timestamp))", "cast(at AS string)",
         "CASE WHEN month(at) = 1 THEN 1 ELSE 0 END", "coalesce(at, at) IS NULL", "datediff(at, day)")  # fmt: skip
FREE = ("hour(local)", "year(day)", "to_date(t)", "cast(local AS date)", "day > date '2025-03-01'", "lower(t)", "1 + 1")


@pytest.mark.parametrize("text", ZONED)
def test_what_has_instants_in_it_depends_on_the_zone(text: str) -> None:
    assert compile_expression(text, SCHEMA).zoned


@pytest.mark.parametrize("text", FREE)
def test_what_has_none_does_not(text: str) -> None:
    assert not compile_expression(text, SCHEMA).zoned


def test_a_unit_bears_the_zone_that_it_depends_on() -> None:
    def columns(unit: Any, zone: str) -> tuple[str, ...]:
        return identify(SCHEMA, unit, zone).columns

    assert columns(dp.window("t", "cast(t AS timestamp)", "1 day"), "Asia/Tokyo") == (
        "t",
        "cast(t AS timestamp) in Asia/Tokyo / 1 day",
    )
    assert columns("cast(at AS date)", "Asia/Tokyo") == ("cast(at AS date) in Asia/Tokyo",)
    for unit in (dp.window("t", "at", "1 day"), dp.window("t", "day", "1 day"), "lower(t)"):
        assert columns(unit, "Asia/Tokyo") == columns(unit, "UTC")


@pytest.fixture(scope="module")
def path(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty visits of forty people, an hour apart."""
    start = datetime(2025, 3, 1, tzinfo=UTC)
    rows = [(person, start + timedelta(hours=person), str(start.date())) for person in range(40)]
    folder = tmp_path_factory.mktemp("zones") / "visits"
    schema = T.StructType().add("id", "integer", nullable=False).add("at", "timestamp").add("t", "string")
    spark.createDataFrame(rows, schema).write.format("delta").save(str(folder))
    return str(folder)


@pytest.fixture
def zoned(spark: SparkSession) -> Iterator[Any]:
    """Sets the session's zone, and puts the former one back."""
    before = spark.conf.get("spark.sql.session.timeZone")
    yield lambda zone: spark.conf.set("spark.sql.session.timeZone", zone)
    spark.conf.set("spark.sql.session.timeZone", before or "UTC")


def morning(spark: SparkSession, path: str, condition: str) -> dp.PrivateQuery:
    frame = Table.forPath(spark, path, unit="id", max_units=100, null_units="drop").private()
    return frame.where(condition).agg(dp.count(), max_rows=1)


@pytest.mark.slow
def test_no_stored_release_answers_for_another_zone(spark: SparkSession, path: str, zoned: Any, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10**6))
    answers = {}
    for zone in ("UTC", "Asia/Tokyo", "UTC"):
        zoned(zone)
        query = morning(spark, path, "cast(at AS date) = date '2025-03-01'")
        assert f"(time zone {zone})" in str(query.explain(1))
        release = query.release(10**5, ledger=ledger)  # next to no noise
        answers[zone] = (release.df.collect()[0]["count"], release.paid_before)
    assert answers == {"UTC": (24, True), "Asia/Tokyo": (15, False)}


@pytest.mark.slow
def test_what_does_not_depend_on_it_is_answered_in_any_zone(
    spark: SparkSession, path: str, zoned: Any, tmp_path: Path
) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    paid = []
    for zone in ("UTC", "Asia/Tokyo"):
        zoned(zone)
        paid.append(morning(spark, path, "to_date(t) = date '2025-03-01'").release(1, ledger=ledger).paid_before)
    assert paid == [False, True]


@pytest.mark.slow
def test_the_zone_of_the_step_counts_in_every_operation(spark: SparkSession, path: str, zoned: Any) -> None:
    zoned("Asia/Tokyo")
    frame = Table.forPath(spark, path, unit="id", max_units=100, null_units="drop").private()
    steps = frame.withColumn("hour", "hour(at)").explode("split(cast(at AS string), '-')", max_items=2, alias="x").steps
    assert [step.endswith(" (time zone Asia/Tokyo)") for step in steps] == [True, True]
    days = []
    for zone in ("Asia/Tokyo", "UTC"):
        zoned(zone)
        days.append(Table.forPath(spark, path, unit="cast(at AS date)", max_units=99, null_units="drop").private())
    with pytest.raises(InvalidArgument, match="union"):
        days[1].union(days[0])
