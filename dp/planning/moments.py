"""Aggregates of several columns together: sufficient statistics of a regression, and the covariance matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.aggregates import Aggregate, ColumnType, Estimate, ExpectedError, NoiseOf, Opened, Schema
from dp.planning.facts import PublicFacts
from dp.planning.fixed_point import FixedPoint
from dp.planning.measures import Measure
from dp.planning.sum_measures import Moments
from dp.planning.sums import declared_bounds

__all__ = ["Covariance", "SufficientStatistics"]

Reals = NDArray[np.float64]
Bounds = tuple[Fraction | None, Fraction | None]


@dataclass(frozen=True, kw_only=True)
class _OfColumns(Aggregate):
    """An aggregate of clamped columns, over the rows in which none of them is missing.

    Attributes:
        columns: their names.
        bounds: a pair for each.
    """

    columns: tuple[str, ...]
    bounds: tuple[Bounds, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return self.columns

    def unbounded(self, facts: PublicFacts) -> tuple[str, ...]:
        pairs = zip(self.columns, self.bounds, strict=True)
        return tuple(column for column, (lower, _) in pairs if lower is None and column not in facts.bounds)

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        super().resolve(facts, columns)
        pairs = zip(self.columns, self.bounds, strict=True)
        return replace(self, bounds=tuple(declared_bounds(column, *bounds, facts) for column, bounds in pairs))

    def _moments(self, schema: Schema) -> tuple[Moments, ...]:
        encodings = self._encodings(schema)
        return tuple(Moments(self.columns, encodings, order) for order in (0, 1, 2))

    def shares(self, schema: Schema) -> dict[Measure, Fraction]:
        """Products have the widest sensitivity, and a share to match."""
        return {measure: self.share * (2 if measure.order == 2 else 1) for measure in self._moments(schema)}

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return self._moments(schema)

    def _encodings(self, schema: Schema) -> tuple[FixedPoint, ...]:
        """Encodings of about the same reach, whatever the columns' units: products share one noise."""
        encodings = []
        for lower, upper in self.bounds:
            assert lower is not None  # since `resolve`
            assert upper is not None
            encodings.append(FixedPoint.squarable(lower, upper, integral=False, bits=schema.square_bits))
        return tuple(encodings)


@dataclass(frozen=True, kw_only=True)
class SufficientStatistics(_OfColumns):
    """The number of rows, the sum of each column, and the sum of x_i x_j of each pair i <= j; a list in this order."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        parts = [self._linear(schema, product) for product in self._products()]
        values, spread, reach = [], [], []
        for terms in parts:
            noise = Noise(tuple(opened.noise(measure, factor) for (measure, _), factor in terms.items()))
            cells = [opened.cells(measure)[:, cell] * factor for (measure, cell), factor in terms.items()]
            values.append(np.sum(cells, axis=0, dtype=np.float64))
            spread.append(noise.stddev)
            reach.append(noise.quantile(opened.confidence))
        shown = np.stack(values, axis=1)
        names = ["*".join(self.columns[i] for i in product) or "rows" for product in self._products()]
        labels = np.array(names, object)
        return Estimate(shown, np.broadcast_to(spread, shown.shape), shown - reach, shown + reach, labels)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        terms = self._linear(schema, self._products()[-1])
        combined = Noise(tuple(noise(measure, factor) for (measure, _), factor in terms.items()))
        return ExpectedError(combined.quantile(confidence))

    def _products(self) -> list[tuple[int, ...]]:
        positions = range(len(self.columns))
        return [product for order in (0, 1, 2) for product in combinations_with_replacement(positions, order)]

    def _linear(self, schema: Schema, product: tuple[int, ...]) -> dict[tuple[Moments, int], float]:
        """A sum of products as a sum of cells: (measure, cell) -> factor.

        With x = u (e + c), e the encoded value and c the centre: sums of x_i x_j are
        u_i u_j (sum e_i e_j + c_i sum e_j + c_j sum e_i + c_i c_j n), and cells lack `Moments.middle` a row.
        """
        count, first, second = self.measures(schema)
        assert isinstance(count, Moments)
        assert isinstance(first, Moments)
        assert isinstance(second, Moments)
        encodings = self._encodings(schema)
        unit = float(np.prod([float(encodings[i].unit) for i in product]))
        if not product:
            return {(count, 0): 1.0}
        if len(product) == 1:
            return {(first, product[0]): unit, (count, 0): unit * encodings[product[0]].centre}
        i, j = product
        of_i, of_j = encodings[i].centre, encodings[j].centre
        rows = float(of_i * of_j + second.middle(product)) * unit
        terms: dict[tuple[Moments, int], float] = {(second, second.products.index(product)): unit, (count, 0): rows}
        for column, centre in ((i, of_j), (j, of_i)):
            terms[first, column] = terms.get((first, column), 0.0) + unit * centre
        return terms


@dataclass(frozen=True, kw_only=True)
class Covariance(_OfColumns):
    """The population covariance matrix of the columns: d x d numbers, row by row."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        count, first, second = self.measures(schema)
        assert isinstance(second, Moments)
        encodings, size = self._encodings(schema), len(self.columns)
        units = np.array([float(encoding.unit) for encoding in encodings])
        halves = np.array([encoding.greatest for encoding in encodings]) * units
        rows = np.maximum(opened.cells(count)[:, 0].astype(np.float64), 1.0)
        means = opened.cells(first) * units / rows[:, None]
        values = np.empty((len(rows), size, size))
        errors = np.empty_like(values)
        noise_of = [opened.noise(measure, 1.0) for measure in (count, first, second)]
        for cell, (i, j) in enumerate(second.products):
            scale, middle = units[i] * units[j], second.middle((i, j)) * units[i] * units[j]
            moment = opened.cells(second)[:, cell] * scale / rows
            values[:, i, j] = values[:, j, i] = moment + middle - means[:, i] * means[:, j]
            slopes = (moment - 2 * means[:, i] * means[:, j], means[:, j] * units[i], means[:, i] * units[j], scale)
            errors[:, i, j] = errors[:, j, i] = _spread(slopes, noise_of) / rows
        greatest = np.outer(halves, halves)
        values, errors = np.clip(values, -greatest, greatest), np.minimum(errors, 2 * greatest)
        shape = (len(rows), size * size)
        reach = Noise((noise_of[0],)).quantile(opened.confidence) / max(Noise((noise_of[0],)).stddev, 1e-300)
        low, high = values - reach * errors, values + reach * errors
        labels = np.array([f"{one}, {other}" for one in self.columns for other in self.columns], object)
        return Estimate(values.reshape(shape), errors.reshape(shape), low.reshape(shape), high.reshape(shape), labels)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        """Of the entry with the widest columns, for values around the middle of their bounds."""
        second, unit = self.measures(schema)[-1], max(float(encoding.unit) for encoding in self._encodings(schema))
        return ExpectedError(Noise((noise(second, unit**2),)).quantile(confidence), per_row=True)


def _spread(slopes: tuple[Reals, Reals, Reals, float], noise_of: list[NoiseTerm]) -> Reals:
    """The standard deviation of a moment's error, to first order, times the number of rows."""
    of_count, of_first, of_second = (Noise((term,)).stddev for term in noise_of)
    of_rows, of_i, of_j, of_product = slopes
    return np.asarray(
        np.sqrt((of_rows * of_count) ** 2 + (of_i**2 + of_j**2) * of_first**2 + (of_product * of_second) ** 2)
    )
