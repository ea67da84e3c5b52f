"""Choices: which values of a public list are the most frequent, found from exact counts that nobody is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dp.accounting.calibration import laplace_scale
from dp.accounting.events import PureEvent, ZcdpEvent
from dp.errors import InvalidArgument
from dp.exact import root_above
from dp.noise.choice import MAX_DENOMINATOR, ExponentialTopK, Peeling, TopK
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.aggregates import Aggregate, Estimate, ExpectedError, NoiseOf, Opened, Schema
from dp.planning.bin_measures import Items
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import CellRule
from dp.planning.inputs import Input
from dp.planning.measures import Measure, Names, Sensitivity

__all__ = ["Choices", "MostFrequent", "Ranking", "concentrated_choice", "pure_choice", "ranks", "shortfall"]


@dataclass(frozen=True)
class Choices(Measure):
    """The k most frequent ones of a public list of values, in order.

    Rows are counted value by value. Before anything is opened, the counts are replaced by ranks: 1..k in the cells of
    the values that were chosen, 0 in all others.

    Attributes:
        items: what is counted.
        k: how many are chosen in each group.
    """

    items: Measure
    k: int

    @property
    def range_factor(self) -> int:
        """By how much one more row in a group can move the difference of two utilities, at most."""
        return 1

    def utilities(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """What each candidate is worth in each group; of the counts' shape (groups, candidates)."""
        return counts

    @property
    def width(self) -> int:
        return self.items.width

    @property
    def shape(self) -> tuple[int, ...]:
        return self.items.shape

    @property
    def adds_over_parties(self) -> bool:
        return False

    @property
    def adds_over_groups(self) -> bool:
        return False

    def sensitivity(self, bounds: ContributionBounds) -> Sensitivity:
        """Of the counts. Its `l1` is the range of the choices of all groups together; see `pure_choice`."""
        return self.items.sensitivity(bounds)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.items.inputs

    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:
        return self.items.rules(offset, stride, names)

    def to_json(self) -> dict[str, object]:
        return {**self.items.to_json(), "measure": "choices", "k": self.k}


def pure_choice(choices: Choices, sensitivity: Sensitivity, epsilon: Fraction) -> tuple[TopK, PureEvent]:
    """What makes the choices of one group, by permute-and-flip, and what the choices of all groups cost together.

    Args:
        choices: what is chosen.
        sensitivity: of its counts, over all units that are protected together.
        epsilon: > 0, for all choices in all groups.

    Raises:
        InvalidArgument: an epsilon so small for this sensitivity that no exact coin has the probabilities.

    Guarantees:
        k rounds, of which each is (epsilon / k)-differentially private for all groups together. Adding the protected
        units raises the counts of group g by 0..x_g: each of their rows counts once, for one value of one group, so
        that the x_g add up to at most the L1 sensitivity R. No count falls, so differences of two counts move by at
        most x_g, not twice that; other utilities say by how much theirs move for a row (`range_factor`, f).
        Permute-and-flip at the rate epsilon / (k R f) thus loses at most epsilon x_g / (k R) in group g, and
        epsilon / k over all groups. Removing units is the same read backwards.
    Source:
        docs/privacy.md, private choice.
    """
    k, reach = choices.k, Fraction(max(sensitivity.l1, 1) * choices.range_factor)
    scale = laplace_scale(int(reach) * k, epsilon)  # epsilon itself is kept, unless it is a long fraction
    return TopK(k * reach / _tossed(scale), reach, k), PureEvent(epsilon / k, count=k)


