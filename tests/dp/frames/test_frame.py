"""PrivateFrame: nothing of the rows can be read, `explain` reads none, and what fails before arming costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.accounting.ledger import Claim
from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from spark_mpc import dp

pytestmark = pytest.mark.slow

FACTS = PublicFacts(unit=("id",), max_units=1000)
READS = [
    *("collect", "show", "write", "toPandas", "toArrow", "toLocalIterator", "take", "head", "first", "tail", "count"),
    *("rdd", "foreach", "foreachPartition", "toJSON", "writeTo", "writeStream", "mapInArrow", "mapInPandas"),
    *("crossJoin", "cache", "persist", "checkpoint", "createTempView", "explain", "describe", "summary", "sample"),
]


class LedgerThatDies(Ledger):
    """The process ends between arming and commit."""

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        raise RuntimeError("killed")


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> PrivateFrame:
    df = spark.createDataFrame([(1, "secret", 3), (2, "hidden", 5)], "id long, s string, v int")
    return PrivateFrame(spark, df, FACTS, "t", "1")


@pytest.fixture(scope="module")
def untouchable(spark: SparkSession) -> PrivateFrame:
    """Rows that raise when anybody reads them."""
    df = spark.range(3).select("id", F.raise_error(F.lit("somebody read a row")).cast("int").alias("v"))
    with pytest.raises(PySparkException, match="somebody read a row"):
        df.collect()
    return PrivateFrame(spark, df, FACTS, "t", "1")


@pytest.mark.parametrize("name", READS)
def test_no_method_of_a_dataframe_that_reads_rows(name: str, frame: PrivateFrame) -> None:
    assert name in dir(frame.df)
    assert not hasattr(frame, name)


def test_printing_shows_the_schema_and_no_row(frame: PrivateFrame) -> None:
    query = frame.where("v > 1").agg(dp.count(), max_rows=1)
    for text in (str(frame), repr(frame), repr(query), str(query)):
        assert "secret" not in text
        assert "hidden" not in text
    assert str(frame) == "PrivateFrame(id: bigint, s: string, v: int)"


def test_frames_are_values(frame: PrivateFrame) -> None:
    """A derived frame leaves the one that it came from as it was."""
    narrow = frame.where("v > 1").filter("v < 9")
    assert narrow.steps == ("where v > 1", "where v < 9")
    assert frame.steps == ()
    with pytest.raises(AttributeError):
        frame.facts = FACTS  # type: ignore[misc]


def test_explain_reads_no_row(untouchable: PrivateFrame) -> None:
    query = untouchable.where("v > 1").agg(dp.count().alias("n"), dp.mean("v", 0, 5), max_rows=2)
    text = str(query.explain(epsilon="1"))
    assert "t at version 1" in text
    assert "n: ±" in text


def test_a_failure_before_arming_costs_nothing(untouchable: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(1))
    with pytest.raises(PySparkException, match="somebody read a row"):
        untouchable.agg(dp.sum("v", 0, 1), max_rows=1).release(epsilon="1", ledger=ledger)
    assert [entry.state for entry in ledger.entries()] == ["released"]
    assert ledger.remaining() == dp.PureDP(1)


def test_more_than_is_left_is_refused_before_any_row_is_read(untouchable: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(1))
    with pytest.raises(dp.BudgetExceeded, match=r"asked epsilon=1.5.*remaining epsilon=1 "):
        untouchable.agg(dp.sum("v", 0, 1), max_rows=1).release(epsilon="1.5", ledger=ledger)
    assert ledger.entries() == []


def test_a_failure_after_arming_is_paid_and_draws_fresh_noise_next_time(frame: PrivateFrame, tmp_path: Path) -> None:
    """On one lake the noise is drawn after arming: nothing is stored to resume from, so it costs again."""
    Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    query = frame.agg(dp.count(), max_rows=1)
    with pytest.raises(RuntimeError, match="killed"):
        query.release(epsilon="1", ledger=LedgerThatDies.open(tmp_path / "ledger"))
    ledger = Ledger.open(tmp_path / "ledger")
    assert [entry.state for entry in ledger.entries()] == ["spent"]
    release = query.release(epsilon="1", ledger=ledger)
    assert not release.paid_before
    assert ledger.spent() == dp.PureDP(2)
    assert query.release(epsilon="1", ledger=ledger).paid_before
    assert ledger.spent() == dp.PureDP(2)
    assert release.plan.query == query.query


def test_one_group_of_everything_needs_no_group_bound(frame: PrivateFrame) -> None:
    query = frame.agg(dp.count(), max_rows=4).query
    assert (query.by, query.keys) == ((), ((),))
    assert (query.bounds.groups, query.bounds.rows) == (1, 4)
    assert frame.agg(dp.count(), max_total_rows=4).query.bounds.rows == 4


def test_a_frame_needs_a_unit(spark: SparkSession) -> None:
    df = spark.range(3)
    for unit in (("nope",), ["id"]):
        with pytest.raises(dp.InvalidArgument, match="unit="):
            PrivateFrame(spark, df, PublicFacts(unit), "t", "1")  # type: ignore[arg-type]
