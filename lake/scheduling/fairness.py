"""The max-min share of every waiter of a block, and who could live on it."""

from __future__ import annotations

import numpy as np

from lake.scheduling.granting import sums
from lake.scheduling.problem import Bools, Ints, Supply, Waiting, grouped

__all__ = ["covered"]


def covered(supply: Supply, waiting: Waiting) -> Ints:
    """The claims whose max-min shares cover their whole demand on all of their blocks, ascending.

    What a block has available of an amount is shared among all who wait for it: evenly, except that nobody gets more
    than it asks and what it leaves goes to the others. So a demand d is covered exactly where the sum over all
    waiters of min(their demand, d) is available. Of a Renyi budget one order suffices; of others every amount counts.

    Args:
        supply: the blocks.
        waiting: the claims.

    Source:
        Max-min fairness as in Ghodsi et al. 2011 (NSDI), section 2; the round robin that Luo et al. 2021 compare with
        keeps partial shares from pass to pass, and this one does not.
    """
    if not len(waiting):
        return np.arange(0)
    blocks, place, total = sums(waiting.block, waiting.demand)
    available = supply.available[blocks]
    every = supply.fits == "every"
    within = np.full(len(place), every)
    by_block = grouped(place)
    for amount in range(available.shape[1]):
        short = total[:, amount] > available[:, amount]
        # a demand for nothing is covered where nothing is owed; a block that is overdrawn covers no one
        found = np.where(short[place], False, True)
        rows = by_block[short[place[by_block]]]
        found[rows] = _covered_rows(place[rows], waiting.demand[rows, amount], available[:, amount])
        within = within & found if every else within | found
    return np.flatnonzero(np.logical_and.reduceat(within, waiting.first[:-1]))


def _covered_rows(place: Ints, demand: Ints, available: Ints) -> Bools:
    """Of demands for one amount, grouped by block, which are covered."""
    ascending = np.argsort(demand)  # of equal demands the order does not matter
    order = ascending[grouped(place[ascending])]
    group, sorted_demand = place[order], demand[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    lengths = np.diff(np.append(starts, len(group)))
    before = np.cumsum(sorted_demand) - sorted_demand
    smaller = before - np.repeat(before[starts], lengths) if len(starts) else before
    at_least_as_great = np.repeat(starts + lengths, lengths) - np.arange(len(group))
    found = np.empty(len(order), dtype=bool)
    found[order] = smaller + at_least_as_great * sorted_demand <= available[group]
    return found
