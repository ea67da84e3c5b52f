"""Means, variances and standard deviations: functions of noisy sums and counts.

Everything is counted from the middle of the bounds, a public constant: no rounded mean enters a sum of squares.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dp.noise.accuracy import Noise, ratio_interval
from dp.planning.aggregates import Clamp, Demand, Estimate, ExpectedError, NoiseOf, Opened, Schema
from dp.planning.measures import Measure
from dp.planning.sum_measures import Squares
from dp.planning.sums import Clamped

__all__ = ["Mean", "Stddev", "Variance"]

Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mean(Clamped):
    """The mean of a column over its non-missing rows, every row's value clamped to the bounds."""

    @property
    def demands(self) -> Mapping[Clamp, frozenset[Demand]]:
        return {self.clamp: frozenset(["centred"])}

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self.total(schema), self.present(schema))

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        total, rows = self.total(schema), self.present(schema)
        encoding = total.encoding
        unit, centre = float(encoding.unit), float(encoding.centre_value)
        low, high = encoding.lower * unit, encoding.upper * unit
        sums, counts = opened.cells(total) * unit, opened.cells(rows).astype(np.float64)
        values = np.clip(centre + sums / np.maximum(counts, 1.0), low, high)
        sum_noise, count_noise = Noise((opened.noise(total, unit),)), Noise((opened.noise(rows, 1.0),))
        lower, upper = ratio_interval(
            sums,
            counts,
            numerator_noise=sum_noise,
            denominator_noise=count_noise,
            centre=centre,
            lower=low,
            upper=high,
            confidence=opened.confidence,
        )
        spread = np.hypot(sum_noise.stddev, (values - centre) * count_noise.stddev)
        stddev = np.minimum(spread / np.maximum(counts, 1.0), high - low)
        return Estimate(values, stddev, np.minimum(lower, values), np.maximum(upper, values))

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        total, rows = self.total(schema), self.present(schema)
        unit = float(total.encoding.unit)
        worst = total.encoding.greatest * unit  # the mean is this far from the middle of the bounds, or nearer
        return ExpectedError(Noise((noise(total, unit), noise(rows, worst))).quantile(confidence), per_row=True)


@dataclass(frozen=True)
class _SecondMoments:
    """Noisy sums of x - c and (x - c)^2 - k over noisy counts, in the column's unit.

    Attributes:
        sums: of x - c, one a group.
        squares: of (x - c)^2 - k.
        counts: of rows.
        middle: k.
        reach: the greatest |x - c|.
        spread: half the distance between the bounds, the greatest standard deviation.
        noise: of the three, in this order.
    """

    sums: Reals
    squares: Reals
    counts: Reals
    middle: float
    reach: float
    spread: float
    noise: tuple[Noise, Noise, Noise]

    def variance(self) -> Reals:
        """The plug-in estimate, within what the bounds allow."""
        rows = np.maximum(self.counts, 1.0)
        return np.clip(self.middle + self.squares / rows - (self.sums / rows) ** 2, 0, self.spread**2)

    def stddev_of_variance(self) -> Reals:
        """Of the estimate's noise, to first order."""
        rows = np.maximum(self.counts, 1.0)
        mean = np.clip(self.sums / rows, -self.reach, self.reach)
        of_sums, of_squares, of_counts = (noise.stddev for noise in self.noise)
        slope = 2 * mean**2 - np.clip(self.squares / rows, -self.middle, self.middle)
        spread = np.sqrt(of_squares**2 + (2 * mean * of_sums) ** 2 + (slope * of_counts) ** 2)
        return np.minimum(spread / rows, self.spread**2)

    def interval(self, confidence: float) -> tuple[Reals, Reals]:
        """Of the variance: from intervals of both moments that hold together."""
        each = 1 - (1 - confidence) / 2
        of_sums, of_squares, of_counts = self.noise
        first = ratio_interval(
            self.sums,
            self.counts,
            numerator_noise=of_sums,
            denominator_noise=of_counts,
            centre=0.0,
            lower=-self.reach,
            upper=self.reach,
            confidence=each,
        )
        second = ratio_interval(
            self.squares,
            self.counts,
            numerator_noise=of_squares,
            denominator_noise=of_counts,
            centre=self.middle,
            lower=0.0,
            upper=self.reach**2,
            confidence=each,
        )
        ends = np.abs(np.stack(first))
        least = np.where((first[0] <= 0) & (first[1] >= 0), 0.0, ends.min(axis=0))
        low = np.clip(second[0] - ends.max(axis=0) ** 2, 0, self.spread**2)
        return low, np.clip(second[1] - least**2, 0, self.spread**2)


class _Spread(Clamped):
    """An aggregate of the first two moments."""

    @property
    def demands(self) -> Mapping[Clamp, frozenset[Demand]]:
        return {self.clamp: frozenset(["centred", "squared"])}

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        total = self.total(schema)
        return (total, Squares(self.column, total.encoding, self.missing), self.present(schema))

    def _moments(self, schema: Schema, opened: Opened) -> _SecondMoments:
        total, squares, rows = self.measures(schema)
        encoding = self.encoding(schema)
        assert isinstance(squares, Squares)
        unit = float(encoding.unit)
        return _SecondMoments(
            sums=np.asarray(opened.cells(total) * unit, np.float64),
            squares=np.asarray(opened.cells(squares) * unit**2, np.float64),
            counts=opened.cells(rows).astype(np.float64),
            middle=squares.middle * unit**2,
            reach=encoding.greatest * unit,
            spread=(encoding.upper - encoding.lower) * unit / 2,
            noise=(
                Noise((opened.noise(total, unit),)),
                Noise((opened.noise(squares, unit**2),)),
                Noise((opened.noise(rows, 1.0),)),
            ),
        )

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        """For a column whose values are around the middle of the bounds."""
        _total, squares, rows = self.measures(schema)
        assert isinstance(squares, Squares)
        unit = float(self.encoding(schema).unit)
        terms = (noise(squares, unit**2), noise(rows, squares.middle * unit**2))
        return self._expected(Noise(terms).quantile(confidence))

    @abstractmethod
    def _expected(self, of_variance: float) -> ExpectedError: ...


@dataclass(frozen=True, kw_only=True)
class Variance(_Spread):
    """The population variance of a column over its non-missing rows, every row's value clamped to the bounds."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        moments = self._moments(schema, opened)
        values, (lower, upper) = moments.variance(), moments.interval(opened.confidence)
        return Estimate(values, moments.stddev_of_variance(), np.minimum(lower, values), np.maximum(upper, values))

    def _expected(self, of_variance: float) -> ExpectedError:
        return ExpectedError(of_variance, per_row=True)


@dataclass(frozen=True, kw_only=True)
class Stddev(_Spread):
    """The population standard deviation of a column: the root of its noisy variance."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        moments = self._moments(schema, opened)
        values, (lower, upper) = np.sqrt(moments.variance()), moments.interval(opened.confidence)
        # to first order where the root is smooth; near zero the root of the variance's own error
        of_variance = moments.stddev_of_variance()
        stddev = np.minimum(of_variance / np.maximum(2 * values, np.sqrt(of_variance)), moments.spread)
        return Estimate(values, stddev, np.minimum(np.sqrt(lower), values), np.maximum(np.sqrt(upper), values))

    def _expected(self, of_variance: float) -> ExpectedError:
        return ExpectedError(of_variance, per_row=True, of="square")
