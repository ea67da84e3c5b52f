"""Long vectors: every block exactly once, right whatever the order, never from a half-written place."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.errors import AnalysisException, PythonException
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.execution.blocks import (
    BLOCK_WORDS,
    apply_to_blocks,
    block_range,
    blocks_of_partition,
    collect_blocks,
    dense_blocks,
    dense_vector,
    map_blocks,
    n_blocks,
    write_blocks,
)

LENGTH = 3 * BLOCK_WORDS + 17


def words_of(cells):
    """A word for every cell, far beyond int64."""
    return np.asarray(cells, np.int64).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def cells_frame(spark, cells):
    table = pa.table({"cell": pa.array(cells, pa.int64()), "word": words_of(cells).view(np.int64)})
    return spark.createDataFrame(table)


def some_cells():
    rng = np.random.default_rng(1)
    of_three_blocks = rng.choice(BLOCK_WORDS, 500, replace=False)
    cells = np.concatenate([of_three_blocks, of_three_blocks + 2 * BLOCK_WORDS, [BLOCK_WORDS * 3, LENGTH - 1]])
    return rng.permutation(cells)  # block 1 gets nothing


def some_vector():
    vector, cells = np.zeros(LENGTH, np.uint64), some_cells()
    vector[cells] = words_of(cells)
    return vector


def add_block_number(block, words, *, twice):
    return words + np.uint64(block * twice)


def drop_a_word(block, words):
    return words[1:]


@given(st.integers(1, 20 * BLOCK_WORDS))
def test_ranges_tile_the_vector(length):
    ranges = [block_range(length, block) for block in range(n_blocks(length))]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == length
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert all(stop - start == BLOCK_WORDS for start, stop in ranges[:-1])


@pytest.mark.parametrize("block", [-1, 4])
def test_a_block_outside_the_vector_is_refused(block):
    with pytest.raises(InvalidArgument):
        block_range(LENGTH, block)


def test_an_empty_vector_is_refused():
    with pytest.raises(InvalidArgument):
        n_blocks(0)


def spread(cells, blocks):
    """What a task of `dense_blocks` receives: cells, and a marker for each block."""
    rows = [{"block": cell // BLOCK_WORDS, "cell": cell, "word": 5} for cell in cells]
    rows += [{"block": block, "cell": None, "word": None} for block in blocks]
    schema = pa.schema([("block", pa.int64()), ("cell", pa.int64()), ("word", pa.int64())])
    return [pa.RecordBatch.from_pylist(rows, schema)]


def test_a_task_makes_its_blocks_and_no_others():
    made = list(blocks_of_partition(spread([LENGTH - 1, 3], [3, 0]), length=LENGTH))
    assert [batch.column("block").to_pylist() for batch in made] == [[0], [3]]
    assert [len(batch.column("words")[0].as_py()) for batch in made] == [8 * BLOCK_WORDS, 8 * 17]
    assert list(blocks_of_partition([], length=LENGTH)) == []


@pytest.mark.parametrize(
    ("cells", "blocks"), [([-1], [0]), ([LENGTH], [3]), ([5 * BLOCK_WORDS], []), ([BLOCK_WORDS], [0]), ([7, 7], [0])]
)
def test_a_task_refuses_cells_outside_and_cells_given_twice(cells, blocks):
    with pytest.raises(InvalidArgument):
        list(blocks_of_partition(spread(cells, blocks), length=LENGTH))


def test_a_function_cannot_change_the_words_that_it_gets():
    batch = pa.RecordBatch.from_pylist([{"block": 0, "words": b"\x01" * 16}])

    def overwrite(block, words):
        words[:] = 0
        return words

    with pytest.raises(ValueError, match="read-only"):
        list(apply_to_blocks([batch], fn=overwrite))


@pytest.mark.slow
def test_dense_vector(spark):
    assert (dense_vector(cells_frame(spark, some_cells()), LENGTH) == some_vector()).all()
    assert not dense_vector(cells_frame(spark, []), 5).any()


@pytest.mark.slow
@pytest.mark.parametrize("cells", [[-1], [5], [2, 2]])
def test_dense_vector_refuses_cells_outside_and_cells_given_twice(spark, cells):
    with pytest.raises(InvalidArgument):
        dense_vector(cells_frame(spark, cells), 5)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 3, 9])
def test_dense_blocks_are_the_vector(spark, partitions):
    blocks = dense_blocks(cells_frame(spark, some_cells()).repartition(2), LENGTH, partitions)
    assert (collect_blocks(blocks, LENGTH) == some_vector()).all()
    assert (collect_blocks(blocks.orderBy(F.desc("block")), LENGTH) == some_vector()).all()


@pytest.mark.slow
@pytest.mark.parametrize("cell", [-1, LENGTH, 10 * BLOCK_WORDS])
def test_dense_blocks_refuse_a_cell_outside(spark, cell):
    frame = spark.createDataFrame([(cell, 1)], "cell long, word long")
    with pytest.raises(PythonException, match="InvalidArgument"):
        collect_blocks(dense_blocks(frame, LENGTH, 2), LENGTH)


@pytest.mark.slow
def test_no_cells_give_zeros(spark):
    assert not collect_blocks(dense_blocks(cells_frame(spark, []), LENGTH, 2), LENGTH).any()


@pytest.mark.slow
def test_map_blocks_applies_a_function_by_block_number(spark):
    blocks = dense_blocks(cells_frame(spark, some_cells()), LENGTH, 2)
    mapped = collect_blocks(map_blocks(blocks, partial(add_block_number, twice=2)), LENGTH)
    added = np.repeat(2 * np.arange(4, dtype=np.uint64), BLOCK_WORDS)[:LENGTH]
    assert (mapped == some_vector() + added).all()
    with pytest.raises(PythonException, match="InvalidArgument"):
        collect_blocks(map_blocks(blocks, drop_a_word), LENGTH)


@pytest.mark.slow
def test_collect_blocks_refuses_what_is_not_the_vector(spark):
    blocks = dense_blocks(cells_frame(spark, some_cells()), LENGTH, 2)
    for wrong in (blocks.where("block != 1"), blocks.union(blocks.where("block = 1")), blocks.where("block > 9")):
        with pytest.raises(InvalidArgument, match="exactly once"):
            collect_blocks(wrong, LENGTH)
    short = blocks.withColumn("words", F.expr("substring(words, 1, 8)"))
    with pytest.raises(InvalidArgument, match="words"):
        collect_blocks(short, LENGTH)


def fail_at_block_2(block, words):
    if block == 2:
        raise RuntimeError("planted")
    return words


@pytest.mark.slow
def test_written_blocks_are_read_back_and_never_overwritten(spark, tmp_path):
    blocks = dense_blocks(cells_frame(spark, some_cells()), LENGTH, 2)
    stored = write_blocks(blocks, str(tmp_path / "staged"))
    assert (collect_blocks(stored, LENGTH) == some_vector()).all()
    with pytest.raises(AnalysisException):
        write_blocks(blocks, str(tmp_path / "staged"))
    (tmp_path / "staged" / "_temporary").mkdir()
    leftover = tmp_path / "staged" / "_temporary" / "part-0.parquet"
    leftover.write_bytes(b"of a failed attempt")
    assert (collect_blocks(spark.read.parquet(str(tmp_path / "staged")), LENGTH) == some_vector()).all()


@pytest.mark.slow
def test_a_failed_write_leaves_nothing_readable(spark, tmp_path):
    blocks = dense_blocks(cells_frame(spark, some_cells()), LENGTH, 4)
    with pytest.raises(Exception, match="planted"):
        write_blocks(map_blocks(blocks, fail_at_block_2), str(tmp_path / "staged"))
    assert not list((tmp_path / "staged").glob("*.parquet"))


def own_process_time(block, words):
    return words + np.uint64(time.monotonic_ns())


@pytest.mark.slow
def test_stored_blocks_are_not_computed_again(spark, tmp_path):
    impure = map_blocks(dense_blocks(cells_frame(spark, some_cells()), LENGTH, 2), own_process_time)
    assert (collect_blocks(impure, LENGTH) != collect_blocks(impure, LENGTH)).any(), "a lazy frame computes anew"
    stored = write_blocks(impure, str(tmp_path / "staged"))
    assert (collect_blocks(stored, LENGTH) == collect_blocks(stored, LENGTH)).all()
