"""The peers: each a process in a virtual environment of its own, made on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks._cache import cache_folder
from benchmarks.peers.protocol import Reply, Request

__all__ = ["PEERS", "SPU", "Peer", "PeerFailed"]

_ROOT = Path(__file__).parent.parent
_INSTALL_SECONDS = 900
_SHOWN_LINES = 3


class PeerFailed(Exception):
    """A peer could not be installed, or ended before it had replied to everything."""


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes:
        name: of its module in `benchmarks.peers`, and of its environment.
        title: what it is called, with its version.
        packages: what its environment holds.
    """

    name: str
    title: str
    packages: tuple[str, ...]

    def python(self) -> Path:
        """The interpreter of its environment, made on first use and again when its packages change.

        Raises:
            PeerFailed: its packages could not be installed.
        """
        folder = cache_folder("peers") / self.name
        wanted = "\n".join((sys.version, *self.packages))
        stamp, python = folder / "installed.txt", folder / "bin" / "python"
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True, symlinks=True)
            _run([str(python), "-m", "pip", "install", "--quiet", *self.packages])
            stamp.write_text(wanted)
        return python

    def outcomes(self, request: Request) -> Iterator[Reply]:
        """A reply to every question; where the peer cannot be installed or breaks down, a reply that says so."""
        answered = 0
        try:
            for reply in self.replies(request):
                yield reply
                answered += 1
        except PeerFailed as error:
            for _ in request.questions[answered:]:
                yield Reply(unsupported=str(error))

    def replies(self, request: Request) -> Iterator[Reply]:
        """Start the peer, and give one reply for every question, as they come.

        Raises:
            PeerFailed: no environment, or the process ended early.
        """
        command = [str(self.python()), "-m", f"benchmarks.peers.{self.name}"]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        log = cache_folder("peers") / f"{self.name}.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request.to_json() + "\n")
            process.stdin.close()
            for _ in request.questions:
                line = process.stdout.readline()
                if not line:
                    raise PeerFailed(f"{self.title} ended early: {_last_lines(log.read_text())}")
                yield Reply.from_json(line)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        raise PeerFailed(f"not installed: {_last_lines(error.stderr)}") from None
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"not installed after {_INSTALL_SECONDS} seconds") from None


def _last_lines(text: str) -> str:
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-_SHOWN_LINES:])


PEERS = {
    peer.name: peer
    for peer in (
        Peer("tumult", "Tumult Analytics 0.21.0", ("tmlt.analytics==0.21.0",)),
        Peer("pipelinedp", "PipelineDP 0.3.1", ("pipeline-dp==0.3.1", "pyspark==4.2.0")),
        Peer("opendp", "OpenDP 0.16.0", ("opendp[polars]==0.16.0",)),
        Peer("smartnoise", "SmartNoise SQL 1.0.10", ("smartnoise-sql==1.0.10", "pyspark==3.5.9")),
    )
}
"""Of the differentially private releases, by name."""

SPU = Peer("spu", "SPU 0.9.5", ("spu==0.9.5",))
"""Of three-party computation; it is asked otherwise."""
