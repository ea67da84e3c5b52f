"""The ledger between processes: races never overspend, and kill -9 loses nothing that was acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dp.accounting.budget import PureDP
from dp.errors import BudgetExceeded
from lake.ledger import Ledger
from tests.lake.debits import reserve

pytestmark = pytest.mark.slow


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.lake.debits", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[str]:
    """What the process printed until it ended; its pipes are closed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    printed = process.stdout.read()  # not communicate(), which forgets what readline has buffered
    process.stdout.close()
    process.wait()
    return printed.split()


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def test_eight_processes_racing_for_sixty_spend_exactly_sixty(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger.create(path, capacity=PureDP(60)).close()
    racers = [start("race", path, f"racer{number}", 10) for number in range(8)]
    for racer in racers:
        assert read_lines(racer, 1) == ["ready"]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = Counter(line for racer in racers for line in finish(racer))
    assert [racer.returncode for racer in racers] == [0] * 8
    assert answers == {"spent": 60, "refused": 20}
    with Ledger.open(path) as ledger:
        assert ledger.spent() == PureDP(60)
        assert ledger.remaining() == PureDP(0)
        assert Counter(entry.state for entry in ledger.entries()) == {"spent": 60}  # a loser left no trace
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "one more", "1")


def test_kill_9_in_the_middle_of_1000_debits_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger.create(path, capacity=PureDP(1)).close()
    acknowledged: set[int] = set()
    where = random.Random(20)
    kills = 0
    while len(acknowledged) < 1000:
        first = max(acknowledged, default=-1) + 1
        process = start("stream", path, first, 1000)
        lines = read_lines(process, min(where.randrange(60, 160), 1000 - first))
        process.kill()  # somewhere in the debits that follow
        acknowledged |= {int(line) for line in [*lines, *finish(process)]}
        kills += process.returncode == -9
        with Ledger.open(path) as ledger:
            spent = {entry.release_key for entry in ledger.entries() if entry.state == "spent"}
            assert {f"r{number}" for number in acknowledged} <= spent
            assert len(spent) <= len(acknowledged) + 1  # at most one was under way
            for number in acknowledged:
                assert ledger.stored_release(f"r{number}") == b"release r%d" % number
    assert kills >= 5
    with Ledger.open(path) as ledger:
        assert ledger.spent() == PureDP(1)
        assert len(ledger.entries()) == 1000  # repeated requests were debited once
        assert ledger.remaining() == PureDP(0)


def test_a_crash_between_arm_and_commit_is_spent_and_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger.create(path, capacity=PureDP(1)).close()
    victim = start("hang", path)
    assert read_lines(victim, 1) == ["armed"]
    victim.kill()
    finish(victim)
    with Ledger.open(path) as ledger:
        assert [entry.state for entry in ledger.entries()] == ["spent", "reserved"]
        assert (ledger.spent(), ledger.reserved()) == (PureDP("1/2"), PureDP("1/4"))
        resumed = ledger.resumable("armed")
        assert resumed is not None
        assert resumed.noised == b"noised armed"
        assert ledger.resumable("reserved") is None
        ledger.commit(resumed.claim, b"release")
        assert ledger.stored_release("armed") == b"release"
        assert ledger.spent() == PureDP("1/2")
