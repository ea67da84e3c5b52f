"""A measuring prototype of the same protocols as a floor: a script `OP N` of its own, which prints one JSON object.

It measures itself (three processes over plain loopback sockets), and tells the shortest of its repetitions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VARIABLE", "Floor", "NoFloor", "floor"]

VARIABLE = "REP3_FLOOR"
"""Of the environment: where the script lies."""

_OPERATIONS = {
    "multiply": "mul",
    "compare": "lt_chunk",
    "bits to numbers": "b2a",
    "shuffle": "shuffle",
    "sort": "quick",
    "matmul": "matmul",
}
_SECONDS = 600


class NoFloor(Exception):
    """There is no such figure; says why."""


@dataclass(frozen=True)
class Floor:
    """What the prototype took.

    Attributes:
        seconds: of the slowest party, in its best repetition.
        cpu_seconds: of all parties, each in its best repetition.
    """

    seconds: float
    cpu_seconds: float


def floor(case: str, rows: int, repetitions: int) -> Floor:
    """Run the prototype for a case.

    Raises:
        NoFloor: no script is named, it has no such operation, or it fails.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        raise NoFloor(f"the environment variable {VARIABLE} names no prototype")
    if case not in _OPERATIONS:
        raise NoFloor("the prototype has no such operation")
    return _measured([sys.executable, path, _OPERATIONS[case], str(rows)], repetitions)


def _measured(command: list[str], repetitions: int) -> Floor:
    if not Path(command[1]).is_file():
        raise NoFloor(f"{VARIABLE} names no file: {command[1]}")
    environment = {**os.environ, "REPS": str(repetitions)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_SECONDS, env=environment
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise NoFloor(f"the prototype failed: {error}") from None
    told = json.loads(done.splitlines()[-1])
    if not all(told["ok"]):
        raise NoFloor("the prototype's own result is wrong")
    return Floor(told["wall"], sum(told["cpu"]))
