"""The examples on one lake: each asks its questions of a small Delta table, and its answers are near the truth.

Intervals are taken at a confidence for which all cells of an example together leave theirs with probability at most
1e-6 (Bonferroni): the stated false-alarm rate of each comparison. Tables are such that bounding drops nothing. A twin,
whose truth is a third smaller, must be rejected.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from dp.execution.release import StoredRelease, make_answers
from examples.airports import one_lake as airports
from examples.health_insurance import one_lake as health
from examples.restaurant import data as restaurant_data
from examples.restaurant import job as restaurant
from examples.reviews import data as reviews_data
from examples.reviews import job as reviews
from examples.support.one_lake import Answer
from examples.word_count import data as words_data
from examples.word_count import job as word_count
from spark_mpc import dp, lake
from spark_mpc.cli_demo import demo

FALSE_ALARM = 1e-6
CELLS = 400  # more than any example releases
DAYS = 3  # of flights: so few that no aircraft reaches a bound
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """One example as it is tested.

    Attributes:
        run: what answers its questions in a folder.
        rows: makes its table.
        epsilon: of each question, large where the table is small, so that something could be found wrong.
    """

    run: Callable[[SparkSession, Path, Fraction, pd.DataFrame], list[Answer]]
    rows: Callable[[], pd.DataFrame]
    epsilon: Fraction


CASES = {
    "restaurant": Case(restaurant.run, cache(restaurant_data.visits), Fraction(restaurant.LN_3)),
    "reviews": Case(reviews.run, cache(lambda: reviews_data.reviews(3000, reviews_data.MOST_REVIEWS)), Fraction(5)),
    "word_count": Case(word_count.run, cache(words_data.words), Fraction(50)),
    "health_insurance.one_lake": Case(health.run, cache(lambda: health.data.read(schema=health.SCHEMA)), Fraction(4)),
    "airports.one_lake": Case(airports.run, cache(lambda: airports.read(DAYS)), Fraction(100)),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def answered(case: Case, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Answer]]:
    """The example's folder, and its answers."""
    home = tmp_path_factory.mktemp("example")
    return home, case.run(spark, home, case.epsilon, case.rows())


def wide_cells(home: Path, answers: list[Answer]) -> pd.DataFrame:
    """What the ledger stores of every question, at the confidence that all cells of an example need together."""
    cells = []
    with lake.Ledger.open(home / "ledger.sqlite") as ledger:
        for entry, answer in zip(ledger.entries(), answers, strict=True):
            stored = ledger.stored_release(entry.release_key)
            assert stored is not None
            words = StoredRelease.from_bytes(stored, answer.release.plan).words
            wide = make_answers(answer.release.plan, words, confidence=1 - FALSE_ALARM / CELLS)
            cells.append(answer.question.cells(wide.accuracy.to_pandas()))
    return pd.concat(cells, ignore_index=True)


def misses(cells: pd.DataFrame, *, scale: float = 1.0) -> pd.DataFrame:
    """The cells whose intervals do not hold the scaled truth; the mean of no rows has none."""
    cells = cells.dropna(subset=["truth"])
    truth, rounding = cells["truth"] * scale, 1e-6 * cells["truth"].abs()
    return cells[(truth < cells["lower"] - rounding) | (truth > cells["upper"] + rounding)]


@pytest.mark.slow
def test_every_cell_is_near_the_truth(answered: tuple[Path, list[Answer]]) -> None:
    cells = wide_cells(*answered)
    assert 20 < len(cells) <= CELLS
    assert misses(cells).empty
    assert len(misses(cells, scale=2 / 3)) > len(cells) / 10


@pytest.mark.slow
def test_bounding_drops_nothing_of_the_small_tables(answered: tuple[Path, list[Answer]]) -> None:
    """What the comparison above rests on."""
    cells = pd.concat([answer.cells for answer in answered[1]])
    counted = cells.get("counted", cells["truth"])
    assert np.allclose(counted.fillna(cells["truth"]), cells["truth"], equal_nan=True)


