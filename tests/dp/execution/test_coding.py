"""Codes of private keys: no two keys share one, whatever they are made of, and each is found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.execution.coding import HashedKeys, PackedKeys, key_codes
from dp.frames.frame import PrivateFrame
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from spark_mpc import dp

pytestmark = pytest.mark.slow

COLLIDING = ("TҰbޜ݃Иŝ滹_", "tůʂPKwИŝ7p,I")
"""Two keys that have one xxHash64 under every seed."""


def coded(spark: SparkSession, schema: str, keys: list[tuple[Any, ...]], *, salt: int = 7) -> dict[Any, Any]:
    rows = spark.createDataFrame(keys, schema)
    codes = key_codes(rows, rows.columns, salt)
    return {tuple(key): code for *key, code in rows.withColumn("code", codes.column()).collect()}


def test_the_pair_collides_without_sha(spark: SparkSession) -> None:
    """What the test below rests on: with xxHash64 the two would be one group, whatever the salt."""
    pair = spark.createDataFrame([(key,) for key in COLLIDING], "k string").withColumn("k", F.col("k").cast("binary"))
    for seed in (0, 42, -(2**63), 987654321):
        assert pair.select(F.xxhash64(F.lit(seed).cast("long"), "k")).distinct().count() == 1
    assert pair.distinct().count() == 2


@pytest.mark.parametrize("rest", [(), ("ward",)], ids=["one column", "two columns"])
def test_keys_that_collide_for_every_seed_are_two_groups(spark: SparkSession, rest: tuple[str, ...], tmp_path) -> None:  # type: ignore[no-untyped-def]
    columns = ["k", "l"][: 1 + len(rest)]
    rows = [(unit, *rest, key) for place, key in enumerate(COLLIDING) for unit in range(20 + 10 * place)]
    df = spark.createDataFrame(rows, f"id long, {', '.join(f'{column} string' for column in columns)}")
    frame = PrivateFrame(spark, df, PublicFacts(("id",), max_units=100), "t", "1")
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(1000, "1/2"))
    release = frame.groupBy(*columns, max_groups=2, max_rows=1).agg(dp.count()).release("900", "1/100", ledger=ledger)
    found = {tuple(key): count for *key, count in release.df.collect()}
    assert found == {(*rest, key): 20 + 10 * place for place, key in enumerate(COLLIDING)}


@pytest.mark.parametrize("salt", [0, 1, 2**63 - 1])
def test_hashed_codes_tell_colliding_keys_apart_under_every_salt(spark: SparkSession, salt: int) -> None:
    codes = coded(spark, "k string", [(key,) for key in COLLIDING], salt=salt)
    assert len(set(codes.values())) == 2
    assert min(codes.values()) >= 0


def test_bytes_that_are_no_text_are_no_key(spark: SparkSession) -> None:
    """They would be paid for, and then fail where the release is shown."""
    raw = spark.createDataFrame([(1, b"\xff\xfe"), (2, b"text"), (3, b"\xc3")], "id long, raw binary")
    # a cast makes a string of any bytes
    rows = raw.select(F.col("raw").cast("string").alias("k"), "id")
    codes = key_codes(rows.select("k"), ["k"], 7)
    assert isinstance(codes, HashedKeys)
    found = rows.withColumn("code", codes.column()).where("code IS NOT NULL")
    assert [row.id for row in found.collect()] == [2]
    (code,) = (row.code for row in found.collect())
    assert codes.keys(np.array([code])) == {code: ("text",)}


@pytest.mark.parametrize(
    ("schema", "keys"),
    [
        ("a long", [(-(2**63),), (2**63 - 1,), (0,), (-1,)]),
        ("a int", [(-(2**31),), (2**31 - 1,), (0,), (-1,)]),
        ("a int, b int", [(-1, 0), (0, -1), (-(2**31), 2**31 - 1), (2**31 - 1, -(2**31)), (0, 0)]),
        ("a boolean, b short, c byte", [(True, -1, -128), (False, -1, -128), (True, 2**15 - 1, 127), (False, 0, 0)]),
        ("a byte, b boolean, c int, d short", [(-1, True, -1, -1), (-1, False, -1, -1), (0, True, 0, -(2**15))]),
    ],
)
def test_keys_of_64_bits_are_their_own_codes(spark: SparkSession, schema: str, keys: list[tuple[Any, ...]]) -> None:
    rows = spark.createDataFrame(keys, schema)
    codes = key_codes(rows, rows.columns, 1)
    assert isinstance(codes, PackedKeys)
    found = coded(spark, schema, keys)
    assert len(set(found.values())) == len(keys)
    read = codes.keys(np.array(list(found.values())))
    assert {tuple(key): code for code, key in read.items()} == found
    assert [[type(value) for value in key] for key in read.values()] == [[type(value) for value in key] for key in keys]


@pytest.mark.parametrize("schema", ["a int, b int", "a string, b int", "a long, b long"])
def test_a_key_with_a_part_missing_has_no_code(spark: SparkSession, schema: str) -> None:
    one = "1" if "string" in schema else 1
    assert list(coded(spark, schema, [(None, 1), (one, None), (None, None)]).values()) == [None] * 3
    assert coded(spark, schema, [(one, 1)])[one, 1] is not None


def test_wider_keys_are_hashed(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, True)], "a long, b boolean")
    assert isinstance(key_codes(rows, ["a", "b"], 1), HashedKeys)
    assert isinstance(key_codes(rows, ["a"], 1), PackedKeys)
