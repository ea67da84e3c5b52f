"""Every command and every program in docs/ledger.md runs as it stands, in the order of the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyspark.sql import SparkSession

import spark_mpc
from benchmarks._postgres import PostgresServer
from dp.accounting.budget import PureDP
from lake.blocks import TIME
from lake.ledger import Ledger
from lake.ledger.postgres import is_address
from spark_mpc.cli_ledger import ledger as command
from tests.tools.lakes import write_table
from tests.tools.ledgers import reserve

PAGE = (Path(spark_mpc.__file__).parent.parent / "docs" / "ledger.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^    spark-mpc ledger ([^\n]*)$|^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NAME = "claims.ledger"
TODAY = datetime.now(UTC).date()


def carry_out(line: str, stands_for: Mapping[str, str]) -> None:
    """One command of the page; what lasts until Ctrl-C is only read, or looks once."""
    words = [stands_for.get(word, word) for word in shlex.split(line.partition(" > ")[0])]
    if words[0] == "metrics":
        command.commands["metrics"].make_context("metrics", words[1:])
        return
    if words[0] == "approve":
        ask_until(int(words[-1]))
    result = CliRunner().invoke(command, [*words, *(["--times", "1"] if words[0] == "watch" else [])], input="y\n")
    assert result.exit_code == 0, (line, result.output)


def ask_until(number: int) -> None:
    """Claims that need an approval, up to the one of that number."""
    with Ledger.open(NAME) as ledger:
        while len(ledger.entries()) < number:
            reserve(ledger, f"asks {len(ledger.entries())}", "0.01")


def walk(run_program: Callable[[str], object], stands_for: Mapping[str, str]) -> list[str]:
    """Everything on the page but the mirror, which has a test of its own; returns the commands that ran."""
    lines = []
    for line, program in STEPS:
        if program:
            run_program(program)
        elif not line.startswith("mirror "):
            carry_out(line, stands_for)
            lines.append(line)
    return lines


@pytest.fixture
def server(postgres: PostgresServer) -> str:
    """The address of a ledger that is to be made; who analyses there has another name than on the page."""
    return postgres.url(postgres.create_database(), ledger="claims")


@pytest.fixture
def stands_for(server: str, postgres: PostgresServer) -> dict[str, str]:
    """What the page names, and what is there."""
    (address,) = {word for line, _ in STEPS for word in shlex.split(line) if is_address(word)}
    return {address: server, "analysts": postgres.create_role("analysts")}


def hold_some(program: str) -> None:
    """In place of a program, which needs Spark: a claim such as it makes."""
    with Ledger.open(NAME) as ledger:
        layouts = ledger.layouts()
        rule = layouts[0].rule if layouts else None
        recent = None if rule is None else TIME.isin(TODAY.isoformat())
        with ledger.claim(rule, recent, demand=PureDP("0.01")):
            pass


def test_every_command_of_the_page_runs(
    stands_for: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = walk(hold_some, stands_for)
    assert {line.split()[0] for line in lines} == set(command.commands) - {"mirror"}


@pytest.mark.slow
def test_every_program_of_the_page_runs(
    spark: SparkSession, stands_for: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    days = [TODAY - timedelta(days=ago) for ago in (0, 1, 400)]
    rows = [(number, days[number % 3], 100 * number) for number in range(9)]
    write_table(spark, tmp_path / "visits", "patient_id long, admitted date, cost int", rows)
    names: dict[str, object] = {}
    walk(lambda program: exec(program.replace("/lake", str(tmp_path)), names), stands_for)
    with Ledger.open(NAME) as ledger:
        assert [entry.price for entry in ledger.entries() if entry.release_key][:3] == [
            PureDP(1), PureDP("0.05"), PureDP("0.15"),
        ]  # fmt: skip
