"""What one unit is: rows, rows that have become several, and several units that are protected together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
import pytest

from dp.accounting.budget import Budget
from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import explain_plan
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.exact import Record, exact_vector
from tests.tools.plans import FACTS, paper_query

AGGREGATES: list[Aggregate] = [
    *(dp.count(), dp.count_units(), dp.count_distinct("v"), dp.sum("v", -3, 5), dp.mean("d", -1, 2)),
    *(dp.variance("v", 0, 9), dp.unit_sum("v", -3, 5), dp.histogram("v", [0, 3, 6]), dp.top_k("v", 1, [1, 5])),
    *(dp.vector_sum(["v", "d"], bound=4), dp.truncated_share(), dp.median("v", 0, 9)),
]
VALUES: list[dict[str, float | None]] = [
    {"v": 5, "d": 2.0},
    {"v": -4, "d": -1.0},
    {"v": None, "d": None},
    {"v": 1, "d": 0.5},
]
ONE_ROW = ContributionBounds(max_groups=1, max_rows=1)
OTHERS: list[Record] = [(100 + i, i % 2, {"v": i % 6, "d": i / 10}) for i in range(20)]


def a_plan(asked: Budget, facts: PublicFacts, bounds: ContributionBounds = ONE_ROW) -> Plan:
    return make_plan(paper_query(AGGREGATES, groups=2, bounds=bounds, facts=facts), asked)


def whatever(rows: int, units: int) -> Iterator[list[Record]]:
    """All rows that so many units may have, each so many, in two groups."""
    contents = list(product(range(2), VALUES))
    for chosen in combinations_with_replacement(contents, rows * units):
        yield [(place % units, group, dict(values)) for place, (group, values) in enumerate(chosen)]


def worst_change(plan: Plan, several: Iterator[list[Record]]) -> list[tuple[int, int]]:
    """For every part the greatest L1 and squared L2 distance to the table without these rows."""
    without = exact_vector(plan, OTHERS)
    worst = [(0, 0)] * len(plan.parts)
    for records in several:
        change = (exact_vector(plan, OTHERS + records) - without).view(np.int64)
        for place, part in enumerate(plan.parts):
            moved = np.abs(change[part.offset : part.offset + part.cells])
            worst[place] = (max(worst[place][0], int(moved.sum())), max(worst[place][1], int((moved**2).sum())))
    return worst


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("asked", [dp.PureDP(1), dp.ZCDP(1)], ids=str)
def test_rows_that_were_one_row_are_protected_together(rows: int, asked: Budget) -> None:
    """Every row counts, wherever it is; so one that has become k rows moves k times as far, in one cell if it likes."""
    plan = a_plan(asked, replace(FACTS, unit=(), rows_per_unit=rows))
    worst = worst_change(plan, whatever(rows, 1))
    for part, (l1, l2_squared) in zip(plan.parts, worst, strict=True):
        assert l1 <= part.sensitivity.l1, part.measure
        assert l2_squared <= part.sensitivity.l2_squared, part.measure
    alone = a_plan(asked, replace(FACTS, unit=()))
    for part, single, (l1, _) in zip(plan.parts, alone.parts, worst, strict=True):
        assert part.sensitivity == single.sensitivity.times(rows)
        if rows > 1 and part.measure.to_json()["measure"] in {"rows", "units", "unit totals"}:
            assert l1 > single.sensitivity.l1, "the planted fault: as if it were still one row"


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("asked", [dp.PureDP(1), dp.ZCDP(1)], ids=str)
def test_several_units_together_move_as_far_as_declared(size: int, asked: Budget) -> None:
    plan, alone = a_plan(asked, replace(FACTS, group_size=size)), a_plan(asked, FACTS)
    worst = worst_change(plan, whatever(1, size))
    for part, single, (l1, l2_squared) in zip(plan.parts, alone.parts, worst, strict=True):
        assert part.sensitivity == single.sensitivity.times(size)
        assert l1 <= part.sensitivity.l1
        assert l2_squared <= part.sensitivity.l2_squared
        if part.measure.to_json()["measure"] in {"rows", "units"}:
            assert (l1, l2_squared) == (part.sensitivity.l1, part.sensitivity.l2_squared)


@pytest.mark.parametrize(
    ("facts", "together"),
    [
        ({}, 1),
        ({"group_size": 4}, 4),
        ({"unit": (), "rows_per_unit": 3}, 3),
        ({"unit": (), "rows_per_unit": 3, "group_size": 2}, 6),
    ],
)
@pytest.mark.parametrize("strategy", ["truncated_geometric", "laplace", "gaussian"])
def test_selections_protect_them_together_too(facts: dict[str, Any], together: int, strategy: Any) -> None:
    query = replace(paper_query([dp.count()], facts=replace(FACTS, **facts)), keys=PrivateKeys(strategy))
    selection: Any = make_plan(query, dp.ApproxDP(1, "1e-6")).selection
    assert (selection.max_groups, selection.group_size) == (1, together)


def test_sums_that_could_wrap_count_rows_that_have_become_several() -> None:
    aggregates = [dp.sum("v", 0, 2**50)]

    def plan_for(units: int, rows: int) -> Plan:
        facts = replace(FACTS, unit=(), max_units=units, rows_per_unit=rows)
        return make_plan(paper_query(aggregates, facts=facts), dp.PureDP(10))

    plan_for(2**12, 1)
    plan_for(2**10, 4)
    for units, rows in ((2**13, 1), (2**11, 4)):
        with pytest.raises(InvalidArgument, match="max_units="):
            plan_for(units, rows)


def test_without_a_bound_on_rows_units_are_counted_and_rows_are_not() -> None:
    groups_only = ContributionBounds(max_groups=1)
    plan = make_plan(paper_query([dp.count_units(), dp.unit_sum("v", 0, 9)], bounds=groups_only), dp.PureDP(1))
    many: list[Record] = [(unit, 0, {"v": 1}) for unit in range(3) for _ in range(50)]
    assert exact_vector(plan, many).tolist() == [3, 27]
    for aggregate in (dp.count(), dp.sum("v", 0, 1), dp.mean("v", 0, 1), dp.count_distinct("v"), dp.median("v", 0, 1)):
        with pytest.raises(InvalidArgument, match="what adds up rows needs a bound on them"):
            make_plan(paper_query([aggregate], bounds=groups_only), dp.PureDP(1))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "privacy unit: id; at most 1 row(s) in each of 1 group(s) of one unit are used"),
        ({"group_size": 3}, "privacy unit: any 3 together of id"),
        ({"unit": ()}, "privacy unit: every row by itself"),
        ({"unit": (), "rows_per_unit": 5}, "every row by itself, with up to 5 rows that it has become"),
    ],
)
def test_the_plan_says_who_is_protected(facts: dict[str, Any], said: str) -> None:
    text = str(explain_plan(a_plan(dp.PureDP(1), replace(FACTS, **facts)), ("t",)))
    assert said in text
