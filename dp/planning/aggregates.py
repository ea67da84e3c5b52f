"""What an aggregate is: what an analyst asks for, which measures it needs, how it is computed from noised measures.

The aggregates themselves stand beside this file: counts, sums, means, moments, quantiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.facts import PublicFacts
from dp.planning.measures import Measure

__all__ = [
    "Aggregate",
    "Clamp",
    "ColumnType",
    "Demand",
    "Estimate",
    "ExpectedError",
    "NoiseOf",
    "Numbers",
    "OneMeasure",
    "Opened",
    "Schema",
    "linear",
]

Clamp = tuple[str, Fraction | None, Fraction | None, Fraction | None]
"""A column, its bounds, and the value that a missing one counts as."""

Demand = Literal["centred", "squared"]
"""What an aggregate needs of a clamped column's encoding; aggregates that clamp alike share one."""


@dataclass(frozen=True)
class ColumnType:
    """What a plan knows of a column.

    Attributes:
        integral: its type is an integer type.
        nullable: a value can be NULL.
        numeric: it is a number at all.
    """

    integral: bool
    nullable: bool
    numeric: bool = True


@dataclass(frozen=True)
class Schema:
    """What an aggregate may know when it chooses its measures.

    Attributes:
        columns: columns by name.
        demands: what the query's aggregates together need of each clamped column's encoding.
        square_bits: encoded values that are squared stay below 2^square_bits, so that no sum of squares wraps.
        groups: how many groups there are; None where keys are private.
        noise_norm: 1 where noise follows L1 sensitivities (Laplace), 2 where it follows L2 (Gaussian).
    """

    columns: Mapping[str, ColumnType]
    demands: Mapping[Clamp, frozenset[Demand]] = field(default_factory=lambda: MappingProxyType({}))
    square_bits: int = 20
    groups: int | None = 1
    noise_norm: Literal[1, 2] = 1

    def demanded(self, clamp: Clamp) -> frozenset[Demand]:
        """What is needed of the encoding of this clamped column."""
        return self.demands.get(clamp, frozenset())


Numbers = NDArray[np.int64] | NDArray[np.float64]

NoiseOf = Callable[[Measure, float], NoiseTerm]
"""A measure's noise in the released cells, with a coefficient, as a term of a sum."""


@dataclass(frozen=True)
class Opened:
    """Opened (noised) cells by measure, and the noise that they carry.

    Attributes:
        groups: how many groups there are.
        cells: a measure's cells, integers but for totals that were made consistent;
            shape (groups, *measure.shape), but for what is not counted by group.
        noise: a measure's noise with a coefficient, as a term of a sum.
        confidence: of every interval, such as 0.95.
    """

    groups: int
    cells: Callable[[Measure], Numbers]
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
        labels: what each value belongs to, as text: of shape (bins,) where it is the same in every group, or, where it
            is part of the answer, of the values' shape.
    """

    values: Numbers
    stddev: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    labels: NDArray[np.object_] | None = None


@dataclass(frozen=True)
class ExpectedError:
    """How far a released value will be from the clamped truth, known before any row is read.

    Attributes:
        half_width: of the interval.
        per_row: it is to be divided by the (unknown) number of rows of the group, as a mean's is.
        of: what it is the error of, where not of the value itself: its square, or its rank; or the shortfall of a
            choice: how far the value chosen may trail a better one.
    """

    half_width: float
    per_row: bool = False
    of: Literal["value", "square", "rank", "shortfall"] = "value"


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
    def sources(self) -> tuple[str, ...]:
        """The columns that are read."""
        return ()

    @property
    def numeric(self) -> bool:
        """Whether the columns that are read must be numbers."""
        return True

    def unbounded(self, facts: PublicFacts) -> tuple[str, ...]:
        """The columns that need bounds and have none, neither here nor declared."""
        return ()

    @property
    def demands(self) -> Mapping[Clamp, frozenset[Demand]]:
        """What it needs of the encodings of clamped columns."""
        return {}

    def resolve(self, facts: PublicFacts, columns: Mapping[str, ColumnType]) -> Self:
        """The aggregate with its bounds filled in from the declared facts, checked against the schema.

        Raises:
            InvalidArgument: no such column, a column that is not numeric, or no bounds anywhere.
        """
        _ = facts
        usable = sorted(name for name, kind in columns.items() if kind.numeric or not self.numeric)
        for source in self.sources:
            if source not in usable:
                kind = "numeric column" if self.numeric else "column that can be read"
                raise InvalidArgument("column", source, f"no such {kind}; there are {usable}")
        return self

    @abstractmethod
    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        """The measures that it is computed from."""

    def shares(self, schema: Schema) -> Mapping[Measure, Fraction]:
        """The relative shares of the budget that its measures ask for."""
        return dict.fromkeys(self.measures(schema), self.share)

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


def linear(values: Numbers, terms: list[NoiseTerm], confidence: float) -> Estimate:
    """Values that carry this sum of noise, each with its interval."""
    noise = Noise(tuple(terms))
    reach, real = noise.quantile(confidence), values.astype(np.float64)
    return Estimate(values, np.full(values.shape, noise.stddev), real - reach, real + reach)


class OneMeasure(Aggregate):
    """An aggregate that is one measure as it stands."""

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        (measure,) = self.measures(schema)
        return linear(opened.cells(measure), [opened.noise(measure, 1.0)], opened.confidence)

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        (measure,) = self.measures(schema)
        return ExpectedError(Noise((noise(measure, 1.0),)).quantile(confidence))


def _public(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple):
        return [_public(item) for item in value]
    return value
