"""Contribution bounding of a DataFrame: two exchanges, one numpy kernel between them, no action.

rows -> (identity, group, columns)   Catalyst; rows whose unit is NULL are dropped
     -> `dp.execution.scatter`       all rows of one unit in one task, with an explicit number of tasks
     -> numpy kernel                 `dp.execution.survivors` and `partials`, about 10^6 rows of whole units at a time
     -> partial cells -> sum         the second exchange carries one row per partition and cell, or per partition and
                                     group with its few cells side by side
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import and_
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.execution.partials import every_row_survives, numbered, partial_items, partial_sums, surviving
from dp.execution.scatter import UNIT, UNIT_HASH, by_unit, chunks, unit_hashes, unpacked
from dp.execution.survivors import SHARE_ROWS, Int64s, UnitRows, shares, survivors
from dp.planning.bounds import ContributionBounds
from dp.planning.cells import CellRule, Column, DistinctItems, Surviving
from dp.planning.names import quoted

__all__ = ["ARROW_SETTINGS", "bounded_cells", "bounded_groups", "exact_identity"]

ARROW_BATCH_ROWS = 65_536
ARROW_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS),
        # Below the greatest number Spark measures the batch after each row, which costs more than the shuffle does.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    }
)
"""What makes bounding fast. They are settings of the session that made the rows, and nothing here changes a caller's
session: whoever clones one for reading sets them there."""

_GROUP = "group"
_INTEGRAL = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_PRINTED_EXACTLY = (*_INTEGRAL, T.BooleanType, T.DecimalType, T.DateType, T.TimestampNTZType)
_PARTIALS = pa.schema([("group", pa.int64()), ("cell", pa.int64()), ("item", pa.int64()), ("word", pa.int64())])
_LOW_32 = 0xFFFFFFFF
_MOST_WIDE = 16  # cells of a group that travel in one row, whether or not each of them got something


def bounded_cells(
    rows: DataFrame,
    *,
    unit: tuple[str, ...],
    group: str,
    rules: Sequence[CellRule],
    bounds: ContributionBounds,
    salt: int,
    partitions: int,
) -> DataFrame:
    """Bound every unit's contribution, then add up the cells; lazy, and the same for every action.

    Args:
        rows: unit, group and measure columns; restricted to public keys already.
        unit: columns that together identify the privacy unit. Strings are compared byte by byte: 'a', 'A' and 'a '
            are three units, whatever the collation. A row with a NULL in one of them belongs to nobody and is dropped.
            No column: every row is a unit of its own, survives, and no exchange is needed.
        group: integer column of group codes, >= 0; rows without one are dropped.
        rules: what is added into which cells; the columns that they read are integers.
        bounds: what one unit may contribute.
        salt: chooses which rows survive; fresh for each release, any integer, not secret.
        partitions: tasks of the exchange by unit; no result depends on it.

    Returns:
        DataFrame (cell: long, word: long): one row per cell that got something; the sum modulo 2^64, two's complement.

    Raises:
        InvalidArgument: a column that is missing, or of a type that cannot be compared or added exactly.

    Guarantees: without the rows of one unit, at most `bounds.groups` groups change, each by at most
        `bounds.rows_per_group` rows, `bounds.rows` rows in all. For a given salt the cells depend on the set of rows
        only, not on their order, on `partitions` or on retried tasks. No value of a row raises, under ANSI or not.
    Cost: one exchange of the rows by unit, one of a partial row per partition and cell.
    """
    kernel = _Kernel(_positional(rules, _measured(rules)), bounds, salt % 2**64)
    partials = _partials(rows, rules, kernel, unit=unit, group=group, partitions=partitions)
    return _added_up(partials, ["cell"], kernel)


def bounded_groups(
    rows: DataFrame,
    *,
    unit: tuple[str, ...],
    group: str,
    rules: Sequence[CellRule],
    bounds: ContributionBounds,
    salt: int,
    partitions: int,
    cells_per_group: int,
) -> DataFrame:
    """As `bounded_cells`, for groups that nobody knows beforehand: their codes may be any integers.

    Args:
        group: integer column of group codes; rows where it is NULL are dropped.
        rules: each with `cells_per_group` as its stride, so that cells 0..cells_per_group - 1 are those of a group.
        cells_per_group: how many cells a group has.

    Returns:
        DataFrame (group: long, cell: long, word: long): one row per group and cell; cells that are 0 may be left out.
    """
    kernel = _Kernel(_positional(rules, _measured(rules)), bounds, salt % 2**64, cells_per_group)
    partials = _partials(rows, rules, kernel, unit=unit, group=group, partitions=partitions)
    return _summed_wide(partials, cells_per_group) if kernel.is_wide else _added_up(partials, ["group", "cell"], kernel)


@dataclass(frozen=True)
class _Kernel:
    """The worker's part: Arrow batches of whole units in, partial cells out.

    Attributes:
        rules: their columns are the batches' names.
        bounds: what one unit may contribute.
        salt: 0..2^64-1.
        cells_per_group: where groups are coded by any integers, how many cells each has; None: a cell is a number.
    """

    rules: tuple[CellRule, ...]
    bounds: ContributionBounds
    salt: int
    cells_per_group: int | None = None

    @property
    def names_items(self) -> bool:
        """Whether different items are to be counted once."""
        return any(isinstance(rule, DistinctItems) for rule in self.rules)

    @property
    def is_wide(self) -> bool:
        """Whether all cells of a group are one row."""
        return self.cells_per_group is not None and self.cells_per_group <= _MOST_WIDE and not self.names_items

    @property
    def ddl(self) -> str:
        """What comes out: a group, a cell, and an item or a word; or a group and the words of all its cells."""
        if not self.is_wide:
            return "group long, cell long, item long, word long"
        assert self.cells_per_group is not None
        return ", ".join(["group long", *(f"{_word(cell)} long" for cell in range(self.cells_per_group))])

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """All rows of some units, packed; or group and measure columns, where every row is a unit."""
        for bounded in self._surviving(batches):
            alive, codes = self._coded(bounded)
            if self.is_wide:
                yield from self._wide(alive, codes)
                continue
            for cells, words in partial_sums(alive, self.rules):
                yield from self._batches(cells, codes, None, words.view(np.int64))
            for cells, items in partial_items(alive, self.rules):
                yield from self._batches(cells, codes, items, None)

    def _surviving(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Surviving]:
        """What bounding lets through, share by share, so that memory does not grow with what is computed."""
        received = iter(batches)
        for first in received:
            if _GROUP in first.schema.names:
                for table in chunks(chain([first], received), SHARE_ROWS):
                    yield every_row_survives(*_groups_and_columns(table))
            else:
                yield from self._bounded(unpacked(chain([first], received)))

    def _bounded(self, rows: pa.Table | None) -> Iterator[Surviving]:
        if rows is None:
            return
        part = UnitRows(_numbered_units(rows), unit_hashes(rows, self.salt), *_groups_and_columns(rows))
        del rows
        for share in shares(part):
            yield surviving(share, survivors(share, self.bounds))

    def _coded(self, alive: Surviving) -> tuple[Surviving, Int64s | None]:
        """Where groups are coded by any integers, number those of this partition, and keep their codes."""
        if self.cells_per_group is None:
            return alive, None
        codes, number = numbered(alive.run_group)
        return replace(alive, group=number[alive.run], run_group=number), codes

    def _wide(self, alive: Surviving, codes: Int64s | None) -> Iterator[pa.RecordBatch]:
        assert codes is not None
        assert self.cells_per_group is not None
        table = np.zeros((len(codes), self.cells_per_group), np.int64)
        for cells, words in partial_sums(alive, self.rules):
            table.reshape(-1)[cells] += words.view(np.int64)  # cells are distinct
        names = ["group", *(_word(cell) for cell in range(self.cells_per_group))]
        for start in range(0, len(codes), ARROW_BATCH_ROWS):
            some = slice(start, start + ARROW_BATCH_ROWS)
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in (codes[some], *table[some].T)], names)

    def _batches(
        self, cells: Int64s, codes: Int64s | None, items: Int64s | None, words: Int64s | None
    ) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(cells), ARROW_BATCH_ROWS):
            some = slice(start, start + ARROW_BATCH_ROWS)
            size = len(cells[some])
            if codes is None or self.cells_per_group is None:
                group, cell = pa.nulls(size, pa.int64()), pa.array(cells[some])
            else:
                group = pa.array(codes[cells[some] // self.cells_per_group])
                cell = pa.array(cells[some] % self.cells_per_group)
            item, word = (pa.nulls(size, pa.int64()) if x is None else pa.array(x[some]) for x in (items, words))
            yield pa.RecordBatch.from_arrays([group, cell, item, word], schema=_PARTIALS)


def _measured(rules: Sequence[CellRule]) -> list[str]:
    return sorted({column for rule in rules for column in rule.columns})


def _partials(
    rows: DataFrame, rules: Sequence[CellRule], kernel: _Kernel, *, unit: tuple[str, ...], group: str, partitions: int
) -> DataFrame:
    if partitions < 1:
        raise InvalidArgument("partitions", partitions, "give at least one")
    columns = _measured(rules)
    for column in (group, *columns):
        _require(rows, column, _INTEGRAL, "measures and groups are integer columns: encode or cast it first")
    # rows: (unit, [unit_hash], group, columns); a hint or a rebalance here would split units over tasks
    coded = F.col(quoted(group))
    grouped = rows.where(coded.isNotNull() if kernel.cells_per_group is not None else coded >= F.lit(0))
    packed = _pack(grouped, unit, group, columns, kernel.salt)
    if unit:
        packed = by_unit(packed, salt=kernel.salt, partitions=partitions)
    return packed.mapInArrow(kernel, kernel.ddl)


def _groups_and_columns(table: pa.Table) -> tuple[Int64s, dict[str, Column]]:
    names = [name for name in table.column_names if name not in (UNIT, UNIT_HASH, _GROUP)]
    return _longs(table.column(_GROUP)), {name: _column(table.column(name)) for name in names}


def _numbered_units(rows: pa.Table) -> Int64s:
    """Equal numbers for equal units: good for telling units apart, not for choosing among them."""
    units = rows.column(UNIT)
    if pa.types.is_integer(units.type):
        return _longs(units)
    codes = [chunk.indices.to_numpy() for chunk in units.dictionary_encode().chunks]  # in the order of arrival
    return np.concatenate(codes).astype(np.int64)


def _longs(column: pa.ChunkedArray) -> Int64s:
    longs: Int64s = column.to_numpy().astype(np.int64, copy=False)
    return longs


def _column(values: pa.ChunkedArray) -> Column:
    if values.null_count == 0:
        return Column(_longs(values))
    return Column(_longs(values.fill_null(0)), values.is_valid().to_numpy())


def _pack(rows: DataFrame, unit: Sequence[str], group: str, columns: Sequence[str], salt: int) -> DataFrame:
    owned = reduce(and_, (F.col(quoted(name)).isNotNull() for name in unit), F.lit(True))
    group_code = F.col(quoted(group)).alias(_GROUP)
    values = [F.col(quoted(name)).cast("long").alias(f"m{index}") for index, name in enumerate(columns)]
    if not unit:
        return rows.select(group_code, *values)
    identity = exact_identity(rows, unit)
    if _is_integral(rows, unit):
        return rows.where(owned).select(identity.alias(UNIT), group_code, *values)
    signed_salt = int(np.array(salt % 2**64, np.uint64).view(np.int64))
    unit_hash = F.xxhash64(F.lit(signed_salt), identity)
    return rows.where(owned).select(identity.alias(UNIT), unit_hash.alias(UNIT_HASH), group_code, *values)


def _is_integral(rows: DataFrame, unit: Sequence[str]) -> bool:
    return len(unit) == 1 and isinstance(_type_of(rows, unit[0]), _INTEGRAL)


def exact_identity(rows: DataFrame, unit: Sequence[str]) -> SparkColumn:
    """Columns as one value, injectively: a long for an integer, otherwise bytes; netstrings keep columns apart."""
    if _is_integral(rows, unit):
        return F.col(quoted(unit[0])).cast("long")
    parts = [_exact_bytes(rows, name) for name in unit]
    if len(parts) == 1:
        return parts[0]
    prefixed = [F.concat(F.octet_length(part).cast("string"), F.lit(":")).cast("binary") for part in parts]
    return F.concat(*(piece for pair in zip(prefixed, parts, strict=True) for piece in pair))


def _exact_bytes(rows: DataFrame, name: str) -> SparkColumn:
    column, kind = F.col(quoted(name)), _type_of(rows, name)
    if isinstance(kind, T.BinaryType):
        return column
    if isinstance(kind, T.TimestampType):  # printed in local time, two instants of an autumn night look the same
        return F.unix_micros(column).cast("string").cast("binary")
    if isinstance(kind, (T.StringType, T.CharType, T.VarcharType, *_PRINTED_EXACTLY)):
        return column.cast("string").cast("binary")
    raise InvalidArgument(
        "unit", name, f"{kind.simpleString()} has no exact identity: cast it to a string or an integer"
    )


def _added_up(partials: DataFrame, by: list[str], kernel: _Kernel) -> DataFrame:
    """Sums by cell; of items, how many different ones."""
    if not kernel.names_items:
        return _summed(partials, by)
    counted = F.when(F.col("item").isNull(), F.col("word")).otherwise(F.lit(1))
    return _summed(_summed(partials, [*by, "item"]).withColumn("word", counted), by)


def _summed(partials: DataFrame, by: list[str]) -> DataFrame:
    """Sums modulo 2^64 of words, by columns."""
    halves = partials.groupBy(*by).agg(*_halves("word"))
    return halves.select(*by, _joined("word").alias("word"))


def _summed_wide(partials: DataFrame, cells_per_group: int) -> DataFrame:
    """As `_summed`, of groups whose words lie side by side."""
    names = [_word(cell) for cell in range(cells_per_group)]
    halves = partials.groupBy("group").agg(*(half for name in names for half in _halves(name)))
    words = halves.select("group", F.posexplode(F.array(*(_joined(name) for name in names))).alias("cell", "word"))
    return words.where(F.col("word") != 0).withColumn("cell", F.col("cell").cast("long"))


def _word(cell: int) -> str:
    """The name of a group's cell where its cells lie side by side."""
    return f"word{cell}"


