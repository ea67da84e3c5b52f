"""Plans: calibration to exact shares, prices on every kind of ledger, the proof of range, and one layout of cells."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dp.accounting.budget import Budget
from dp.errors import InvalidArgument
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.bounds import ContributionBounds
from dp.planning.plan import NoiseParties, Plan, guarantee, make_plan
from dp.planning.query import digest
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.plans import FACTS, paper_query

AGGREGATES = [dp.count(), dp.mean("d", -5, 5).weight(4), dp.histogram("v", [0, 1, 2, 3])]
BOUNDS = ContributionBounds(max_groups=2, max_rows=3)


def a_plan(asked: Budget, *, parties: int = 1, overlap: int = 1, noise: NoiseParties | None = None) -> Plan:
    query = paper_query(AGGREGATES, groups=4, bounds=BOUNDS)
    return make_plan(query, asked, parties=parties, parties_per_unit=overlap, noise=noise or NoiseParties(parties, 1))


@pytest.mark.parametrize(
    ("epsilon", "delta", "rho", "expected"),
    [
        ("1", 0, None, dp.PureDP(1)),
        (0.1, 0, None, dp.PureDP("1/10")),  # a float is the decimal that it prints
        ("1", "1e-6", None, dp.ApproxDP(1, "1e-6")),
        (None, 0, "1/2", dp.ZCDP("1/2")),
    ],
)
def test_guarantees_are_read_exactly(epsilon: object, delta: object, rho: object, expected: Budget) -> None:
    assert guarantee(epsilon, delta, rho) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("epsilon", "delta", "rho", "parameter"),
    [
        *((bad, 0, None, "epsilon") for bad in (0, "0", -1, "nan", float("nan"), float("inf"), True, "a lot", None)),
        *((None, 0, bad, "rho") for bad in (0, -1, float("nan"))),
        *((1, bad, None, "delta") for bad in (-1, 1, 2, float("nan"))),
        (1, 0, 1, "epsilon"),
        (None, "1e-6", 1, "delta"),
    ],
)
def test_impossible_guarantees_are_refused(epsilon: object, delta: object, rho: object, parameter: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        guarantee(epsilon, delta, rho)  # type: ignore[arg-type]


def test_laplace_scales_are_sensitivity_over_share_of_epsilon() -> None:
    plan = a_plan(dp.PureDP("3/2"))
    count, total, present, bins = plan.parts
    assert [part.measure.to_json()["measure"] for part in plan.parts] == ["rows", "total", "present", "bins"]
    shares = [Fraction(1, 10), Fraction(4, 10), Fraction(4, 10), Fraction(1, 10)]
    for part, share in zip((count, total, present, bins), shares, strict=True):
        assert part.mechanism == DiscreteLaplace(part.sensitivity.l1 / (Fraction(3, 2) * share))
    assert count.sensitivity.l1 == 2 * 3
    assert plan.price(dp.PureDP) == dp.PureDP("3/2")


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_the_overlap_multiplies_the_noise(overlap: int) -> None:
    one, several = a_plan(dp.PureDP(1), parties=3), a_plan(dp.PureDP(1), parties=3, overlap=overlap)
    for before, after in zip(one.parts, several.parts, strict=True):
        assert after.mechanism.scale == overlap * before.mechanism.scale  # type: ignore[union-attr]
    one, several = a_plan(dp.ZCDP(1), parties=3), a_plan(dp.ZCDP(1), parties=3, overlap=overlap)
    for before, after in zip(one.parts, several.parts, strict=True):
        assert after.mechanism.variance == overlap**2 * before.mechanism.variance  # type: ignore[union-attr]


def test_cells_are_laid_out_measure_after_measure_without_gaps() -> None:
    plan = a_plan(dp.PureDP(1))
    assert [(part.offset, part.cells) for part in plan.parts] == [(0, 4), (4, 4), (8, 4), (12, 12)]
    assert (plan.length, plan.groups) == (24, 4)


@pytest.mark.parametrize(
    ("asked", "kind", "expected"),
    [
        (dp.PureDP(1), dp.PureDP, dp.PureDP(1)),
        (dp.PureDP(1), dp.ApproxDP, dp.ApproxDP(1, 0)),
        (dp.PureDP(1), dp.ZCDP, None),  # the squares of the shares of epsilon, halved
        (dp.ApproxDP(1, "1e-9"), dp.ApproxDP, dp.ApproxDP(1, "1e-9")),
        (dp.ApproxDP(20, "1e-9"), dp.ZCDP, None),
        (dp.ZCDP("1/8"), dp.ZCDP, dp.ZCDP("1/8")),
    ],
)
def test_prices_on_ledgers_of_other_kinds(asked: Budget, kind: type[Budget], expected: Budget | None) -> None:
    plan = a_plan(asked)
    price = plan.price(kind)
    if expected is None:
        losses = [
            (part.sensitivity.l1 / part.noise.scale) ** 2 / 2
            if isinstance(part.noise, DiscreteLaplace)
            else part.sensitivity.l2_squared / (2 * part.noise.variance)
            for part in plan.parts
        ]
        expected = dp.ZCDP(sum(losses))
    assert price == expected


def test_with_a_delta_the_noise_with_the_smaller_spread_is_taken() -> None:
    """Laplace for one cell and one share, Gaussian once a unit reaches many cells."""
    narrow = make_plan(paper_query([dp.count()]), dp.ApproxDP(1, "1e-9"))
    assert isinstance(narrow.parts[0].mechanism, DiscreteLaplace)
    wide_bounds = ContributionBounds(max_groups=400, max_rows=1)
    wide = make_plan(paper_query([dp.count()], groups=400, bounds=wide_bounds), dp.ApproxDP(1, "1e-9"))
    (part,) = wide.parts
    assert isinstance(part.mechanism, DiscreteGaussian)
    assert part.sensitivity.l2_squared == 400
    spent, spent_less = (_gaussian_delta(20 / (part.mechanism.stddev * wider), epsilon=1) for wider in (1.0, 1.01))
    assert spent <= 1e-9
    assert spent > 1e-10, "the noise could be less"
    assert spent_less < spent
    assert wide.price(dp.ApproxDP) == dp.ApproxDP(1, "1e-9")
    with pytest.raises(InvalidArgument, match="Gaussian noise and deltas have no pure epsilon"):
        wide.price(dp.PureDP)


def _gaussian_delta(separation: float, epsilon: float) -> float:
    """Of normal noise with neighbours so many standard deviations apart (Balle and Wang 2018, Theorem 5)."""
    near, far = (stats.norm.cdf(sign * separation / 2 - epsilon / separation) for sign in (1, -1))
    return float(near - math.exp(epsilon) * far)


@pytest.mark.parametrize("asked", [dp.PureDP(10**4), dp.ApproxDP(10**4, "1e-6"), dp.ZCDP(10**6)], ids=str)
def test_a_huge_budget_gives_noise_that_is_nearly_always_zero(asked: Budget) -> None:
    plan = a_plan(asked)
    noise = plan.draw_noise(0, plan.groups, seeded_random("huge")).view(np.int64)  # of the counts
    assert np.abs(noise).max() <= 3


def test_a_pure_ledger_cannot_price_gaussian_noise() -> None:
    with pytest.raises(InvalidArgument, match=r"rho=.*this ledger counts in PureDP"):
        a_plan(dp.ZCDP(1)).price(dp.PureDP)


def test_sums_that_could_wrap_are_refused_at_the_exact_border() -> None:
    """parties x units x (a unit's greatest sum) + noise stays below 2^63, whatever is in the tables."""
    most = 2**52
    sums = [dp.sum("v", 0, most)]

    def plan_for(units: int, parties: int = 1) -> Plan:
        query = paper_query(sums, facts=replace(FACTS, max_units=units))
        return make_plan(query, dp.PureDP(1), parties=parties, noise=NoiseParties(parties, 1))

    tail = plan_for(1).parts[0].noise.tail_bound(64, 1)
    greatest_units = (2**63 - 1 - tail) // most
    plan_for(greatest_units)
    for units, parties in ((greatest_units + 1, 1), (greatest_units // 2 + 1, 2)):
        with pytest.raises(InvalidArgument, match=r"max_units=.*could reach \d+ and wrap at 2\^63: declare"):
            plan_for(units, parties)


def test_noise_is_drawn_alike_whole_or_in_pieces_of_the_vector() -> None:
    """Every cell of a piece gets the noise of its own measure."""
    plan = a_plan(dp.PureDP(10**3))
    wide = replace(
        plan,
        parts=(*plan.parts[:1], replace(plan.parts[1], mechanism=DiscreteLaplace(Fraction(10**9))), *plan.parts[2:]),
    )
    for start, stop in ((0, 24), (0, 4), (3, 9), (8, 24), (7, 8), (5, 5)):
        noise = wide.draw_noise(start, stop, seeded_random(f"{start} {stop}")).view(np.int64)
        assert noise.shape == (stop - start,)
        large = {start + int(i) for i in np.flatnonzero(np.abs(noise) > 10**4)}
        assert large == set(range(4, 8)) & set(range(start, stop))


def test_every_public_field_is_in_the_digest() -> None:
    plan = a_plan(dp.PureDP(1))
    others = [
        a_plan(dp.PureDP(2)),
        a_plan(dp.ApproxDP(1, "1e-30")),
        a_plan(dp.PureDP(1), parties=2),
        a_plan(dp.PureDP(1), parties=2, overlap=2),
        a_plan(dp.ZCDP(1), parties=2),
        a_plan(dp.ZCDP(1), parties=2, noise=NoiseParties(2, 2)),
    ]
    assert len({digest(each.to_json()) for each in (plan, *others)}) == 1 + len(others)
