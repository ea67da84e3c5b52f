"""The most frequent values on Spark: public and private groups, beside other aggregates, and again from the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from spark_mpc import dp

pytestmark = pytest.mark.slow

Rows = list[tuple[int, str, str | None]]

SURE = "1000"
"""An epsilon at which nothing that trails by a row is chosen."""


def private(spark: SparkSession, rows: Rows) -> PrivateFrame:
    df = spark.createDataFrame(rows, "id long, k string, v string")
    return PrivateFrame(spark, df, PublicFacts(("id",), max_units=10**6), "t", "1")


def rows_of(counts: dict[str, dict[str | None, int]], *, first: int = 0) -> Rows:
    """Units with one row each."""
    wanted = [(key, value) for key, values in counts.items() for value, count in values.items() for _ in range(count)]
    return [(first + unit, key, value) for unit, (key, value) in enumerate(wanted)]


FEW: dict[str, dict[str | None, int]] = {
    "a": {"x": 50, "y": 70, "z": 20, "not listed": 500, None: 900},
    "b": {"x": 30, "y": 10, "z": 90},
}
LISTED = ["x", "y", "z"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "t.ledger", capacity=dp.ApproxDP(10_000, "1/2"))


def test_public_groups_name_their_values_in_order_and_again_for_free(spark: SparkSession, ledger: Ledger) -> None:
    groups = private(spark, rows_of(FEW)).groupBy("k", keys=["a", "b"], max_groups=1, max_rows=1)
    query = groups.agg(dp.count(), dp.most_frequent("v", LISTED, 2))
    release = query.release(SURE, ledger=ledger)
    assert [tuple(row) for row in release.df.collect()] == [("a", 1540, ["y", "x"]), ("b", 130, ["z", "x"])]
    ranked = release.accuracy.where("aggregate = 'most_frequent_v' and k = 'b'").collect()
    assert [(row.label, row.value, row.stddev, row.lower) for row in ranked] == [
        ("z", 1, None, None),
        ("x", 2, None, None),
    ]
    assert "most_frequent_v" in str(release)
    assert "<td>z<br>x</td>" in release._repr_html_()
    again = query.release(SURE, ledger=ledger)
    assert again.paid_before
    assert (again.words == release.words).all()
    assert len(ledger.entries()) == 1


def test_what_is_stored_is_the_order_and_not_the_counts(spark: SparkSession, ledger: Ledger) -> None:
    groups = private(spark, rows_of(FEW)).groupBy("k", keys=["a", "b"], max_groups=1, max_rows=1)
    release = groups.agg(dp.most_frequent("v", LISTED)).release("1", ledger=ledger)
    assert sorted(release.words.tolist()) == [0, 0, 0, 0, 1, 1]


def test_contribution_bounds_hold_before_the_choice(spark: SparkSession, ledger: Ledger) -> None:
    flood: Rows = [(10**6, "a", "x")] * 1000  # one unit
    groups = private(spark, rows_of(FEW) + flood).groupBy("k", keys=["a", "b"], max_groups=1, max_rows=2)
    release = groups.agg(dp.most_frequent("v", LISTED)).release(SURE, ledger=ledger)
    assert [row[1] for row in release.df.collect()] == [["y"], ["z"]]


@pytest.mark.parametrize("other", [None, "(other)"])
def test_private_groups_name_theirs_and_the_others_together(
    spark: SparkSession, ledger: Ledger, other: str | None
) -> None:
    rare = {f"rare {i}": {"y": 1, "x": i % 2} for i in range(3)}
    rows = rows_of(FEW) + rows_of(rare, first=10**5)  # type: ignore[arg-type]
    wish = dp.private_keys(min_units=20, other=other)
    groups = private(spark, rows).groupBy("k", keys=wish, max_groups=1, max_rows=1)
    query = groups.agg(dp.most_frequent("v", LISTED, 3), dp.count_units())
    release = query.release(SURE, "1/100", ledger=ledger)
    expected = [("a", ["y", "x", "z"], 1540), ("b", ["z", "x", "y"], 130)]
    if other is not None:
        expected.append(("(other)", ["y", "x", "z"], 4))
    assert [tuple(row) for row in release.df.collect()] == expected
    assert query.release(SURE, "1/100", ledger=ledger).df.collect() == release.df.collect()


def test_a_rollup_refuses_choices(spark: SparkSession) -> None:
    groups = private(spark, rows_of(FEW)).rollup("k", keys=["a", "b"], max_groups=1, max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="totals"):
        groups.agg(dp.most_frequent("v", LISTED)).explain("1")
