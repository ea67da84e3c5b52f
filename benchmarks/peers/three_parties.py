"""How a party of any three-party engine is driven and measured: by lines of JSON, in the same way for all engines.

A party is a process. Its first line says who it is; then come orders. This module runs in the environments of the
peers, and imports nothing that they may lack.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from numpy.typing import NDArray

from benchmarks.peers.three_cases import CASES, Case, Inputs

__all__ = ["Party", "Spent", "Unsupported", "serve"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PEAK_OF_MEMORY = "5"  # what clears it, see proc(5)


class Unsupported(Exception):
    """An engine has no such operation; says what it lacks."""


@dataclass(frozen=True)
class Spent:
    """What a party sent in the last repetition."""

    sent_bytes: int
    rounds: int


class Party(Protocol):
    """One party of an engine."""

    def share(self, case: Case, rows: int, inputs: Inputs) -> None:
        """Take in a case: its inputs are shared and its program compiled when this returns. Raises Unsupported."""

    def barrier(self) -> None:
        """Return when all parties have called it."""

    def run(self) -> None:
        """Compute on the shares; what is timed."""

    def spent(self) -> Spent:
        """Of the last `run`."""

    def opened(self) -> NDArray[Any] | None:
        """The result of the last `run`, at party 0 at least."""


def serve(open_party: Callable[[Mapping[str, Any]], AbstractContextManager[Party]]) -> None:
    """The main program of a party: who it is, then orders, on standard input; replies on standard output."""
    with _replies_only() as out, open_party(json.loads(sys.stdin.readline())) as party:
        rows, case = 0, next(iter(CASES.values()))
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "share":
                case, rows = CASES[order["case"]], order["rows"]
                reply = _share(party, case, rows)
            elif order["do"] == "run":
                reply = _run(party)
            else:
                reply = _finish(party, case, rows)
            print(json.dumps(reply), file=out, flush=True)


def _share(party: Party, case: Case, rows: int) -> dict[str, object]:
    try:
        party.share(case, rows, case.drawn(rows))
    except Unsupported as lacking:
        return {"unsupported": str(lacking)}
    return {}


def _run(party: Party) -> dict[str, object]:
    _forget_peak()
    party.barrier()
    started, cpu_started = time.perf_counter(), time.process_time()
    party.run()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    party.barrier()
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib()}


def _finish(party: Party, case: Case, rows: int) -> dict[str, object]:
    spent, result = party.spent(), party.opened()
    error = None if result is None else case.max_error(result, rows)
    return {"sent_bytes": spent.sent_bytes, "rounds": spent.rounds, "max_error": error}


def _forget_peak() -> None:
    if _CLEAR.exists():
        _CLEAR.write_text(_PEAK_OF_MEMORY)


def _peak_mib() -> float | None:
    """The greatest resident memory since, interpreter and libraries included; None where there is no /proc."""
    if not _STATUS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text())
    return round(int(found.group(1)) / 1024, 1) if found else None


@contextmanager
def _replies_only() -> Iterator[TextIO]:
    """Standard output for replies alone: whatever an engine prints goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield out
