"""Accuracy beside our peers at epsilon = 1: the same rows, each in an environment of its own; no figure is a time.

Counts, sums, means, variances and medians of 1,000 groups at user level: the median over groups of the relative error
against the rows as they are, so that what bounding drops counts as error. The mean over repetitions is reported; the
noise is fresh in each, the data has a fixed seed. The cells:

 - "count" and so on: ours with one bound of 16 rows a user, theirs with 4 groups of 4 rows, which is how they document
   bounds; the L1 sensitivity is the same. "..., same bound": theirs with 16 rows too, where they offer it.
 - "private groups": how many of the 1,000 are kept (delta = 1e-6) beside count and sum, of users within the bounds.
 - "noise of a count": standard deviation of the error where no bound drops anything.
 - "coverage": how often our 95% intervals hold the exact answer, over runs that differ in noise alone.

A ratio is ours to theirs, or theirs to ours where more is better: below 1 ours is better. A peer that cannot be
installed, or lacks something, is skipped, and the record says why.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import dp
from benchmarks._ours import Ours, open_ours
from benchmarks._peers import PEERS
from benchmarks._visits import Visits
from benchmarks.peers.protocol import AGGREGATES, KEYS, VALUES, Answer, Question, Reply, Request, replies
from dp.execution.local import AddNoise, Vector, local_cells
from dp.execution.release import make_answers
from dp.planning.plan import guarantee, make_plan

__all__ = ["run"]

_MOST_SECONDS = 30.0
_DELTA = 1e-6
_COVERAGE_ROWS = 100_000
_STATED = 0.95

Reals = NDArray[np.float64]
Statistic = Callable[[Answer], float]


@dataclass(frozen=True)
class _Cell:
    """One line of the comparison.

    Attributes:
        case: its name.
        ours: what we are asked.
        theirs: what peers are asked.
        statistic: of one answer.
        more_is_better: of the statistic.
    """

    case: str
    ours: Question
    theirs: Question
    statistic: Statistic
    more_is_better: bool = False


def run(quick: bool) -> Iterator[dict[str, object]]:
    """The coverage of our intervals, then all cells against all peers.

    Args:
        quick: 1e5 rows, asked once, and 50 runs; else 1e6 rows, up to 9 repetitions in half a minute, and 1,000 runs.
    """
    rows, repetitions, runs = (100_000, 1, 50) if quick else (1_000_000, 9, 1000)
    cells = _cells(rows)
    with open_ours() as ours:
        own = dict(zip(_asked(cells, "ours"), replies(ours.ask, _request(cells, "ours", repetitions)), strict=True))
        yield from _coverage(ours, runs)
    for peer in PEERS.values():
        request = _request(cells, "theirs", repetitions)
        for question, reply in zip(request.questions, peer.outcomes(request), strict=True):
            for cell in (cell for cell in cells if cell.theirs == question):
                compared = _compare(cell, own[cell.ours], reply)
                yield {"case": cell.case, "rows": rows, **compared, "against": peer.name, "peer": peer.title}


def _cells(rows: int) -> list[_Cell]:
    many, within, single = Visits.many(rows), Visits.within_bounds(rows), Visits.single(rows)
    both = Question(str(many.parquet()), ("count", "sum"), "public", "rows")
    lone = Question(str(single.parquet()), ("count",), "public", "groups")
    private = Question(str(within.parquet()), ("count", "sum"), "private", "groups", delta=_DELTA)
    cells = []
    for name in AGGREGATES:
        ours = both if name in both.aggregates else replace(both, aggregates=(name,))
        error = _relative_error(many, name)
        cells.append(_Cell(name, ours, replace(ours, bounds="groups"), error))
        cells.append(_Cell(f"{name}, same bound", ours, ours, error))
    cells.append(_Cell("private groups", private, private, lambda answer: len(answer["count"]), more_is_better=True))
    cells.append(_Cell("noise of a count", lone, lone, _error_stddev(single)))
    return cells


def _asked(cells: list[_Cell], side: str) -> tuple[Question, ...]:
    """The questions of one side, each once."""
    return tuple(dict.fromkeys(getattr(cell, side) for cell in cells))


def _request(cells: list[_Cell], side: str, repetitions: int) -> Request:
    return Request(_asked(cells, side), repetitions=repetitions, most_seconds=_MOST_SECONDS)


def _compare(cell: _Cell, mine: Reply, theirs: Reply) -> dict[str, object]:
    seconds = round(statistics.median(mine.seconds), 3)
    if theirs.unsupported:
        return {"seconds": seconds, "skipped": theirs.unsupported}
    ours, against = (_mean(cell, reply) for reply in (mine, theirs))
    ratio = against / ours if cell.more_is_better else ours / against
    return {
        "seconds": seconds,
        "value": _rounded(ours),
        "against_value": _rounded(against),
        "ratio": _rounded(ratio),
        "repetitions": [len(mine.answers), len(theirs.answers)],
    }


def _mean(cell: _Cell, reply: Reply) -> float:
    return statistics.mean(cell.statistic(answer) for answer in reply.answers)


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _relative_error(visits: Visits, aggregate: str) -> Statistic:
    truth = visits.truth(aggregate)
    present = np.isfinite(truth) & (truth != 0)

    def error(answer: Answer) -> float:
        relative = np.abs(_by_key(answer[aggregate]) - truth)[present] / np.abs(truth)[present]
        return float(np.median(np.where(np.isfinite(relative), relative, np.inf)))

    return error


def _error_stddev(visits: Visits) -> Statistic:
    truth = visits.truth("count")
    return lambda answer: float(np.std(_by_key(answer["count"]) - truth))


def _by_key(released: Mapping[int, float]) -> Reals:
    """In the order of the keys; NaN for a key that is missing."""
    return np.array([released.get(key, math.nan) for key in range(KEYS)])


def _coverage(ours: Ours, runs: int) -> Iterator[dict[str, object]]:
    visits = Visits.single(_COVERAGE_ROWS)
    for name in AGGREGATES:
        question = Question(str(visits.parquet()), (name,), "public", "groups")
        started = time.perf_counter()
        # what is chosen has no interval: the tree's median has
        tree = [dp.median("value", *VALUES).alias(name)] if name == "median" else None
        asked = max(runs // 10, 1) if tree else runs
        value = _covered_share(ours.query(question, tree), visits.truth(name), asked)
        yield {
            "case": f"coverage: {name}",
            "seconds": round(time.perf_counter() - started, 3),
            "value": _rounded(value),
            "against": "stated",
            "against_value": _STATED,
            "ratio": _rounded((1 - value) / (1 - _STATED)),
            "runs": asked,
        }


def _covered_share(query: dp.PrivateQuery, truth: Reals, runs: int) -> float:
    """Of all intervals of a query over so many draws of its noise, how many hold the truth."""
    plan = make_plan(query.query, guarantee("1", 0, None))
    cells = local_cells(query.frame.df, plan, partitions=query.frame.partitions)
    exact = Vector.of_cells(cells, plan.length, partitions=query.frame.partitions)
    present, shares = np.isfinite(truth), []
    for _ in range(runs):
        intervals = make_answers(plan, exact.map(AddNoise(plan)).collect(), _STATED).accuracy
        lower, upper = (intervals[end].to_numpy() for end in ("lower", "upper"))
        shares.append(float(np.mean(((lower <= truth) & (truth <= upper))[present])))
    return statistics.mean(shares)
