"""A Delta table pinned to one version, with the public facts that its owner declares about it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.execution.bounding import ARROW_BATCH_ROWS
from dp.frames.frame import PrivateFrame
from dp.planning.facts import DEFAULT_MAX_UNITS, Key, PublicFacts
from lake.declared import declared_facts
from lake.errors import VersionUnavailable

__all__ = ["Table"]

_PARTITION_BYTES = 32 * 2**20
"""Of compressed Parquet, which is a few times as much in memory: enough for a task to be worth starting."""
_FEWEST_PARTITIONS = 2
_MOST_PARTITIONS = 8192  # a shuffle has the square of it in blocks

# With these an impossible value is NULL and integers wrap, where ANSI mode raises: an error that depends on a row
# would tell neighbouring tables apart.
_TOTAL = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    # the text of a condition is what runs, and means the same everywhere
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.caseSensitive": "false",
}
_FAST = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS)}
_INHERITED = ("spark.sql.session.timeZone", "spark.sql.shuffle.partitions")


@dataclass(frozen=True)
class Table:
    """One version of a Delta table and its declared facts; made by `Table.forPath`.

    Attributes:
        path: where the table lies.
        version: the pinned version.
        data_version: "<table id>-<hash of the commit's time>@<version>"; another table at the same path has another
            id, and a copy that grew apart has other commits.
        facts: what the owner declared, checked against the schema.
        partitions: a sensible number of shuffle partitions, from the table's size.
        spark: the caller's session, in which releases appear.
        df: the rows. Private: nothing may leave it except through `private`.
    """

    path: str
    version: int
    data_version: str
    facts: PublicFacts
    partitions: int
    spark: SparkSession = field(repr=False)
    df: DataFrame = field(repr=False)

    @classmethod
    def forPath(
        cls,
        spark: SparkSession,
        path: str | os.PathLike[str],
        *,
        unit: str | Sequence[str],
        version: int | None = None,
        bounds: Mapping[str, tuple[Exact, Exact]] | None = None,
        keys: Mapping[str, Sequence[Key]] | None = None,
        max_units: int = DEFAULT_MAX_UNITS,
    ) -> Table:
        """Pin a Delta table and declare its public facts; reads the table's log, no row.

        The table is read through a session of its own in which arithmetic, comparisons and casts to numbers, strings,
        dates and timestamps never raise (ANSI off); some functions still do, such as `to_number` or `raise_error`.
        Functions and temporary views of `spark` are not visible there.

        Args:
            spark: a session that reads Delta.
            path: the table.
            unit: the columns that together identify the privacy unit, of integer, string, date, boolean or binary type.
            version: what to pin; None pins the version that is the latest now.
            bounds: column -> (lower, upper), in the column's unit; the clamp where an aggregate names none.
            keys: column -> the public list of its group keys.
            max_units: the greatest number of units that the table may hold.

        Raises:
            InvalidArgument: a fact that the schema contradicts, or a version that is no number.
            VersionUnavailable: no Delta table there, no such version, or its files were vacuumed away.
        """
        location = os.fspath(path)
        session = _total_session(spark)
        latest = _latest_version(session, location)
        pinned = latest if version is None else _checked_version(version)
        df = _read(session, location, pinned)
        facts = declared_facts(df.schema, unit=unit, bounds=bounds or {}, keys=keys or {}, max_units=max_units)
        _check_files(session, df, location, pinned)
        detail = session.sql(f"DESCRIBE DETAIL {_quoted(location)}").select("id", "sizeInBytes").first()
        assert detail is not None
        commit = hashlib.sha256(f"{detail['id']} {pinned} {_commit_time(session, location, pinned)}".encode())
        return cls(
            path=location,
            version=pinned,
            data_version=f"{detail['id']}-{commit.hexdigest()[:16]}@{pinned}",
            facts=facts,
            partitions=_suggested_partitions(detail["sizeInBytes"]),
            spark=spark,
            df=df,
        )

    def private(self) -> PrivateFrame:
        """The rows behind the only operations that keep them private."""
        return PrivateFrame(
            self.spark,
            self.df,
            self.facts,
            name=self.path,
            data_version=self.data_version,
            partitions=self.partitions,
        )


def _total_session(spark: SparkSession) -> SparkSession:
    """A session of the same application in which a row's value cannot raise."""
    session = spark.newSession()
    for name in _INHERITED:
        session.conf.set(name, spark.conf.get(name) or "")
    for row in spark.sql("SET").collect():  # what opens the caller's storage, such as credentials set at run time
        if row["key"].startswith("fs."):
            session.conf.set(row["key"], row["value"])
    for name, value in {**_TOTAL, **_FAST}.items():
        session.conf.set(name, value)
    return session


def _checked_version(version: int) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise InvalidArgument("version", version, "give the number of a version, or None for the latest")
    return version


def _commit_time(session: SparkSession, path: str, version: int) -> str:
    """When the version was committed. Copies of a table keep its id, and grow apart under equal version numbers."""
    history = session.sql(f"DESCRIBE HISTORY {_quoted(path)}").where(f"version = {version}")
    commit = history.selectExpr("unix_micros(timestamp) AS micros").first()
    return "" if commit is None else str(commit["micros"])


def _latest_version(session: SparkSession, path: str) -> int:
    try:
        latest = session.sql(f"DESCRIBE HISTORY {_quoted(path)} LIMIT 1").select("version").first()
    except PySparkException as error:
        problem = f"is not a Delta table that can be read ({error.getCondition()})"
        raise VersionUnavailable(path, None, problem, "check the path and the permissions") from error
    assert latest is not None
    return int(latest["version"])


def _read(session: SparkSession, path: str, version: int) -> DataFrame:
    try:
        df = session.read.format("delta").option("versionAsOf", version).load(path)
        _ = df.schema  # where a session analyses lazily, it does so here
    except PySparkException as error:
        problem = f"there is no such version, or its log was cleaned up ({error.getCondition()})"
        remedy = "pin one of the versions that DESCRIBE HISTORY lists, or none for the latest"
        raise VersionUnavailable(path, version, problem, remedy) from error
    return df


def _check_files(session: SparkSession, df: DataFrame, path: str, version: int) -> None:
    """Every data file of the version is still there; looks at names, reads none."""
    files = df.inputFiles()
    local = [unquote(urlsplit(file).path) for file in files if urlsplit(file).scheme in ("", "file")]
    remote = [file for file in files if urlsplit(file).scheme not in ("", "file")]
    if not all(os.path.exists(file) for file in local) or not _listed(session, remote):  # noqa: PTH110  Path() is ten times slower on many files
        remedy = "pin a later version, and keep versions that are in use out of VACUUM's reach"
        raise VersionUnavailable(path, version, "some of its data files are gone (VACUUM)", remedy)


def _listed(session: SparkSession, files: list[str]) -> bool:
    """Whether object storage still lists every file."""
    if not files:
        return True
    literal = [_glob_escaped(unquote(file)) for file in files]
    try:
        session.read.format("binaryFile").load(literal).inputFiles()
    except PySparkException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
        return False
    return True


def _glob_escaped(path: str) -> str:
    return "".join("\\" + character if character in "\\*?[]{}" else character for character in path)


def _suggested_partitions(size_bytes: int) -> int:
    wanted = math.ceil(size_bytes / _PARTITION_BYTES)
    return min(max(wanted, _FEWEST_PARTITIONS), _MOST_PARTITIONS)


def _quoted(path: str) -> str:
    return "delta.`" + path.replace("`", "``") + "`"
