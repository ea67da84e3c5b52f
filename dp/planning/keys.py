"""Group keys: a public list, or private ones, which are named only if enough units have them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np

from dp.accounting.selections import gaussian_threshold, laplace_threshold
from dp.errors import InvalidArgument
from dp.noise.selection import Selection, TruncatedGeometric
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import Key, PublicFacts

__all__ = ["Group", "PrivateKeys", "Strategy", "resolve_keys"]

Group = tuple[Key, ...]
"""One value per grouping column."""

Strategy = Literal["best", "truncated_geometric", "laplace", "gaussian"]

_STRATEGIES: Mapping[str, Callable[..., Selection]] = {
    "truncated_geometric": TruncatedGeometric,
    "laplace": laplace_threshold,
    "gaussian": gaussian_threshold,
}


@dataclass(frozen=True)
class PrivateKeys:
    """Keys that the data have, named where enough units do; made by `dp.private_keys`.

    Attributes:
        strategy: how a group's number of units decides; "best" takes the strategy that names a group with the fewest
            units, half of the time.
        min_units: groups of fewer units are never named.
        share: the selection's relative share of epsilon, beside the aggregates' weights.
        epsilon: what the selection spends, in the place of a share; None: its share.
        delta: what it spends of delta; None: all of it, or half beside Gaussian noise.
        other: the key under which all other groups are added up, or None: they are left out.
    """

    strategy: Strategy = "best"
    min_units: int = 1
    share: Fraction = Fraction(1)
    other: str | None = None
    epsilon: Fraction | None = None
    delta: Fraction | None = None

    def __post_init__(self) -> None:
        if self.strategy != "best" and self.strategy not in _STRATEGIES:
            raise InvalidArgument("strategy", self.strategy, f"a strategy is one of {['best', *_STRATEGIES]}")
        if not isinstance(self.min_units, int) or isinstance(self.min_units, bool) or self.min_units < 1:
            raise InvalidArgument("min_units", self.min_units, "a group that is named has at least one unit")

    def selection(
        self, bounds: ContributionBounds, *, epsilon: Fraction, delta: Fraction, units_together: int
    ) -> Selection:
        """The mechanism for a budget.

        Args:
            bounds: of one unit's contributions.
            epsilon: the selection's, > 0.
            delta: the selection's, > 0.
            units_together: how many units are protected together.

        Raises:
            InvalidArgument: a budget that no selection can keep to.
        """
        sizes = {"max_groups": bounds.groups, "pre_threshold": self.min_units, "group_size": units_together}
        return _selection(self.strategy, epsilon=epsilon, delta=delta, **sizes)

    def to_json(self) -> dict[str, object]:
        """The wish as public plan fields."""
        amounts = {name: None if amount is None else str(amount) for name, amount in self._amounts.items()}
        return {**vars(self), **amounts}

    @property
    def _amounts(self) -> dict[str, Fraction | None]:
        return {"share": self.share, "epsilon": self.epsilon, "delta": self.delta}


@cache  # a plan is made many times over while its noise is fitted
def _selection(strategy: Strategy, **budget: Fraction | int) -> Selection:
    if strategy != "best":
        return _STRATEGIES[strategy](**budget)
    possible = [made for make in _STRATEGIES.values() if (made := _if_possible(make, budget)) is not None]
    if not possible:
        return _STRATEGIES["truncated_geometric"](**budget)  # says why
    return min(possible, key=lambda made: made.threshold_at(0.5))


def _if_possible(make: Callable[..., Selection], budget: Mapping[str, Fraction | int]) -> Selection | None:
    try:
        return make(**budget)
    except InvalidArgument:
        return None


def resolve_keys(
    by: Sequence[str], keys: Sequence[object] | PrivateKeys | None, facts: PublicFacts
) -> tuple[Group, ...] | PrivateKeys:
    """The public list of groups, given or made from the table's declared keys; or else private keys.

    Args:
        by: grouping columns.
        keys: for one column its values; for several columns, tuples aligned with them. None: all combinations of
            the declared keys of these columns; where one of them has none, private keys.
        facts: declared facts of the table.

    Raises:
        InvalidArgument: keys without columns, duplicates, floats, or tuples of another length.
    """
    if not by:
        if keys is not None:
            shown = keys if isinstance(keys, PrivateKeys) else list(keys)[:5]
            raise InvalidArgument("keys", shown, "keys belong to grouping columns; name them in groupBy")
        return ((),)
    if isinstance(keys, PrivateKeys):
        return keys
    if keys is None:
        if any(column not in facts.keys for column in by):
            return PrivateKeys()
        return tuple(itertools.product(*(facts.keys[column] for column in by)))
    if isinstance(keys, np.ndarray):
        keys = keys.tolist()
    if not isinstance(keys, (list, tuple, range)):
        raise InvalidArgument("keys", keys, "give a list of keys: its order is part of the plan")
    groups = tuple(_group(key, len(by)) for key in keys)
    if not groups or len(set(map(_typed, groups))) < len(groups):
        raise InvalidArgument("keys", list(keys)[:5], "give at least one key, and each only once")
    return groups


def _group(key: object, columns: int) -> tuple[Key, ...]:
    given = key if isinstance(key, tuple) else (key,)
    group = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
    if len(group) != columns:
        raise InvalidArgument("keys", key, f"every key has {columns} value(s), one for each grouping column")
    for value in group:
        if not isinstance(value, (int, str, bool)):
            raise InvalidArgument("keys", value, "a key is an integer, a string or a boolean")
    return group


def _typed(group: tuple[Key, ...]) -> tuple[object, ...]:
    return tuple((type(value).__name__, value) for value in group)  # True and 1 are different keys
