"""OpenDP's Polars interface, in one process without Spark.

Of a user's groups the first ones by key stay: the random choice, `keep="sample"`, fails in this version on the names of
its own columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import opendp.prelude as dp  # type: ignore[import-not-found]
import polars as pl  # type: ignore[import-not-found]

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

_MOST_ROWS = 10**8  # of one group; public, checks that no sum overflows


@contextmanager
def open_opendp() -> Iterator[Ask]:
    """OpenDP on the threads of Polars."""
    dp.enable_features("contrib")
    yield _ask


def _ask(question: Question) -> Answer:
    context = dp.Context.compositor(
        data=pl.scan_parquet(f"{question.visits}/*.parquet"),
        privacy_unit=dp.unit_of(contributions=1, identifier=pl.col("user")),
        privacy_loss=dp.loss_of(epsilon=question.epsilon, delta=question.delta),
        split_evenly_over=1,
        margins=[dp.polars.Margin(by=["key"], max_length=_MOST_ROWS, max_groups=KEYS)],
    )
    visits = context.query()
    if question.bounds == "rows":
        visits = visits.truncate_per_group(MAX_TOTAL_ROWS)
    else:
        visits = visits.truncate_per_group(MAX_ROWS, by=["key"]).truncate_num_groups(MAX_GROUPS, ["key"], keep="first")
    query = visits.group_by("key").agg([_expression(name).alias(name) for name in question.aggregates])
    if question.keys == "public":
        query = query.with_keys(pl.LazyFrame({"key": list(range(KEYS))}))
    released = query.release().collect()
    keys = released["key"].to_list()
    return {
        name: dict(zip(keys, released[name].cast(pl.Float64).to_list(), strict=True)) for name in question.aggregates
    }


def _expression(aggregate: str) -> pl.Expr:
    value = pl.col("value")
    match aggregate:
        case "count":
            return dp.len(signed=True)
        case "sum":
            return value.dp.sum(VALUES)
        case "mean":
            return value.dp.mean(VALUES)
        case "median":
            return value.dp.median(list(range(VALUES[0], VALUES[1] + 1)))
    raise Unsupported(f"no {aggregate}")


if __name__ == "__main__":
    serve(open_opendp)
