"""Contribution bounding of a DataFrame: two exchanges, one numpy kernel between them, no action.

rows -> (identity, group, columns)   Catalyst; rows whose unit is NULL are dropped
     -> repartition(n, identity)     all rows of one unit in one task, with an explicit n
     -> numpy kernel                 `dp.execution.survivors` and `cells`, over the whole partition
     -> partial cells -> sum         the second exchange carries one row per partition and cell
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.execution.cells import CellMeasure, partial_cells
from dp.execution.survivors import Column, Int64s, UnitRows, Words, mix64, survivors
from dp.planning.bounds import ContributionBounds
from dp.planning.names import quoted

__all__ = ["ARROW_BATCH_ROWS", "CellMeasure", "bounded_cells"]

ARROW_BATCH_ROWS = 65_536
"""The `spark.sql.execution.arrow.maxRecordsPerBatch` under which bounding is fastest. It is a setting of the session
that made the rows, and nothing here changes a caller's session: whoever clones one for reading sets it there."""

_UNIT, _UNIT_HASH, _GROUP = "unit", "unit_hash", "group"
_INTEGRAL = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_PRINTED_EXACTLY = (*_INTEGRAL, T.BooleanType, T.DecimalType, T.DateType, T.TimestampNTZType)
_CELLS = pa.schema([("cell", pa.int64()), ("word", pa.int64())])
_CELLS_DDL = "cell long, word long"
_LOW_32 = 0xFFFFFFFF


def bounded_cells(
    rows: DataFrame,
    *,
    unit: tuple[str, ...],
    group: str,
    measures: Sequence[CellMeasure],
    bounds: ContributionBounds,
    salt: int,
    partitions: int,
) -> DataFrame:
    """Bound every unit's contribution, then add up the measures; lazy, and the same for every action.

    Args:
        rows: unit, group and measure columns; restricted to public keys already.
        unit: columns that together identify the privacy unit. Strings are compared byte by byte: 'a', 'A' and 'a '
            are three units, whatever the collation. A row with a NULL in one of them belongs to nobody and is dropped.
        group: integer column of group codes, >= 0; rows without one are dropped.
        measures: what is added into which cells; their columns are integers.
        bounds: what one unit may contribute.
        salt: chooses which rows survive; fresh for each release, any integer, not secret.
        partitions: tasks of the exchange; no result depends on it.

    Returns:
        DataFrame (cell: long, word: long): one row per cell that got something; the sum modulo 2^64, two's complement.

    Raises:
        InvalidArgument: a column that is missing, or of a type that cannot be compared or added exactly.

    Guarantees: without the rows of one unit, at most `bounds.groups` groups change, each by at most
        `bounds.rows_per_group` rows, `bounds.rows` rows in all. For a given salt the cells depend on the set of rows
        only, not on their order, on `partitions` or on retried tasks. No value of a row raises, under ANSI or not.
    Cost: one exchange of the rows by unit, one of a partial row per partition and cell.
    """
    if partitions < 1:
        raise InvalidArgument("partitions", partitions, "give at least one")
    columns = sorted({measure.column for measure in measures if measure.column is not None})
    for column in (group, *columns):
        _require(rows, column, _INTEGRAL, "measures and groups are integer columns: encode or cast it first")
    kernel = partial(bound_partition, measures=_by_position(measures, columns), bounds=bounds, salt=salt % 2**64)
    # rows: (unit, [unit_hash], group, columns); a hint or a rebalance here would split units over tasks
    packed = _pack(rows, unit, group, columns, salt).repartition(partitions, F.col(_UNIT))
    partials = packed.mapInArrow(kernel, _CELLS_DDL)
    return _add_up(partials.repartition(partitions, F.col("cell")))


def bound_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    measures: Sequence[CellMeasure],
    bounds: ContributionBounds,
    salt: int,
) -> Iterator[pa.RecordBatch]:
    """The worker's part of `bounded_cells`: Arrow batches of whole units in, partial cells out.

    Args:
        batches: all rows of some units: unit, unit_hash (unless the unit is an integer), group, measure columns.
        measures: as in `bounded_cells`; their columns are the batches' names.
        bounds: what one unit may contribute.
        salt: 0..2^64-1.
    """
    received = list(batches)
    if not received:
        return
    part = _unit_rows(pa.Table.from_batches(received), salt)
    received.clear()
    for cells, words in partial_cells(part, survivors(part, bounds), measures):
        for start in range(0, len(cells), ARROW_BATCH_ROWS):
            stop = start + ARROW_BATCH_ROWS
            arrays = [pa.array(cells[start:stop]), pa.array(words[start:stop].view(np.int64))]
            yield pa.RecordBatch.from_arrays(arrays, schema=_CELLS)


