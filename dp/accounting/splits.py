"""How the budget of one release is split over its measures: by shares, scaled as far as composition allows, or by error
targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from dp.accounting.budget import ApproxDP
from dp.accounting.composition import Composition
from dp.accounting.events import Event, PureEvent, compose
from dp.errors import InvalidArgument
from dp.exact import log_near, root_above

__all__ = [
    "ErrorTarget",
    "gaussian_rho_for_stddev",
    "greatest_factor",
    "laplace_epsilon_for_stddev",
    "laplace_epsilons",
    "shares_for_targets",
]

_FACTOR_BITS = 10  # a factor is found to one part in a thousand
_GREATEST_DOUBLINGS = 10
_ARCSINE_MARGIN = Fraction(1, 10**15)


@dataclass(frozen=True)
class ErrorTarget:
    """The noise that a measure may have.

    Attributes:
        stddev: of one cell, > 0, exact, in the integers that are added up.
        l1_sensitivity: the change that one unit makes in the l1 norm, >= 1.
        l2_sensitivity_squared: square of the change in the l2 norm, >= 1.
    """

    stddev: Fraction
    l1_sensitivity: int
    l2_sensitivity_squared: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InvalidArgument(name, value, f"give {name} > 0")


def greatest_factor(asked: ApproxDP, events_of: Callable[[Fraction], Iterable[Event]]) -> Fraction:
    """By how much a release may spend more than simple theorems allow, because its events compose better.

    Args:
        asked: what the release shall satisfy; delta > 0.
        events_of: everything that the release does if the budgets of its measures are multiplied by a factor >= 1; what
            must not grow, such as the selection of keys and its delta, is among the events unchanged.

    Returns:
        A factor >= 1 for which `Composition.of(compose(events_of(factor))).is_within(asked)` was verified, to one part
        in a thousand. It depends on exact numbers only, so every party finds the same.

    Raises:
        InvalidArgument: with the factor 1 already the events are not within what was asked.
    """

    def is_within(factor: Fraction) -> bool:
        return Composition.of(compose(events_of(factor))).is_within(asked)

    low = Fraction(1)
    if not is_within(low):
        raise InvalidArgument("epsilon", str(asked), "the parts of the release cost more than this: ask for more")
    step = low / 2**_FACTOR_BITS
    if not is_within(low + step):
        return low
    for _ in range(_GREATEST_DOUBLINGS):
        if not is_within(2 * low):
            break
        low *= 2
    step = low / 2
    for _ in range(_FACTOR_BITS):
        if is_within(low + step):
            low += step
        step /= 2
    return low


@cache
def laplace_epsilons(asked: ApproxDP, shares: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Epsilons of the measures of a release with Laplace noise, in proportion to their shares.

    Args:
        asked: what the release shall satisfy.
        shares: of the measures, each > 0, exact, with the sum 1.

    Returns:
        share * epsilon, all multiplied by the greatest factor for which their composition stays within (epsilon,
        delta). The factor is one for a single measure or without a delta, and next to one below some fifteen measures.

    Raises:
        InvalidArgument: shares that are not positive or do not add up to one.
    """
    if any(share <= 0 for share in shares) or sum(shares) != 1:
        raise InvalidArgument("shares", shares, "give positive shares that add up to one")
    plain = tuple(asked.epsilon * share for share in shares)
    if len(shares) == 1 or not asked.delta or not asked.epsilon:
        return plain
    counts = Counter(plain)
    factor = greatest_factor(asked, lambda factor: [PureEvent(factor * e, count=n) for e, n in counts.items()])
    return tuple(factor * epsilon for epsilon in plain)


def laplace_epsilon_for_stddev(target: ErrorTarget) -> Fraction:
    """An epsilon, close to the least, at which discrete Laplace noise has at most the target's standard deviation.

    Source:
        The variance is 1 / (2 sinh(1 / (2 scale))^2), and epsilon is the l1 sensitivity over the scale.
    """
    sine = root_above(1 / (2 * target.stddev**2))
    # near zero the logarithm loses digits, and the sine itself lies above its arcsine
    arcsine = sine if sine < Fraction(1, 10**5) else log_near(sine + root_above(sine**2 + 1)) * (1 + _ARCSINE_MARGIN)
    return 2 * target.l1_sensitivity * arcsine.limit_denominator(10**30) * (1 + _ARCSINE_MARGIN)


def gaussian_rho_for_stddev(target: ErrorTarget) -> Fraction:
    """The rho at which discrete Gaussian noise has at most the target's standard deviation: exact."""
    return target.l2_sensitivity_squared / (2 * target.stddev**2)


def shares_for_targets(
    targets: Sequence[ErrorTarget], cost: Callable[[ErrorTarget], Fraction]
) -> tuple[Fraction, tuple[Fraction, ...]]:
    """The least budget that meets every target, and each measure's share of it.

    Args:
        targets: at least one.
        cost: `laplace_epsilon_for_stddev` or `gaussian_rho_for_stddev`.

    Returns:
        (total, shares): a total epsilon or rho by addition, and shares with the sum 1. A release with another total and
        these shares misses, or beats, all targets by the same factor.

    Raises:
        InvalidArgument: no targets.
    """
    if not targets:
        raise InvalidArgument("targets", targets, "give at least one")
    costs = [cost(target) for target in targets]
    total = sum(costs, Fraction(0))
    return total, tuple(each / total for each in costs)
