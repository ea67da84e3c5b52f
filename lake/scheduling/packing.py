"""Which order of a block to spend, and what a claim costs there: the heart of DPack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.scheduling.problem import Bools, Floats, Ints, Supply, Waiting, grouped

__all__ = ["Packing"]

_DIGITS = 2.0**32


@dataclass(frozen=True)
class _Column:
    """What pairs want at one order, block after block, the smallest demand for its weight first, then by arrival."""

    pairs: Ints
    demand: Ints
    weight: Floats

    def kept(self, pairs: Bools) -> _Column:
        kept = pairs[self.pairs]
        return _Column(self.pairs[kept], self.demand[kept], self.weight[kept])

    def greatest_weights(self, starts: Ints, lengths: Ints, available: Ints) -> Floats:
        """Of every block that somebody wants, how much weight fits; -1 where nothing is available.

        Taking demands by density, as many as fit, is the greatest count where all weights are equal. Where they are
        not, it or the heaviest demand that fits alone is at least half of the greatest weight: a knapsack would tell.

        Args:
            starts: where each block's pairs begin.
            lengths: how many they are.
            available: what each of these blocks has at this order.
        """
        together = np.cumsum(self.demand)
        left = np.repeat(available + together[starts] - self.demand[starts], lengths)
        packed = np.add.reduceat(np.where(together <= left, self.weight, 0.0), starts)
        alone = self.demand <= np.repeat(available, lengths)
        heaviest = np.maximum.reduceat(np.where(alone, self.weight, 0.0), starts)
        return np.where(available > 0, np.maximum(packed, heaviest), -1.0)


class Packing:
    """The claims that still compete, sorted once by what they ask of each block; they can only become fewer.

    Args:
        supply: the blocks.
        waiting: the claims, by arrival.

    Cost:
        One sort of all pairs at each order; then each `by_efficiency` is linear in the pairs that are left.
    """

    def __init__(self, supply: Supply, waiting: Waiting) -> None:
        self._waiting, self._owner = waiting, waiting.owner
        self._pairs = np.arange(len(waiting.block))
        chooses = supply.fits == "any" and supply.capacity.shape[1] > 1
        orders = np.flatnonzero((supply.available > 0).any(axis=0)) if chooses else np.arange(0)
        self._columns = {order: self._column(order) for order in orders.tolist()}

    def by_efficiency(self, claims: Ints, available: Ints) -> Ints:
        """The claims, the greatest weight per cost first, then by arrival.

        A claim costs, on each of its blocks, the part of what is available that it asks for: of every amount, or at
        the block's best orders where it may choose; the sum over its blocks.

        Args:
            claims: those that compete, ascending, at least one; from now on no other does.
            available: what the blocks have, (B, A).

        Guarantees:
            Efficiencies that agree in the first 32 binary digits count as equal.
        """
        self._keep(claims)
        counting = self._best_orders(available) if self._columns else available > 0
        counts = self._waiting.counts[claims]
        cost = np.add.reduceat(self._pair_costs(available, counting), np.cumsum(counts) - counts)
        efficiency = np.divide(self._waiting.weight[claims], cost, out=np.full(len(cost), np.inf), where=cost > 0)
        return claims[np.argsort(-_shortened(efficiency), kind="stable")]

    def _column(self, order: int) -> _Column:
        weight = self._waiting.weight[self._owner]
        density = self._waiting.demand[:, order] / weight
        # of equal weights and equal demands it does not matter which comes first, and the faster sort will do
        alike = bool((weight == weight[:1]).all())
        ascending = np.argsort(density, kind=None if alike else "stable")
        pairs = ascending[grouped(self._waiting.block[ascending])]
        return _Column(pairs, self._waiting.demand[pairs, order], weight[pairs])

    def _keep(self, claims: Ints) -> None:
        competes = np.zeros(len(self._waiting), dtype=bool)
        competes[claims] = True
        kept = competes[self._owner]
        self._pairs = self._pairs[kept[self._pairs]]
        self._columns = {order: column.kept(kept) for order, column in self._columns.items()}

    def _best_orders(self, available: Ints) -> Bools:
        """Of every block, the orders at which the most weight fits; all of them if several do, (B, A)."""
        weights = np.full(available.shape, -1.0)
        # every column has the same pairs of a block in the same places
        lengths = np.bincount(self._waiting.block[self._pairs], minlength=len(available))
        blocks = np.flatnonzero(lengths)
        starts = np.cumsum(lengths[blocks]) - lengths[blocks]
        for order, column in self._columns.items():
            weights[blocks, order] = column.greatest_weights(starts, lengths[blocks], available[blocks, order])
        best: Bools = (weights == weights.max(axis=1, keepdims=True)) & (available > 0)
        return best

    def _pair_costs(self, available: Ints, counting: Bools) -> Floats:
        """What each pair costs, over all amounts that count in its block."""
        costs, block = np.zeros(len(self._pairs)), self._waiting.block[self._pairs]
        for order in np.flatnonzero(counting.any(axis=0)):
            here = np.flatnonzero(counting[block, order])
            costs[here] += self._waiting.demand[self._pairs[here], order] / available[block[here], order]
        return costs


def _shortened(values: Floats) -> Floats:
    """To 32 binary digits: sums that are equal exactly stay equal however their doubles were rounded."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * _DIGITS), exponent)
