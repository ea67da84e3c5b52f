"""Private keys: groups by code while nobody may know them, and the vector of those that a selection names.

Groups are coded by their key where 64 bits hold it, or by a salted hash (`dp.execution.coding`). Exact cells of every
group are collected on the driver; the selection sees the groups' bounded numbers of units, and only then are the keys
of the chosen groups looked up.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from dp.execution.bounding import bounded_groups
from dp.execution.coding import KeyCodes, key_codes
from dp.execution.local import GROUP, encoded_rows, input_names, key_columns, unit_columns
from dp.noise.entropy import RandomSource
from dp.planning.cells import CellRule, UnitCount
from dp.planning.keys import Group, PrivateKeys
from dp.planning.plan import MAX_CELLS, Plan

__all__ = ["Candidates", "Chosen", "choose", "local_candidates"]

Int64s = NDArray[np.int64]
Words = NDArray[np.uint64]

_UNIT_CELL = 0  # of every group; the plan's cells follow


@dataclass(frozen=True)
class Candidates:
    """Every group that the data have, with its exact cells: secret, and never opened as it is.

    Attributes:
        coding: finds the keys of chosen groups.
        codes: of the groups, ascending.
        units: of every group, after bounding.
        group: for every cell that is not zero, its group's position in `codes`.
        cell: its number within the group, as the plan's parts lie one after another.
        word: what it holds.
    """

    coding: KeyCodes = field(repr=False)
    codes: Int64s = field(repr=False)
    units: Int64s = field(repr=False)
    group: Int64s = field(repr=False)
    cell: Int64s = field(repr=False)
    word: Words = field(repr=False)


@dataclass(frozen=True)
class Chosen:
    """The groups that a selection named, and their exact vector.

    Attributes:
        plan: for these keys.
        words: exact cells: secret.
    """

    plan: Plan
    words: Words = field(repr=False)


def local_candidates(df: DataFrame, plan: Plan, *, partitions: int) -> Candidates:
    """Bound every unit's contribution and add up the cells of every group that the rows have.

    Args:
        df: the owner's rows, filtered; its expressions must be total.
        plan: with private keys.
        partitions: shuffle partitions of the exchange by unit.

    Guarantees: as `local_cells`. Rows whose key is NULL belong to no group.
    Cost: the driver holds a few words per group and cell.
    """
    names, salt = input_names(plan), secrets.randbits(63)
    encoded = encoded_rows(df, plan.query, names)
    coding = key_codes(encoded, key_columns(plan.query), salt)
    rules, cells_per_group = _rules(plan)
    cells = bounded_groups(
        encoded.withColumn(GROUP, coding.column()),
        unit=unit_columns(plan.query),
        group=GROUP,
        rules=rules,
        bounds=plan.query.bounds,
        salt=salt,
        partitions=partitions,
        cells_per_group=cells_per_group,
    )
    table = cells.toArrow()
    code, cell, word = (table.column(name).to_numpy() for name in ("group", "cell", "word"))
    codes, group = np.unique(code, return_inverse=True)
    units = np.zeros(len(codes), np.int64)
    counted = cell == _UNIT_CELL
    units[group[counted]] = word[counted]
    return Candidates(coding, codes, units, group[~counted], cell[~counted] - 1, word[~counted].view(np.uint64))


def choose(plan: Plan, candidates: Candidates, random: RandomSource) -> Chosen:
    """Draw which groups are named, and look up their keys; to be called once, after the debit.

    Args:
        plan: with private keys.
        candidates: what `local_candidates` returned for it.
        random: the operating system's entropy, but for tests.

    Raises:
        InvalidArgument: more cells than a release has.
    """
    assert plan.selection is not None
    kept = plan.selection.keep(candidates.units, random)
    keys, position = _looked_up(candidates, kept)
    other = plan.query.keys.other if isinstance(plan.query.keys, PrivateKeys) else None
    if other is not None:
        position[~kept] = len(keys)
        keys = (*keys, (other,) * len(plan.query.by))
    located = plan.for_keys(keys)
    if located.length > MAX_CELLS:
        raise InvalidArgument("keys", len(keys), f"a release has at most {MAX_CELLS} cells: raise min_units")
    return Chosen(located, _vector(located, candidates, position))


def _rules(plan: Plan) -> tuple[list[CellRule], int]:
    """The number of units first, then the plan's cells, group by group."""
    names, stride = input_names(plan), 1 + sum(part.measure.width for part in plan.parts)
    rules: list[CellRule] = [UnitCount(_UNIT_CELL, stride)]
    first = 1
    for part in plan.parts:
        rules += part.measure.rules(first, stride, names)
        first += part.measure.width
    return rules, stride


def _looked_up(candidates: Candidates, kept: NDArray[np.bool_]) -> tuple[tuple[Group, ...], Int64s]:
    """The keys of the chosen groups in their own order, and every group's position there (-1: not chosen)."""
    position = np.full(len(candidates.codes), -1)
    if not kept.any():
        return (), position
    found = sorted((key, code) for code, key in candidates.coding.keys(candidates.codes[kept]).items())
    position[np.searchsorted(candidates.codes, [code for _, code in found])] = np.arange(len(found))
    return tuple(key for key, _ in found), position


def _vector(plan: Plan, candidates: Candidates, position: Int64s) -> Words:
    """Exact cells of the plan's vector; groups without a position are left out."""
    # places: (part's offset, its width, bin), one for each cell of a group
    places = [(part.offset, part.measure.width, bin) for part in plan.parts for bin in range(part.measure.width)]
    offset, width, within = np.array(places, np.int64).reshape(-1, 3).T
    group = position[candidates.group]
    there = group >= 0
    cell = candidates.cell[there]
    words = np.zeros(plan.length, np.uint64)
    np.add.at(words, offset[cell] + group[there] * width[cell] + within[cell], candidates.word[there])
    return words
