"""The tree: where values fall, least squares, the noise of ranks, and what quantiles are like whatever the noise."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.noise.accuracy import NoiseTerm
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.planning.tree import Tree
from dp.planning.tree_estimation import consistent, nonnegative
from dp.planning.tree_shape import TreeShape, best_shape, rank_moments, rank_reach

SHAPES = st.sampled_from([TreeShape(b, h) for b, h in [(2, 1), (7, 1), (2, 4), (3, 3), (5, 2), (4, 3)]])
RANKS = [0.0, 0.01, 0.1, 0.5, 0.5, 0.9, 1.0]
CELL = NoiseTerm(DiscreteLaplace(Fraction(3)), 1.0, 1)
NO_NOISE = NoiseTerm(DiscreteLaplace(Fraction(1, 10**6)), 1.0, 1)
REAL_TREES = [
    Tree.plan(Fraction(lower), Fraction(upper), integral=False, groups=1)
    for lower, upper in [("0", "100"), ("-1", "1"), ("0.1", "0.7"), ("-1e30", "1e-30"), ("1e15", "1000000000000001")]
]
INTEGER_TREES = [
    Tree.plan(Fraction(lower), Fraction(upper), integral=True, groups=1)
    for lower, upper in [("0", "120"), ("-0.5", "1.5"), ("7", "7"), ("-5000", "6001"), (str(-(2**52)), str(2**52))]
]


def design(shape: TreeShape) -> NDArray[np.float64]:
    """Which leaves add to which node, shape (nodes, leaves)."""
    return shape.node_counts(np.eye(shape.leaves, dtype=np.int64)).T.astype(np.float64)


def weights(shape: TreeShape, variances: list[float]) -> NDArray[np.float64]:
    return np.concatenate([np.full(shape.branching**level, 1 / v) for level, v in enumerate(variances, 1)])


@st.composite
def noised_trees(draw: st.DrawFn) -> tuple[TreeShape, tuple[float, ...], NDArray[np.int64]]:
    shape = draw(SHAPES)
    variances = draw(st.lists(st.floats(0.01, 100), min_size=shape.height, max_size=shape.height))
    counts = draw(hnp.arrays(np.int64, (2, shape.nodes), elements=st.integers(-(10**6), 10**6)))
    return shape, tuple(variances), counts


@given(noised_trees())
def test_estimates_are_the_weighted_least_squares_solution(
    noised: tuple[TreeShape, tuple[float, ...], NDArray[np.int64]],
) -> None:
    shape, variances, counts = noised
    root = np.sqrt(weights(shape, list(variances)))
    expected = np.linalg.lstsq(design(shape) * root[:, None], (counts * root).T, rcond=None)[0].T
    assert np.allclose(consistent(shape, counts, variances), expected, rtol=1e-9, atol=1e-5)


@given(SHAPES, st.data())
def test_the_noise_of_ranks_is_that_of_the_linear_estimator(shape: TreeShape, data: st.DataObject) -> None:
    variances = data.draw(st.lists(st.floats(0.01, 100), min_size=shape.height, max_size=shape.height))
    w, a = weights(shape, variances), design(shape)
    leaves_of_cells = np.linalg.solve(a.T @ (a * w[:, None]), a.T * w)  # (leaves, nodes)
    ranks = np.array([0.0, 0.3, 1.0])
    second, fourth = rank_moments(shape, tuple(variances), ranks)
    left = np.tril(np.ones((shape.leaves + 1, shape.leaves)), -1)
    for r, rank in enumerate(ranks):
        shares = ((left - rank) @ leaves_of_cells) ** 2 / w
        assert np.allclose(second[:, r], shares.sum(axis=1), atol=1e-9)
        assert np.allclose(fourth[:, r], (shares**2).sum(axis=1), atol=1e-9)


def test_levels_are_numbered_from_the_top() -> None:
    shape = TreeShape(16, 3)
    assert [shape.level_offset(level) for level in (1, 2, 3, 4)] == [0, 16, 272, 4368]
    assert (shape.leaves, shape.nodes) == (4096, 4368)


@given(SHAPES, st.data())
def test_a_row_adds_one_to_one_node_of_each_level(shape: TreeShape, data: st.DataObject) -> None:
    """The sensitivity: height times a row's in L1, and as the levels are disjoint also in squared L2."""
    leaf = data.draw(st.integers(0, shape.leaves - 1))
    row = np.zeros((1, shape.leaves), np.int64)
    row[0, leaf] = 1
    counts = shape.node_counts(row)
    assert sorted(counts[0])[-shape.height :] == [1] * shape.height
    assert counts.sum() == shape.height
    for level in range(1, shape.height + 1):
        node = shape.level_offset(level) + leaf // shape.branching ** (shape.height - level)
        assert counts[0, node] == 1


