"""A slow, obviously right twin of contribution bounding, in plain Python integers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dp.execution.cells import CellMeasure
from dp.planning.bounds import ContributionBounds

__all__ = [
    "MODULUS",
    "Row",
    "add_up",
    "assert_sensitivity",
    "mix",
    "plain_cells",
    "reference_cells",
    "reference_survivors",
]

MODULUS = 2**64
_GOLDEN = 0x9E3779B97F4A7C15


class Row(NamedTuple):
    """One row: the unit, its hash, its group, and the values of the columns by name (None: NULL)."""

    unit: object
    unit_hash: int
    group: int
    values: tuple[tuple[str, int | None], ...]


def mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % MODULUS
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % MODULUS
    return word ^ (word >> 31)


def group_lot(unit_hash: int, group: int) -> int:
    return mix((unit_hash + group * _GOLDEN) % MODULUS)


def row_lot(row: Row, earlier_equal_rows: int) -> int:
    content = group_lot(row.unit_hash, row.group)
    for _, value in sorted(row.values):
        content = mix(((content ^ ((value or 0) % MODULUS)) + _GOLDEN) % MODULUS)
        if value is None:
            content = mix(content ^ (MODULUS - 1))
    return mix((content + earlier_equal_rows * _GOLDEN) % MODULUS)


def _lowest_lots(rows: Sequence[Row], limit: int) -> list[Row]:
    seen: Counter[Row] = Counter()
    drawn = []
    for row in sorted(rows, key=repr):
        drawn.append((row_lot(row, seen[row]), repr(row), row))
        seen[row] += 1
    return [row for _, _, row in sorted(drawn, key=lambda lot: lot[:2])[:limit]]


def _by(rows: Iterable[Row], field: str) -> dict[object, list[Row]]:
    parts: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        parts[getattr(row, field)].append(row)
    return parts


def reference_survivors(rows: Sequence[Row], bounds: ContributionBounds) -> list[Row]:
    alive: list[Row] = []
    for of_unit in _by(rows, "unit").values():
        by_group = _by(of_unit, "group")
        groups = sorted(by_group, key=lambda group, of_unit=of_unit: (group_lot(of_unit[0].unit_hash, group), group))
        groups = groups[: bounds.max_groups] if bounds.max_groups is not None else groups
        if bounds.max_total_rows is not None:
            alive += _lowest_lots([row for group in groups for row in by_group[group]], bounds.max_total_rows)
        else:
            alive += [row for group in groups for row in _lowest_lots(by_group[group], bounds.rows_per_group)]
    return alive


def plain_cells(rows: Sequence[Row], measures: Sequence[CellMeasure]) -> dict[int, int]:
    """The cells of rows that all count: plain aggregation, no bounds. Cells that are 0 are left out."""
    cells: Counter[int] = Counter()
    for measure in measures:
        if measure.kind == "units":
            cells.update(measure.offset + group for _, group in {(row.unit, row.group) for row in rows})
            continue
        for row in rows:
            value = dict(row.values)[measure.column] if measure.column is not None else 1
            cell = measure.offset + row.group * measure.width
            if measure.kind == "sum":
                cells[cell] += value or 0
            elif value is not None and (measure.width == 1 or 0 <= value < measure.width):
                cells[cell + (value if measure.width > 1 else 0)] += 1
    return {cell: total % MODULUS for cell, total in cells.items() if total % MODULUS}


def reference_cells(rows: Sequence[Row], measures: Sequence[CellMeasure], bounds: ContributionBounds) -> dict[int, int]:
    return plain_cells(reference_survivors(rows, bounds), measures)


def add_up(partials: Iterable[tuple[Iterable[int], Iterable[int]]]) -> dict[int, int]:
    """Partial (cells, words) as one mapping; cells that are 0 are left out."""
    cells: Counter[int] = Counter()
    for some_cells, words in partials:
        for cell, word in zip(some_cells, words, strict=True):
            cells[int(cell)] += int(word)
    return {cell: total % MODULUS for cell, total in cells.items() if total % MODULUS}


def assert_sensitivity(
    with_unit: Mapping[int, int],
    without_unit: Mapping[int, int],
    measures: Sequence[CellMeasure],
    bounds: ContributionBounds,
    *,
    groups: int,
    largest: int,
) -> None:
    """The law that a price rests on: one unit changes at most this, where |value| <= `largest` in every sum."""
    touched = set()
    for measure in measures:
        unit_of_change = largest if measure.kind == "sum" else 1
        most = 1 if measure.kind == "units" else bounds.rows_per_group
        total = 0
        for group in range(groups):
            first = measure.offset + group * measure.width
            changes = [
                _signed(with_unit.get(c, 0) - without_unit.get(c, 0)) for c in range(first, first + measure.width)
            ]
            change = sum(abs(amount) for amount in changes)
            assert change <= most * unit_of_change, f"Linf of {measure}: {change}"
            total += change
            if change:
                touched.add(group)
        assert total <= (bounds.groups if measure.kind == "units" else bounds.rows) * unit_of_change, f"L1: {total}"
    assert len(touched) <= bounds.groups, f"L0: {len(touched)}"


def _signed(word: int) -> int:
    return (word + MODULUS // 2) % MODULUS - MODULUS // 2
