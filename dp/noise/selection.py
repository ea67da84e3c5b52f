"""Private selection of groups: which may be named, given how many units each has.

A unit is in at most `max_groups` groups (contribution bounding sees to that), so with or without it at most that many
counts differ, by one each. A group without units is never named. docs/privacy.md proves what is promised here.
`dp.noise.thresholds` has the strategies that add noise. A further strategy is a further class with the members of
`Selection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.exact import exp_above, exp_below
from dp.noise.entropy import RandomSource, Words, words

__all__ = ["MAX_TABLE", "Selection", "SelectionRule", "TruncatedGeometric"]

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

MAX_TABLE = 1 << 20
"""Most counts whose keep probability lies strictly between zero and one; a truncated geometric with more is refused."""

_ONE = 1 << 64  # probability one on the grid
_GREATEST_EPSILON = 1000
_GREATEST_RATE = 40  # a greater epsilon a group is used as this one
_GREATEST_COUNT = 1 << 62


class Selection(Protocol):
    """A randomised choice of groups by their unit counts; a value, so it hashes."""

    kind: ClassVar[str]

    def __hash__(self) -> int: ...

    @property
    def epsilon(self) -> Fraction:
        """What the whole selection costs the units protected together."""
        ...

    @property
    def delta(self) -> Fraction:
        """What the whole selection costs the units protected together."""
        ...

    def keep(self, counts: Integers, random: RandomSource) -> Mask:
        """Which groups may be named; independent, exact draws."""
        ...

    def keep_probability(self, count: int) -> float:
        """The probability that a group of so many units is kept, approximately; for explanations."""
        ...

    def threshold_at(self, probability: float) -> int:
        """The least number of units with which a group is kept with at least this probability, approximately."""
        ...

    def to_json(self) -> dict[str, str]:
        """The selection as a JSON object with exact fractions."""
        ...


@dataclass(frozen=True, kw_only=True)
class SelectionRule:
    """What all selections share; base of all.

    Args:
        delta: total for the units protected together, 0 < delta < 1, exact.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept; the strategy sees the units from this one on, >= 1.
        group_size: how many units are protected together, >= 1.
    """

    delta: Fraction
    max_groups: int
    pre_threshold: int = 1
    group_size: int = 1

    def __post_init__(self) -> None:
        for name in ("max_groups", "pre_threshold", "group_size"):
            if not 1 <= getattr(self, name) <= _GREATEST_COUNT:
                raise InvalidArgument(name, getattr(self, name), "give a whole number from 1 to 2^62")
        if not 0 < self.delta < 1:
            raise InvalidArgument("delta", self.delta, 'give 0 < delta < 1, such as "1e-6"')

    def keep_probability(self, count: int) -> float:
        """The probability that a group of so many units is kept, to about 1e-9; for explanations and plots.

        Args:
            count: units of the group.
        """
        seen = count - (self.pre_threshold - 1)
        return self.probability(seen) if seen > 0 else 0.0

    def threshold_at(self, probability: float) -> int:
        """The least number of units with which a group is kept with at least this probability.

        Args:
            probability: 0 < probability < 1.

        Raises:
            InvalidArgument: a probability outside its range.
        """
        if not 0 < probability < 1:
            raise InvalidArgument("probability", probability, "give a probability above 0 and below 1")
        above = 1
        while self.probability(above) < probability:
            above *= 2
        below = above // 2
        while above - below > 1:
            middle = (above + below) // 2
            below, above = (below, middle) if self.probability(middle) >= probability else (middle, above)
        return above + self.pre_threshold - 1

    def probability(self, seen: int) -> float:
        """The probability of a group of which the strategy sees so many units, at least one."""
        raise NotImplementedError

    def seen(self, counts: Integers) -> Integers:
        """The units that the strategy sees: they change by at most one where a count does, and zero is never kept.

        Args:
            counts: units of every group.
        """
        return np.maximum(counts, self.pre_threshold - 1) - np.int64(self.pre_threshold - 1)

    def shared_json(self) -> dict[str, str]:
        """The fields of this class, exact."""
        names = ("delta", "max_groups", "pre_threshold", "group_size")
        return {name: str(getattr(self, name)) for name in names}


@dataclass(frozen=True, kw_only=True)
class TruncatedGeometric(SelectionRule):
    """Keeps each group with the greatest probability that its share of the budget allows.

    Args:
        epsilon: total for the units protected together, 0 < epsilon <= 1000, exact.
        delta: total for the units protected together, 0 < delta < 1, exact.
        max_groups: groups of one unit, >= 1.
        pre_threshold: groups with fewer units are never kept, >= 1.
        group_size: how many units are protected together, >= 1.

    Raises:
        InvalidArgument: an argument outside its range; a share of delta below 2^-64; a share of epsilon so small that
            more than `MAX_TABLE` counts would be uncertain.

    Guarantees:
        (epsilon, delta)-differential privacy for `group_size` units. No strategy that gives every group an equal share
        keeps a group with a probability that is greater by more than the rounding to multiples of 2^-64.
    Leaks:
        Names of the kept groups; which groups were not kept, or how many, must not be published.
    Cost:
        One random word for each group whose fate is open; a table of 8 bytes for each such count.
    Source:
        Desfontaines, Voss, Gipson and Mandayam, "Differentially private partition selection" (2020), Theorem 1.
    """

    epsilon: Fraction
    kind: ClassVar[str] = "truncated_geometric"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.epsilon <= _GREATEST_EPSILON:
            raise InvalidArgument("epsilon", self.epsilon, "give an epsilon above 0 and at most 1000")
        if not self._step:
            remedy = "give a larger delta, fewer max_groups or a smaller group_size: one group's share is below 2^-64"
            raise InvalidArgument("delta", self.delta, remedy)
        if self._table.size > MAX_TABLE:
            remedy = "give a larger epsilon, fewer max_groups or a smaller group_size: one group's share is too small"
            raise InvalidArgument("epsilon", self.epsilon, remedy)

    def keep(self, counts: Integers, random: RandomSource) -> Mask:
        """Which groups may be named; independent, exact draws.

        Args:
            counts: units of every group.
            random: the source of bytes; `os_random` wherever the selection protects somebody.
        """
        seen = self.seen(counts)
        kept: Mask = seen >= self._table.size
        open_ones = np.flatnonzero((seen > 0) & ~kept)
        kept[open_ones] = words(random, open_ones.size) < self._table[seen[open_ones]]
        return kept

    def to_json(self) -> dict[str, str]:
        """The selection as a JSON object with exact fractions."""
        return {"selection": self.kind, "epsilon": str(self.epsilon), **self.shared_json()}

    def probability(self, seen: int) -> float:
        return int(self._table[seen]) / _ONE if seen < self._table.size else 1.0

    @property
    def _step_epsilon(self) -> Fraction:
        """Of one unit in one group."""
        return self.epsilon / (self.max_groups * self.group_size)

    @property
    def _step(self) -> int:
        """delta of one unit in one group, on the grid, rounded down."""
        return math.floor(self.delta / (self.max_groups * self._joining) * _ONE)

    @property
    def _joining(self) -> Fraction:
        """1 + e^eps + ... + e^((k - 1) eps), rounded up: how often a group that k units join pays one unit's delta."""
        if self.group_size == 1:
            return Fraction(1)
        one = self._step_epsilon
        growth = max(exp_below(one) - 1, one + one**2 / 2)  # both are below e^eps - 1; the second where eps is tiny
        return (exp_above(self.group_size * one) - 1) / growth

    @cached_property
    def _table(self) -> Words:
        """Keep probabilities, in units of 2^-64, of the counts 0, 1, ... that are not certain to be kept."""
        rate = math.floor(exp_below(min(self._step_epsilon, Fraction(_GREATEST_RATE))) * _ONE)
        return _geometric_table(max(rate, _ONE), self._step)


@lru_cache(maxsize=16)
def _geometric_table(rate: int, step: int) -> Words:
    """The recursion of the source on the grid, every probability rounded down; stops after `MAX_TABLE` + 1 counts.

    With r = rate / 2^64 <= e^epsilon and d = step / 2^64 <= delta, the next probability is at most r p + d and at most
    1 - (1 - p - d) / r: rounding it down keeps both, and since p itself is on the grid it never falls below p, which
    is what the two inequalities in the other direction ask.
    """
    kept = [0]
    while len(kept) <= MAX_TABLE:
        last = kept[-1]
        missing = max(_ONE - last - step, 0)
        following = min((rate * last >> 64) + step, _ONE + (-missing << 64) // rate)
        if following >= _ONE:
            break
        kept.append(following)
    table = np.array(kept, np.uint64)
    table.setflags(write=False)  # shared by equal selections
    return table
