"""The kinds of values that expressions know: Spark's types with all widths of integers, and of reals, taken together.

Values of one kind are always compared, added or chosen between as one Spark type. So no implicit cast is left, whose
rules depend on ANSI mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

__all__ = ["BOOLEAN", "DATE", "DOUBLE", "LONG", "NOTHING", "NTZ", "TEXT", "TIMESTAMP", "Value", "kind_of", "name_of"]

LONG, DOUBLE, TEXT, BOOLEAN = T.LongType(), T.DoubleType(), T.StringType(), T.BooleanType()
DATE, TIMESTAMP, NTZ, NOTHING = T.DateType(), T.TimestampType(), T.TimestampNTZType(), T.NullType()

_INTEGRAL = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_REAL = (T.FloatType, T.DoubleType, T.DecimalType)
_NAMES = {LONG: "number", DOUBLE: "number", TEXT: "text", NOTHING: "NULL", NTZ: "timestamp without time zone"}


@dataclass(frozen=True)
class Value:
    """A checked expression.

    Attributes:
        kind: what it evaluates to.
        build: makes the Spark column; nothing else here needs a session.
        constant: whether no column of the row is in it.
        literal: what the text wrote, if it is nothing but a literal.
    """

    kind: T.DataType
    build: Callable[[], Column]
    constant: bool = False
    literal: str | int | float | bool | None = None

    def cast(self, kind: T.DataType) -> Value:
        """The same value as another kind, by a cast that succeeds for each of its values."""
        if kind == self.kind:
            return self
        return Value(kind, lambda: self.build().cast(kind), self.constant, self.literal)


def kind_of(data_type: T.DataType) -> T.DataType | None:
    """The kind of a column of this type; None where expressions do not know the type."""
    if isinstance(data_type, _INTEGRAL):
        return LONG
    if isinstance(data_type, _REAL):
        return DOUBLE
    if isinstance(data_type, T.ArrayType):
        element = kind_of(data_type.elementType)
        return None if element is None else T.ArrayType(element, data_type.containsNull)
    # a collation may call 'a' and 'A' equal, which no text of an expression shows
    known = (T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType, T.StructType)
    return data_type if data_type == TEXT or isinstance(data_type, known) else None


def name_of(kind: T.DataType) -> str:
    """The kind as an error says it."""
    return _NAMES.get(kind, kind.simpleString())


def null_as(kind: T.DataType) -> Column:
    """A missing value of a kind."""
    return F.lit(None).cast(kind)
