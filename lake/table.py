"""A Delta table pinned to one version, with the public facts that its owner declares about it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.execution.sessions import is_classic
from dp.frames.declared import NullUnits, declare
from dp.frames.frame import PrivateFrame, SyntheticFrame
from dp.frames.units import Unit
from dp.planning.facts import DEFAULT_MAX_UNITS, Key, PublicFacts
from lake.blocks.block import Block
from lake.blocks.cut import Cut, HoldsBlocks
from lake.blocks.matching import hashed_columns
from lake.blocks.rules import Blocks
from lake.blocks.selectors import Selector
from lake.errors import VersionUnavailable
from lake.reading import reading_session

__all__ = ["Table"]

_PARTITION_BYTES = 8 * 2**20
"""Of compressed Parquet: about 10^6 narrow rows, enough for a task to be worth starting and few to sort at once."""
_FEWEST_PARTITIONS = 2
_MOST_PARTITIONS = 8192  # a shuffle has the square of it in blocks


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
        cut: how private blocks cut it; None where the whole budget pays.
    """

    path: str
    version: int
    data_version: str
    facts: PublicFacts
    partitions: int
    spark: SparkSession = field(repr=False)
    df: DataFrame = field(repr=False)
    cut: Cut | None = field(default=None, repr=False)

    @classmethod
    def forPath(
        cls,
        spark: SparkSession,
        path: str | os.PathLike[str],
        *,
        unit: Unit,
        version: int | None = None,
        bounds: Mapping[str, tuple[Exact, Exact]] | None = None,
        keys: Mapping[str, Sequence[Key]] | None = None,
        max_units: int = DEFAULT_MAX_UNITS,
        null_units: NullUnits = "refuse",
        group_size: int = 1,
        blocks: Blocks | None = None,
    ) -> Table:
        """Pin a Delta table and declare its public facts; reads the table's log, no row.

        The table is read through a session of its own, with settings that are fast; functions and temporary views of
        `spark` are not visible there. On Spark Connect it is a clone of `spark`, which has them, and all tables of
        `spark` share it.

        Args:
            spark: a session that reads Delta.
            path: the table.
            unit: whom to protect: column(s) of integer, string, date, boolean or binary type, nested as in "person.id",
                an expression such as `dp.normalize_id("patient_id")`, `dp.ROW`, or a `dp.window(...)`.
            version: what to pin; None pins the version that is the latest now.
            bounds: column -> (lower, upper), in the column's unit; the clamp where an aggregate names none.
            keys: column -> the public list of its group keys.
            max_units: the greatest number of units that the table may hold.
            null_units: what becomes of rows whose unit is NULL. "drop" leaves them out of every result. "refuse" takes
                only columns that the table declares NOT NULL: to look for a NULL would tell of a row.
            group_size: the guarantee holds for so many units together; 1 with blocks.
            blocks: how the table is cut into private blocks, each of which has a budget of its own in the ledger. Every
                unit must lie in one block: rows and windows of time in `Blocks.every`, ids in `Blocks.users`.

        Raises:
            InvalidArgument: a fact that the schema contradicts, blocks finer than the unit, or a version that is no
                number.
            VersionUnavailable: no Delta table there, no such version, or its files were vacuumed away.
        """
        location = os.fspath(path)
        session = reading_session(spark)
        latest = _latest_version(session, location)
        pinned = latest if version is None else _checked_version(version)
        df = _read(session, location, pinned)
        ids = None if blocks is None else hashed_columns(blocks, df.schema, unit, group_size)
        rows, facts = declare(
            df,
            unit=unit,
            bounds=bounds,
            keys=keys,
            max_units=max_units,
            null_units=null_units,
            group_size=group_size,
        )
        _check_files(session, df, location, pinned)
        detail = session.sql(f"DESCRIBE DETAIL {_quoted(location)}").select("id", "sizeInBytes").first()
        assert detail is not None
        micros = _commit_time(session, location, pinned)
        commit = hashlib.sha256(f"{detail['id']} {pinned} {micros}".encode())
        return cls(
            path=location,
            version=pinned,
            data_version=f"{detail['id']}-{commit.hexdigest()[:16]}@{pinned}",
            facts=facts,
            partitions=_suggested_partitions(detail["sizeInBytes"]),
            spark=spark,
            df=rows,
            cut=None if blocks is None else Cut(blocks, ids or (), _seconds(micros, location, pinned)),
        )

    @property
    def blocks(self) -> Blocks | None:
        """The rule that cuts the table into private blocks; None where the whole budget pays."""
        return None if self.cut is None else self.cut.rule

    def private(self, selection: Selector | HoldsBlocks | None = None) -> PrivateFrame:
        """The rows, or those of some private blocks, behind the only operations that keep them private.

        Args:
            selection: a selector over `TIME` and `USERS`, or what holds blocks, as a ledger's claim does; a claim on
                the whole gives all rows. None: of a table with blocks all that exist in this version, those whose
                window had begun when it was committed.

        Returns:
            A frame that no row outside these blocks has any effect on, and whose releases these blocks pay for.

        Raises:
            InvalidArgument: a selection on a table without blocks, one that does not fit its rule, or one of no block.
        """
        frame = PrivateFrame(
            self.spark,
            self.df,
            self.facts,
            name=self.path,
            data_version=self.data_version,
            partitions=self.partitions,
        )
        if _is_whole(selection) or (selection is None and self.cut is None):
            return frame
        if self.cut is None:
            remedy = "the table has no private blocks: declare them, as in forPath(..., blocks=Blocks.every(...))"
            raise InvalidArgument("selection", repr(selection), remedy)
        chosen = _chosen(self.cut, selection)
        return replace(
            frame,
            df=self.cut.rows(self.df, chosen),
            data_version=f"{self.data_version}/{self.cut.mark(chosen)}",
            blocks=tuple(block.name for block in chosen),
            layout=self.cut.rule.fingerprint,
        )

    def synthetic(self, rows: int = 1000, *, seed: int = 0) -> SyntheticFrame:
        """A dry run: synthetic rows of the declared schema, which cost nothing; see `PrivateFrame.synthetic`."""
        return self.private().synthetic(rows, seed=seed)


def _is_whole(selection: object) -> bool:
    """Whether a claim is on the budget that is not cut: its holder may read everything."""
    return not isinstance(selection, Selector) and getattr(selection, "blocks", None) in ((), ("whole",))


def _chosen(cut: Cut, selection: object) -> tuple[Block, ...]:
    if selection is None or isinstance(selection, Selector):
        return cut.selected(Selector() if selection is None else selection)
    names = getattr(selection, "blocks", None)
    if not isinstance(names, tuple):
        remedy = 'give a selector such as TIME >= "2026-03-01", or a claim of a ledger'
        raise InvalidArgument("selection", repr(selection), remedy)
    return cut.held(names)


def _seconds(micros: str, path: str, version: int) -> int:
    """When a version was committed, in whole seconds since 1970-01-01 UTC."""
    if not micros:
        problem = "its commit is gone from the table's history, which tells which blocks existed then"
        raise VersionUnavailable(path, version, problem, "pin a version that DESCRIBE HISTORY lists")
    return int(micros) // 10**6


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
    # this process sees the local files of a session in it; those of a Connect server only the server does
    seen = [file for file in files if is_classic(session) and urlsplit(file).scheme in ("", "file")]
    local = [unquote(urlsplit(file).path) for file in seen]
    remote = sorted(set(files) - set(seen))
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
