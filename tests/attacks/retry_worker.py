"""A Spark whose tasks are retried: noise is drawn in a task that fails after drawing, and again in its next attempt.

Run as a process of its own, since retries are a setting of the Spark master: `retry_worker.py FOLDER`. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dp.accounting.budget import PureDP
from dp.execution.blocks import BLOCK_WORDS, block_range, dense_blocks
from dp.execution.local import AddNoise, Vector, staging_for
from dp.functions import count
from dp.planning.plan import make_plan
from lake.sessions import delta_session
from tests.tools.plans import paper_query

FAILING_BLOCK = 1


@dataclass(frozen=True)
class FailsOnce:
    """Adds noise, keeps a copy of what it made, and fails the first time that it made a certain block."""

    add_noise: AddNoise
    folder: str

    def __call__(self, block: int, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        noised = self.add_noise(block, words)
        attempts = len(list(Path(self.folder).glob(f"{block}-*.npy")))
        np.save(f"{self.folder}/{block}-{attempts}.npy", noised)
        if block == FAILING_BLOCK and attempts == 0:
            raise RuntimeError("this attempt is lost after it has drawn its noise")
        return noised


def main(folder: str) -> None:
    spark = delta_session("retries", master="local[2,3]")  # up to three attempts of each task
    plan = make_plan(paper_query([count()], groups=2 * BLOCK_WORDS + 5), PureDP("1/1000"))
    zeros = Vector(plan.length, blocks=dense_blocks(spark.createDataFrame([], "cell long, word long"), plan.length, 2))
    with staging_for(plan.length, spark, None, long_cells=10) as staging:
        staged = zeros.map(FailsOnce(AddNoise(plan), folder)).staged(staging)
        first, second = staged.collect(), staged.collect()
    attempts = [np.load(path) for path in sorted(Path(folder).glob(f"{FAILING_BLOCK}-*.npy"))]
    start, stop = block_range(plan.length, FAILING_BLOCK)
    print(
        json.dumps(
            {
                "attempts": len(attempts),
                "stable": bool(np.array_equal(first, second)),
                "kept_the_last": bool(np.array_equal(first[start:stop], attempts[-1])),
                "equal_words_of_attempts": float(np.mean(attempts[0] == attempts[-1])),
            }
        )
    )
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
