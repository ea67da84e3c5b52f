"""Error targets: the least budget, and its split over the aggregates, for which all expected errors are small enough.

Targets are public numbers. Nothing here looks at a row: what a target is relative to was declared, or released before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Generic, TypeVar

import numpy as np

from dp.accounting.splits import (
    ErrorTarget,
    gaussian_rho_for_stddev,
    laplace_epsilon_for_stddev,
    shares_for_targets,
)
from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.plan import Plan, guarantee, make_plan
from dp.planning.query import Query

__all__ = ["ErrorBudget", "least_budget", "relative"]

Q = TypeVar("Q")

_DIGITS = 3
_FIRST, _A_DECADE = 100, 900  # the least number of so many digits, and how many there are
_GUESSES = 5
_ROUNDS = 4  # of refining weights, where aggregates share measures
_EVEN = 0.99  # errors this close to their targets are close enough
_EVEN_LESS = 1e-6  # no weight falls below this part of another in one round
_GREATEST, _LEAST = Fraction(10) ** 6, Fraction(1, 10**9)  # epsilons that are tried


@dataclass(frozen=True)
class ErrorBudget(Generic[Q]):
    """The least budget that meets error targets, and the query to spend it on.

    Attributes:
        query: with the weights; release it with this epsilon and delta.
        epsilon: exact, to three significant digits.
        delta: as it was given.
        weights: of every aggregate.
        errors: the expected error of every aggregate with a target, as its plan says; at most the target.
    """

    query: Q
    epsilon: Fraction
    delta: Fraction
    weights: Mapping[str, Fraction]
    errors: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"epsilon={float(self.epsilon):g}" + (f", delta={float(self.delta):g}" if self.delta else "")]
        for name, weight in self.weights.items():
            error = f": ± {self.errors[name]:,.4g}" if name in self.errors else ""
            lines.append(f"    {name}, weight {float(weight):.4g}{error}")
        return "\n".join(lines)


def relative(share: Exact, of: Exact) -> Fraction:
    """An error target as a share of a number that is public: declared, or released before.

    Args:
        share: > 0, such as "0.05".
        of: the number, such as the value of an earlier release. Unreleased data is no number, and is refused.

    Raises:
        InvalidArgument: anything but a number; a share that is not positive, or of nothing.
    """
    part = rational(share, "share")
    whole = rational(int(of) if isinstance(of, np.integer) else of, "of")
    if part <= 0 or whole == 0:
        raise InvalidArgument("share", (share, of), "give a share above zero, of a number that is not zero")
    return abs(part * whole)


def least_budget(
    query: Query,
    asked_of: Callable[[Query], Q],
    errors: Mapping[str, Exact],
    *,
    delta: Exact = 0,
    confidence: float = 0.95,
    rows: Exact | None = None,
) -> ErrorBudget[Q]:
    """Find the least epsilon, and the aggregates' weights; see `PrivateQuery.budget_for`.

    Args:
        query: what is asked; the weights that its aggregates have are replaced.
        asked_of: makes what the caller releases of a query.
        errors: aggregate -> its target.
        delta: of the release.
        confidence: at which errors are expected to be within their targets.
        rows: of a group, where an error depends on it.

    Raises:
        InvalidArgument: no such aggregate, a target that is not positive, an error that depends on a group's size
            without one, or targets that no epsilon up to 10^6 meets.

    Guarantees: the epsilon returned was tried: at it, the plan's expected errors are within their targets, and the next
        lower number of three digits was tried with the same weights, and misses one.
    """
    targets = _Targets(query, _exact_targets(query, errors), rational(delta, "delta"), confidence, _size(rows))
    best = targets.found(targets.first_weights())
    for _ in range(_ROUNDS):
        if best.is_even:
            break
        other = targets.found(best.refined())
        if other.epsilon >= best.epsilon:
            break
        best = other
    met = {name: ratio * float(targets.targets[name]) for name, ratio in best.ratios.items()}
    weights = {aggregate.name: aggregate.share for aggregate in best.plan.query.aggregates}
    weighted = replace(query, aggregates=best.plan.query.aggregates)
    return ErrorBudget(
        asked_of(weighted), best.epsilon, targets.delta, MappingProxyType(weights), MappingProxyType(met)
    )


def _exact_targets(query: Query, errors: Mapping[str, Exact]) -> dict[str, Fraction]:
    names = [aggregate.name for aggregate in query.aggregates]
    if not isinstance(errors, Mapping) or not errors or not set(errors) <= set(names):
        raise InvalidArgument("errors", errors, f"give targets by name; the query's aggregates are {names}")
    targets = {name: rational(error, f"errors[{name!r}]") for name, error in errors.items()}
    for name, target in targets.items():
        if target <= 0:
            raise InvalidArgument(f"errors[{name!r}]", str(target), "an error target is above zero")
    return targets


def _size(rows: Exact | None) -> Fraction | None:
    size = None if rows is None else rational(rows, "rows")
    if size is not None and size <= 0:
        raise InvalidArgument("rows", rows, "a group's declared or released size is above zero")
    return size


@dataclass(frozen=True)
class _Tried:
    """A plan, and how its expected errors compare with the targets: 1 is just met."""

    plan: Plan
    epsilon: Fraction
    ratios: Mapping[str, float]

    @property
    def worst(self) -> float:
        """At most 1 where all targets are met."""
        return max(self.ratios.values())

    @property
    def is_even(self) -> bool:
        """Whether no weight can be moved to where more noise is left; integers may have none at all."""
        return not self.worst or min(self.ratios.values()) >= _EVEN

    def refined(self) -> dict[str, Fraction]:
        """Weights with less for aggregates that beat their targets."""
        shares = {aggregate.name: aggregate.share for aggregate in self.plan.query.aggregates}
        power = 1 if isinstance(self.plan.parts[0].mechanism, DiscreteLaplace) else 2
        return {
            name: shares[name] * Fraction(max(ratio / self.worst, _EVEN_LESS)) ** power
            for name, ratio in self.ratios.items()
        }


@dataclass(frozen=True)
class _Targets:
    """What is searched for; see `least_budget`."""

    query: Query
    targets: Mapping[str, Fraction]
    delta: Fraction
    confidence: float
    rows: Fraction | None

    def first_weights(self) -> dict[str, Fraction]:
        """What each target would cost if every aggregate had its measures for itself."""
        tried = self.tried(self.query, Fraction(1))
        names = list(self.targets)
        laplace = isinstance(tried.plan.parts[0].mechanism, DiscreteLaplace)
        cost = laplace_epsilon_for_stddev if laplace else gaussian_rho_for_stddev
        _, shares = shares_for_targets([_as_stddev(tried.plan, name, tried.ratios[name]) for name in names], cost)
        return dict(zip(names, shares, strict=True))

    def found(self, weights: Mapping[str, Fraction]) -> _Tried:
        """The least epsilon on the grid of three digits for these weights."""
        query = _weighted(self.query, weights)
        high = self._near(query)
        best, step = self._met(query, high), 1
        while best is None:
            high, step = high + step, 2 * step
            best = self._met(query, high)
        low, step = high - 1, 1
        while (less := self._met(query, low)) is not None:
            best, high, low, step = less, low, low - step, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            less = self._met(query, middle)
            best, low, high = (best, middle, high) if less is None else (less, low, middle)
        return best

    def _near(self, query: Query) -> int:
        """A number of the grid that is close to the least one: errors are nearly inverse to epsilon."""
        epsilon = Fraction(1)
        for _ in range(_GUESSES):
            try:
                worst = self.tried(query, epsilon).worst
            except InvalidArgument:  # so little that there is no plan; what is wrong otherwise was raised at 1
                break
            if 0.999 <= worst <= 1:
                break
            epsilon = min(max(epsilon * Fraction(worst), _LEAST), _GREATEST)
        return _number(epsilon)

    def _met(self, query: Query, number: int) -> _Tried | None:
        """The plan for an epsilon of the grid, if there is one, and it meets all targets."""
        epsilon = _epsilon(number)
        if epsilon > _GREATEST:
            remedy = f"no epsilon up to {float(_GREATEST):g} meets them: tighten bounds or widen targets"
            raise InvalidArgument("errors", {name: str(target) for name, target in self.targets.items()}, remedy)
        if epsilon < _LEAST:
            return None
        try:
            tried = self.tried(query, epsilon)
        except InvalidArgument:  # as in `_near`
            return None
        return tried if tried.worst <= 1 else None

    def tried(self, query: Query, epsilon: Fraction) -> _Tried:
        """The plan for an epsilon.

        Raises:
            InvalidArgument: there is none, or `rows` is missing.
        """
        plan = make_plan(query, guarantee(epsilon, self.delta))
        ratios = {name: self._error(plan, name) / float(self.targets[name]) for name in self.targets}
        return _Tried(plan, epsilon, ratios)

    def _error(self, plan: Plan, name: str) -> float:
        aggregate = next(aggregate for aggregate in plan.query.aggregates if aggregate.name == name)
        error = aggregate.expected_error(plan.query.schema, plan.noise_term, self.confidence)
        if not error.per_row:
            return error.half_width
        if self.rows is None:
            remedy = f"the error of {name!r} is divided by its group's rows: give a declared or released number of them"
            raise InvalidArgument("rows", None, remedy)
        return error.half_width / float(self.rows)


def _as_stddev(plan: Plan, name: str, ratio: float) -> ErrorTarget:
    """An aggregate's target as a standard deviation of its first measure, all of whose noise shrinks alike."""
    aggregate = next(aggregate for aggregate in plan.query.aggregates if aggregate.name == name)
    part = plan.part_of(aggregate.measures(plan.query.schema)[0])
    stddev = Fraction(part.mechanism.stddev or math.ulp(1.0)) / Fraction(ratio or math.ulp(1.0))
    return ErrorTarget(stddev, max(part.sensitivity.l1, 1), max(part.sensitivity.l2_squared, 1))


def _weighted(query: Query, weights: Mapping[str, Fraction]) -> Query:
    """The query with weights whose mean is 1; an aggregate without a target gets as much as the least of the others."""
    least = min(weights.values())
    mine = {aggregate.name: weights.get(aggregate.name, least) for aggregate in query.aggregates}
    mean = sum(mine.values(), Fraction(0)) / len(mine)
    weighted = tuple(a.weight(_rounded_up(mine[a.name] / mean)) for a in query.aggregates)
    return replace(query, aggregates=weighted)


def _number(epsilon: Fraction) -> int:
    """The place on the grid of the least number of three digits that is no less."""
    exponent = math.floor(math.log10(epsilon)) - _DIGITS + 1
    return _A_DECADE * exponent + math.ceil(epsilon / Fraction(f"1e{exponent}")) - _FIRST


def _epsilon(number: int) -> Fraction:
    """The number of three digits at a place on the grid."""
    exponent, place = divmod(number, _A_DECADE)
    return (_FIRST + place) * Fraction(f"1e{exponent}")


def _rounded_up(value: Fraction) -> Fraction:
    return _epsilon(_number(value))
