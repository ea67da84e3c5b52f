"""The schedulers once more: slow, one claim after the other, in fractions; and random problems for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import strategies as st

from lake.scheduling import Fits, Supply, Waiting

Amounts = tuple[int, ...]


@dataclass(frozen=True)
class Claim:
    """One claim: what it wants of which block."""

    number: int
    weight: int
    wants: dict[int, Amounts]


@dataclass(frozen=True)
class Problem:
    """Blocks and claims, as plain values."""

    fits: Fits
    capacity: tuple[Amounts, ...]
    available: tuple[Amounts, ...]
    claims: tuple[Claim, ...]

    def supply(self) -> Supply:
        return Supply(np.array(self.capacity, np.int64), np.array(self.available, np.int64), self.fits)

    def waiting(self) -> Waiting:
        first = np.cumsum([0, *(len(claim.wants) for claim in self.claims)])
        pairs = [pair for claim in self.claims for pair in claim.wants.items()]
        demand = np.array([wanted for _, wanted in pairs], np.int64).reshape(len(pairs), len(self.capacity[0]))
        return Waiting(
            np.array([claim.number for claim in self.claims], np.int64),
            np.array([claim.weight for claim in self.claims], np.float64),
            first,
            np.array([block for block, _ in pairs], np.int64),
            demand,
        )

    def granted(self, scheduler) -> list[int]:
        """The numbers of the claims that a scheduler grants, in order."""
        return [self.claims[i].number for i in scheduler.grants(self.supply(), self.waiting()).tolist()]

    def left(self, numbers: Iterable[int]) -> list[Amounts]:
        """What the blocks have after some claims, each of which must fit at its turn."""
        left, by_number = list(self.available), {claim.number: claim for claim in self.claims}
        for number in numbers:
            assert fits_all(by_number[number], left, self.fits)
            take(by_number[number], left)
        return left


def fits_all(claim: Claim, left: list[Amounts], fits: Fits) -> bool:
    combine = all if fits == "every" else any
    return all(combine(d <= has for d, has in zip(wanted, left[b], strict=True)) for b, wanted in claim.wants.items())


def take(claim: Claim, left: list[Amounts]) -> None:
    for block, wanted in claim.wants.items():
        left[block] = tuple(has - d for d, has in zip(wanted, left[block], strict=True))


def in_turn(problem: Problem, claims: Iterable[Claim], left: list[Amounts], most: float = math.inf) -> list[Claim]:
    granted: list[Claim] = []
    for claim in claims:
        if len(granted) < most and fits_all(claim, left, problem.fits):
            take(claim, left)
            granted.append(claim)
    return granted


def by_arrival(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: claim.number)


def fcfs(problem: Problem) -> list[int]:
    return numbers(in_turn(problem, by_arrival(problem.claims), list(problem.available)))


def numbers(claims: Iterable[Claim]) -> list[int]:
    return [claim.number for claim in claims]


def share(problem: Problem, block: int, wanted: Amounts) -> Fraction | float:
    parts = [Fraction(d, whole) for d, whole in zip(wanted, problem.capacity[block], strict=True) if whole]
    excess = any(d and not whole for d, whole in zip(wanted, problem.capacity[block], strict=True))
    return math.inf if excess and problem.fits == "every" else max(parts, default=Fraction(0))


def dominant_share(problem: Problem, claim: Claim) -> Fraction | float:
    return max(share(problem, block, wanted) for block, wanted in claim.wants.items())


def dpf(problem: Problem) -> list[int]:
    def key(claim: Claim) -> list[Fraction | float]:
        shares = sorted((share(problem, b, wanted) for b, wanted in claim.wants.items()), reverse=True)
        return shares + [Fraction(0)] * (len(problem.capacity) - len(shares))

    order = sorted(by_arrival(problem.claims), key=key)
    return numbers(in_turn(problem, order, list(problem.available)))


def filled(demands: list[int], available: int) -> list[Fraction]:
    """Max-min shares by filling: everybody the same, until somebody has enough."""
    shares, unsatisfied, left = [Fraction(0)] * len(demands), set(range(len(demands))), Fraction(max(available, 0))
    while unsatisfied and left:
        level = min(left / len(unsatisfied), *(demands[i] - shares[i] for i in unsatisfied))
        for i in unsatisfied:
            shares[i] += level
        left -= level * len(unsatisfied)
        unsatisfied = {i for i in unsatisfied if shares[i] < demands[i]}
    return shares


def round_robin(problem: Problem) -> list[int]:
    def is_covered(claim: Claim, block: int, amount: int) -> bool:
        waiters = [c for c in problem.claims if block in c.wants]
        shares = filled([c.wants[block][amount] for c in waiters], problem.available[block][amount])
        return problem.available[block][amount] >= 0 and shares[waiters.index(claim)] == claim.wants[block][amount]

    combine = all if problem.fits == "every" else any
    amounts = range(len(problem.capacity[0]))
    covered = [c for c in problem.claims if all(combine(is_covered(c, b, a) for a in amounts) for b in c.wants)]
    return numbers(in_turn(problem, by_arrival(covered), list(problem.available)))


def most_weight(problem: Problem, claims: list[Claim], block: int, amount: int, available: int) -> Fraction:
    waiters = [c for c in claims if block in c.wants]
    waiters.sort(key=lambda c: Fraction(c.wants[block][amount], c.weight))
    packed, used = 0, 0
    for claim in waiters:
        used += claim.wants[block][amount]
        if used > available:
            break
        packed += claim.weight
    alone = [c.weight for c in waiters if c.wants[block][amount] <= available]
    return Fraction(max(packed, *alone, 0) if alone else packed)


def efficiency(problem: Problem, claims: list[Claim], left: list[Amounts]) -> Callable[[Claim], float]:
    amounts = range(len(left[0]))
    counting = {}
    for block, has in enumerate(left):
        there = [a for a in amounts if has[a] > 0]
        weights = {a: most_weight(problem, claims, block, a, has[a]) for a in there}
        greatest = max(weights.values(), default=0)
        counting[block] = there if problem.fits == "every" else [a for a in there if weights[a] == greatest]

    def of(claim: Claim) -> float:
        cost = sum(
            (Fraction(wanted[a], left[b][a]) for b, wanted in claim.wants.items() for a in counting[b]), Fraction(0)
        )
        mantissa, exponent = math.frexp(claim.weight / cost) if cost else (math.inf, 0)
        return math.ldexp(round(mantissa * 2**32), exponent) if cost else math.inf

    return of


def packed(problem: Problem, every: int) -> list[int]:
    left = list(problem.available)
    claims = [c for c in by_arrival(problem.claims) if fits_all(c, left, problem.fits)]
    combine = all if problem.fits == "every" else any
    everybody = [
        [sum(c.wants[b][a] for c in claims if b in c.wants) for a in range(len(left[b]))] for b in range(len(left))
    ]
    roomy = {b for b in range(len(left)) if combine(d <= has for d, has in zip(everybody[b], left[b], strict=True))}
    granted = in_turn(problem, [c for c in claims if roomy.issuperset(c.wants)], left)
    claims = [c for c in claims if c not in granted]
    while claims:
        of = efficiency(problem, claims, left)
        granted += in_turn(problem, sorted(claims, key=lambda c: -of(c)), left, every)
        claims = [c for c in claims if c not in granted and fits_all(c, left, problem.fits)]
    return numbers(granted)


def dpack(problem: Problem, every: int, *, at_once: bool = True) -> list[int]:
    ours, theirs = packed(problem, every), dpf(problem)
    by_number = {claim.number: claim for claim in problem.claims}
    gained, displaced = ([by_number[n] for n in set(a) - set(b)] for a, b in ((ours, theirs), (theirs, ours)))
    if sum(c.weight for c in gained) <= sum(c.weight for c in displaced):
        return theirs
    greed = max(dominant_share(problem, c) / c.weight for c in gained)
    least = min((dominant_share(problem, c) / c.weight for c in displaced), default=math.inf)
    return ours if at_once or greed <= least else theirs


def problems(fits: Fits | None = None) -> st.SearchStrategy[Problem]:
    """Small problems in which much ties: few different amounts, blocks without capacity, orders that are overdrawn.

    Each is drawn from a seed: that is many times as fast as to draw every part of it.
    """
    return st.integers(0, 2**64).map(lambda seed: _drawn(Random(seed), fits))


def _drawn(random: Random, fits: Fits | None) -> Problem:
    how = fits or random.choice(("every", "any"))
    blocks, width, greatest = random.randint(1, 4), random.randint(1, 3), random.choice((3, 9, 9))

    def amounts(least: int, most: int) -> Amounts:
        return tuple(random.randint(least, most) for _ in range(width))

    capacity = tuple(amounts(0, 20) if random.random() < 0.9 else (0,) * width for _ in range(blocks))
    lowest = 0 if how == "every" else -5
    available = tuple(tuple(random.randint(min(lowest, c), c) for c in row) for row in capacity)
    weights = random.choice(((2,), (1, 1, 2, 5)))
    claims = [
        Claim(n, random.choice(weights), {b: amounts(0, greatest) for b in _some(random, blocks)})
        for n in range(random.randint(0, 14))
    ]
    random.shuffle(claims)
    return Problem(how, capacity, available, tuple(claims))


def _some(random: Random, blocks: int) -> list[int]:
    return random.sample(range(blocks), random.randint(1, blocks))
