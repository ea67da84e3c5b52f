"""The steward's commands, in process and as a real one."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from lake.ledger import Ledger
from spark_mpc.cli_ledger import ledger as command
from tests.tools.ledgers import reserve


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def used(path: Path) -> Path:
    """A ledger with one spent, one reserved and one released entry."""
    with Ledger.create(path, capacity=PureDP("2")) as ledger:
        spent = reserve(ledger, "spent", "1/3")
        ledger.arm(spent, b"noised-vector")
        ledger.commit(spent, None)
        reserve(ledger, "reserved", "0.5", lease_seconds=1e6)
        ledger.release(reserve(ledger, "released", "1"))
    return path


@pytest.mark.parametrize(
    ("options", "capacity"),
    [
        (["--epsilon", "1/3"], PureDP("1/3")),
        (["--epsilon", "3", "--delta", "1e-6"], ApproxDP("3", "1e-6")),
        (["--rho", "0.1"], ZCDP("0.1")),
        (["--epsilon", "3", "--delta", "1e-6", "--orders", "usual"], RenyiDP.capacity(3, "1e-6")),
        (["--epsilon", "3", "--delta", "1e-6", "--orders", "2,16,7/2"], RenyiDP.capacity(3, "1e-6", [2, "7/2", 16])),
    ],
)
def test_create(path: Path, options: list[str], capacity: Budget) -> None:
    result = run("create", path, *options)
    assert (result.exit_code, result.output) == (0, f"created {path}: capacity {capacity}\n")
    with Ledger.open(path) as opened:
        assert opened.capacity == capacity


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--delta", "1e-6"],
        ["--epsilon", "1", "--rho", "1"],
        ["--rho", "1", "--delta", "0"],
        ["--rho", "1", "--orders", "usual"],
    ],
)
def test_create_needs_one_kind_of_budget(path: Path, options: list[str]) -> None:
    result = run("create", path, *options)
    assert result.exit_code == 2
    assert "give --epsilon, or --epsilon and --delta, or --rho" in result.output
    assert not path.exists()


def test_orders_need_a_delta(path: Path) -> None:
    result = run("create", path, "--epsilon", "1", "--orders", "usual")
    assert result.exit_code == 2
    assert "--orders needs --epsilon and --delta" in result.output
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "{path}", "--epsilon", "1"], "exists already"),
        (["create", "{path}2", "--epsilon", "one"], "epsilon='one'"),
        (["create", "{path}2", "--epsilon", "-1"], "never negative"),
        (["create", "{path}2", "--epsilon", "1", "--delta", "1e-6", "--orders", "1,64"], "an order is above 1"),
        (["create", "{path}2", "--epsilon", "1", "--delta", "1e-6", "--orders", "2"], "no order has room"),
        (["show", "{path}2"], "there is no such file"),
        (["export", "{path}2"], "there is no such file"),
    ],
)
def test_errors_are_messages_without_traceback(used: Path, arguments: list[str], message: str) -> None:
    result = run(*(argument.format(path=used) for argument in arguments))
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert "Traceback" not in result.output


def test_show(used: Path) -> None:
    result = run("show", used)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["ledger", "capacity", "spent", "reserved", "remaining"]
    assert lines[1:5] == [
        "capacity   epsilon=2",
        "spent      epsilon=0.333333 (1/3)",
        "reserved   epsilon=0.5",
        "remaining  epsilon=1.16667 (7/6)",
    ]
    assert lines[5].startswith("head       ")
    assert lines[6:8] == ["scheduler  fcfs", ""]
    assert lines[8].split() == ["number", "created", "state", "price", "table", "data", "version", "purpose", "run"]
    assert [line.split()[2] for line in lines[9:]] == ["spent", "reserved", "released"]
    assert all("visits" in line and "t@3" in line and "a test" in line for line in lines[9:])


def test_a_disclosure_is_shown_by_its_name_and_exported(path: Path) -> None:
    with Ledger.create(path, capacity=PureDP("2")) as ledger:
        reserve(ledger, "noised", "0.5", lease_seconds=1e6)
        reserve(ledger, "exact", PureDP(0), lease_seconds=1e6, disclosure="exposure-2026")
    lines = run("show", path).output.splitlines()
    assert lines[3:5] == ["reserved   epsilon=0.5", "remaining  epsilon=1.5"]
    price, table = lines[8].index("price"), lines[8].index("table")
    assert [line[price:table].rstrip() for line in lines[9:]] == ["epsilon=0.5", "exact: exposure-2026"]
    as_csv = list(csv.DictReader(run("export", path).output.splitlines()))
    as_json = [json.loads(line) for line in run("export", path, "--format", "json").output.splitlines()]
    assert as_csv == as_json
    assert [(row["disclosure"], row["epsilon"]) for row in as_csv] == [("", "1/2"), ("exposure-2026", "0")]


def test_show_of_an_unused_ledger(path: Path) -> None:
    Ledger.create(path, capacity=ZCDP("1")).close()
    assert run("show", path).output.splitlines()[1:5] == [
        "capacity   rho=1",
        "spent      rho=0",
        "reserved   rho=0",
        "remaining  rho=1",
    ]
    assert run("export", path).output == ""


def test_exports_are_exact_equal_and_without_secrets(used: Path) -> None:
    as_csv, as_json = run("export", used, "--format", "csv"), run("export", used, "--format", "json")
    from_csv = list(csv.DictReader(as_csv.output.splitlines()))
    from_json = [json.loads(line) for line in as_json.output.splitlines()]
    assert from_csv == from_json
    assert [(row["state"], row["epsilon"]) for row in from_csv] == [
        ("spent", "1/3"),
        ("reserved", "1/2"),
        ("released", "1"),
    ]
    assert "noised-vector" not in as_csv.output + as_json.output


@pytest.mark.parametrize("purpose", ['=HYPERLINK("http://x")', "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1"])
def test_nothing_in_a_csv_is_a_formula(path: Path, purpose: str) -> None:
    """An analyst writes the purpose, an auditor opens the file."""
    with Ledger.create(path, capacity=PureDP("2")) as ledger:
        reserve(ledger, "a", "0.5", purpose=purpose)
    (row,) = csv.DictReader(io.StringIO(run("export", path).output, newline=""))
    assert row["purpose"].startswith("'")
    assert json.loads(run("export", path, "--format", "json").output)["purpose"] == purpose


@pytest.mark.slow
def test_as_a_real_process(path: Path) -> None:
    def process(*arguments: object) -> subprocess.CompletedProcess[str]:
        main = "from spark_mpc.cli_ledger import ledger; ledger()"
        line = [sys.executable, "-W", "error", "-c", main, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)

    made = process("create", path, "--epsilon", "1")
    assert (made.returncode, made.stderr) == (0, "")
    shown = process("show", path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "remaining  epsilon=1" in shown.stdout
    again = process("create", path, "--epsilon", "100")
    assert again.returncode == 1
    assert again.stderr.startswith("Error: ledger")
    assert again.stderr.count("\n") == 1
