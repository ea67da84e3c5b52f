"""Cell rules: what they refuse, which columns they read, and that no vector is longer than its bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from dp.planning.cells import (
    BinCount,
    CellRule,
    Column,
    DistinctItems,
    Norm,
    RowCount,
    RowSum,
    Surviving,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
    UnitTotal,
    VectorSum,
)
from tests.tools.bounding import vector_norm

RULES: list[tuple[CellRule, tuple[str, ...]]] = [
    (RowCount(1, 2), ()),
    (RowCount(1, 2, ("a", "b")), ("a", "b")),
    (UnitCount(1, 2), ()),
    (UnitSizes(1, 2, 2), ()),
    (TruncatedUnits(1, 2), ()),
    (RowSum(1, 2, ("a", "a"), 4, ("b",)), ("a", "b")),
    (UnitTotal(1, 2, "a", -1, 1), ("a",)),
    (BinCount(1, 2, "a", 2), ("a",)),
    (VectorSum(1, 2, ("a", "b"), "l1", 5), ("a", "b")),
    (DistinctItems(1, 2, "b"), ("b",)),
]


@pytest.mark.parametrize(("rule", "columns"), RULES, ids=lambda value: type(value).__name__)
def test_rules_name_the_columns_that_they_read_and_may_be_renamed(rule: CellRule, columns: tuple[str, ...]) -> None:
    assert rule.columns == columns
    renamed = rule.renamed({"a": "m0", "b": "m1", "c": "m2"})
    assert renamed.columns == tuple({"a": "m0", "b": "m1"}[name] for name in columns)
    assert renamed.renamed({"m0": "a", "m1": "b"}) == rule
    assert (renamed.offset, renamed.stride) == (1, 2)


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(("offset", "stride", "parameter"), [(-1, 1, "offset"), (0, 0, "stride"), (0, -2, "stride")])
def test_cells_that_cannot_be_are_refused(rule: CellRule, offset: int, stride: int, parameter: str) -> None:
    fields: dict[str, Any] = {**vars(rule), "offset": offset, "stride": stride}
    with pytest.raises(InvalidArgument) as error:
        type(rule)(**fields)
    assert error.value.parameter == parameter


def one_row(vector: list[int]) -> Surviving:
    here = np.zeros(1, np.int64)
    columns = {str(index): Column(np.array([value])) for index, value in enumerate(vector)}
    return Surviving(here, here, here, here, columns, units=1, truncated_units=0)


vectors = st.lists(st.integers(-(2**21), 2**21) | st.sampled_from([2**21, -(2**21)]), min_size=1, max_size=40)


@given(vectors, st.integers(0, 2**21) | st.integers(0, 5), st.sampled_from(["l1", "l2", "linf"]))
def test_no_vector_is_longer_than_its_bound_and_directions_stay(vector: list[int], bound: int, norm: Norm) -> None:
    rule = VectorSum(0, len(vector), tuple(map(str, range(len(vector)))), norm, bound)
    added = [int(amounts[0]) for _, amounts in rule.contributions(one_row(vector)) if amounts is not None]
    exact = {"l1": sum(map(abs, added)), "l2": sum(x**2 for x in added), "linf": max(map(abs, added))}[norm]
    assert exact <= (bound**2 if norm == "l2" else bound)
    length = vector_norm(vector, norm)
    if length <= bound:
        assert added == vector
    elif norm != "linf":
        for before, after in zip(vector, added, strict=True):
            assert abs(before * bound / length - after) < 1 + 1e-5
            assert abs(after) <= abs(before)


@given(vectors)
def test_vectors_that_are_added_do_not_change_their_columns(vector: list[int]) -> None:
    row = one_row(vector)
    rule = VectorSum(0, len(vector), tuple(map(str, range(len(vector)))), "l2", 1)
    first = [int(amounts[0]) for _, amounts in rule.contributions(row) if amounts is not None]
    assert first == [int(amounts[0]) for _, amounts in rule.contributions(row) if amounts is not None]
    assert [int(column.values[0]) for column in row.columns.values()] == vector
