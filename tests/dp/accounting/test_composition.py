"""Composition within a release: never below the exact optimum, close to it, and lawful."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.budget import ApproxDP
from dp.accounting.calibration import zcdp_epsilon
from dp.accounting.composition import Composition
from dp.accounting.events import DeltaEvent, Event, GaussianEvent, PureEvent, ZcdpEvent, compose
from dp.accounting.losses import MAX_EVENTS, pure_losses
from dp.errors import InvalidArgument
from dp.exact import exp_above, exp_below

DELTA = Fraction(1, 10**6)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "dp_accounting.json").read_text())
pure_events = st.builds(
    lambda e, n: PureEvent(e, count=n), st.fractions(Fraction(1, 50), 2, max_denominator=50), st.integers(1, 4)
)
gaussian_events = st.builds(lambda v: GaussianEvent(4, 4, Fraction(v), 1, 4), st.integers(1, 1000))
delta_events = st.builds(lambda d: DeltaEvent(Fraction(d, 10**9)), st.integers(0, 9))
events = st.one_of(pure_events, pure_events, gaussian_events, delta_events)


def _of(parts: list[Event]) -> Composition:
    return Composition.of(compose(parts))


def _least_delta(epsilons: list[Fraction], epsilon: Fraction) -> Fraction:
    """The optimum of Kairouz, Oh and Viswanath by enumeration, rounded down by less than 1e-30."""
    total = Fraction(0)
    for signs in itertools.product((1, -1), repeat=len(epsilons)):
        loss = sum((sign * e for sign, e in zip(signs, epsilons, strict=True)), Fraction(0))
        if loss > epsilon:
            mass = math.prod((1 / (1 + exp_above(-sign * e)) for sign, e in zip(signs, epsilons, strict=True)), start=1)
            total += mass * (1 - exp_above(epsilon - loss))
    return total


@given(st.lists(st.fractions(Fraction(1, 20), 4, max_denominator=20), min_size=1, max_size=6), st.fractions(0, 10))
@settings(deadline=None, max_examples=60)
def test_never_below_the_optimum_on_any_grid(epsilons: list[Fraction], epsilon: Fraction) -> None:
    exact = _least_delta(epsilons, epsilon)
    counts = {each: epsilons.count(each) for each in epsilons}
    for cells in (7, 100, 1024):
        assert pure_losses(counts, cells).delta(epsilon) >= exact
    fine = pure_losses(counts, 10**5)  # every sum of these is on the grid, or next to it
    assert float(fine.delta(epsilon)) == pytest.approx(float(exact), abs=1e-8)


def test_on_the_grid_the_optimum_is_met_to_float_precision() -> None:
    epsilons = [Fraction(1, 2)] * 5 + [Fraction(1, 3)] * 3
    for epsilon in (Fraction(0), Fraction(1, 7), Fraction(1), Fraction(5, 2), Fraction(17, 5)):
        exact = _least_delta(epsilons, epsilon)
        bound = pure_losses({Fraction(1, 2): 5, Fraction(1, 3): 3}, 1024).delta(epsilon)
        assert exact <= bound <= exact * (1 + Fraction(1, 10**11))


def test_off_the_grid_the_optimum_is_nearly_met() -> None:
    # the same hundred epsilons on a grid that they are on, and on one that they are not on
    counts = {Fraction(1, 20): 50, Fraction(1, 40): 50}
    exact, coarse = (pure_losses(counts, cells).delta(Fraction(1)) for cells in (1000, 149))
    assert exact <= coarse <= exact * Fraction(11, 10)


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row['pure']}-{row['gaussian']}-{row['epsilon']}")
def test_against_another_implementation(row: dict[str, Any]) -> None:
    parts: list[Event] = [PureEvent(Fraction(epsilon), count=count) for epsilon, count in row["pure"].items()]
    # between its two estimates; pure losses are met
    low, high, epsilon = row["low"], row["high"], Fraction(row["epsilon"])
    if row["gaussian"]:
        shift, cells, variance = row["gaussian"]
        parts.append(GaussianEvent(shift**2 * cells, shift * cells, Fraction(variance), 1, cells))
        # rounding takes some half a unit of the variance, and delta is about exp(-epsilon^2 variance / (2 l2^2))
        high *= 1.15 * math.exp(0.6 * epsilon**2 / (2 * shift**2 * cells))
    ours = float(_of(parts).profile(epsilon))
    assert low * (1 - 1e-6) - 1e-12 <= ours <= high * (1 + 1e-6) + 1e-12


@given(st.lists(events, max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_the_order_is_irrelevant(parts: list[Event], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _of(parts).epsilon(DELTA) == _of(shuffled).epsilon(DELTA)


@given(events, st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_one_event_n_times_is_n_events(event: Event, n: int) -> None:
    assert Composition.of(compose(event, n)).epsilon(DELTA) == _of([event] * n).epsilon(DELTA)


@given(st.lists(events, min_size=1, max_size=4), events)
@settings(deadline=None, max_examples=20)
def test_more_events_are_never_cheaper(parts: list[Event], more: Event) -> None:
    assert _of(parts).epsilon(DELTA) <= _of([*parts, more]).epsilon(DELTA)


@given(st.lists(events, min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_what_is_found_is_within(parts: list[Event]) -> None:
    total = _of(parts)
    epsilon = total.epsilon(DELTA)
    assert total.is_within(ApproxDP(epsilon, DELTA))
    assert not total.is_within(ApproxDP(epsilon * Fraction(9, 10), DELTA)) or total.noisy_rho == epsilon == 0
    noisy = zcdp_epsilon(total.noisy_rho, DELTA - total.charged)
    assert epsilon <= total.pure_epsilon + noisy


def test_many_pure_events_cost_less_than_their_sum() -> None:
    half = Composition.of(PureEvent(Fraction(1, 100), count=100)).epsilon(DELTA)
    assert Fraction(1, 3) < half < Fraction(1, 2)


def test_a_selection_is_a_pure_event_and_its_delta() -> None:
    selection: list[Event] = [PureEvent(Fraction(1, 10)), DeltaEvent(DELTA / 4)]
    noise = GaussianEvent(100, 10, Fraction(30_000), 1, 10)
    together = _of([*selection, noise]).epsilon(DELTA)
    apart = Fraction(1, 10) + _of([noise]).epsilon(DELTA * Fraction(3, 4))
    assert _of([noise]).epsilon(DELTA * Fraction(3, 4)) < together < apart * Fraction(98, 100)


def test_events_of_unknown_profile_compose_by_the_simple_theorems() -> None:
    parts: list[Event] = [PureEvent(Fraction(1, 10)), ZcdpEvent(Fraction(1, 50))]
    expected = min(
        Fraction(1, 10) + zcdp_epsilon(Fraction(1, 50), DELTA), zcdp_epsilon(Fraction(1, 50) + Fraction(1, 200), DELTA)
    )
    assert _of(parts).epsilon(DELTA) == expected


def test_extremes_of_size() -> None:
    tiny = Fraction(1, 10**30)
    assert Composition.of(PureEvent(Fraction(1, 2), count=3)).epsilon(tiny) <= Fraction(3, 2)
    assert Composition.of(PureEvent(Fraction(2000), count=3)).epsilon(DELTA) <= 6000
    assert Composition.of(PureEvent(Fraction(1))).epsilon(DELTA) <= 1
    huge = Composition.of(PureEvent(Fraction(1, 1000), count=MAX_EVENTS * 10))
    assert huge.epsilon(DELTA) == zcdp_epsilon(Fraction(MAX_EVENTS * 10, 2 * 10**6), DELTA)
    assert _of([]).epsilon(DELTA) == 0


def test_a_delta_that_is_charged_away_is_refused() -> None:
    charged = [DeltaEvent(DELTA)]
    assert _of([PureEvent(Fraction(1)), *charged]).epsilon(DELTA) == 1
    assert _of([PureEvent(Fraction(1)), *charged]).is_within(ApproxDP(1, DELTA))
    assert not _of([PureEvent(Fraction(1)), *charged]).is_within(ApproxDP(2, DELTA / 2))
    for parts in ([DeltaEvent(DELTA * 2)], [ZcdpEvent(Fraction(1)), *charged]):
        with pytest.raises(InvalidArgument, match="charged"):
            _of(parts).epsilon(DELTA)


def test_bounds_of_exponentials_enclose() -> None:
    # the enumeration above rests on them
    assert exp_below(Fraction(-1)) < exp_above(Fraction(-1)) < exp_below(Fraction(-1)) * (1 + Fraction(1, 10**35))
