"""Private keys: groups by code while nobody may know them, and the vector of those that a selection names.

Groups are coded by a salted 63-bit hash of their key, or by the key where it is a short integer. Exact cells of every
group are collected on the driver; the selection sees the groups' bounded numbers of units, and only then are the keys
of the chosen groups looked up.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.execution.bounding import bounded_groups, exact_identity
from dp.execution.local import GROUP, encoded_rows, input_names, key_columns, unit_columns
from dp.noise.entropy import RandomSource
from dp.planning.cells import CellRule, UnitCount
from dp.planning.keys import Group, PrivateKeys
from dp.planning.plan import MAX_CELLS, Plan
from dp.planning.query import Query

__all__ = ["Candidates", "Chosen", "choose", "local_candidates"]

Int64s = NDArray[np.int64]
Words = NDArray[np.uint64]

_UNIT_CELL = 0  # of every group; the plan's cells follow
_POSITIVE = 2**63 - 1
_SHORT = (T.ByteType, T.ShortType, T.IntegerType)


@dataclass(frozen=True)
class Candidates:
    """Every group that the data have, with its exact cells: secret, and never opened as it is.

    Attributes:
        rows: (key columns, group code) of the owner's rows, to look up the keys of chosen groups.
        codes: of the groups, ascending.
        units: of every group, after bounding.
        group: for every cell that is not zero, its group's position in `codes`.
        cell: its number within the group, as the plan's parts lie one after another.
        word: what it holds.
    """

    rows: DataFrame = field(repr=False)
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
    rows = encoded.withColumn(GROUP, _code(encoded, key_columns(plan.query), salt))
    rules, cells_per_group = _rules(plan)
    cells = bounded_groups(
        rows,
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
    keys = rows.select(*key_columns(plan.query), GROUP)
    return Candidates(keys, codes, units, group[~counted], cell[~counted] - 1, word[~counted].view(np.uint64))


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
    keys, position = _looked_up(plan.query, candidates, kept)
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


def _code(rows: DataFrame, names: Sequence[str], salt: int) -> Column:
    """The code of a row's group: NULL where a key is, a non-negative number elsewhere.

    Two keys of one code would be one group, which bears the name of one of them: somebody's key, perhaps nobody else's.
    Short integers are their own code. Others are hashed with SHA-256 and a salt that is drawn for this release, so that
    no two keys have one code but with probability 2^-63; non-cryptographic hashes have pairs that agree for every salt.
    """
    known = reduce(and_, (_known(rows, name) for name in names))
    if len(names) == 1 and isinstance(rows.schema[names[0]].dataType, _SHORT):
        return F.col(names[0]).cast("long") + F.lit(2**31)
    identity = exact_identity(rows, names).cast("string").cast("binary")
    salted = F.concat(F.lit(f"{salt}:").cast("binary"), identity)
    return F.when(known, F.xxhash64(F.sha2(salted, 256)).bitwiseAND(F.lit(_POSITIVE)))


def _known(rows: DataFrame, name: str) -> Column:
    """Whether a row has a key that can be shown; bytes that are no text would be paid for and then fail."""
    key = F.col(name)
    is_text = isinstance(rows.schema[name].dataType, T.StringType)
    return key.isNotNull() & F.is_valid_utf8(key) if is_text else key.isNotNull()


def _looked_up(query: Query, candidates: Candidates, kept: NDArray[np.bool_]) -> tuple[tuple[Group, ...], Int64s]:
    """The keys of the chosen groups in their own order, and every group's position there (-1: not chosen)."""
    position = np.full(len(candidates.codes), -1)
    codes = candidates.codes[kept]
    if len(codes) == 0:
        return (), position
    names = list(key_columns(query))
    wanted = candidates.rows.sparkSession.createDataFrame(pa.table({GROUP: codes}))
    found = candidates.rows.join(F.broadcast(wanted), GROUP, "left_semi").groupBy(GROUP).agg(F.min(F.struct(*names)))
    table = found.toDF(GROUP, "key").select(GROUP, "key.*").toArrow()
    keys = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    chosen = np.searchsorted(candidates.codes, table.column(GROUP).to_numpy())
    position[chosen[order]] = np.arange(len(order))
    return tuple(keys[i] for i in order), position


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
