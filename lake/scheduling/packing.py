"""The pass of DPack: which order of a block to spend, what a claim costs there, and who gets most weight for cost."""

from __future__ import annotations

import numpy as np

from lake.scheduling.granting import grant_in_order, sums
from lake.scheduling.problem import Bools, Floats, Ints, Supply, Waiting, among, enough, grouped

__all__ = ["grant_packed"]

_DIGITS = 2.0**32


def grant_packed(supply: Supply, available: Ints, waiting: Waiting, most: int) -> Ints:
    """Grant those whom nobody opposes; then by weight per cost, until nobody fits.

    Args:
        supply: the blocks.
        available: what they have, (B, A); what is granted is taken out of it, at every amount.
        waiting: the claims, by arrival, each of which fits alone.
        most: compute costs afresh after so many grants.

    Returns:
        The indices that are granted, in order.

    Guarantees:
        Nothing that still fits is left. Efficiencies that agree in the first 32 binary digits count as equal.
    Cost:
        Each computation of costs sorts the pairs that are left, once at each order.
    """
    granted = [grant_in_order(supply, available, waiting, _unopposed(supply, available, waiting))]
    left = np.flatnonzero(~among(len(waiting), granted[0]))
    while len(left):
        order = left[_by_efficiency(supply, waiting.taken(left), available)]
        granted.append(grant_in_order(supply, available, waiting, order, most))
        left = left[~among(len(waiting), granted[-1])[left]]
        left = waiting.fitting(left, available, supply.fits)
    return np.concatenate(granted)


def _unopposed(supply: Supply, available: Ints, waiting: Waiting) -> Ints:
    """The claims all of whose blocks have room for all of the claims together."""
    if not len(waiting):
        return np.arange(0)
    blocks, place, total = sums(waiting.block, waiting.demand)
    plenty = enough(total, available[blocks], supply.fits)[place]
    return np.flatnonzero(np.logical_and.reduceat(plenty, waiting.first[:-1]))


def _by_efficiency(supply: Supply, waiting: Waiting, available: Ints) -> Ints:
    """The claims, at least one, the greatest weight per cost first, then as they come.

    A claim costs, on each of its blocks, the part of what is available that it asks for: of every amount, or at the
    block's best orders where it may choose; the sum over its blocks.
    """
    chooses = supply.fits == "any" and available.shape[1] > 1
    counting = _best_orders(waiting, available) if chooses else available > 0
    cost = np.add.reduceat(_pair_costs(waiting, available, counting), waiting.first[:-1])
    efficiency = np.divide(waiting.weight, cost, out=np.full(len(cost), np.inf), where=cost > 0)
    return np.argsort(-_shortened(efficiency), kind="stable")


def _best_orders(waiting: Waiting, available: Ints) -> Bools:
    """Of every block, the orders at which the most weight fits; all of them if several do, (B, A)."""
    weights = np.full(available.shape, -1.0)
    lengths = np.bincount(waiting.block, minlength=len(available))
    blocks = np.flatnonzero(lengths)
    for order in np.flatnonzero((available > 0).any(axis=0)).tolist():
        weights[blocks, order] = _greatest_weights(waiting, order, lengths[blocks], available[blocks, order])
    best: Bools = (weights == weights.max(axis=1, keepdims=True)) & (available > 0)
    return best


def _greatest_weights(waiting: Waiting, order: int, lengths: Ints, available: Ints) -> Floats:
    """Of every block that somebody wants, how much weight fits at one order; -1 where nothing is available.

    Taking demands by density, as many as fit, is the greatest count where all weights are equal. Where they are not,
    it or the heaviest demand that fits alone is at least half of the greatest weight: a knapsack would tell.

    Args:
        waiting: the claims.
        order: which.
        lengths: how many want each of these blocks, > 0.
        available: what each of them has at this order.
    """
    demand, weight = _by_density(waiting, order)
    starts, together = np.cumsum(lengths) - lengths, np.cumsum(demand)
    left = np.repeat(available + together[starts] - demand[starts], lengths)
    packed = np.add.reduceat(np.where(together <= left, weight, 0.0), starts)
    alone = demand <= np.repeat(available, lengths)
    heaviest = np.maximum.reduceat(np.where(alone, weight, 0.0), starts)
    return np.where(available > 0, np.maximum(packed, heaviest), -1.0)


def _by_density(waiting: Waiting, order: int) -> tuple[Ints, Floats]:
    """What pairs want at one order, and their weights: by block, the smallest demand for its weight first."""
    demand, weight = waiting.demand[:, order], waiting.weight
    bits = int(demand.max()).bit_length()
    if (weight == weight[0]).all() and int(waiting.block.max()) < 1 << (63 - bits):
        # nothing but the demands counts: sorted as one number with their blocks, several times as fast
        together = np.sort((waiting.block << bits) | demand)
        return together & ((1 << bits) - 1), np.full(len(demand), weight[0])
    weight = weight[waiting.owner]
    ascending = np.argsort(demand / weight, kind="stable")
    pairs = ascending[grouped(waiting.block[ascending])]
    return demand[pairs], weight[pairs]


def _pair_costs(waiting: Waiting, available: Ints, counting: Bools) -> Floats:
    """What each pair costs, over all amounts that count in its block."""
    costs = np.zeros(len(waiting.block))
    for order in np.flatnonzero(counting.any(axis=0)):
        here = np.flatnonzero(counting[waiting.block, order])
        costs[here] += waiting.demand[here, order] / available[waiting.block[here], order]
    return costs


def _shortened(values: Floats) -> Floats:
    """To 32 binary digits: sums that are equal exactly stay equal however their doubles were rounded."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * _DIGITS), exponent)
