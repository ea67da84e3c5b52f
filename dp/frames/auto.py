"""`bounds="auto"`: bounds that are missing are chosen from small releases first, paid from the same budget.

Every choice is a release of its own: stored, free when asked again, and on the ledger. The query follows with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from operator import and_
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import functions as F

from dp.accounting.accountants import price
from dp.accounting.budget import ZCDP, ApproxDP, Budget, Guarantee, PureDP, RenyiDP, fits, summed
from dp.accounting.events import Event, PureEvent, ZcdpEvent
from dp.accounting.ledger import BudgetLedger
from dp.accounting.renyi import ORDERS
from dp.errors import BudgetExceeded, InvalidArgument
from dp.exact import Exact
from dp.execution.one_lake import paying_ledger, release_key, release_one_lake
from dp.execution.release import Release
from dp.frames.grouped import GroupedFrame, Limits, PrivateQuery
from dp.frames.rows import PrivateRows
from dp.frames.schema import column_types
from dp.planning.aggregates import Aggregate
from dp.planning.auto import SIZE_BINS, chosen_clamp, chosen_rows, clamp_edges
from dp.planning.bounds import ContributionBounds
from dp.planning.counts import Histogram, UnitSizeHistogram
from dp.planning.explanation import Explanation
from dp.planning.keys import Group, PrivateKeys
from dp.planning.names import quoted
from dp.planning.plan import Part, Plan, guarantee, make_plan

__all__ = ["AutoGroups", "AutoQuery"]

_SHARE = Fraction(1, 10)
"""Of the budget, for each kind of bound that is chosen."""

_ROWS, _CLAMPS = "rows of one unit", "clamps"


@dataclass(frozen=True)
class AutoGroups:
    """A PrivateFrame with groups, whose missing bounds are chosen when it is released."""

    frame: PrivateRows
    by: tuple[str, ...]
    keys: tuple[Group, ...] | PrivateKeys
    limits: Limits

    def agg(self, *aggregates: Aggregate) -> AutoQuery:
        """Name the aggregates; those without bounds, given or declared, get chosen ones."""
        return AutoQuery(self, aggregates)


@dataclass(frozen=True)
class AutoQuery:
    """A query whose missing bounds are chosen privately. `explain` is free; `release` pays."""

    groups: AutoGroups
    aggregates: tuple[Aggregate, ...]

    def explain(self, epsilon: Exact | None = None, delta: Exact = 0, *, rho: Exact | None = None) -> Explanation:
        """What is chosen, and at which price; the plan of the query itself depends on what is chosen.

        Raises:
            InvalidArgument: an impossible guarantee, or a query that cannot be asked whatever is chosen.
        """
        asked = guarantee(epsilon, delta, rho)
        self._rehearsed(asked)
        first = [f"{what}: {_part(asked, _SHARE)}" for what in self._missing()]
        left = self._rest(asked)
        sections = {
            "Query": (self.groups.frame.description, *self.groups.frame.steps),
            "Chosen first, each by a release of its own": tuple(first) or ("nothing: all bounds are given",),
            "Price": (f"{asked} in all; the query itself: {left}",),
        }
        return Explanation(sections)

    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        ledger: BudgetLedger | None = None,
        rho: Exact | None = None,
        staging: str | None = None,
    ) -> Release:
        """Choose the missing bounds, then release the query with them; see `PrivateQuery.release`.

        Raises:
            InvalidArgument: an impossible guarantee, no ledger, or a query that cannot be asked whatever is chosen,
                as of a column that does not exist; nothing is paid.
            BudgetExceeded: the ledger has less left than all parts together that are not paid for; nothing is paid.
            BoundsNotFound: noise hides the data; the part that was asked first is paid, the rest is not.

        Guarantees: all parts together satisfy the guarantee asked for (they compose); what they cost together never
            exceeds it.
        """
        asked = guarantee(epsilon, delta, rho)
        paying = paying_ledger(self.groups.frame.source, ledger, asked)
        run = _Run(asked, paying, staging, self._rehearsed(asked).price(paying.capacity))
        query, chosen, choices = self._bounded(run)
        return replace(run.release(query, self._rest(asked)), chosen=chosen, choices=choices)

    def _rehearsed(self, asked: Guarantee) -> Plan:
        """The query's plan with any bounds in the place of those to be chosen: refuses what none would make right."""
        groups, limits, facts = self.groups, self.groups.limits, self.groups.frame.facts
        if _ROWS in self._missing():
            limits = replace(limits, max_total_rows=1)
        clamps = {column: (Fraction(0), Fraction(1)) for column in self._edges()}
        facts = replace(facts, bounds=MappingProxyType({**facts.bounds, **clamps}))
        bounds, frame = limits.bounds(facts, groups.by), replace(groups.frame, facts=facts)
        query = GroupedFrame(frame, groups.by, groups.keys, bounds).agg(*self.aggregates).query
        return make_plan(query, self._rest(asked))

    def _rest(self, asked: Guarantee) -> Guarantee:
        """What the query itself gets."""
        return _part(asked, 1 - _SHARE * len(self._missing()), with_delta=True)

    def _missing(self) -> list[str]:
        limits, facts = self.groups.limits, self.groups.frame.facts
        rows = [_ROWS] if facts.unit and limits.max_rows is None and limits.max_total_rows is None else []
        return rows + ([_CLAMPS] if self._unbounded() else [])

    def _unbounded(self) -> list[str]:
        facts = self.groups.frame.facts
        return sorted({column for aggregate in self.aggregates for column in aggregate.unbounded(facts)})

    def _bounded(self, run: _Run) -> tuple[PrivateQuery, Mapping[str, str], tuple[Release, ...]]:
        """The query with every bound in its place; what was chosen, in words; and the releases it was chosen from."""
        groups, chosen, choices = self.groups, dict[str, str](), list[Release]()
        limits = groups.limits
        if _ROWS in self._missing():
            choices.append(run.release(self._sizes_query(), _part(run.asked, _SHARE), self._later(run, _ROWS)))
            rows = self._rows(run.asked, choices[-1])
            limits, chosen[_ROWS] = replace(limits, max_total_rows=rows), f"at most {rows} row(s) of one unit"
        bounds, frame = limits.bounds(groups.frame.facts, groups.by), groups.frame
        if self._unbounded():
            choices.append(run.release(self._clamps_query(), _part(run.asked, _SHARE), self._later(run, _CLAMPS)))
            clamps = self._clamps(choices[-1])
            for column, (lower, upper) in clamps.items():
                chosen[column] = f"{column} within {float(lower):g} and {float(upper):g}"
            facts = replace(frame.facts, bounds=MappingProxyType({**frame.facts.bounds, **clamps}))
            frame = replace(frame, facts=facts)
        query = GroupedFrame(frame, groups.by, groups.keys, bounds).agg(*self.aggregates)
        return query, chosen, tuple(choices)

    def _later(self, run: _Run, what: str) -> tuple[Budget, ...]:
        """What the parts cost that follow a choice."""
        missing = self._missing()
        choices = len(missing) - missing.index(what) - 1
        return (*[_price(_part(run.asked, _SHARE), run.ledger.capacity)] * choices, run.rest)

    def _sizes_query(self) -> PrivateQuery:
        one_group = GroupedFrame(self._rows_of_groups(), (), ((),), ContributionBounds(max_groups=1))
        return one_group.agg(UnitSizeHistogram(name="rows_per_unit", bins=SIZE_BINS))

    def _rows(self, asked: Guarantee, release: Release) -> int:
        groups = None if isinstance(self.groups.keys, PrivateKeys) else len(self.groups.keys)
        counts = release.answers.values.column("rows_per_unit").to_pylist()[0]
        epsilon = _rough_epsilon(asked) / max(len(self.aggregates), 1)
        return chosen_rows(_ints(counts), _parts(release)[0].mechanism.stddev, groups, epsilon)

    def _edges(self) -> dict[str, tuple[Fraction, ...]]:
        kinds = column_types(self.groups.frame.df.schema)
        for column in self._unbounded():
            if column not in kinds or not kinds[column].numeric:
                numeric = sorted(name for name, kind in kinds.items() if kind.numeric)
                raise InvalidArgument("column", column, f"no such numeric column; there are {numeric}")
        return {column: clamp_edges(integral=kinds[column].integral) for column in self._unbounded()}

    def _clamps_query(self) -> PrivateQuery:
        """One row of every unit: k rows would bring k times the noise, and never k times as many rows."""
        histograms = (Histogram(name=f"bins_{c}", column=c, edges=edges) for c, edges in self._edges().items())
        one_row = ContributionBounds(max_total_rows=1)
        return GroupedFrame(self._rows_of_groups(), (), ((),), one_row).agg(*histograms)

    def _clamps(self, release: Release) -> dict[str, tuple[Fraction, Fraction]]:
        found = {}
        for (column, edges), part in zip(self._edges().items(), _parts(release), strict=True):
            counts = release.answers.values.column(f"bins_{column}").to_pylist()[0]
            found[column] = chosen_clamp(_ints(counts), edges, part.mechanism.stddev, column)
        return found

    def _rows_of_groups(self) -> PrivateRows:
        """The rows that the query is about: those of its public groups."""
        frame, by, keys = self.groups.frame, self.groups.by, self.groups.keys
        if not by or isinstance(keys, PrivateKeys):
            return frame
        names = [f"__auto{index}" for index in range(len(by))]
        columns = (pa.array(list(values)) for values in zip(*keys, strict=True))
        listed = frame.df.sparkSession.createDataFrame(pa.table(dict(zip(names, columns, strict=True))))
        same = (F.col(name) == F.col(quoted(column)) for name, column in zip(names, by, strict=True))
        rows = frame.df.join(F.broadcast(listed), reduce(and_, same), "left_semi")
        step = f"only the groups {[list(key) for key in keys]!r} of {list(by)!r}"
        return replace(frame, df=rows, steps=(*frame.steps, step))


