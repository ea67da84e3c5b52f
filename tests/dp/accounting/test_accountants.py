"""Events and accountants: the laws of composition, each kind's price, and what has no price."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.accounting.accountants import price
from dp.accounting.budget import ZCDP, ApproxDP, PureDP
from dp.accounting.calibration import zcdp_epsilon
from dp.accounting.events import Composed, DeltaEvent, Event, PureEvent, ZcdpEvent, compose
from dp.errors import InvalidArgument

DELTA = Fraction(1, 10**6)
amounts = st.fractions(0, 3, max_denominator=50)
counts = st.integers(1, 5)
pure_events = st.builds(lambda e, n: PureEvent(e, count=n), amounts, counts)
zcdp_events = st.builds(lambda r, n: ZcdpEvent(r, count=n), amounts, counts)
delta_events = st.builds(lambda d, n: DeltaEvent(d / 10**6, count=n), amounts, counts)
leaf_events = st.one_of(pure_events, zcdp_events, delta_events)
events = st.recursive(
    leaf_events, lambda e: st.builds(lambda es, n: Composed(tuple(es), count=n), st.lists(e, max_size=3), counts)
)


@given(events, counts)
def test_one_event_n_times_is_n_events(event: Event, n: int) -> None:
    assert compose(event, n) == compose([event] * n)
    repeated = price(compose(event, n), ApproxDP, delta=DELTA)
    assert repeated == price(Composed((event,) * n), ApproxDP, delta=DELTA)
    assert repeated == price(Composed((event,), count=n), ApproxDP, delta=DELTA)


@given(pure_events, counts)
def test_a_count_multiplies_every_price(event: PureEvent, n: int) -> None:
    total = PureDP(0)
    for _ in range(n * event.count):
        total = total + price(PureEvent(event.epsilon), PureDP)
    assert price(compose(event, n), PureDP) == total


@given(st.lists(events, max_size=4), st.randoms(use_true_random=False))
def test_the_order_and_the_grouping_are_irrelevant(parts: list[Event], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compose(parts) == compose(shuffled)
    assert compose([compose(parts[:2]), *parts[2:]]) == compose(parts)
    assert compose(compose(parts)) == compose(parts)


@given(events, events)
def test_more_events_never_cost_less(first: Event, second: Event) -> None:
    assert price(first, ApproxDP, delta=DELTA) <= price(compose([first, second]), ApproxDP, delta=DELTA)


def test_pure_epsilons_add_exactly() -> None:
    event = compose([PureEvent(Fraction(1, 10), count=9), PureEvent(Fraction(1, 10))])
    assert price(event, PureDP) == PureDP(1)
    assert price(event, ApproxDP) == ApproxDP(1, 0)
    assert price(event, ZCDP) == ZCDP(Fraction(10, 200))


def test_gaussians_are_converted_together() -> None:
    event = compose([ZcdpEvent(Fraction(1, 100), count=3), PureEvent(Fraction(1, 2)), DeltaEvent(Fraction(1, 10**9))])
    expected = ApproxDP(Fraction(1, 2) + zcdp_epsilon(Fraction(3, 100), DELTA), DELTA + Fraction(1, 10**9))
    assert price(event, ApproxDP, delta=DELTA) == expected


def test_rhos_add_exactly_and_a_pure_epsilon_counts_half_its_square() -> None:
    event = compose([ZcdpEvent(Fraction(1, 3), count=2), PureEvent(Fraction(1, 2), count=4)])
    assert price(event, ZCDP) == ZCDP(Fraction(2, 3) + 4 * Fraction(1, 8))


def test_nothing_costs_nothing() -> None:
    nothing = compose([])
    assert price(nothing, PureDP) == PureDP(0)
    assert price(nothing, ApproxDP, delta=DELTA) == ApproxDP(0, 0)


@dataclass(frozen=True)
class UnknownEvent(Event):
    """An event that no accountant knows."""


@pytest.mark.parametrize("kind", [PureDP, ApproxDP, ZCDP])
def test_an_unknown_event_has_no_price(kind: type[PureDP]) -> None:
    for event in (UnknownEvent(), compose([PureEvent(Fraction(0)), UnknownEvent()])):
        with pytest.raises(InvalidArgument, match="UnknownEvent"):
            price(event, kind)


def test_a_kind_refuses_what_it_cannot_express() -> None:
    gaussian, distance = ZcdpEvent(Fraction(1)), DeltaEvent(DELTA)
    for event in (gaussian, distance):
        with pytest.raises(InvalidArgument, match="PureDP"):
            price(event, PureDP)
    with pytest.raises(InvalidArgument, match="ZCDP"):
        price(distance, ZCDP)
    with pytest.raises(InvalidArgument, match="delta"):
        price(gaussian, ApproxDP)
    with pytest.raises(InvalidArgument, match="delta"):
        price(gaussian, ZCDP, delta=DELTA)
    with pytest.raises(InvalidArgument, match="kind"):
        price(gaussian, float)  # type: ignore[type-var]


def test_events_that_cannot_have_happened_are_refused() -> None:
    for count in (0, -1):
        with pytest.raises(InvalidArgument, match="count"):
            PureEvent(Fraction(1), count=count)
        with pytest.raises(InvalidArgument, match="count"):
            compose(PureEvent(Fraction(1)), count)
    for make in (PureEvent, ZcdpEvent, DeltaEvent):
        with pytest.raises(InvalidArgument, match="never negative"):
            make(Fraction(-1))