@pytest.mark.slow
def test_every_question_is_paid_for_once(case: Case, spark: SparkSession, answered: tuple[Path, list[Answer]]) -> None:
    home, answers = answered
    again = case.run(spark, home, case.epsilon, case.rows())
    assert [answer.release.paid_before for answer in answers] == [False] * len(answers)
    assert [answer.release.paid_before for answer in again] == [True] * len(answers)
    assert all(old.cells.equals(new.cells) for old, new in zip(answers, again, strict=True))
    with lake.Ledger.open(home / "ledger.sqlite") as ledger:
        assert len(ledger.entries()) == len(answers)
        assert ledger.spent() == ledger.capacity


@pytest.mark.slow
@pytest.mark.parametrize("case", ["restaurant", "word_count", "airports.one_lake"], indirect=True)
def test_what_is_named_is_there_and_what_is_large_is_named(answered: tuple[Path, list[Answer]]) -> None:
    """Of the questions with private keys; with 1e-6 as the chance that one of these groups is missed."""
    private = [answer for answer in answered[1] if answer.release.plan.selection is not None]
    assert private
    for answer in private:
        named, truth = answer.cells, answer.question.truth
        units = truth[truth["name"] == truth["name"].iloc[0]]
        sure = answer.release.plan.selection.threshold_at(1 - FALSE_ALARM / 1000)
        large = set(units.loc[units["truth"] >= sure, "key"])
        assert large <= set(named["key"]) <= set(units["key"])
        assert large


@pytest.mark.slow
@pytest.mark.parametrize("case", ["health_insurance.one_lake"], indirect=True)
def test_the_slope_of_coinsurance_is_near_the_truth(answered: tuple[Path, list[Answer]]) -> None:
    """Four times as far as the interval reaches: far out for a Laplace of its width, and still the right sign."""
    slopes = health.slopes_of(answered[1][-1].cells).set_index("key")
    reach = 4 * (slopes["upper"] - slopes["lower"]) / 2
    assert ((slopes["value"] - slopes["truth"]).abs() < reach).all()
    assert slopes.loc["coins", "upper"] < 0


@pytest.mark.slow
def test_an_example_runs_as_a_program_and_leaves_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, "-m", "examples.word_count", "--picture", str(picture)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("Price", "Expected error (95%)", "95% interval", "truth", "of the data are not named", "The ledger"):
        assert part in done.stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.glob("spark-mpc-*"))  # table and ledger are gone


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_command_line_knows_every_example(name: str) -> None:
    result = CliRunner().invoke(demo, [name, "--epsilon", "much"])
    assert result.exit_code == 2
    assert "no exact number" in result.output


def test_an_example_on_one_lake_has_no_parties() -> None:
    result = CliRunner().invoke(demo, ["reviews", "--parties", "3"])
    assert result.exit_code == 2
    assert "No such option" in result.output


def test_ln_3_is_reached_from_below() -> None:
    assert 2.9999 < math.exp(Fraction(restaurant.LN_3)) < 3


@pytest.mark.parametrize("rows", [restaurant_data.visits, reviews_data.reviews, words_data.words])
def test_data_are_the_same_every_time(rows: Callable[[], pd.DataFrame]) -> None:
    assert rows().equals(rows())


def test_a_visitor_comes_once_a_day_on_four_days_at_most() -> None:
    """What the bounds of the example rest on: bounding drops nothing."""
    rows = restaurant_data.visits()
    assert not rows.duplicated(["visitor", "day"]).any()
    assert rows.groupby("visitor").size().max() == 4
    assert set(rows["entered"] // 60) == set(restaurant_data.HOURS)


def test_a_few_users_write_many_reviews() -> None:
    count = reviews_data.reviews().groupby("user").size()
    assert count.median() == 1
    assert count.max() == 300
    assert count.nlargest(len(count) // 100).sum() > count.sum() / 5


def test_a_licence_has_at_most_forty_words() -> None:
    rows = words_data.words()
    texts = rows.groupby(["package", "file"])
    assert texts["word"].nunique().eq(texts.size()).all()
    assert texts.size().max() == words_data.MOST_WORDS
    assert len(texts) >= 10


def test_no_licences_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(dp.InvalidArgument, match="licence text"):
        words_data.words([str(tmp_path)])
