"""A Spark session with Delta on this machine: the right Java, the two jars that Delta needs, a quiet local default.

Clusters bring their own session; nothing else in this package depends on how a session was made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from lake.errors import SessionError

__all__ = ["SUPPORTED_JAVA", "delta_session", "require_java", "resolve_jars"]

SUPPORTED_JAVA = (17, 21)
"""Java releases that Spark 4.2 runs on; this project is tested on the first."""

# Delta needs two jars at run time. Its published metadata names dozens more, which Spark has already or never loads.
_EXCLUDED = (
    "io.unitycatalog:*",
    "io.delta:delta-kernel-*",
    "org.antlr:*",
    "org.slf4j:*",
    "com.fasterxml.jackson.core:*",
    "org.apache.hadoop:*",
    "org.apache.spark:*",
    "org.scala-lang:*",
)
_SCALA = "2.13"
_JAVA_SECONDS = 60
_RESOLVE_SECONDS = 900


def delta_session(app_name: str, *, master: str = "local[*]", conf: Mapping[str, str] | None = None) -> SparkSession:
    """Start, or find, a Spark session that reads and writes Delta tables.

    Args:
        app_name: shown in Spark's logs.
        master: a Spark master URL.
        conf: settings that win over this function's own; jars named in "spark.jars" are added to Delta's.

    Raises:
        SessionError: Java is missing or too old, or Delta's jars could not be resolved.
    """
    require_java()
    given = dict(conf or {})
    jars = [str(jar) for jar in resolve_jars()]
    jars += [jar for jar in given.pop("spark.jars", "").split(",") if jar]
    builder = SparkSession.builder.appName(app_name).master(master).config("spark.jars", ",".join(jars))
    if master.startswith("local"):
        # Workers of a local master are children of this process and need its packages, not those of PATH's python3.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    for name, value in {**_defaults(master), **given}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _defaults(master: str) -> dict[str, str]:
    local = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # With the default of 10,000 tasks VACUUM on a small table takes a minute.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    }
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # With the default of 50 partitions every Delta action on a small table takes seconds.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.shuffle.partitions": "8",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        **(local if master.startswith("local") else {}),
    }


def require_java() -> int:
    """Check, before Spark starts, that the Java which Spark will use is one that it supports.

    Returns:
        The release, such as 17.

    Raises:
        SessionError: no Java, or an unsupported one; names what was found and what to install.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        raise SessionError(f"no Java at {java or 'PATH'} (JAVA_HOME={home or 'unset'}): {_java_remedy()}")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_JAVA_SECONDS, check=False)  # noqa: S603  the java that Spark itself is about to run
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SessionError(f"{java} does not run ({type(error).__name__}): {_java_remedy()}") from error
    release = _java_release(done.stderr + done.stdout)
    if release not in SUPPORTED_JAVA:
        raise SessionError(f"{java} is Java {release or 'of an unknown version'}: {_java_remedy()}")
    return release


def _java_release(banner: str) -> int | None:
    """The release in what `java -version` prints: "17.0.15" is 17, the old "1.8.0_392" is 8."""
    found = re.search(r'version "(?:1\.)?(\d+)', banner)
    return int(found.group(1)) if found else None


def _java_remedy() -> str:
    releases = " or ".join(str(release) for release in SUPPORTED_JAVA)
    return (
        f"install a Java {releases} runtime (such as openjdk-{SUPPORTED_JAVA[0]}-jre-headless) and set JAVA_HOME to it"
    )


def resolve_jars() -> tuple[Path, ...]:
    """The jars of the installed delta-spark, fetched by Spark's own resolver where the cache has none yet.

    The first call needs a Maven repository and takes some seconds; later calls only look. Calls at once are safe:
    each resolves into a directory of its own, and the first to finish renames it into place.

    Raises:
        SessionError: the resolver failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spark-mpc"
    target = cache / f"delta-spark_{_spark_minor()}_{_SCALA}-{version('delta-spark')}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _run_resolver(Path(scratch))
            try:
                (Path(scratch) / "jars").rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    return tuple(sorted(target.glob("*.jar")))


def _run_resolver(ivy: Path) -> None:
    """Let spark-submit resolve into `ivy`/jars, for an application that does nothing."""
    application = ivy / "nothing.py"
    application.write_text("")
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    package = f"io.delta:delta-spark_{_spark_minor()}_{_SCALA}:{version('delta-spark')}"
    command = [str(submit), "--master", "local[1]", "--packages", package, "--exclude-packages", ",".join(_EXCLUDED)]
    command += ["--conf", f"spark.jars.ivy={ivy}", str(application)]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(  # noqa: S603  the spark-submit of the installed pyspark
        command, env=environment, capture_output=True, text=True, timeout=_RESOLVE_SECONDS, check=False
    )
    if done.returncode != 0 or not any((ivy / "jars").glob("*delta-spark*.jar")):
        reason = next((line.strip() for line in done.stderr.splitlines() if "Exception" in line), "no jar was written")
        raise SessionError(f"{package} could not be resolved ({reason}): check the network and Maven's settings")


def _spark_minor() -> str:
    return ".".join(pyspark.__version__.split(".")[:2])
