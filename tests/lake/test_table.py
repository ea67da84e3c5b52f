"""Tables: pinned versions, declared facts, and reads that no row's value can break. Real Delta, real files."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.frames.declared import declared_facts
from lake.errors import VersionUnavailable
from lake.table import Table, _listed, _suggested_partitions
from tests.conftest import DeltaWriter

pytestmark = pytest.mark.slow

VISITS = "patient long, ward string, days int, cost double"


@pytest.fixture
def visits(write_delta: DeltaWriter) -> str:
    return write_delta("visits", VISITS, [(1, "a", 3, 10.0), (2, "b", 5, 20.0)])


def ids(df: DataFrame) -> list[int]:
    return sorted(row["patient"] for row in df.select("patient").collect())


def test_latest_version_is_pinned_while_the_table_grows(
    spark: SparkSession, visits: str, write_delta: DeltaWriter
) -> None:
    first = Table.forPath(spark, visits, unit="patient", null_units="drop")
    write_delta("visits", VISITS, [(3, "a", 1, 1.0)])
    second = Table.forPath(spark, visits, unit="patient", null_units="drop")
    assert (first.version, second.version) == (0, 1)
    assert ids(first.df) == [1, 2]
    assert ids(second.df) == [1, 2, 3]
    assert ids(Table.forPath(spark, visits, unit="patient", null_units="drop", version=0).df) == [1, 2]
    assert first.data_version.endswith("@0")
    assert first.data_version[:36] == second.data_version[:36]  # the table's id
    assert first.data_version == Table.forPath(spark, visits, unit="patient", null_units="drop", version=0).data_version


def test_copies_of_a_table_that_grew_apart_have_different_data_versions(
    spark: SparkSession, visits: str, write_delta: DeltaWriter, tmp_path: Path
) -> None:
    copytree(visits, tmp_path / "copy")
    write_delta("visits", VISITS, [(3, "a", 1, 1.0)])
    write_delta("copy", VISITS, [(4, "b", 2, 2.0)])
    original, copy = (
        Table.forPath(spark, str(path), unit="patient", null_units="drop") for path in (visits, tmp_path / "copy")
    )
    assert original.version == copy.version
    assert original.data_version[:36] == copy.data_version[:36]
    assert original.data_version != copy.data_version


def test_a_condition_means_what_its_text_says(spark: SparkSession, visits: str) -> None:
    """No variable is put into it, whatever the caller's session would do."""
    rows = Table.forPath(spark, visits, unit="patient", null_units="drop").df
    assert rows.where("'${spark.app.name}' = '${spark.app.' || 'name}'").count() == rows.count()


def test_restore_is_a_new_version_and_leaves_pins_alone(
    spark: SparkSession, visits: str, write_delta: DeltaWriter
) -> None:
    write_delta("visits", VISITS, [(3, "a", 1, 1.0)])
    pinned = Table.forPath(spark, visits, unit="patient", null_units="drop")
    spark.sql(f"RESTORE TABLE delta.`{visits}` TO VERSION AS OF 0").collect()
    restored = Table.forPath(spark, visits, unit="patient", null_units="drop")
    assert (pinned.version, restored.version) == (1, 2)
    assert ids(pinned.df) == [1, 2, 3]
    assert ids(restored.df) == [1, 2]
    assert (
        restored.data_version != Table.forPath(spark, visits, unit="patient", null_units="drop", version=0).data_version
    )


def test_another_table_at_the_same_path_has_another_data_version(
    spark: SparkSession, write_delta: DeltaWriter, tmp_path: Path
) -> None:
    path = write_delta("t", VISITS, [(1, "a", 3, 10.0)])
    before = Table.forPath(spark, path, unit="patient", null_units="drop").data_version
    Path(path).rename(tmp_path / "elsewhere")
    spark.catalog.clearCache()
    write_delta("t", VISITS, [(1, "a", 3, 10.0)])
    assert Table.forPath(spark, path, unit="patient", null_units="drop").data_version != before


def test_vacuumed_version_is_a_clear_error(spark: SparkSession, visits: str, write_delta: DeltaWriter) -> None:
    write_delta("visits", VISITS, [(9, "c", 1, 1.0)], mode="overwrite")
    assert ids(Table.forPath(spark, visits, unit="patient", null_units="drop", version=0).df) == [1, 2]
    spark.sql(f"VACUUM delta.`{visits}` RETAIN 0 HOURS").collect()
    with pytest.raises(VersionUnavailable, match=r"VACUUM") as caught:
        Table.forPath(spark, visits, unit="patient", null_units="drop", version=0)
    assert caught.value.path == visits
    assert caught.value.version == 0
    assert "pin a later version" in str(caught.value)
    assert ids(Table.forPath(spark, visits, unit="patient", null_units="drop").df) == [9]


def test_missing_version_and_missing_table_are_clear_errors(spark: SparkSession, visits: str, tmp_path: Path) -> None:
    with pytest.raises(VersionUnavailable, match=r"version 7: there is no such version.*pin one of") as caught:
        Table.forPath(spark, visits, unit="patient", null_units="drop", version=7)
    assert (caught.value.path, caught.value.version) == (visits, 7)
    for version in (-1, True, "0"):
        with pytest.raises(InvalidArgument, match="number of a version"):
            Table.forPath(spark, visits, unit="patient", null_units="drop", version=version)  # type: ignore[arg-type]
    plain = tmp_path / "plain parquet"
    spark.range(3).write.parquet(str(plain))
    for path in (tmp_path / "nothing", plain):
        for version in (None, 0):
            with pytest.raises(VersionUnavailable, match="is not a Delta table") as caught:
                Table.forPath(spark, path, unit="id", version=version)
            assert caught.value.path == str(path)


