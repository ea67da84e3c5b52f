"""Exact private choices among candidates by their utilities: the exponential mechanism, permute-and-flip, and top k.

Utilities are integers or rationals. Each candidate meets an exact coin of probability exp(-x), x rational, so nothing
underflows and no float is on the way. docs/privacy.md proves what is promised here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise.entropy import RandomSource, Words, uniform_below
from dp.noise.samplers import bernoulli_exp

__all__ = [
    "MAX_DENOMINATOR",
    "Choice",
    "ExponentialMechanism",
    "ExponentialTopK",
    "Peeling",
    "PermuteAndFlip",
    "TopK",
    "Utilities",
]

Utilities = Sequence[int] | Sequence[Fraction] | NDArray[np.int64]
"""One number for each candidate, the greater the better."""

MAX_DENOMINATOR = 1 << 63
"""Greatest denominator of an exponent, epsilon times a difference of utilities over their range sensitivity."""

_GREATEST_WHOLE = 1 << 62  # coins of exp(-x) compare x with an int64 that never comes near 2^62


class Choice(Protocol):
    """A randomised choice of candidates by utility; a value, so it hashes."""

    kind: ClassVar[str]

    def __hash__(self) -> int: ...

    @property
    def epsilon(self) -> Fraction:
        """What the choice costs."""
        ...

    @property
    def zcdp_rho(self) -> Fraction:
        """What the choice costs in zero-concentrated differential privacy."""
        ...

    def choose(self, utilities: Utilities, random: RandomSource) -> NDArray[np.int64]:
        """Indices of the candidates chosen."""
        ...

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with exact fractions."""
        ...


@dataclass(frozen=True)
class ExponentialMechanism:
    """Chooses candidate i with probability proportional to exp(epsilon u_i / range_sensitivity).

    Args:
        epsilon: > 0, exact.
        range_sensitivity: the most by which one unit changes the difference between two candidates' utilities, > 0,
            exact: twice the sensitivity of a utility, or once where a unit moves all utilities in the same direction.

    Raises:
        InvalidArgument: an argument <= 0.

    Guarantees:
        epsilon-differential privacy, epsilon-bounded range, and so (epsilon^2 / 8)-zCDP; the choice has exactly the
        stated distribution.
    Cost:
        As many coins as candidates at a time, fewer than twice on average; memory of a few words a candidate.
    Source:
        McSherry and Talwar 2007; bounded range: Durfee and Rogers 2019; zCDP: Cesar and Rogers 2021, Dong, Durfee and
        Rogers 2020; exact coins: Canonne, Kamath and Steinke 2020.
    """

    epsilon: Fraction
    range_sensitivity: Fraction
    kind: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        _check(self.epsilon, self.range_sensitivity)

    @property
    def zcdp_rho(self) -> Fraction:
        """epsilon^2 / 8, because the mechanism's range is bounded."""
        return self.epsilon**2 / 8

    def choose(self, utilities: Utilities, random: RandomSource) -> NDArray[np.int64]:
        """The index of the chosen candidate, as an array of one.

        Args:
            utilities: one for each candidate, at least one.
            random: the source of bytes; `os_random` wherever the choice protects somebody.

        Raises:
            InvalidArgument: no candidates, or an exponent with a denominator above 2^63.
        """
        return _accepted(_Coins.of(_Scores.of(utilities), self.epsilon / self.range_sensitivity), random)

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with exact fractions."""
        return _json(self.kind, self.epsilon, self.range_sensitivity)


@dataclass(frozen=True)
class PermuteAndFlip:
    """Visits candidates in random order; chooses the first whose coin of exp(epsilon (u_i - max u) / range) succeeds.

    Args:
        epsilon: > 0, exact.
        range_sensitivity: the most by which one unit changes the difference between two candidates' utilities, > 0,
            exact: twice the sensitivity of a utility, or once where a unit moves all utilities in the same direction.

    Raises:
        InvalidArgument: an argument <= 0.

    Guarantees:
        epsilon-differential privacy, and so (epsilon^2 / 2)-zCDP. Its range is not bounded by epsilon, so epsilon^2 / 8
        would be wrong. Its expected shortfall of utility never exceeds the exponential mechanism's.
    Cost:
        One coin a candidate; memory of a few words a candidate.
    Source:
        McKenna and Sheldon 2020; pure to zCDP: Bun and Steinke 2016, Proposition 1.4.
    """

    epsilon: Fraction
    range_sensitivity: Fraction
    kind: ClassVar[str] = "permute_and_flip"

    def __post_init__(self) -> None:
        _check(self.epsilon, self.range_sensitivity)

    @property
    def zcdp_rho(self) -> Fraction:
        """epsilon^2 / 2: what pure epsilon implies, and no more."""
        return self.epsilon**2 / 2

    def choose(self, utilities: Utilities, random: RandomSource) -> NDArray[np.int64]:
        """The index of the chosen candidate, as an array of one.

        Args:
            utilities: one for each candidate, at least one.
            random: the source of bytes; `os_random` wherever the choice protects somebody.

        Raises:
            InvalidArgument: no candidates, or an exponent with a denominator above 2^63.
        """
        return _flip(_Coins.of(_Scores.of(utilities), self.epsilon / self.range_sensitivity), random)

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with exact fractions."""
        return _json(self.kind, self.epsilon, self.range_sensitivity)


