"""A Spark Connect server of the pip-installed pyspark, on loopback, for as long as tests need it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import pyspark

from lake.sessions import require_java, resolve_jars

__all__ = ["connect_server", "python_without_project", "zipped_packages"]

_ROOT = Path(__file__).resolve().parents[2]

_CONF = {
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "0",  # any free one: the server says which
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # short jobs on two cores
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}
_READY = re.compile(r"Spark Connect server started at: \S*?:(\d+)")
_START_SECONDS = 300.0
_STOP_SECONDS = 30.0
_LINES_SHOWN = 40


def zipped_packages(path: Path) -> Path:
    """The packages that the server's Python workers import, as a client ships them with `addArtifacts`."""
    with zipfile.ZipFile(path, "w") as archive:
        for module in (file for name in ("dp", "lake", "spark_mpc") for file in (_ROOT / name).rglob("*.py")):
            archive.write(module, module.relative_to(_ROOT))
    return path


def python_without_project(path: Path) -> Path:
    """A Python as a server of others has it: with what this project depends on, without the project."""
    packages = sysconfig.get_path("purelib")  # of which -S reads no .pth file, such as that of an editable install
    path.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return path


@contextmanager
def connect_server(log: Path, python: Path) -> Iterator[str]:
    """Start a server with Delta, give its URL once it serves, and stop it at the end.

    Args:
        log: where everything that the server says is kept.
        python: what its Python workers run.

    Raises:
        AssertionError: it ended, or said nothing of a port, before it served; the message ends with its last lines.
    """
    require_java()
    environment = {**os.environ, "SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_LOCAL_IP": "127.0.0.1"}
    environment |= {"PYSPARK_PYTHON": str(python)}
    for name in ("SPARK_REMOTE", "PYTHONPATH"):
        environment.pop(name, None)
    with subprocess.Popen(
        _command(log.parent),
        env=environment,
        cwd=log.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        port: SimpleQueue[str | None] = SimpleQueue()
        reader = threading.Thread(target=_keep, args=(process.stdout, log, port), daemon=True)
        reader.start()
        try:
            yield f"sc://127.0.0.1:{_awaited(port, log)}"
        finally:
            _end(process)
            reader.join()


def _command(folder: Path) -> list[str]:
    submit = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", "local[2]"]
    submit += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    submit += ["--jars", ",".join(map(str, resolve_jars()))]
    conf = {**_CONF, "spark.sql.warehouse.dir": str(folder / "warehouse")}
    submit += [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    return [*submit, "spark-internal"]


def _keep(said: IO[str], log: Path, port: SimpleQueue[str | None]) -> None:
    """Write down what the server says until it ends, and pass its port on."""
    with log.open("w") as kept:
        for line in said:
            kept.write(line)
            kept.flush()
            if found := _READY.search(line):
                port.put(found.group(1))
    port.put(None)


def _awaited(port: SimpleQueue[str | None], log: Path) -> str:
    with suppress(Empty):
        if (found := port.get(timeout=_START_SECONDS)) is not None:
            return found
    raise AssertionError(f"no Connect server; {log} ends with\n" + "\n".join(_last_lines(log)))


def _last_lines(log: Path) -> list[str]:
    return log.read_text().splitlines()[-_LINES_SHOWN:]


def _end(process: subprocess.Popen[str]) -> None:
    """Ask the server to stop, then kill what is left of its process group: its Python workers, too."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):  # nothing of the group is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
