"""spark-submit ships the packages as a zip to a standalone cluster of one master and one worker, on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from examples.health_insurance import data
from examples.support.lakes import write_table
from spark_mpc import dp, lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(dp.__file__).parents[1]
SPARK_HOME = Path(pyspark.__file__).parent
CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.executor.memory": "512m",
    "spark.ui.enabled": "false",
}


@contextmanager
def daemon(command: list[str], environment: Mapping[str, str], ready: str) -> Iterator[str]:
    """A process of the cluster, from the line in which it says that it is ready (whose first group it gives)."""
    with subprocess.Popen(
        [str(SPARK_HOME / "bin" / "spark-class"), *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = next(found.group(1) for line in process.stdout if (found := re.search(ready, line)))
            yield said
        finally:
            process.terminate()  # SIGTERM; what is left to say is read and dropped
            process.communicate(timeout=60)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The URL of a standalone master with one worker, and the environment for whoever submits to it."""
    environment = {**os.environ, "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}
    environment |= {"PYSPARK_PYTHON": sys.executable, "SPARK_WORKER_DIR": str(tmp_path / "worker")}
    deploy = "org.apache.spark.deploy"
    where = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    with daemon([f"{deploy}.master.Master", *where], environment, r"Starting Spark master at (spark://\S+)") as url:
        worker = [f"{deploy}.worker.Worker", *where, "--cores", "1", "--memory", "1g", url]
        with daemon(worker, environment, r"(Successfully registered)"):
            yield url, environment


def test_the_zipped_packages_answer_on_a_standalone_cluster(
    spark: SparkSession, cluster: tuple[str, Mapping[str, str]], tmp_path: Path
) -> None:
    url, environment = cluster
    claims, ledger, packages = tmp_path / "claims", tmp_path / "ledger.sqlite", tmp_path / "packages.zip"
    write_table(spark, lambda: data.read([1]), data.SCHEMA, claims)
    lake.Ledger.create(ledger, capacity=dp.PureDP(1))
    with zipfile.ZipFile(packages, "w") as archive:
        for module in (file for name in ("dp", "lake", "spark_mpc") for file in (ROOT / name).rglob("*.py")):
            archive.write(module, module.relative_to(ROOT))
    submit = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", url, "--py-files", str(packages)]
    submit += ["--jars", ",".join(map(str, lake.resolve_jars()))]
    submit += [part for name, value in CONF.items() for part in ("--conf", f"{name}={value}")]
    done = subprocess.run(
        [*submit, str(ROOT / "examples" / "one_lake.py"), str(claims), str(ledger)],
        env=environment,
        cwd=tmp_path,  # not the checkout: what is imported comes from the zip
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "packages.zip" in done.stdout
    assert done.stdout.count("person_years") >= 5
    assert lake.Ledger.open(ledger).spent() == dp.PureDP(1)
