"""A private word count: which words are common to licences, without showing that one licence has a word."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import click
import pandas as pd
from pyspark.sql import SparkSession

from spark_mpc import dp, lake

from ..support.jobs import small_session
from ..support.lakes import VERSION, write_table
from ..support.one_lake import Answer, Question, ask, lake_options, open_ledger, workplace
from ..support.pictures import draw
from . import data

__all__ = ["compare_strategies", "main", "questions", "run"]

DELTA = Fraction(1, 10**5)
Strategy = Literal["truncated_geometric", "laplace", "gaussian"]


def word_query(words: dp.PrivateFrame, strategy: Strategy) -> dp.PrivateQuery:
    """In how many texts each word is, and how often; a text has 40 words, each in one row."""
    keys = dp.private_keys(strategy=strategy, weight=2)
    return words.groupBy("word", keys=keys, max_groups=data.MOST_WORDS).agg(
        dp.count_units().alias("texts"), dp.unit_sum("times", 0, data.MOST_TIMES).alias("times")
    )


def questions(words: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> Sequence[Question]:
    """One question.

    Args:
        words: the table.
        rows: the same in the clear, for the truth.
        epsilon: of the question.
    """
    return (
        Question(
            "Words of licences",
            "Nobody can list all words, so that keys are private. One text touches 40 of them: Gaussian noise grows\n"
            "with the root of 40, Laplace noise with 40. Few texts are installed, so epsilon is large: a word that\n"
            "only a few texts have cannot be named at any small one. Licences can bear it, people could not.",
            word_query(words, "gaussian"),
            data.by_word(rows),
            epsilon,
            DELTA,
            most=20,
        ),
    )


def compare_strategies(words: dp.PrivateFrame, epsilon: Fraction) -> str:
    """How many texts a word needs to be named, by strategy; `explain` says it for free."""
    explained = (word_query(words, strategy).explain(epsilon, DELTA) for strategy in get_args(Strategy))
    return "\n".join(f"    {explanation.sections['Private keys'][0]}" for explanation in explained)


def run(spark: SparkSession, folder: Path, epsilon: Fraction, rows: pd.DataFrame) -> list[Answer]:
    """Write the table, open the ledger, compare strategies, ask."""
    write_table(spark, lambda: rows, data.SCHEMA, folder / "words")
    table = lake.Table.forPath(spark, folder / "words", unit=("package", "file"), version=VERSION, max_units=10**5)
    asked = questions(table.private(), rows, epsilon)
    texts = rows[["package", "file"]].drop_duplicates()
    click.echo(f"{len(texts)} texts of {texts['package'].nunique()} packages, {rows['word'].nunique():,} words\n")
    click.echo(f"What it takes to be named:\n{compare_strategies(table.private(), epsilon)}")
    return ask(asked, open_ledger(folder, dp.ApproxDP(epsilon, DELTA)))


@click.command()
@lake_options("word_count", "8")
def main(epsilon: Fraction, output: Path | None, picture: Path) -> None:
    """Words that licences share, counted in the texts of this Python environment."""
    with workplace(output) as folder:
        (answer,) = run(small_session("word count", cores=2), folder, epsilon, data.words())
    cells = answer.cells
    first = cells[cells["name"] == "texts"].nlargest(15, "value")
    panels = {name: cells[(cells["name"] == name) & cells["key"].isin(first["key"])] for name in ("texts", "times")}
    if len(first):
        draw(panels, picture, title=f"Words that licences share, epsilon = {epsilon}")
