"""Aggregates that add up clamped columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np

from dp.errors import InvalidArgument
from dp.noise.accuracy import Noise
from dp.planning.aggregates import (
    Aggregate,
    Clamp,
    ColumnType,
    Estimate,
    ExpectedError,
    NoiseOf,
    Opened,
    Schema,
    linear,
)
from dp.planning.cells import Norm
from dp.planning.facts import PublicFacts
from dp.planning.fixed_point import FixedPoint
from dp.planning.measures import Measure, Present, Rows
from dp.planning.sum_measures import Total, UnitTotals, Vectors

__all__ = ["Clamped", "Sum", "UnitSum", "VectorSum", "declared_bounds"]


def declared_bounds(
    column: str, lower: Fraction | None, upper: Fraction | None, facts: PublicFacts
) -> tuple[Fraction, Fraction]:
    """The bounds given, or else those that the table declares.

    Raises:
        InvalidArgument: there are none.
    """
    if lower is not None and upper is not None:
        return lower, upper
    if column not in facts.bounds:
        remedy = f"give {column!r} a lower and an upper bound, here or as a declared fact of the table"
        raise InvalidArgument("bounds", None, remedy)
    return facts.bounds[column]


@dataclass(frozen=True, kw_only=True)
class Clamped(Aggregate):
    """An aggregate of a column of which every row's value is clamped."""

    column: str
    lower: Fraction | None
    upper: Fraction | None
    missing: Fraction | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def clamp(self) -> Clamp:
        """What makes two clamped columns the same."""
        return (self.column, self.lower, self.upper, self.missing)

    def unbounded(self, facts: PublicFacts) -> tuple[str, ...]:
        return (self.column,) if self.lower is None and self.column not in facts.bounds else ()

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        super().resolve(facts, columns)
        lower, upper = declared_bounds(self.column, self.lower, self.upper, facts)
        FixedPoint.plan(lower, upper, integral=columns[self.column].integral, centred=True)  # refuses what none holds
        return replace(self, lower=lower, upper=upper)

    def encoding(self, schema: Schema) -> FixedPoint:
        """The encoding that all aggregates of the query share for this clamped column."""
        assert self.lower is not None  # since `resolve`
        assert self.upper is not None
        integral, demanded = schema.columns[self.column].integral, schema.demanded(self.clamp)
        if "squared" in demanded:
            return FixedPoint.squarable(self.lower, self.upper, integral=integral, bits=schema.square_bits)
        return FixedPoint.plan(self.lower, self.upper, integral=integral, centred="centred" in demanded)

    def total(self, schema: Schema) -> Total:
        """The measure of its sum."""
        return Total(self.column, self.encoding(schema), self.missing)

    def present(self, schema: Schema) -> Measure:
        """The measure of how many rows are in that sum."""
        kind = schema.columns[self.column]
        always = self.missing is not None or (kind.integral and not kind.nullable)
        return Rows() if always else Present(self.column, kind.integral)


@dataclass(frozen=True, kw_only=True)
class Sum(Clamped):
    """The sum of a column, every row's value clamped to the bounds."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return tuple(measure for measure, _ in self._coefficients(schema))

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        parts = self._coefficients(schema)
        values = np.sum([opened.cells(measure) * coefficient for measure, coefficient in parts], axis=0)
        return linear(values, [opened.noise(*part) for part in parts], opened.confidence)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        return ExpectedError(Noise(tuple(noise(*part) for part in self._coefficients(schema))).quantile(confidence))

    def _coefficients(self, schema: Schema) -> list[tuple[Measure, float]]:
        total = self.total(schema)
        terms: list[tuple[Measure, float]] = [(total, float(total.encoding.unit))]
        if schema.demanded(self.clamp):  # a sum from the middle of the bounds lacks the middle, once a row
            terms.append((self.present(schema), float(total.encoding.centre_value)))
        return terms


@dataclass(frozen=True, kw_only=True)
class UnitSum(Aggregate):
    """The sum over units of each one's total in the group, that total clamped to the bounds."""

    column: str
    lower: Fraction | None
    upper: Fraction | None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        super().resolve(facts, columns)
        if self.lower is None or self.upper is None:
            remedy = "give the least and the greatest total of one unit in one group; declared bounds are those of rows"
            raise InvalidArgument("bounds", None, remedy)
        FixedPoint.plan(self.lower, self.upper, integral=columns[self.column].integral, centred=False)
        return self

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self._totals(schema),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        totals = self._totals(schema)
        unit = float(totals.encoding.unit)
        return linear(
            np.asarray(opened.cells(totals) * unit, np.float64), [opened.noise(totals, unit)], opened.confidence
        )

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        totals = self._totals(schema)
        return ExpectedError(Noise((noise(totals, float(totals.encoding.unit)),)).quantile(confidence))

    def _totals(self, schema: Schema) -> UnitTotals:
        assert self.lower is not None  # since `resolve`
        assert self.upper is not None
        integral = schema.columns[self.column].integral
        return UnitTotals(self.column, FixedPoint.plan(self.lower, self.upper, integral=integral, centred=False))


@dataclass(frozen=True, kw_only=True)
class VectorSum(Aggregate):
    """The sum of rows' vectors, every row's vector shrunk to a norm of at most `bound`."""

    columns: tuple[str, ...]
    norm: Norm
    bound: Fraction

    @property
    def sources(self) -> tuple[str, ...]:
        return self.columns

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self._vectors(),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        vectors = self._vectors()
        unit = float(vectors.encoding.unit)
        values = np.asarray(opened.cells(vectors) * unit, np.float64)
        summed = linear(values, [opened.noise(vectors, unit)], opened.confidence)
        return replace(summed, labels=np.array(self.columns, object))

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        vectors = self._vectors()
        return ExpectedError(Noise((noise(vectors, float(vectors.encoding.unit)),)).quantile(confidence))

    def _vectors(self) -> Vectors:
        encoding = FixedPoint.plan(-self.bound, self.bound, integral=False, centred=False)
        return Vectors(self.columns, encoding, self.norm, min(int(self.bound / encoding.unit), encoding.upper))
