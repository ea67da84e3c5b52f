"""One quantile by private choice: what each leaf is worth, how far one row can move that, and what is chosen."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dp
from dp.errors import InvalidArgument
from dp.execution.release import make_answers
from dp.planning.aggregates import Schema
from dp.planning.bounds import ContributionBounds
from dp.planning.plan import make_plan
from dp.planning.rank_choices import Leaves, RankChoice
from dp.planning.tree import Tree
from tests.tools.entropy import seeded_random
from tests.tools.plans import COLUMNS, paper_query

RANKS = [Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(1)]
counts_strategy = st.lists(st.integers(0, 6), min_size=2, max_size=8)


def choice(rank: Fraction) -> RankChoice:
    tree = Tree.plan(Fraction(0), Fraction(100), integral=False, groups=1)
    return RankChoice(Leaves("d", tree), 1, rank)


@pytest.mark.parametrize("rank", RANKS, ids=str)
@given(counts_strategy)
def test_a_leaf_is_worth_minus_the_rows_by_which_it_misses_the_rank(rank: Fraction, counts: list[int]) -> None:
    wanted, d = rank * sum(counts), rank.denominator
    worth = choice(rank).utilities(np.array([counts]))[0]
    for leaf, found in enumerate(worth):
        left, right = sum(counts[:leaf]), sum(counts[: leaf + 1])
        assert found == -d * max(left - wanted, wanted - right, Fraction(0))


@pytest.mark.parametrize("rank", RANKS, ids=str)
@given(counts_strategy, st.data())
def test_one_row_moves_differences_by_no_more_than_the_factor(
    rank: Fraction, counts: list[int], data: st.DataObject
) -> None:
    more = list(counts)
    more[data.draw(st.integers(0, len(counts) - 1))] += 1
    moved = np.subtract(*(choice(rank).utilities(np.array([row]))[0] for row in (more, counts)))
    assert moved.max() - moved.min() <= choice(rank).range_factor


def test_the_factor_is_attained() -> None:
    moved = np.subtract(*(choice(Fraction(1, 2)).utilities(np.array([row]))[0] for row in ([2, 6, 1], [1, 6, 1])))
    assert moved.max() - moved.min() == choice(Fraction(1, 2)).range_factor


@pytest.mark.parametrize("rank", ["0.1", "0.5", "0.9"])
def test_the_chosen_leaf_is_near_the_rank(rank: str) -> None:
    """With 16 rows a unit at epsilon 1, all of 200 choices miss by less than the stated shortfall at 1 - 1e-6."""
    groups, rows = 200, 5000
    aggregate = dp.chosen_quantile("d", rank, 0, 100).alias("q")
    plan = make_plan(
        paper_query([aggregate], groups=groups, bounds=ContributionBounds(max_total_rows=16)), dp.PureDP(1)
    )
    values = np.random.default_rng(1).uniform(0, 100, (groups, rows))
    (part,) = plan.parts
    assert isinstance(part.measure, RankChoice)
    assert isinstance(part.measure.items, Leaves)
    tree = part.measure.items.tree
    counts = np.stack([np.bincount(leaves, minlength=tree.leaves) for leaves in tree.leaf_of(values)])
    opened = plan.noised(counts.astype(np.int64).ravel().view(np.uint64), seeded_random(f"rank {rank}"))
    released = make_answers(plan, opened)
    expected = plan.query.aggregates[0].expected_error(plan.query.schema, plan.noise_term, 1 - 1e-6 / groups)
    shares = (values < np.array(released.values.column("q").to_pylist())[:, None]).mean(axis=1)
    assert np.all(np.abs(shares - float(rank)) <= expected.half_width / rows + 1 / tree.leaves)
    assert released.accuracy.column("lower").null_count == groups  # no error bar is made up


def test_it_belongs_to_one_lake_and_to_ranks_within_bounds() -> None:
    query = paper_query([dp.chosen_quantile("d", "0.5", 0, 100)])
    with pytest.raises(InvalidArgument, match="agg="):
        make_plan(query, dp.PureDP(1), parties=2)
    for rank in ("-0.1", "1.1", "0.12345678"):
        with pytest.raises(InvalidArgument, match="rank="):
            dp.chosen_quantile("d", rank)
    with pytest.raises(InvalidArgument, match="bounds="):
        paper_query([dp.chosen_quantile("d")])
    assert dp.chosen_quantile("d", "0.5", 0, 100).measures(Schema(COLUMNS))[0].to_json()["rank"] == "1/2"
