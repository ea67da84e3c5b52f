"""What Privacy on Beam's and PipelineDP's parameters are called here does what they do: one test a row of docs/peers.md.

Everything goes through the public face, on one Delta table. Answers are compared with exact ones that are written down
here, at an epsilon of a million. The bounds of these queries are so small that noise has a scale below 0.01 of what is
compared, so that a test fails by chance with a probability of less than e^-50; reals are rounded when they are encoded,
and agree to `CLOSE`. Private keys are asked for at `SURE`: two units are enough to be named, but for one in e^50.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import exp, sqrt
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lake.ledger import Ledger
from spark_mpc import dp, lake
from tests.tools.lakes import write_table

slow = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "docs" / "peers.md"
HERE = "../tests/e2e/test_conformance.py"

UNITS, WARDS = 30, ["a", "b", "c", "d"]
VALUES = (1, 2, 9)  # the rows of every unit in every ward
ROWS = UNITS * len(VALUES)  # of every ward
KINDS = {"big": 15, "middle": 11, "few": 3, "one": 1}  # the units of each; every unit is in one

EPSILON = "1000000"
SURE = {"epsilon": "1000", "delta": "1e-9"}
CLOSE = 1e-4

SCHEMA = (
    "id long, person struct<name: string, floor: int>, house int, door int, ward string, kind string, "
    "v int, visit long, x double, y double, tags array<string>"
)


def kind_of(unit: int) -> str:
    kinds = [kind for kind, units in KINDS.items() for _ in range(units)]
    return kinds[unit]


def visits() -> Iterator[tuple[object, ...]]:
    """Every unit has the rows `VALUES` in every ward; ten names, fifteen houses of two doors each."""
    for unit in range(UNITS):
        for w, ward in enumerate(WARDS):
            for i, v in enumerate(VALUES):
                visit = (unit * len(WARDS) + w) * len(VALUES) + i
                person = (f"name {unit % 10}", unit % 3)
                tags = ["first", "second", "third"]
                yield unit, person, unit // 2, unit % 2, ward, kind_of(unit), v, visit, 3.0, 4.0, tags


@pytest.fixture(scope="module")
def path(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(spark, tmp_path_factory.mktemp("lake") / "visits", SCHEMA, list(visits()))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("ledgers")
    with Ledger.create(folder / "ledger.sqlite", capacity=dp.ApproxDP(10**9, "1/10")) as created:
        yield created


def table_of(spark: SparkSession, path: str, unit: Any = "id", **declared: Any) -> lake.Table:
    return lake.Table.forPath(spark, path, unit=unit, null_units="drop", max_units=10_000, **declared)


@pytest.fixture(scope="module")
def frame(spark: SparkSession, path: str) -> dp.PrivateFrame:
    return table_of(spark, path).private()


def values(release: dp.Release, column: str = "count", by: Sequence[str] = ("ward",)) -> dict[Any, Any]:
    """A column of the answer, by key."""
    rows = release.df.collect()
    return {row[by[0]] if len(by) == 1 else tuple(row[name] for name in by): row[column] for row in rows}


def exactly(value: float) -> Any:
    return pytest.approx(value, abs=CLOSE)


@pytest.fixture(scope="module")
def everything(frame: dp.PrivateFrame, ledger: Ledger) -> dict[str, Any]:
    """One release of all aggregates, with bounds that drop no row, as it is in each ward."""
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(
        dp.count(),
        dp.count_units(),
        dp.count_distinct("visit"),
        dp.sum("v", 0, 5),
        dp.sum("v", 0, 9).alias("unclamped"),
        dp.unit_sum("v", 0, 10),
        dp.mean("v", 0, 5),
        dp.variance("v", 0, 5),
        dp.stddev("v", 0, 5),
        dp.quantiles("v", ["0.1", "0.5", "0.9"], 0, 10),
        dp.median("v", 0, 10),
        dp.min("v", 0, 10),
        dp.max("v", 0, 10),
        dp.vector_sum(["x", "y"], bound=4, norm="l1").alias("l1"),
        dp.vector_sum(["x", "y"], bound=4, norm="l2").alias("l2"),
        dp.vector_sum(["x", "y"], bound=3, norm="linf").alias("linf"),
        dp.most_frequent("kind", list(KINDS), k=2),
        dp.truncated_share(),
    )
    rows = [row.asDict() for row in query.release(EPSILON, ledger=ledger).df.orderBy("ward").collect()]
    assert [row.pop("ward") for row in rows] == WARDS
    assert all(row == rows[0] for row in rows[1:]), "the wards are alike"
    found: dict[str, Any] = rows[0]
    return found
