"""Real queries that are paid out of a claim on blocks: who pays, which rows are read, and two processes that race."""
# ruff: noqa: SIM300  dimensions are written as constants are, and stand on the left

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import dp
from dp.accounting.budget import PureDP
from dp.errors import BudgetExceeded, InvalidArgument
from dp.frames.frame import PrivateFrame
from dp.frames.grouped import PrivateQuery
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME
from lake.ledger import Ledger, Steward
from lake.table import Table
from tests.lake.claiming import parts

pytestmark = pytest.mark.slow

DAILY = Blocks.every("1 day", "day", since="2026-03-01", name="days")
FIRST, SECOND = "days/2026-03-01", "days/2026-03-02"
SURE = "1000"  # an epsilon at which a count is exact for all that a test will see


@pytest.fixture
def path(spark: SparkSession, tmp_path: Path) -> str:
    """Two days of ten and of twenty rows, a file each."""
    for day, rows in (("2026-03-01", 10), ("2026-03-02", 20)):
        written = spark.range(rows).selectExpr("id", f"date'{day}' AS day").coalesce(1).write
        written.format("delta").mode("append").save(str(tmp_path / "t"))
    return str(tmp_path / "t")


@pytest.fixture
def table(spark: SparkSession, path: str) -> Table:
    return Table.forPath(spark, path, unit=dp.ROW, blocks=DAILY)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(5000)) as made:
        Steward(made).lay_out(DAILY, capacity=PureDP(3000))
        yield made


def counting(frame: PrivateFrame) -> PrivateQuery:
    return frame.agg(dp.count().alias("n"))


def lose_files(table: Table, *, keep: str = "") -> None:
    """Delete the table's files, but for those of a day: whoever reads them fails."""
    where = table.df.select(F.input_file_name().alias("file"), F.col("day").cast("string")).distinct().collect()
    for row in where:
        if row["day"] != keep:
            Path(urlsplit(row["file"]).path).unlink()


def test_a_query_reads_and_pays_the_blocks_of_its_claim(table: Table, ledger: Ledger) -> None:
    for day, rows in ((FIRST, 10), (SECOND, 20)):
        with ledger.claim(DAILY, TIME == day.partition("/")[2], demand=PureDP(SURE)) as claim:
            release = counting(table.private(claim)).release(SURE, ledger=claim)
            assert round(release.toPandas()["n"][0]) == rows
            assert (claim.spent(), claim.remaining()) == (PureDP(SURE), PureDP(0))
        assert parts(ledger, day) == ("0", "2000", "0", SURE)
    with ledger.claim(DAILY, demand=PureDP(SURE)) as claim:
        release = counting(table.private(claim)).release(SURE, ledger=claim)
        assert round(release.toPandas()["n"][0]) == 30
    assert parts(ledger, FIRST) == parts(ledger, SECOND) == ("0", "1000", "0", "2000")
    assert parts(ledger, "whole") == ("0", "2000", "0", "3000")  # the layout, and no more


def test_no_row_of_another_block_is_read(table: Table, ledger: Ledger) -> None:
    lose_files(table, keep="2026-03-01")
    with ledger.claim(DAILY, TIME == "2026-03-01", demand=PureDP(SURE)) as claim:
        release = counting(table.private(claim)).release(SURE, ledger=claim)
        assert round(release.toPandas()["n"][0]) == 10


def test_without_a_claim_that_suffices_nothing_is_read(table: Table, ledger: Ledger) -> None:
    """ATTACKS 20: every file is gone, and the query is refused for its price, not for that."""
    lose_files(table)
    with ledger.claim(DAILY, TIME == "2026-03-01", demand=PureDP(1)) as claim:
        before = ledger.head()
        with pytest.raises(BudgetExceeded, match=r"asked epsilon=2, remaining epsilon=1 of claim"):
            counting(table.private(claim)).release("2", ledger=claim)
        with pytest.raises(InvalidArgument, match=r"is on others: read table\.private\(claim\)"):
            counting(table.private(TIME == "2026-03-02")).release("1", ledger=claim)
        with pytest.raises(InvalidArgument, match="is on others"):
            counting(table.private()).release("1", ledger=claim)
        assert ledger.head() == before
    with pytest.raises(BudgetExceeded, match=f"on blocks '{FIRST}', '{SECOND}'"):
        counting(table.private()).release("3001", ledger=ledger)


def test_a_query_that_fails_gives_back_to_its_claim(table: Table, ledger: Ledger) -> None:
    lose_files(table)
    with ledger.claim(DAILY, TIME == "2026-03-01", demand=PureDP(2)) as claim:
        with pytest.raises(Exception, match=r"FAILED_READ_FILE|FileNotFound|does not exist"):
            counting(table.private(claim)).release("2", ledger=claim)
        assert (claim.remaining(), claim.spent()) == (PureDP(2), PureDP(0))
    assert parts(ledger, FIRST) == ("0", "3000", "0", "0")


# --- two processes


def test_of_two_processes_one_wins_the_last_budget(tmp_path: Path) -> None:
    """ATTACKS 22: the loser is told, and has changed nothing."""
    path = tmp_path / "ledger"
    with Ledger.create(path, capacity=PureDP(10)) as ledger:
        Steward(ledger).lay_out(DAILY, capacity=PureDP(1))
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.lake.debits", "claim", str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "bob")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    told = [racer.communicate("go\n")[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert Counter(word for words in told for word in words) == {"granted": 1, "refused": 1}
    winner = "ann" if told[0] == ["granted"] else "bob"
    with Ledger.open(path) as ledger:
        assert [(entry.state, entry.owner) for entry in ledger.entries()] == [
            ("spent", ""),  # the layout
            ("released", winner),
            ("spent", winner),
        ]
        assert not any("refused" in event.event for event in ledger.events())
        assert parts(ledger, FIRST) == ("0", "2/5", "0", "3/5")
