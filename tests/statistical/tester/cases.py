"""The cases: every aggregate under every form of bound and every family of noise that it is offered with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dp import functions as dp
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate, ColumnType
from dp.planning.auto import SIZE_BINS, clamp_edges
from dp.planning.bounds import ContributionBounds
from dp.planning.counts import UnitSizeHistogram
from dp.planning.facts import PublicFacts
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from tests.statistical.tester.pipeline import Encoded, Raw, RawRow, exact_cells

__all__ = ["AGGREGATES", "BOUNDS", "GUARANTEES", "Case", "all_cases", "distance", "raw_rows"]

Int64s = NDArray[np.int64]

GROUPS = 5
COLUMNS = {
    "v": ColumnType(integral=True, nullable=True),
    "d": ColumnType(integral=False, nullable=True),
    "e": ColumnType(integral=False, nullable=True),
}
PAIR = {"d": (-1, 5), "e": (-5, 1)}

AGGREGATES: Mapping[str, tuple[Aggregate, ...]] = {
    "count": (dp.count(),),
    "count_units": (dp.count_units(),),
    "count_distinct": (dp.count_distinct("v"),),
    "sum of integers": (dp.sum("v", -3, 7),),
    "sum of reals": (dp.sum("d", -1, 5),),
    "sum, missing imputed": (dp.sum("d", -1, 5, missing=4),),
    "mean": (dp.mean("d", -1, 5),),
    "variance": (dp.variance("d", -1, 5),),
    "stddev": (dp.stddev("v", -3, 7),),
    "unit_sum": (dp.unit_sum("v", -3, 7),),
    "vector_sum l1": (dp.vector_sum(["d", "e"], bound=2, norm="l1"),),
    "vector_sum l2": (dp.vector_sum(["d", "e"], bound=2, norm="l2"),),
    "vector_sum linf": (dp.vector_sum(["d", "e"], bound=2, norm="linf"),),
    "histogram": (dp.histogram("v", [0, 2, 5]),),
    "top_k": (dp.top_k("v", 2, [1, 2, 3]),),
    "quantiles": (dp.quantiles("v", ["0.1", "0.9"], 0, 255),),
    "median": (dp.median("d", -1, 5),),
    "min": (dp.min("v", 0, 7),),
    "max": (dp.max("d", -1, 5),),
    "covariance": (dp.covariance(["d", "e"], PAIR),),
    "sufficient_statistics": (dp.sufficient_statistics(["d"], {"d": PAIR["d"]}),),
    "truncated_share": (dp.truncated_share(),),
    "auto: rows of a unit": (UnitSizeHistogram(name="rows_per_unit", bins=SIZE_BINS),),
    "auto: clamps": (dp.histogram("d", clamp_edges(integral=False)),),
    "count, sum and mean": (dp.count(), dp.sum("v", -3, 7), dp.mean("v", -3, 7)),
}


_FACTS = PublicFacts(unit=("id",), max_units=10**6)


@dataclass(frozen=True)
class Limit:
    """One form of bound: what a unit may contribute, and what is protected together."""

    bounds: ContributionBounds
    facts: PublicFacts = _FACTS
    rollup: bool = False


BOUNDS: Mapping[str, Limit] = {
    "L0 x Linf": Limit(ContributionBounds(max_groups=2, max_rows=3)),
    "L1": Limit(ContributionBounds(max_total_rows=4)),
    "L0 + L1": Limit(ContributionBounds(max_groups=2, max_total_rows=3)),
    "L0": Limit(ContributionBounds(max_groups=2)),
    "rows are units": Limit(
        ContributionBounds(max_groups=1, max_rows=1), PublicFacts(unit=(), max_units=10**6, rows_per_unit=2)
    ),
    "two units": Limit(
        ContributionBounds(max_groups=1, max_rows=2), PublicFacts(unit=("id",), max_units=10**6, group_size=2)
    ),
    "rollup": Limit(ContributionBounds(max_groups=2, max_rows=2), rollup=True),
}

GUARANTEES: Mapping[str, Budget] = {
    "epsilon": PureDP(2),
    "epsilon and delta": ApproxDP("1/2", "1/20"),
    "rho": ZCDP("1/4"),
}

_NAN, _INFINITE = math.nan, math.inf
_EXTREMES: tuple[tuple[Raw, Raw, Raw], ...] = (
    (2**63 - 1, _INFINITE, -_INFINITE),
    (-(2**63), -_INFINITE, 1e300),
    (None, _NAN, None),
    (2**53 + 1, 5e-324, _NAN),
    (0, -0.0, 0.0),
    (None, None, 2.0),
)

HANDS: Mapping[str, Callable[[int], tuple[Raw, Raw, Raw]]] = {
    "a thousand times too much": lambda _: (7_000, 5_000.0, 5_000.0),
    "a thousand times too little": lambda _: (-3_000, -1_000.0, -5_000.0),
    "both signs": lambda _: (-3_000, 5_000.0, -5_000.0),
    "one coordinate": lambda _: (7, 5_000.0, 0.0),
    "values of a list": lambda _: (2, 0.5, 0.5),
    "all different": lambda index: (1_000 + index, float(index), 1.0),
    "nothing": lambda index: (None, _NAN, None if index % 2 else _NAN),
    "extremes": lambda index: _EXTREMES[index % len(_EXTREMES)],
}
"""What the further unit writes into its rows, by their number."""

PLACES: Mapping[str, Callable[[int], int]] = {"in one group": lambda _: 0, "everywhere": lambda index: index % GROUPS}

_ROWS_OF_FURTHER = 40
_SALTS = (1, 2**40 + 7, 2**63 - 1)


def _row(unit: int, group: int, values: tuple[Raw, Raw, Raw]) -> RawRow:
    return RawRow(unit, group, dict(zip(("v", "d", "e"), values, strict=True)))


def others() -> list[RawRow]:
    """Rows on both neighbours: units within their bounds, and two beyond them."""
    usual = [_row(unit, (unit + i) % GROUPS, (unit % 4, unit / 4, -unit / 4)) for unit in range(1, 7) for i in range(2)]
    greedy = [_row(unit, i % GROUPS, (i % 9, i / 7, None)) for unit in (8, 9) for i in range(20)]
    return usual + greedy


def further(hand: str, place: str, limit: Limit) -> list[RawRow]:
    """Rows on one neighbour only: those of the units that are protected together."""
    facts = limit.facts
    if not facts.unit:
        return [_row(100, PLACES[place](i), HANDS[hand](i)) for i in range(facts.units_together)]
    return [
        _row(100 + unit, PLACES[place](i), HANDS[hand](i + unit * _ROWS_OF_FURTHER))
        for unit in range(facts.group_size)
        for i in range(_ROWS_OF_FURTHER)
    ]


def raw_rows() -> list[RawRow]:
    """Every row that a case can have."""
    rows = others()
    for limit in BOUNDS.values():
        rows += [row for hand in HANDS for place in PLACES for row in further(hand, place, limit)]
    return rows


@dataclass(frozen=True)
class Case:
    """One plan under one guarantee."""

    aggregate: str
    limit: str
    guarantee: str

    def __str__(self) -> str:
        return f"{self.aggregate} | {self.limit} | {self.guarantee}"

    @cached_property
    def plan(self) -> Plan:
        """The calibrated plan."""
        limit = BOUNDS[self.limit]
        keys = tuple((key,) for key in range(GROUPS))
        query = Query(("k",), keys, limit.bounds, AGGREGATES[self.aggregate], limit.facts, COLUMNS)
        return make_plan(replace(query, totals="rollup") if limit.rollup else query, GUARANTEES[self.guarantee])

    def neighbours(self, codes: Encoded) -> tuple[Int64s, Int64s]:
        """Exact cells of the two neighbours that declared noise tells apart best.

        Raises:
            AssertionError: some neighbour, for some salt, is further away than the plan's sensitivities say.
        """
        pairs = []
        for salt in _SALTS:
            without = exact_cells(self.plan, others(), codes, salt)
            for hand in HANDS:
                for place in PLACES:
                    rows = others() + further(hand, place, BOUNDS[self.limit])
                    pairs.append((without, exact_cells(self.plan, rows, codes, salt)))
                    _check_sensitivity(self.plan, *pairs[-1])
        # of equally distant ones those that differ in the fewest cells: there every test has the most power
        return max(pairs, key=lambda pair: (round(distance(self.plan, *pair), 9), -int((pair[0] != pair[1]).sum())))


def _check_sensitivity(plan: Plan, without: Int64s, with_unit: Int64s) -> None:
    for part in plan.parts:
        cells = slice(part.offset, part.offset + part.cells)
        moved = [abs(int(a) - int(b)) for a, b in zip(without[cells], with_unit[cells], strict=True)]
        assert sum(moved) <= part.sensitivity.l1, part.measure
        assert sum(m**2 for m in moved) <= part.sensitivity.l2_squared, part.measure


def distance(plan: Plan, without: Int64s, with_unit: Int64s) -> float:
    """How far apart neighbours are, as a share of what the plan allows for: in losses of Laplace noise, or squared."""
    found = allowed = 0.0
    for part in plan.parts:
        cells = slice(part.offset, part.offset + part.cells)
        moved = np.abs(without[cells] - with_unit[cells]).astype(np.float64)
        if plan.query.noise_norm == 1:
            found += float(moved.sum()) / part.mechanism.stddev
            allowed += part.sensitivity.l1 / part.mechanism.stddev
        else:
            found += float((moved**2).sum()) / part.mechanism.stddev**2
            allowed += part.sensitivity.l2_squared / part.mechanism.stddev**2
    return found / allowed


def all_cases() -> Iterator[Case]:
    """Every combination that the library offers."""
    for aggregate in AGGREGATES:
        for limit in BOUNDS:
            for guarantee in GUARANTEES:
                case = Case(aggregate, limit, guarantee)
                try:
                    _ = case.plan
                except InvalidArgument:  # rows that are added up without a bound on them, totals of what does not add
                    continue
                yield case
