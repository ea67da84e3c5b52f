"""Tools of the benchmarks: medians of warm repetitions, and the memory of this process with all its children."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

__all__ = ["median_seconds", "peak_mib"]

_PERIOD_SECONDS = 0.1


def median_seconds(action: Callable[[], object], *, repetitions: int = 3, warm_up: int = 1) -> float:
    """The median wall-clock time of some repetitions, after others that do not count."""
    for _ in range(warm_up):
        action()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_mib(action: Callable[[], object]) -> float | None:
    """The greatest resident memory of the process tree while `action` runs, in MiB; `None` where there is no /proc.

    Memory shared by several processes counts in each of them. Run apart from what is timed: looking costs time.
    """
    if not Path("/proc/self/stat").exists():
        return None
    done, peak = threading.Event(), [_tree_bytes()]

    def watch() -> None:
        while not done.wait(_PERIOD_SECONDS):
            peak[0] = max(peak[0], _tree_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return round(max(peak[0], _tree_bytes()) / 2**20, 1)


def _tree_bytes() -> int:
    children, resident = defaultdict(list), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # after "pid (name)": state, parent, ...; the resident pages are field 24 of the whole line
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[1])].append(int(entry.name))
        resident[int(entry.name)] = int(fields[21])
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += resident.get(process, 0)
        waiting += children[process]
    return total * os.sysconf("SC_PAGE_SIZE")
