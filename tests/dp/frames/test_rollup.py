"""Rollups end to end: totals against Spark's own rollup, at so much budget that noise is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.accounting.budget import PureDP
from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp
from tests.conftest import DeltaWriter

pytestmark = pytest.mark.slow

SCHEMA = "id long NOT NULL, ward string, day int, v int, d double"
WARDS, DAYS = ["east", "west", "north"], [1, 2]
KEYS = [(ward, day) for ward in WARDS for day in DAYS if (ward, day) != ("north", 2)]
EXACT = "10000000"
"""An epsilon at which every draw of noise is 0, but for a chance below 1e-1000."""

ROWS = [
    (unit, WARDS[unit % 2], DAYS[part], unit % 10 if unit % 6 else None, unit % 50 / 4)
    for unit in range(300)
    for part in range(2)
]


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    nobody = [(1000, "elsewhere", 1, 5, 5.0), (1001, "east", 9, 5, 5.0), (1002, None, 1, 5, 5.0)]
    return spark.createDataFrame([*ROWS, *nobody], SCHEMA).cache()


def frame_of(rows: DataFrame) -> PrivateFrame:
    return PrivateFrame(rows.sparkSession, rows, PublicFacts(("id",), max_units=10**4), "t", "1")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger", capacity=PureDP(10**9))


def test_totals_are_those_of_sparks_rollup(rows: DataFrame, ledger: Ledger) -> None:
    asked = frame_of(rows).rollup("ward", "day", keys=KEYS, max_groups=2, max_rows=1)
    aggregates = (
        dp.count(),
        dp.sum("v", 0, 9),
        dp.mean("d", 0, 16),
        dp.histogram("v", [0, 5, 10]),
        dp.quantiles("v", [0, "0.5", 1], 0, 9),
    )
    release = asked.agg(*aggregates).release(EXACT, ledger=ledger)
    inside = rows.where(" OR ".join(f"(ward = '{ward}' AND day = {day})" for ward, day in KEYS))
    low, high = (F.sum(F.expr(f"CASE WHEN {bin} THEN 1 ELSE 0 END")) for bin in ("v < 5", "v >= 5"))
    quantiles = F.expr("percentile_disc(0.5) WITHIN GROUP (ORDER BY v)")
    spark = inside.rollup("ward", "day").agg(
        F.count("*"), F.sum("v"), F.mean("d"), low, high, F.min("v"), quantiles, F.max("v")
    )
    expected = {(row[0], row[1]): row[2:] for row in spark.collect()}
    found = {(row["ward"], row["day"]): row for row in release.df.collect()}
    empty = {("north", 1), ("north", None)}
    assert found.keys() == expected.keys() | empty
    for key, (count, total, mean, *others) in expected.items():
        answer = found[key]
        assert answer["count"] == pytest.approx(count, abs=1e-6)
        assert answer["sum_v"] == pytest.approx(total, abs=1e-6)
        assert answer["mean_d"] == pytest.approx(mean, abs=1e-4)
        assert answer["histogram_v"] == pytest.approx(others[:2], abs=1e-6)
        assert answer["quantiles_v"] == pytest.approx(others[2:], abs=1)
    for key in empty:
        assert found[key]["count"] == pytest.approx(0, abs=1e-6)
    assert list(found)[-1] == (None, None), "everything comes last"
    accuracy = {(row["ward"], row["day"]) for row in release.accuracy.collect()}
    assert accuracy == found.keys()


def test_one_column_has_one_total_and_bounds_hold_before_it(rows: DataFrame, ledger: Ledger) -> None:
    frame = frame_of(rows)
    query = frame.rollup("ward", keys=WARDS, max_groups=1, max_rows=1).agg(dp.count())
    values = {row["ward"]: row["count"] for row in query.release(EXACT, ledger=ledger).df.collect()}
    assert values == pytest.approx({"east": 151, "west": 150, "north": 0, None: 301}, abs=1e-6)


def test_totals_add_up_in_what_is_released_with_noise(rows: DataFrame, ledger: Ledger) -> None:
    query = frame_of(rows).rollup("ward", "day", keys=KEYS, max_groups=2, max_rows=1).agg(dp.count())
    released = {(row["ward"], row["day"]): row["count"] for row in query.release(1, ledger=ledger).df.collect()}
    for ward in WARDS:
        parts = sum(count for key, count in released.items() if key[0] == ward and key[1] is not None)
        assert released[ward, None] == pytest.approx(parts, abs=1e-9)
    assert released[None, None] == pytest.approx(sum(released[ward, None] for ward in WARDS), abs=1e-9)
    assert ledger.spent() == PureDP(1)


def test_a_release_is_answered_again_from_the_ledger(
    spark: SparkSession, write_delta: DeltaWriter, ledger: Ledger
) -> None:
    path = write_delta("visits", SCHEMA, ROWS)
    facts = {"unit": "id", "keys": {"ward": WARDS, "day": DAYS}, "bounds": {"v": (0, 9)}, "null_units": "drop"}

    def query() -> dp.PrivateQuery:
        frame = Table.forPath(spark, path, **facts).private()  # type: ignore[arg-type]
        return frame.rollup("ward", "day", max_groups=2, max_rows=1).agg(dp.count(), dp.sum("v"))

    first, again = (query().release(1, ledger=ledger) for _ in range(2))
    assert (first.paid_before, again.paid_before) == (False, True)
    assert ledger.spent() == PureDP(1)
    assert first.answers.values.equals(again.answers.values)
    assert first.answers.accuracy.equals(again.answers.accuracy)
    assert again.df.collect() == first.df.collect()
    grouped = Table.forPath(spark, path, **facts).private().groupBy("ward", "day", max_groups=2, max_rows=1)  # type: ignore[arg-type]
    assert not grouped.agg(dp.count(), dp.sum("v")).release(1, ledger=ledger).paid_before
    assert ledger.spent() == PureDP(2)


def test_totals_need_public_keys_and_a_column(rows: DataFrame) -> None:
    frame = frame_of(rows)
    for keys in (None, dp.private_keys()):
        with pytest.raises(dp.InvalidArgument, match="totals belong to public keys of grouping columns"):
            frame.rollup("ward", keys=keys, max_groups=1, max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="totals belong to public keys of grouping columns"):
        frame.rollup(max_groups=1, max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="ask for it by groupBy"):
        frame.rollup("ward", keys=WARDS, max_groups=1, max_rows=1).agg(dp.count_units())
