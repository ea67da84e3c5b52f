"""Contribution bounding beside what it cannot beat: a plain aggregate, and one raw shuffle by user.

The worst case for bounding: nearly every row is another (user, key), so that nothing can be aggregated beforehand.
Likewise with 10^6 keys that nobody knows beforehand, whose cells the driver collects.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks._measure import Cost, median_cost, median_costs, peak_mib
from dp.execution.bounding import ARROW_SETTINGS, bounded_cells, bounded_groups
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import CellRule, RowCount, RowSum, UnitCount
from lake.sessions import delta_session

__all__ = ["run"]

KEYS = 1000
BOUNDS = ContributionBounds(max_groups=4, max_rows=4)
MIDDLE = 50  # means and variances add up differences from the middle of the declared bounds
TWO = (RowCount(0, 1), RowSum(KEYS, 1, ("value",)))
"""count and sum(value)"""
FIVE = (
    *TWO,
    UnitCount(2 * KEYS, 1),
    RowCount(3 * KEYS, 1, ("minutes",)),
    RowSum(4 * KEYS, 1, ("minutes",), MIDDLE),
    RowSum(5 * KEYS, 1, ("minutes", "minutes"), MIDDLE**2),
)
"""count, sum(value), the number of users, mean and variance of minutes"""
PRIVATE_KEYS = 1_000_000
PRIVATE = (UnitCount(0, 3), RowCount(1, 3), RowSum(2, 3, ("value",)))
"""What selects groups, count and sum(value), side by side"""
ROWS_PER_PARTITION = 1_000_000


@dataclass(frozen=True)
class _Visits:
    """A Delta table (user, key, value, minutes): ten rows a user, keys drawn uniformly.

    Of 10^7 rows 9.95M have a (user, key) of their own, of 1,000 keys.
    """

    df: DataFrame
    rows: int

    @classmethod
    def write(cls, spark: SparkSession, path: str, rows: int, keys: int = KEYS) -> _Visits:
        """Make the table."""
        draw = {"user": rows // 10, "key": keys, "value": 100, "minutes": 100}
        columns = [F.pmod(F.xxhash64("id", F.lit(name)), F.lit(size)).alias(name) for name, size in draw.items()]
        made = spark.range(rows, numPartitions=8).select(*columns).withColumn("key", F.col("key").cast("int"))
        made.write.format("delta").save(path)
        return cls(spark.read.format("delta").load(path), rows)

    @property
    def partitions(self) -> int:
        """Of every shuffle by user."""
        return max(2, self.rows // ROWS_PER_PARTITION)

    def plain(self) -> DataFrame:
        """The aggregates without privacy."""
        return self.df.groupBy("key").agg(F.count("*"), F.sum("value"))

    def shuffled(self) -> DataFrame:
        """The rows that bounding reads, by user."""
        return self.df.select("user", "key", "value").repartition(self.partitions, "user")

    def bounded(self, rules: tuple[CellRule, ...]) -> DataFrame:
        """Ours."""
        return bounded_cells(
            self.df, unit=("user",), group="key", rules=rules, bounds=BOUNDS, salt=1, partitions=self.partitions
        )

    def private(self) -> DataFrame:
        """Ours, for keys that nobody knows beforehand."""
        return bounded_groups(
            self.df,
            unit=("user",),
            group="key",
            rules=PRIVATE,
            bounds=BOUNDS,
            salt=1,
            partitions=self.partitions,
            cells_per_group=len(PRIVATE),
        )


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Measure all plans on one Delta table, in one session, in turns: the medians of three warm repetitions.

    Then 10^6 private keys, and ours once more on ten times the rows, for its memory.

    Args:
        quick: 1e6 rows instead of 1e7.
    """
    rows = 1_000_000 if quick else 10_000_000
    conf = {"spark.driver.memory": "2g", "spark.sql.shuffle.partitions": "8", **ARROW_SETTINGS}
    spark = delta_session("benchmark bounding", master="local[2]", conf=conf)
    try:
        with tempfile.TemporaryDirectory() as folder:
            visits = _Visits.write(spark, str(Path(folder) / "visits"), rows)
            yield from _compare(visits)
            yield from _compare_private(_Visits.write(spark, str(Path(folder) / "private"), rows, PRIVATE_KEYS))
            more = _Visits.write(spark, str(Path(folder) / "more"), 10 * rows)
            yield from _compare_memory(visits, more)
    finally:
        spark.stop()


def _compare(visits: _Visits) -> Iterator[dict[str, object]]:
    plans: dict[str, Callable[[], DataFrame]] = {
        "plain": visits.plain,
        "raw shuffle": visits.shuffled,
        "ours": lambda: visits.bounded(TWO),
        "five aggregates": lambda: visits.bounded(FIVE),
    }
    costs = median_costs({case: lambda plan=plan: _execute(plan()) for case, plan in plans.items()})  # type: ignore[misc]
    for floor in ("plain", "raw shuffle"):
        yield {"case": floor, "rows": visits.rows, **costs[floor].record()}
    for case, against in (("ours", "plain"), ("ours", "raw shuffle"), ("five aggregates", "ours")):
        yield _compared(case, costs[case], against, costs[against], visits.rows)


def _compared(case: str, cost: Cost, against: str, other: Cost, rows: int) -> dict[str, object]:
    return {"case": case, "rows": rows, **cost.record(), "against": against, **cost.over(other)}


def _compare_private(visits: _Visits) -> Iterator[dict[str, object]]:
    """As many groups as a release may have, each with what its selection needs, on the driver."""
    plans = {"plain, 1e6 groups": visits.plain, "1e6 private groups": visits.private}
    costs = median_costs({case: lambda plan=plan: plan().toArrow() for case, plan in plans.items()})  # type: ignore[misc]
    peaks = {case: peak_mib(lambda plan=plan: plan().toArrow()) for case, plan in plans.items()}  # type: ignore[misc]
    (floor, plain), (case, ours) = costs.items()
    yield {"case": floor, "rows": visits.rows, **plain.record(), "peak_mib": peaks[floor]}
    yield {**_compared(case, ours, floor, plain, visits.rows), "peak_mib": peaks[case]}


def _compare_memory(visits: _Visits, more: _Visits) -> Iterator[dict[str, object]]:
    """The greatest memory of all processes together. Java keeps what it has had, so the fewer rows go first."""
    few, cost = _peak(visits)
    yield {"case": "memory", "rows": visits.rows, **cost.record(), "peak_mib": few}
    many, cost = _peak(more)
    ratio = None if few is None or many is None else round(many / few, 2)
    yield {"case": "memory", "rows": more.rows, **cost.record(), "peak_mib": many, "against": "memory", "ratio": ratio}


def _peak(visits: _Visits) -> tuple[float | None, Cost]:
    peaks = []
    cost = median_cost(lambda: peaks.append(peak_mib(lambda: _execute(visits.bounded(TWO)))), repetitions=1, warm_up=0)
    return peaks[0], cost


def _execute(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()
