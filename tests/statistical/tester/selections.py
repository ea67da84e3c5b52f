"""Private keys: which groups are named, alone and with what is published of them, and the bucket of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dp import functions as dp
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.accounting.events import GaussianEvent, PureEvent
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteLaplace
from dp.noise.selection import Selection, TruncatedGeometric
from dp.noise.thresholds import GaussianThreshold, LaplaceThreshold
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys, Strategy
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from tests.statistical.tester.cases import COLUMNS, Limit, further, others
from tests.statistical.tester.pipeline import Encoded, exact_cells, loss_samples
from tests.statistical.tester.verdicts import TOO_SMALL, Verdict, excess
from tests.tools.entropy import seeded_random
from tests.tools.plans import with_noise_scaled

__all__ = ["OTHERS_PLANS", "STRATEGIES", "NamesAndCounts", "NamesCase", "names_cases", "others_verdict"]

Int64s = NDArray[np.int64]
Reals = NDArray[np.float64]

_ASKED = ApproxDP(2, "1/50")
_POSITIONS = (0.1, 0.3, 0.6, 0.9)

STRATEGIES: tuple[Strategy, ...] = ("truncated_geometric", "laplace", "gaussian")


@dataclass(frozen=True)
class NamesCase:
    """A selection, seen through how many of one unit's groups are named."""

    strategy: Strategy
    max_groups: int
    min_units: int = 1
    units_together: int = 1

    def __str__(self) -> str:
        sizes = f"max_groups={self.max_groups} min_units={self.min_units} together={self.units_together}"
        return f"names by {self.strategy} | {sizes}"

    @cached_property
    def selection(self) -> Selection:
        """As a plan makes it."""
        bounds = ContributionBounds(max_groups=self.max_groups)
        return PrivateKeys(self.strategy, self.min_units).selection(
            bounds, epsilon=_ASKED.epsilon, delta=_ASKED.delta, units_together=self.units_together
        )

    @property
    def counts(self) -> Iterator[tuple[int, int]]:
        """Units of every group of the further units, without them and with them: a group of theirs alone is first."""
        yield 0, self.units_together
        if self.min_units > 1:
            yield self.min_units - 1, self.min_units - 1 + self.units_together
        for position in _POSITIONS:
            most = self.selection.threshold_at(position)
            yield most - self.units_together, most

    def judged(self, size: int) -> Verdict:
        """Ours is rejected if it is anywhere; the twin has to be somewhere."""
        ours = max(self._excess(self.selection, "ours", size))
        twins = [max(self._excess(twin, "twin", size)) for twin in faulty(self.selection)]
        # thresholds charge each of several units for a group of its own, though they may share one
        tight = self.units_together == 1 or self.strategy == "truncated_geometric"
        return Verdict(str(self), self.max_groups, tight, ours, min(twins))

    def _excess(self, selection: Selection, seed: str, size: int) -> Iterator[float]:
        for pair in self.counts:
            random = seeded_random(f"{self} {pair} {seed}")
            named = [selection.keep(np.full(size * self.max_groups, count), random) for count in pair]
            without, with_unit = (mask.reshape(size, -1).sum(axis=1).astype(np.float64) for mask in named)
            alone = pair[0] < self.min_units and isinstance(selection, GaussianThreshold)
            delta = self.selection.threshold_delta if alone else _ASKED.delta  # type: ignore[attr-defined]
            yield excess(ApproxDP(_ASKED.epsilon, delta), without, with_unit)


def faulty(selection: Selection) -> list[Selection]:
    """Twins of a selection that spend more than it says, each of them to be rejected."""
    if isinstance(selection, TruncatedGeometric):
        return [narrowed(selection), replace(selection, delta=selection.delta / TOO_SMALL)]
    assert isinstance(selection, LaplaceThreshold | GaussianThreshold)
    lower = replace(selection, delta=selection.delta)
    vars(lower)["threshold"] = selection.threshold - 1
    # a Gaussian's price in rho is exact, its epsilon an upper bound: in names alone 15% are not to be seen
    return [lower] if isinstance(selection, GaussianThreshold) else [lower, narrowed(selection)]


def narrowed(selection: Selection) -> Selection:
    """The twin with 15% less noise, at the threshold of the selection."""
    if isinstance(selection, TruncatedGeometric):
        return replace(selection, epsilon=selection.epsilon / TOO_SMALL)
    assert isinstance(selection, LaplaceThreshold | GaussianThreshold)
    noise = selection.noise
    less = (
        replace(noise, scale=noise.scale * TOO_SMALL)
        if isinstance(noise, DiscreteLaplace)
        else replace(noise, variance=noise.variance * TOO_SMALL**2)
    )
    # its own threshold could not be met by so little noise
    twin = copy(selection)
    vars(twin).update(noise=less, threshold=selection.threshold)
    return twin


def names_cases() -> Iterator[NamesCase]:
    """Every strategy under every size."""
    for strategy in STRATEGIES:
        yield NamesCase(strategy, 1)
        yield NamesCase(strategy, 2)
        yield NamesCase(strategy, 2, min_units=4)
        yield NamesCase(strategy, 1, units_together=2)


