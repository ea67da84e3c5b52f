"""The two example programs as a newcomer runs them: processes over mutual TLS; an exact opening and its policies."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from dp.noise.accuracy import Noise, NoiseTerm
from dp.noise.mechanisms import DiscreteLaplace
from examples.programs import innerprod, mult3
from examples.programs.job import INSURERS
from spark_mpc import dp, lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FALSE_ALARM = 1e-6
DEMO = (sys.executable, "-c", "from spark_mpc.cli_demo import demo; demo()")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=500, check=False)


def opened(output: str) -> int:
    """The number that the last line of a run tells."""
    found = re.search(r": ([\d,-]+) \+- ", output)
    assert found is not None, output
    return int(found[1].replace(",", ""))


def reach(sensitivity: int) -> float:
    """What noise at epsilon = 1 does not exceed, but for the stated false alarm."""
    mechanism = DiscreteLaplace(Fraction(sensitivity))
    return Noise((NoiseTerm(mechanism, 1.0, 1),)).quantile(1 - FALSE_ALARM)


def test_an_inner_product_over_three_processes(tmp_path: Path) -> None:
    done = run("innerprod", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    off = abs(opened(done.stdout) - innerprod.truth())
    assert off <= reach(innerprod.MOST_PEOPLE) < innerprod.truth() / 10  # so narrow that a lost party would be seen
    for insurer in INSURERS:
        ledger = lake.Ledger.open(tmp_path / "innerprod-processes" / insurer / "ledger.sqlite")
        (entry,) = ledger.entries()
        assert (entry.state, entry.price) == ("spent", dp.ApproxDP(1, "1e-9"))


def test_a_product_of_three_noised_and_then_disclosed_by_name(tmp_path: Path) -> None:
    home = tmp_path / "mult3-local"
    noised = run("mult3", "--local", "--output", str(tmp_path))
    assert noised.returncode == 0, noised.stdout + noised.stderr
    assert abs(opened(noised.stdout) - mult3.truth()) <= reach(mult3.MOST_PEOPLE**2) < mult3.truth()

    refused = run("mult3", "--local", "--exact", "audit-2026", "--output", str(tmp_path))
    assert refused.returncode == 1
    stanza = refused.stderr[refused.stderr.index("[disclosure.audit-2026]") :]  # as the first owner's error spells it
    assert "data_version = " in stanza
    stanza = re.sub("data_version = .*\n", "", stanza)  # good for all three owners' tables
    for insurer in INSURERS:
        (home / insurer / "policy.toml").write_text(stanza)
    exact = run("mult3", "--local", "--exact", "audit-2026", "--output", str(tmp_path))
    assert exact.returncode == 0, exact.stdout + exact.stderr
    assert opened(exact.stdout) == mult3.truth()
    for insurer in INSURERS:
        entries = lake.Ledger.open(home / insurer / "ledger.sqlite").entries()
        # the refusal stands nowhere: nothing was reserved
        assert [(entry.disclosure, entry.state) for entry in entries] == [("", "spent"), ("audit-2026", "spent")]
