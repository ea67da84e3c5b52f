"""The pipeline example as a newcomer runs it: killed in each step, run again, and beside another pipeline."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

from examples.pipeline import data, job
from spark_mpc import dp
from spark_mpc.cli_demo import demo

DAYS = tuple(f"stays/2026-03-{day:02}" for day in range(2, 9))


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spark_mpc.cli", "demo", "pipeline", "--output", str(folder), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


def consumed(folder: Path) -> list[str]:
    """What each day has paid; the log and the sums agree."""
    with job.open_ledger(folder) as ledger:
        ledger.verify()
        paid = {state.name: state.consumed for state in ledger.blocks() if state.layout}
    return [str(paid[day].amounts["epsilon"]) for day in DAYS if day in paid]


def releases(folder: Path) -> list[bytes | None]:
    """Every stored answer, byte for byte."""
    with job.open_ledger(folder) as ledger:
        keys = [entry.release_key for entry in ledger.entries("spent") if entry.release_key]
        return [ledger.stored_release(key) for key in keys]


def answers(printed: str) -> list[str]:
    """The lines that show released numbers."""
    lines = [line.strip() for line in printed.splitlines()]
    return [line for line in lines if line.startswith(("hours = ", *data.WARDS))]


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_pipeline_that_is_killed_in_each_step_pays_for_each_step_once(tmp_path: Path) -> None:
    killed = run(tmp_path, "--crash", "statistics")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "statistics: not granted in time, attempt 1" in killed.stdout  # somebody else had the budget
    assert set(consumed(tmp_path)) == {"0"}

    killed = run(tmp_path, "--crash", "model")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "statistics: paid" in killed.stdout
    assert consumed(tmp_path) == ["2/5"] * 7
    statistics = releases(tmp_path)
    assert len(statistics) == 1

    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "statistics: free, answered from the ledger" in done.stdout
    assert "model: paid" in done.stdout
    assert consumed(tmp_path) == ["2/5"] * 2 + ["4/5"] * 5
    assert (tmp_path / "demo-output" / "pipeline.png").read_bytes()[:4] == b"\x89PNG"
    both = releases(tmp_path)
    assert both[:1] == statistics

    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("free, answered from the ledger\n") == 2
    assert (consumed(tmp_path), releases(tmp_path)) == (["2/5"] * 2 + ["4/5"] * 5, both)
    assert len(answers(done.stdout)) == 9
    assert answers(again.stdout) == answers(done.stdout)
    assert answers(killed.stdout) == answers(done.stdout)[:8]  # the first answer, as the killed process had shown it


@pytest.mark.slow
def test_two_pipelines_that_compete_exhaust_a_day_and_no_more(spark: SparkSession, tmp_path: Path) -> None:
    job.run(spark, tmp_path, Fraction(1, 20), "first")
    with ThreadPoolExecutor(2) as pool:
        racers = [
            pool.submit(job.run, spark, tmp_path, Fraction(epsilon), name)
            for name, epsilon in (("ann", "1/4"), ("bob", "1/5"))
        ]
        for racer in racers:
            racer.result()
    assert consumed(tmp_path) == ["1/2"] * 2 + ["1"] * 5
    before = releases(tmp_path)
    job.run(spark, tmp_path, Fraction(1, 4), "who comes after")  # what ann asked: free
    with pytest.raises(dp.BudgetExceeded, match="step 'statistics' found no budget in 20 attempts"):
        job.run(spark, tmp_path, Fraction(1, 100), "late")  # two days have some left, but it wants the week
    assert (consumed(tmp_path), releases(tmp_path)) == (["1/2"] * 2 + ["1"] * 5, before)
    with job.open_ledger(tmp_path) as ledger:
        paid = [entry for entry in ledger.entries("spent") if entry.release_key]
        assert sorted((entry.owner, len(entry.blocks)) for entry in paid) == [
            (name, days) for name in ("ann", "bob", "first") for days in (5, 7)
        ]
        assert not ledger.entries("reserved", "waiting", "armed")


def test_the_command_line_passes_its_options_on() -> None:
    for options, message in ((["--crash", "nowhere"], "'nowhere' is not one of"), (["--local"], "No such option")):
        result = CliRunner().invoke(demo, ["pipeline", *options])
        assert result.exit_code == 2
        assert message in result.output
    assert "No such option '--crash'" in CliRunner().invoke(demo, ["reviews", "--crash", "model"]).output


def test_every_patient_stays_once() -> None:
    stays = data.stays()
    assert stays.equals(data.stays())
    assert stays["patient"].is_unique
    assert {f"stays/{day}" for day in stays["admitted"]} == set(DAYS)
