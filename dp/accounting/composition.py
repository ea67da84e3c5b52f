"""What the events of one release cost together, as tightly as is proven: upper bounds, the same on every machine."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, singledispatchmethod

from dp.accounting.budget import ApproxDP
from dp.accounting.calibration import zcdp_epsilon
from dp.accounting.events import DeltaEvent, Event, GaussianEvent, PureEvent, ZcdpEvent, leaves
from dp.accounting.gaussian import near_gaussian
from dp.accounting.losses import MAX_EVENTS, Losses, pure_losses
from dp.errors import InvalidArgument

__all__ = ["Composition"]

_FINE_CELLS = 1024
_COARSE_CELLS = 32
_FEW_LOSSES = 64  # beside Gaussian noise, each loss costs two tails of the normal distribution
_EPSILON_BITS = 16  # an epsilon is found to this many bits


@dataclass(frozen=True, eq=False)
class Composition:
    """Events by what is known of each; the order is irrelevant.

    Attributes:
        pure: epsilons > 0, with how often each was spent.
        gaussian: noise whose profile is known.
        rho: of everything that has one, the pure events with epsilon^2 / 2.
        noisy_rho: the part of it that has no pure epsilon.
        profiled_rho: the part of that whose profile is known.
        charged: delta charged as it stands.

    Guarantees:
        Everything bounds adaptive composition. `profile` and `epsilon` never lie below the least that hold.
    Cost:
        Some milliseconds; tens of them where several unequal pure events meet Gaussian noise.
    Source:
        The least of: basic composition (Dwork and Roth 2014); concentrated differential privacy of everything (Bun and
        Steinke 2016; conversion of Canonne, Kamath and Steinke 2020); and dominating pairs, which compose adaptively
        (Zhu, Dong and Wang 2022, Theorem 10), of randomised response and of one Gaussian.
    """

    pure: Counter[Fraction]
    gaussian: Counter[GaussianEvent]
    rho: Fraction
    noisy_rho: Fraction
    profiled_rho: Fraction
    charged: Fraction

    @classmethod
    def of(cls, event: Event) -> Composition:
        """Sort the leaves of an event.

        Raises:
            InvalidArgument: an event that no accountant knows.
        """
        sums = _Sums()
        for leaf, count in leaves(event):
            sums.add(leaf, count)
        pure_rho = sum((epsilon**2 / 2 * count for epsilon, count in sums.pure.items()), Fraction(0))
        profiled = sum((event.rho * count for event, count in sums.gaussian.items()), Fraction(0))
        noisy = profiled + sums.rho
        return cls(sums.pure, sums.gaussian, pure_rho + noisy, noisy, profiled, sums.charged)

    @property
    def pure_epsilon(self) -> Fraction:
        """The sum of the pure epsilons."""
        return sum((epsilon * count for epsilon, count in self.pure.items()), Fraction(0))

    def is_within(self, asked: ApproxDP) -> bool:
        """Whether some theorem shows that all of this satisfies (epsilon, delta)."""
        left = asked.delta - self.charged
        if left < 0:
            return False
        if left == 0:
            return not self.noisy_rho and self.pure_epsilon <= asked.epsilon
        return self._simple_epsilon(left) <= asked.epsilon or self.profile(asked.epsilon) <= left

    def epsilon(self, delta: Fraction) -> Fraction:
        """An epsilon that holds with this delta, of which the charged part is taken first.

        Raises:
            InvalidArgument: a delta that the charged part exhausts while there is noise without a pure epsilon.
        """
        left = delta - self.charged
        if left < 0 or (left == 0 and self.noisy_rho):
            raise InvalidArgument("delta", delta, f"charged are {self.charged} already: give more than that")
        if left == 0:
            return self.pure_epsilon
        greatest = self._simple_epsilon(left)
        low, high = 0, 2**_EPSILON_BITS  # in parts of what simple theorems give
        if self.profile(greatest) > left:
            return greatest
        while high - low > 1:
            middle = (low + high) // 2
            if self.profile(greatest * Fraction(middle, 2**_EPSILON_BITS)) <= left:
                high = middle
            else:
                low = middle
        return greatest * Fraction(high, 2**_EPSILON_BITS)

    def profile(self, epsilon: Fraction) -> Fraction:
        """An upper bound of delta at this epsilon from dominating pairs, without the charged part.

        Returns:
            One where some event has no such pair.
        """
        if self.noisy_rho != self.profiled_rho or self.pure.total() > MAX_EVENTS:
            return Fraction(1)
        if not self.gaussian:
            return self._losses.delta(epsilon) if self.pure else Fraction(0)
        if epsilon <= 0 or (gaussian := near_gaussian(self.gaussian, epsilon)) is None:
            return Fraction(1)
        if not self.pure:
            return gaussian.delta(epsilon)
        return self._losses.expected(lambda loss: gaussian.delta(epsilon - loss))

    def _simple_epsilon(self, delta: Fraction) -> Fraction:
        """The lesser of basic composition and concentrated differential privacy."""
        return min(self.pure_epsilon + zcdp_epsilon(self.noisy_rho, delta), zcdp_epsilon(self.rho, delta))

    @cached_property
    def _losses(self) -> Losses:
        losses = math.prod(count + 1 for count in self.pure.values())
        return pure_losses(self.pure, _COARSE_CELLS if self.gaussian and losses > _FEW_LOSSES else _FINE_CELLS)


class _Sums:
    """What `Composition.of` counts; a further event is a further registration."""

    def __init__(self) -> None:
        self.pure: Counter[Fraction] = Counter()
        self.gaussian: Counter[GaussianEvent] = Counter()
        self.rho = Fraction(0)
        self.charged = Fraction(0)

    @singledispatchmethod
    def add(self, event: Event, count: int) -> None:
        raise InvalidArgument("event", event, "register it with the composition: an unknown event has no price")

    @add.register
    def _(self, event: PureEvent, count: int) -> None:
        if event.epsilon:
            self.pure[event.epsilon] += count

    @add.register
    def _(self, event: GaussianEvent, count: int) -> None:
        self.gaussian[event] += count

    @add.register
    def _(self, event: ZcdpEvent, count: int) -> None:
        self.rho += event.rho * count

    @add.register
    def _(self, event: DeltaEvent, count: int) -> None:
        self.charged += event.delta * count
