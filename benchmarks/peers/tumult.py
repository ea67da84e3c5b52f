"""Tumult Analytics. One aggregate a query: the budget is split evenly over aggregates and key selection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from pyspark.sql import SparkSession
from tmlt.analytics import (  # type: ignore[import-not-found]
    AddRowsWithID,
    ApproxDPBudget,
    KeySet,
    MaxGroupsPerID,
    MaxRowsPerGroupPerID,
    MaxRowsPerID,
    PrivacyBudget,
    PureDPBudget,
    Query,
    QueryBuilder,
    Session,
)

from benchmarks.peers.protocol import (
    KEYS,
    MAX_GROUPS,
    MAX_ROWS,
    MAX_TOTAL_ROWS,
    VALUES,
    Answer,
    Ask,
    Question,
    serve,
)
from benchmarks.peers.spark import spark_session

_BOUNDS = {
    "groups": (MaxGroupsPerID("key", MAX_GROUPS), MaxRowsPerGroupPerID("key", MAX_ROWS)),
    "rows": (MaxRowsPerID(MAX_TOTAL_ROWS),),
}


@contextmanager
def open_tumult() -> Iterator[Ask]:
    """Tumult Analytics on Spark."""
    with spark_session("tumult") as spark:
        session = lru_cache(lambda folder, pure: _session(spark, folder, pure))
        public = KeySet.from_dict({"key": list(range(KEYS))})

        def ask(question: Question) -> Answer:
            budgets = _Budgets(question)
            asked = session(question.visits, question.delta == 0)
            keys = public
            if question.keys == "private":
                groups = asked.evaluate(_pairs().get_groups(["key"]), budgets.of_keys)
                keys = KeySet.from_dataframe(groups)
            return {
                name: _column(asked, _query(question, keys, name), budgets.of_aggregate) for name in question.aggregates
            }

        yield ask


class _Budgets:
    """Equal shares of epsilon; all of delta goes to the key selection, which alone needs it."""

    def __init__(self, question: Question) -> None:
        private = question.keys == "private"
        share = question.epsilon / (len(question.aggregates) + private)
        self.of_keys = ApproxDPBudget(share, question.delta)
        self.of_aggregate = ApproxDPBudget(share, 0) if private else PureDPBudget(share)


def _session(spark: SparkSession, folder: str, pure: bool) -> Session:
    unlimited = PureDPBudget(float("inf")) if pure else ApproxDPBudget(float("inf"), 1)
    visits = spark.read.parquet(folder)
    return Session.from_dataframe(unlimited, "visits", visits, AddRowsWithID("user"))


def _visits(question: Question) -> QueryBuilder:
    visits = QueryBuilder("visits")
    for bound in _BOUNDS[question.bounds]:
        visits = visits.enforce(bound)
    return visits


def _pairs() -> QueryBuilder:
    """One row a user and group, which is enough to select groups."""
    return QueryBuilder("visits").enforce(MaxGroupsPerID("key", MAX_GROUPS)).enforce(MaxRowsPerGroupPerID("key", 1))


def _query(question: Question, keys: KeySet, aggregate: str) -> Query:
    groups = _visits(question).groupby(keys)
    match aggregate:
        case "count":
            return groups.count("answer")
        case "sum":
            return groups.sum("value", *VALUES, "answer")
        case "mean":
            return groups.average("value", *VALUES, "answer")
        case "variance":
            return groups.variance("value", *VALUES, "answer")
    return groups.quantile("value", 0.5, *VALUES, "answer")


def _column(session: Session, query: Query, budget: PrivacyBudget) -> dict[int, float]:
    return {row["key"]: float(row["answer"]) for row in session.evaluate(query, budget).collect()}


if __name__ == "__main__":
    serve(open_tumult)
