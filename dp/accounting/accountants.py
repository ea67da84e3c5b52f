"""What events cost, as a budget of the kind that a ledger keeps: exact rationals, losses rounded up.

A further event is a further class in `dp.accounting.events` and registrations in `dp.accounting.composition` and
`dp.accounting.renyi_losses`; what is not registered raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar, cast

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.composition import Composition
from dp.accounting.events import Event, leaves
from dp.accounting.renyi import ORDERS
from dp.accounting.renyi_losses import renyi_loss
from dp.errors import InvalidArgument

__all__ = ["price"]

_Kind = TypeVar("_Kind", bound=Budget)


def price(
    event: Event, kind: type[_Kind], *, delta: Fraction = Fraction(0), orders: Sequence[Fraction] = ORDERS
) -> _Kind:
    """The price of an event, or of everything in a composition, in one kind of budget.

    Args:
        event: what will happen; parts of a composition may depend on each other's releases.
        kind: PureDP, ApproxDP, ZCDP or RenyiDP.
        delta: for ApproxDP, what the composition spends beside the charged deltas; without it pure epsilons add up.
        orders: for RenyiDP, those of the ledger that pays.

    Returns:
        An upper bound of the privacy loss. PureDP, ZCDP and RenyiDP add up exactly. ApproxDP adds up the charged
        deltas, and composes everything else by the best of several theorems.

    Raises:
        InvalidArgument: an unknown event, an event that this kind cannot express, or a delta that does not fit.

    Source:
        See `composition.Composition` and `renyi_losses.renyi_loss`; Bun and Steinke 2016, Lemma 1.7 and Proposition
        1.4; Mironov 2017, Proposition 1.
    """
    if kind not in _PRICES:
        raise InvalidArgument("kind", kind, "give PureDP, ApproxDP, ZCDP or RenyiDP")
    if delta and kind is not ApproxDP:
        raise InvalidArgument("delta", delta, "only ApproxDP has a delta; leave it out")
    return cast(_Kind, _PRICES[kind](event, delta, orders))


def _pure(event: Event, _delta: Fraction, _orders: Sequence[Fraction]) -> Budget:
    total = Composition.of(event)
    if total.noisy_rho or total.charged:
        raise InvalidArgument("kind", "PureDP", "Gaussian noise and deltas have no pure epsilon; use ApproxDP or ZCDP")
    return PureDP(total.pure_epsilon)


def _zcdp(event: Event, _delta: Fraction, _orders: Sequence[Fraction]) -> Budget:
    total = Composition.of(event)
    if total.charged:
        raise InvalidArgument("kind", "ZCDP", "a delta has no rho; use ApproxDP")
    return ZCDP(total.rho)


def _approx(event: Event, delta: Fraction, _orders: Sequence[Fraction]) -> Budget:
    total = Composition.of(event)
    spent = total.charged + (delta if total.rho else Fraction(0))
    return ApproxDP(total.epsilon(spent), spent)


def _renyi(event: Event, _delta: Fraction, orders: Sequence[Fraction]) -> Budget:
    single = list(leaves(event))
    return RenyiDP.of(lambda order: sum((renyi_loss(leaf, order) * n for leaf, n in single), Fraction(0)), orders)


_PRICES: dict[type, Callable[[Event, Fraction, Sequence[Fraction]], Budget]] = {
    PureDP: _pure,
    ZCDP: _zcdp,
    ApproxDP: _approx,
    RenyiDP: _renyi,
}
