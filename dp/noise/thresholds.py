"""Private selection of groups by thresholds on noisy unit counts, which may then be published with the names."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.noise.selection import Selection, SelectionRule
from dp.noise.tails import (
    gaussian_tail,
    gaussian_tail_above,
    laplace_tail,
    laplace_tail_above,
    least_point,
    zcdp_delta_above,
)

__all__ = ["GaussianThreshold", "LaplaceThreshold", "NoisySelection"]

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


class NoisySelection(Selection, Protocol):
    """A selection that may also publish the noisy unit counts of what it keeps, at no further cost."""

    def keep_noisy(self, counts: Integers, random: RandomSource) -> tuple[Mask, Integers]:
        """Which groups may be named, and their noisy unit counts (zero for the others)."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Threshold(SelectionRule):
    """Keeps a group where its unit count plus noise reaches a threshold."""

    noise: DiscreteLaplace | DiscreteGaussian

    @property
    def threshold_delta(self) -> Fraction:
        """The part of delta for naming a group that nobody but the protected units is in."""
        raise NotImplementedError

    @cached_property
    def threshold(self) -> int:
        """tau: a group is kept where the units that the strategy sees plus the noise are at least this.

        At most max_groups * group_size groups have no unit but the protected ones, and none has more than group_size
        of those. Such a group is kept with probability P(noise >= tau - group_size), the mass at tau among it; tau is
        the least integer above group_size for which the proven bound of the sum of all these is within threshold_delta.
        """
        each = self.threshold_delta / (self.max_groups * self.group_size)
        point = least_point(self._tail_above, each)
        if point is None:
            raise InvalidArgument("delta", self.delta, "give a larger delta, or less noise: no threshold reaches it")
        return point + self.group_size

    def keep(self, counts: Integers, random: RandomSource) -> Mask:
        """Which groups may be named; independent, exact draws.

        Args:
            counts: units of every group.
            random: the source of bytes; `os_random` wherever the selection protects somebody.
        """
        return self.keep_noisy(counts, random)[0]

    def keep_noisy(self, counts: Integers, random: RandomSource) -> tuple[Mask, Integers]:
        """Which groups may be named, and their noisy unit counts; publishing both costs no more than the names.

        Args:
            counts: units of every group, at most 2^62.
            random: the source of bytes; `os_random` wherever the selection protects somebody.

        Returns:
            The mask, and unit count plus noise where it holds, zero elsewhere. A kept count is at least the threshold,
            so it lies above the truth on average.
        """
        seen = self.seen(counts)
        present = np.flatnonzero(seen > 0)
        # a sum beyond 2^63 wraps to a negative number and is not kept: still a function of the exact sum
        noisy = seen[present] + self.noise.sample(present.size, random)
        over = noisy >= self.threshold
        kept, shown = np.zeros(seen.shape, np.bool_), np.zeros(seen.shape, np.int64)
        kept[present[over]] = True
        shown[present[over]] = noisy[over] + np.int64(self.pre_threshold - 1)
        return kept, shown

    def _tail_above(self, point: int) -> Fraction:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LaplaceThreshold(_Threshold):
    """Keeps a group where its unit count plus discrete Laplace noise reaches a threshold.

    Args:
        noise: of every count.
        delta: total for the units protected together, 0 < delta < 1, exact.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept, >= 1.
        group_size: how many units are protected together, >= 1.

    Raises:
        InvalidArgument: an argument outside its range, or a delta that no threshold reaches.

    Guarantees:
        (epsilon, delta)-differential privacy for `group_size` units, epsilon = max_groups * group_size / scale, of the
        names and noisy counts together.
    Leaks:
        Names and noisy counts of the kept groups; how many were not kept must not be published.
    Cost:
        One draw of noise for each group with units.
    Source:
        Korolova, Kenthapadi, Mishra and Ntoulas 2009, with the threshold of the discrete law.
    """

    noise: DiscreteLaplace
    kind: ClassVar[str] = "laplace_threshold"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.threshold  # raises where there is none

    @property
    def epsilon(self) -> Fraction:
        """What the whole selection costs the units protected together."""
        return self.max_groups * self.group_size / self.noise.scale

    @property
    def threshold_delta(self) -> Fraction:
        """All of delta."""
        return self.delta

    def to_json(self) -> dict[str, str]:
        """The selection as a JSON object with exact fractions."""
        return {"selection": self.kind, "scale": str(self.noise.scale), **self.shared_json()}

    def probability(self, seen: int) -> float:
        return laplace_tail(float(self.noise.scale), self.threshold - seen)

    def _tail_above(self, point: int) -> Fraction:
        return laplace_tail_above(self.noise.scale, point)


@dataclass(frozen=True, kw_only=True)
class GaussianThreshold(_Threshold):
    """Keeps a group where its unit count plus discrete Gaussian noise reaches a threshold.

    Args:
        noise: of every count.
        epsilon: total for the units protected together, > 0, exact.
        delta: total for the units protected together, 0 < delta < 1, exact; what the noise needs of it to give
            epsilon is taken off, the rest goes to the threshold.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept, >= 1.
        group_size: how many units are protected together, >= 1.

    Raises:
        InvalidArgument: an argument outside its range; noise too small for epsilon and delta, or a delta that no
            threshold reaches.

    Guarantees:
        (epsilon, delta)-differential privacy for `group_size` units of the names and noisy counts together; also
        `rho`-zCDP but for an event of probability `threshold_delta`.
    Leaks:
        Names and noisy counts of the kept groups; how many were not kept must not be published.
    Cost:
        One draw of noise for each group with units.
    Source:
        As `LaplaceThreshold`, with the Gaussian of Canonne, Kamath and Steinke 2020.
    """

    noise: DiscreteGaussian
    epsilon: Fraction
    kind: ClassVar[str] = "gaussian_threshold"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon <= 0:
            raise InvalidArgument("epsilon", self.epsilon, "give epsilon > 0")
        if self.threshold_delta <= 0:
            raise InvalidArgument("noise", self.noise, f"give more variance: this takes all of delta {self.delta}")
        _ = self.threshold  # raises where there is none

    @property
    def rho(self) -> Fraction:
        """What the noisy counts cost in zCDP, naming aside.

        The changes c of the counts add up to at most max_groups * group_size and none exceeds group_size, so the sum
        of c^2 is at most max_groups * group_size^2.
        """
        return self.max_groups * self.group_size**2 / (2 * self.noise.variance)

    @cached_property
    def threshold_delta(self) -> Fraction:
        """What the noise leaves of delta."""
        return self.delta - zcdp_delta_above(self.rho, self.epsilon)

    def to_json(self) -> dict[str, str]:
        """The selection as a JSON object with exact fractions."""
        own = {"selection": self.kind, "variance": str(self.noise.variance), "epsilon": str(self.epsilon)}
        return {**own, **self.shared_json()}

    def probability(self, seen: int) -> float:
        return gaussian_tail(float(self.noise.variance), self.threshold - seen)

    def _tail_above(self, point: int) -> Fraction:
        return gaussian_tail_above(self.noise.variance, point)
