"""From rows to opened cells without running Spark jobs: the same encodings, bounding, cell rules and noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from dp.execution.local import input_names
from dp.execution.partials import every_row_survives, partial_items, partial_sums, surviving
from dp.execution.survivors import UnitRows, mix64, survivors
from dp.noise.entropy import RandomSource
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.cells import CellRule, Column, Surviving
from dp.planning.inputs import Input
from dp.planning.plan import Plan

__all__ = ["SCHEMA", "Encoded", "Raw", "RawRow", "encoded", "exact_cells", "loss_samples"]

SCHEMA = "v long, d double, e double"
"""The columns of every case."""

Raw = int | float | None
Int64s = NDArray[np.int64]
Reals = NDArray[np.float64]
Encoded = Mapping[tuple[Input, str], int | None]
"""What Spark makes of a value, by input and `repr` of the value (a NaN equals nothing, itself included)."""

_CHUNK = 1 << 17


@dataclass(frozen=True)
class RawRow:
    """One row: its unit, its group, and its values by column."""

    unit: int
    group: int
    values: Mapping[str, Raw]


def encoded(spark: SparkSession, plans: Sequence[Plan], rows: Sequence[RawRow]) -> Encoded:
    """Encode every value of every row for every input of the plans, by Spark's own expressions, in one job."""
    names = [field.split()[0] for field in SCHEMA.split(", ")]
    raw = {name: list({repr(row.values[name]): row.values[name] for row in rows}.values()) for name in names}
    wanted = list(dict.fromkeys(i for plan in plans for part in plan.parts for i in part.measure.inputs))
    frame = spark.createDataFrame(list(zip_longest(*raw.values())), SCHEMA).coalesce(1)
    table = frame.select(*(needed.column().alias(f"c{index}") for index, needed in enumerate(wanted))).toArrow()
    found: dict[tuple[Input, str], int | None] = {}
    for needed, column in zip(wanted, table.columns, strict=True):
        values = raw[needed.source]  # type: ignore[attr-defined]
        found |= {(needed, repr(value)): code for value, code in zip(values, column.to_pylist(), strict=False)}
    return found


def exact_cells(plan: Plan, rows: Sequence[RawRow], codes: Encoded, salt: int) -> Int64s:
    """The plan's vector without noise, for one salt."""
    names = input_names(plan)
    rules = [rule for part in plan.parts for rule in part.measure.rules(part.offset, part.measure.width, names)]
    cells = np.zeros(plan.length, np.uint64)
    for kept in _surviving(plan, rows, codes, names, rules=rules, salt=salt):
        for where, words in partial_sums(kept, rules):
            np.add.at(cells, where, words)
        for where, _ in partial_items(kept, rules):
            np.add.at(cells, where, np.uint64(1))
    return cells.view(np.int64)


def _surviving(
    plan: Plan,
    rows: Sequence[RawRow],
    codes: Encoded,
    names: Mapping[Input, str],
    *,
    rules: Sequence[CellRule],
    salt: int,
) -> Iterator[Surviving]:
    read = {column for rule in rules for column in rule.columns}
    columns: dict[str, Column] = {}
    for needed, name in names.items():  # an input that serves others stands before them
        if name in read and name not in columns:
            columns[name] = _column(rows, codes, needed)
    group = np.array([row.group for row in rows])
    if not plan.query.facts.unit:
        yield every_row_survives(group, columns)
        return
    unit = np.array([row.unit for row in rows])
    part = UnitRows(unit, mix64(unit.view(np.uint64) ^ mix64(np.array([salt], np.uint64))), group, columns)
    yield surviving(part, survivors(part, plan.query.bounds))


def _column(rows: Sequence[RawRow], codes: Encoded, needed: Input) -> Column:
    source = needed.source  # type: ignore[attr-defined]
    values = pa.array([codes[needed, repr(row.values[source])] for row in rows], pa.int64())
    return Column(values.fill_null(0).to_numpy(), values.is_valid().to_numpy(zero_copy_only=False))


def loss_samples(
    plan: Plan, drawn: Plan, neighbours: tuple[Int64s, Int64s], size: int, random: RandomSource
) -> tuple[Reals, Reals]:
    """The declared privacy loss of opened cells, `size` samples on each neighbour, under the same noise.

    Args:
        plan: declares the noise.
        drawn: draws it: the plan itself, or a twin with another noise.
        neighbours: exact cells. Cells that are equal carry the same noise whatever happens and are left out.
        size: number of samples.
        random: the source of bytes.
    """
    moved = np.flatnonzero(neighbours[0] != neighbours[1])
    samples = ([], [])  # type: tuple[list[Reals], list[Reals]]
    for start in range(0, size, _CHUNK):
        noise = _noise(drawn, moved, min(_CHUNK, size - start), random)
        for exact, found in zip(neighbours, samples, strict=True):
            found.append(_loss(plan, moved, neighbours, exact[moved] + noise))
    return np.concatenate(samples[0]), np.concatenate(samples[1])


def _noise(plan: Plan, cells: Int64s, size: int, random: RandomSource) -> Int64s:
    """Noise of these cells, shape (size, cells): that of a plan in which each of them stands so many times."""
    parts, counts, offset = [], [], 0
    for part in plan.parts:
        count = int(((part.offset <= cells) & (cells < part.offset + part.cells)).sum())
        parts.append(replace(part, offset=offset, cells=count * size))
        counts.append(count)
        offset += count * size
    drawn = replace(plan, parts=tuple(parts)).draw_noise(0, offset, random).view(np.int64)
    ends = np.cumsum([count * size for count in counts])[:-1]
    return np.concatenate(
        [block.reshape(size, count) for block, count in zip(np.split(drawn, ends), counts, strict=True)], axis=1
    )


def _loss(plan: Plan, moved: Int64s, neighbours: tuple[Int64s, Int64s], opened: Int64s) -> Reals:
    """log P'(opened) / P(opened) under the noise that the plan declares."""
    loss = np.zeros(len(opened))
    for index, cell in enumerate(moved):
        part = next(part for part in plan.parts if part.offset <= cell < part.offset + part.cells)
        low, high = sorted((int(neighbours[0][cell]), int(neighbours[1][cell])))
        towards = 1 if neighbours[1][cell] == high else -1
        if isinstance(part.noise, DiscreteLaplace):
            twice = 2 * np.clip(opened[:, index], low, high) - (low + high)
            loss += towards * twice / float(part.noise.scale)
        else:
            twice = 2 * opened[:, index] - (low + high)
            loss += towards * (high - low) * (twice / (2 * float(part.noise.variance)))
    return loss
