"""The exact vector of a plan over rows in memory: inputs encoded in plain Python, then bounded and added up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.execution.local import input_names
from dp.execution.partials import every_row_survives, partial_items, partial_sums, surviving
from dp.execution.survivors import UnitRows, mix64, survivors
from dp.planning.cells import Column
from dp.planning.inputs import Index, Input, Item, Leaf, Listed, Present, Value
from dp.planning.plan import Plan
from tests.tools.bounding import add_up

__all__ = ["Record", "exact_vector", "plain_input"]

Record = tuple[int, int, Mapping[str, object]]
"""A unit, a group's number, and the values of columns."""


def plain_input(needed: Input, value: object) -> int | None:
    """What an input's column holds for a value of its source."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        imputes = isinstance(needed, Value) and needed.imputed is not None
        return needed.encoding.encoded(needed.imputed) if imputes else None  # type: ignore[attr-defined]
    if isinstance(needed, Listed):
        return needed.values.index(value) if value in needed.values else None
    return _of_known(needed, value)


def _of_known(needed: Input, value: Any) -> int:
    match needed:
        case Present():
            return 1
        case Value(encoding=encoding):
            low, high = (bound * encoding.unit for bound in (encoding.lower, encoding.upper))
            clamped = low if value <= low else high if value >= high else Fraction(value)
            return round(clamped / encoding.unit) - encoding.centre
        case Index(edges=edges):
            return sum(value >= edge for edge in edges[1:-1])
        case Leaf(tree=tree):
            return int(tree.leaf_of([value])[0])
        case Item():
            return hash(value)
    raise AssertionError(f"no twin of {needed}")


def exact_vector(plan: Plan, records: Sequence[Record]) -> NDArray[np.uint64]:
    """Exact words, shape (plan.length,)."""
    names = input_names(plan)
    columns = {}
    for needed, name in names.items():
        if name not in columns:  # an input that serves others stands before them
            values = [plain_input(needed, record[2].get(needed.source)) for record in records]  # type: ignore[attr-defined]
            valid = np.array([value is not None for value in values], np.bool_)
            columns[name] = Column(np.array([value or 0 for value in values], np.int64), valid)
    unit, group = (np.array([record[place] for record in records], np.int64) for place in (0, 1))
    if plan.query.facts.unit:
        part = UnitRows(unit, mix64(unit.view(np.uint64)), group, columns)
        alive = surviving(part, survivors(part, plan.query.bounds))
    else:
        alive = every_row_survives(group, columns)
    rules = [rule for part in plan.parts for rule in part.measure.rules(part.offset, part.measure.width, names)]
    words = np.zeros(plan.length, np.uint64)
    for cell, word in add_up(partial_sums(alive, rules), partial_items(alive, rules)).items():
        words[cell] = word
    return words
