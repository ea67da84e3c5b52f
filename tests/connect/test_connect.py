"""Spark Connect: a client of a server from the pip-installed pyspark gets the answers that classic Spark gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dp.accounting.budget import ApproxDP
from lake.ledger import Ledger
from tests.connect.questions import BILLS, QUESTIONS, REFUSED, VISITS, Answer, Site
from tests.connect.worker import outcome
from tests.tools.connect import connect_server, python_without_project, zipped_packages
from tests.tools.lakes import write_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
WARDS = ("east", "north", "south")
TAGS = ("red", "green", "blue")
NOISE = 0.05
"""Above what an epsilon of 10^6 leaves: the greatest standard deviation is below 0.01."""


@pytest.fixture(scope="session")
def site(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The tables, and classic Spark over them."""
    folder = tmp_path_factory.mktemp("connect")
    # visits: 60 ids with 4 rows each, in 3 wards
    visits = [(i // 4, WARDS[i % 3], i % 11, i % 6, i % 9, list(TAGS[: i % 4])) for i in range(240)]
    rows = [(unit, ward, float(cost), *others) for unit, ward, cost, *others in visits]
    write_table(spark, folder / "visits", VISITS, rows)
    write_table(spark, folder / "bills", BILLS, [(i // 2, float(i % 40)) for i in range(100)])
    for _ in range(2):
        write_table(spark, folder / "old", BILLS, [(1, 1.0)])
    spark.sql(f"VACUUM delta.`{folder / 'old'}` RETAIN 0 HOURS").collect()
    for place in ("staging", "staging of the client"):
        (folder / place).mkdir()
    with Ledger.create(folder / "ledger", capacity=ApproxDP(10**9, "1/2")) as ledger:
        yield Site(spark, folder, ledger, folder / "staging")


@dataclass(frozen=True)
class Answers:
    """What became of every question, by name."""

    classic: Mapping[str, Answer]
    connect: Mapping[str, Answer]


@pytest.fixture(scope="session")
def answers(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What both Sparks answer at the same time; the client ships the project to a server that does not have it."""
    folder = tmp_path_factory.mktemp("server")
    ledger, errors = folder / "ledger", folder / "client.log"
    Ledger.create(ledger, capacity=ApproxDP(10**9, "1/2")).close()
    packages = zipped_packages(folder / "packages.zip")
    arguments = [site.folder, ledger, site.folder / "staging of the client", packages]
    python = python_without_project(folder / "python")
    with connect_server(folder / "server.log", python) as url, errors.open("w") as log:
        client = subprocess.Popen(
            [sys.executable, "-m", "tests.connect.worker", url, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert client.stdout is not None
        classic = {name: outcome(question, site) for name, question in {**QUESTIONS, **REFUSED}.items()}
        said = client.stdout.readline()
    try:
        client.communicate(timeout=60)  # the server is gone, and the client ends all the same
    finally:
        client.kill()
        client.communicate()
    assert client.returncode == 0, f"{errors.read_text()[-5000:]}\nThe server's log: {folder / 'server.log'}"
    return Answers(classic, json.loads(said))


def approximately(answer: Answer) -> Answer:
    """The answer with every real number up to noise."""
    if isinstance(answer, dict):
        return {name: approximately(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [approximately(value) for value in answer]
    return pytest.approx(answer, abs=NOISE) if isinstance(answer, float) else answer


@pytest.mark.parametrize("question", QUESTIONS)
def test_connect_answers_as_classic_spark_does(question: str, answers: Answers) -> None:
    assert answers.classic[question]
    assert answers.connect[question] == approximately(answers.classic[question])


def test_answers_are_those_of_the_data(answers: Answers) -> None:
    (rows, _) = answers.connect["aggregates"]
    by_ward = {row["ward"]: row for row in rows}
    assert (by_ward["east"]["count"], by_ward["nowhere"]["count"]) == (80, 0)
    assert by_ward["east"]["sum_cost"] == pytest.approx(sum(i % 11 for i in range(0, 240, 3)), abs=NOISE)
    longer_than_2_20, left_behind, medians = answers.connect["long_vector"]
    assert longer_than_2_20
    assert left_behind == []
    assert len(medians) == 10


@pytest.mark.parametrize("refused", REFUSED)
def test_connect_refuses_in_the_words_of_classic_spark(refused: str, answers: Answers) -> None:
    assert answers.connect[refused] == answers.classic[refused]
    error, says = refused.split(": ")
    assert answers.connect[refused].startswith(f"{error}: ")
    assert says in answers.connect[refused]


def test_a_table_is_read_in_a_session_that_all_tables_of_the_caller_share(answers: Answers) -> None:
    assert answers.connect["settings"] == {"reading": True, "caller": True, "shared": True}
    assert answers.connect["time zone"] == [True, "Asia/Kathmandu"]


def test_a_reading_session_that_the_server_closed_is_replaced(answers: Answers) -> None:
    replaced, rows = answers.connect["closed by the server"]
    assert replaced
    assert rows == [{"count": 240}]


def test_frames_of_two_sessions_are_refused_with_a_remedy(answers: Answers) -> None:
    assert answers.connect["other session"].startswith("InvalidArgument: other='dataframe'")
    assert "Table.forPath or df.dp" in answers.connect["other session"]


def test_a_long_vector_needs_a_place_that_was_given(answers: Answers) -> None:
    assert answers.connect["no staging"].startswith("InvalidArgument: staging=None")
