"""PrivateKube's six statistics over product reviews, for users with many reviews: how many, how long, how good."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import click
import pandas as pd
from pyspark.sql import SparkSession

from spark_mpc import dp, lake

from ..support.jobs import small_session
from ..support.lakes import VERSION, write_table
from ..support.one_lake import Answer, Question, ask, expected_errors, lake_options, open_ledger, workplace
from ..support.pictures import draw
from . import data

__all__ = ["compare_bounds", "main", "questions", "run"]


def questions(reviews: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> Sequence[Question]:
    """PrivateKube's statistics: five over all reviews, the sixth by category; then all of them by category.

    Args:
        reviews: the table.
        rows: the same in the clear, for the truth.
        epsilon: of each question.
    """
    count = dp.count().alias("count_reviews")
    words = ("tokens", 0, data.MAX_TOKENS)
    lengths = (dp.sum(*words), dp.mean(*words), dp.stddev(*words))
    named = tuple(a.alias(f"{name}_tokens") for a, name in zip(lengths, ("count", "avg", "std"), strict=True))
    rating = dp.mean("rating", 1, 5).alias("avg_rating")
    by_category = reviews.groupBy("category", keys=data.CATEGORIES, max_total_rows=data.MOST_REVIEWS)
    counts = data.by_category(rows)
    return (
        Question(
            "Five statistics over all reviews, in one pass",
            f"A user counts with {data.MOST_REVIEWS} reviews at most, a review with {data.MAX_TOKENS} tokens.\n"
            "Sum, mean and deviation share what they are made of: five numbers cost four sums.",
            reviews.agg(count, *named, rating, max_rows=data.MOST_REVIEWS),
            data.overall(rows),
            epsilon,
        ),
        Question(
            "Reviews per category",
            f"{data.MOST_REVIEWS} reviews of a user, wherever they are (L1): 11 categories cost no more than one.",
            by_category.agg(count),
            counts[counts["name"] == "count_reviews"],
            epsilon,
        ),
        Question(
            "All of them per category",
            "The same pass answers all, and each gets a part of epsilon.",
            by_category.agg(count, *named, rating),
            counts,
            epsilon,
        ),
    )


def compare_bounds(reviews: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> str:
    """What bounds cost in noise, as `explain` says for free, and in reviews left out, as only the truth says."""
    groups, lines = len(data.CATEGORIES), []
    for most in (2, 5, 20):
        query = reviews.groupBy("category", keys=data.CATEGORIES, max_groups=groups, max_rows=most).agg(dp.count())
        kept = data.share_kept(rows, by=("user", "category"), most=most)
        lines.append((f"max_groups={groups}, max_rows={most}", expected_errors(query, epsilon), kept))
    for most in (5, 20, 100):
        query = reviews.groupBy("category", keys=data.CATEGORIES, max_total_rows=most).agg(dp.count())
        kept = data.share_kept(rows, by=("user",), most=most)
        lines.append((f"max_total_rows={most}", expected_errors(query, epsilon), kept))
    return "\n".join(f"    {bound:26} {error:15} {kept:6.1%} of the reviews count" for bound, error, kept in lines)


def run(spark: SparkSession, folder: Path, epsilon: Fraction, rows: pd.DataFrame) -> list[Answer]:
    """Write the table, open the ledger, compare bounds, ask."""
    write_table(spark, lambda: rows, data.SCHEMA, folder / "reviews")
    table = lake.Table.forPath(spark, folder / "reviews", unit="user", version=VERSION, max_units=10**6)
    asked = questions(table.private(), rows, epsilon)
    click.echo(f"Bounds, for reviews per category at epsilon = {epsilon}:")
    click.echo(compare_bounds(table.private(), rows, epsilon))
    return ask(asked, open_ledger(folder, dp.PureDP(epsilon * len(asked))))


@click.command()
@lake_options("reviews", "1")
def main(epsilon: Fraction, output: Path | None, picture: Path) -> None:
    """Product reviews: the six statistics of PrivateKube, by user."""
    with workplace(output) as folder:
        answers = run(small_session("reviews", cores=2), folder, epsilon, data.reviews())
    cells = answers[2].cells
    panels = {name: cells[cells["name"] == name] for name in ("count_reviews", "avg_tokens", "avg_rating")}
    draw(panels, picture, title=f"Reviews by category, everything together for epsilon = {epsilon}")
