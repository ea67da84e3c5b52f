"""Whatever t of the n parties subtract, the noise of the others alone is the calibrated one (ATTACKS 30).

False-alarm rate of each chi-square test: 1e-6, over fewer than 120 of them. The planted fault, parts that need all n
parties to be honest, is rejected by the same test for every coalition.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.accounting.calibration import gaussian_variance, zcdp_rho
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.plan import NoiseParties, Plan, make_plan
from spark_mpc import Federation, dp
from tests.tools.entropy import seeded_random
from tests.tools.laws import Law, chi_square_p_value, gaussian_law, laplace_law
from tests.tools.plans import paper_query

FALSE_ALARM = 1e-6
CELLS = 20_000
EPSILON, DELTA = Fraction(1), Fraction(1, 10**6)
SIZES = [(n, t) for n in range(2, 6) for t in range(1, n)]


def a_plan(n: int, honest: int, *, gaussian: bool) -> Plan:
    """One count over so many groups; each party's part is calibrated so that `honest` of them suffice."""
    query = paper_query([dp.count()], groups=CELLS)
    asked = dp.ZCDP(zcdp_rho(EPSILON, DELTA)) if gaussian else dp.PureDP(EPSILON)
    return make_plan(query, asked, parties=n, noise=NoiseParties(copies=n, honest=honest))


def parts_of(plan: Plan, seed: str) -> NDArray[np.int64]:
    """Every party's own noise, shape (parties, cells)."""
    sources = [seeded_random(f"{seed} {party}") for party in range(plan.noise.copies)]
    return np.stack([plan.draw_noise(0, plan.length, source).view(np.int64) for source in sources])


def remainders(parts: NDArray[np.int64], t: int) -> list[NDArray[np.int64]]:
    """What is left of the opened noise when a coalition has subtracted its own parts, for every coalition of t."""
    opened = parts.sum(axis=0)
    return [opened - parts[list(coalition)].sum(axis=0) for coalition in combinations(range(len(parts)), t)]


def calibrated(*, gaussian: bool) -> Law:
    """The noise that one trusted curator would draw for the same guarantee: a count has sensitivity 1."""
    if gaussian:
        return gaussian_law(float(1 / (2 * zcdp_rho(EPSILON, DELTA))))
    return laplace_law(float(1 / EPSILON))


@pytest.mark.parametrize(("n", "t"), SIZES)
def test_the_honest_parts_alone_are_calibrated(n: int, t: int) -> None:
    plan = a_plan(n, n - t, gaussian=True)
    (part,) = plan.parts
    assert isinstance(part.mechanism, DiscreteGaussian)
    # exactly, in rationals: the honest parts together have at least the variance of one curator
    assert (n - t) * part.mechanism.variance >= gaussian_variance(1, zcdp_rho(EPSILON, DELTA))
    for left in remainders(parts_of(plan, f"coalitions {n} {t}"), t):
        assert chi_square_p_value(left, calibrated(gaussian=True)) > FALSE_ALARM


@pytest.mark.parametrize("n", range(2, 6))
def test_with_one_honest_party_its_laplace_noise_alone_suffices(n: int) -> None:
    plan = a_plan(n, 1, gaussian=False)
    assert isinstance(plan.parts[0].mechanism, DiscreteLaplace)
    for left in remainders(parts_of(plan, f"laplace coalitions {n}"), n - 1):
        assert chi_square_p_value(left, calibrated(gaussian=False)) > FALSE_ALARM


@pytest.mark.parametrize(("n", "t"), SIZES)
def test_parts_that_count_on_everybody_are_rejected(n: int, t: int) -> None:
    """The planted fault: each party adds 1/n of the noise, as if nobody knew its own part."""
    fault = a_plan(n, n, gaussian=True)
    for left in remainders(parts_of(fault, f"fault {n} {t}"), t):
        assert chi_square_p_value(left, calibrated(gaussian=True)) < FALSE_ALARM


@pytest.mark.parametrize("t", [0, 3, 4, -1, True])
def test_no_colluders_and_nobody_honest_are_refused(t: int) -> None:
    """Every recipient knows its own part: t = 0 does not exist, and with t = n nothing is left."""
    with pytest.raises(dp.InvalidArgument, match=r"colluders=.*from 1 to 2"):
        Federation.local(["a", "b", "c"], colluders=t)


@pytest.mark.parametrize("honest", [0, -1, 4])
def test_a_plan_needs_at_least_one_honest_part(honest: int) -> None:
    with pytest.raises(dp.InvalidArgument, match="honest="):
        NoiseParties(copies=3, honest=honest)


def test_pure_epsilon_with_two_honest_parties_is_refused() -> None:
    with pytest.raises(dp.InvalidArgument, match="give a delta, or let every party add full noise"):
        a_plan(3, 2, gaussian=False)
