"""Speed beside our peers: the same release of the same rows by each, in an environment of its own, on two cores.

Count and sum of 1,000 groups at user level, epsilon = 1: at most 4 groups of a user and 4 rows in each, with public and
with private groups; and at most 16 rows of a user, for whoever has no bound on groups. Everybody reads columnar files
(ours are a Delta table, and ours pays a ledger), warms up on a tenth of the rows for the same time, and is done
when all rows of the answer are on the driver. Sessions have started before. A peer that cannot be installed, or lacks
something, is skipped, and the record says why. Beside the wall clock stand seconds of processors, which other load on
the machine hardly changes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks._measure import Cost
from benchmarks._ours import open_ours
from benchmarks._peers import PEERS
from benchmarks._visits import Visits
from benchmarks.peers.protocol import Question, Reply, Request, replies

__all__ = ["run"]

_REPETITIONS = 5
_MOST_SECONDS = 60.0
_WARM_UP_SHARE = 10
_WARM_UP_SECONDS = 15.0
_BOTH = ("count", "sum")
_CASES = ("public groups", "private groups", "public groups, one bound on rows")


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Ours, then every peer, one process at a time: 1e6 rows, and 1e7.

    Args:
        quick: 1e6 rows only; PipelineDP alone takes a quarter of an hour for 1e7.
    """
    for rows in (1_000_000,) if quick else (1_000_000, 10_000_000):
        yield from _compare(rows)


def _compare(rows: int) -> Iterator[dict[str, object]]:
    visits = str(Visits.many(rows).parquet())
    questions = (
        Question(visits, _BOTH, "public", "groups"),
        Question(visits, _BOTH, "private", "groups", delta=1e-6),
        Question(visits, _BOTH, "public", "rows"),
    )
    request = Request(
        questions,
        warm_up=str(Visits.many(rows // _WARM_UP_SHARE).parquet()),
        warm_up_seconds=_WARM_UP_SECONDS,
        repetitions=_REPETITIONS,
        most_seconds=_MOST_SECONDS,
    )
    with open_ours() as ours:
        own = list(replies(ours.ask, request))
    for peer in PEERS.values():
        for case, mine, theirs in zip(_CASES, own, peer.outcomes(request), strict=True):
            yield {"case": case, "rows": rows, **_measured(mine, theirs), "against": peer.name, "peer": peer.title}


def _measured(mine: Reply, theirs: Reply) -> dict[str, object]:
    ours = _cost(mine)
    if theirs.unsupported:
        return {**ours.record(), "skipped": theirs.unsupported}
    against = {f"against_{name}": value for name, value in _cost(theirs).record().items()}
    return {**ours.record(), **against, **_ratios(ours, _cost(theirs))}


def _cost(reply: Reply) -> Cost:
    return Cost(statistics.median(reply.seconds), statistics.median(reply.cpu_seconds))


def _ratios(ours: Cost, theirs: Cost) -> dict[str, object]:
    cpu = round(ours.cpu_seconds / theirs.cpu_seconds, 4) if theirs.cpu_seconds else None
    return {"ratio": round(ours.seconds / theirs.seconds, 4), "cpu_ratio": cpu}
