"""Aggregates: what an analyst asks for, which measures it needs, and how it is computed from noised measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.noise.accuracy import Noise, NoiseTerm, ratio_interval
from dp.planning.facts import PublicFacts
from dp.planning.fixed_point import GREATEST_REAL, FixedPoint
from dp.planning.measures import Bins, Measure, Present, Rows, Total, Units

__all__ = [
    "Aggregate",
    "ColumnType",
    "Count",
    "CountUnits",
    "Estimate",
    "ExpectedError",
    "Histogram",
    "Mean",
    "Opened",
    "Schema",
    "Sum",
]


@dataclass(frozen=True)
class ColumnType:
    """What a plan knows of a column: whether its type is an integer type, and whether a value can be missing."""

    integral: bool
    nullable: bool


@dataclass(frozen=True)
class Schema:
    """What an aggregate may know when it chooses its measures.

    Attributes:
        columns: numeric columns by name.
        centred: the clamped columns whose sum is taken from the middle of the bounds, because a mean needs it so.
    """

    columns: Mapping[str, ColumnType]
    centred: frozenset[tuple[object, ...]] = frozenset()


NoiseOf = Callable[[Measure, float], NoiseTerm]
"""A measure's noise in the released cells, with a coefficient, as a term of a sum."""


@dataclass(frozen=True)
class Opened:
    """Opened (noised) cells by measure, and the noise that they carry.

    Attributes:
        cells: a measure's cells, int64; shape (groups,) or (groups, width).
        noise: a measure's noise with a coefficient, as a term of a sum.
        confidence: of every interval, such as 0.95.
    """

    cells: Callable[[Measure], NDArray[np.int64]]
    noise: NoiseOf
    confidence: float


@dataclass(frozen=True)
class Estimate:
    """One aggregate's released values with their accuracy; arrays of shape (groups,) or (groups, bins).

    Attributes:
        values: what is released; int64 for counts, float64 for the rest.
        stddev: standard deviation of the noise, given the released values.
        lower: lower end of the interval, which covers noise only: neither clamping nor rows that bounding dropped.
        upper: upper end of it.
    """

    values: NDArray[np.int64] | NDArray[np.float64]
    stddev: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedError:
    """How far a released value will be from the clamped truth, known before any row is read.

    Attributes:
        half_width: of the interval.
        per_row: it is to be divided by the (unknown) number of rows of the group, as a mean's is.
    """

    half_width: float
    per_row: bool = False


@dataclass(frozen=True, kw_only=True)
class Aggregate(ABC):
    """One column of the answer.

    Attributes:
        name: its column name; see `alias`.
        share: its relative share of the query's budget; see `weight`.
    """

    name: str
    share: Fraction = Fraction(1)

    def alias(self, name: str) -> Self:
        """The same aggregate under another column name.

        Raises:
            InvalidArgument: not a plain name.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidArgument("alias", name, "give a column name of letters, digits and underscores")
        return replace(self, name=name)

    def weight(self, share: Exact) -> Self:
        """The same aggregate with another relative share of the budget (default 1).

        Args:
            share: > 0. Aggregates that need the same measure share its noise; the greatest of their shares counts.

        Raises:
            InvalidArgument: a share that is not positive.
        """
        exact = rational(share, "weight")
        if exact <= 0:
            raise InvalidArgument("weight", share, "a share of the budget is positive")
        return replace(self, share=exact)

    @property
    def source(self) -> str | None:
        """The column that is read, or None."""
        return None

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        """The aggregate with its bounds filled in from the declared facts, checked against the schema.

        Raises:
            InvalidArgument: no such column, a column that is not numeric, or no bounds anywhere.
        """
        _ = facts
        if self.source is not None and self.source not in columns:
            raise InvalidArgument("column", self.source, f"no such numeric column; there are {sorted(columns)}")
        return self

    @abstractmethod
    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        """The measures that it is computed from."""

    @abstractmethod
    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        """Its released values, from opened measures alone."""

    @abstractmethod
    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        """The half width of its interval at this confidence."""

    def to_json(self) -> dict[str, object]:
        """The aggregate as public plan fields."""
        shown = {key: _public(value) for key, value in vars(self).items()}
        return {"aggregate": type(self).__name__, **shown}


def _linear(values: NDArray[np.int64] | NDArray[np.float64], terms: list[NoiseTerm], confidence: float) -> Estimate:
    noise = Noise(tuple(terms))
    reach, real = noise.quantile(confidence), values.astype(np.float64)
    return Estimate(values, np.full(values.shape, noise.stddev), real - reach, real + reach)


class _CellCount(Aggregate):
    """An aggregate that is one measure as it stands."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        (measure,) = self.measures(schema)
        return _linear(opened.cells(measure), [opened.noise(measure, 1.0)], opened.confidence)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        (measure,) = self.measures(schema)
        return ExpectedError(Noise((noise(measure, 1.0),)).quantile(confidence))


