"""Splits of a release's budget: the greatest that composition allows, and what error targets need."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.budget import ApproxDP
from dp.accounting.calibration import gaussian_variance, laplace_scale, zcdp_rho
from dp.accounting.composition import Composition
from dp.accounting.events import DeltaEvent, Event, GaussianEvent, PureEvent, compose
from dp.accounting.splits import (
    ErrorTarget,
    gaussian_rho_for_stddev,
    greatest_factor,
    laplace_epsilon_for_stddev,
    laplace_epsilons,
    shares_for_targets,
)
from dp.errors import InvalidArgument
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace

ASKED = ApproxDP(1, "1e-6")
weights = st.lists(st.integers(1, 30), min_size=1, max_size=30)


def _shares(values: list[int]) -> tuple[Fraction, ...]:
    return tuple(Fraction(value, sum(values)) for value in values)


@given(weights, st.fractions(Fraction(1, 10), 5, max_denominator=20), st.sampled_from(["0", "1e-9", "1e-6", "1e-2"]))
@settings(deadline=None, max_examples=25)
def test_laplace_epsilons_are_within_and_never_below_their_shares(
    values: list[int], epsilon: Fraction, delta: str
) -> None:
    asked, shares = ApproxDP(epsilon, delta), _shares(values)
    epsilons = laplace_epsilons(asked, shares)
    assert Composition.of(compose([PureEvent(each) for each in epsilons])).is_within(asked)
    factors = {each / (share * epsilon) for each, share in zip(epsilons, shares, strict=True)}
    assert len(factors) == 1
    assert min(factors) >= 1
    if not asked.delta or len(values) == 1:
        assert factors == {1}


def test_many_measures_get_much_more_than_their_shares_and_not_more() -> None:
    for count, least in ((20, 1.13), (50, 1.71), (500, 5.3)):
        epsilons = laplace_epsilons(ASKED, (Fraction(1, count),) * count)
        assert least < float(epsilons[0] * count) < least * 1.02
        more = compose([PureEvent(each * Fraction(1003, 1000)) for each in epsilons])
        assert not Composition.of(more).is_within(ASKED)


def test_shares_must_be_shares() -> None:
    for shares in ((Fraction(1, 2),), (Fraction(3, 2), Fraction(-1, 2)), (Fraction(1), Fraction(1))):
        with pytest.raises(InvalidArgument, match="shares"):
            laplace_epsilons(ASKED, shares)


def _gaussian(rho: Fraction, l2_squared: int, honest: int = 1) -> GaussianEvent:
    variance = gaussian_variance(l2_squared, rho) / honest
    return GaussianEvent(l2_squared, l2_squared, variance, honest, l2_squared)


@pytest.mark.parametrize("honest", [1, 3])
def test_wide_gaussian_noise_is_calibrated_to_its_exact_profile(honest: int) -> None:
    rho = zcdp_rho(ASKED.epsilon, ASKED.delta)
    factor = greatest_factor(ASKED, lambda factor: [_gaussian(factor * rho, 10**6, honest)])
    # Balle and Wang 2018: sigma 4.2247 for sensitivity 1, epsilon 1, delta 1e-6
    sigma = math.sqrt(1 / (2 * factor * rho))
    assert 4.2246 < sigma < 4.2246 * 1.001
    assert float(factor) ** 0.5 > 1.07


def test_a_selection_is_paid_first_and_the_rest_is_scaled() -> None:
    fixed: list[Event] = [PureEvent(Fraction(1, 10)), DeltaEvent(ASKED.delta / 2)]
    rho = zcdp_rho(Fraction(9, 10), ASKED.delta / 2)

    def events(factor: Fraction) -> list[Event]:
        return [*fixed, _gaussian(factor * rho / 2, 10**4), _gaussian(factor * rho / 2, 100)]

    factor = greatest_factor(ASKED, events)
    assert float(factor) > 1.15
    assert Composition.of(compose(events(factor))).is_within(ASKED)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="epsilon"):
        greatest_factor(ASKED, lambda factor: [PureEvent(2 * factor)])


stddevs = st.fractions(Fraction(1, 5), 10**6)


@given(stddevs, st.integers(1, 10**6), st.integers(1, 10**6))
@settings(deadline=None)
def test_noise_for_a_target_meets_it_and_spends_little(stddev: Fraction, l1: int, l2_squared: int) -> None:
    target = ErrorTarget(stddev, l1, l2_squared)
    epsilon = laplace_epsilon_for_stddev(target)
    assert 1 / math.sqrt(2) / math.sinh(float(epsilon / (2 * l1))) == pytest.approx(float(stddev), rel=1e-9)
    if 1 < stddev < 1000 and l1 < 1000:
        assert DiscreteLaplace(laplace_scale(l1, epsilon)).stddev <= float(stddev) * (1 + 1e-12)
    variance = gaussian_variance(l2_squared, gaussian_rho_for_stddev(target))
    assert variance == stddev**2
    assert DiscreteGaussian(variance).stddev <= float(stddev) * (1 + 1e-12)


def test_shares_for_targets_meet_all_of_them_at_once() -> None:
    targets = [ErrorTarget(Fraction(10), 4, 4), ErrorTarget(Fraction(1000), 400, 40_000)]
    epsilon, shares = shares_for_targets(targets, laplace_epsilon_for_stddev)
    assert sum(shares) == 1
    for target, share in zip(targets, shares, strict=True):
        assert DiscreteLaplace(laplace_scale(target.l1_sensitivity, epsilon * share)).stddev <= float(target.stddev)
        cheaper = laplace_scale(target.l1_sensitivity, epsilon * share * Fraction(99, 100))
        assert DiscreteLaplace(cheaper).stddev > float(target.stddev)
    rho, shares = shares_for_targets(targets, gaussian_rho_for_stddev)
    assert [rho * share for share in shares] == [Fraction(4, 200), Fraction(40_000, 2 * 10**6)]


def test_targets_out_of_range_are_refused() -> None:
    for arguments in ((Fraction(0), 1, 1), (Fraction(1), 0, 1), (Fraction(1), 1, 0)):
        with pytest.raises(InvalidArgument):
            ErrorTarget(*arguments)
    with pytest.raises(InvalidArgument, match="targets"):
        shares_for_targets([], gaussian_rho_for_stddev)
