"""Renyi budgets: capacities and what fits them, each event's divergence against sums over its own law, and JSON."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from dp.accounting.accountants import price
from dp.accounting.budget import PureDP, RenyiDP, budget_from_json, budget_to_json, fits, left_after, same_kind, summed
from dp.accounting.calibration import laplace_scale
from dp.accounting.composition import Composition
from dp.accounting.events import (
    Composed,
    DeltaEvent,
    Event,
    GaussianEvent,
    LaplaceEvent,
    PureEvent,
    ZcdpEvent,
    compose,
    leaves,
)
from dp.accounting.gaussian import gaussian_delta
from dp.accounting.renyi import ORDERS
from dp.accounting.renyi_losses import renyi_loss
from dp.errors import InvalidArgument
from dp.exact import exp_above

VECTORS = json.loads((Path(__file__).parent / "vectors" / "dp_accounting_renyi.json").read_text())
DELTA = Fraction(1, 10**6)
amounts = st.fractions(0, 3, max_denominator=50)
counts = st.integers(1, 5)
scales = st.fractions(Fraction(1, 4), 100, max_denominator=20)
pure_events = st.builds(lambda e, n: PureEvent(e, count=n), amounts, counts)
laplace_events = st.builds(lambda b, d, n: LaplaceEvent(d / b, b, count=n), scales, st.integers(1, 4), counts)
zcdp_events = st.builds(lambda r, n: ZcdpEvent(r, count=n), amounts, counts)
gaussian_events = st.builds(
    lambda d, n, v, h: GaussianEvent(d * d, d, v, h, n),
    st.integers(1, 4),
    counts,
    st.fractions(1, 100, max_denominator=4),
    st.integers(1, 3),
)
leaf_events = st.one_of(pure_events, laplace_events, zcdp_events, gaussian_events)
events = st.recursive(
    leaf_events, lambda e: st.builds(lambda es, n: Composed(tuple(es), count=n), st.lists(e, max_size=3), counts)
)
orders = st.fractions(Fraction(101, 100), 100, max_denominator=100)
budgets = st.builds(RenyiDP, st.dictionaries(orders, amounts, min_size=1, max_size=5))
usual = st.lists(amounts, min_size=len(ORDERS), max_size=len(ORDERS)).map(
    lambda each: RenyiDP(dict(zip(ORDERS, each, strict=True)))
)


# --- capacities, and what fits them


def test_a_capacity_is_that_of_its_source_rounded_down() -> None:
    made = RenyiDP.capacity(10, "1e-6")
    for order, room in zip(made.orders, made.epsilons, strict=True):
        published = 10 - math.log(1e6) / float(order - 1)
        assert float(room) == pytest.approx(max(published, 0), abs=1e-9)
    assert RenyiDP.capacity(1, "1e-6", [2, 16]).epsilons[0] == 0


def _used_delta(capacity: RenyiDP, epsilon: Fraction) -> float:
    """What all orders together may use of delta: sum of (1 - 1/a)^(a - 1) / a * e^((a - 1) (room - epsilon))."""
    total = 0.0
    for order, room in zip(capacity.orders, capacity.epsilons, strict=True):
        if room:
            log_part = float(order - 1) * (math.log1p(-1 / float(order)) + float(room - epsilon)) - math.log(order)
            total += math.exp(log_part)
    return total


@given(st.fractions(Fraction(1, 2), 60, max_denominator=10), st.integers(2, 12))
@settings(deadline=None)
def test_whichever_order_fits_in_the_end_delta_suffices(epsilon: Fraction, digits: int) -> None:
    delta = Fraction(1, 10**digits)
    assert _used_delta(RenyiDP.capacity(epsilon, delta), epsilon) <= float(delta) * (1 + 1e-9)
    assert _used_delta(RenyiDP.capacity(epsilon, delta, [64, 65, 66, 67]), epsilon) <= float(delta) * (1 + 1e-9)


def test_where_many_orders_are_open_the_published_formula_would_use_more() -> None:
    published = RenyiDP.of(lambda order: Fraction(30 - math.log(1e6) / float(order - 1)))
    assert _used_delta(published, Fraction(30)) > 1.5e-6
    ours = RenyiDP.capacity(30, "1e-6")
    assert all(room < theirs for room, theirs in zip(ours.epsilons, published.epsilons, strict=True))


def test_one_order_with_room_is_enough_and_every_order_is_debited() -> None:
    whole = RenyiDP({2: 1, 4: 1})
    first, second = RenyiDP({2: "0.1", 4: 2}), RenyiDP({2: "0.9", 4: "0.1"})
    assert fits(first, whole)
    assert not first <= whole
    left = left_after(whole, first)
    assert left == whole.minus(first) == RenyiDP.of_amounts({"epsilon(2)": Fraction(9, 10), "epsilon(4)": Fraction(-1)})
    assert fits(second, left)
    assert not fits(RenyiDP({2: "0.91", 4: 0}), left)
    nothing_left = left_after(whole, first, second)
    assert nothing_left.amounts == {"epsilon(2)": 0, "epsilon(4)": Fraction(-11, 10)}
    assert not fits(RenyiDP({2: "1/1000000", 4: "1/1000000"}), nothing_left)


@given(usual, st.lists(usual, max_size=6))
@settings(deadline=None, max_examples=30)
def test_what_was_granted_always_fits_the_capacity_and_amounts_balance(whole: RenyiDP, asked: list[RenyiDP]) -> None:
    granted: list[RenyiDP] = []
    for each in asked:
        if fits(each, left_after(whole, *granted)):
            granted.append(each)
    total = summed(((each, 1) for each in granted), whole)
    assert isinstance(total, RenyiDP)
    assert total.fits_in(whole)
    assert left_after(whole, *granted) + total == whole  # type: ignore[operator]
    for fewer in itertools.combinations(granted, max(len(granted) - 1, 0)):  # giving back keeps it so
        assert fits(summed(((each, 1) for each in fewer), whole), whole)


@given(usual, usual)
@settings(deadline=None, max_examples=30)
def test_less_at_every_order_fits_wherever_more_fits(one: RenyiDP, other: RenyiDP) -> None:
    more = one + other
    assert one <= more
    assert more.minus(other) == one
    assert not more.fits_in(other) or one.fits_in(other)


def test_budgets_of_different_orders_do_not_meet() -> None:
    one, other = RenyiDP({2: 1}), RenyiDP({3: 1})
    for meet in (one.fits_in, one.minus, one.__add__, one.__le__):
        with pytest.raises(InvalidArgument, match="different orders"):
            meet(other)
    assert not same_kind(one, other)
    with pytest.raises(TypeError):
        one + PureDP(1)  # type: ignore[operator]


@pytest.mark.parametrize("curve", [{}, {1: 1}, {"0.5": 1}, {2: -1}, {2: 1, "2": 1}, {"two": 1}, {2: "nan"}])
def test_curves_that_are_none_are_refused(curve: Mapping[Any, Any]) -> None:
    with pytest.raises(InvalidArgument):
        RenyiDP(curve)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, "1e-6"), (-1, "1e-6"), (1, 0), (1, 1), (1, "1e-6")])
def test_capacities_that_are_none_are_refused(epsilon: int, delta: str) -> None:
    with pytest.raises(InvalidArgument, match="epsilon="):
        RenyiDP.capacity(epsilon, delta, [2, 3])
    with pytest.raises(InvalidArgument, match="every order once"):
        RenyiDP.capacity(9, "0.1", [2, 2])


@given(budgets)
def test_json_round_trip_is_exact(budget: RenyiDP) -> None:
    assert budget_from_json(budget_to_json(budget)) == budget


@pytest.mark.parametrize("amount", [{"epsilon": "1"}, {"epsilon(1)": "1"}, {"epsilon(2)": "-1"}, {"rho(2)": "1"}, {}])
def test_json_of_another_shape_is_refused(amount: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        budget_from_json({"kind": "renyi", **amount})


def test_text_shows_every_order() -> None:
    assert str(RenyiDP({"3/2": "0.1", 10**6: 2})) == "renyi epsilon by order {1.5: 0.1, 1e+06: 2}"


# --- prices


@given(events, counts)
@settings(deadline=None, max_examples=50)
def test_one_event_n_times_is_n_events(event: Event, n: int) -> None:
    repeated = price(compose(event, n), RenyiDP)
    assert repeated == price(compose([event] * n), RenyiDP)
    assert repeated == price(Composed((event,), count=n), RenyiDP)


@given(st.lists(events, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_the_order_is_irrelevant_and_prices_add_up(parts: list[Event], random: Any) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)
    whole = price(compose(parts), RenyiDP)
    assert whole == price(compose(shuffled), RenyiDP)
    assert whole == summed(((price(part, RenyiDP), 1) for part in parts), whole)


@given(leaf_events, orders, orders)
@settings(deadline=None)
def test_divergences_grow_with_the_order_up_to_pure_epsilon(event: Event, one: Fraction, other: Fraction) -> None:
    ((leaf, _),) = leaves(event)
    least, greatest = (renyi_loss(leaf, order) for order in sorted((one, other)))
    assert least <= greatest * (1 + Fraction(1, 10**13))
    if isinstance(leaf, PureEvent):
        assert greatest <= leaf.epsilon
        assert least <= min(one, other) * leaf.epsilon**2 / 2 * (1 + Fraction(1, 10**13))


MADE: dict[str, Callable[[int, Fraction], Event]] = {
    "pure": lambda d, scale: PureEvent(d / scale),
    "Laplace": lambda d, scale: LaplaceEvent(d / scale, scale),
    "concentrated": lambda d, scale: ZcdpEvent(d * d / (2 * scale)),
    "Gaussian": lambda d, scale: GaussianEvent(d * d, d, scale, 2, 3),
}


@pytest.mark.parametrize("kind", MADE)
@given(sensitivity=st.integers(1, 50), more=st.integers(0, 50), scale=scales, order=orders)
@settings(deadline=None, max_examples=40)
def test_prices_grow_with_sensitivity(kind: str, sensitivity: int, more: int, scale: Fraction, order: Fraction) -> None:
    less, greater = (MADE[kind](d, scale) for d in (sensitivity, sensitivity + more))
    assert renyi_loss(less, order) <= renyi_loss(greater, order)


Reals = NDArray[np.float64]


def _divergence(log_here: Reals, log_there: Reals, order: float) -> float:
    return float(special.logsumexp(order * log_here + (1 - order) * log_there) / (order - 1))


def _log_laplace(scale: float, shift: int) -> Reals:
    x = np.arange(-400.0, 401.0)
    return np.asarray(-np.abs(x - shift) / scale + math.log(math.tanh(1 / (2 * scale))))


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1), Fraction(5, 2), Fraction(8)])
@pytest.mark.parametrize("order", [Fraction(11, 10), Fraction(3, 2), Fraction(2), Fraction(8), Fraction(32)])
def test_laplace_divergences_are_those_of_the_discrete_law(scale: Fraction, order: Fraction) -> None:
    for shift in (1, 2, 5):
        exact = _divergence(_log_laplace(float(scale), shift), _log_laplace(float(scale), 0), float(order))
        priced = renyi_loss(LaplaceEvent(shift / scale, scale), order)
        assert float(priced) == pytest.approx(exact, rel=1e-9)
        pure = renyi_loss(PureEvent(shift / scale), order)
        assert priced <= pure if shift == 1 else priced < pure  # a step of one is randomised response
        for first in range(1, shift):  # a vector of the same l1 norm is no worse
            laws = (_log_laplace(float(scale), d) for d in (first, shift - first))
            cells = sum(_divergence(law, _log_laplace(float(scale), 0), float(order)) for law in laws)
            assert cells <= exact * (1 + 1e-9)


def test_the_continuous_laplace_formula_would_be_too_little_for_narrow_noise() -> None:
    exact = _divergence(_log_laplace(0.5, 1), _log_laplace(0.5, 0), 2.0)
    continuous = math.log(2 / 3 * math.exp(2) + 1 / 3 * math.exp(-4))
    assert continuous < exact * 0.95
    assert float(renyi_loss(LaplaceEvent(Fraction(2), Fraction(1, 2)), Fraction(2))) >= exact * (1 - 1e-12)


def test_randomised_response_is_the_price_of_a_pure_event() -> None:
    for epsilon, order in itertools.product((0.01, 0.5, 3.0), (1.1, 2.0, 16.0)):
        likely = 1 / (1 + math.exp(-epsilon))
        exact = _divergence(np.log([likely, 1 - likely]), np.log([1 - likely, likely]), order)
        assert float(renyi_loss(PureEvent(Fraction(epsilon)), Fraction(order))) == pytest.approx(exact, rel=1e-9)


def test_extremes_of_epsilon_and_scale_keep_to_the_simple_bounds() -> None:
    tiny, vast = Fraction(1, 10**30), Fraction(10**9)
    assert 0 < renyi_loss(PureEvent(tiny), Fraction(2)) <= tiny**2 * (1 + Fraction(1, 10**12))
    assert renyi_loss(PureEvent(vast), Fraction(10**6)) <= vast
    assert renyi_loss(LaplaceEvent(tiny, 1 / tiny), Fraction(2)) <= tiny**2 * (1 + Fraction(1, 10**12))
    assert renyi_loss(LaplaceEvent(vast, 1 / vast), ORDERS[-1]) <= vast
    assert renyi_loss(PureEvent(Fraction(0)), Fraction(2)) == 0


@pytest.mark.parametrize("variance", [Fraction(1, 2), Fraction(1), Fraction(9)])
def test_the_divergences_of_one_discrete_gaussian_are_met_or_below_their_price(variance: Fraction) -> None:
    for order, shift in itertools.product((1.5, 2.0, 5.0), (1, 2)):
        logs = (-((np.arange(-100.0, 101.0) - d) ** 2) / (2 * float(variance)) for d in (shift, 0))
        here, there = (log - special.logsumexp(log) for log in logs)
        exact = _divergence(here, there, order)
        priced = float(renyi_loss(GaussianEvent(shift**2, shift, variance, 1, 1), Fraction(order)))
        assert exact <= priced * (1 + 1e-9)
        if order * shift % 1 == 0:  # Canonne, Kamath and Steinke 2020, Theorem 4: met where the tilted centre is whole
            assert exact == pytest.approx(priced, rel=1e-9)


@pytest.mark.parametrize(("variance", "parties"), [(Fraction(9), 3), (Fraction(1, 4), 2), (Fraction(1, 2), 4)])
def test_the_divergences_of_a_sum_of_them_lie_below_their_price(variance: Fraction, parties: int) -> None:
    weights = np.exp(-(np.arange(-40.0, 41.0) ** 2) / (2 * float(variance)))
    noise = weights
    for _ in range(parties - 1):
        noise = np.convolve(noise, weights)
    noise = noise[noise > 1e-280] / noise.sum()
    for order, shift in itertools.product((1.5, 2.0, 4.0), (1, 2)):
        exact = _divergence(np.log(noise[:-shift]), np.log(noise[shift:]), order)
        priced = float(renyi_loss(GaussianEvent(shift**2, shift, variance, parties, 1), Fraction(order)))
        assert exact <= priced * (1 + 1e-9)  # for wide noise they are equal but for rounding


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row['event']}-{row['parameter']}-{row['order']}")
def test_against_another_implementation(row: dict[str, Any]) -> None:
    parameter, order = Fraction(row["parameter"]), Fraction(row["order"])
    if row["event"] == "gaussian":
        ours = renyi_loss(ZcdpEvent(1 / (2 * parameter**2)), order)
    else:  # the continuous law is that of noise on a fine grid
        ours = renyi_loss(LaplaceEvent(1 / parameter, parameter * 10**8), order)
    assert float(ours) == pytest.approx(row["divergence"], rel=1e-7)


# --- conversion


def _least_delta(epsilons: list[Fraction], epsilon: Fraction) -> Fraction:
    """The optimum of Kairouz, Oh and Viswanath by enumeration, rounded down by less than 1e-30."""
    total = Fraction(0)
    for signs in itertools.product((1, -1), repeat=len(epsilons)):
        loss = sum((sign * e for sign, e in zip(signs, epsilons, strict=True)), Fraction(0))
        if loss > epsilon:
            mass = math.prod((1 / (1 + exp_above(-sign * e)) for sign, e in zip(signs, epsilons, strict=True)), start=1)
            total += mass * (1 - exp_above(epsilon - loss))
    return total


@given(st.lists(st.fractions(Fraction(1, 20), 4, max_denominator=20), min_size=1, max_size=6), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_converted_pure_events_are_never_below_the_optimum(epsilons: list[Fraction], digits: int) -> None:
    delta = Fraction(1, 10**digits)
    converted = price(compose([PureEvent(each) for each in epsilons]), RenyiDP).epsilon_at(delta)
    assert _least_delta(epsilons, converted) <= delta


@given(st.fractions(Fraction(1, 10**4), 2), st.integers(1, 12))
@settings(deadline=None)
def test_a_converted_gaussian_is_never_below_the_optimum(rho: Fraction, digits: int) -> None:
    delta = Fraction(1, 10**digits)
    converted = price(ZcdpEvent(rho), RenyiDP).epsilon_at(delta)
    assert gaussian_delta(2 * rho, converted) <= delta


@given(st.integers(1, 5), scales, st.integers(1, 8))
@settings(deadline=None)
def test_converted_laplace_noise_is_never_below_the_optimum(shift: int, scale: Fraction, digits: int) -> None:
    delta, wide = Fraction(1, 10**digits), 1 + np.arange(-4000, 4001)
    converted = float(price(LaplaceEvent(shift / scale, scale), RenyiDP).epsilon_at(delta))
    here, there = (np.exp(-np.abs(wide - d) / float(scale)) * math.tanh(1 / (2 * float(scale))) for d in (shift, 0))
    assert np.maximum(here - math.exp(converted) * there, 0).sum() <= float(delta) * (1 + 1e-6) + 1e-12


@given(st.lists(gaussian_events, min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_it_is_never_better_than_composition_within_a_release(parts: list[Event]) -> None:
    whole = compose(parts)
    assert price(whole, RenyiDP).epsilon_at(DELTA) >= Composition.of(whole).epsilon(DELTA) * Fraction(9999, 10**4)


def test_a_price_that_exhausts_a_capacity_costs_no_more_than_was_promised() -> None:
    whole = RenyiDP.capacity(3, "1e-6")
    for order, room in zip(whole.orders, whole.epsilons, strict=True):
        if room:
            assert RenyiDP({order: room}).epsilon_at("1e-6") <= 3


def test_releases_of_many_kinds_go_further_than_in_other_forms() -> None:
    """A thousand counts of a hundredth on a ledger of (1, 1e-6): by addition of epsilons a hundred would fit."""
    one = price(LaplaceEvent(Fraction(1, 100), laplace_scale(1, Fraction(1, 100))), RenyiDP)
    assert summed([(one, 300)], one).fits_in(RenyiDP.capacity(1, "1e-6"))  # type: ignore[arg-type]
    with_gaussian = RenyiDP.capacity(1, "1e-6", [16, 32])
    assert price(compose(ZcdpEvent(Fraction(1, 10**4)), 100), RenyiDP, orders=with_gaussian.orders).fits_in(
        with_gaussian
    )


# --- refusals


@dataclass(frozen=True)
class UnknownEvent(Event):
    """An event that no accountant knows."""


def test_what_has_no_divergence_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="a delta has no Renyi divergence"):
        price(compose([PureEvent(Fraction(1)), DeltaEvent(DELTA)]), RenyiDP)
    assert price(DeltaEvent(Fraction(0)), RenyiDP) == price(compose([]), RenyiDP)
    with pytest.raises(InvalidArgument, match="UnknownEvent"):
        price(compose([PureEvent(Fraction(0)), UnknownEvent()]), RenyiDP)
    with pytest.raises(InvalidArgument, match="only ApproxDP has a delta"):
        price(PureEvent(Fraction(1)), RenyiDP, delta=DELTA)
    with pytest.raises(InvalidArgument, match="delta"):
        RenyiDP({2: 1}).epsilon_at(1)
    with pytest.raises(InvalidArgument, match="scale"):
        LaplaceEvent(Fraction(1), Fraction(0))
