"""Parties that die, stall and come back, as real processes over mutual TLS (ATTACKS 27)."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from spark_mpc.federation_file import Peer, add_party
from tests.tools.federations import loopback_federation

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 2
NOTICED_SECONDS = 3 * TIMEOUT_SECONDS  # the timeout, and room for a busy machine
STARTED_SECONDS = 60

Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a party as a process."""
    loopback = loopback_federation(["a", "b"])
    for peer in loopback.file.parties:
        add_party(tmp_path / "federation.toml", Peer(peer.name, peer.address, peer.certificates))
        loopback.identities[peer.name].save(tmp_path)
    file = tmp_path / "federation.toml"
    file.write_text(file.read_text().replace("timeout_seconds = 60", f"timeout_seconds = {TIMEOUT_SECONDS}"))
    with ExitStack() as processes:

        def launch(name: str, work: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.spark_mpc.transport_worker", str(tmp_path), name, work]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield launch


def line(process: subprocess.Popen[str], within_seconds: float) -> str:
    """The next line that a party prints."""
    assert process.stdout is not None
    reader = ThreadPoolExecutor(1)
    try:
        return reader.submit(process.stdout.readline).result(timeout=within_seconds).strip()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("work", ["wait", "flood"])
def test_a_killed_peer_is_lost_in_time(start: Start, work: str) -> None:
    a, b = start("a", work), start("b", work)
    assert [line(party, STARTED_SECONDS) for party in (a, b)] == ["running", "running"]
    b.send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert line(a, STARTED_SECONDS).startswith("PeerLost lost b")
    assert time.monotonic() - began < NOTICED_SECONDS


@pytest.mark.parametrize("work", ["wait", "flood"])
def test_a_stalled_peer_is_lost_in_time_and_learns_of_the_abort_when_it_wakes(start: Start, work: str) -> None:
    a, b = start("a", work), start("b", work)
    assert [line(party, STARTED_SECONDS) for party in (a, b)] == ["running", "running"]
    b.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert re.match(r"PeerLost lost b \(last seen in .*\): silent for 2 s", line(a, STARTED_SECONDS))
    assert time.monotonic() - began < NOTICED_SECONDS
    b.send_signal(signal.SIGCONT)
    assert line(b, NOTICED_SECONDS).startswith("AbortedByPeer the run was aborted: by a: lost b")


def test_a_party_that_starts_again_can_be_met_again(start: Start) -> None:
    a, b = start("a", "wait"), start("b", "wait")
    assert [line(party, STARTED_SECONDS) for party in (a, b)] == ["running", "running"]
    for party in (a, b):
        party.kill()
        party.wait()
    again = start("a", "wait"), start("b", "wait")
    assert [line(party, STARTED_SECONDS) for party in again] == ["running", "running"]
