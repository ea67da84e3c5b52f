"""What a public sample says of a query, without any noise: exact answers, and the same after bounding and clamping.

Only rows that nobody has to protect come here. Both answers run through the pipeline that releases run through; the
exact ones with bounds so wide that they drop nothing and clamp nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from dp.accounting.budget import PureDP
from dp.errors import InvalidArgument
from dp.execution.blocks import dense_vector
from dp.execution.local import local_cells
from dp.execution.release import open_cells
from dp.frames.frame import UnprotectedFrame
from dp.planning.aggregates import Aggregate, Estimate
from dp.planning.bounds import ContributionBounds
from dp.planning.counts import Count
from dp.planning.keys import Group, PrivateKeys
from dp.planning.means import Mean, Stddev, Variance
from dp.planning.measures import Rows, Truncation, Units
from dp.planning.moments import Covariance, SufficientStatistics
from dp.planning.names import quoted
from dp.planning.plan import MAX_CELLS, Part, Plan, make_plan
from dp.planning.quantiles import Quantiles, RankValue
from dp.planning.query import Query
from dp.planning.sums import Sum, UnitSum, VectorSum

__all__ = ["Cells", "Sample", "estimates"]

Reals = NDArray[np.float64]
Range = tuple[Fraction, Fraction]

_HARDLY_ANY_NOISE = PureDP(1000)
_ANY_ROWS = Count(name="__rows")


@dataclass(frozen=True)
class Cells:
    """A query's cells over a sample, as they would be opened without noise.

    Attributes:
        words: of the plan's vector.
        rows: that were counted, for every row of the answer.
        units: that were counted, of every group.
        truncated: the share of units from which bounding took rows.
        all_rows: how many rows were counted in all groups together.
    """

    words: NDArray[np.uint64] = field(repr=False)
    rows: Reals
    units: Reals
    truncated: float
    all_rows: float


@dataclass(frozen=True)
class _Reach:
    """How far a sample's rows reach: bounds that allow it drop nothing.

    Attributes:
        values: of columns, their least and greatest finite values.
        rows_per_unit: of the unit with the most rows.
        units: how many there are.
    """

    values: Mapping[str, Range]
    rows_per_unit: int
    units: int


@dataclass(frozen=True)
class Sample:
    """A public sample and what is asked of it.

    Attributes:
        frame: the rows, which nobody has to protect, after the query's steps.
        query: what is asked.
        share: of all units, how many the sample holds; what it counts is scaled up by it.
    """

    frame: UnprotectedFrame
    query: Query
    share: Fraction

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The public groups, or those that the sample has where keys are private."""
        if not isinstance(self.query.keys, PrivateKeys):
            return self.query.keys
        keys = self.frame.df.select(*(quoted(column) for column in self.query.by)).dropna().distinct()
        found = keys.limit(MAX_CELLS + 1).toArrow()
        if not 1 <= found.num_rows <= MAX_CELLS:
            raise InvalidArgument("sample", f"{found.num_rows} groups", f"give one with 1 to {MAX_CELLS} groups")
        return tuple(sorted(zip(*(column.to_pylist() for column in found.columns), strict=True)))

    def located(self, plan: Plan) -> Plan:
        """A plan of the query with the sample's own groups, where keys are private.

        Raises:
            InvalidArgument: the sample has so many groups that a release would have too many cells.
        """
        located = plan if plan.selection is None else plan.for_keys(self.groups)
        if located.length > MAX_CELLS:
            raise InvalidArgument("sample", f"{plan.groups} groups", f"a release has at most {MAX_CELLS} cells")
        return located

    def cells(self, plan: Plan) -> Cells:
        """What a plan's bounds and clamps leave of the sample; the plan is a located one."""
        extended, (rows, units, truncation) = _with_extras(plan)
        cells = local_cells(self.frame.df, extended, partitions=self.frame.partitions)
        words = dense_vector(cells, extended.length).view(np.int64)
        if self.share != 1:
            words = np.rint(words / float(self.share)).astype(np.int64)
        truncated, all_units = (float(word) for word in _of(words, truncation))
        counted = _of(words, rows)
        return Cells(
            words=words[: plan.length].view(np.uint64),
            rows=counted,
            units=_of(words, units),
            truncated=truncated / max(all_units, 1.0),
            all_rows=float(counted[: plan.groups].sum()),  # the finest groups come first
        )

    def exact(self) -> tuple[Mapping[str, Reals], Cells]:
        """Values by aggregate, nothing dropped and nothing clamped; and what was counted."""
        quantiles = tuple(a for a in self.query.aggregates if isinstance(a, Quantiles))
        others = tuple(_widened(a, self._reach) for a in self.query.aggregates if a not in quantiles)
        plan = make_plan(
            replace(
                self.query,
                keys=self.groups,
                bounds=ContributionBounds(max_total_rows=self._reach.rows_per_unit),
                aggregates=others or (_ANY_ROWS,),
                facts=replace(self.query.facts, max_units=self._reach.units),
            ),
            _HARDLY_ANY_NOISE,
        )
        cells = self.cells(plan)
        found = {name: estimate.values.astype(np.float64) for name, estimate in estimates(plan, cells).items()}
        return MappingProxyType({**found, **{a.name: self._quantiles(a) for a in quantiles}}), cells

    @cached_property
    def _reach(self) -> _Reach:
        df, unit = self.frame.df, self.query.facts.unit
        columns = sorted({c for a in self.query.aggregates for c in a.sources if self.query.columns[c].numeric})
        ends = [end(_finite(column)) for column in columns for end in (F.min, F.max)]
        total, *reach = _first(df.agg(F.count(F.lit(1)), *ends))
        pairs = zip(columns, reach[::2], reach[1::2], strict=True)
        values = {name: (Fraction(low), Fraction(high)) for name, low, high in pairs if low is not None}
        if not unit:
            return _Reach(values, 1, max(total, 1))
        sizes = df.groupBy(*(F.col(quoted(name)) for name in unit)).count()
        most, units = _first(sizes.agg(F.max("count"), F.count("count")))
        return _Reach(values, max(most or 1, 1), max(units, 1))

    def _quantiles(self, aggregate: Quantiles) -> Reals:
        """Of values without any clamp; a tree over their whole range would be too coarse where a few are far out."""
        if self.query.hierarchy is not None:
            remedy = "quantiles of totals cannot be compared: tune them by groupBy"
            raise InvalidArgument("query", aggregate.name, remedy)
        ranks = [float(rank) for rank in aggregate.ranks]
        by = [F.col(quoted(column)) for column in self.query.by]
        of_groups = self.frame.df.groupBy(*by).agg(F.percentile(_finite(aggregate.column), ranks).alias("__found"))
        *keys, found = (column.to_pylist() for column in of_groups.toArrow().columns)
        by_key = dict(zip(zip(*keys, strict=True) if keys else [()], found, strict=True))
        missing = [float("nan")] * len(ranks)
        values = np.array([by_key.get(group) or missing for group in self.groups])
        return values[:, 0] if isinstance(aggregate, RankValue) else values


