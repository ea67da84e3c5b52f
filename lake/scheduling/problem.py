"""What a scheduler decides about: blocks with something left, and claims that want some of them.

Amounts are whole numbers of grains (see `grains`). A budget has A amounts: one for pure and zero-concentrated
budgets, two for (epsilon, delta), one at each order for Renyi budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument

__all__ = ["LIMIT", "Bools", "Fits", "Floats", "Ints", "Supply", "Waiting"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Fits = Literal["every", "any"]
"""Which amounts of a demand must have room in a block: every one, or any one of the orders of a Renyi budget."""

LIMIT = 1 << 61
"""No amount, and no sum of amounts over all waiting claims, is greater: so that no difference of two leaves 64 bits."""


@dataclass(frozen=True)
class Supply:
    """The blocks.

    Args:
        capacity: grains, >= 0, (B, A).
        available: grains that are unlocked and neither acquired nor consumed, (B, A); at the orders of a Renyi budget
            it may be negative.
        fits: "every" for budgets all of whose amounts must fit, "any" for Renyi budgets.

    Raises:
        InvalidArgument: arrays of another shape, a negative capacity, or an amount beyond `LIMIT`.
    """

    capacity: Ints
    available: Ints
    fits: Fits

    def __post_init__(self) -> None:
        if self.capacity.ndim != 2 or self.capacity.shape != self.available.shape or not self.capacity.shape[1]:
            shapes = f"{self.capacity.shape} and {self.available.shape}"
            raise InvalidArgument("capacity", shapes, "give capacity and available one shape: blocks by amounts")
        _require_range("capacity", self.capacity, 0, LIMIT)
        _require_range("available", self.available, -LIMIT, LIMIT)
        if self.fits not in ("every", "any"):
            raise InvalidArgument("fits", self.fits, 'amounts fit when "every" one does, or when "any" one does')


def enough(demand: Ints, available: Ints, fits: Fits) -> Bools:
    """Row by row, whether the demand fits what is available."""
    within: Bools = demand <= available
    if within.shape[1] == 1:  # one amount is every amount and any amount; a column is had for nothing
        return within[:, 0]
    together = np.logical_and if fits == "every" else np.logical_or
    found: Bools = together.reduce(within, axis=1)
    return found


def grouped(groups: Ints) -> Ints:
    """The indices that bring equal ones together, ascending, and keep the order within them."""
    # keys of 16 bits are sorted by radix, several times as fast
    narrow = groups.size == 0 or (groups.min() >= 0 and groups.max() < 1 << 16)
    return np.argsort(groups.astype(np.uint16) if narrow else groups, kind="stable")


def among(n: int, claims: Ints) -> Bools:
    """Of n claims, which are these."""
    found = np.zeros(n, dtype=bool)
    found[claims] = True
    return found


@dataclass(frozen=True)
class Waiting:
    """The claims that wait: each wants all of its blocks or none. The order in which they are stored means nothing.

    Args:
        number: the order of arrival, no two alike, (n,).
        weight: what a claim is worth to its owner, > 0, (n,); only DPack looks at it.
        first: where each claim's pairs begin, and where the last one's end, (n + 1,); every claim has one at least.
        block: the block of every pair, (P,); no claim has one twice.
        demand: grains, >= 0, what the pair's claim wants of the pair's block, (P, A).

    Raises:
        InvalidArgument: arrays that do not belong together, or amounts whose sum could pass `LIMIT`.
    """

    number: Ints
    weight: Floats
    first: Ints
    block: Ints
    demand: Ints

    def __post_init__(self) -> None:
        n, pairs = len(self.number), len(self.block)
        if len(self.weight) != n or len(self.first) != n + 1 or len(self.demand) != pairs or self.demand.ndim != 2:
            lengths = [len(a) for a in (self.number, self.weight, self.first, self.block, self.demand)]
            raise InvalidArgument("first", lengths, "give n numbers and weights, n + 1 firsts, P blocks and demands")
        if self.first[0] != 0 or self.first[-1] != pairs or (n and int(np.diff(self.first).min()) < 1):
            raise InvalidArgument("first", self.first.tolist()[:9], "begin at 0, end at P, at least one pair a claim")
        _require_range("demand", self.demand, 0, LIMIT // max(n, 1))
        if n and not (self.weight.min() > 0 and np.isfinite(self.weight).all()):
            raise InvalidArgument("weight", float(self.weight.min()), "weights are finite and above zero")

    def __len__(self) -> int:
        return len(self.number)

    @property
    def counts(self) -> Ints:
        """How many blocks every claim wants, (n,)."""
        return np.diff(self.first)

    @property
    def owner(self) -> Ints:
        """The claim of every pair, (P,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def pairs(self, claims: Ints) -> tuple[Ints, Ints]:
        """The pairs of some claims, claim after claim.

        Returns:
            the pairs' indices, and where each claim's begin among them, with the end: (m + 1,).
        """
        counts = self.first[claims + 1] - self.first[claims]
        first = np.concatenate(([0], np.cumsum(counts)))
        return np.arange(first[-1]) + np.repeat(self.first[claims] - first[:-1], counts), first

    def taken(self, claims: Ints) -> Waiting:
        """Some of the claims, in the order given."""
        if _is_everybody(claims, len(self)):
            return self
        pairs, first = self.pairs(claims)
        return Waiting(self.number[claims], self.weight[claims], first, self.block[pairs], self.demand[pairs])

    def in_order(self) -> tuple[Waiting, Ints]:
        """The same claims by arrival, each one's blocks ascending, and where they were: so storage never matters."""
        arrival = np.argsort(self.number, kind="stable")
        owner = self.owner
        ascending = (np.diff(self.block) > 0) | (np.diff(owner) > 0)
        if ascending.all() and (np.diff(arrival) > 0).all():
            return self, arrival
        blocks = np.lexsort((self.block, owner))
        sorted_blocks = Waiting(self.number, self.weight, self.first, self.block[blocks], self.demand[blocks])
        return sorted_blocks.taken(arrival), arrival

    def fitting(self, claims: Ints, available: Ints, fits: Fits) -> Ints:
        """Those of some claims that would fit if they were alone, in the same order.

        Args:
            claims: indices.
            available: grains, (B, A).
            fits: as in `Supply`.
        """
        if not len(claims):
            return claims
        asked = self.taken(claims)
        room = enough(asked.demand, available[asked.block], fits)
        return claims[np.logical_and.reduceat(room, asked.first[:-1])]


def _is_everybody(claims: Ints, n: int) -> bool:
    """Whether these are all claims in the order in which they are stored: then there is nothing to copy."""
    return len(claims) == n and bool((claims == np.arange(n)).all())


def _require_range(parameter: str, values: Ints, least: int, most: int) -> None:
    if values.dtype != np.int64:
        raise InvalidArgument(parameter, str(values.dtype), "amounts are 64-bit integers: make them with in_grains")
    if values.size and (int(values.min()) < least or int(values.max()) > most):
        found = (int(values.min()), int(values.max()))
        raise InvalidArgument(parameter, found, f"amounts lie in [{least}, {most}]: make them with in_grains")
