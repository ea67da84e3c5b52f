"""Claims in the order of their dominant shares: who asks for the smallest part of any one block comes first."""

from __future__ import annotations

import numpy as np

from lake.scheduling.problem import Bools, Floats, Ints, Supply, Waiting

__all__ = ["by_dominant_share", "dominant_shares"]


def by_dominant_share(supply: Supply, waiting: Waiting) -> Ints:
    """All claims, the smallest dominant share first; ties by the second largest share, the third, ..., by arrival.

    A claim's share of a block is the greatest part of the block's capacity that it wants of an amount; orders of a
    Renyi budget without capacity do not count.

    Args:
        supply: the blocks; only capacities matter.
        waiting: the claims, by arrival.

    Guarantees:
        Shares are compared as the nearest doubles: such as differ by less than one part in 2^52 may count as equal.
    """
    if not len(waiting):
        return np.arange(0)
    shares = _shares(supply, waiting)
    rank = np.zeros(len(waiting), dtype=np.int64)
    rank += _moved_up(rank, np.maximum.reduceat(shares, waiting.first[:-1]))
    _break_ties(rank, shares, waiting)
    return np.argsort(rank, kind="stable")


def dominant_shares(supply: Supply, waiting: Waiting) -> Floats:
    """Of every claim, the greatest part of the capacity of any of its blocks that it asks for, (n,)."""
    return np.maximum.reduceat(_shares(supply, waiting), waiting.first[:-1]) if len(waiting) else np.zeros(0)


def _shares(supply: Supply, waiting: Waiting) -> Floats:
    """The share of every pair, (P,)."""
    shares = np.zeros(len(waiting.block))
    # an amount at a time: rows of all amounts would not stay in the processor's cache
    for amount in range(supply.capacity.shape[1]):
        capacity, demand = supply.capacity[waiting.block, amount], waiting.demand[:, amount]
        share = np.divide(demand, capacity, out=np.zeros(len(shares)), where=capacity > 0)
        if supply.fits == "every":
            share[(capacity == 0) & (demand > 0)] = np.inf
        np.maximum(shares, share, out=shares)
    return shares


def _break_ties(rank: Ints, shares: Floats, waiting: Waiting) -> None:
    """Tell claims of equal rank apart by their further shares.

    A claim's rank is how many claims certainly come before it. It is refined a share at a time, and only where claims
    are still tied: so the work is bounded by the number of pairs.
    """
    everyone = np.arange(len(rank))
    tied = everyone[_tied(rank, everyone)]
    if not len(tied):
        return
    pairs, first = waiting.pairs(tied)
    owner = np.repeat(np.arange(len(tied)), np.diff(first))
    descending = shares[pairs]
    if ((np.diff(descending) > 0) & (np.diff(owner) == 0)).any():  # often a claim asks as much of each block
        descending = descending[np.lexsort((-descending, owner))]
    place, end, before = first[:-1], first[1:], descending[first[:-1]]
    while len(tied) and (place + 1 < end).any():
        place = place + 1
        value = np.where(place < end, descending[np.minimum(place, end - 1)], 0.0)
        if np.array_equal(value, before):  # claims of one rank have all shares so far in common, and now this one
            continue
        rank[tied] += _moved_up(rank[tied], value)
        still = _tied(rank, tied)
        tied, place, end, before = tied[still], place[still], end[still], value[still]


def _moved_up(rank: Ints, value: Floats) -> Ints:
    """Of each claim, how many claims of its rank have a smaller value."""
    order = np.lexsort((value, rank))
    new_rank = np.diff(rank[order]) > 0
    places = np.arange(len(order))
    start = np.maximum.accumulate(np.where(np.concatenate(([True], new_rank)), places, 0))
    new_value = new_rank | (np.diff(value[order]) > 0)
    level = np.maximum.accumulate(np.where(np.concatenate(([True], new_value)), places, 0))
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = level - start
    return moved


def _tied(rank: Ints, claims: Ints) -> Bools:
    """Of some claims, which of them share their rank with another; those left out share it with none of these."""
    return np.bincount(rank[claims], minlength=1)[rank[claims]] > 1
