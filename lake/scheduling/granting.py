"""Claims in a given order, each granted if it fits what those before it have left."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter, sub

import numpy as np

from lake.scheduling.problem import Fits, Ints, Supply, Waiting, enough, grouped

__all__ = ["grant_in_order", "sums"]

_CHUNK = 4096
_DENSE = 4  # so many groups, or fewer, for each row

Rows = list[list[int]]


def grant_in_order(supply: Supply, available: Ints, waiting: Waiting, order: Ints, most: int | None = None) -> Ints:
    """Go through claims in an order, grant what fits, skip what does not.

    Args:
        supply: the blocks.
        available: what they have, (B, A); what is granted is taken out of it, at every amount.
        waiting: the claims.
        order: indices of claims, each once.
        most: stop after so many grants.

    Returns:
        The indices that are granted, in order.

    Guarantees:
        The result is that of trying one claim after the other.
    Cost:
        Vectorised but for the claims on blocks that are about to run out: those are tried one by one.
    """
    granted: list[Ints] = []
    left, start = len(order) if most is None else most, 0
    while start < len(order) and left:
        # a chunk has no more claims than may be granted, so that none has to be taken back
        size = min(_CHUNK, left)
        chunk = _chunk_grants(supply, available, waiting, order[start : start + size])
        granted.append(chunk)
        start, left = start + size, left - len(chunk)
    return np.concatenate(granted) if granted else order[:0]


def sums(group: Ints, amounts: Ints) -> tuple[Ints, Ints, Ints]:
    """Sums of rows by group.

    Returns:
        the groups there are, ascending; the place of every row's group among them; their sums, (G, A).
    """
    if int(group.max(initial=0)) < _DENSE * len(group):  # to count takes less than to sort
        there = np.bincount(group) > 0
        groups, place = np.flatnonzero(there), (np.cumsum(there) - 1)[group]
    else:
        groups, place = np.unique(group, return_inverse=True)
    counts = np.bincount(place, minlength=len(groups))
    return groups, place, np.add.reduceat(amounts[grouped(place)], np.cumsum(counts) - counts, axis=0)


def _chunk_grants(supply: Supply, available: Ints, waiting: Waiting, claims: Ints) -> Ints:
    # what does not fit now never will in this pass: availability only falls
    claims = waiting.fitting(claims, available, supply.fits)
    if not len(claims):
        return claims
    pairs, first = waiting.pairs(claims)
    demand = waiting.demand[pairs]
    blocks, place, total = sums(waiting.block[pairs], demand)
    # where there is room for all of the chunk together, there is room for each of them at its turn
    scarce = ~enough(total, available[blocks], supply.fits)[place]
    if not scarce.any():
        available[blocks] -= total
        return claims
    owner = np.repeat(np.arange(len(claims)), np.diff(first))
    pairs_tried = zip(owner[scarce].tolist(), place[scarce].tolist(), demand[scarce].tolist(), strict=True)
    kept = np.ones(len(claims), dtype=bool)
    kept[_refused(supply.fits, available[blocks].tolist(), pairs_tried)] = False
    taken = kept[owner]
    if taken.any():
        touched, _, total = sums(blocks[place[taken]], demand[taken])
        available[touched] -= total
    return claims[kept]


def _refused(fits: Fits, left: Rows, pairs: Iterable[tuple[int, int, list[int]]]) -> list[int]:
    """Which claims do not fit at their turn.

    Args:
        fits: as in `Supply`.
        left: what the blocks have; what is granted is taken out of it.
        pairs: claim, block and demand, claim after claim.
    """
    within, refused = _every if fits == "every" else _any, []
    for claim, group in groupby(pairs, key=itemgetter(0)):
        mine = list(group)
        for _, block, wanted in mine:
            if not within(wanted, left[block]):
                refused.append(claim)
                break
        else:
            for _, block, wanted in mine:
                left[block] = list(map(sub, left[block], wanted))
    return refused


def _every(demand: list[int], left: list[int]) -> bool:
    for wanted, had in zip(demand, left, strict=True):  # noqa: SIM110 - a loop takes half the time of all()
        if wanted > had:
            return False
    return True


def _any(demand: list[int], left: list[int]) -> bool:
    for wanted, had in zip(demand, left, strict=True):  # noqa: SIM110 - a loop takes half the time of any()
        if wanted <= had:
            return True
    return False
