"""The schedulers: who of the waiting claims is granted, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from dp.errors import InvalidArgument
from lake.scheduling.dominance import by_dominant_share
from lake.scheduling.fairness import covered
from lake.scheduling.granting import grant_in_order, sums
from lake.scheduling.packing import Packing
from lake.scheduling.problem import Ints, Supply, Waiting, enough
from lake.scheduling.unlocking import AtOnce, Unlocking

__all__ = ["DPF", "DPack", "FirstComeFirstServed", "RoundRobin", "Scheduler"]

_LEAST_ROUNDS, _AMOUNTS_LOOKED_AT = 8, 10**7


class Scheduler(Protocol):
    """A rule by which waiting claims are granted.

    Attributes:
        name: as settings spell it.

    Guarantees:
        A claim is granted only if each of its blocks has room for it after all who were granted before it. The result
        depends on the arguments alone, and not on the order in which claims or a claim's blocks are stored.
    """

    name: ClassVar[str]

    @property
    def unlocking(self) -> Unlocking:
        """How blocks become open to claims."""

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        """One pass over everybody who waits.

        Args:
            supply: the blocks.
            waiting: the claims.

        Returns:
            Indices into `waiting` of the claims that are granted, in the order of granting.
        """


@dataclass(frozen=True)
class FirstComeFirstServed:
    """In order of arrival; what does not fit is skipped, and waits on.

    Guarantees:
        Nothing that still fits is left waiting.
    """

    unlocking: Unlocking = field(default_factory=AtOnce)
    name: ClassVar[str] = "fcfs"

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        claims, stored = waiting.in_order()
        return stored[grant_in_order(supply, supply.available.copy(), claims, np.arange(len(claims)))]

    def __str__(self) -> str:
        return f"first come first served, {self.unlocking}"


@dataclass(frozen=True)
class RoundRobin:
    """What each block has is shared evenly among its waiters, and whoever can live on its shares is granted.

    Shares are dealt afresh in each pass: a claim that is not granted keeps none of them. At the orders of a Renyi
    budget shares of different claims may count on different orders, so whoever is covered must fit as well, at its
    turn by arrival.
    """

    unlocking: Unlocking
    name: ClassVar[str] = "round-robin"

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        claims, stored = waiting.in_order()
        return stored[grant_in_order(supply, supply.available.copy(), claims, covered(supply, claims))]

    def __str__(self) -> str:
        return f"round robin, {self.unlocking}"


@dataclass(frozen=True)
class DPF:
    """Dominant private-block fairness: in order of the greatest share of any block that a claim asks for.

    Guarantees:
        Nothing that still fits is left waiting. With `ByArrivals(N)`: of the first N claims each that asks at most
        1/N of each of its blocks is granted when it arrives (the sharing incentive).
    Source:
        Luo et al. 2021 (PrivateKube, OSDI), section 4.
    """

    unlocking: Unlocking
    name: ClassVar[str] = "dpf"

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        claims, stored, available = _that_fit(supply, waiting)
        return stored[grant_in_order(supply, available, claims, by_dominant_share(supply, claims))]

    def __str__(self) -> str:
        return f"DPF, {self.unlocking}"


@dataclass(frozen=True)
class DPack:
    """The most weight for what is there: in order of weight per cost, where scarce budget costs more.

    Claims whose blocks all have room for everybody who could still be granted go first, for nobody loses by them.

    Args:
        unlocking: how blocks become open to claims.
        recompute_every: R; costs are computed afresh after so many grants. In a great crowd it is done less often:
            see `interval`.

    Raises:
        InvalidArgument: an R that is not a whole number >= 1.

    Guarantees:
        Nothing that still fits is left waiting. DPF may grant more: see `docs/scheduling.md`.
    Source:
        Tholoniat et al. 2025 (DPack, EuroSys), section 3. Theirs finds the best order with a knapsack solver; this
        one is exact where all weights are equal, and else within half of it.
    """

    unlocking: Unlocking
    recompute_every: int = 50
    name: ClassVar[str] = "dpack"

    def __post_init__(self) -> None:
        every = self.recompute_every
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidArgument("recompute_every", every, "give a whole number above zero, such as 50")

    def grants(self, supply: Supply, waiting: Waiting) -> Ints:
        claims, stored, available = _that_fit(supply, waiting)
        packing, left = Packing(supply, claims), np.arange(len(claims))
        most = self.interval(claims)
        granted = [grant_in_order(supply, available, claims, _unopposed(supply, available, claims))]
        left = _others(left, granted[-1])
        while len(left):
            order = packing.by_efficiency(left, available)
            granted.append(grant_in_order(supply, available, claims, order, most))
            left = claims.fitting(_others(left, granted[-1]), available, supply.fits)
        return stored[np.concatenate(granted)]

    def interval(self, waiting: Waiting) -> int:
        """After how many grants costs are computed afresh, so that all of it looks at about ten million amounts.

        Args:
            waiting: the claims that compete. Costs are never computed less often than eight times.
        """
        rounds = max(_LEAST_ROUNDS, _AMOUNTS_LOOKED_AT // max(waiting.demand.size, 1))
        return max(self.recompute_every, -(-len(waiting) // rounds))

    def __str__(self) -> str:
        return f"DPack, {self.unlocking}"


def _that_fit(supply: Supply, waiting: Waiting) -> tuple[Waiting, Ints, Ints]:
    """The claims by arrival that would fit alone, where they were stored, and what is available, to be changed."""
    claims, stored = waiting.in_order()
    fitting = claims.fitting(np.arange(len(claims)), supply.available, supply.fits)
    return claims.taken(fitting), stored[fitting], supply.available.copy()


def _unopposed(supply: Supply, available: Ints, waiting: Waiting) -> Ints:
    """The claims all of whose blocks have room for all of the claims together."""
    if not len(waiting):
        return np.arange(0)
    blocks, place, total = sums(waiting.block, waiting.demand)
    plenty = enough(total, available[blocks], supply.fits)[place]
    return np.flatnonzero(np.logical_and.reduceat(plenty, waiting.first[:-1]))


def _others(claims: Ints, without: Ints) -> Ints:
    """Claims, ascending, but for some of them."""
    return np.setdiff1d(claims, without, assume_unique=True)
