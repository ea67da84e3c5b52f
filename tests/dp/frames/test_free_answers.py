"""Answers from stored releases on Spark: from a ledger and a table that nobody can read any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.frames.frame import PrivateFrame
from dp.frames.grouped import PrivateQuery
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from spark_mpc import dp, lake
from tests.tools.lakes import write_table

pytestmark = pytest.mark.slow

SCHEMA = "id long NOT NULL, region string, ward string, v int"
ROWS = [(i, ("north", "south")[i % 2], "abc"[i % 3], i % 7) for i in range(600)]
FACTS = PublicFacts(unit=("id",), max_units=1000)
KEYS = [(region, ward) for region in ("north", "south") for ward in "abc"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "a.ledger", capacity=dp.PureDP(30))


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> PrivateFrame:
    return PrivateFrame(spark, spark.createDataFrame(ROWS, SCHEMA), FACTS, "t", "1")


@pytest.fixture(scope="module")
def untouchable(spark: SparkSession) -> PrivateFrame:
    """The same table and version, where reading raises."""
    df = spark.createDataFrame(ROWS, SCHEMA).withColumn("v", F.raise_error(F.lit("somebody read a row")).cast("int"))
    df = df.withColumn("ward", F.concat("ward", F.raise_error(F.lit("somebody read a row"))))
    with pytest.raises(PySparkException, match="somebody read a row"):
        df.collect()
    return PrivateFrame(spark, df, FACTS, "t", "1")


def by_ward(frame: PrivateFrame) -> PrivateQuery:
    wanted = [dp.count().alias("n"), dp.sum("v", 0, 6).alias("s")]
    return frame.groupBy("region", "ward", keys=KEYS, max_total_rows=1).agg(*wanted)


def by_region(frame: PrivateFrame) -> PrivateQuery:
    wanted = [dp.mean("v", 0, 6).alias("m"), dp.count().alias("n")]
    return frame.groupBy("region", keys=["south", "north"], max_total_rows=1).agg(*wanted)


def counts(frame: PrivateFrame) -> PrivateQuery:
    return frame.groupBy("region", keys=["south", "north"], max_total_rows=1).agg(dp.count().alias("n"))


def test_an_answer_from_a_release_reads_no_row_and_enters_nothing(
    frame: PrivateFrame, untouchable: PrivateFrame, ledger: Ledger
) -> None:
    release = by_ward(frame).release(epsilon="20", ledger=ledger)
    paid, entries = release.toPandas(), ledger.entries()
    text = str(counts(untouchable).explain(epsilon="1", ledger=ledger))
    assert "free from release 1, expected error (95%) n: ± " in text
    free = counts(untouchable).from_release(1, ledger=ledger)
    expected = paid.groupby("region")["n"].sum()
    assert [tuple(row) for row in free.df.collect()] == [("south", expected["south"]), ("north", expected["north"])]
    of_one = release.answers.accuracy.column("stddev")[0].as_py()
    assert [row["stddev"] for row in free.accuracy.collect()] == pytest.approx([of_one * 3**0.5] * 2)
    assert (ledger.entries(), free.price) == (entries, dp.PureDP(0))


def test_nothing_is_offered_that_does_not_follow(
    untouchable: PrivateFrame, frame: PrivateFrame, ledger: Ledger
) -> None:
    by_ward(frame).release(epsilon="20", ledger=ledger)
    others = [
        by_region(untouchable),  # values may be missing: how many are there was not counted
        counts(untouchable.where("v > 1")),
        untouchable.groupBy("region", keys=["north"], max_groups=1, max_rows=1).agg(dp.count()),
        counts(PrivateFrame(untouchable.spark, untouchable.df, FACTS, "t", "2")),
        counts(PrivateFrame(untouchable.spark, untouchable.df, FACTS, "u", "1")),
        counts(PrivateFrame(untouchable.spark, untouchable.df, FACTS, "t", None)),
    ]
    for query in others:
        assert "free from" not in str(query.explain(epsilon="1", ledger=ledger))
        with pytest.raises(InvalidArgument, match="release"):
            query.from_release(1, ledger=ledger)


def test_a_table_that_is_gone_still_answers_and_a_new_version_does_not(
    spark: SparkSession, tmp_path: Path, ledger: Ledger
) -> None:
    path = write_table(spark, tmp_path / "visits", "id long, region string, ward string, v int", ROWS)

    def visits() -> PrivateFrame:
        return lake.Table.forPath(spark, path, unit="id", null_units="drop").private()

    old = visits()
    paid = by_ward(old).release(epsilon="20", ledger=ledger).toPandas()
    write_table(spark, tmp_path / "visits", "id long, region string, ward string, v int", ROWS[:9], mode="append")
    with pytest.raises(InvalidArgument, match="there is none"):
        counts(visits()).from_release(1, ledger=ledger)
    shutil.rmtree(path)
    with pytest.raises(Exception, match="does not exist"):
        counts(old).release(epsilon="1", ledger=ledger)
    free = counts(old.where("region IN ('north', 'south')")).from_release(1, ledger=ledger)
    assert free.toPandas()["n"].sum() == paid["n"].sum()
    south = old.where("region = 'south'")
    with pytest.raises(InvalidArgument, match="bounded by max_total_rows=1"):
        south.agg(dp.count(), max_rows=1).from_release(1, ledger=ledger)


def test_the_same_question_is_still_answered_by_itself(frame: PrivateFrame, ledger: Ledger) -> None:
    first = by_ward(frame).release(epsilon="1", ledger=ledger)
    assert "the same question" in str(by_ward(frame).explain(epsilon="1", ledger=ledger))
    assert by_ward(frame).release(epsilon="1", ledger=ledger).paid_before
    again = by_ward(frame).from_release(1, ledger=ledger)
    assert again.answers.values == first.answers.values
    assert again.answers.accuracy == first.answers.accuracy
