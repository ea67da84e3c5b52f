"""The exchange of rows by unit: rows travel packed, many in one, since Spark moves a few large rows cheaply.

rows -> (bucket, packed)              one row for each bucket of a chunk: the bucket's rows as an Arrow stream
     -> repartitionById(n, bucket)    all rows of one unit in one task
     -> one table for each task       `unpacked`, in the worker
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dp.execution.survivors import SHARE_ROWS, Int64s, Words, mix64

__all__ = ["UNIT", "UNIT_HASH", "by_unit", "chunks", "packed_by_bucket", "unit_hashes", "unpacked"]

UNIT, UNIT_HASH = "unit", "unit_hash"
"""Columns of a unit's exact identity, and of its salted hash unless the identity is an integer."""

_CHUNK_ROWS = 65_536  # one Arrow batch: what is scattered fits a core's cache
_CHUNK_BYTES = 2**27  # far from the 2^31 that an Arrow array of strings can hold
_ROWS_PER_BUCKET = 4096  # of a chunk: a packed row with fewer would cost more than its rows
_NARROWER = (np.int8, np.int16, np.int32)
_PACKED = pa.schema([("bucket", pa.int32()), ("packed", pa.binary())])
_PACKED_DDL = "bucket int, packed binary"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd: the highest bits of a product depend on all bits of a hash
_HALF = np.uint64(32)


def by_unit(rows: DataFrame, *, salt: int, partitions: int) -> DataFrame:
    """Bring all rows of one unit into one task.

    Args:
        rows: a column UNIT without NULLs, with a column UNIT_HASH unless it is an integer, and others of any types.
        salt: 0..2^64-1; spreads the units.
        partitions: how many tasks, with an explicit number that Spark does not change.

    Returns:
        DataFrame (packed: binary), which `unpacked` reads.

    Cost: the rows pass a Python worker once more, and the exchange as a few bytes each. To exchange them one by one
        costs Spark twice the processor time of all the rest of bounding.
    """
    packed = rows.mapInArrow(partial(packed_by_bucket, salt=salt, buckets=partitions), _PACKED_DDL)
    return packed.repartitionById(partitions, F.col("bucket")).select("packed")


def packed_by_bucket(batches: Iterable[pa.RecordBatch], *, salt: int, buckets: int) -> Iterator[pa.RecordBatch]:
    """The worker's part before the exchange: a bucket holds all rows of its units, packed chunk by chunk."""
    for chunk in chunks(iter(batches), min(max(_CHUNK_ROWS, _ROWS_PER_BUCKET * buckets), SHARE_ROWS)):
        bucket = _buckets(unit_hashes(chunk, salt), buckets)
        order, sizes = np.argsort(bucket, kind="stable"), np.bincount(bucket, minlength=buckets)
        names = chunk.schema.names
        sorted_rows = pa.RecordBatch.from_arrays([_taken(chunk.column(name), order) for name in names], names)
        starts, filled = np.cumsum(sizes) - sizes, np.flatnonzero(sizes)
        packed = _streams([sorted_rows.slice(starts[index], sizes[index]) for index in filled])
        yield pa.RecordBatch.from_arrays([pa.array(filled, pa.int32()), packed], schema=_PACKED)


def unpacked(batches: Iterable[pa.RecordBatch]) -> pa.Table | None:
    """The worker's part after the exchange: the rows of its units, integers as wide as each packed row needed.

    Returns:
        None where there is no row.
    """
    streams = [stream.as_buffer() for batch in batches for stream in batch.column("packed")]
    if not streams:
        return None
    return pa.concat_tables([pa.ipc.open_stream(stream).read_all() for stream in streams], promote_options="permissive")


def unit_hashes(rows: pa.Table, salt: int) -> Words:
    """The salted hash of every row's unit: the same in every task and every run."""
    if UNIT_HASH in rows.schema.names:
        hashes: Int64s = rows.column(UNIT_HASH).to_numpy().astype(np.int64, copy=False)
        return hashes.view(np.uint64)
    units = rows.column(UNIT).to_numpy().astype(np.int64, copy=False)
    return mix64(units.view(np.uint64) ^ mix64(np.array([salt], np.uint64)))


def chunks(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The batches as tables of about so many rows, or a few more; of fewer rows where these are large."""
    for first in batches:
        received, lacking, room = [first], rows - first.num_rows, _CHUNK_BYTES - first.nbytes
        while lacking > 0 and room > 0 and (batch := next(batches, None)) is not None:
            received.append(batch)
            lacking, room = lacking - batch.num_rows, room - batch.nbytes
        yield pa.Table.from_batches(received)


def _buckets(hashes: Words, buckets: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """0..buckets - 1, by other bits than those that order units within a bucket; short, since short ones sort fast."""
    bucket = ((hashes * _GOLDEN >> _HALF) * np.uint64(buckets)) >> _HALF
    return bucket.astype(np.min_scalar_type(buckets - 1))


def _taken(column: pa.ChunkedArray, order: Int64s) -> pa.Array:
    """The rows in this order; integers as narrow as they can be, for the exchange's sake."""
    if not pa.types.is_integer(column.type):
        return column.take(pa.array(order)).combine_chunks()
    valid = None if column.null_count == 0 else column.is_valid().to_numpy()
    values = (column if valid is None else column.fill_null(0)).to_numpy()
    values = values.astype(_narrowest(column), copy=False)[order]
    return pa.array(values, mask=None if valid is None else ~valid[order])


def _narrowest(column: pa.ChunkedArray) -> npt.DTypeLike:
    extremes = pc.min_max(column).as_py()
    low, high = extremes["min"] or 0, extremes["max"] or 0
    for kind in _NARROWER:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return np.int64


def _streams(parts: Sequence[pa.RecordBatch]) -> pa.Array:
    """Each part as an Arrow stream, in one array."""
    sink, ends = pa.BufferOutputStream(), [0]
    for part in parts:
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_batch(part)
        ends.append(sink.tell())
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(parts), [None, pa.py_buffer(np.array(ends, np.int32)), sink.getvalue()]
    )
