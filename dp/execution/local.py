"""What one owner does alone: rows to bounded, aggregated cells, on Spark; and its noise, block by block."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.fs import FileSystem
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.execution.blocks import (
    BLOCK_WORDS,
    BlockFunction,
    block_range,
    collect_blocks,
    dense_blocks,
    dense_vector,
    map_blocks,
    n_blocks,
    write_blocks,
)
from dp.execution.bounding import bounded_cells
from dp.execution.sessions import runs_here
from dp.noise.entropy import RandomSource, os_random
from dp.planning.inputs import Input
from dp.planning.names import quoted
from dp.planning.plan import Plan
from dp.planning.query import Query

__all__ = [
    "GROUP",
    "LONG_CELLS",
    "AddNoise",
    "BlockFunction",
    "Vector",
    "encoded_rows",
    "input_names",
    "key_columns",
    "local_cells",
    "staging_for",
    "unit_columns",
]

GROUP = "__group"
"""The column of group codes."""

LONG_CELLS = 8 * BLOCK_WORDS
"""Vectors of more cells are noised and masked on executors; shorter ones on the driver, by the same functions."""


@dataclass(frozen=True)
class AddNoise:
    """One noise party's fresh noise, added to a block; every call draws anew, on whichever machine it runs.

    Attributes:
        plan: the calibrated plan.
        random: the operating system's entropy, but for tests.
    """

    plan: Plan
    random: RandomSource = os_random

    def __call__(self, block: int, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        start, stop = block_range(self.plan.length, block)
        return words + self.plan.draw_noise(start, stop, self.random)


@dataclass(frozen=True)
class Vector:
    """A query's vector of words: in the driver's memory, or as blocks on executors where it is long.

    Attributes:
        length: number of words.
        words: uint64 words of shape (length,), or None.
        blocks: DataFrame of (block, words), or None; each action reads what was staged, never recomputes noise.
    """

    length: int
    words: NDArray[np.uint64] | None = None
    blocks: DataFrame | None = None

    @classmethod
    def of_cells(cls, cells: DataFrame, length: int, *, partitions: int, long_cells: int = LONG_CELLS) -> Vector:
        """The dense vector of aggregated cells (cell, word)."""
        if length <= long_cells:
            return cls(length, words=dense_vector(cells, length))
        return cls(length, blocks=dense_blocks(cells, length, partitions))

    def map(self, function: BlockFunction) -> Vector:
        """The vector with a function applied to every block; on executors lazily, so stage what must not be redone."""
        if self.words is None:
            assert self.blocks is not None
            return Vector(self.length, blocks=map_blocks(self.blocks, function))
        out = np.empty_like(self.words)
        for block in range(n_blocks(self.length)):
            start, stop = block_range(self.length, block)
            out[start:stop] = function(block, self.words[start:stop])
        return Vector(self.length, words=out)

    def staged(self, directory: str) -> Vector:
        """The vector with its blocks written once below `directory` and read back; as it is if in memory."""
        if self.blocks is None:
            return self
        return Vector(self.length, blocks=write_blocks(self.blocks, f"{directory}/{secrets.token_hex(16)}"))

    def collect(self) -> NDArray[np.uint64]:
        """All words on the driver, shape (length,)."""
        if self.words is not None:
            return self.words
        assert self.blocks is not None
        return collect_blocks(self.blocks, self.length)


@contextmanager
def staging_for(cells: int, spark: SparkSession, staging: str | None, long_cells: int = LONG_CELLS) -> Iterator[str]:
    """A private place for the blocks of a long vector, cleared at the end, whatever happened.

    Args:
        cells: length of the vector; a short one needs no place, and gets none.
        spark: the session whose executors write there.
        staging: a directory or URI that every executor reaches; None: a temporary one, where Spark runs on this
            machine.
        long_cells: vectors of more cells are long.

    Raises:
        InvalidArgument: no directory was given and Spark's executors run on other machines, or a URI that this process
            could not clear.
    """
    if cells <= long_cells:
        yield ""
        return
    if staging is None and not runs_here(spark):
        raise InvalidArgument("staging", None, "give a private directory that all executors reach, for long vectors")
    if staging is None or "://" not in staging:
        with TemporaryDirectory(prefix="spark-mpc-", dir=staging, ignore_cleanup_errors=True) as path:
            yield path
        return
    try:
        files, root = FileSystem.from_uri(staging)
    except (pa.ArrowException, OSError):
        raise InvalidArgument("staging", staging, "give a file, s3, gs, abfs or hdfs URI: it must be cleared") from None
    name = f"spark-mpc-{secrets.token_hex(16)}"
    try:
        yield f"{staging.rstrip('/')}/{name}"
    finally:
        files.delete_dir_contents(f"{root}/{name}", missing_dir_ok=True)


def local_cells(df: DataFrame, plan: Plan, *, partitions: int) -> DataFrame:
    """Bound every unit's contribution and add up the cells of the plan's vector.

    Args:
        df: the owner's rows, filtered; its expressions must be total.
        plan: names groups, measures, bounds and layout.
        partitions: shuffle partitions of the exchange by unit.

    Returns:
        DataFrame (cell long, word long): one row per cell that got something, modulo 2^64.

    Guarantees: the salt that chooses among a unit's rows is fresh for every call; the result depends on it and on the
    set of rows, not on their order or partitioning.
    """
    names = input_names(plan)
    rules = [rule for part in plan.parts for rule in part.measure.rules(part.offset, part.measure.width, names)]
    return bounded_cells(
        _with_group(encoded_rows(df, plan.query, names), plan),
        unit=unit_columns(plan.query),
        group=GROUP,
        rules=rules,
        bounds=plan.query.bounds,
        salt=secrets.randbits(63),
        partitions=partitions,
    )


def input_names(plan: Plan) -> dict[Input, str]:
    """The plan's inputs and the columns that hold them; an input that another one serves has no column of its own."""
    wanted = dict.fromkeys(i for part in plan.parts for i in part.measure.inputs)
    names: dict[Input, str] = {}
    for needed in wanted:
        server = next((other for other in wanted if needed.served_by(other)), needed)
        names[needed] = names.setdefault(server, f"__value{len(names)}")
    return names


