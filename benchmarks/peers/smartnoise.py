"""SmartNoise SQL on Spark. It bounds the rows of a user, not groups, and charges every column of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import snsql  # type: ignore[import-not-found]
from pyspark.sql import SparkSession

from benchmarks.peers.protocol import MAX_TOTAL_ROWS, VALUES, Answer, Ask, Question, Unsupported, serve
from benchmarks.peers.spark import spark_session

_EXPRESSIONS = {"count": "COUNT(*)", "sum": "SUM(value)", "mean": "AVG(value)", "variance": "VARIANCE(value)"}
_PREFIX = "released_"  # its parser takes no keyword as a column's name


@contextmanager
def open_smartnoise() -> Iterator[Ask]:
    """SmartNoise SQL with its Spark reader."""
    with spark_session("smartnoise") as spark:

        def ask(question: Question) -> Answer:
            sql = _sql(question)
            (price, _) = _reader(spark, question, 1.0).get_privacy_cost(sql)
            spark.read.parquet(question.visits).createOrReplaceTempView("visits")
            released = _reader(spark, question, question.epsilon / float(price)).execute_df(sql)  # pandas
            return {
                name: dict(zip(released["key"], map(float, released[_PREFIX + name]), strict=True))
                for name in question.aggregates
            }

        yield ask


def _sql(question: Question) -> str:
    if question.bounds != "rows":
        raise Unsupported("no bound on groups")
    if "median" in question.aggregates:
        raise Unsupported("no median")
    columns = ", ".join(f"{_EXPRESSIONS[name]} AS {_PREFIX}{name}" for name in question.aggregates)
    return f"SELECT key, {columns} FROM visits GROUP BY key"


def _reader(spark: SparkSession, question: Question, epsilon: float) -> snsql.PrivateReader:
    lower, upper = VALUES
    table = {
        "max_ids": MAX_TOTAL_ROWS,
        "censor_dims": question.keys == "private",
        "clamp_counts": False,
        "user": {"type": "int", "private_id": True},
        "key": {"type": "int"},
        "value": {"type": "int", "lower": lower, "upper": upper},
    }
    privacy = snsql.Privacy(epsilon=epsilon, delta=question.delta or 1e-6)
    return snsql.from_connection(spark, engine="spark", privacy=privacy, metadata={"": {"": {"visits": table}}})


if __name__ == "__main__":
    serve(open_smartnoise)
