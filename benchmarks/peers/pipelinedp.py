"""PipelineDP on Spark, by its engine: all aggregates in one pass over an RDD."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pipeline_dp  # type: ignore[import-not-found]

from benchmarks.peers.protocol import (
    KEYS,
    MAX_GROUPS,
    MAX_ROWS,
    MAX_TOTAL_ROWS,
    VALUES,
    Answer,
    Ask,
    Question,
    Unsupported,
    serve,
)
from benchmarks.peers.spark import spark_session

_METRICS = {
    "count": (pipeline_dp.Metrics.COUNT, "count"),
    "sum": (pipeline_dp.Metrics.SUM, "sum"),
    "mean": (pipeline_dp.Metrics.MEAN, "mean"),
    "variance": (pipeline_dp.Metrics.VARIANCE, "variance"),
    "median": (pipeline_dp.Metrics.PERCENTILE(50), "percentile_50"),
}


@contextmanager
def open_pipelinedp() -> Iterator[Ask]:
    """PipelineDP with its Spark backend."""
    with spark_session("pipelinedp") as spark:
        backend = pipeline_dp.SparkRDDBackend(spark.sparkContext)
        extractors = pipeline_dp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=lambda row: row[2],
        )

        def ask(question: Question) -> Answer:
            budget = pipeline_dp.NaiveBudgetAccountant(question.epsilon, question.delta)
            visits = spark.read.parquet(question.visits).select("user", "key", "value").rdd.map(tuple)
            public = list(range(KEYS)) if question.keys == "public" else None
            engine = pipeline_dp.DPEngine(budget, backend)
            try:
                released = engine.aggregate(visits, _parameters(question), extractors, public)
            except (ValueError, NotImplementedError) as error:
                raise Unsupported(str(error)) from None
            budget.compute_budgets()
            rows = released.collect()
            return {
                name: {key: float(getattr(metrics, _METRICS[name][1])) for key, metrics in rows}
                for name in question.aggregates
            }

        yield ask


def _parameters(question: Question) -> pipeline_dp.AggregateParams:
    bounds = {"max_partitions_contributed": MAX_GROUPS, "max_contributions_per_partition": MAX_ROWS}
    if question.bounds == "rows":
        bounds = {"max_contributions": MAX_TOTAL_ROWS}
    return pipeline_dp.AggregateParams(
        metrics=[_METRICS[name][0] for name in question.aggregates],
        noise_kind=pipeline_dp.NoiseKind.LAPLACE,
        min_value=VALUES[0],
        max_value=VALUES[1],
        **bounds,
    )


if __name__ == "__main__":
    serve(open_pipelinedp)