def unit_columns(query: Query) -> tuple[str, ...]:
    """The columns of `encoded_rows` that hold the unit."""
    return tuple(f"__unit{index}" for index in range(len(query.facts.unit)))


def key_columns(query: Query) -> tuple[str, ...]:
    """The columns of `encoded_rows` that hold the group's key."""
    return tuple(f"__key{index}" for index in range(len(query.by)))


def encoded_rows(df: DataFrame, query: Query, names: Mapping[Input, str]) -> DataFrame:
    """The rows reduced to unit, key and inputs, under names of our own."""
    units = zip(unit_columns(query), (F.col(quoted(column)) for column in query.facts.unit), strict=True)
    keys = zip(key_columns(query), (F.col(quoted(column)) for column in query.by), strict=True)
    columns: dict[str, Column] = {**dict(units), **dict(keys)}
    for needed, name in names.items():
        if name not in columns:  # an input that serves others stands before them
            columns[name] = needed.column()
    return df.select(*(column.alias(name) for name, column in columns.items()))


def _with_group(rows: DataFrame, plan: Plan) -> DataFrame:
    """Rows of the public groups only, each with its group's index; a row outside the key list has no effect."""
    if not plan.query.by:
        return rows.withColumn(GROUP, F.lit(0))
    names = key_columns(plan.query)
    arrays = [pa.array(list(values)) for values in zip(*plan.keys, strict=True)]
    table = pa.table([*arrays, pa.array(np.arange(plan.groups, dtype=np.int32))], names=[*names, GROUP])
    keys = rows.sparkSession.createDataFrame(table)
    typed = keys.select(*(F.col(name).cast(rows.schema[name].dataType).alias(name) for name in names), GROUP)
    return rows.join(F.broadcast(typed), list(names), "inner").drop(*names)
