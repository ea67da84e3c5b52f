"""The schedulers: who of the waiting claims is granted, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from dp.errors import InvalidArgument
from lake.scheduling.dominance import by_dominant_share, dominant_shares
from lake.scheduling.fairness import covered
from lake.scheduling.granting import grant_in_order
from lake.scheduling.packing import grant_packed
from lake.scheduling.problem import Ints, Supply, Waiting, among
from lake.scheduling.unlocking import AtOnce, Unlocking

__all__ = ["DPF", "DPack", "FirstComeFirstServed", "RoundRobin", "Scheduler"]

_LEAST_ROUNDS, _AMOUNTS_LOOKED_AT = 2, 4 * 10**6
_ALIKE = 1.001  # how much greedier a claim may be and still count as no greedier


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
    """The most weight for what is there: in order of weight per cost, where scarce budget costs more; or DPF's choice.

    The order, and spending each block at its best orders, is the paper's. Ours is what stands around it. Claims whose
    blocks all have room for everybody who could still be granted go first, for nobody loses by them. Then the same
    pass is worked out for DPF, and its grants are taken unless those of DPack are worth strictly more. While blocks
    still unlock, those whom DPack displaces wait on, and may cost more later than was gained now: so then no claim
    may be granted in DPF's place that is greedier for its weight than one that DPF would grant.

    Args:
        unlocking: how blocks become open to claims.
        recompute_every: R; costs are computed afresh after so many grants. In a great crowd it is done less often:
            see `interval`.

    Raises:
        InvalidArgument: an R that is not a whole number >= 1.

    Guarantees:
        Nothing that still fits is left waiting. A pass never grants less weight than DPF's would. Over many passes
        that is measured and not promised: see `docs/scheduling.md`. While blocks unlock, where every amount must fit
        and weights are equal, it differs from DPF only between dominant shares that agree to one part in a thousand.
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
        fair = grant_in_order(supply, available.copy(), claims, by_dominant_share(supply, claims))
        if len(fair) == len(claims):
            return stored[fair]
        packed = grant_packed(supply, available, claims, self.interval(claims))
        return stored[packed if self._prefers(packed, fair, supply, claims) else fair]

    def _prefers(self, packed: Ints, fair: Ints, supply: Supply, claims: Waiting) -> bool:
        """Whether the packed claims are worth more than the fair ones, and displace none that is less greedy."""
        weight = claims.weight
        ours, theirs = among(len(claims), packed), among(len(claims), fair)
        gained, displaced = ours & ~theirs, theirs & ~ours
        if not weight[gained].sum() > weight[displaced].sum():
            return False
        if isinstance(self.unlocking, AtOnce):  # nothing more comes to those who wait
            return True
        greed = dominant_shares(supply, claims) / weight
        return bool(greed[gained].max() <= _ALIKE * greed[displaced].min(initial=np.inf))

    def interval(self, waiting: Waiting) -> int:
        """After how many grants costs are computed afresh, so that all of it looks at about four million amounts.

        Args:
            waiting: the claims that compete. Costs are computed twice at least.
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
