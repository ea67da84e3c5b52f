"""Contribution bounding beside what it cannot beat: a plain aggregate, and one raw shuffle by user.

The worst case for bounding: nearly every row is another (user, key), so that nothing can be aggregated beforehand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks._measure import median_seconds, peak_mib
from dp.execution.bounding import ARROW_BATCH_ROWS, CellMeasure, bounded_cells
from dp.planning.bounds import ContributionBounds
from lake.sessions import delta_session

__all__ = ["run"]

KEYS = 1000
BOUNDS = ContributionBounds(max_groups=4, max_rows=4)
MEASURES = (CellMeasure(0, 1, "rows"), CellMeasure(KEYS, 1, "sum", "value"))
PARTITIONS = 8


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Measure the three plans on one Delta table, in one session, each as the median of three warm repetitions.

    Args:
        quick: 1e6 rows instead of 1e7.
    """
    rows = 1_000_000 if quick else 10_000_000
    conf = {
        "spark.driver.memory": "4g",
        "spark.sql.shuffle.partitions": str(PARTITIONS),
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS),
    }
    spark = delta_session("benchmark bounding", master="local[2]", conf=conf)
    try:
        with tempfile.TemporaryDirectory() as folder:
            visits = _write_visits(spark, str(Path(folder) / "visits"), rows)
            yield from _compare(visits, rows)
    finally:
        spark.stop()


def _compare(visits: DataFrame, rows: int) -> Iterator[dict[str, object]]:
    plans: dict[str, Callable[[], DataFrame]] = {
        "plain": lambda: visits.groupBy("key").agg(F.count("*"), F.sum("value")),
        "raw shuffle": lambda: visits.repartition(PARTITIONS, "user"),
        "ours": lambda: _bounded(visits),
    }
    seconds = {}
    for case, plan in plans.items():
        seconds[case] = median_seconds(lambda plan=plan: _execute(plan()))  # type: ignore[misc]
        if case != "ours":
            yield {"case": case, "seconds": round(seconds[case], 3), "rows": rows}
    peak = peak_mib(lambda: _execute(_bounded(visits)))
    for against in ("plain", "raw shuffle"):
        yield {
            "case": "ours",
            "seconds": round(seconds["ours"], 3),
            "rows": rows,
            "peak_mib": peak,
            "against": against,
            "ratio": round(seconds["ours"] / seconds[against], 2),
        }


def _write_visits(spark: SparkSession, path: str, rows: int) -> DataFrame:
    """A Delta table (user, key, value): ten rows a user, keys drawn uniformly; 9.95M of 1e7 pairs are distinct."""
    draw = {"user": rows // 10, "key": KEYS, "value": 100}
    columns = [F.pmod(F.xxhash64("id", F.lit(name)), F.lit(size)).alias(name) for name, size in draw.items()]
    made = spark.range(rows, numPartitions=PARTITIONS).select(*columns).withColumn("key", F.col("key").cast("int"))
    made.write.format("delta").save(path)
    return spark.read.format("delta").load(path)


def _bounded(visits: DataFrame) -> DataFrame:
    return bounded_cells(
        visits, unit=("user",), group="key", measures=MEASURES, bounds=BOUNDS, salt=1, partitions=PARTITIONS
    )


def _execute(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()
