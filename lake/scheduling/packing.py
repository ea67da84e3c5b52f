"""Which order of a block to spend, and what a claim costs there: the heart of DPack."""

from __future__ import annotations

import numpy as np

from lake.scheduling.problem import Bools, Floats, Ints, Supply, Waiting, grouped

__all__ = ["Packing"]

_DIGITS = 2.0**32


class Packing:
    """What competing claims cost; fewer of them compete from one computation to the next.

    Args:
        supply: the blocks.
        waiting: the claims, by arrival.

    Cost:
        Each `by_efficiency` sorts the pairs that are left, once at each order.
    """

    def __init__(self, supply: Supply, waiting: Waiting) -> None:
        self._waiting = waiting
        chooses = supply.fits == "any" and supply.capacity.shape[1] > 1
        self._orders = np.flatnonzero((supply.available > 0).any(axis=0)) if chooses else np.arange(0)

    def by_efficiency(self, claims: Ints, available: Ints) -> Ints:
        """The claims, the greatest weight per cost first, then by arrival.

        A claim costs, on each of its blocks, the part of what is available that it asks for: of every amount, or at
        the block's best orders where it may choose; the sum over its blocks.

        Args:
            claims: those that compete, ascending, at least one.
            available: what the blocks have, (B, A).

        Guarantees:
            Efficiencies that agree in the first 32 binary digits count as equal.
        """
        waiting = self._waiting.taken(claims)
        counting = self._best_orders(waiting, available) if len(self._orders) else available > 0
        cost = np.add.reduceat(_pair_costs(waiting, available, counting), waiting.first[:-1])
        efficiency = np.divide(waiting.weight, cost, out=np.full(len(cost), np.inf), where=cost > 0)
        return claims[np.argsort(-_shortened(efficiency), kind="stable")]

    def _best_orders(self, waiting: Waiting, available: Ints) -> Bools:
        """Of every block, the orders at which the most weight fits; all of them if several do, (B, A)."""
        weights = np.full(available.shape, -1.0)
        lengths = np.bincount(waiting.block, minlength=len(available))
        blocks = np.flatnonzero(lengths)
        for order in self._orders.tolist():
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