def _halves(name: str) -> tuple[SparkColumn, SparkColumn]:
    """`sum` of a ring's elements throws under ANSI; sums of their halves cannot overflow."""
    word = F.col(name)
    low, high = F.sum(word.bitwiseAND(F.lit(_LOW_32))), F.sum(F.shiftright(word, 32))
    return low.alias(f"{name}_low"), high.alias(f"{name}_high")


def _joined(name: str) -> SparkColumn:
    low, high = F.col(f"{name}_low"), F.col(f"{name}_high")
    carried = high + F.shiftright(low, 32)
    return F.shiftleft(carried, 32).bitwiseOR(low.bitwiseAND(F.lit(_LOW_32)))


def _positional(rules: Sequence[CellRule], columns: Sequence[str]) -> tuple[CellRule, ...]:
    """The rules with their columns named as `_pack` names them, so that no name can clash."""
    names = {name: f"m{index}" for index, name in enumerate(columns)}
    return tuple(rule.renamed(names) for rule in rules)


def _require(rows: DataFrame, name: str, kinds: tuple[type[T.DataType], ...], remedy: str) -> None:
    if not isinstance(_type_of(rows, name), kinds):
        raise InvalidArgument("column", name, remedy)


def _type_of(rows: DataFrame, name: str) -> T.DataType:
    try:
        return rows.schema[name].dataType
    except KeyError:
        raise InvalidArgument("column", name, f"the rows have only {rows.columns}") from None
