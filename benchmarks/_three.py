"""Three parties of one engine as processes, driven together; and their medians."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from benchmarks._cache import cache_folder

__all__ = ["Measured", "Three", "ThreeFailed", "cores", "free_ports"]

_ROOT = Path(__file__).parent.parent
_SHOWN_CHARACTERS = 300
_FAREWELL_SECONDS = 30


class ThreeFailed(Exception):
    """A party of an engine ended early, or the engine lacks an operation."""


@dataclass(frozen=True)
class Measured:
    """What three parties took for one case.

    Attributes:
        seconds: of the slowest party, in each repetition.
        cpu_seconds: of all three together, in each repetition; others' load on the machine hardly changes it.
        sent_bytes: the most that a party sent.
        rounds: of messages that wait for one another.
        peak_mib: the most memory that a party ever held, with its interpreter and libraries.
        max_error: of the result.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    sent_bytes: int
    rounds: int
    peak_mib: float | None
    max_error: float

    @property
    def median_seconds(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.seconds)

    @property
    def median_cpu_seconds(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.cpu_seconds)


class Three:
    """The processes, as a context.

    Args:
        name: of the engine, and of its log.
        command: of a party.
        setups: what each party reads first.
        environment: variables of theirs, besides ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        setups: Sequence[Mapping[str, Any]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command, self._setups = list(command), setups
        self._environment = {**os.environ, "PYTHONPATH": str(_ROOT), **(environment or {})}
        self._log = cache_folder("three") / f"{name}.log"
        self._parties: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        with self._log.open("w") as errors:
            for _ in self._setups:
                self._parties.append(self._started(errors))
        for party, setup in zip(self._parties, self._setups, strict=True):
            _tell(party, setup)
        return self

    def _started(self, errors: IO[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=self._environment,
        )

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for party in self._parties:
                stack.callback(_ended, party)
                with suppress(BrokenPipeError):  # it has failed already
                    assert party.stdin is not None
                    party.stdin.close()

    def measure(self, case: str, rows: int, *, repetitions: int, most_seconds: float) -> Measured:
        """Let them do a case: once to warm up, then repeatedly.

        Args:
            case: of `CASES`.
            rows: of its inputs.
            repetitions: that count; none is begun after `most_seconds`, and a warm-up as long as that counts itself.
            most_seconds: see `repetitions`.

        Raises:
            ThreeFailed: a party ended, perhaps since the result is wrong; or there is no such operation.
        """
        for reply in self._all({"do": "share", "case": case, "rows": rows}):
            if "unsupported" in reply:
                raise ThreeFailed(reply["unsupported"])
        runs = [self._all({"do": "run"})]
        if _seconds(runs[0]) < most_seconds:
            runs = []
            while not runs or (len(runs) < repetitions and sum(map(_seconds, runs)) < most_seconds):
                runs.append(self._all({"do": "run"}))
        return _measured(runs, self._all({"do": "finish"}))

    def _all(self, order: Mapping[str, Any]) -> list[dict[str, Any]]:
        for party in self._parties:
            with suppress(BrokenPipeError):
                _tell(party, order)
        return [self._heard(party) for party in self._parties]

    def _heard(self, party: subprocess.Popen[str]) -> dict[str, Any]:
        assert party.stdout is not None
        line = party.stdout.readline()
        if not line:
            raise ThreeFailed(f"{self.name} ended early: {self._log.read_text()[-_SHOWN_CHARACTERS:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def _measured(runs: list[list[dict[str, Any]]], finished: list[dict[str, Any]]) -> Measured:
    peaks = [party["peak_mib"] for parties in runs for party in parties if party["peak_mib"]]
    return Measured(
        seconds=tuple(map(_seconds, runs)),
        cpu_seconds=tuple(sum(party["cpu_seconds"] for party in parties) for parties in runs),
        sent_bytes=max(party["sent_bytes"] for party in finished),
        rounds=max(party["rounds"] for party in finished),
        peak_mib=max(peaks, default=None),
        max_error=max(party["max_error"] for party in finished if party["max_error"] is not None),
    )


def _seconds(parties: list[dict[str, Any]]) -> float:
    return max(float(party["seconds"]) for party in parties)


def _tell(party: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert party.stdin is not None
    party.stdin.write(json.dumps(message) + "\n")
    party.stdin.flush()


def _ended(party: subprocess.Popen[str]) -> None:
    try:
        party.wait(_FAREWELL_SECONDS)
    except subprocess.TimeoutExpired:
        party.kill()
        party.wait()
    assert party.stdout is not None
    party.stdout.close()


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Confine this process, and what it starts meanwhile, to the first cores; nothing where that is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
