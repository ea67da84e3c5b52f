"""ATTACKS 12: a row counts on every level of a quantile tree, and the declared sensitivity pays for all of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dp.execution.partials import every_row_survives, partial_sums
from dp.planning.bin_measures import TreeCells
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import Column
from dp.planning.tree import Tree

ROWS = 5


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("greatest", [1, 255, 4095])
def test_rows_of_one_leaf_move_one_node_of_each_level(greatest: int, norm: int) -> None:
    measure = TreeCells("v", Tree.plan(Fraction(0), Fraction(greatest), integral=True, groups=1, norm=norm))
    (needed,) = measure.inputs
    rules = measure.rules(0, measure.width, {needed: "leaf"})
    rows = every_row_survives(np.zeros(ROWS, np.int64), {"leaf": Column(np.full(ROWS, greatest))})
    moved = np.concatenate([words.view(np.int64) for _, words in partial_sums(rows, rules)])
    declared = measure.sensitivity(ContributionBounds(max_total_rows=ROWS))
    assert len(moved) == measure.tree.shape.height
    assert (int(moved.sum()), int((moved**2).sum())) == (declared.l1, declared.l2_squared)


def test_some_of_these_trees_have_several_levels() -> None:
    heights = [Tree.plan(Fraction(0), Fraction(4095), integral=True, groups=1, norm=n).shape.height for n in (1, 2)]
    assert min(heights) > 1
