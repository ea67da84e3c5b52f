"""The workload on which PrivateKube compares schedulers (Luo et al. 2021, section 6.1), in grains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lake.scheduling import Fits, Supply, Waiting

__all__ = ["CASES", "Bools", "Case", "Floats", "Ints", "Workload", "contended"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GRAINS = 2.0**36
_MICE, _ELEPHANTS, _SHARE_OF_MICE = 0.01, 0.1, 0.75
_DELTA, _CLAIM_DELTA = 1e-6, 1e-9
_BLOCK_SECONDS, _BLOCKS_AT_START = 10, 12
_ORDERS = np.array([1.000001, 1.0001, 1.5, 2.0, *(2.0**k for k in range(2, 12)), 20480.0])


@dataclass(frozen=True)
class Case:
    """One of the four comparisons.

    Attributes:
        name: as records spell it.
        fits: "every" for basic composition, "any" for Renyi orders.
        blocks: "single" or "multi".
        rate: claims a second.
        horizon_seconds: when it ends.
        timeout_seconds: how long a claim waits.
        fair: M, how many mice fit a block.
    """

    name: str
    fits: Fits
    blocks: str
    rate: float
    horizon_seconds: float
    timeout_seconds: float
    fair: int


CASES = {
    case.name: case
    for case in (
        Case("single block, basic", "every", "single", 1.0, 236.0, 300.0, 100),
        Case("single block, Renyi", "any", "single", 1.0, 34_289.0, 300.0, 14_514),
        Case("many blocks, basic", "every", "multi", 12.8, 300.0, math.inf, 100),
        Case("many blocks, Renyi", "any", "multi", 234.4, 300.0, math.inf, 14_514),
    )
}


@dataclass(frozen=True)
class Workload:
    """Claims in order of arrival, each of which wants the same of some neighbouring blocks.

    Attributes:
        case: what it was drawn for.
        at: seconds, ascending, (n,).
        low: the first block of every claim, (n,).
        high: the last block, (n,).
        demand: grains, of each of its blocks, (n, A).
        born: seconds, of every block, (B,).
        capacity: grains, of each block, (A,).
    """

    case: Case
    at: Floats
    low: Ints
    high: Ints
    demand: Ints
    born: Floats
    capacity: Ints

    @classmethod
    def drawn(cls, case: Case, seed: int) -> Workload:
        """Poisson arrivals, mice and elephants."""
        random = np.random.default_rng(seed)
        gaps = random.exponential(1 / case.rate, int(2 * case.rate * case.horizon_seconds) + 100)
        at = np.cumsum(gaps)
        at = at[at < case.horizon_seconds]
        n = len(at)
        epsilon = np.where(random.random(n) < _SHARE_OF_MICE, _MICE, _ELEPHANTS) * random.uniform(0.9999999, 1, n)
        last, width = np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.int64)
        born = np.zeros(1)
        if case.blocks == "multi":
            later = np.arange(_BLOCK_SECONDS, case.horizon_seconds, _BLOCK_SECONDS)
            born = np.concatenate((np.zeros(_BLOCKS_AT_START), later))
            last = np.searchsorted(born, at, side="right") - 1
            width = np.where(random.random(n) < 0.75, 1, 10)
        return cls(case, at, last - width + 1, last, _demand(case.fits, epsilon), born, _capacity(case.fits))

    def waiting(self, claims: Ints) -> Waiting:
        """Some of the claims, as a scheduler wants them."""
        counts = self.high[claims] - self.low[claims] + 1
        first = np.concatenate(([0], np.cumsum(counts)))
        block = np.repeat(self.low[claims] - first[:-1], counts) + np.arange(first[-1])
        return Waiting(claims, np.ones(len(claims)), first, block, np.repeat(self.demand[claims], counts, axis=0))

    def at_once(self) -> tuple[Supply, Waiting]:
        """All of its blocks, open from the beginning, and all of its claims."""
        rows = np.tile(self.capacity, (len(self.born), 1))
        return Supply(rows, rows.copy(), self.case.fits), self.waiting(np.arange(len(self.at)))


def contended(claims: int, blocks: int, fits: Fits, *, load: float = 2.0, seed: int = 0) -> tuple[Supply, Waiting]:
    """One pass: mice and elephants, all there at once, each on 1 or 10 neighbours of many blocks.

    Args:
        claims: how many.
        blocks: how many, more than 10.
        fits: "every" for basic composition, "any" for Renyi orders.
        load: how much of the median block is wanted, as a multiple of what it has; at its best order.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    mice = random.random(claims) < _SHARE_OF_MICE
    epsilon = np.where(mice, _MICE, _ELEPHANTS) * random.uniform(0.9999999, 1, claims)
    width = np.where(random.random(claims) < 0.75, 1, 10)
    low = random.integers(0, blocks - 9, claims)
    case = CASES["many blocks, basic" if fits == "every" else "many blocks, Renyi"]
    demand, capacity = _demand(fits, epsilon), _capacity(fits)
    drawn = Workload(case, np.zeros(claims), low, low + width - 1, demand, np.zeros(blocks), capacity)
    waiting = drawn.waiting(np.arange(claims))
    best = int(np.argmax(capacity / demand.min(axis=0)))
    wanted = np.median(np.bincount(waiting.block, waiting.demand[:, best], blocks))
    rows = np.tile((capacity * (wanted / capacity[best] / load)).astype(np.int64), (blocks, 1))
    return Supply(rows, rows.copy(), fits), waiting


def _demand(fits: Fits, epsilon: Floats) -> Ints:
    if fits == "every":
        return np.ceil(epsilon * _GRAINS).astype(np.int64)[:, None]
    sigma = math.sqrt(2 * math.log(1.25 / _CLAIM_DELTA)) / epsilon
    return np.ceil(_ORDERS / (2 * sigma[:, None] ** 2) * _GRAINS).astype(np.int64)


def _capacity(fits: Fits) -> Ints:
    if fits == "every":
        return np.array([_GRAINS], dtype=np.int64)
    return np.floor(np.clip(1 - math.log(1 / _DELTA) / (_ORDERS - 1), 0, None) * _GRAINS).astype(np.int64)
