"""Dry runs: the whole path over synthetic rows, no real row read, nothing paid; and no way out for real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.accounting.scratch import ScratchLedger
from dp.frames.frame import PrivateFrame, SyntheticFrame
from dp.frames.synthetic import MOST_SYNTHETIC_ROWS
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp
from tests.conftest import DeltaWriter

pytestmark = pytest.mark.slow

SCHEMA = """
    id long NOT NULL, ward string, days int, tiny tinyint NOT NULL, cost double, price decimal(9, 2),
    huge decimal(38, 0), tags array<int>, marks map<string, double>, person struct<name: string, born: date NOT NULL>,
    at timestamp, naive timestamp_ntz, day date, raw binary, ok boolean, span interval day to second, small float
"""
WARDS = ["east", "west"]


@pytest.fixture(scope="module")
def real(spark: SparkSession) -> PrivateFrame:
    """Rows that raise when anybody reads them."""
    empty = spark.createDataFrame([], SCHEMA)
    broken = F.when(F.col("id") >= 0, F.raise_error(F.lit("somebody read a row")).cast("int"))
    rows = spark.range(3).select(
        *(F.lit(None).cast(f.dataType).alias(f.name) for f in empty.schema if f.name not in ("id", "days")), "id"
    )
    df = rows.withColumn("days", broken)
    with pytest.raises(PySparkException, match="somebody read a row"):
        df.collect()
    declared = {"keys": {"ward": WARDS}, "bounds": {"days": (1, 14), "cost": (0, "0.5"), "price": (0, 100)}}
    frame: PrivateFrame = df.dp(unit="id", null_units="drop", max_units=10**6, **declared)  # type: ignore[operator]
    return frame


@pytest.fixture(scope="module")
def typed(spark: SparkSession) -> DataFrame:
    """Synthetic rows of every type."""
    declared = {"keys": {"ward": WARDS}, "bounds": {"days": (1, 14), "cost": (0, "0.5"), "tiny": (-1000, 1000)}}
    empty = spark.createDataFrame([], SCHEMA)
    frame: PrivateFrame = empty.dp(unit="id", **declared)  # type: ignore[operator]
    return frame.synthetic(400, seed=3).df


def test_rows_fit_the_schema_and_what_is_declared(typed: DataFrame, spark: SparkSession) -> None:
    assert typed.schema == spark.createDataFrame([], SCHEMA).schema
    rows = [row.asDict() for row in typed.collect()]
    assert len(rows) == 400
    assert {row["ward"] for row in rows} == {*WARDS, None}
    assert {row["days"] for row in rows} == {*range(1, 15), None}
    assert all(row["cost"] is None or 0 <= row["cost"] <= 0.5 for row in rows)
    assert all(row["tiny"] is not None and -127 <= row["tiny"] <= 127 for row in rows)
    nullable = {field.name for field in typed.schema if field.nullable}
    assert {name for name in rows[0] if any(row[name] is None for row in rows)} == nullable
    assert all(row["span"] is None for row in rows)  # no value of that type is known
    assert len({row["at"] for row in rows}) > 300


def test_units_have_several_rows_each(typed: DataFrame) -> None:
    sizes = [row["count"] for row in typed.groupBy("id").count().collect()]
    assert 50 < len(sizes) <= 100
    assert min(sizes) == 1
    assert max(sizes) >= 8


def test_a_seed_makes_the_same_rows_and_another_seed_others(real: PrivateFrame) -> None:
    first, again, other = (real.synthetic(20, seed=seed).df.collect() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_whole_path_runs_reads_no_row_and_costs_nothing(real: PrivateFrame, tmp_path: Path) -> None:
    dry = real.synthetic(500)
    narrow = dry.where("days > 2").withColumn("twice", "days * 2")
    query = narrow.groupBy("ward", max_groups=1, max_rows=8).agg(
        dp.count().alias("n"), dp.mean("cost").alias("m"), dp.sum("twice", 0, 28).alias("t")
    )
    assert "SYNTHETIC rows of the schema of dataframe (500 rows, seed 0)" in str(query.explain(epsilon="1"))
    release = query.release(epsilon="1")
    assert release.synthetic
    assert "synthetic=True" in repr(release)
    for shown in (str(release), release._repr_html_()):
        assert "SYNTHETIC ROWS: nothing here is about real data." in shown
        assert "Not paid: epsilon=1" in shown
        assert "paid epsilon" not in shown
    assert [row["ward"] for row in release.df.collect()] == WARDS
    figure = release.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["n", "m", "t"]
    assert figure.get_suptitle().startswith("SYNTHETIC ROWS")
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(1))
    query.release(epsilon="5", ledger=ledger)  # five times what there is
    assert ledger.entries() == []


def test_bounds_and_keys_are_chosen_in_a_dry_run_too(real: PrivateFrame) -> None:
    grouped = real.synthetic(2000).groupBy("ward", keys=dp.private_keys(), bounds="auto")
    release = grouped.agg(dp.count().alias("n"), dp.sum("small")).release(epsilon="20", delta="1e-5")
    assert release.synthetic
    assert set(release.chosen) == {"rows of one unit", "small"}
    assert [row["ward"] for row in release.df.collect()] == WARDS


def test_a_dry_run_refuses_what_the_ledgers_kind_refuses(real: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(1))
    with pytest.raises(dp.InvalidArgument, match="this ledger counts in PureDP"):
        real.synthetic(50).agg(dp.count(), max_rows=1).release(rho="1", ledger=ledger)


def test_real_rows_are_never_released_without_a_ledger(real: PrivateFrame) -> None:
    query = real.agg(dp.count(), max_rows=1)
    auto = real.agg(dp.sum("small"), bounds="auto")
    for asked in (query, auto):
        with pytest.raises(dp.InvalidArgument, match="ledger=None: give the owner's ledger"):
            asked.release(epsilon="1")
        with pytest.raises(dp.InvalidArgument, match="ledger='ScratchLedger'"):
            asked.release(epsilon="1", ledger=ScratchLedger(dp.PureDP(10)))


def test_real_rows_never_become_synthetic(real: PrivateFrame) -> None:
    """Neither by a union nor by a join, nor the other way around without a ledger."""
    dry = real.synthetic(50)
    with pytest.raises(dp.InvalidArgument, match="takes another one"):
        dry.union(real)  # type: ignore[arg-type]
    with pytest.raises(dp.InvalidArgument, match="takes another one"):
        dry.join_on_unit(real.select("ward"), max_rows=(1, 1))  # type: ignore[arg-type]
    mixed = real.union(dry)
    assert not isinstance(mixed, SyntheticFrame)
    with pytest.raises(dp.InvalidArgument, match="ledger"):
        mixed.agg(dp.count(), max_rows=1).release(epsilon="1")


def test_synthetic_frames_meet_each_other(real: PrivateFrame) -> None:
    left, right = real.synthetic(50, seed=1).select("ward"), real.synthetic(50, seed=1).select("days")
    joined = left.join_on_unit(right, max_rows=(2, 2)).union(left.join_on_unit(right, max_rows=(2, 2)))
    assert isinstance(joined, SyntheticFrame)
    assert joined.agg(dp.count().alias("n"), max_rows=4).release(epsilon="1000").df.collect()[0]["n"] > 0


def test_tables_have_dry_runs(spark: SparkSession, write_delta: DeltaWriter) -> None:
    path = write_delta("visits", "patient long, ward string, cost double", [(1, "a", 1.0)])
    table = Table.forPath(spark, path, unit="patient", null_units="drop", keys={"ward": ["a", "b"]})
    release = table.synthetic(100).groupBy("ward", max_total_rows=4).agg(dp.sum("cost", 0, 5)).release(epsilon="1")
    assert release.synthetic
    assert release.df.count() == 2


def test_units_that_are_made_of_expressions_have_their_columns(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], "who string, at timestamp, v int")
    for unit in (dp.normalize_id("who"), dp.window("who", "at", "1 day"), dp.ROW):
        frame: PrivateFrame = empty.dp(unit=unit, null_units="drop")  # type: ignore[operator]
        dry = frame.synthetic(100)
        bounds = {} if unit is dp.ROW else {"max_rows": 2}
        counted = dry.agg(dp.count().alias("n"), **bounds).release(epsilon="1000").df.collect()[0]["n"]  # type: ignore[arg-type]
        assert 20 < counted <= 100


@pytest.mark.parametrize("rows", [0, -1, True, "10", MOST_SYNTHETIC_ROWS + 1])
def test_an_impossible_number_of_rows_is_refused(real: PrivateFrame, rows: object) -> None:
    with pytest.raises(dp.InvalidArgument, match="number of rows"):
        real.synthetic(rows)  # type: ignore[arg-type]


def test_a_column_that_cannot_be_made_up_is_refused(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], "id long, span interval day to second NOT NULL")
    frame = PrivateFrame(spark, empty, PublicFacts(("id",)), "t", "1")
    with pytest.raises(dp.InvalidArgument, match="no value of this type is known"):
        frame.synthetic(5)