_BOUNDS = ContributionBounds(max_groups=2, max_rows=3)
_BOTH = ApproxDP(2, "1/1000")
_FACTS = PublicFacts(unit=("id",), max_units=10**6)


def _plan(keys: PrivateKeys, asked: ApproxDP) -> Plan:
    aggregates = (dp.count(),)
    return make_plan(Query(("k",), keys, _BOUNDS, aggregates, _FACTS, COLUMNS), asked)


@dataclass(frozen=True)
class NamesAndCounts:
    """Names and noisy counts of one unit's groups together: a group that is not named has none."""

    strategy: Strategy

    def __str__(self) -> str:
        return f"names and counts by {self.strategy}"

    def judged(self, size: int) -> Verdict:
        """At the positions of the selection; the twin draws 15% less noise for names and counts."""
        plan = _plan(PrivateKeys(self.strategy), _BOTH)
        assert plan.selection is not None
        twin = with_noise_scaled(plan, TOO_SMALL)
        twin = replace(twin, selection=narrowed(plan.selection))
        ours = max(self._excess(plan, plan, "ours", size))
        tight = self.strategy != "gaussian"  # as in `faulty`
        return Verdict(str(self), _BOUNDS.groups, tight, ours, max(self._excess(plan, twin, "twin", size)))

    def _excess(self, plan: Plan, drawn: Plan, seed: str, size: int) -> Iterator[float]:
        assert plan.selection is not None
        for units in [1, *map(plan.selection.threshold_at, _POSITIONS)]:
            random = seeded_random(f"{self} {units} {seed}")
            yield excess(_BOTH, *self._losses(plan, drawn, units, size, random))

    def _losses(self, plan: Plan, drawn: Plan, units: int, size: int, random: RandomSource) -> tuple[Reals, Reals]:
        declared, selection = plan.selection, drawn.selection
        assert declared is not None
        assert selection is not None
        groups, rows = _BOUNDS.groups, _BOUNDS.rows_per_group
        cells = drawn.for_keys(tuple((index,) for index in range(size * groups)))
        found = []
        for count in (units - 1, units):
            named = selection.keep(np.full(size * groups, count), random)
            noise = cells.draw_noise(0, cells.length, random).view(np.int64)
            found.append(_joint_loss(plan, (units - 1, units), named, rows * count + noise).reshape(size, groups))
        return found[0].sum(axis=1), found[1].sum(axis=1)


def _joint_loss(plan: Plan, units: tuple[int, int], named: NDArray[np.bool_], opened: Int64s) -> Reals:
    """The declared loss of each group: that of its being named or not, and where it is named that of its count."""
    assert plan.selection is not None
    kept = [min(max(plan.selection.keep_probability(count), 1e-12), 1 - 1e-12) for count in units]
    low, high = (_BOUNDS.rows_per_group * count for count in units)
    (part,) = plan.parts
    if plan.query.noise_norm == 1:
        of_count = (2.0 * np.clip(opened, low, high) - (low + high)) * (np.sqrt(2) / part.mechanism.stddev)
    else:
        of_count = (high - low) * (2.0 * opened - (low + high)) / (2 * part.mechanism.stddev**2)
    return np.asarray(np.where(named, np.log(kept[1] / kept[0]) + of_count, np.log((1 - kept[1]) / (1 - kept[0]))))


_NOBODY = PrivateKeys("best", min_units=10**6, share=Fraction(1, 1000), other="the rest")
OTHERS_PLANS: Sequence[ApproxDP] = (ApproxDP(2, "1e-6"), ApproxDP("1/2", "1/4"))
"""Guarantees under which the bucket of all other groups has Laplace noise, and Gaussian noise."""


def others_verdict(asked: ApproxDP, codes: Encoded, size: int) -> Verdict:
    """Nothing is named, so all groups of the further unit are added up in one cell."""
    plan = _plan(_NOBODY, asked)
    one, apart = plan.for_keys((("the rest",),)), plan.for_keys(tuple((str(group),) for group in range(5)))
    limit = Limit(_BOUNDS, _FACTS)
    rows = (others(), others() + further("values of a list", "everywhere", limit))
    folded = [exact_cells(apart, some, codes, 1).reshape(5, -1).sum(axis=0) for some in rows]
    found = []
    for drawn, seed in ((one, "ours"), (with_noise_scaled(one, TOO_SMALL), "too small")):
        samples = loss_samples(one, drawn, (folded[0], folded[1]), size, seeded_random(f"others {asked} {seed}"))
        found.append(excess(_price_of_cells(one), *samples))
    return Verdict(f"all other groups | L0 x Linf | {asked}", 1, True, *found)


def _price_of_cells(plan: Plan) -> Budget:
    """What opening the cells alone costs: naming nothing has used up none of delta."""
    if plan.query.noise_norm == 1:
        return PureDP(sum(part.event.epsilon for part in plan.parts if isinstance(part.event, PureEvent)))
    return ZCDP(
        sum(
            Fraction(part.event.l2_sensitivity_squared) / (2 * part.event.variance_each)
            for part in plan.parts
            if isinstance(part.event, GaussianEvent)
        )
    )
