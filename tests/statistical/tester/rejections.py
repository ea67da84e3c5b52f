"""Whether samples of an algorithm on two neighbours contradict its guarantee, at a stated false-alarm rate.

Both tests look at one number a sample. Any number that depends on what was released is fair: the better it tells the
neighbours apart, the more power a test has. Each returns by how much the guarantee is exceeded for certain: above 0 is
a rejection, and of an algorithm that keeps its guarantee that happens with probability at most `false_alarm`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["excess_of_epsilon_delta", "excess_of_rho"]

Reals = NDArray[np.float64]

_PILOT = 10  # one sample in so many chooses what is tested; the others are tested
_EVENTS = 32
_ORDERS = (1.5, 2.0, 3.0)
_FACTORS = (1.0, 1.25)  # how much better than declared the witness may tell the neighbours apart
_CLIPPED = 2e-4  # share of the pilot's witnesses that are cut, to keep them bounded


def excess_of_epsilon_delta(
    without: Reals, with_unit: Reals, *, epsilon: float, delta: float, false_alarm: float
) -> float:
    """The greatest certain P(event) - e^epsilon P'(event) - delta over events "at least t" and "less than t".

    Args:
        without: one number a sample, on one neighbour.
        with_unit: on the other one.
        epsilon: what was paid.
        delta: likewise.
        false_alarm: shared by the Clopper-Pearson bounds of all events.
    """
    pilot = np.concatenate([without[::_PILOT], with_unit[::_PILOT]])
    cuts = np.unique(pilot)[1:]
    if len(cuts) > _EVENTS:
        cuts = np.unique(np.quantile(pilot, np.linspace(0, 1, _EVENTS + 1)[1:], method="higher"))
    if len(cuts) == 0:
        return -delta
    counted = [np.sort(np.delete(numbers, np.s_[::_PILOT])) for numbers in (without, with_unit)]
    above, above_with = (len(numbers) - np.searchsorted(numbers, cuts) for numbers in counted)
    sizes = [len(numbers) for numbers in counted]
    each = false_alarm / (4 * len(cuts))
    growth = math.exp(epsilon)
    more = _least(above_with, sizes[1], each) - growth * _most(above, sizes[0], each)
    less = _least(sizes[0] - above, sizes[0], each) - growth * _most(sizes[1] - above_with, sizes[1], each)
    return float(max(more.max(), less.max()) - delta)


def _least(hits: NDArray[np.int64], trials: int, level: float) -> Reals:
    """Clopper-Pearson bound from below."""
    return np.where(hits > 0, stats.beta.ppf(level, np.maximum(hits, 1), trials - hits + 1), 0.0)


def _most(hits: NDArray[np.int64], trials: int, level: float) -> Reals:
    return 1 - _least(trials - hits, trials, level)


def excess_of_rho(without: Reals, with_unit: Reals, *, rho: float, false_alarm: float) -> float:
    """The greatest certain surplus of a Renyi divergence of order a over a rho, both ways round, for some orders.

    For every bounded g, D_a(P || Q) >= a / (a - 1) log E_P exp((a - 1) g) - log E_Q exp(a g), with equality at the log
    likelihood ratio (Birrell et al. 2021); means of bounded numbers have empirical Bernstein bounds (Maurer and Pontil
    2009).

    Args:
        without: the declared log likelihood ratio, more or less, of each sample on one neighbour.
        with_unit: on the other one.
        rho: what was paid.
        false_alarm: shared by all bounds.
    """
    each = false_alarm / (4 * len(_ORDERS) * len(_FACTORS))
    ways = ((with_unit, without, 1.0), (without, with_unit, -1.0))
    return max(
        _divergence(p, q, order, sign * factor, each) - order * rho
        for p, q, sign in ways
        for order in _ORDERS
        for factor in _FACTORS
    )


def _divergence(p: Reals, q: Reals, order: float, factor: float, level: float) -> float:
    most = float(np.quantile(factor * p[::_PILOT], 1 - _CLIPPED))
    of_p, of_q = (np.minimum(factor * np.delete(numbers, np.s_[::_PILOT]), most) - most for numbers in (p, q))
    # shifting g by a constant changes nothing; now exp(g) is within 0..1
    above = _mean_bound(np.exp((order - 1) * of_p), level, -1)
    below = _mean_bound(np.exp(order * of_q), level, 1)
    return -math.inf if above <= 0 else order / (order - 1) * math.log(above) - math.log(below)


def _mean_bound(numbers: Reals, level: float, side: int) -> float:
    """A bound of the mean of independent numbers within 0..1, from below or from above."""
    log, size = math.log(2 / level), len(numbers)
    spread = math.sqrt(2 * float(numbers.var(ddof=1)) * log / size) + 7 * log / (3 * (size - 1))
    return float(numbers.mean()) + side * spread
