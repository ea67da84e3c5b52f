"""When is the restaurant busy, how long do guests stay, what do they spend? Six questions at epsilon = ln 3 each."""

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
from ..support.one_lake import Answer, Question, ask, lake_options, open_ledger, workplace
from ..support.pictures import draw
from . import data

__all__ = ["LN_3", "main", "questions", "run"]

LN_3 = "1.0986"
"""Budgets are exact and ln 3 is no fraction; from below, so that whoever is promised ln 3 = 1.09861... gets no less."""

DELTA = Fraction(1, 10**5)


def questions(visits: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> Sequence[Question]:
    """The codelab's questions about one day, and one about the week; a visitor comes once a day, on four days at most.

    Args:
        visits: the table.
        rows: the same in the clear, for the truth.
        epsilon: of each question.
    """
    saturday = visits.where(f"day = {data.DAY}").withColumn("hour", "floor(entered / 60)")
    hourly = saturday.groupBy("hour", keys=data.HOURS, max_groups=1, max_rows=1)
    open_hours = saturday.groupBy("hour", keys=dp.private_keys(), max_groups=1, max_rows=1)
    whole_week = visits.groupBy(max_groups=1, max_rows=4)
    count, stay = dp.count().alias("visits"), dp.mean("minutes", 0, data.MOST_MINUTES).alias("minutes")
    revenue = dp.sum("euros", 0, data.MOST_EUROS).alias("euros")
    truth = data.by_hour(rows)
    visits_only = truth[truth["name"] == "visits"]
    return (
        Question(
            "Visits per hour, public hours",
            "The hours on the door are no secret: all twelve appear, with noise, and the whole budget is the counts'.",
            hourly.agg(count),
            visits_only,
            epsilon,
        ),
        Question(
            "Visits per hour, private hours",
            "Hours are named only if enough visitors came; that takes half the budget and a delta.",
            open_hours.agg(count),
            visits_only,
            epsilon,
            DELTA,
        ),
        Question("Mean stay per hour", "A stay counts as 60 minutes at most.", hourly.agg(stay), truth, epsilon),
        Question("Revenue per hour", "A visit counts with 40 euros at most.", hourly.agg(revenue), truth, epsilon),
        Question(
            "Visits, mean stay and revenue on one budget",
            "One query, one pass, one price. The mean needs the count anyway, so that three measures share epsilon.",
            hourly.agg(count, stay, revenue),
            truth,
            epsilon,
        ),
        Question(
            "The week's revenue, clamped by visit and by visitor",
            "Four visits of 40 euros could make 160. Hardly anybody spends more than 60 in all: less noise, some bias.",
            whole_week.agg(
                dp.sum("euros", 0, data.MOST_EUROS).alias("clamped_visits"),
                dp.unit_sum("euros", 0, data.MOST_TOTAL).alias("clamped_visitors"),
            ),
            data.week(rows),
            epsilon,
        ),
    )


def run(spark: SparkSession, folder: Path, epsilon: Fraction, rows: pd.DataFrame) -> list[Answer]:
    """Write the table, open the ledger, ask."""
    write_table(spark, lambda: rows, data.SCHEMA, folder / "visits")
    path = folder / "visits"
    table = lake.Table.forPath(spark, path, unit="visitor", null_units="drop", version=VERSION, max_units=10**5)
    asked = questions(table.private(), rows, epsilon)
    capacity = dp.ApproxDP(sum(question.epsilon for question in asked), sum(question.delta for question in asked))
    return ask(asked, open_ledger(folder, capacity))


@click.command()
@lake_options("restaurant", LN_3)
def main(epsilon: Fraction, output: Path | None, picture: Path) -> None:
    """A week in a restaurant: the codelab of Privacy on Beam."""
    with workplace(output) as folder:
        answers = run(small_session("restaurant", cores=2), folder, epsilon, data.visits())
    cells = answers[4].cells
    panels = {str(name).replace("euros", "revenue (euros)"): block for name, block in cells.groupby("name", sort=False)}
    draw(panels, picture, title=f"Saturday by hour: three numbers together for epsilon = {float(epsilon):.4g}")
