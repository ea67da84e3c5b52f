"""Long vectors of ring words as a DataFrame of blocks, and short ones as an array on the driver.

A long vector is a DataFrame (block: long, words: binary). Block i holds the little-endian words of the cells
i * BLOCK_WORDS onwards; every block is there exactly once, and the last one is short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dp.errors import InvalidArgument

__all__ = [
    "BLOCK_WORDS",
    "block_range",
    "collect_blocks",
    "dense_blocks",
    "dense_vector",
    "map_blocks",
    "n_blocks",
    "write_blocks",
]

Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
BlockFunction = Callable[[int, Words], Words]

BLOCK_WORDS = 131_072
"""Words of a full block: 1 MiB."""

_LITTLE_ENDIAN = np.dtype("<u8")
_BLOCKS = pa.schema([("block", pa.int64()), ("words", pa.binary())])
_BLOCKS_DDL = "block long, words binary"
_ROW_GROUP_BYTES = 16 * 2**20  # a reader holds whole row groups: keep them to a few blocks


def n_blocks(length: int) -> int:
    """The number of blocks of a vector of `length` words."""
    return -(-_checked_length(length) // BLOCK_WORDS)


def block_range(length: int, block: int) -> tuple[int, int]:
    """The cells [start, stop) of one block of a vector of `length` words.

    Raises:
        InvalidArgument: the vector has no such block.
    """
    if not 0 <= block < n_blocks(length):
        raise InvalidArgument("block", block, f"a vector of {length} words has blocks 0..{n_blocks(length) - 1}")
    start = block * BLOCK_WORDS
    return start, min(start + BLOCK_WORDS, length)


def dense_vector(cells: DataFrame, length: int) -> Words:
    """Collect cells into a vector on the driver; cells that are not there are 0.

    Args:
        cells: DataFrame (cell: long, word: long), each cell at most once.
        length: words of the vector.

    Raises:
        InvalidArgument: a cell outside the vector, or given twice.
    """
    table = cells.select("cell", "word").toArrow()
    return _scatter(table.column("cell").to_numpy(), _words_of(table.column("word")), _checked_length(length))


def dense_blocks(cells: DataFrame, length: int, partitions: int) -> DataFrame:
    """Spread cells into blocks on the executors; cells that are not there are 0.

    Args:
        cells: DataFrame (cell: long, word: long), each cell at most once.
        length: words of the vector.
        partitions: tasks; block b is made in task b mod partitions.

    Raises:
        InvalidArgument: when the blocks are computed: a cell outside the vector, or given twice.
    """
    block = F.shiftright("cell", BLOCK_WORDS.bit_length() - 1)
    placed = cells.select(block.alias("block"), "cell", "word")
    missing = F.lit(None).cast("long")
    # Markers: every block exists even where no cell got anything.
    markers = cells.sparkSession.range(n_blocks(length), numPartitions=1)
    markers = markers.select(F.col("id").alias("block"), missing.alias("cell"), missing.alias("word"))
    spread = placed.unionByName(markers).repartitionById(partitions, F.pmod("block", F.lit(partitions)).cast("int"))
    return spread.mapInArrow(partial(blocks_of_partition, length=length), _BLOCKS_DDL)


def map_blocks(blocks: DataFrame, fn: BlockFunction) -> DataFrame:
    """Apply a function to every block on the executors.

    Args:
        blocks: a long vector.
        fn: (block, words) -> as many words; pure, since Spark may call it again for the same block, and importable
            by the workers. The words that it gets are read-only.

    Raises:
        InvalidArgument: when the blocks are computed: `fn` changed the number of words.
    """
    return blocks.select("block", "words").mapInArrow(partial(apply_to_blocks, fn=fn), _BLOCKS_DDL)


def collect_blocks(blocks: DataFrame, length: int) -> Words:
    """Collect a long vector on the driver, whatever the order in which its blocks arrive.

    Args:
        blocks: a long vector.
        length: its number of words.

    Raises:
        InvalidArgument: a block is missing, is there twice, does not belong to the vector or has another length.
    """
    table = blocks.select("block", "words").toArrow()
    vector = np.zeros(length, np.uint64)
    found = table.column("block").to_pylist()
    if sorted(found) != list(range(n_blocks(length))):
        raise InvalidArgument("blocks", len(found), f"every block 0..{n_blocks(length) - 1} is there exactly once")
    for block, words in zip(found, table.column("words"), strict=True):
        start, stop = block_range(length, block)
        vector[start:stop] = _checked_words(words, stop - start)
    return vector


def write_blocks(blocks: DataFrame, path: str) -> DataFrame:
    """Compute a long vector once and store it; what is returned reads the stored blocks.

    Args:
        blocks: a long vector.
        path: where nothing exists yet; it is never overwritten.

    Raises:
        AnalysisException: something is at `path` already.

    Guarantees: the blocks are computed by this one job, and its failed attempts leave nothing that is read: Spark
        commits a task's files by renaming them, and `path` is read only after the whole job was committed.
    """
    writer = blocks.select("block", "words").write.mode("error").option("compression", "none")
    writer.option("parquet.block.size", str(_ROW_GROUP_BYTES)).option("parquet.enable.dictionary", "false").parquet(
        path
    )
    return blocks.sparkSession.read.schema(_BLOCKS_DDL).parquet(path)


def blocks_of_partition(batches: Iterable[pa.RecordBatch], *, length: int) -> Iterator[pa.RecordBatch]:
    """The worker's part of `dense_blocks`: (block, cell, word) rows of whole blocks in, those blocks out."""
    received = list(batches)
    if not received:
        return
    table = pa.Table.from_batches(received)
    received.clear()
    is_cell = table.column("cell").is_valid().to_numpy()
    held = np.sort(table.column("block").to_numpy()[~is_cell])  # one marker for each block of this task
    cells, words = table.column("cell").drop_null().to_numpy(), _words_of(table.column("word").drop_null())
    slot = np.searchsorted(held, cells >> (BLOCK_WORDS.bit_length() - 1))
    slot = np.minimum(slot, max(len(held) - 1, 0))
    if len(cells) and (len(held) == 0 or cells.max() >= length or (held[slot] != cells // BLOCK_WORDS).any()):
        raise _outside(length)
    dense = _scatter(slot * BLOCK_WORDS + cells % BLOCK_WORDS, words, len(held) * BLOCK_WORDS)
    for index, block in enumerate(held.tolist()):
        start, stop = block_range(length, block)
        at = index * BLOCK_WORDS
        yield _one_block(block, dense[at : at + stop - start])


def apply_to_blocks(batches: Iterable[pa.RecordBatch], *, fn: BlockFunction) -> Iterator[pa.RecordBatch]:
    """The worker's part of `map_blocks`."""
    for batch in batches:
        for block, words in zip(batch.column("block").to_pylist(), batch.column("words"), strict=True):
            given = np.frombuffer(words.as_buffer(), _LITTLE_ENDIAN)
            given.flags.writeable = False
            made = fn(block, given)
            if made.dtype != np.uint64 or made.shape != given.shape:
                raise InvalidArgument("fn", str(made.dtype), "return as many uint64 words as were given")
            yield _one_block(block, made)


def _one_block(block: int, words: Words) -> pa.RecordBatch:
    payload = np.ascontiguousarray(words, _LITTLE_ENDIAN).tobytes()
    return pa.RecordBatch.from_arrays([pa.array([block], pa.int64()), pa.array([payload], pa.binary())], schema=_BLOCKS)


def _scatter(cells: Int64s, words: Words, length: int) -> Words:
    if len(cells) and not 0 <= int(cells.min()) <= int(cells.max()) < length:
        raise _outside(length)
    seen = np.zeros(length, np.bool_)
    seen[cells] = True
    if np.count_nonzero(seen) != len(cells):
        raise InvalidArgument("cells", len(cells), "give each cell once: add up its words first")
    vector = np.zeros(length, np.uint64)
    vector[cells] = words
    return vector


def _words_of(column: pa.ChunkedArray) -> Words:
    words: Int64s = column.to_numpy()
    return words.view(np.uint64)


def _checked_words(words: pa.BinaryScalar, expected: int) -> Words:
    payload = words.as_buffer()
    if payload is None or payload.size != expected * _LITTLE_ENDIAN.itemsize:
        raise InvalidArgument("words", None if payload is None else payload.size, f"this block has {expected} words")
    return np.frombuffer(payload, _LITTLE_ENDIAN)


def _checked_length(length: int) -> int:
    if length < 1:
        raise InvalidArgument("length", length, "a vector has at least one word")
    return length


def _outside(length: int) -> InvalidArgument:
    return InvalidArgument("cells", "(not shown)", f"cells lie in 0..{length - 1}")
