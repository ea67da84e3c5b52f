"""A measuring prototype of the same protocols as a floor: a script `OP N` of its own, which prints one JSON object.

It measures itself (three processes over plain loopback sockets), and tells the shortest of its repetitions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.three_cases import RADIX_BITS

__all__ = ["VARIABLE", "Floor", "NoFloor", "floor"]

VARIABLE = "REP3_FLOOR"
"""Of the environment: where the script lies."""

_OPERATIONS = {
    "sum of three": "sum3",
    "multiply": "mul",
    "compare": "lt_chunk",
    "bits to numbers": "b2a",
    "shuffle": "shuffle",
    "sort": "quick",
    "radix sort": "radix",
    "matmul": "matmul",
}
_MATRIX_ROWS = 1000
_SECONDS = 300


class NoFloor(Exception):
    """There is no such figure; says why."""


@dataclass(frozen=True)
class Floor:
    """What the prototype took.

    Attributes:
        seconds: of the slowest party, in its best repetition; for as many rows as were asked for.
        cpu_seconds: of all parties, each in its best repetition; likewise.
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
    if case == "matmul" and find_spec("numba") is None:
        raise NoFloor("the prototype's matrix product needs numba")
    if case == "matmul" and rows != _MATRIX_ROWS:
        raise NoFloor(f"the prototype's matrices have {_MATRIX_ROWS} rows")
    return _measured([sys.executable, path, _OPERATIONS[case], str(rows)], rows, repetitions)


def _measured(command: list[str], rows: int, repetitions: int) -> Floor:
    if not Path(command[1]).is_file():
        raise NoFloor(f"{VARIABLE} names no file: {command[1]}")
    environment = {**os.environ, "REPS": str(repetitions), "KB": str(RADIX_BITS)}
    told = json.loads(_last_line(command, environment))
    if not all(told["ok"]):
        raise NoFloor("the prototype's own result is wrong")
    share = rows / told["n"]  # it fills its last chunk up
    return Floor(share * told["wall"], share * sum(told["cpu"]))


def _last_line(command: list[str], environment: dict[str, str]) -> str:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            told, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:  # one of its processes has failed, and the others wait
            os.killpg(process.pid, signal.SIGKILL)
            raise NoFloor(f"the prototype told nothing in {_SECONDS} seconds") from None
    if process.returncode:
        raise NoFloor("the prototype failed")
    return str(told).splitlines()[-1]