@given(noised_trees())
def test_nonnegative_leaves_keep_the_total_and_what_is_fine_already(
    noised: tuple[TreeShape, tuple[float, ...], NDArray[np.int64]],
) -> None:
    shape, variances, counts = noised
    leaves = nonnegative(shape, consistent(shape, counts, variances))
    total = consistent(shape, counts, variances).sum(axis=1)
    assert leaves.min() >= 0
    assert np.allclose(leaves.sum(axis=1), np.maximum(total, 0), atol=1e-5)
    assert np.allclose(nonnegative(shape, leaves), leaves, rtol=1e-9, atol=1e-5)


def test_the_nearest_point_of_the_simplex() -> None:
    leaves = np.array([[5.0, -1.0, 1.0, -1.0], [-1.0, -1.0, -1.0, 1.0]])
    assert nonnegative(TreeShape(4, 1), leaves).tolist() == [[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


@given(st.sampled_from(REAL_TREES), st.floats(allow_nan=False))
def test_a_leaf_holds_what_lies_between_its_edges(tree: Tree, value: float) -> None:
    leaf = int(tree.leaf_of(value))
    clamped = min(max(value, tree.edges[0]), tree.edges[-1])
    assert tree.edges[leaf] <= clamped
    assert clamped < tree.edges[leaf + 1] or leaf == tree.leaves - 1


@pytest.mark.parametrize("tree", REAL_TREES[:4], ids=str)
def test_edges_of_reals_are_where_they_are_meant(tree: Tree) -> None:
    rounding = max(abs(float(tree.lower)), abs(float(tree.upper))) * 2.0**-50
    meant = np.array([float(edge) for edge in tree.exact_edges])
    assert np.abs(tree.edges - meant).max() <= rounding
    inner = tree.edges[1:-1]
    assert np.array_equal(tree.leaf_of(inner), np.arange(1, tree.leaves))
    assert np.array_equal(tree.leaf_of(np.nextafter(inner, -math.inf)), np.arange(tree.leaves - 1))


@given(st.sampled_from(INTEGER_TREES), st.integers(-(2**63), 2**63 - 1))
def test_leaves_of_integers_are_exact(tree: Tree, value: int) -> None:
    low, high = -((-tree.lower) // 1), tree.upper // 1
    clamped = min(max(value, low), high)
    leaf = int(tree.leaf_of(value))
    assert tree.exact_edges[leaf] <= clamped < tree.exact_edges[leaf + 1]


@given(st.sampled_from([REAL_TREES[0], *INTEGER_TREES[:4]]), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
@settings(max_examples=40)
def test_quantiles_stay_in_bounds_and_increase_whatever_the_counts(tree: Tree, seed: int, size: int) -> None:
    counts = np.random.default_rng(seed).integers(-size, size + 1, (3, tree.nodes))
    values = tree.quantiles(counts, CELL, RANKS)
    lower, upper = tree.intervals(counts, CELL, RANKS, 0.95)
    assert np.all(np.diff(values, axis=1) >= 0)
    assert np.all((tree.lower <= lower) & (lower <= values) & (values <= upper) & (upper <= tree.upper))
    if tree.integral:
        assert np.array_equal(values, np.round(values))


@pytest.mark.parametrize("tree", INTEGER_TREES[:3], ids=str)
def test_an_exact_tree_without_noise_gives_the_quantiles(tree: Tree) -> None:
    rows = np.random.default_rng(4).integers(-10, 140, 1001)
    clamped = np.clip(rows, -((-tree.lower) // 1), tree.upper // 1)
    counts = tree.shape.node_counts(np.bincount(tree.leaf_of(rows), minlength=tree.leaves)[None])
    ranks = [0.1, 0.25, 0.5, 0.9, 1.0]
    assert tree.exact
    expected = np.quantile(clamped, ranks, method="inverted_cdf")
    assert tree.quantiles(counts, NO_NOISE, ranks)[0].tolist() == expected.tolist()
    lower, upper = tree.intervals(counts, NO_NOISE, ranks, 0.95)
    assert np.all((lower[0] <= expected) & (expected <= upper[0]))


@pytest.mark.parametrize(("tree", "middle"), [(REAL_TREES[0], 50.0), (INTEGER_TREES[0], 60.0), (INTEGER_TREES[1], 0.0)])
def test_a_group_without_rows_gets_the_middle_and_the_whole_range(tree: Tree, middle: float) -> None:
    counts = np.stack([np.zeros(tree.nodes, np.int64), np.full(tree.nodes, -9)])
    assert np.all(tree.quantiles(counts, CELL, RANKS) == middle)
    lower, upper = tree.intervals(counts, CELL, RANKS[1:-1], 0.95)
    assert np.all(lower == tree.edges[0])
    assert np.all(upper >= float(tree.upper // 1))


def test_the_minimum_is_not_looked_for_in_noise() -> None:
    """All rows at 40..60 of 0..100: both extremes stay near them in most groups though every empty leaf is noisy."""
    tree, random = REAL_TREES[0], np.random.default_rng(5)
    rows = np.bincount(tree.leaf_of(random.uniform(40, 60, 2000)), minlength=tree.leaves)
    counts = tree.shape.node_counts(rows[None]) + random.laplace(0, 3, (200, tree.nodes)).round().astype(np.int64)
    found = tree.quantiles(counts, CELL, [0.0, 1.0])
    assert np.median(np.abs(found - [40.0, 60.0])) < 3


def test_the_extremes_without_noise_are_those_of_the_rows() -> None:
    """Leaves beyond them are empty, and no noise is left that ranks could be moved by."""
    tree = INTEGER_TREES[0]
    counts = tree.shape.node_counts(np.bincount(tree.leaf_of([40, 41, 60]), minlength=tree.leaves)[None])
    for scale in (Fraction(1, 10**6), Fraction(1, 100), Fraction(1, 50)):
        noise = NoiseTerm(DiscreteLaplace(scale), 1.0, 1)
        assert tree.discount(noise) < 1e-9
        assert tree.quantiles(counts, noise, [0.0, 0.5, 1.0]).tolist() == [[40, 41, 60]]


def test_expected_rank_errors_grow_with_confidence_and_noise() -> None:
    tree = REAL_TREES[0]
    usual, sure = (tree.rank_error(CELL, RANKS, confidence) for confidence in (0.9, 0.99))
    assert np.all((tree.discount(CELL) <= usual) & (usual < sure))
    doubled = tree.rank_error(NoiseTerm(DiscreteLaplace(Fraction(6)), 1.0, 1), RANKS, 0.9)
    assert np.allclose(doubled, 2 * usual, rtol=0.05)
    assert np.allclose(tree.rank_error(NoiseTerm(CELL.mechanism, 1.0, 4), RANKS, 0.9), 2 * usual, rtol=0.05)


@pytest.mark.parametrize("mechanism", [DiscreteLaplace(Fraction(9)), DiscreteGaussian(Fraction(81))], ids=str)
def test_a_single_draw_has_its_own_quantile(mechanism: DiscreteLaplace | DiscreteGaussian) -> None:
    """In a flat tree T(1, 0) is the first cell as it is."""
    reach = rank_reach(TreeShape(4, 1), NoiseTerm(mechanism, 1.0, 1), np.array([0.0]), 0.95)
    draws = np.arange(-2000, 2001)
    t = np.linspace(-math.pi, math.pi, 8001)[:-1]
    mass = (mechanism.characteristic(t) * np.exp(-1j * np.outer(draws[2000:2060], t))).real.mean(axis=1)
    inside = [mass[0] + 2 * mass[1 : m + 1].sum() for m in range(60)]
    assert abs(reach[1, 0] - int(np.searchsorted(inside, 0.95))) < 1e-9


def test_the_documented_figures_of_shapes() -> None:
    table = {
        (2, 12): (19.5, 4.0),
        (4, 6): (14.2, 4.1),
        (8, 4): (12.6, 4.5),
        (16, 3): (12.5, 5.1),
        (64, 2): (14.5, 7.2),
        (4096, 1): (45.3, 32.0),
    }
    for (b, h), figures in table.items():
        second, _ = rank_moments(TreeShape(b, h), (1.0,) * h, np.array([0.5]))
        variances = 2 * h**2, h
        assert [math.sqrt(second.mean() * v) for v in variances] == pytest.approx(figures, abs=0.06)
    assert best_shape(4096, 1) == TreeShape(16, 3)
    assert best_shape(4096, 2) == TreeShape(4, 6)


@given(st.integers(1, 10**7), st.booleans(), st.sampled_from([1, 2]))
@settings(max_examples=50)
def test_plans_keep_to_the_cells_that_there_are(groups: int, integral: bool, norm: int) -> None:
    tree = Tree.plan(Fraction(0), Fraction(10**6), integral=integral, groups=groups, norm=norm)
    assert tree.leaves >= 16
    assert groups * tree.nodes <= 2**22 or tree.nodes <= 30


def test_small_ranges_of_integers_get_one_leaf_each() -> None:
    for high in (0, 1, 5, 120, 4095):
        tree = Tree.plan(Fraction(0), Fraction(high), integral=True, groups=1)
        assert tree.exact
        assert high + 1 <= tree.leaves <= 2 * (high + 1)
    assert not Tree.plan(Fraction(0), Fraction(10**5), integral=True, groups=1).exact


@pytest.mark.parametrize(
    ("lower", "upper", "integral"),
    [
        ("1/4", "3/4", True),
        ("0", str(2**52 + 1), True),
        ("1", "1", False),
        ("0", str(2**257), False),
        ("2", "1", False),
    ],
)
def test_bounds_that_no_tree_holds_are_refused(lower: str, upper: str, integral: bool) -> None:
    with pytest.raises(InvalidArgument, match="bounds="):
        Tree.plan(Fraction(lower), Fraction(upper), integral=integral, groups=1)


def test_other_arguments_out_of_range_are_refused() -> None:
    counts = np.zeros((1, REAL_TREES[0].nodes), np.int64)
    with pytest.raises(InvalidArgument, match="ranks="):
        REAL_TREES[0].quantiles(counts, CELL, [0.5, 1.5])
    with pytest.raises(InvalidArgument, match="confidence="):
        REAL_TREES[0].intervals(counts, CELL, [0.5], 1.0)
    with pytest.raises(InvalidArgument, match="groups, norm="):
        Tree.plan(Fraction(0), Fraction(1), integral=False, groups=1, norm=3)
    with pytest.raises(InvalidArgument, match="tree="):
        TreeShape(1, 3)
    with pytest.raises(InvalidArgument, match="variances="):
        consistent(TreeShape(2, 2), np.zeros((1, 6)), (1.0, 0.0))


SPECIAL = [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 1e308, -1e308, math.inf, -math.inf, math.nan, 2.0**63, 1e15 + 0.5]


@pytest.mark.slow
def test_spark_finds_the_same_leaves_and_never_raises(spark: SparkSession) -> None:
    """In a session with ANSI on, where a cast or an addition out of range would raise."""
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"
    random = np.random.default_rng(6)
    near = [np.concatenate([t.edges[::97], np.nextafter(t.edges[::97], -math.inf)]) for t in REAL_TREES]
    reals = [*SPECIAL, *np.concatenate(near).tolist(), *random.normal(0, 100, 200).tolist()]
    rows = spark.createDataFrame([(v,) for v in [*reals, None]], "v double")
    for tree, *found in zip(
        REAL_TREES, *rows.select(*(t.leaf_column(F.col("v")) for t in REAL_TREES)).collect(), strict=True
    ):
        expected = [None if leaf < 0 else leaf for leaf in tree.leaf_of(reals).tolist()]
        assert found == [*expected, None]
    integers = [0, 1, -1, 7, 120, 121, 2**31, 2**52, 2**53 + 1, -(2**52), 2**63 - 1, -(2**63), -5000, -4999, 6001]
    rows = spark.createDataFrame([(v,) for v in [*integers, None]], "v long")
    for tree, *found in zip(
        INTEGER_TREES, *rows.select(*(t.leaf_column(F.col("v")) for t in INTEGER_TREES)).collect(), strict=True
    ):
        assert found == [*tree.leaf_of(integers).tolist(), None]
