"""The steward's other commands and what they show: blocks, claims, approvals, the audit log; on a file and a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result
from pyspark.sql import SparkSession

from benchmarks._postgres import PostgresServer
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Claim
from lake.blocks import Blocks
from lake.errors import ApprovalNeeded
from lake.ledger import Ledger, Steward
from lake.ledger.rows import Request
from lake.ledger.selection import Named
from lake.scheduling import DPF, AtOnce, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin, Scheduler
from spark_mpc.cli_ledger import ledger as command
from tests.tools.ledgers import reserve

RULE = Blocks.users(2, name="visits")
FIRST, SECOND = "visits/users-0-of-2", "visits/users-1-of-2"


def run(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], input=answer)


def lines(*arguments: object, answer: str | None = None) -> list[str]:
    """What a command that succeeds prints."""
    result = run(*arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def used(path: Path) -> Path:
    """Two blocks of 1: half of the first is paid, a fifth of it held, half of the second still locked; one waits."""
    with Ledger.create(path, capacity=PureDP("3")) as ledger:
        Steward(ledger).lay_out(RULE, capacity=PureDP("1"))
        ledger.arm(on(ledger, "paid", "0.5", FIRST), b"noised-vector")
        on(ledger, "held", "0.2", FIRST)
        Steward(ledger).schedule(DPF(ByArrivals(4)))
        request = Request("waits", lease_seconds=900, timeout_seconds=900, owner="ann")
        assert ledger.ask(request, Named((SECOND,), PureDP("0.9"), "")).state == "waiting"
        ledger.arm(reserve(ledger, "whole", "0.25", key="whole"), b"")
    return path


def on(ledger: Ledger, request_id: str, price: str, *blocks: str) -> Claim:
    return ledger.reserve(
        request_id=request_id, price=PureDP(price), table="claims", data_version="t@3", release_key=request_id,
        run_id="run", purpose="mean cost", lease_seconds=900, blocks=blocks,
    )  # fmt: skip


# --- what there is


def test_show_tells_settings_head_layouts_and_the_newest_claims(used: Path) -> None:
    with Ledger.open(used) as ledger:
        Steward(ledger).require_approval(PureDP("1/2"), wait_seconds=7)
        for number in range(25):
            ledger.release(reserve(ledger, f"r{number}", "0.1"))
        head = ledger.head()
    shown = lines("show", used)
    assert shown[6:9] == [
        "scheduler  dpf, arrivals 4",
        "approval   for exact openings, and above epsilon=0.5; jobs wait 7 s for it",
        "layout     'visits' (2 range(s) of users): epsilon=1 a block",
    ]
    assert shown[5].split()[1:] == [str(head.sequence), head.hash]
    assert [line.split()[0] for line in shown[11:31]] == [str(number) for number in range(11, 31)]
    assert shown[31] == "(10 earlier claims: --all)"
    every = lines("show", used, "--all")
    assert [line.split()[0] for line in every[11:]] == [str(number) for number in range(1, 31)]


def test_blocks_are_shown_with_a_bar(used: Path) -> None:
    shown = lines("blocks", used)
    assert shown[0].split() == ["block", "capacity", "locked", "unlocked", "acquired", "consumed", "retired"]
    cells = {line.split()[0]: line.split()[1:] for line in shown[1:]}
    assert cells == {
        FIRST: ["#####++...", *amounts("1", "0", "0.3", "0.2", "0.5"), "no"],
        SECOND: [cells[SECOND][0], *amounts("1", "0.75", "0.25", "0", "0"), "no"],
        "whole": ["#####.....", *amounts("3", "0", "1.75", "0", "1.25"), "no"],
    }
    assert cells[SECOND][0] == "...-------"
    of_layout = lines("blocks", used, "--layout", "visits")
    assert [line.split() for line in of_layout] == [line.split() for line in shown[:3]]
    unknown = run("blocks", used, "--layout", "stays")
    assert unknown.exit_code == 2
    assert "no layout 'stays': its layouts are visits" in unknown.output


def test_blocks_of_a_layout_that_were_not_made_yet(path: Path) -> None:
    with Ledger.create(path, capacity=PureDP("3")) as ledger:
        assert "it has none: spark-mpc ledger lay-out makes one" in run("blocks", path, "--layout", "visits").output
        Steward(ledger).lay_out(RULE, capacity=PureDP("1"))
    assert (
        "no block of layout 'visits' was made yet: the first claim" in run("blocks", path, "--layout", "visits").output
    )


def test_a_ledger_for_exact_openings_alone_has_an_empty_bar(path: Path) -> None:
    lines("create", path, "--epsilon", "0")
    assert lines("blocks", path)[1].split()[:2] == ["whole", "-" * 10]


def amounts(*values: str) -> list[str]:
    return [f"epsilon={value}" for value in values]


@pytest.mark.parametrize(
    ("capacity", "price", "bar"),
    [
        (ApproxDP(1, "1e-6"), ApproxDP("0.1", "5e-7"), "#####....."),  # of the scarcest amount
        (RenyiDP({2: 1, 8: 2}), RenyiDP({2: 2, 8: "1/2"}), "###......."),  # of the order with most room
        (PureDP(1), PureDP("1/1000"), "#........."),  # a little shows
        (PureDP(1), PureDP(1), "##########"),
    ],
    ids=["approx", "renyi", "little", "all"],
)
def test_a_bar_shows_the_amount_that_counts(path: Path, capacity: Budget, price: Budget, bar: str) -> None:
    with Ledger.create(path, capacity=capacity) as ledger:
        ledger.arm(reserve(ledger, "r", price), b"")
    line = lines("blocks", path)[1]
    assert line.split()[1] == bar
    assert line.endswith("yes" if price == capacity else "no")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], ["1", "2", "3", "4", "5"]),
        (["--state", "spent"], ["1", "2", "5"]),
        (["--state", "waiting"], ["4"]),
        (["--owner", "ann"], ["4"]),
        (["--block", FIRST], ["2", "3"]),
        (["--block", "whole", "--state", "spent"], ["1", "5"]),
    ],
)
def test_claims_are_filtered(used: Path, options: list[str], found: list[str]) -> None:
    shown = lines("claims", used, *options)
    assert [line.split()[0] for line in shown[1:]] == found


def test_who_waits_is_shown_with_the_time_that_is_left(used: Path) -> None:
    (_, line) = lines("claims", used, "--state", "waiting")
    left = int(line.partition("waiting (")[2].partition(" s more)")[0])
    assert 0 < left <= 900
    assert lines("claims", used, "--owner", "nobody") == ["no such claims"]


def test_watch_prints_a_line_for_each_look_where_there_is_no_terminal(used: Path) -> None:
    looks = lines("watch", used, "--seconds", "0.1", "--times", "2")
    with Ledger.open(used) as ledger:
        head = ledger.head().sequence
    for line in looks:
        assert "remaining epsilon=1.75  claims: waiting 1, reserved 1, armed 0" in line
        assert line.endswith(f"head {head}")
    assert len(looks) == 2


# --- what the steward does


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--users", "16"], Blocks.users(16, name="a")),
        (
            ["--every", "1 day", "at", "--since", "2026-03-01"],
            Blocks.every("1 day", "at", since="2026-03-01", name="a"),
        ),
        (
            ["--every", "6 hours", "at", "--since", "2026-03-01", "--users", "4"],
            Blocks.every("6 hours", "at", since="2026-03-01", name="a", users=4),
        ),
    ],
)
def test_lay_out(path: Path, options: list[str], rule: Blocks) -> None:
    Ledger.create(path, capacity=PureDP("3")).close()
    said = lines("lay-out", path, "--name", "a", *options, "--epsilon", "1")
    assert said == [f"{rule}: epsilon=1 a block; epsilon=2 remains of the whole"]
    with Ledger.open(path) as ledger:
        (layout,) = ledger.layouts()
        assert (layout.rule, layout.capacity, ledger.capacity) == (rule, PureDP(1), PureDP(3))


def test_blocks_of_renyi_orders_are_given_as_an_epsilon_and_a_delta(path: Path) -> None:
    orders = [2, 8, 64]
    Ledger.create(path, capacity=RenyiDP.capacity(8, "1e-6", orders)).close()
    lines("lay-out", path, "--name", "a", "--users", "4", "--epsilon", "2", "--delta", "1e-6")
    with Ledger.open(path) as ledger:
        assert ledger.layouts()[0].capacity == RenyiDP.capacity(2, "1e-6", orders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epsilon", "1"], "give --every and --since"),
        (["--users", "4", "--since", "2026-03-01", "--epsilon", "1"], "give --every and --since"),
        (["--every", "1 day", "at", "--epsilon", "1"], "--every needs --since"),
        (["--users", "4"], "give --epsilon"),
        (["--users", "4", "--rho", "1"], "counts in epsilon"),
        (["--users", "4", "--epsilon", "9"], "remaining epsilon=3"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(path: Path, options: list[str], message: str) -> None:
    Ledger.create(path, capacity=PureDP("3")).close()
    result = run("lay-out", path, "--name", "a", *options)
    assert result.exit_code in (1, 2)
    assert message in result.output
    with Ledger.open(path) as ledger:
        assert (ledger.layouts(), ledger.remaining()) == ([], PureDP(3))


@pytest.mark.parametrize(
    ("options", "scheduler"),
    [
        (["fcfs"], FirstComeFirstServed(AtOnce())),
        (["round-robin", "--arrivals", "10"], RoundRobin(ByArrivals(10))),
        (["dpf", "--lifetime", "3600"], DPF(ByTime(3600))),
        (["dpack", "--lifetime", "3600", "--period", "60"], DPack(ByTime(3600, 60))),
        (["dpack", "--arrivals", "175"], DPack(ByArrivals(175))),
    ],
)
def test_schedule(path: Path, options: list[str], scheduler: Scheduler) -> None:
    Ledger.create(path, capacity=PureDP("3")).close()
    lines("schedule", path, *options)
    with Ledger.open(path) as ledger:
        assert ledger.settings().scheduler == scheduler


def test_schedule_tells_what_is_unlocked_for_good(path: Path) -> None:
    Ledger.create(path, capacity=PureDP("3")).close()
    told = lines("schedule", path, "dpf", "--lifetime", "3600", "--period", "60")
    assert told[1:] == ["blocks that are wholly unlocked already, and stay so: 1"]
    assert lines("show", path)[6] == "scheduler  dpf, lifetime seconds 3600, period seconds 60"
    assert len(lines("schedule", path, "fcfs")) == 1


@pytest.mark.parametrize(
    "options", [["--arrivals", "10", "--lifetime", "3600"], ["--arrivals", "10", "--period", "60"], ["--period", "60"]]
)
def test_a_block_unlocks_in_one_way(path: Path, options: list[str]) -> None:
    Ledger.create(path, capacity=PureDP("3")).close()
    result = run("schedule", path, "dpf", *options)
    assert result.exit_code == 2
    assert "give --arrivals, or --lifetime (and then --period, if you like), or neither" in " ".join(
        result.output.split()
    )


@pytest.mark.parametrize(
    ("capacity", "options", "above"),
    [
        (PureDP(3), ["--above-epsilon", "1/2"], PureDP("1/2")),
        (PureDP(3), ["--above-epsilon", "0"], PureDP(0)),
        (ApproxDP(3, "1e-6"), ["--above-epsilon", "1", "--above-delta", "1e-9"], ApproxDP(1, "1e-9")),
        (ZCDP(3), ["--above-rho", "1/10"], ZCDP("1/10")),
        (RenyiDP({2: 1, 8: 2}), ["--above-epsilon", "1/2"], RenyiDP({2: "1/4", 8: "1/2"})),
        (RenyiDP({2: 1, 8: 2}), ["--above-rho", "1/16"], RenyiDP({2: "1/8", 8: "1/2"})),
    ],
    ids=str,
)
def test_approval(path: Path, capacity: Budget, options: list[str], above: Budget) -> None:
    Ledger.create(path, capacity=capacity).close()
    assert run("approval", path).exit_code == 2
    lines("approval", path, *options, "--wait", "5")
    with Ledger.open(path) as ledger:
        assert (ledger.settings().approval_above, ledger.settings().approval_seconds) == (above, 5)
        lines("approval", path, "--none")
        assert ledger.settings().approval_above is None


def test_approve_tells_what_it_is_for_and_asks(used: Path) -> None:
    lines("approval", used, "--above-epsilon", "0.1", "--wait", "0")
    assert "reserved (needs approval)" in lines("claims", used, "--state", "reserved")[1]
    refused = run("approve", used, "3", answer="n\n")
    assert refused.exit_code == 1
    shown = [line.split(maxsplit=1) for line in refused.output.splitlines()[:4]]
    assert shown == [
        ["price", f"epsilon=0.2 of each of {FIRST}"], ["table", "claims"], ["version", "t@3"], ["purpose", "mean cost"],
    ]  # fmt: skip
    with Ledger.open(used) as ledger:
        claim = on(ledger, "held", "0.2", FIRST)
        with pytest.raises(ApprovalNeeded):
            ledger.arm(claim, b"")
        assert lines("approve", used, "3", answer="y\n")[-1] == "approved claim 3"
        ledger.arm(claim, b"")
    assert lines("approve", used, "2", "--yes")[-1] == "approved claim 2"


def test_what_an_analyst_wrote_cannot_redraw_the_stewards_terminal(path: Path) -> None:
    with Ledger.create(path, capacity=PureDP("3")) as ledger:
        ledger.reserve(
            request_id="r", price=PureDP(2), table="claims", data_version="1\nprice    epsilon=0.01", release_key="r",
            run_id="run", purpose="\x1b[2J\u202eharmless", lease_seconds=900,
        )  # fmt: skip
    for arguments in (["approve", path, "1", "--yes"], ["claims", path], ["show", path]):
        text = "\n".join(lines(*arguments))
        assert "1\\nprice    epsilon=0.01" in text
        assert "\\x1b[2J\\u202eharmless" in text


@pytest.mark.parametrize("number", ["1", "99"])
def test_what_pays_for_no_release_is_not_approved(used: Path, number: str) -> None:
    result = run("approve", used, number, "--yes")
    assert result.exit_code == 1
    assert f"claim {number} pays for no release, or is unknown" in result.output


# --- what an auditor does


def test_the_audit_log_is_exported_as_it_was_hashed(used: Path) -> None:
    with Ledger.open(used) as ledger:
        events = ledger.events()
        head = ledger.head()
    assert [json.loads(line) for line in lines("export", used, "--audit")] == [vars(event) for event in events]
    assert head.hash in lines("show", used)[5]
    assert lines("verify", used) == [
        f"{used}: {head.sequence} events, and the ledger holds what they say; head {head.hash}"
    ]


@pytest.mark.slow
def test_mirror(used: Path, spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "mirror")
    said = lines("mirror", used, table)
    with Ledger.open(used) as ledger:
        head = ledger.head()
        assert ledger.check_mirror(spark, table) == head
    assert said == [f"{table}: {head.sequence} events of {used}; head {head.hash}"]
    assert lines("mirror", used, table, "--check") == said
    with Ledger.create(tmp_path / "other", capacity=PureDP(1)):
        result = run("mirror", tmp_path / "other", table, "--check")
    assert (result.exit_code, "mirrors another ledger" in result.output) == (1, True)


# --- on a server


def test_every_command_takes_a_ledger_on_a_server_and_shows_no_password(postgres: PostgresServer) -> None:
    address = postgres.url(postgres.create_database(), ledger="claims", password="hush")
    address = address.replace("postgres@", "postgres:secret@")
    role = postgres.create_role("analyst")
    said = lines("create", address, "--epsilon", "3")
    said += lines("lay-out", address, "--name", "visits", "--users", "2", "--epsilon", "1")
    said += lines("schedule", address, "dpf", "--arrivals", "10")
    said += lines("approval", address, "--above-epsilon", "0.1", "--wait", "0")
    said += lines("grant", address, role)
    said += lines("migrate", address)
    with Ledger.open(address) as ledger:
        on(ledger, "one", "0.2")
    said += lines("approve", address, "2", "--yes")
    for arguments in (["show"], ["blocks"], ["claims"], ["export"], ["export", "--audit"], ["verify"]):
        said += lines(arguments[0], address, *arguments[1:])
    said += lines("watch", address, "--times", "1")
    again = run("create", address, "--epsilon", "100")
    assert (again.exit_code, again.output.startswith("Error: ledger")) == (1, True)
    missing = run("show", address.replace("ledger=claims", "ledger=visits"))
    assert (missing.exit_code, "there is no ledger 'visits'" in missing.output) == (1, True)
    text = "\n".join([*said, again.output, missing.output])
    assert "secret" not in text
    assert "hush" not in text
    with Ledger.open(address) as ledger:
        assert ledger.capacity == PureDP(3)
        assert [entry.state for entry in ledger.entries()] == ["spent", "reserved"]


def test_a_file_has_no_roles(used: Path) -> None:
    result = run("grant", used, "analyst")
    assert result.exit_code == 2
    assert "a file has no roles" in result.output


# --- as real processes, until Ctrl-C


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(started: list[subprocess.Popen[str]], *arguments: object) -> tuple[subprocess.Popen[str], str]:
    """A command, and the first line that it printed."""
    main = "from spark_mpc.cli_ledger import ledger; ledger()"
    line = [sys.executable, "-u", "-W", "error", "-c", main, *map(str, arguments)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout is not None
    return process, process.stdout.readline()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.slow
def test_ctrl_c_ends_watch(used: Path, started: list[subprocess.Popen[str]]) -> None:
    process, line = start(started, "watch", used, "--seconds", "60")
    assert "claims: waiting 1" in line
    stop(process)


@pytest.mark.slow
def test_metrics_are_served_on_loopback_until_ctrl_c(used: Path, started: list[subprocess.Popen[str]]) -> None:
    process, line = start(started, "metrics", used, "--port", "0")
    said, _, address = line.rstrip().rpartition(" ")
    assert said == f"serving {used} at"
    assert address.startswith("http://127.0.0.1:")
    with urlopen(address, timeout=30) as page:
        assert b'spark_mpc_ledger_claims{state="waiting"} 1.0' in page.read()
    stop(process)