def estimates(plan: Plan, cells: Cells) -> dict[str, Estimate]:
    """What would be released of the cells without noise, with the accuracy that the plan's noise leaves it."""
    opened = open_cells(plan, cells.words, 0.95)
    return {aggregate.name: aggregate.estimate(plan.query.schema, opened) for aggregate in plan.query.aggregates}


def _with_extras(plan: Plan) -> tuple[Plan, tuple[Part, Part, Part]]:
    """The plan with cells at its end for rows, units and truncated units; noise is drawn for none of them."""
    rows, offset, extras = plan.query.measured(Rows()), plan.length, list[Part]()
    for measure in (rows, Units(), Truncation()):
        extras.append(replace(plan.parts[0], measure=measure, offset=offset, cells=measure.cells(plan.groups)))
        offset += extras[-1].cells
    return replace(plan, parts=(*plan.parts, *extras)), (extras[0], extras[1], extras[2])


def _of(words: NDArray[np.int64], part: Part) -> Reals:
    return words[part.offset : part.offset + part.cells].astype(np.float64)


def _finite(column: str) -> Column:
    """The column without NaN and infinities."""
    value = F.col(quoted(column))
    real = value.cast("double")
    return F.when(~F.isnan(real) & (F.abs(real) != F.lit(float("inf"))), value)


def _first(df: Any) -> list[Any]:
    return [column.to_pylist()[0] for column in df.toArrow().columns]


def _widened(aggregate: Aggregate, reach: _Reach) -> Aggregate:
    """The aggregate with clamps that clamp nothing of the sample."""
    wider = _WIDER.get(type(aggregate))
    if wider is None or not all(source in reach.values for source in aggregate.sources):
        return aggregate  # it has no clamp, or the sample no value to clamp
    return wider(aggregate, reach)


def _wider_clamp(aggregate: Any, reach: _Reach) -> Aggregate:
    ends = (*reach.values[aggregate.column], *(() if aggregate.missing is None else (aggregate.missing,)))
    return replace(aggregate, lower=min(ends), upper=max(ends))  # type: ignore[no-any-return]


def _wider_total(aggregate: Any, reach: _Reach) -> Aggregate:
    low, high = (end * reach.rows_per_unit for end in reach.values[aggregate.column])
    return replace(aggregate, lower=min(low, Fraction(0)), upper=max(high, Fraction(0)))  # type: ignore[no-any-return]


def _wider_norm(aggregate: Any, reach: _Reach) -> Aggregate:
    greatest = max(abs(end) for column in aggregate.columns for end in reach.values[column])
    return replace(aggregate, bound=len(aggregate.columns) * greatest or Fraction(1))  # type: ignore[no-any-return]


def _wider_pairs(aggregate: Any, reach: _Reach) -> Aggregate:
    return replace(aggregate, bounds=tuple(reach.values[c] for c in aggregate.columns))  # type: ignore[no-any-return]


_WIDER: Mapping[type[Aggregate], Callable[[Any, _Reach], Aggregate]] = MappingProxyType(
    {
        **dict.fromkeys((Sum, Mean, Variance, Stddev), _wider_clamp),
        **dict.fromkeys((Covariance, SufficientStatistics), _wider_pairs),
        UnitSum: _wider_total,
        VectorSum: _wider_norm,
    }
)
"""How the clamps of an aggregate are widened; others have none."""
