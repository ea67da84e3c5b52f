"""Plans without Spark: queries over columns that exist on paper only, and vectors whose exact answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from dp.execution.blocks import dense_vector
from dp.execution.local import local_cells
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.aggregates import Aggregate, ColumnType
from dp.planning.bin_measures import Bins
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.measures import Present, Rows, Units
from dp.planning.plan import Part, Plan
from dp.planning.query import Query
from dp.planning.sum_measures import Total

__all__ = ["COLUMNS", "FACTS", "exact_cells", "exact_words", "of_part", "paper_query", "with_noise_scaled"]

COLUMNS = {
    "v": ColumnType(integral=True, nullable=True),
    "i": ColumnType(integral=True, nullable=False),
    "d": ColumnType(integral=False, nullable=True),
}
FACTS = PublicFacts(unit=("id",), max_units=10**6)


def paper_query(
    aggregates: Sequence[Aggregate],
    *,
    groups: int = 1,
    bounds: ContributionBounds | None = None,
    facts: PublicFacts = FACTS,
    columns: Mapping[str, ColumnType] = COLUMNS,
) -> Query:
    """A query by an integer column `k` with keys 0..groups-1; one row of a unit in one group, unless bounds differ."""
    limits = bounds or ContributionBounds(max_groups=1, max_rows=1)
    keys = tuple((key,) for key in range(groups))
    return Query(("k",), keys, limits, tuple(aggregates), facts, columns)


def exact_words(plan: Plan, *, rows: int, units: int, means: Mapping[str, Fraction]) -> NDArray[np.uint64]:
    """The vector where every group has so many rows (no value missing), units, and these means of its columns."""
    words = np.zeros(plan.length, np.int64)
    for part in plan.parts:
        cells = slice(part.offset, part.offset + part.cells)
        match part.measure:
            case Rows() | Present():
                words[cells] = rows
            case Units():
                words[cells] = units
            case Total(source=source, encoding=encoding):
                total = (means[source] / encoding.unit - encoding.centre) * rows
                assert total.denominator == 1
                words[cells] = int(total)
            case Bins():
                words[cells] = rows
    return words.view(np.uint64)


def with_noise_scaled(plan: Plan, factor: Fraction) -> Plan:
    """The plan with every noise `factor` times as wide: a fault that statistical tests have to notice."""

    def scaled(mechanism: DiscreteLaplace | DiscreteGaussian) -> DiscreteLaplace | DiscreteGaussian:
        if isinstance(mechanism, DiscreteLaplace):
            return DiscreteLaplace(mechanism.scale * factor)
        return DiscreteGaussian(mechanism.variance * factor**2)

    return replace(plan, parts=tuple(replace(part, mechanism=scaled(part.noise)) for part in plan.parts))


def exact_cells(df: DataFrame, plan: Plan) -> NDArray[np.int64]:
    """One owner's bounded sums for a plan, without any noise; shape (plan.length,)."""
    return dense_vector(local_cells(df, plan, partitions=2), plan.length).view(np.int64)


def of_part(cells: NDArray[np.int64], part: Part) -> list[int]:
    """The cells of one measure."""
    return [int(cell) for cell in cells[part.offset : part.offset + part.cells]]
