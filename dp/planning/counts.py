"""Aggregates that count: rows, units, different values, rows per bin, the most frequent values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Self

import numpy as np

from dp.errors import InvalidArgument
from dp.noise.accuracy import Noise
from dp.planning.aggregates import ColumnType, Estimate, ExpectedError, NoiseOf, Numbers, OneMeasure, Opened, Schema
from dp.planning.bin_measures import Bins, Distinct, Items
from dp.planning.facts import PublicFacts
from dp.planning.fixed_point import GREATEST_REAL
from dp.planning.measures import Measure, Rows, Sizes, Truncation, Units

__all__ = ["Count", "CountDistinct", "CountUnits", "Histogram", "TopK", "TruncatedShare", "UnitSizeHistogram"]


@dataclass(frozen=True, kw_only=True)
class Count(OneMeasure):
    """The number of rows of a group."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Rows(),)


@dataclass(frozen=True, kw_only=True)
class CountUnits(OneMeasure):
    """The number of privacy units of a group."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Units(),)


@dataclass(frozen=True, kw_only=True)
class UnitSizeHistogram(OneMeasure):
    """Units by their number of rows in a group, in powers of two."""

    bins: int

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Sizes(self.bins),)


@dataclass(frozen=True, kw_only=True)
class CountDistinct(OneMeasure):
    """The number of different values of a column."""

    column: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def numeric(self) -> bool:
        return False

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        kind = schema.columns[self.column]
        return (Distinct(self.column, real=kind.numeric and not kind.integral),)


@dataclass(frozen=True, kw_only=True)
class Histogram(OneMeasure):
    """Rows per bin of a column."""

    column: str
    edges: tuple[Fraction, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,)

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

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        """Counts with their bins: "[0, 10)", the outermost ones being open to the side."""
        inner = [f"[{float(low):g}, {float(high):g})" for low, high in pairwise(self.edges)]
        first, last = f"below {float(self.edges[1]):g}", f"{float(self.edges[-2]):g} and above"
        labels = ["all"] if len(inner) == 1 else [first, *inner[1:-1], last]
        return replace(super().estimate(schema, opened), labels=np.array(labels, object))


@dataclass(frozen=True, kw_only=True)
class TopK(OneMeasure):
    """The most frequent ones of a public list of values: all are counted with noise, the highest are shown."""

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
        return (Items(self.column, self.values),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        (measure,) = self.measures(schema)
        counts = opened.cells(measure)
        order = np.argsort(-counts, axis=1, kind="stable")[:, : self.k]
        shown: Numbers = counts[np.arange(len(counts))[:, None], order]
        # the highest of many noisy counts: their intervals hold for all candidates at once
        noise = Noise((opened.noise(measure, 1.0),))
        reach = noise.quantile(min(1 - (1 - opened.confidence) / len(self.values), 1 - 1e-9))
        labels = np.array([str(value) for value in self.values], object)[order]
        real = shown.astype(np.float64)
        return Estimate(shown, np.full(shown.shape, noise.stddev), real - reach, real + reach, labels)


@dataclass(frozen=True, kw_only=True)
class TruncatedShare(OneMeasure):
    """The share of all units from which bounding took rows; the same number in every group."""

    def measures(self, schema: Schema) -> tuple[Measure, ...]:
        return (Truncation(),)

    def estimate(self, schema: Schema, opened: Opened) -> Estimate:
        (measure,) = self.measures(schema)
        truncated, units = opened.cells(measure).astype(np.float64)
        noise = Noise((opened.noise(measure, 1.0),))
        reach = noise.quantile(1 - (1 - opened.confidence) / 2)  # of either count; both hold together
        share, spread = np.clip(truncated / max(units, 1.0), 0, 1), noise.stddev / max(units, 1.0)
        low = max(truncated - reach, 0.0) / max(units + reach, 1.0)
        high = max(truncated + reach, 0.0) / max(units - reach, 1.0)
        ends = (share, min(spread * np.hypot(1, share), 1.0), min(low, share), min(max(high, share), 1.0))
        return Estimate(*(np.full(opened.groups, end) for end in ends))

    def expected_error(self, schema: Schema, noise: NoiseOf, confidence: float) -> ExpectedError:
        (measure,) = self.measures(schema)
        return ExpectedError(Noise((noise(measure, 1.0),)).quantile(confidence), per_row=True)
