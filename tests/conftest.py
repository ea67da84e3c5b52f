"""Fixtures that several packages' tests share: one Spark session, one PostgreSQL server, and small Delta tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lake.sessions import delta_session
from tests.tools.ledgers import clock, new_place
from tests.tools.postgres import postgres

__all__ = ["DeltaWriter", "clock", "new_place", "postgres", "spark", "write_delta"]

DeltaWriter = Callable[..., str]

_LONG_FILES = {"connect", "e2e", "statistical"}  # their folders


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what failed at once: a run that is cut off has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        last = report.longreprtext.strip().rpartition("\n")[2]
        print(f"\n{report.when} failed: {report.nodeid}: {last[:300]}", flush=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes: begun last, one of them would keep one process busy, the others idle."""
    items.sort(key=lambda item: _LONG_FILES.isdisjoint(item.nodeid.split("/")))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One local Spark with Delta for the whole run; small enough for two cores."""
    conf = {
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # short jobs on two cores
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",  # tests vacuum at once
    }
    session = delta_session("spark-mpc-tests", master="local[2]", conf=conf)
    yield session
    session.stop()


@pytest.fixture
def write_delta(spark: SparkSession, tmp_path: Path) -> DeltaWriter:
    """Write rows as a Delta table of this test, or append them to it; gives its path.

    write_delta("visits", "id long, ward string", [(1, "a")], mode="overwrite")
    """

    def write(name: str, schema: str, rows: Iterable[tuple[object, ...]], *, mode: str = "append") -> str:
        path = str(tmp_path / name)
        spark.createDataFrame(list(rows), schema).coalesce(1).write.format("delta").mode(mode).save(path)
        return path

    return write