def test_paths_with_odd_characters(spark: SparkSession, write_delta: DeltaWriter) -> None:
    path = write_delta("it's 100% `mine` [x]", VISITS, [(1, "a", 3, 10.0)])
    assert ids(Table.forPath(spark, path, unit="patient", null_units="drop").df) == [1]


def test_listing_through_the_reader_agrees_with_the_disk(spark: SparkSession, write_delta: DeltaWriter) -> None:
    """Object storage is checked through Spark's listing: here with a local path, odd characters included."""
    path = write_delta("a b [x] {y} 100%", VISITS, [(1, "a", 3, 10.0)])
    files = Table.forPath(spark, path, unit="patient", null_units="drop").df.inputFiles()
    assert len(files) == 1
    assert _listed(spark, files)
    assert _listed(spark, [])
    assert not _listed(spark, [*files, files[0].replace("part-", "gone-")])


def test_not_null_columns_are_visible(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "strict"
    spark.sql(f"CREATE TABLE delta.`{path}` (patient BIGINT NOT NULL, days INT) USING delta")
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (1, 2)")
    schema = Table.forPath(spark, path, unit="patient", null_units="drop").df.schema
    assert (schema["patient"].nullable, schema["days"].nullable) == (False, True)


def test_declared_facts_are_checked_against_the_schema(spark: SparkSession, visits: str) -> None:
    table = Table.forPath(
        spark, visits, unit="patient", null_units="drop", bounds={"cost": (0, "2000.5")}, max_units=100
    )
    assert table.facts == declared_facts(
        table.df.schema, unit=("patient",), bounds={"cost": (0, "2000.5")}, keys={}, max_units=100, null_units="drop"
    )
    assert table.partitions == 2
    with pytest.raises(InvalidArgument, match="no such column"):
        Table.forPath(spark, visits, unit="nobody")


AWKWARD = "n int, big long, exact decimal(38,0), real double, text string, day date, items array<int>"
AWKWARD_ROWS = """
    (2147483647, 9223372036854775807, 99999999999999999999999999999999999999, 1e300, 'x', date'9999-12-31', array(1)),
    (-2147483648, -9223372036854775808, -5, double('nan'), '', NULL, array()),
    (0, 0, 0, 0.0, NULL, date'2020-02-29', NULL)
"""
RAISE_UNDER_ANSI = (
    "1 / n",
    "1 % n",
    "1 div n",
    "n + n",
    "n * n",
    "-n",
    "abs(n)",
    "big * big",
    "exact * exact",
    "cast(text as int)",
    "cast(text as date)",
    "cast(text as timestamp)",
    "cast(text as boolean)",
    "cast(text as decimal(10, 2))",
    "cast(real as int)",
    "cast(big as tinyint)",
    "cast(exact as int)",
    "items[5]",
    "element_at(items, 5)",
    "to_date(text, 'yyyy')",
    "make_date(n, n, n)",
    "text + 1",
    "text = 1",
    "day = 'zz'",
)


@pytest.fixture(scope="module")
def awkward(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("awkward") / "t")
    spark.sql(f"CREATE TABLE delta.`{path}` ({AWKWARD}) USING delta")
    spark.sql(f"INSERT INTO delta.`{path}` VALUES {AWKWARD_ROWS}")
    return path


def test_no_value_raises_in_arithmetic_casts_and_comparisons(spark: SparkSession, awkward: str) -> None:
    """The same expressions, added to the caller's own frame, raise: the session of the table makes the difference."""
    table = Table.forPath(spark, awkward, unit="n", null_units="drop")
    assert len(table.df.select(*[F.expr(e).alias(f"c{i}") for i, e in enumerate(RAISE_UNDER_ANSI)]).collect()) == 3
    by_columns = table.df.withColumn("q", F.lit(1) / F.col("n")).withColumn("t", F.col("text").cast("int"))
    assert [row["t"] for row in by_columns.where("t / 0 IS NULL").select("t").collect()] == [None] * 3
    assert table.df.agg(F.sum("big"), F.sum("exact")).collect()

    spark.conf.set("spark.sql.ansi.enabled", "true")
    ordinary = spark.read.format("delta").load(awkward)
    for expression in ("1 / n", "cast(text as int)", "n + n", "items[5]"):
        with pytest.raises(Exception, match=r"DIVIDE_BY_ZERO|CAST_INVALID_INPUT|ARITHMETIC_OVERFLOW|INVALID_ARRAY"):
            ordinary.select(F.expr(expression)).collect()


def test_the_callers_session_keeps_its_settings_and_its_time_zone_counts(spark: SparkSession, visits: str) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
    try:
        table = Table.forPath(spark, visits, unit="patient", null_units="drop")
    finally:
        spark.conf.set("spark.sql.session.timeZone", before or "UTC")
    assert table.df.sparkSession.conf.get("spark.sql.session.timeZone") == "Asia/Kathmandu"
    assert table.df.sparkSession.conf.get("spark.sql.ansi.enabled") == "false"
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


def test_repr_shows_no_row(spark: SparkSession, visits: str) -> None:
    spark.conf.set("spark.sql.repl.eagerEval.enabled", "true")
    try:
        shown = repr(Table.forPath(spark, visits, unit="patient", null_units="drop"))
    finally:
        spark.conf.unset("spark.sql.repl.eagerEval.enabled")
    assert "patient" in shown
    assert "DataFrame" not in shown


@pytest.mark.parametrize(
    ("size_bytes", "partitions"), [(0, 2), (2**24, 2), (2**24 + 1, 3), (2**33, 1024), (2**50, 8192)]
)
def test_partitions_follow_the_size(size_bytes: int, partitions: int) -> None:
    assert _suggested_partitions(size_bytes) == partitions
