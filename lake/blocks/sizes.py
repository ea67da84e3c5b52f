"""How many ranges of users to cut: from a private count of them, so that the number may be public."""

from __future__ import annotations

import math

from dp.errors import InvalidArgument
from dp.execution.release import Release
from dp.planning.counts import CountUnits
from lake.blocks.rules import MOST_RANGES

__all__ = ["user_ranges"]

_CONFIDENCE = 0.95


def user_ranges(per_block: int, counted: Release, *, confidence: float = _CONFIDENCE) -> int:
    """How many ranges hold at least so many users each, on average and as far as a private count can tell.

    max(1, floor(lower / per_block)), where lower is the lower end of the count's interval. It follows from what was
    released and paid for, so the number may be public. Count on the table without blocks: the whole pays for it.

        counted = table.private().agg(dp.count_units()).release(epsilon="0.1", ledger=ledger)
        rule = lake.Blocks.users(lake.user_ranges(10_000, counted), name="patients")

    Args:
        per_block: users that a block should have, at least 1.
        counted: a release of `dp.count_units()` over all rows, without groups; units are the users.
        confidence: of the interval whose lower end counts.

    Returns:
        The number of ranges, 1..MOST_RANGES.

    Raises:
        InvalidArgument: no such count, or one of synthetic rows.
    """
    if isinstance(per_block, bool) or not isinstance(per_block, int) or per_block < 1:
        raise InvalidArgument("per_block", per_block, "give the users that a block should have, at least 1")
    if not isinstance(counted, Release) or counted.synthetic:
        remedy = "release dp.count_units() over the real table, on the owner's ledger"
        raise InvalidArgument("counted", "synthetic" if isinstance(counted, Release) else repr(counted), remedy)
    query = counted.plan.query
    names = [aggregate.name for aggregate in query.aggregates if isinstance(aggregate, CountUnits)]
    if query.by or query.filters or len(names) != 1:
        remedy = "count all units once: table.private().agg(dp.count_units()), without groups and conditions"
        raise InvalidArgument("counted", [*query.filters, *query.by, *names], remedy)
    (lower,) = (float(row["lower"]) for row in counted.at(confidence).to_pylist() if row["aggregate"] == names[0])
    return min(max(math.floor(lower / per_block), 1), MOST_RANGES)
