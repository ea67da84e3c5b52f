"""ATTACKS 20 to 23 against claims on blocks: debits come first and last, races, and what a cache must not do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks._ledger_audit import Auditor
from dp.execution import one_lake
from dp.noise.entropy import os_random
from lake.ledger.rows import Request
from lake.ledger.selection import Named
from spark_mpc import dp, lake
from tests.tools.ledgers import Clock

DAILY = lake.Blocks.every("1 day", "day", since="2026-03-01", name="days")
DAY = "days/2026-03-01"
IN_MARCH = 1_772_800_000.0  # seconds: the sixth


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = IN_MARCH
    return clock


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[lake.Ledger]:
    """Of epsilon 1 a day."""
    with lake.Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10), clock=clock) as made:
        lake.Steward(made).lay_out(DAILY, capacity=dp.PureDP(1))
        yield made
        assert Auditor(made._store).look().problems == ()


@pytest.fixture
def path(spark: SparkSession, tmp_path: Path) -> str:
    path = str(tmp_path / "visits")
    spark.range(100).selectExpr("id", "date'2026-03-01' AS day").write.format("delta").save(path)
    return path


def opened(spark: SparkSession, path: str, version: int | None = None) -> lake.Table:
    return lake.Table.forPath(spark, path, unit=dp.ROW, blocks=DAILY, version=version)


def append(spark: SparkSession, path: str) -> None:
    """One row more, of the same day."""
    spark.range(1).selectExpr("id", "date'2026-03-01' AS day").write.format("delta").mode("append").save(path)


def counting(table: lake.Table, claim: lake.OpenClaim) -> dp.PrivateQuery:
    return table.private(claim).agg(dp.count())


def consumed(ledger: lake.Ledger) -> dp.Budget:
    (day,) = (state for state in ledger.blocks() if state.name == DAY)
    return day.consumed


@pytest.mark.slow
def test_noise_is_drawn_after_the_block_has_paid(
    spark: SparkSession, path: str, ledger: lake.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATTACKS 20."""
    found: list[dp.Budget] = []

    def drawn(count: int) -> bytes:
        found.append(consumed(ledger))
        return os_random(count)

    monkeypatch.setattr(one_lake, "os_random", drawn)
    with ledger.claim(DAILY, lake.TIME == "2026-03-01", demand=dp.PureDP("0.5")) as claim:
        counting(opened(spark, path), claim).release("0.2", ledger=claim)
    assert set(found) == {dp.PureDP("0.2")}


def test_a_clock_set_back_brings_no_claim_back(ledger: lake.Ledger, clock: Clock) -> None:
    """ATTACKS 21: it had run out, and another has its budget."""
    late = ledger.ask(Request("late", 60.0), Named((DAY,), dp.PureDP("0.6"), ""))
    clock.now += 60
    heir = ledger.ask(Request("heir", 600.0), Named((DAY,), dp.PureDP("0.6"), ""))
    clock.now -= 3600
    with pytest.raises(lake.ClaimLost):
        ledger.renew(late.ticket(ledger.ledger_id))
    with pytest.raises(lake.ClaimLost, match="holds nothing any more"):
        ledger.ask(Request("child", 60.0, parent=late.number), Named((DAY,), dp.PureDP("0.1"), ""))
    with pytest.raises(lake.ClaimLost, match="new request id"):
        ledger.ask(Request("late", 60.0), Named((DAY,), dp.PureDP("0.6"), ""))
    ledger.arm(heir.ticket(ledger.ledger_id), b"")
    clock.now = 0.0
    assert consumed(ledger) == dp.PureDP("0.6")


@pytest.mark.slow
def test_a_table_set_back_gives_no_block_its_budget_back(spark: SparkSession, path: str, ledger: lake.Ledger) -> None:
    """ATTACKS 21: the day pays for the restored version, and for the old one that time travel opens."""

    def pay(table: lake.Table) -> None:
        with ledger.claim(DAILY, lake.TIME == "2026-03-01", demand=dp.PureDP("0.3")) as claim:
            assert not counting(table, claim).release("0.3", ledger=claim).paid_before

    append(spark, path)
    pay(opened(spark, path))
    spark.sql(f"RESTORE TABLE delta.`{path}` TO VERSION AS OF 0").collect()
    pay(opened(spark, path))
    pay(opened(spark, path, version=0))
    assert consumed(ledger) == dp.PureDP("0.9")
    with pytest.raises(dp.BudgetExceeded), ledger.claim(DAILY, lake.TIME == "2026-03-01", demand=dp.PureDP("0.3")):
        raise AssertionError


def test_many_who_claim_at_once_never_take_more_than_there_is(ledger: lake.Ledger) -> None:
    """ATTACKS 22: three of sixteen fit on a day; who lost is told, and holds nothing."""

    def spend(number: int) -> str:
        try:
            with ledger.claim(DAILY, lake.TIME <= "2026-03-04", demand=dp.PureDP("0.3")) as claim:
                paid = ledger.ask(
                    Request(f"q{number}", 60.0, parent=claim.number), Named(claim.blocks, dp.PureDP("0.3"), "")
                )
                ledger.arm(paid.ticket(ledger.ledger_id), b"")
        except dp.BudgetExceeded:
            return "refused"
        return "spent"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(spend, range(16))) == {"spent": 3, "refused": 13}
    days = [state for state in ledger.blocks() if state.layout]
    assert len(days) == 4
    assert {(str(day.consumed), str(day.acquired)) for day in days} == {("epsilon=0.9", "epsilon=0")}


@pytest.mark.slow
def test_rows_that_are_cached_are_paid_for_again(spark: SparkSession, path: str, ledger: lake.Ledger) -> None:
    """ATTACKS 23: a cache saves reading, never a claim. Only the very release is free, and of this version alone."""
    table = opened(spark, path)
    table.df.cache().count()
    with ledger.claim(DAILY, lake.TIME == "2026-03-01", demand=dp.PureDP("0.5")) as claim:
        first = counting(table, claim).release("0.2", ledger=claim)
        again = counting(table, claim).release("0.2", ledger=claim)
        assert (first.paid_before, again.paid_before) == (False, True)
        assert first.toPandas().equals(again.toPandas())
        assert claim.spent() == dp.PureDP("0.2")
        assert not counting(table, claim).release("0.1", ledger=claim).paid_before  # another price: another release
        assert claim.remaining() == dp.PureDP("0.2")
        append(spark, path)
        assert not counting(opened(spark, path), claim).release("0.2", ledger=claim).paid_before
        with pytest.raises(dp.BudgetExceeded, match="remaining epsilon=0 of claim"):
            counting(table, claim).release("0.3", ledger=claim)
    table.df.unpersist()
    assert consumed(ledger) == dp.PureDP("0.5")
