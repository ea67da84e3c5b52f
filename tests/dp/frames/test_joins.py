"""Joins of private rows: which rows of a unit stay, whatever order they come in."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.frames.joins import join_bounded

pytestmark = pytest.mark.slow

ROWS = [("u", "a", None), ("u", None, "a"), ("u", "b", None), ("u", None, "b"), ("w", "a", None), ("w", None, "a")]
"""Spark's hash leaves NULLs out: under every salt the first two rows of u have one hash, and the next two."""

SCHEMA = "id string, x string, y string"
SALTS = range(12)


def survivors(
    spark: SparkSession, rows: list[tuple[str, str | None, str | None]], salt: int
) -> set[tuple[object, ...]]:
    """What is left of the rows at one a unit, in one partition and in the order given."""
    left = spark.createDataFrame(rows, SCHEMA).coalesce(1)
    right = spark.createDataFrame([("u", 1), ("w", 2)], "id string, z long")
    joined = join_bounded(left, right, on=["id"], unit=["id"], max_rows=(1, 1), salt=salt)
    return {tuple(row) for row in joined.collect()}


def test_rows_of_one_hash_are_told_apart_by_their_content_and_not_by_their_order(spark: SparkSession) -> None:
    hashes = spark.createDataFrame(ROWS, SCHEMA).select(F.xxhash64(F.lit(3), "id", "x", "y")).collect()
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3], "the attack"
    for salt in SALTS:
        there, back = survivors(spark, ROWS, salt), survivors(spark, ROWS[::-1], salt)
        assert there == back
        assert {row[0] for row in there} == {"u", "w"}
        assert len(there) == 2


def test_another_salt_keeps_other_rows(spark: SparkSession) -> None:
    assert len({frozenset(survivors(spark, ROWS, salt)) for salt in SALTS}) > 1
