"""A query as a value: everything about it that is public, checked once, before any row is read."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate, Clamp, ColumnType, Demand, Schema
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import Key, PublicFacts
from dp.planning.keys import Group, PrivateKeys
from dp.planning.measures import Measure
from dp.planning.rollup import Hierarchy, RolledUp

__all__ = ["NoiseFamily", "Query", "canonical", "digest", "square_bits"]


_ACCURACY_COLUMNS = frozenset({"aggregate", "bin", "label", "value", "stddev", "lower", "upper", "confidence"})

NoiseFamily = Literal["best", "laplace", "gaussian"]

_RING_BITS = 55  # of 63: a few dozen parties and the noise stay below the rest
_FEWEST_SQUARE_BITS, _MOST_SQUARE_BITS = 8, 20


@dataclass(frozen=True)
class Query:
    """A frozen query over one kind of table.

    Attributes:
        by: grouping columns; empty for one group of everything.
        keys: one tuple per group, aligned with `by`; `((),)` where `by` is empty; or private keys.
        bounds: contribution bounds of a unit.
        aggregates: what is asked, with bounds resolved and names distinct.
        facts: declared facts of the table.
        columns: type facts of the columns that are read.
        noise: the family of noise, or "best": the one of least error.
        noise_norm: 1 or 2: which sensitivity the noise follows; measures may fit themselves to it.
        totals: "none", or "rollup": totals for every leading part of the grouping columns, too, and over everything.
        filters: what was done to the rows before, step by step, as text: "where year = 2025".
    """

    by: tuple[str, ...]
    keys: tuple[Group, ...] | PrivateKeys
    bounds: ContributionBounds
    aggregates: tuple[Aggregate, ...]
    facts: PublicFacts
    columns: Mapping[str, ColumnType]
    filters: tuple[str, ...] = ()
    noise: NoiseFamily = "best"
    noise_norm: Literal[1, 2] = 1
    totals: Literal["none", "rollup"] = "none"

    def __post_init__(self) -> None:
        if not self.aggregates and not isinstance(self.keys, PrivateKeys):
            raise InvalidArgument("agg", (), "name at least one aggregate, such as dp.count()")
        names = [*self.by, *(aggregate.name for aggregate in self.aggregates)]
        if len({name.casefold() for name in names}) < len(names):
            raise InvalidArgument("agg", names, "two columns of the answer have the same name; use .alias(...)")
        taken = sorted(_ACCURACY_COLUMNS.intersection(name.casefold() for name in self.by))
        if taken:
            raise InvalidArgument("groupBy", taken, "the accuracy table has columns of that name; rename yours")
        if not isinstance(self.keys, PrivateKeys):
            object.__setattr__(self, "bounds", _no_more_groups_than(self.bounds, len(self.keys)))
        if self.noise not in ("best", "laplace", "gaussian"):
            raise InvalidArgument("noise", self.noise, 'give "best", "laplace" or "gaussian"')
        resolved = tuple(aggregate.resolve(self.facts, self.columns) for aggregate in self.aggregates)
        object.__setattr__(self, "aggregates", resolved)
        for measure in self._weights():
            measure.sensitivity(self.bounds)  # refuses bounds that do not limit what is added up

    @cached_property
    def hierarchy(self) -> Hierarchy | None:
        """The groups with their totals; None where none are asked for."""
        if self.totals == "none":
            return None
        if isinstance(self.keys, PrivateKeys):
            raise InvalidArgument("keys", None, "totals belong to public keys: give them, or declare them")
        return Hierarchy(self.keys)

    def measured(self, measure: Measure) -> Measure:
        """How a measure that an aggregate needs is measured: for every group, or for every total, too."""
        return measure if self.hierarchy is None else RolledUp(measure, self.hierarchy)

    @property
    def groups(self) -> tuple[tuple[Key | None, ...], ...]:
        """What the answer has a row for, where keys are public: the groups, and their totals if any are asked for."""
        assert not isinstance(self.keys, PrivateKeys)
        return self.keys if self.hierarchy is None else self.hierarchy.nodes

    @property
    def schema(self) -> Schema:
        """What the aggregates may know when they choose their measures."""
        demands: dict[Clamp, frozenset[Demand]] = defaultdict(frozenset)
        for aggregate in self.aggregates:
            for clamp, demanded in aggregate.demands.items():
                demands[clamp] |= demanded
        groups = None if isinstance(self.keys, PrivateKeys) else len(self.groups)
        return Schema(self.columns, demands, square_bits(self.bounds, self.facts), groups, self.noise_norm)

    @property
    def shares(self) -> dict[Measure, Fraction]:
        """The distinct measures of the query, in order, each with its share of the budget.

        With private keys the selection has a share, too; all shares together are one.
        """
        weights = self._weights()
        return {measure: weight / self._total_weight for measure, weight in weights.items()}

    @property
    def selection_share(self) -> Fraction:
        """The share of the selection of private keys; 0 where keys are public."""
        return self.keys.share / self._total_weight if isinstance(self.keys, PrivateKeys) else Fraction(0)

    @property
    def _total_weight(self) -> Fraction:
        of_keys = self.keys.share if isinstance(self.keys, PrivateKeys) else Fraction(0)
        return sum(self._weights().values(), of_keys)

    def _weights(self) -> dict[Measure, Fraction]:
        weights: dict[Measure, Fraction] = {}
        schema = self.schema
        for aggregate in self.aggregates:
            for measure, share in aggregate.shares(schema).items():
                measured = self.measured(measure)
                weights[measured] = max(share, weights.get(measured, share))
        return weights

    def to_json(self) -> dict[str, object]:
        """The query as public plan fields; two parties that print the same ask the same."""
        return {
            "by": list(self.by),
            "keys": self.keys.to_json() if isinstance(self.keys, PrivateKeys) else [list(key) for key in self.keys],
            "bounds": vars(self.bounds),
            "aggregates": [aggregate.to_json() for aggregate in self.aggregates],
            "unit": list(self.facts.unit),
            "max_units": self.facts.max_units,
            "units_together": self.facts.units_together,
            "columns": {name: vars(kind) for name, kind in sorted(self.columns.items())},
            "totals": self.totals,
            "noise": self.noise,
            "filters": list(self.filters),
        }


def square_bits(bounds: ContributionBounds, facts: PublicFacts) -> int:
    """Bits of encoded values whose squares, over all units' rows, at many parties, stay within the ring."""
    if bounds.max_rows is None and bounds.max_total_rows is None:
        return _MOST_SQUARE_BITS  # nothing that adds up rows is allowed
    rows = facts.bounded_units * bounds.rows
    return min(max((_RING_BITS - rows.bit_length()) // 2, _FEWEST_SQUARE_BITS), _MOST_SQUARE_BITS)


def _no_more_groups_than(bounds: ContributionBounds, groups: int) -> ContributionBounds:
    """A unit is in no more groups than there are: a wider bound would only buy noise."""
    if bounds.max_groups is None:
        return bounds
    return replace(bounds, max_groups=min(bounds.max_groups, groups))


def canonical(public: Mapping[str, object]) -> bytes:
    """Public plan fields as bytes: JSON with sorted keys and no spaces."""
    return json.dumps(public, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(public: Mapping[str, object]) -> bytes:
    """SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(public)).digest()
