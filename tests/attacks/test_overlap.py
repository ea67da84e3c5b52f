"""ATTACKS 31: a unit with rows at several parties counts at each; the declared overlap pays for that, or does not."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from dp.planning.bounds import ContributionBounds
from dp.planning.plan import NoiseParties, Plan, make_plan
from spark_mpc import DISJOINT, Overlap, Study, dp
from tests.tools.plans import exact_cells, of_part, paper_query

pytestmark = pytest.mark.slow

PARTIES = 3
AGGREGATES = [dp.count(), dp.count_units(), dp.sum("v", -2, 7), dp.mean("d", -1, 9), dp.histogram("v", [0, 1, 7])]
BOUNDS = ContributionBounds(max_groups=2, max_rows=2)


def a_plan(overlap: int) -> Plan:
    query = paper_query(AGGREGATES, groups=4, bounds=BOUNDS)
    return make_plan(query, dp.PureDP(1), parties=PARTIES, parties_per_unit=overlap, noise=NoiseParties(PARTIES, 1))


@pytest.fixture(scope="module")
def moved(spark: SparkSession) -> NDArray[np.int64]:
    """By how much one greedy unit moves one party's exact cells: extreme values, far more rows than bounds allow."""
    others = [(unit, unit % 4, 1, 0.5) for unit in range(10, 20)]
    greedy = [(1, key, 10**6, 1e9) for key in range(4) for _ in range(5)]
    plan, schema = a_plan(1), "id long, k int, v int, d double"
    with_it = exact_cells(spark.createDataFrame(others + greedy, schema), plan)
    return with_it - exact_cells(spark.createDataFrame(others, schema), plan)


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_a_unit_at_as_many_parties_as_declared_moves_the_opened_sum_by_the_declared_sensitivity(
    overlap: int, moved: NDArray[np.int64]
) -> None:
    for part in a_plan(overlap).parts:
        change = overlap * np.array(of_part(moved, part))  # the parties' cells are added up
        assert np.abs(change).sum() == part.sensitivity.l1, part.measure
        assert (change**2).sum() == part.sensitivity.l2_squared, part.measure


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_unit_at_more_parties_than_declared_moves_it_further(overlap: int, moved: NDArray[np.int64]) -> None:
    """A wrong declaration voids the guarantee for such units, and the documentation says so."""
    for part in a_plan(overlap).parts:
        assert np.abs((overlap + 1) * np.array(of_part(moved, part))).sum() > part.sensitivity.l1
    documented = " ".join((inspect.getdoc(Study.contribute) or "").split())
    assert "a wrong declaration voids the guarantee for units that are at more parties" in documented


def test_overlaps_are_values() -> None:
    assert Overlap(at_most=1) == DISJOINT
    for bad in (0, -1, 1.0, True, "2", None):
        with pytest.raises(dp.InvalidArgument, match="at_most="):
            Overlap(at_most=bad)  # type: ignore[arg-type]
