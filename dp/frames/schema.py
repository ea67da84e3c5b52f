"""Declared facts against a Spark schema: what is wrong with them is said before anything is read or paid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.planning.aggregates import ColumnType
from dp.planning.facts import Key

__all__ = ["INTEGRAL_BITS", "check_keys", "check_unit", "column_types"]

INTEGRAL_BITS: dict[type[T.DataType], int] = {T.ByteType: 8, T.ShortType: 16, T.IntegerType: 32, T.LongType: 64}
"""Spark's integer types and their widths."""

_REAL = (T.FloatType, T.DoubleType, T.DecimalType)
_UNIT = (*INTEGRAL_BITS, T.StringType, T.BooleanType, T.DateType, T.BinaryType)


def column_types(schema: T.StructType) -> dict[str, ColumnType]:
    """The columns of a schema that aggregates may read, as a plan knows them; a real one can always hold a NaN."""
    integral = tuple(INTEGRAL_BITS)
    numeric = integral + _REAL
    return {
        field.name: ColumnType(
            isinstance(field.dataType, integral), field.nullable, isinstance(field.dataType, numeric)
        )
        for field in schema.fields
        if isinstance(field.dataType, numeric + _UNIT)
    }


def check_unit(schema: T.StructType, unit: Sequence[str]) -> None:
    """Refuse a privacy unit that is not made of existing columns with exact values.

    Raises:
        InvalidArgument: a column that does not exist, or one of a floating, nested or map type.
    """
    for column in unit:
        field = _field(schema, column, "unit")
        if not isinstance(field.dataType, _UNIT):
            remedy = "a unit column has an exact type: integer, string, date, boolean or binary"
            raise InvalidArgument("unit", f"{column} {field.dataType.simpleString()}", remedy)
        _refuse_collation(field, "unit")


def check_keys(schema: T.StructType, columns: Sequence[str], groups: Iterable[tuple[Key, ...]]) -> None:
    """Refuse group keys that do not fit the type of their column.

    Raises:
        InvalidArgument: a column that does not exist or cannot hold keys, or a key of another type or out of range.
    """
    fields = [_field(schema, column, "groupBy") for column in columns]
    for field in fields:
        if not isinstance(field.dataType, (*INTEGRAL_BITS, T.StringType, T.BooleanType)):
            remedy = "a key is an integer, a string or a boolean: group by a column of that type, such as a cast"
            raise InvalidArgument("groupBy", f"{field.name} {field.dataType.simpleString()}", remedy)
        _refuse_collation(field, "keys")
    for group in groups:
        for field, key in zip(fields, group, strict=True):
            _check_key(field, key)


def _check_key(field: T.StructField, key: Key) -> None:
    kind = field.dataType
    bits = INTEGRAL_BITS.get(type(kind), 0)
    if isinstance(key, bool):
        fits = isinstance(kind, T.BooleanType)
    elif isinstance(key, int):
        fits = bits > 0 and -(2 ** (bits - 1)) <= key < 2 ** (bits - 1)
    else:
        fits = isinstance(kind, T.StringType)
    if not fits:
        remedy = f"column {field.name!r} is {kind.simpleString()}: give keys of that type, within its range"
        raise InvalidArgument("keys", key, remedy)


def _refuse_collation(field: T.StructField, parameter: str) -> None:
    """A collation may call 'a' and 'A' equal: one row would belong to two keys, one person to two units."""
    kind = field.dataType
    if isinstance(kind, T.StringType) and not kind.isUTF8BinaryCollation():
        remedy = f"the column is {kind.simpleString()}; use one without collation"
        raise InvalidArgument(parameter, field.name, remedy)
    if str(field.metadata.get("__CHAR_VARCHAR_TYPE_STRING", "")).startswith("char"):
        remedy = "the column is CHAR(n), whose values may be padded with spaces; use STRING"
        raise InvalidArgument(parameter, field.name, remedy)


def _field(schema: T.StructType, column: str, parameter: str) -> T.StructField:
    for field in schema.fields:
        if field.name == column:
            return field
    raise InvalidArgument(parameter, column, f"no such column; there are {schema.fieldNames()}")