def concentrated_choice(choices: Choices, sensitivity: Sensitivity, rho: Fraction) -> tuple[ExponentialTopK, ZcdpEvent]:
    """What makes the choices of one group, by the exponential mechanism, and what those of all groups cost together.

    Args:
        choices: what is chosen.
        sensitivity: of its counts, over all units that are protected together.
        rho: > 0, for all choices in all groups.

    Raises:
        InvalidArgument: a rho so small for this sensitivity that no exact coin has the probabilities.

    Guarantees:
        rho-zero-concentrated differential privacy. With x_g as in `pure_choice`, one choice of scale b in group g has
        a range of x_g / b and costs (x_g / b)^2 / 8. The squares of the x_g add up to at most the squared L2
        sensitivity: all rows of a group may be of one value, so it bounds the counts of such units, too. k rounds thus
        cost k l2_squared / (8 b^2) over all groups.
    Source:
        docs/privacy.md, private choice.
    """
    k, reach = choices.k, Fraction(max(sensitivity.l1, 1) * choices.range_factor)
    least = choices.range_factor * root_above(k * max(sensitivity.l2_squared, 1) / (8 * rho))
    scale = _tossed(laplace_scale(1, 1 / least))
    return ExponentialTopK(k * reach / scale, reach, k), ZcdpEvent(rho)


def _tossed(scale: Fraction) -> Fraction:
    if scale.numerator > MAX_DENOMINATOR:
        raise InvalidArgument("scale", str(scale), "coins of such small bias are not tossed: ask for more")
    return scale


def ranks(mechanism: Peeling, counts: NDArray[np.int64], random: RandomSource) -> NDArray[np.int64]:
    """Choose in every group: 1..k for the values chosen, in their order, and 0 for all others.

    Args:
        mechanism: makes the choices of one group.
        counts: exact, shape (groups, values).
        random: the operating system's entropy, but for tests.
    """
    found = np.zeros_like(counts)
    for row, of_group in zip(found, counts, strict=True):
        chosen = mechanism.choose(of_group, random)
        row[chosen] = np.arange(1, len(chosen) + 1)
    return found


def shortfall(scale: Fraction, candidates: int, k: int, confidence: float) -> float:
    """What is missed by choosing: with this confidence no value chosen trails one that was left by more than this.

    A candidate that trails by t is chosen with a probability of at most exp(-t / scale): that of its coin, or its
    odds against the best one. Summed over all candidates that are left, and all rounds.

    Args:
        scale: of the mechanism.
        candidates: >= 1.
        k: rounds, 1..candidates.
        confidence: 0 < confidence < 1.
    """
    trailing = sum(candidates - 1 - chosen for chosen in range(k))
    return max(float(scale) * math.log(max(trailing, 1) / (1 - confidence)), 0.0) if trailing else 0.0


@dataclass(frozen=True)
class Ranking(Estimate):
    """Labels in order. Their values are their ranks, which have no error bar: NaN."""


@dataclass(frozen=True, kw_only=True)
class MostFrequent(Aggregate):
    """The most frequent ones of a public list of values, named in order without their counts."""

    column: str
    k: int
    values: tuple[int | str | bool, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def numeric(self) -> bool:
        return False

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Choices(Items(self.column, self.values), self.k),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        """The labels of the ranks.

        Raises:
            InvalidArgument: cells that hold something else, such as a public sample's counts.
        """
        (measure,) = self.measures(schema)
        cells = opened.cells(measure)
        order = np.argsort(np.where(cells > 0, cells, np.inf), axis=1, kind="stable")[:, : self.k]
        expected = np.zeros(cells.shape, np.int64)
        np.put_along_axis(expected, order, np.arange(1, self.k + 1)[None], axis=1)
        if not np.array_equal(cells, expected):
            raise InvalidArgument("cells", self.name, "no choice was made of these counts: leave it out where none is")
        labels = np.array([str(value) for value in self.values], object)[order]
        place = np.tile(np.arange(1, self.k + 1), (len(cells), 1))
        none = np.full(place.shape, np.nan)
        return Ranking(place, none, none, none, labels)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        (measure,) = self.measures(schema)
        like = noise(measure, 1.0).mechanism
        assert isinstance(like, DiscreteLaplace)
        return ExpectedError(shortfall(like.scale, len(self.values), self.k, confidence), of="shortfall")
