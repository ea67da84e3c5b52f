"""Both examples from end to end, both ways: Delta lakes, ledgers, releases; processes talk mutual TLS.

Every released cell is compared with the pooled clamped truth. Its interval is taken at a confidence for which all
cells of an example together leave theirs with probability at most 1e-6 (Bonferroni): the stated false-alarm rate of
each comparison. A twin, whose truth is a third smaller as if a party were lost, must be rejected.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from dp.execution.release import StoredRelease, make_answers
from examples.airports import data as airports_data
from examples.airports import job as airports_job
from examples.health_insurance import data as health_data
from examples.health_insurance import job as health_job
from examples.support.cells import beside_truth
from examples.support.jobs import Answers, Example, read_answers, run_local
from spark_mpc import dp, lake
from spark_mpc.cli_demo import demo

FALSE_ALARM = 1e-6
DAYS = 14  # of flights: so few that no aircraft reaches the limit at an airport, and bounding drops nothing


@dataclass(frozen=True)
class Case:
    """One example as it is tested.

    Attributes:
        example: what runs.
        command: the same for the command line, without its --output.
        home: the folder below --output that the run with processes uses.
        truths: the pooled clamped truth of every question, by title.
        report: prints answers.
    """

    example: Example
    command: Sequence[str]
    home: str
    truths: Callable[[], Mapping[str, pd.DataFrame]]
    report: Callable[[Answers, Path], None]


DEMO = (sys.executable, "-c", "from spark_mpc.cli_demo import demo; demo()")
INSURERS = Case(
    health_job.example(3, Fraction(1)),
    DEMO,
    "processes-3",
    cache(lambda: {health_job.USE: health_data.pooled_truth(), health_job.VISITS: health_data.pooled_histogram()}),
    lambda answers, home: health_job.report(answers, home / "local.png", "a test"),
)
CASES = {
    "health_insurance": INSURERS,
    "health_insurance under rep3": replace(
        INSURERS,
        example=health_job.example(3, Fraction(1), "rep3"),
        command=(*DEMO, "--protocol", "rep3"),
        home="processes-3-rep3",
    ),
    # So few flights drown in the noise of epsilon 1, where nothing could ever be found wrong; hence 100.
    "airports": Case(
        airports_job.example(DAYS, Fraction(100)),
        (sys.executable, "-m", "examples.airports", "--days", str(DAYS), "--epsilon", "100"),
        "processes",
        cache(lambda: {airports_job.DELAYS: airports_data.pooled_truth(DAYS)}),
        lambda answers, home: airports_job.report(answers, DAYS),
    ),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name == "health_insurance" else pytest.mark.long) for name in sorted(CASES)],
)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def local(
    case: Case, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Mapping[str, dp.Release]]:
    """The run in one process: its folder, and its releases by title."""
    home = tmp_path_factory.mktemp("local")
    return home, run_local(case.example, spark, home)


@pytest.fixture(scope="module")
def processes(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run with a process per party: its folder, and what it printed."""
    output = tmp_path_factory.mktemp("processes")
    command = [*case.command, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output / case.home, done.stdout


def paid(home: Path, party: str, release: dp.Release, question: int) -> dp.Release:
    """What a party's ledger stores of a question, at the confidence that all cells of an example need together."""
    ledger = lake.Ledger.open(home / party / "ledger.sqlite")
    stored = ledger.stored_release(ledger.entries()[question].release_key)
    assert stored is not None
    words = StoredRelease.from_bytes(stored, release.plan).words
    cells = 200  # more than either example releases
    return replace(release, answers=make_answers(release.plan, words, confidence=1 - FALSE_ALARM / cells))


def misses(case: Case, home: Path, releases: Mapping[str, dp.Release], *, scale: float = 1.0) -> int:
    """How many cells, at any party, do not hold the scaled truth in their intervals."""
    missed = 0
    for party in case.example.parties:
        wide = {title: paid(home, party, release, i) for i, (title, release) in enumerate(releases.items())}
        for title, cells in case.example.answers(wide).items():
            beside = beside_truth(cells, case.truths()[title]).dropna(subset=["truth"])  # the mean of no rows has none
            assert len(beside) >= 0.9 * len(cells)
            truth = beside["truth"] * scale
            missed += int(((truth < beside["lower"]) | (truth > beside["upper"])).sum())
    return missed


@pytest.mark.slow
def test_every_cell_of_the_local_run_is_near_the_truth(
    case: Case, local: tuple[Path, Mapping[str, dp.Release]]
) -> None:
    assert misses(case, *local) == 0
    assert misses(case, *local, scale=2 / 3) > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_cell_of_the_processes_is_near_the_truth(
    case: Case, local: tuple[Path, Mapping[str, dp.Release]], processes: tuple[Path, str]
) -> None:
    _, releases = local
    home, _ = processes
    assert misses(case, home, releases) == 0
    assert misses(case, home, releases, scale=2 / 3) > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_ways_print_the_same_truth(
    case: Case,
    local: tuple[Path, Mapping[str, dp.Release]],
    processes: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, releases = local
    case.report(case.example.answers(releases), home)
    printed = printed_truths(capsys.readouterr().out)
    assert len(printed) > 70
    assert printed == printed_truths(processes[1])


def printed_truths(text: str) -> list[str]:
    """The numbers in brackets and, of lines with an expected error, those that follow it."""
    lines = (re.findall(r"\(([\d,]+)\)|±\S+ +(.*)", line) for line in text.split("\n"))
    return [number for line in lines for pair in line for number in pair if number]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_party_holds_the_same_answers(case: Case, processes: tuple[Path, str]) -> None:
    home, _ = processes
    first, *others = (read_answers(home, party) for party in case.example.parties)
    assert first
    assert all(
        mine.keys() == first.keys() and all(mine[title].equals(first[title]) for title in first) for mine in others
    )


def price(example: Example) -> dp.PureDP | dp.ApproxDP:
    """Of all its answers; under rep3 each pays a small delta, too."""
    return dp.ApproxDP(example.epsilon, 2 * example.delta) if example.delta else dp.PureDP(example.epsilon)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_owner_paid_the_price_once(
    case: Case, local: tuple[Path, Mapping[str, dp.Release]], processes: tuple[Path, str]
) -> None:
    for home in (local[0], processes[0]):
        for party in case.example.parties:
            ledger = lake.Ledger.open(home / party / "ledger.sqlite")
            assert ledger.spent() == price(case.example)
            assert {entry.state for entry in ledger.entries()} == {"spent"}
    for party in case.example.parties:
        assert f"Ledger of {party}: spent epsilon={case.example.epsilon}" in processes[1]
        assert (processes[0] / "logs" / f"{party}.log").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["health_insurance"], indirect=True)
def test_the_finding_is_visible(case: Case, local: tuple[Path, Mapping[str, dp.Release]]) -> None:
    """Free care against 95% coinsurance: the truth differs by 0.96 visits, more than three expected errors."""
    cells = case.example.answers(local[1])[health_job.USE]
    errors = cells[cells["name"] == "mean_visits"].set_index("key")["stddev"]
    assert 3 * (errors["0"] ** 2 + errors["95"] ** 2) ** 0.5 < 0.96


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["health_insurance"], indirect=True)
def test_a_picture_is_saved(case: Case, processes: tuple[Path, str]) -> None:
    (picture,) = processes[0].glob("*.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert str(picture) in processes[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["health_insurance"], indirect=True)
def test_the_same_question_again_is_free(
    case: Case, local: tuple[Path, Mapping[str, dp.Release]], spark: SparkSession
) -> None:
    home, releases = local
    again = run_local(case.example, spark, home)
    assert all(again[title].paid_before and not releases[title].paid_before for title in releases)
    first, second = case.example.answers(releases), case.example.answers(again)
    assert all(first[title].equals(second[title]) for title in releases)
    for party in case.example.parties:
        assert lake.Ledger.open(home / party / "ledger.sqlite").spent() == price(case.example)


def descendants(pid: int) -> set[int]:
    """Every process below one, as /proc tells now."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {pid}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--output", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        seen = ""
        while "opens its lake" not in seen:  # all three have Spark, hence a JVM each
            seen += run.stdout.readline()
            assert run.poll() is None, seen
        below = descendants(run.pid)
        assert len(below) >= 6  # three parties, three JVMs
        run.send_signal(signal.SIGINT)
        seen = run.stdout.read()
        assert run.wait(60) == 130
        assert "no party is left running" in seen
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in below) and time.monotonic() < deadline:
        os.sched_yield()
    assert not [pid for pid in below if is_running(pid)]


def test_the_demo_refuses_an_example_that_there_is_not() -> None:
    result = CliRunner().invoke(demo, ["somewhere_else"])
    assert result.exit_code == 2
    assert "health_insurance" in result.output


@pytest.mark.parametrize("epsilon", ["much", "1/0", ""])
def test_an_epsilon_that_is_no_number_is_refused(epsilon: str) -> None:
    result = CliRunner().invoke(demo, ["--epsilon", epsilon])
    assert result.exit_code == 2
    assert "no exact number" in result.output


def test_an_installed_package_finds_the_examples_inside_it(tmp_path: Path) -> None:
    """As the wheel lays them out (pyproject.toml)."""
    root = Path(dp.__file__).parents[1]
    for package in ("dp", "lake", "spark_mpc"):
        shutil.copytree(root / package, tmp_path / package)
    shutil.copytree(root / "examples", tmp_path / "spark_mpc" / "examples")
    script = "from spark_mpc.cli_demo import demo; demo(['airports', '--epsilon', 'nonsense'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "no exact number" in done.stderr


def test_a_person_is_at_one_site_on_one_plan_for_at_most_five_years() -> None:
    """What the declared overlap and the contribution bounds of the example rest on: bounding drops nothing."""
    sites = [health_data.read([site]) for site in range(1, 7)]
    rows = pd.concat(sites, keys=range(1, 7), names=["site"]).reset_index("site")
    assert (len(rows), rows["zper"].nunique()) == (20_190, 5_912)
    assert rows.groupby("zper")[["site", "plan", "coins"]].nunique().max().max() == 1
    assert rows.groupby("zper").size().max() == 5
    assert set(rows["coins"]) == set(health_data.COINSURANCE)
    assert set(rows["plan"]) == set(health_data.PLANS)


def test_an_aircraft_is_at_up_to_three_airports() -> None:
    """What the declared overlap of the example rests on, and that the quick version drops no flight."""
    rows = pd.concat([airports_data.read(airport).assign(airport=airport) for airport in airports_data.AIRPORTS])
    assert len(rows) == 336_776
    assert rows.groupby("tailnum")["airport"].nunique().max() == 3
    assert rows.groupby("tailnum").size().max() == 575
    assert set(rows["carrier"]) == set(airports_data.CARRIERS)
    quick = airports_data.pooled_truth(DAYS).dropna()
    assert (quick["truth"] == quick["bounded truth"]).all()
