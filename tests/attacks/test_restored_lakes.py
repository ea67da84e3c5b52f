"""ATTACKS 21 and 23: data that is set back gives no budget back, and is never answered from another version's release.

The ledger lies outside the lake: whatever becomes of tables, by RESTORE, time travel or a hand in the files, what was
spent is spent.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dp.accounting.budget import PureDP
from lake.ledger import Ledger
from spark_mpc import dp, lake
from tests.tools.lakes import write_table

pytestmark = pytest.mark.slow

SCHEMA = "id long, v int"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "claims.ledger", capacity=PureDP(100))


@pytest.fixture
def path(spark: SparkSession, tmp_path: Path) -> str:
    return write_table(spark, tmp_path / "visits", SCHEMA, [(number, 1) for number in range(20)])


@pytest.fixture
def ask(spark: SparkSession, path: str, ledger: Ledger) -> Callable[..., dp.Release]:
    """The same question of the table as it is, or of one of its versions."""

    def count(version: int | None = None) -> dp.Release:
        before = ledger.spent()
        table = lake.Table.forPath(spark, path, unit="id", null_units="drop", version=version)
        release = table.private().agg(dp.count(), max_rows=1).release(epsilon="1", ledger=ledger)
        assert ledger.spent() == (before if release.paid_before else before + PureDP(1))
        return release

    return count


def test_restore_is_a_new_version_and_a_new_debit(
    spark: SparkSession, path: str, ledger: Ledger, ask: Callable[..., dp.Release]
) -> None:
    first = ask()
    write_table(spark, Path(path), SCHEMA, [(100 + number, 1) for number in range(500)], mode="append")
    second = ask()
    spark.sql(f"RESTORE TABLE delta.`{path}` TO VERSION AS OF 0").collect()
    assert ledger.spent() == PureDP(2)
    restored = ask()
    assert [release.paid_before for release in (first, second, restored)] == [False] * 3
    assert ledger.spent() == PureDP(3)
    assert len({release.run_id for release in (first, second, restored)}) == 3
    assert len({entry.data_version for entry in ledger.entries()}) == 3


def test_an_earlier_version_is_answered_from_its_own_release(
    spark: SparkSession, path: str, ask: Callable[..., dp.Release]
) -> None:
    first = ask()
    write_table(spark, Path(path), SCHEMA, [(100 + number, 1) for number in range(500)], mode="append")
    second = ask()
    for version, own in ((0, first), (1, second)):
        again = ask(version)
        assert again.paid_before
        assert again.run_id == own.run_id
        assert again.answers.values.equals(own.answers.values)


def test_files_that_are_set_back_and_grow_another_way_are_another_version(
    spark: SparkSession, path: str, tmp_path: Path, ask: Callable[..., dp.Release]
) -> None:
    """The whole folder is put back by hand, and version 1 is written again: with other rows, under the same number."""
    shutil.copytree(path, tmp_path / "backup")
    write_table(spark, Path(path), SCHEMA, [(100 + number, 1) for number in range(500)], mode="append")
    one_way = ask()
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "backup", path)
    spark.catalog.clearCache()
    write_table(spark, Path(path), SCHEMA, [(100, 1)], mode="append")
    another_way = ask()
    assert not another_way.paid_before
    assert another_way.run_id != one_way.run_id
    assert ask().run_id == another_way.run_id


def test_a_lake_that_is_gone_gives_nothing_back(path: str, ledger: Ledger, ask: Callable[..., dp.Release]) -> None:
    ask()
    shutil.rmtree(path)
    with pytest.raises(lake.VersionUnavailable):
        ask()
    assert ledger.spent() == PureDP(1)
    assert ledger.verify() == ledger.head()
