"""Operations on the parties' rows together: each party does the same, and what they do is compared as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake
from tests.tools.lakes import make_ledgers, write_table

pytestmark = pytest.mark.slow

NAMES = ("a", "b")
SCHEMA = "id long, ward string, cost int, items array<int>"
ROWS = {"a": [(1, "x", 4, [1, 2]), (2, "y", 6, [3])], "b": [(3, "x", 8, [1, 5, 9]), (4, "z", 8, [2])]}


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, lake.Table]:
    folder = tmp_path_factory.mktemp("steps")
    return {
        name: lake.Table.forPath(
            spark, write_table(spark, folder / name, SCHEMA, ROWS[name]), unit="id", null_units="drop", max_units=100
        )
        for name in NAMES
    }


@pytest.fixture(scope="module")
def wards(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([("x", "north"), ("y", "south")], "ward string, region string")


def test_every_party_takes_every_step(
    tables: dict[str, lake.Table], wards: DataFrame, spark: SparkSession, tmp_path: Path
) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    with mpc.Federation.local(NAMES).session(spark, ledger=ledgers) as study:
        frame = study.contribute("visits", tables, overlap=mpc.DISJOINT)
        steps = (
            frame.where("cost > 1")
            .withColumn("half", "cost / 2")
            .withColumnRenamed("half", "h")
            .join(wards, on="ward")
            .explode("items", max_items=2, alias="item")
            .drop("items")
            .select("h", "region", "item")
        )
        assert len({frame.steps for frame in steps.frames.values()}) == 1
        query = steps.groupBy("region", keys=["north", "south"], max_groups=1, max_rows=2).agg(
            dp.count().alias("n"), dp.sum("h", 0, 4).alias("h")
        )
        release = query.release(epsilon="500")
    rows = {row["region"]: (round(row["n"]), round(row["h"])) for row in release.df.collect()}
    assert rows == {"north": (4, 2 * 2 + 2 * 4), "south": (1, 3)}
