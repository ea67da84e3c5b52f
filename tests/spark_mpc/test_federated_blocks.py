"""Several lakes that are cut into days: each party's ledger pays of its own blocks, and no other day is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake
from tests.tools.lakes import make_ledgers, write_table

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "c"]
DAYS = lake.Blocks.every("1 day", "day", since="2026-03-01", name="days")
FIRST_TWO = lake.TIME < "2026-03-03"
PRICE = "10"  # so much that the noise of three parties is a few rows


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, lake.Table]:
    """A hundred rows a day from March 1st to 3rd, at each party."""
    folder = tmp_path_factory.mktemp("lakes")
    rows = [(100 * day + i, date(2026, 3, day)) for day in (1, 2, 3) for i in range(100)]
    paths = {name: write_table(spark, folder / name, "id LONG, day DATE", rows) for name in NAMES}
    return {name: lake.Table.forPath(spark, path, unit=dp.ROW, blocks=DAYS) for name, path in paths.items()}


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[dict[str, lake.Ledger]]:
    made = make_ledgers(tmp_path, NAMES, dp.PureDP(100))
    for ledger in made.values():
        lake.Steward(ledger).lay_out(DAYS, capacity=dp.PureDP(15))
    yield made
    for ledger in made.values():
        ledger.close()


def count(
    spark: SparkSession, tables: Mapping[str, lake.Table], ledgers: Mapping[str, lake.Ledger], blocks: lake.Selector
) -> float:
    with mpc.Federation.local(NAMES).session(spark, ledger=ledgers) as study:
        frame = study.contribute("visits", tables, blocks=blocks)
        release = frame.agg(dp.count().alias("n")).release(epsilon=PRICE)
        return float(release.df.first()["n"])  # type: ignore[index]


def consumed(ledger: lake.Ledger) -> dict[str, dp.Budget]:
    return {state.name: state.consumed for state in ledger.blocks() if state.layout}


def test_each_party_pays_on_the_blocks_it_reads(
    spark: SparkSession, tables: dict[str, lake.Table], ledgers: dict[str, lake.Ledger]
) -> None:
    assert abs(count(spark, tables, ledgers, FIRST_TWO) - 600) < 30  # of 900 rows
    for ledger in ledgers.values():
        assert consumed(ledger) == {"days/2026-03-01": dp.PureDP(10), "days/2026-03-02": dp.PureDP(10)}
        assert ledger.spent() == dp.PureDP(15)  # the layout, and nothing else


def test_the_same_days_are_free_and_other_days_are_not(
    spark: SparkSession, tables: dict[str, lake.Table], ledgers: dict[str, lake.Ledger]
) -> None:
    first = count(spark, tables, ledgers, FIRST_TWO)
    assert count(spark, tables, ledgers, FIRST_TWO) == first
    count(spark, tables, ledgers, lake.TIME == "2026-03-03")
    assert set(consumed(ledgers["a"]).values()) == {dp.PureDP(10)}
    assert len(consumed(ledgers["a"])) == 3


def test_a_used_up_day_at_one_party_stops_the_run_at_all(
    spark: SparkSession, tables: dict[str, lake.Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with (
        ledgers["b"].claim(DAYS, lake.TIME == "2026-03-02", demand=dp.PureDP("5.5")),
        pytest.raises(dp.SparkMpcError, match=r"remaining epsilon=9\.5.*days/2026-03-02"),
    ):
        count(spark, tables, ledgers, FIRST_TWO)
    assert set(consumed(ledgers["b"]).values()) == {dp.PureDP(0)}
    for name in "ac":  # whoever hears of the refusal early has not made the days yet
        assert set(consumed(ledgers[name]).values()) <= {dp.PureDP(0)}


def test_a_claim_at_each_party_pays_for_a_joint_query(
    spark: SparkSession, tables: dict[str, lake.Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with ExitStack() as stack:
        claims = {
            name: stack.enter_context(ledger.claim(DAYS, FIRST_TWO, demand=dp.PureDP(12)))
            for name, ledger in ledgers.items()
        }
        with mpc.Federation.local(NAMES).session(spark, ledger=claims) as study:
            frame = study.contribute("visits", tables, blocks=claims["a"])
            release = frame.agg(dp.count().alias("n")).release(epsilon=PRICE)
        assert abs(float(release.df.first()["n"]) - 600) < 30  # type: ignore[index]
        assert [claim.remaining() for claim in claims.values()] == [dp.PureDP(2)] * 3
    for ledger in ledgers.values():
        assert set(consumed(ledger).values()) == {dp.PureDP(10)}
        assert not any(state.acquired.amounts["epsilon"] for state in ledger.blocks())
