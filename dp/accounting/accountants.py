"""What events cost, as a budget of the kind that a ledger keeps: exact rationals, losses rounded up.

A further event is a further class in `dp.accounting.events` and a registration in `dp.accounting.composition`; what is
not registered raises.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar, cast

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.accounting.composition import Composition
from dp.accounting.events import Event
from dp.errors import InvalidArgument

__all__ = ["price"]

_Kind = TypeVar("_Kind", bound=Budget)


def price(event: Event, kind: type[_Kind], *, delta: Fraction = Fraction(0)) -> _Kind:
    """The price of an event, or of everything in a composition, in one kind of budget.

    Args:
        event: what will happen; parts of a composition may depend on each other's releases.
        kind: PureDP, ApproxDP or ZCDP.
        delta: for ApproxDP, what the composition spends beside the charged deltas; without it pure epsilons add up.

    Returns:
        An upper bound of the privacy loss. PureDP and ZCDP add up exactly. ApproxDP adds up the charged deltas, and
        composes everything else by the best of several theorems.

    Raises:
        InvalidArgument: an unknown event, an event that this kind cannot express, or a delta that does not fit.

    Source:
        See `composition.Composition`; Bun and Steinke 2016, Lemma 1.7 and Proposition 1.4.
    """
    if kind not in _PRICES:
        raise InvalidArgument("kind", kind, "give PureDP, ApproxDP or ZCDP")
    if delta and kind is not ApproxDP:
        raise InvalidArgument("delta", delta, "only ApproxDP has a delta; leave it out")
    return cast(_Kind, _PRICES[kind](Composition.of(event), delta))


def _pure(total: Composition, _delta: Fraction) -> Budget:
    if total.noisy_rho or total.charged:
        raise InvalidArgument("kind", "PureDP", "Gaussian noise and deltas have no pure epsilon; use ApproxDP or ZCDP")
    return PureDP(total.pure_epsilon)


def _zcdp(total: Composition, _delta: Fraction) -> Budget:
    if total.charged:
        raise InvalidArgument("kind", "ZCDP", "a delta has no rho; use ApproxDP")
    return ZCDP(total.rho)


def _approx(total: Composition, delta: Fraction) -> Budget:
    spent = total.charged + (delta if total.rho else Fraction(0))
    return ApproxDP(total.epsilon(spent), spent)


_PRICES = {PureDP: _pure, ZCDP: _zcdp, ApproxDP: _approx}