@dataclass(frozen=True)
class Peeling(ABC):
    """k choices one after another, each among the candidates that are left; base of such choices.

    Args:
        epsilon: of all choices together, > 0, exact.
        range_sensitivity: as for one choice.
        k: how many candidates are chosen, >= 1; all of them, in a private order, where there are fewer.

    Raises:
        InvalidArgument: an argument outside its range.
    """

    epsilon: Fraction
    range_sensitivity: Fraction
    k: int
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        _check(self.epsilon, self.range_sensitivity)
        if self.k < 1:
            raise InvalidArgument("k", self.k, "choose at least one candidate")

    @property
    def scale(self) -> Fraction:
        """By how much a candidate trails whose coin succeeds with probability 1 / e; the others' are powers of it."""
        return self.range_sensitivity * self.k / self.epsilon

    @property
    @abstractmethod
    def zcdp_rho(self) -> Fraction:
        """What all choices cost in zero-concentrated differential privacy."""

    @property
    @abstractmethod
    def stddev(self) -> float:
        """Of noise that does the same: each choice is the greatest of utilities that bear such noise."""

    def choose(self, utilities: Utilities, random: RandomSource) -> NDArray[np.int64]:
        """The indices of the chosen candidates, in the order of choice.

        Args:
            utilities: one for each candidate, at least one.
            random: the source of bytes; `os_random` wherever the choice protects somebody.

        Raises:
            InvalidArgument: no candidates, or an exponent with a denominator above 2^63.
        """
        scores, left = _Scores.of(utilities), np.arange(len(utilities))
        chosen: list[int] = []
        while left.size and len(chosen) < self.k:
            place = int(self._one(_Coins.of(scores, 1 / self.scale), random)[0])
            chosen.append(int(left[place]))
            scores, left = scores.without(place), np.delete(left, place)
        return np.array(chosen, np.int64)

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with exact fractions."""
        return {**_json(self.kind, self.epsilon, self.range_sensitivity), "k": str(self.k)}

    @abstractmethod
    def _one(self, coins: _Coins, random: RandomSource) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class TopK(Peeling):
    """Chooses k candidates one after another, each by permute-and-flip at epsilon / k among those that are left.

    Args and Raises are those of `Peeling`.

    Guarantees:
        epsilon-differential privacy and (epsilon^2 / (2 k))-zCDP of the ordered choice, by composition.
    Cost:
        As k choices by permute-and-flip.
    Source:
        As `PermuteAndFlip`; peeling: Durfee and Rogers 2019; equal to noise: Ding et al. 2021.
    """

    kind: ClassVar[str] = "top_k"

    @property
    def zcdp_rho(self) -> Fraction:
        """k choices at epsilon / k."""
        return self.k * PermuteAndFlip(self.epsilon / self.k, self.range_sensitivity).zcdp_rho

    @property
    def stddev(self) -> float:
        """Of exponential noise of this scale."""
        return float(self.scale)

    def _one(self, coins: _Coins, random: RandomSource) -> NDArray[np.int64]:
        return _flip(coins, random)


@dataclass(frozen=True)
class ExponentialTopK(Peeling):
    """Chooses k candidates one after another, each by the exponential mechanism at epsilon / k among those left.

    Args and Raises are those of `Peeling`.

    Guarantees:
        epsilon-differential privacy and (epsilon^2 / (8 k))-zCDP of the ordered choice, by composition: for the same
        rho half the scale of `TopK`, for the same epsilon a little less sharp.
    Cost:
        As k choices by the exponential mechanism.
    Source:
        As `ExponentialMechanism`; peeling, and that it is equal to Gumbel noise: Durfee and Rogers 2019.
    """

    kind: ClassVar[str] = "exponential_top_k"

    @property
    def zcdp_rho(self) -> Fraction:
        """k choices at epsilon / k."""
        return self.k * ExponentialMechanism(self.epsilon / self.k, self.range_sensitivity).zcdp_rho

    @property
    def stddev(self) -> float:
        """Of Gumbel noise of this scale."""
        return float(self.scale) * math.pi / math.sqrt(6)

    def _one(self, coins: _Coins, random: RandomSource) -> NDArray[np.int64]:
        return _accepted(coins, random)


@dataclass(frozen=True)
class _Coins:
    """Exponents rate (max u - u_i) of all candidates, split into whole + rest / denominator."""

    whole: NDArray[np.int64]
    rest: Words
    denominator: int

    @staticmethod
    def of(scores: _Scores, rate: Fraction) -> _Coins:
        step = rate / scores.grid
        if step.denominator > MAX_DENOMINATOR:
            remedy = "write epsilon, range_sensitivity and utilities with fewer digits: their ratio passes 2^63"
            raise InvalidArgument("epsilon", rate, remedy)
        best = int(scores.values.max())
        reach = (best - int(scores.values.min())) * step.numerator
        narrow = max(reach, step.denominator) < _GREATEST_WHOLE
        values = scores.values if narrow else scores.values.astype(object)
        gaps = (best - values).astype(np.int64 if narrow else object) * step.numerator
        # a coin that shows 2^62 would take as many tied bits: none ever tells a greater exponent from this one
        whole = np.minimum(gaps // step.denominator, _GREATEST_WHOLE).astype(np.int64)
        return _Coins(whole, (gaps % step.denominator).astype(np.uint64), step.denominator)

    @property
    def size(self) -> int:
        return self.whole.size

    def toss(self, candidates: NDArray[np.int64], random: RandomSource) -> NDArray[np.bool_]:
        """One coin for each entry, of probability exp(-exponent)."""
        return bernoulli_exp(self.whole[candidates], self.rest[candidates], self.denominator, random)


@dataclass(frozen=True)
class _Scores:
    """Utilities times a common denominator: int64 where all fit in 62 bits, else Python integers."""

    values: NDArray[Any]
    grid: int

    @staticmethod
    def of(utilities: Utilities) -> _Scores:
        if not len(utilities):
            raise InvalidArgument("utilities", utilities, "give at least one candidate")
        exact: list[Any] = utilities.tolist() if isinstance(utilities, np.ndarray) else list(utilities)
        grid = math.lcm(*{u.denominator for u in exact})
        steps = [u.numerator * (grid // u.denominator) for u in exact]
        fit = min(steps) > -_GREATEST_WHOLE and max(steps) < _GREATEST_WHOLE
        return _Scores(np.array(steps, np.int64 if fit else object), grid)

    def without(self, index: int) -> _Scores:
        return _Scores(np.delete(self.values, index), self.grid)


def _flip(coins: _Coins, random: RandomSource) -> NDArray[np.int64]:
    """The first success in random order is one of all successes, chosen uniformly: coins do not depend on the order."""
    successes = np.flatnonzero(coins.toss(np.arange(coins.size), random))  # the best candidate is always among them
    return successes[uniform_below(successes.size, 1, random).astype(np.int64)]


def _accepted(coins: _Coins, random: RandomSource) -> NDArray[np.int64]:
    """The first of uniform proposals that is accepted by its coin; the best candidate's always succeeds."""
    while True:
        proposed = uniform_below(coins.size, coins.size, random).astype(np.int64)
        accepted = np.flatnonzero(coins.toss(proposed, random))
        if accepted.size:
            return proposed[accepted[:1]]


def _check(epsilon: Fraction, range_sensitivity: Fraction) -> None:
    if epsilon <= 0:
        raise InvalidArgument("epsilon", epsilon, "give epsilon > 0")
    if range_sensitivity <= 0:
        raise InvalidArgument("range_sensitivity", range_sensitivity, "give a range sensitivity > 0")


def _json(kind: str, epsilon: Fraction, range_sensitivity: Fraction) -> dict[str, str]:
    return {"choice": kind, "epsilon": str(epsilon), "range_sensitivity": str(range_sensitivity)}
