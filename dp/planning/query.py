"""A query as a value: everything about it that is public, checked once, before any row is read."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate, ColumnType, Mean, Schema
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import Key, PublicFacts
from dp.planning.measures import Measure

__all__ = ["Query", "canonical", "digest", "resolve_keys"]


_ACCURACY_COLUMNS = frozenset({"aggregate", "bin", "value", "stddev", "lower", "upper", "confidence"})


@dataclass(frozen=True)
class Query:
    """A frozen query over one kind of table.

    Attributes:
        by: grouping columns; empty for one group of everything.
        keys: one tuple per group, aligned with `by`; `((),)` where `by` is empty.
        bounds: contribution bounds of a unit.
        aggregates: what is asked, with bounds resolved and names distinct.
        facts: declared facts of the table.
        columns: type facts of the columns that are read.
        filters: conditions, in the order in which they were applied, as text.
    """

    by: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...]
    bounds: ContributionBounds
    aggregates: tuple[Aggregate, ...]
    facts: PublicFacts
    columns: Mapping[str, ColumnType]
    filters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.aggregates:
            raise InvalidArgument("agg", (), "name at least one aggregate, such as dp.count()")
        names = [*self.by, *(aggregate.name for aggregate in self.aggregates)]
        if len({name.casefold() for name in names}) < len(names):
            raise InvalidArgument("agg", names, "two columns of the answer have the same name; use .alias(...)")
        taken = sorted(_ACCURACY_COLUMNS.intersection(name.casefold() for name in self.by))
        if taken:
            raise InvalidArgument("groupBy", taken, "the accuracy table has columns of that name; rename yours")
        object.__setattr__(self, "bounds", _no_more_groups_than(self.bounds, len(self.keys)))
        resolved = tuple(aggregate.resolve(self.facts, self.columns) for aggregate in self.aggregates)
        object.__setattr__(self, "aggregates", resolved)

    @property
    def schema(self) -> Schema:
        """What the aggregates may know when they choose their measures."""
        means = (aggregate for aggregate in self.aggregates if isinstance(aggregate, Mean))
        return Schema(self.columns, frozenset(aggregate.clamped for aggregate in means))

    @property
    def shares(self) -> dict[Measure, Fraction]:
        """The distinct measures of the query, in order, each with its share of the budget; shares add up to one."""
        weights: dict[Measure, Fraction] = {}
        for aggregate in self.aggregates:
            for measure in aggregate.measures(self.schema):
                weights[measure] = max(aggregate.share, weights.get(measure, aggregate.share))
        total = sum(weights.values())
        return {measure: weight / total for measure, weight in weights.items()}

    def to_json(self) -> dict[str, object]:
        """The query as public plan fields; two parties that print the same ask the same."""
        return {
            "by": list(self.by),
            "keys": [list(key) for key in self.keys],
            "bounds": vars(self.bounds),
            "aggregates": [aggregate.to_json() for aggregate in self.aggregates],
            "unit": list(self.facts.unit),
            "max_units": self.facts.max_units,
            "columns": {name: vars(kind) for name, kind in sorted(self.columns.items())},
            "filters": list(self.filters),
        }


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


def resolve_keys(by: Sequence[str], keys: Sequence[object] | None, facts: PublicFacts) -> tuple[tuple[Key, ...], ...]:
    """The public list of groups: given, or made from the table's declared keys.

    Args:
        by: grouping columns.
        keys: for one column its values; for several columns, tuples aligned with them. None: all combinations of
            the declared keys of these columns.
        facts: declared facts of the table.

    Raises:
        InvalidArgument: no keys anywhere, keys without columns, duplicates, floats, or tuples of another length.
    """
    if not by:
        if keys is not None:
            raise InvalidArgument("keys", list(keys)[:5], "keys belong to grouping columns; name them in groupBy")
        return ((),)
    if keys is None:
        undeclared = [column for column in by if column not in facts.keys]
        if undeclared:
            remedy = f"give the public keys of {undeclared}, here or as a declared fact of the table"
            raise InvalidArgument("keys", None, remedy)
        return tuple(itertools.product(*(facts.keys[column] for column in by)))
    if not isinstance(keys, (list, tuple, range)):
        raise InvalidArgument("keys", keys, "give a list of keys: its order is part of the plan")
    groups = tuple(_group(key, len(by)) for key in keys)
    if not groups or len(set(map(_typed, groups))) < len(groups):
        raise InvalidArgument("keys", list(keys)[:5], "give at least one key, and each only once")
    return groups


def _group(key: object, columns: int) -> tuple[Key, ...]:
    group = key if isinstance(key, tuple) else (key,)
    if len(group) != columns:
        raise InvalidArgument("keys", key, f"every key has {columns} value(s), one for each grouping column")
    for value in group:
        if not isinstance(value, (int, str, bool)):
            raise InvalidArgument("keys", value, "a key is an integer, a string or a boolean")
    return group


def _typed(group: tuple[Key, ...]) -> tuple[object, ...]:
    return tuple((type(value).__name__, value) for value in group)  # True and 1 are different keys
