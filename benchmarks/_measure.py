"""Tools of the benchmarks: medians of warm repetitions, and the memory of this process with all its children."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "median_cost", "median_costs", "median_seconds", "peak_mib"]

_PERIOD_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What an action took: wall-clock seconds, and seconds of processors, which others' load hardly changes.

    Attributes:
        seconds: on the wall clock.
        cpu_seconds: of this process and all its children together; 0 where there is no /proc.
    """

    seconds: float
    cpu_seconds: float

    def record(self) -> dict[str, object]:
        """The fields of a benchmark's record."""
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 2)}

    def over(self, other: Cost) -> dict[str, object]:
        """The fields that compare it with another."""
        cpu = round(self.cpu_seconds / other.cpu_seconds, 2) if other.cpu_seconds else None
        return {"ratio": round(self.seconds / other.seconds, 2), "cpu_ratio": cpu}


def median_seconds(action: Callable[[], object], *, repetitions: int = 3, warm_up: int = 1) -> float:
    """The median wall-clock time of some repetitions, after others that do not count."""
    return median_cost(action, repetitions=repetitions, warm_up=warm_up).seconds


def median_cost(action: Callable[[], object], *, repetitions: int = 3, warm_up: int = 1) -> Cost:
    """The medians of what some repetitions take, after others that do not count."""
    return median_costs({"": action}, repetitions=repetitions, warm_up=warm_up)[""]


def median_costs(
    actions: Mapping[str, Callable[[], object]], *, repetitions: int = 3, warm_up: int = 1
) -> dict[str, Cost]:
    """The medians for each of several actions, taken in turns, so that a load which comes or goes meets all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in actions}
    for _ in range(warm_up + repetitions):
        for name, action in actions.items():
            costs[name].append(_cost(action))
    return {name: _median(of_one[warm_up:]) for name, of_one in costs.items()}


def _cost(action: Callable[[], object]) -> Cost:
    start, cpu_start = time.perf_counter(), _tree_cpu_seconds()
    action()
    return Cost(time.perf_counter() - start, _tree_cpu_seconds() - cpu_start)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.cpu_seconds for c in costs))


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
    # after "pid (name)": state, parent, ...; the resident pages are field 24 of the whole line
    return sum(int(fields[21]) for fields in _tree()) * os.sysconf("SC_PAGE_SIZE")


def _tree_cpu_seconds() -> float:
    # fields 14 to 17: user and system time, of the process and of its children that have ended
    return sum(int(ticks) for fields in _tree() for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _tree() -> list[list[str]]:
    """The stat fields, from the third, of this process and all its children; none where there is no /proc."""
    children, found = defaultdict(list), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[1])].append(int(entry.name))
        found[int(entry.name)] = fields
    tree, waiting = [], [os.getpid()]
    while waiting:
        process = waiting.pop()
        if process in found:
            tree.append(found[process])
        waiting += children[process]
    return tree
