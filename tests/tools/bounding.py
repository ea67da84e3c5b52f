"""A slow, obviously right twin of contribution bounding, in plain Python integers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dp.planning.bounds import ContributionBounds
from dp.planning.cells import (
    BinCount,
    CellRule,
    DistinctItems,
    RowCount,
    RowSum,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
    UnitTotal,
    VectorSum,
)

__all__ = [
    "MODULUS",
    "Row",
    "add_up",
    "assert_sensitivity",
    "mix",
    "plain_cells",
    "reference_cells",
    "reference_survivors",
    "shrunk",
    "vector_norm",
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
        elif bounds.max_rows is not None:
            alive += [row for group in groups for row in _lowest_lots(by_group[group], bounds.max_rows)]
        else:
            alive += [row for group in groups for row in by_group[group]]
    return alive


def plain_cells(rows: Sequence[Row], rules: Sequence[CellRule]) -> dict[int, int]:
    """The cells of rows that all count: plain aggregation, no bounds. Cells that are 0 are left out."""
    return _cells_of(rows, rules, [(rule, *_units(rows, rows)) for rule in rules if isinstance(rule, TruncatedUnits)])


def reference_cells(rows: Sequence[Row], rules: Sequence[CellRule], bounds: ContributionBounds) -> dict[int, int]:
    """The cells of the rows that bounding lets through."""
    alive = reference_survivors(rows, bounds)
    return _cells_of(alive, rules, [(rule, *_units(rows, alive)) for rule in rules if isinstance(rule, TruncatedUnits)])


def _units(before: Sequence[Row], alive: Sequence[Row]) -> tuple[int, int]:
    """How many units lost a row, and how many there are."""
    had, kept = Counter(row.unit for row in before), Counter(row.unit for row in alive)
    return sum(kept[unit] < count for unit, count in had.items()), len(had)


def _cells_of(
    rows: Sequence[Row], rules: Sequence[CellRule], truncations: Iterable[tuple[CellRule, int, int]]
) -> dict[int, int]:
    cells: Counter[int] = Counter()
    for rule in rules:
        if isinstance(rule, DistinctItems):
            named = {(row.group, values[rule.column]) for row in rows if (values := dict(row.values))}
            cells.update(rule.offset + group * rule.stride for group, item in named if item is not None)
        for group, index, amount in _additions(rule, rows):
            cells[rule.offset + group * rule.stride + index] += amount
    for rule, truncated, units in truncations:
        cells[rule.offset] += truncated
        cells[rule.offset + 1] += units
    return {cell: total % MODULUS for cell, total in cells.items() if total % MODULUS}


def _additions(rule: CellRule, rows: Sequence[Row]) -> Iterator[tuple[int, int, int]]:
    """What a rule that adds adds: group, cell within the group, exact amount."""
    match rule:
        case UnitCount():
            yield from ((group, 0, 1) for _, group in {(row.unit, row.group) for row in rows})
        case UnitSizes(bins=bins):
            for (_, group), size in Counter((row.unit, row.group) for row in rows).items():
                yield group, min(size.bit_length(), bins) - 1, 1
        case UnitTotal(column=column, lower=lower, upper=upper):
            totals: Counter[tuple[object, int]] = Counter()
            for row in rows:
                totals[row.unit, row.group] += dict(row.values)[column] or 0
            yield from ((group, 0, max(lower, min(upper, total))) for (_, group), total in totals.items())
        case TruncatedUnits() | DistinctItems():
            return
        case _:
            for row in rows:
                for index, amount in _of_row(rule, dict(row.values)):
                    yield row.group, index, amount


def _of_row(rule: CellRule, values: Mapping[str, int | None]) -> list[tuple[int, int]]:
    """What one row adds to the cells of its group; nothing where a value that the rule reads is NULL."""
    if any(values[name] is None for name in rule.columns):
        return []
    known = {name: value for name, value in values.items() if value is not None}
    match rule:
        case RowCount():
            return [(0, 1)]
        case RowSum(factors=factors, minus=minus):
            return [(0, math.prod(known[name] for name in factors) - minus)]
        case BinCount(column=column, bins=bins, merged=merged):
            return [(known[column] // merged, 1)] if 0 <= known[column] < bins * merged else []
        case VectorSum(coordinates=coordinates, norm=norm, bound=bound):
            return list(enumerate(shrunk([known[name] for name in coordinates], norm, bound)))
    raise AssertionError(f"no twin of {rule}")


def vector_norm(vector: Sequence[int], norm: str) -> float:
    """Its length; exact below 2^53."""
    sizes = [abs(value) for value in vector]
    return {"l1": float(sum(sizes)), "l2": math.sqrt(sum(size**2 for size in sizes)), "linf": float(max(sizes))}[norm]


def shrunk(vector: Sequence[int], norm: str, bound: int) -> list[int]:
    """The vector with a norm of at most `bound`, rounded towards zero."""
    if norm == "linf":
        return [max(-bound, min(bound, value)) for value in vector]
    length = vector_norm(vector, norm)
    if length <= bound:
        return list(vector)
    scale = bound * (1 - 1e-12) / length
    return [math.trunc(value * scale) for value in vector]


def add_up(
    partials: Iterable[tuple[Iterable[int], Iterable[int]]], items: Iterable[tuple[Iterable[int], Iterable[int]]] = ()
) -> dict[int, int]:
    """Partial (cells, words) and (cells, items) as one mapping; cells that are 0 are left out."""
    cells: Counter[int] = Counter()
    for some_cells, words in partials:
        for cell, word in zip(some_cells, words, strict=True):
            cells[int(cell)] += int(word)
    cells.update(cell for cell, _ in {(int(c), int(i)) for some in items for c, i in zip(*some, strict=True)})
    return {cell: total % MODULUS for cell, total in cells.items() if total % MODULUS}


def assert_sensitivity(
    with_unit: Mapping[int, int],
    without_unit: Mapping[int, int],
    rules: Sequence[CellRule],
    bounds: ContributionBounds,
    *,
    groups: int,
    largest: int,
) -> None:
    """The law that a price rests on: one unit changes at most this, where |value| <= `largest` in every column."""

    def change(first: int, cells: int) -> int:
        changed = range(first, first + cells)
        return sum(abs(_signed(with_unit.get(cell, 0) - without_unit.get(cell, 0))) for cell in changed)

    touched = set()
    for rule in rules:
        if isinstance(rule, TruncatedUnits):
            assert max(change(rule.offset, 1), change(rule.offset + 1, 1)) <= 1, f"L1 of {rule}"
            continue
        once = isinstance(rule, (UnitCount, UnitSizes, UnitTotal))
        most, reach = 1 if once else bounds.rows_per_group, _reach(rule, largest)
        changes = [change(rule.offset + group * rule.stride, _width(rule)) for group in range(groups)]
        assert max(changes) <= most * reach, f"Linf of {rule}: {max(changes)}"
        assert sum(changes) <= (bounds.groups if once else bounds.rows) * reach, f"L1 of {rule}: {sum(changes)}"
        touched |= {group for group, amount in enumerate(changes) if amount}
    assert len(touched) <= bounds.groups, f"L0: {len(touched)}"


def _width(rule: CellRule) -> int:
    """Cells of one group."""
    match rule:
        case BinCount(bins=bins) | UnitSizes(bins=bins):
            return bins
        case VectorSum(coordinates=coordinates):
            return len(coordinates)
    return 1


def _reach(rule: CellRule, largest: int) -> int:
    """The greatest L1 norm of one addition."""
    match rule:
        case RowSum(factors=factors, minus=minus):
            return int(largest ** len(factors)) + abs(minus)
        case UnitTotal(lower=lower, upper=upper):
            return max(abs(lower), abs(upper))
        case VectorSum(coordinates=coordinates, norm=norm, bound=bound):
            width = len(coordinates)
            reaches: dict[str, int] = {"l1": bound, "l2": math.isqrt(width * bound**2) + 1, "linf": width * bound}
            return reaches[norm]
    return 1


def _signed(word: int) -> int:
    return (word + MODULUS // 2) % MODULUS - MODULUS // 2
