"""The privacy profile of Gaussian noise, and how a discrete Gaussian inherits it: upper bounds in decimal arithmetic.

A discrete Gaussian of variance v is, up to a factor that a theta series bounds, what somebody makes of a continuous one
of variance v - s: round it at random, with discrete Gaussian noise of variance s centred at the real number. So its
profile is that of the continuous Gaussian of variance v - s. `docs/privacy.md`, section 4.6, has the proof.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction

from dp.accounting.events import GaussianEvent
from dp.errors import InvalidArgument
from dp.exact import MARGIN, decimal_near, exp_above, exp_below, root_above, rounded

__all__ = ["NearGaussian", "gaussian_delta", "near_gaussian"]

_CONTEXT = Context(prec=60)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
_PI_SQUARED_BELOW = Fraction(98696044010893586188, 10**19)
_ABOVE, _BELOW = (Decimal(1) + sign * decimal_near(MARGIN) for sign in (1, -1))
_FAR = 45
_LEAST = exp_above(Fraction(-1000))  # a delta that is given is never less; tails beyond _FAR are
_SERIES_TERMS = 60  # 1 / (2 * 60 + 1)!! < 1e-99
_LEAST_MU_SQUARED = Fraction(1, 10**30)  # so that sixty digits resolve the two tails
_SMOOTHING_STEP = Fraction(1, 16)


@dataclass(frozen=True)
class NearGaussian:
    """A Gaussian mechanism, and how far a composition of discrete ones may be from what is made of its output.

    Attributes:
        mu_squared: (l2 sensitivity / standard deviation)^2 of the Gaussian mechanism.
        closeness: masses agree within the factors e^-closeness and e^closeness, on either neighbour.
    """

    mu_squared: Fraction
    closeness: Fraction

    def delta(self, epsilon: Fraction) -> Fraction:
        """An upper bound of the least delta at this epsilon, which may be negative."""
        return exp_above(self.closeness) * gaussian_delta(self.mu_squared, epsilon - 2 * self.closeness)


def near_gaussian(events: Mapping[GaussianEvent, int], epsilon: Fraction) -> NearGaussian | None:
    """One Gaussian mechanism in the place of a composition of discrete ones.

    Args:
        events: the noise, each with how often it was added.
        epsilon: > 0, where the profile will be asked for; it only chooses how much variance the rounding takes.

    Returns:
        None if the noise is so narrow that the rounding would take all of it.

    Guarantees:
        Whatever the composition satisfies by the profile of the result, it satisfies.
    Source:
        Convolution of discrete Gaussians: Peikert 2010, Theorem 3.1; Micciancio and Regev 2007, Lemma 4.4. Gaussians
        compose into one: Dong, Roth and Su 2022, Corollary 3.3.
    """
    least = min(event.honest_parties * event.variance_each for event in events)
    changed = sum(event.changed_cells * count for event, count in events.items())
    smoothing = 2 * _SMOOTHING_STEP
    # a step of the rounding costs epsilon * step / (2 least); what is left apart is to cost less than that
    worth = epsilon * _SMOOTHING_STEP / (2 * least)
    while smoothing < least and 2 * changed * _closeness_of_rounding(least, smoothing) > worth:
        smoothing += _SMOOTHING_STEP
    if smoothing >= least:
        return None
    mu_squared, closeness = Fraction(0), Fraction(0)
    for event, count in events.items():
        variance = event.honest_parties * event.variance_each
        mu_squared += count * event.l2_sensitivity_squared / (variance - smoothing)
        apart = _closeness_of_rounding(variance, smoothing) + _closeness_of_sum(event)
        closeness += count * event.changed_cells * apart
    return NearGaussian(rounded(mu_squared, math.ceil), rounded(closeness, math.ceil))


def gaussian_delta(mu_squared: Fraction, epsilon: Fraction) -> Fraction:
    """The least delta of a Gaussian mechanism, rounded up.

    Args:
        mu_squared: (l2 sensitivity / standard deviation)^2, >= 0, exact.
        epsilon: any sign; below zero the profile of the same pair of distributions goes on.

    Raises:
        InvalidArgument: mu_squared < 0.

    Source:
        Balle and Wang 2018, Theorem 8: Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu). Tails by Laplace's
        continued fraction, whose convergents lie on alternate sides, or by the series of the error function.
    """
    if mu_squared < 0:
        raise InvalidArgument("mu_squared", mu_squared, "give a square, >= 0")
    if epsilon < 0:  # the pair is symmetric, so each profile is its own mirror image
        return min(1 - exp_below(epsilon) + exp_above(epsilon) * gaussian_delta(mu_squared, -epsilon), Fraction(1))
    if mu_squared == 0:
        return Fraction(0)
    with localcontext(_CONTEXT):
        # a little more mu and a little less epsilon: far more than sixty digits lose
        mu = decimal_near(root_above(max(mu_squared, _LEAST_MU_SQUARED)))
        centre = decimal_near(epsilon) * _BELOW / mu
        near, far = centre - mu / 2, centre + mu / 2
        if near > _FAR:
            return _LEAST
        if near < -_FAR:
            return Fraction(1)
        density = (-near * near / 2).exp() / (2 * _PI).sqrt()
        # e^epsilon times the density at `far` is the density at `near`
        if near >= 0:
            delta = density * _ABOVE * (_mills_ratio_above(near) - _mills_ratio_below(far))
        else:
            delta = 1 - density * _BELOW * (_mills_ratio_below(-near) + _mills_ratio_below(far))
        return rounded(min(max(Fraction(delta) * (1 + MARGIN), _LEAST), Fraction(1)), math.ceil)


def _mills_ratio_above(x: Decimal) -> Decimal:
    """Above the tail of the normal distribution over its density, x >= 0."""
    return (_continued_fraction(x, _levels(x)) if x >= 1 else _half(x) - _series(x)) * _ABOVE


def _mills_ratio_below(x: Decimal) -> Decimal:
    if x >= 1:
        return _continued_fraction(x, _levels(x) + 1) * _BELOW
    return (_half(x) - _series(x) - Decimal(10) ** -50) * _BELOW


def _levels(x: Decimal) -> int:
    """An even number of levels, with which the fraction is exact to about thirty digits."""
    return 2 * math.ceil(310 / (x * x)) + 4


def _continued_fraction(x: Decimal, levels: int) -> Decimal:
    """1 / (x + 1 / (x + 2 / (x + ...))): above the ratio for an even number of levels, below it for an odd one."""
    below = x
    for level in range(levels, 0, -1):
        below = x + level / below
    return 1 / below


def _half(x: Decimal) -> Decimal:
    """One half over the density."""
    return (_PI / 2).sqrt() * (x * x / 2).exp()


def _series(x: Decimal) -> Decimal:
    """The integral of the density from 0 to x < 1, over the density: x + x^3 / 3 + x^5 / (3 * 5) + ..."""
    total, term = Decimal(0), x
    for k in range(_SERIES_TERMS):
        total += term
        term *= x * x / (2 * k + 3)
    return total


def _theta_excess(variance: Fraction) -> Fraction:
    """By what part sum over z of exp(-(z - c)^2 / (2 variance)) differs from its integral, for every real c."""
    ratio = exp_above(-2 * _PI_SQUARED_BELOW * variance)
    return 2 * ratio / (1 - ratio**3)  # Poisson: 2 sum over k >= 1 of ratio^(k^2), and k^2 >= 1 + 3 (k - 1)


def _closeness_of_rounding(variance: Fraction, smoothing: Fraction) -> Fraction:
    """How close a cell is to the rounding of a continuous Gaussian of variance - smoothing.

    The rounding divides by a theta series 1 + o(y), y being the real number; |o| is at most its excess. Given the
    outcome, y is Gaussian, and so the mean of o is that of a wider series.
    """
    excess = _theta_excess(smoothing)
    mean = _theta_excess(smoothing + (variance - smoothing) * smoothing / variance)
    # 1 - o <= 1 / (1 + o) <= 1 - o + o^2 / (1 - |o|), and both laws are normalised
    return mean + excess**2 / (1 - excess) + mean / (1 - mean)


def _closeness_of_sum(event: GaussianEvent) -> Fraction:
    """How close a cell of all parties' noise is to one discrete Gaussian of their variances' sum."""
    excesses = (_theta_excess(event.variance_each * Fraction(k, k + 1)) for k in range(1, event.honest_parties))
    return sum((2 * excess / (1 - excess) for excess in excesses), Fraction(0))  # above log((1 + x) / (1 - x))