@dataclass(frozen=True, kw_only=True)
class Count(_CellCount):
    """The number of rows of a group."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Rows(),)


@dataclass(frozen=True, kw_only=True)
class CountUnits(_CellCount):
    """The number of privacy units of a group."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Units(),)


@dataclass(frozen=True, kw_only=True)
class Histogram(_CellCount):
    """Rows per bin of a column."""

    column: str
    edges: tuple[Fraction, ...]

    @property
    def source(self) -> str | None:
        return self.column

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        resolved = super().resolve(facts, columns)
        greatest = 2**62 if columns[self.column].integral else GREATEST_REAL
        for edge in self.edges:
            if abs(edge) > greatest:
                remedy = "edges stay within 2^62 for integer columns, within 2^256 for others"
                raise InvalidArgument("edges", str(edge), remedy)
        return resolved

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Bins(self.column, self.edges, schema.columns[self.column].integral),)


@dataclass(frozen=True, kw_only=True)
class _Bounded(Aggregate):
    """An aggregate of a clamped column."""

    column: str
    lower: Fraction | None
    upper: Fraction | None
    missing: Fraction | None = None

    @property
    def source(self) -> str | None:
        return self.column

    @property
    def clamped(self) -> tuple[object, ...]:
        """What makes two sums the same: column, bounds, and what a missing value counts as."""
        return (self.column, self.lower, self.upper, self.missing)

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        super().resolve(facts, columns)
        resolved = self
        if self.lower is None or self.upper is None:
            if self.column not in facts.bounds:
                remedy = f"give {self.column!r} a lower and an upper bound, here or as a declared fact of the table"
                raise InvalidArgument("bounds", None, remedy)
            lower, upper = facts.bounds[self.column]
            resolved = replace(self, lower=lower, upper=upper)
        resolved._total(Schema(columns), centred=True)  # bounds that no encoding holds are refused here
        return resolved

    def _total(self, schema: Schema, *, centred: bool) -> Total:
        if self.lower is None or self.upper is None:
            raise InvalidArgument("bounds", None, f"{self.column!r} needs a lower and an upper bound")
        integral = schema.columns[self.column].integral
        encoding = FixedPoint.plan(self.lower, self.upper, integral=integral, centred=centred)
        return Total(self.column, encoding, self.missing)

    def _present(self, schema: Schema) -> Measure:
        kind = schema.columns[self.column]
        always = self.missing is not None or (kind.integral and not kind.nullable)
        return Rows() if always else Present(self.column, kind.integral)


@dataclass(frozen=True, kw_only=True)
class Sum(_Bounded):
    """The sum of a column, every row's value clamped to the bounds."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        if self.clamped not in schema.centred:
            return (self._total(schema, centred=False),)
        return (self._total(schema, centred=True), self._present(schema))

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        parts = self._coefficients(schema)
        values = np.sum([opened.cells(measure) * coefficient for measure, coefficient in parts], axis=0)
        return _linear(values, [opened.noise(*part) for part in parts], opened.confidence)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        return ExpectedError(Noise(tuple(noise(*part) for part in self._coefficients(schema))).quantile(confidence))

    def _coefficients(self, schema: Schema) -> list[tuple[Measure, float]]:
        total, *counted = self.measures(schema)
        assert isinstance(total, Total)
        # a sum from the middle of the bounds lacks the middle, once a row
        centre = [(rows, float(total.encoding.centre_value)) for rows in counted]
        return [(total, float(total.encoding.unit)), *centre]


@dataclass(frozen=True, kw_only=True)
class Mean(_Bounded):
    """The mean of a column over its non-missing rows, every row's value clamped to the bounds."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (self._total(schema, centred=True), self._present(schema))

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        total, rows = self._total(schema, centred=True), self._present(schema)
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
        total, rows = self._total(schema, centred=True), self._present(schema)
        unit = float(total.encoding.unit)
        worst = total.encoding.greatest * unit  # the mean is this far from the middle of the bounds, or nearer
        return ExpectedError(Noise((noise(total, unit), noise(rows, worst))).quantile(confidence), per_row=True)


def _public(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple):
        return [_public(item) for item in value]
    return value
