"""Compute parties that die or stall in the middle of their streams, as real processes over mutual TLS (ATTACKS 27)."""

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

NAMES = ("a", "b", "c")
TIMEOUT_SECONDS = 2
NOTICED_SECONDS = 3 * TIMEOUT_SECONDS  # the timeout, and room for a busy machine
STARTED_SECONDS = 60

Process = subprocess.Popen[str]
Start = Callable[[str], list[Process]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the three parties as processes; returns them once their streams are used."""
    loopback = loopback_federation(NAMES)
    for peer in loopback.file.parties:
        add_party(tmp_path / "federation.toml", Peer(peer.name, peer.address, peer.certificates))
        loopback.identities[peer.name].save(tmp_path)
    file = tmp_path / "federation.toml"
    file.write_text(file.read_text().replace("timeout_seconds = 60", f"timeout_seconds = {TIMEOUT_SECONDS}"))
    with ExitStack() as processes:

        def launch(name: str, work: str) -> Process:
            command = [sys.executable, "-m", "tests.spark_mpc.streams_worker", str(tmp_path), name, work]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        def all_of(work: str) -> list[Process]:
            started = [launch(name, work) for name in NAMES]
            assert [line(party, STARTED_SECONDS) for party in started] == ["running"] * len(NAMES)
            return started

        yield all_of


def line(process: Process, within_seconds: float) -> str:
    """The next line that a party prints."""
    assert process.stdout is not None
    reader = ThreadPoolExecutor(1)
    try:
        return reader.submit(process.stdout.readline).result(timeout=within_seconds).strip()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("work", ["wait", "flood"])
def test_a_killed_party_is_lost_in_time(start: Start, work: str) -> None:
    a, b, c = start(work)
    b.send_signal(signal.SIGKILL)
    began = time.monotonic()
    for survivor in (a, c):
        assert re.match(r"(PeerLost lost b|AbortedByPeer .*lost b)", line(survivor, STARTED_SECONDS))
    assert time.monotonic() - began < NOTICED_SECONDS


@pytest.mark.parametrize("work", ["wait", "flood"])
def test_a_stalled_party_is_lost_in_time_and_learns_of_the_abort_when_it_wakes(start: Start, work: str) -> None:
    a, b, c = start(work)
    b.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for survivor in (a, c):
        assert re.search(r"lost b \(last seen in .*\): silent for 2 s", line(survivor, STARTED_SECONDS))
    assert time.monotonic() - began < NOTICED_SECONDS
    b.send_signal(signal.SIGCONT)
    assert re.match(r"AbortedByPeer the run was aborted: by [ac]: ", line(b, NOTICED_SECONDS))
