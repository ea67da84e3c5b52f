"""Synthetic rows of a declared schema: made from public facts and a seed alone, for dry runs.

A value lies within its column's declared bounds or keys, where there are any, and is NULL now and then where it may be.
Nothing is correlated with anything: numbers computed from such rows mean nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.schema import INTEGRAL_BITS
from dp.planning.facts import PublicFacts

__all__ = ["MOST_SYNTHETIC_ROWS", "synthetic_rows"]

MOST_SYNTHETIC_ROWS = 2**20
"""They are made by the driver."""

_ROWS_PER_UNIT = 4  # on average; units differ, as in life
_NULL_SHARE = 0.05
_WORDS = 20
_MOST_ITEMS = 4
_FIRST_DAY = date(2024, 1, 1)
_DAYS, _MICROSECONDS_A_DAY = 730, 86_400_000_000
_DEFAULT_RANGE = (Fraction(0), Fraction(100))

Draw = Callable[[random.Random], object]
"""Makes one value."""


def synthetic_rows(spark: SparkSession, schema: T.StructType, facts: PublicFacts, rows: int, seed: int) -> DataFrame:
    """Rows of a schema; the same ones for the same arguments.

    Args:
        spark: the session that they appear in.
        schema: of the table.
        facts: what is declared about it.
        rows: how many, 1..MOST_SYNTHETIC_ROWS.
        seed: any integer.

    Raises:
        InvalidArgument: another number of rows, or a column that is NOT NULL and of a type that no value is known of.
    """
    if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= MOST_SYNTHETIC_ROWS:
        raise InvalidArgument("rows", rows, f"give a number of rows from 1 to {MOST_SYNTHETIC_ROWS:,}")
    rng = random.Random(seed)  # noqa: S311  it protects nobody
    draws = [(field.name in facts.unit, _column(field, facts)) for field in schema.fields]
    units = min(max(rows // _ROWS_PER_UNIT, 1), facts.max_units)
    values = []
    for _ in range(rows):
        unit = int(rng.expovariate(2.0) * units) % units  # some units have many rows, most have few
        of_unit = random.Random(f"{seed} {unit}")  # noqa: S311  one unit has one id in every row
        values.append(tuple(draw(of_unit if is_unit else rng) for is_unit, draw in draws))
    return spark.createDataFrame(values, schema)


def _column(field: T.StructField, facts: PublicFacts) -> Draw:
    """One column's values: what is declared about it goes before its type."""
    if field.name in facts.keys:
        draw: Draw = _one_of(facts.keys[field.name])
    else:
        bounds = facts.bounds.get(field.name, _DEFAULT_RANGE)
        draw = _of_field(field, bounds, is_unit=field.name in facts.unit)
    return _or_null(draw) if field.nullable else draw


def _one_of(values: tuple[object, ...]) -> Draw:
    return lambda rng: rng.choice(values)


def _or_null(draw: Draw) -> Draw:
    return lambda rng: None if rng.random() < _NULL_SHARE else draw(rng)


def _of_field(field: T.StructField, bounds: tuple[Fraction, Fraction], *, is_unit: bool) -> Draw:
    """Values of a column, or of a part of one, that are never NULL unless no value of the type is known."""
    kind = type(field.dataType)
    if is_unit and kind in _IDS:
        return _IDS[kind]
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind in _MADE:
        return _MADE[kind](field.dataType, bounds)
    if field.nullable:
        return lambda _: None
    remedy = "no value of this type is known: drop the column, or make it nullable"
    raise InvalidArgument("schema", f"{field.name} {field.dataType.simpleString()}", remedy)


def _part(name: str, kind: T.DataType, *, nullable: bool) -> Draw:
    """Values inside an array or a map."""
    return _column(T.StructField(name, kind, nullable), PublicFacts(()))


def _whole(kind: T.DataType, bounds: tuple[Fraction, Fraction]) -> Draw:
    most = 2 ** (INTEGRAL_BITS[type(kind)] - 1) - 1
    low, high = (min(max(bound, Fraction(-most)), Fraction(most)) for bound in bounds)
    first = math.ceil(low)
    return lambda rng: rng.randint(first, max(math.floor(high), first))


def _decimal(kind: T.DecimalType, bounds: tuple[Fraction, Fraction]) -> Draw:
    most = 10**kind.precision - 1
    low, high = (min(max(int(bound * 10**kind.scale), -most), most) for bound in bounds)
    exactly = Context(prec=kind.precision)
    return lambda rng: Decimal(rng.randint(low, high)).scaleb(-kind.scale, exactly)


def _real(_: T.DataType, bounds: tuple[Fraction, Fraction]) -> Draw:
    lower, upper = (float(bound) for bound in bounds)
    return lambda rng: rng.uniform(lower, upper)


def _struct(kind: T.StructType, _: object) -> Draw:
    fields = [_column(field, PublicFacts(())) for field in kind.fields]
    return lambda rng: tuple(draw(rng) for draw in fields)


def _array(kind: T.ArrayType, _: object) -> Draw:
    item = _part("item", kind.elementType, nullable=kind.containsNull)
    return lambda rng: [item(rng) for _ in range(rng.randint(0, _MOST_ITEMS))]


def _map(kind: T.MapType, _: object) -> Draw:
    key = _part("key", kind.keyType, nullable=False)
    value = _part("value", kind.valueType, nullable=kind.valueContainsNull)
    return lambda rng: {_hashable(key(rng)): value(rng) for _ in range(rng.randint(0, _MOST_ITEMS))}


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _moment(rng: random.Random) -> datetime:
    start = datetime(_FIRST_DAY.year, _FIRST_DAY.month, _FIRST_DAY.day, tzinfo=UTC)
    return start + timedelta(microseconds=rng.randrange(_DAYS * _MICROSECONDS_A_DAY))


_SIMPLE: Mapping[type[T.DataType], Draw] = MappingProxyType(
    {
        T.StringType: lambda rng: f"text{rng.randrange(_WORDS)}",
        T.BooleanType: lambda rng: rng.random() < 0.5,
        T.BinaryType: lambda rng: bytearray(rng.randbytes(8)),
        T.DateType: lambda rng: _FIRST_DAY + timedelta(days=rng.randrange(_DAYS)),
        T.TimestampType: _moment,
        T.TimestampNTZType: lambda rng: _moment(rng).replace(tzinfo=None),
    }
)
"""Types whose values need nothing else to be known."""

_IDS: Mapping[type[T.DataType], Draw] = MappingProxyType(
    {
        T.IntegerType: lambda rng: rng.randrange(2**31),
        T.LongType: lambda rng: rng.randrange(2**31),
        T.StringType: lambda rng: f"id{rng.randrange(2**40):010x}",
    }
)
"""Types of ids, so wide that those of two units hardly ever meet."""

_MADE: Mapping[type[T.DataType], Callable[[Any, tuple[Fraction, Fraction]], Draw]] = MappingProxyType(
    {
        **dict.fromkeys(INTEGRAL_BITS, _whole),
        T.DecimalType: _decimal,
        T.FloatType: _real,
        T.DoubleType: _real,
        T.StructType: _struct,
        T.ArrayType: _array,
        T.MapType: _map,
    }
)
"""Types whose values depend on the type's own parameters, or on declared bounds."""
