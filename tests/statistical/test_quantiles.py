"""How far noise moves ranks, and how often intervals of quantiles cover, over seeds in the place of entropy.

False-alarm rate of each acceptance region: 1e-6. Twins with wider noise than declared are rejected.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.noise.accuracy import NoiseTerm
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.tree import Tree
from dp.planning.tree_estimation import consistent, total_rows
from dp.planning.tree_shape import equal_variances, rank_reach
from tests.tools.entropy import seeded_random

pytestmark = pytest.mark.slow

FALSE_ALARM = 1e-6
MOST_ABOVE = 0.012
"""By how much rounding the number of alike draws down may raise the coverage of a rank."""
CONFIDENCE = 0.95
RUNS = 16_000
MECHANISMS = {"laplace": DiscreteLaplace(Fraction(15)), "gaussian": DiscreteGaussian(Fraction(450))}
WIDER = {
    "laplace": DiscreteLaplace(15 * Fraction(115, 100)),
    "gaussian": DiscreteGaussian(450 * Fraction(115, 100) ** 2),
}
TWICE = {"laplace": DiscreteLaplace(Fraction(30)), "gaussian": DiscreteGaussian(Fraction(1800))}
NORMS = {"laplace": 1, "gaussian": 2}
RANKS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])

Drawn = DiscreteLaplace | DiscreteGaussian


def noise(tree: Tree, drawn: Drawn, runs: int, seed: str) -> NDArray[np.int64]:
    return drawn.sample(runs * tree.nodes, seeded_random(seed)).reshape(runs, tree.nodes)


def moved_ranks(family: str, drawn: Drawn) -> dict[tuple[int, float], int]:
    """Of RUNS runs, in how many the noise of T(k, q) stays within its reach; for some k and q."""
    tree = Tree.plan(Fraction(0), Fraction(120), integral=True, groups=1, norm=NORMS[family])
    leaves = consistent(tree.shape, noise(tree, drawn, RUNS, f"ranks {family}"), equal_variances(tree.shape))
    left = total_rows(leaves)
    reach = rank_reach(tree.shape, NoiseTerm(MECHANISMS[family], 1.0, 1), RANKS, CONFIDENCE)
    return {
        (k, float(q)): int((np.abs(left[:, k] - q * left[:, -1]) <= reach[k, r]).sum())
        for k in (1, 12, 40, 61, 100)
        for r, q in enumerate(RANKS)
    }


def accepted(inside: int, trials: int, most: float) -> bool:
    """Whether the count could come from a coverage between CONFIDENCE and `most`."""
    low, high = stats.binom.ppf(FALSE_ALARM / 2, trials, CONFIDENCE), stats.binom.isf(FALSE_ALARM / 2, trials, most)
    return bool(low <= inside <= high)


@pytest.mark.parametrize("family", MECHANISMS)
def test_noise_moves_ranks_as_far_as_it_is_said_to(family: str) -> None:
    for where, inside in moved_ranks(family, MECHANISMS[family]).items():
        assert accepted(inside, RUNS, CONFIDENCE + MOST_ABOVE), (where, inside)


@pytest.mark.parametrize("family", MECHANISMS)
def test_noise_that_is_wider_than_declared_is_noticed(family: str) -> None:
    for where, inside in moved_ranks(family, WIDER[family]).items():
        assert not accepted(inside, RUNS, CONFIDENCE + MOST_ABOVE), (where, inside)


DATA = {
    "skewed": np.random.default_rng(1).random(20_000) ** 2,
    "normal": np.random.default_rng(2).normal(0.4, 0.1, 20_000),
    "lognormal": np.random.default_rng(3).lognormal(0, 1, 5_000) / 50,
    "points": np.random.default_rng(4).choice([0.1, 0.25, 0.5, 0.9], 500),
    "two_ends": np.repeat([0.0, 1.0], [260, 240]),
}


def covered(family: str, drawn: Drawn, rows: NDArray[np.float64], runs: int) -> NDArray[np.int64]:
    """In how many runs the interval of each rank holds the quantile of the clamped rows."""
    tree = Tree.plan(Fraction(0), Fraction(1), integral=False, groups=1, norm=NORMS[family])
    counts = tree.shape.node_counts(np.bincount(tree.leaf_of(rows), minlength=tree.leaves)[None])
    noised = counts + noise(tree, drawn, runs, f"intervals {family}")
    lower, upper = tree.intervals(noised, NoiseTerm(MECHANISMS[family], 1.0, 1), list(RANKS), CONFIDENCE)
    truth = np.quantile(np.clip(rows, 0, 1), RANKS, method="inverted_cdf")
    return np.asarray(((lower <= truth) & (truth <= upper)).sum(axis=0))


@pytest.mark.parametrize("family", MECHANISMS)
@pytest.mark.parametrize("name", DATA)
def test_intervals_cover_at_least_as_often_as_they_say(family: str, name: str) -> None:
    inside = covered(family, MECHANISMS[family], DATA[name], 1000)
    assert all(accepted(int(count), 1000, 1.0) for count in inside), inside


@pytest.mark.parametrize("family", MECHANISMS)
def test_intervals_for_half_the_noise_do_not_cover(family: str) -> None:
    inside = covered(family, TWICE[family], DATA["skewed"], 1000)
    assert not accepted(int(inside.min()), 1000, 1.0), inside
