"""ATTACKS 13 and 19: what Spark computes lazily it computes again. Noise is drawn once, and then it is data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dp.execution.blocks import BLOCK_WORDS, dense_blocks
from dp.execution.local import AddNoise, Vector, staging_for
from dp.planning.plan import make_plan
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp
from tests.tools.lakes import write_table
from tests.tools.plans import paper_query

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_staged_vector_keeps_its_noise_and_an_unstaged_one_does_not(spark: SparkSession) -> None:
    """Every action on a lazy map draws anew (the planted fault: averaging them would remove the noise)."""
    groups = BLOCK_WORDS + 5  # two blocks, the second a short one
    plan = make_plan(paper_query([dp.count()], groups=groups), dp.PureDP("1/1000"))
    nothing = spark.createDataFrame([], "cell long, word long")
    lazy = Vector(plan.length, blocks=dense_blocks(nothing, plan.length, 2)).map(AddNoise(plan))
    first, second = lazy.collect(), lazy.collect()
    assert (first != second).mean() > 0.99

    with staging_for(plan.length, spark, None, long_cells=10) as directory:
        staged = lazy.staged(directory)
        kept = staged.collect()
        np.testing.assert_array_equal(staged.collect(), kept)
        np.testing.assert_array_equal(staged.map(unchanged).collect(), kept)
        assert Path(directory).is_dir()
    assert not Path(directory).exists()
    noises = [words.view(np.int64) for words in (first, second, kept)]
    for one, other in ((0, 1), (0, 2), (1, 2)):  # attempts are independent: for 131077 cells, seven sigma
        assert abs(np.corrcoef(noises[one], noises[other])[0, 1]) < 7 / np.sqrt(groups)


def unchanged(_block: int, words: np.ndarray) -> np.ndarray:
    return words


def test_a_retried_task_draws_afresh_and_one_attempt_is_kept_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.attacks.retry_worker", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=240, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["attempts"] >= 2, "no task was retried: nothing was tested"
    assert seen["stable"]
    assert seen["kept_the_last"]
    assert seen["equal_words_of_attempts"] < 0.01  # two draws of scale 1000 agree in about one of 2000 words


def test_forty_collects_of_one_release_average_nothing_away(spark: SparkSession, tmp_path: Path) -> None:
    path = write_table(spark, tmp_path / "t", "id long, v int", [(i, i) for i in range(9)])
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    frame = Table.forPath(spark, path, unit="id", null_units="drop").private()
    query = frame.agg(dp.count(), dp.sum("v", 0, 8), max_rows=1)
    release = query.release(epsilon="1", ledger=ledger)
    (row,) = release.df.collect()
    assert all(release.df.collect() == [row] for _ in range(10))

    cached = release.df.cache()
    assert cached.collect() == [row]
    cached.unpersist(blocking=True)  # a cached frame that is evicted is computed again
    assert cached.collect() == [row]
    assert release.df.repartition(3).collect() == [row]
    assert release.df.union(release.df).collect() == [row, row]

    assert query.release(epsilon="1", ledger=ledger).df.collect() == [row]
    assert ledger.spent() == dp.PureDP(1)


def test_two_releases_that_are_both_paid_differ(spark: SparkSession, tmp_path: Path) -> None:
    """Fresh noise for every debit: the same question at another price shares no noise with the first."""
    path = write_table(spark, tmp_path / "t", "id long, k int", [(i, i % 50) for i in range(100)])
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    frame = Table.forPath(spark, path, unit="id", null_units="drop").private()
    groups = frame.groupBy("k", keys=range(50), max_groups=1, max_rows=1)
    answers = [groups.agg(dp.count()).release(epsilon=e, ledger=ledger).answers for e in ("1/100", "1/101")]
    first, second = (np.array(answer.values.column("count").to_pylist()) for answer in answers)
    assert (first != second).mean() > 0.9
    assert len(ledger.entries()) == 2