def _unit_rows(table: pa.Table, salt: int) -> UnitRows:
    unit, unit_hash = _identity(table, salt)
    names = [name for name in table.column_names if name not in (_UNIT, _UNIT_HASH, _GROUP)]
    group = table.column(_GROUP).to_numpy().astype(np.int64)
    return UnitRows(unit, unit_hash, group, {name: _column(table.column(name)) for name in names})


def _identity(table: pa.Table, salt: int) -> tuple[Int64s, Words]:
    units = table.column(_UNIT)
    if pa.types.is_integer(units.type):
        unit: Int64s = units.to_numpy()
        return unit, mix64(unit.view(np.uint64) ^ mix64(np.array([salt], np.uint64)))
    # Codes are exact, and number the units in the order of arrival: good for telling units apart, not for choosing.
    codes = [chunk.indices.to_numpy() for chunk in units.dictionary_encode().chunks]
    return np.concatenate(codes).astype(np.int64), table.column(_UNIT_HASH).to_numpy().view(np.uint64)


def _column(values: pa.ChunkedArray) -> Column:
    if values.null_count == 0:
        return Column(values.to_numpy())
    return Column(values.fill_null(0).to_numpy(), values.is_valid().to_numpy())


def _pack(rows: DataFrame, unit: Sequence[str], group: str, columns: Sequence[str], salt: int) -> DataFrame:
    present = F.col(quoted(group)) >= F.lit(0)
    for name in unit:
        present = present & F.col(quoted(name)).isNotNull()
    group_code = F.col(quoted(group)).alias(_GROUP)
    values = [F.col(quoted(name)).cast("long").alias(f"m{index}") for index, name in enumerate(columns)]
    identity = _exact_identity(rows, unit)
    if _is_integral(rows, unit):
        return rows.where(present).select(identity.alias(_UNIT), group_code, *values)
    signed_salt = int(np.array(salt % 2**64, np.uint64).view(np.int64))
    unit_hash = F.xxhash64(F.lit(signed_salt), identity)
    return rows.where(present).select(identity.alias(_UNIT), unit_hash.alias(_UNIT_HASH), group_code, *values)


def _is_integral(rows: DataFrame, unit: Sequence[str]) -> bool:
    return len(unit) == 1 and isinstance(_type_of(rows, unit[0]), _INTEGRAL)


def _exact_identity(rows: DataFrame, unit: Sequence[str]) -> SparkColumn:
    """The unit as one value, injectively: a long for an integer, otherwise bytes; netstrings keep columns apart."""
    if not unit:
        raise InvalidArgument("unit", unit, "name the columns that identify the privacy unit")
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


def _add_up(partials: DataFrame) -> DataFrame:
    """Sums modulo 2^64 of words: `sum` of a ring's elements throws under ANSI, sums of their halves cannot overflow."""
    word = F.col("word")
    halves = partials.groupBy("cell").agg(
        F.sum(word.bitwiseAND(F.lit(_LOW_32))).alias("low"), F.sum(F.shiftright(word, 32)).alias("high")
    )
    carried = F.col("high") + F.shiftright("low", 32)
    joined = F.shiftleft(carried, 32).bitwiseOR(F.col("low").bitwiseAND(F.lit(_LOW_32)))
    return halves.select("cell", joined.alias("word"))


def _by_position(measures: Sequence[CellMeasure], columns: Sequence[str]) -> tuple[CellMeasure, ...]:
    """The measures with their columns named as `_pack` names them, so that no name can clash."""
    names = {name: f"m{index}" for index, name in enumerate(columns)}
    return tuple(
        CellMeasure(m.offset, m.width, m.kind, None if m.column is None else names[m.column]) for m in measures
    )


def _require(rows: DataFrame, name: str, kinds: tuple[type[T.DataType], ...], remedy: str) -> None:
    if not isinstance(_type_of(rows, name), kinds):
        raise InvalidArgument("column", name, remedy)


def _type_of(rows: DataFrame, name: str) -> T.DataType:
    try:
        return rows.schema[name].dataType
    except KeyError:
        raise InvalidArgument("column", name, f"the rows have only {rows.columns}") from None
