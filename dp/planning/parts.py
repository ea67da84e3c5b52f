"""The parts of a plan: every measure's place in the vector, and the mechanism that its cells pass before they open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dp.accounting.budget import Budget, PureDP
from dp.accounting.calibration import distributed_gaussian_variance, gaussian_variance, laplace_scale
from dp.accounting.events import GaussianEvent, LaplaceEvent, PureEvent, ZcdpEvent
from dp.errors import InvalidArgument, SparkMpcError
from dp.noise.choice import Peeling
from dp.noise.coins import LaplaceCoins
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.choices import Choices, concentrated_choice, pure_choice, ranks
from dp.planning.measures import Measure, Sensitivity

__all__ = ["ONE_CURATOR", "NoiseParties", "Part", "calibrated"]

Words = NDArray[np.uint64]

_LEAST_VARIANCE = Fraction(1, 4)
"""Below it the price of a sum of discrete Gaussians is not known."""


@dataclass(frozen=True)
class NoiseParties:
    """Who adds noise.

    Attributes:
        copies: parties that add an independent part to every cell.
        honest: parts that must suffice alone: copies less the colluding or silent parties, recipients included.
    """

    copies: int
    honest: int

    def __post_init__(self) -> None:
        if not 1 <= self.honest <= self.copies:
            raise InvalidArgument(
                "honest", self.honest, f"of {self.copies} noise parties, 1 to {self.copies} are honest"
            )

    def sampler_delta(self, asked: Budget) -> Fraction:
        """How much of delta pays for the distance between what they draw and its law: exact samplers need none."""
        return Fraction(0)

    def coins(self, asked: Budget, parts: Sequence[Part]) -> tuple[LaplaceCoins, ...]:
        """Of the draws of each part, where noise is made of coins."""
        return ()

    def to_json(self) -> dict[str, object]:
        """What parties must have alike."""
        return {"copies": self.copies, "honest": self.honest}


ONE_CURATOR = NoiseParties(copies=1, honest=1)
"""One lake: its owner draws the noise and tells nobody."""


@dataclass(frozen=True)
class Part:
    """One measure's place and mechanism in the vector of a query.

    Attributes:
        measure: what is added up.
        offset: its first cell; group g, bin b is cell offset + g * width + b.
        cells: how many it has.
        sensitivity: of all parties together.
        mechanism: what every noise party draws for every cell; or what one curator chooses by, group after group.
        event: what opening these cells costs.
    """

    measure: Measure
    offset: int
    cells: int
    sensitivity: Sensitivity
    mechanism: DiscreteLaplace | DiscreteGaussian | Peeling
    event: PureEvent | GaussianEvent | ZcdpEvent

    @property
    def chooses(self) -> bool:
        """Whether its cells are counts to choose by, which no noise is added to."""
        return isinstance(self.mechanism, Peeling)

    @property
    def noise(self) -> DiscreteLaplace | DiscreteGaussian:
        """The noise of every cell; of a choice, one of the same scale: its tails are as thick."""
        return DiscreteLaplace(self.mechanism.scale) if isinstance(self.mechanism, Peeling) else self.mechanism

    def drawn(self, cells: int, random: RandomSource) -> Words:
        """One noise party's noise for so many cells.

        Raises:
            SparkMpcError: counts to choose by: they would be opened as they are.
        """
        if isinstance(self.mechanism, Peeling):
            raise SparkMpcError("counts to choose by get no noise: choices are made where the whole vector is")
        return self.mechanism.sample(cells, random).view(np.uint64)

    def noised(self, exact: Words, random: RandomSource) -> Words:
        """What may be opened of all its exact cells, one curator adding the noise or choosing."""
        if not isinstance(self.mechanism, Peeling):
            return exact + self.drawn(len(exact), random)
        assert isinstance(self.measure, Choices)
        utilities = self.measure.utilities(exact.view(np.int64).reshape(-1, self.measure.width))
        return ranks(self.mechanism, utilities, random).ravel().view(np.uint64)

    def tail_bound(self, log2_probability: int, samples: int) -> int:
        """What its noise does not exceed; see `Mechanism.tail_bound`."""
        return 0 if isinstance(self.mechanism, Peeling) else self.mechanism.tail_bound(log2_probability, samples)


def calibrated(
    measure: Measure, sensitivity: Sensitivity, amount: PureDP | Fraction, noise: NoiseParties, cells: int
) -> tuple[DiscreteLaplace | DiscreteGaussian | Peeling, PureEvent | GaussianEvent | ZcdpEvent]:
    """One noise party's mechanism for one measure, and what opening the measure costs.

    Args:
        measure: what is added up.
        sensitivity: of all parties together.
        amount: an epsilon for Laplace noise, or a rho for Gaussian noise; the measure's own share.
        noise: who adds noise.
        cells: of the measure, or more.

    Raises:
        InvalidArgument: so small an amount that no mechanism has it.
    """
    if isinstance(measure, Choices):
        if isinstance(amount, PureDP):
            return pure_choice(measure, sensitivity, amount.epsilon)
        return concentrated_choice(measure, sensitivity, amount)
    if isinstance(amount, PureDP):
        scale = laplace_scale(max(sensitivity.l1, 1), amount.epsilon)
        return DiscreteLaplace(scale), LaplaceEvent(amount.epsilon, scale)
    return _gaussian(sensitivity, amount, noise, cells)


def _gaussian(
    sensitivity: Sensitivity, rho: Fraction, noise: NoiseParties, cells: int
) -> tuple[DiscreteGaussian, GaussianEvent]:
    """One party's part: the honest parts' variances add up to the calibrated one, and their price is within rho."""
    l1, l2_squared = max(sensitivity.l1, 1), max(sensitivity.l2_squared, 1)
    size = {"l2_sensitivity_squared": l2_squared, "l1_sensitivity": l1, "honest_parties": noise.honest, "cells": cells}
    if noise.honest == 1:
        variance = max(gaussian_variance(l2_squared, rho), _LEAST_VARIANCE)
    else:  # a sum of discrete Gaussians is not quite one: the distance is in the price
        variance = distributed_gaussian_variance(rho=rho, **size)
    return DiscreteGaussian(variance), GaussianEvent(l2_squared, l1, variance, noise.honest, cells)
