"""A steward who wants to be asked holds a joint run up, not forever, and costs nobody anything by saying nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake
from tests.tools.lakes import make_ledgers, write_table

pytestmark = pytest.mark.slow

NAMES = ("a", "b")
NOTHING = dp.PureDP(0)


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, lake.Table]:
    folder = tmp_path_factory.mktemp("approval")
    paths = {name: write_table(spark, folder / name, "id long", [(1,), (2,)]) for name in NAMES}
    return {name: lake.Table.forPath(spark, path, unit="id", null_units="drop") for name, path in paths.items()}


class Approving(logging.Handler):
    """A steward who reads the log and agrees."""

    def __init__(self, ledger: lake.Ledger) -> None:
        super().__init__()
        self.ledger, self.said = ledger, 0

    def emit(self, record: logging.LogRecord) -> None:
        self.said += 1
        for entry in self.ledger.unapproved():
            lake.Steward(self.ledger).approve(int(entry.claim_id))


@contextmanager
def reading_the_log(steward: Approving) -> Iterator[None]:
    logging.getLogger("lake").addHandler(steward)
    try:
        yield
    finally:
        logging.getLogger("lake").removeHandler(steward)


def count(tables: dict[str, lake.Table], ledgers: dict[str, lake.Ledger], spark: SparkSession) -> int:
    with mpc.Federation.local(NAMES).session(spark, ledger=ledgers) as study:
        frame = study.contribute("visits", tables, overlap=mpc.DISJOINT)
        release = frame.agg(dp.count().alias("n"), max_rows=1).release(epsilon="500")
    counted: float = release.df.collect()[0]["n"]
    return round(counted)


def test_a_run_waits_for_one_partys_steward(tables: dict[str, lake.Table], spark: SparkSession, tmp_path: Path) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    lake.Steward(ledgers["b"]).require_approval(NOTHING)
    steward = Approving(ledgers["b"])
    with reading_the_log(steward):
        assert count(tables, ledgers, spark) == 4
    assert steward.said == 1
    assert [ledger.spent() for ledger in ledgers.values()] == [dp.PureDP(500)] * 2


def test_a_steward_who_says_nothing_ends_the_run_before_anybody_has_paid(
    tables: dict[str, lake.Table], spark: SparkSession, tmp_path: Path
) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    lake.Steward(ledgers["a"]).require_approval(NOTHING, wait_seconds=600)  # ends sooner: the run is over
    lake.Steward(ledgers["b"]).require_approval(NOTHING, wait_seconds=0)
    began = time.monotonic()
    with pytest.raises(lake.ApprovalNeeded):
        count(tables, ledgers, spark)
    assert time.monotonic() - began < 300
    assert [ledger.remaining() == ledger.capacity for ledger in ledgers.values()] == [True, True]
    for ledger in ledgers.values():
        (entry,) = ledger.entries()
        assert entry.state == "released"
        lake.Steward(ledger).approve(int(entry.claim_id))
    assert count(tables, ledgers, spark) == 4