@dataclass(frozen=True)
class _Run:
    """One budget, spent in parts; `rest` is what the last of them, the query itself, will cost the ledger."""

    asked: Guarantee
    ledger: BudgetLedger
    staging: str | None
    rest: Budget

    def release(self, query: PrivateQuery, part: Guarantee, later: Sequence[Budget] = ()) -> Release:
        """Release a query for a part of the budget; nothing is paid where the later parts could not be paid, too.

        Raises:
            BudgetExceeded: less is left than this and the later parts together cost.
        """
        plan, source = make_plan(query.query, part), query.frame.source
        stored = self.ledger.stored_release(release_key(plan, {source.name: source.data_version}))
        if later and stored is None:  # of one part alone the ledger sees to it itself
            self._check_enough((plan.price(self.ledger.capacity), *later), source.blocks)
        return release_one_lake(plan, source, self.ledger, self.staging)

    def _check_enough(self, prices: Sequence[Budget], blocks: tuple[str, ...]) -> None:
        remaining = self.ledger.remaining(blocks)
        total = summed(((one, 1) for one in prices), self.ledger.capacity)
        if not fits(total, remaining):
            raise BudgetExceeded(f"asked {total} in all, remaining {remaining}: ask for less, or ask its steward")


def _parts(release: Release) -> tuple[Part, ...]:
    assert isinstance(release.plan, Plan)  # no choice is made from what follows from another release
    return release.plan.parts


def _part(asked: Guarantee, share: Fraction, *, with_delta: bool = False) -> Guarantee:
    """A share of a budget; delta goes to one part as a whole."""
    if isinstance(asked, ZCDP):
        return ZCDP(asked.rho * share)
    if isinstance(asked, ApproxDP) and with_delta:
        return ApproxDP(asked.epsilon * share, asked.delta)
    return PureDP(asked.epsilon * share)


def _price(part: Guarantee, like: Budget) -> Budget:
    """What a choice of bounds costs at most on a ledger of this kind."""
    if isinstance(part, type(like)):
        return part
    event: Event = ZcdpEvent(part.rho) if isinstance(part, ZCDP) else PureEvent(part.epsilon)
    return price(event, type(like), orders=like.orders if isinstance(like, RenyiDP) else ORDERS)


def _rough_epsilon(asked: Guarantee) -> float:
    """An epsilon whose Laplace noise is about as wide, to compare bounds."""
    return math.sqrt(2 * asked.rho) if isinstance(asked, ZCDP) else float(asked.epsilon)


def _ints(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.asarray(counts, np.int64)
