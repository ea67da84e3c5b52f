"""What single events cost in Renyi differential privacy: upper bounds of their divergences, in either direction.

A further event is a further registration of `renyi_loss`; what is not registered raises.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, singledispatch

from dp.accounting.events import DeltaEvent, Event, GaussianEvent, LaplaceEvent, PureEvent, ZcdpEvent
from dp.errors import InvalidArgument
from dp.exact import MARGIN, exp_above, exp_below, log_near, rounded

__all__ = ["renyi_loss"]


@singledispatch
def renyi_loss(event: Event, order: Fraction) -> Fraction:
    """The Renyi divergence of an order between what an event does to neighbours; without its count.

    Args:
        event: a single event.
        order: > 1, exact.

    Returns:
        An upper bound: exact for zero-concentrated events, else rounded up to fifteen digits.

    Raises:
        InvalidArgument: an unknown event, or one that has no such divergence.

    Source:
        Pure: randomised response, of which every pure mechanism is made (Kairouz, Oh and Viswanath 2015, Theorem 3.3);
        its divergence is Mironov 2017, Proposition 5. Laplace: as Proposition 6 there, for the discrete law.
        Concentrated: Bun and Steinke 2016, Definition 1.1. Discrete Gaussian: Canonne, Kamath and Steinke 2020, Theorem
        4; several parts: Kairouz, Liu and Steinke 2021, Proposition 14.
    """
    remedy = f"register it with the Renyi losses: an unknown event has no price at order {order} or any other"
    raise InvalidArgument("event", event, remedy)


@renyi_loss.register
def _(event: PureEvent, order: Fraction) -> Fraction:
    return _pure(event.epsilon, order)


@renyi_loss.register
def _(event: LaplaceEvent, order: Fraction) -> Fraction:
    return min(_pure(event.epsilon, order), _laplace(event.epsilon, event.scale, order))


@renyi_loss.register
def _(event: ZcdpEvent, order: Fraction) -> Fraction:
    return event.rho * order


@renyi_loss.register
def _(event: GaussianEvent, order: Fraction) -> Fraction:
    return event.rho * order


@renyi_loss.register
def _(event: DeltaEvent, _order: Fraction) -> Fraction:
    if event.delta:
        remedy = "a delta has no Renyi divergence: use public keys, or a ledger of (epsilon, delta)"
        raise InvalidArgument("delta", event.delta, remedy)
    return Fraction(0)


@cache
def _pure(epsilon: Fraction, order: Fraction) -> Fraction:
    """log((e^(a epsilon) + e^((1 - a) epsilon)) / (1 + e^epsilon)) / (a - 1), and never more than simpler bounds."""
    flipped = 1 + exp_above(-(2 * order - 1) * epsilon)
    rise = _log_above(flipped / (1 + exp_below(-epsilon)))
    bounds = (epsilon, order * epsilon**2 / 2, epsilon + rise / (order - 1))
    return rounded(min(bounds), math.ceil)


@cache
def _laplace(epsilon: Fraction, scale: Fraction, order: Fraction) -> Fraction:
    """log(A e^((a - 1) epsilon) + (1 - A) e^(-a epsilon)) / (a - 1), A being the mass on this side of the middle.

    With q = e^(-1 / scale): A = q / (1 + q) + (1 - q) / ((1 + q) (1 - q^(2a - 1))); a / (2a - 1) for wide noise.
    `docs/privacy.md`, section 4.7, has the sum, and why a vector costs no more than one cell.
    """
    spread = 2 * order - 1
    least, greatest = exp_below(-1 / scale), exp_above(-1 / scale)
    ratio_below = 1 - exp_above(-spread / scale)
    if ratio_below <= 0:  # noise so wide that sixty digits do not resolve it
        return epsilon
    near = min(greatest / (1 + greatest) + (1 - least) / ((1 + least) * ratio_below), Fraction(1))
    rise = _log_above(near + (1 - near) * exp_above(-spread * epsilon))
    return rounded(max(epsilon + rise / (order - 1), Fraction(0)), math.ceil)


def _log_above(value: Fraction) -> Fraction:
    """An upper bound of the logarithm of a value > 0; closer to it than 1e-39 where that is within one of zero."""
    near = log_near(value)
    return near + MARGIN * (1 + abs(near))
