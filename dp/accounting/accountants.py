"""What events cost, as a budget of the kind that a ledger keeps: exact rationals, losses rounded up.

A further event is a further class in `dp.accounting.events` and a registration here for each kind that can price it;
what is not registered raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from typing import TypeVar, cast

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.accounting.calibration import zcdp_epsilon
from dp.accounting.events import DeltaEvent, Event, PureEvent, ZcdpEvent, leaves
from dp.errors import InvalidArgument

__all__ = ["price"]

_Kind = TypeVar("_Kind", bound=Budget)


@dataclass(frozen=True)
class _Loss:
    """Losses of a composition. Each adds up over events, each event counted with its multiplicity.

    Attributes:
        epsilon: of events of pure differential privacy.
        rho: of all events that have one; a pure epsilon counts with epsilon^2 / 2.
        gaussian_rho: of the events that have no pure epsilon.
        delta: charged as it stands.
    """

    epsilon: Fraction = Fraction(0)
    rho: Fraction = Fraction(0)
    gaussian_rho: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)

    def __add__(self, other: _Loss) -> _Loss:
        return _Loss(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, count: int) -> _Loss:
        return _Loss(*(count * amount for amount in vars(self).values()))


@singledispatch
def _loss(event: Event) -> _Loss:
    """The losses of one occurrence of a leaf."""
    raise InvalidArgument("event", event, "register its loss with the accountants: an unknown event has no price")


@_loss.register
def _(event: PureEvent) -> _Loss:
    # Bun and Steinke 2016, Proposition 1.4: pure epsilon is epsilon^2 / 2 in rho
    return _Loss(epsilon=event.epsilon, rho=event.epsilon**2 / 2)


@_loss.register
def _(event: ZcdpEvent) -> _Loss:
    return _Loss(rho=event.rho, gaussian_rho=event.rho)


@_loss.register
def _(event: DeltaEvent) -> _Loss:
    return _Loss(delta=event.delta)


def price(event: Event, kind: type[_Kind], *, delta: Fraction = Fraction(0)) -> _Kind:
    """The price of an event, or of everything in a composition, in one kind of budget.

    Args:
        event: what will happen; parts of a composition may depend on each other's releases.
        kind: PureDP, ApproxDP or ZCDP.
        delta: for ApproxDP, the delta at which Gaussian noise is converted; spent only where there is any.

    Returns:
        An upper bound of the privacy loss. PureDP and ZCDP add up exactly. ApproxDP adds pure epsilons and charged
        deltas, and to them the conversion of all Gaussian events together.

    Raises:
        InvalidArgument: an unknown event, an event that this kind cannot express, or a delta that does not fit.

    Source:
        Composition: Dwork and Roth 2014; Bun and Steinke 2016, Lemma 1.7. Conversion: see `calibration.zcdp_epsilon`.
    """
    if kind not in _PRICES:
        raise InvalidArgument("kind", kind, "give PureDP, ApproxDP or ZCDP")
    if delta and kind is not ApproxDP:
        raise InvalidArgument("delta", delta, "only ApproxDP has a delta; leave it out")
    total = sum((_loss(leaf).times(count) for leaf, count in leaves(event)), _Loss())
    return cast(_Kind, _PRICES[kind](total, delta))


def _pure(loss: _Loss, _delta: Fraction) -> Budget:
    if loss.gaussian_rho or loss.delta:
        raise InvalidArgument("kind", "PureDP", "Gaussian noise and deltas have no pure epsilon; use ApproxDP or ZCDP")
    return PureDP(loss.epsilon)


def _zcdp(loss: _Loss, _delta: Fraction) -> Budget:
    if loss.delta:
        raise InvalidArgument("kind", "ZCDP", "a delta has no rho; use ApproxDP")
    return ZCDP(loss.rho)


def _approx(loss: _Loss, delta: Fraction) -> Budget:
    if not loss.gaussian_rho:
        return ApproxDP(loss.epsilon, loss.delta)
    return ApproxDP(loss.epsilon + zcdp_epsilon(loss.gaussian_rho, delta), loss.delta + delta)


_PRICES = {PureDP: _pure, ZCDP: _zcdp, ApproxDP: _approx}
