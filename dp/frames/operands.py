"""What a rule of the expression language may ask of its operands, and how it refuses."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NoReturn

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp

from dp.errors import InvalidArgument
from dp.frames import total
from dp.frames.kinds import BOOLEAN, DATE, DOUBLE, LONG, NOTHING, NTZ, TEXT, TIMESTAMP, Value, kind_of, name_of

__all__ = ["PLAIN", "TIMES", "Operands", "joined", "number_of"]

PLAIN = (LONG, DOUBLE, TEXT, BOOLEAN)
TIMES = (DATE, TIMESTAMP, NTZ)

_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d:\d\d)?")
_TARGETS: Mapping[str, tuple[str, T.DataType, tuple[T.DataType, ...]]] = MappingProxyType(
    {
        # type in the text -> Spark's type, the kind that it becomes, and the kinds that it takes
        "TINYINT": ("tinyint", LONG, PLAIN),
        "SMALLINT": ("smallint", LONG, PLAIN),
        "INT": ("int", LONG, PLAIN),
        "BIGINT": ("bigint", LONG, PLAIN),
        "FLOAT": ("float", DOUBLE, PLAIN),
        "DOUBLE": ("double", DOUBLE, PLAIN),
        "TEXT": ("string", TEXT, (*PLAIN, *TIMES)),
        "VARCHAR": ("string", TEXT, (*PLAIN, *TIMES)),
        "BOOLEAN": ("boolean", BOOLEAN, PLAIN),
        "DATE": ("date", DATE, (TEXT, *TIMES)),
        "TIMESTAMPTZ": ("timestamp", TIMESTAMP, (TEXT, *TIMES)),
        "TIMESTAMPNTZ": ("timestamp_ntz", NTZ, (TEXT, *TIMES)),
    }
)


class Operands(ABC):
    """The checks; a compiler adds the rules.

    Args:
        text: what is compiled, for errors.
        schema: of the rows.
        parameter: what errors call the text.
    """

    def __init__(self, text: str, schema: T.StructType, parameter: str) -> None:
        self._text_given, self._parameter, self._schema = text, parameter, schema

    @abstractmethod
    def value(self, node: exp.Expr) -> Value:
        """A node's kind and column; refused if it is not total."""

    def all_of(self, node: exp.Expr, wanted: T.DataType, *operands: exp.Expr) -> list[Value]:
        """Operands of one kind."""
        return [self.as_kind(node, self.value(operand), wanted) for operand in operands]

    def as_kind(self, node: exp.Expr, value: Value, wanted: T.DataType) -> Value:
        """A value of a kind, or a whole number where a real one is wanted."""
        if value.kind not in (wanted, NOTHING) and not (wanted == DOUBLE and value.kind == LONG):
            self.refuse(node, f"needs a {name_of(wanted)} where {name_of(value.kind)} is given: cast it")
        return value.cast(wanted)

    def numbers(self, node: exp.Expr, *operands: exp.Expr) -> list[Value]:
        """Operands that are all whole or all real."""
        return self.alike(node, *operands, among=(LONG, DOUBLE))

    def comparable(self, node: exp.Expr, *operands: exp.Expr) -> list[Value]:
        """Operands of one kind whose values are equal or ordered."""
        return self.alike(node, *operands, among=(*PLAIN, *TIMES))

    def alike(self, node: exp.Expr, *operands: exp.Expr, among: Sequence[T.DataType] = ()) -> list[Value]:
        """The operands as values of one kind: whole numbers become real ones, NULL becomes anything."""
        values = [self.value(operand) for operand in operands]
        kinds = {value.kind for value in values} - {NOTHING}
        if kinds == {LONG, DOUBLE}:
            kinds = {DOUBLE}
        if len(kinds) > 1:
            self.refuse(node, f"mixes {' and '.join(sorted(map(name_of, kinds)))}: cast one of them")
        kind = kinds.pop() if kinds else (among[0] if among else NOTHING)
        if among and kind not in among:
            self.refuse(node, f"does not work on {name_of(kind)}, but on {', '.join(sorted(set(map(name_of, among))))}")
        return [value.cast(kind) for value in values]

    def whole(self, node: exp.Expr, operand: exp.Expr | None, least: int, most: int) -> int:
        """The whole number that an operand spells out."""
        literal = None if operand is None else self.value(operand).literal
        if not isinstance(literal, int) or isinstance(literal, bool) or not least <= literal <= most:
            self.refuse(node, f"needs a literal whole number from {least} to {most}")
        return literal

    def text(self, node: exp.Expr, operand: exp.Expr | None) -> str:
        """The text that an operand spells out."""
        literal = None if operand is None else self.value(operand).literal
        if not isinstance(literal, str) or not literal:
            self.refuse(node, "needs a literal text, as in 'abc'")
        return literal

    def checked(self, node: exp.Expr, check: Callable[[str], None], pattern: str) -> None:
        """Refuse a pattern that a check refuses."""
        try:
            check(pattern)
        except InvalidArgument as error:
            self.refuse(node, f"has a pattern that is refused: {error.remedy}")

    def only(self, node: exp.Expr, *understood: str) -> None:
        """An argument that a rule does not know of is refused, never ignored."""
        unknown = sorted(name for name, argument in node.args.items() if argument and name not in understood)
        if unknown:
            self.refuse(node, f"says more than is understood ({', '.join(unknown)}); write it more plainly")

    def refuse(self, node: exp.Expr, why: str) -> NoReturn:
        """Say what is wrong with a node; every rule ends here or in a value."""
        raise InvalidArgument(self._parameter, self._text_given, f"{node.sql(dialect='spark')!r} {why}")

    def literal(self, node: exp.Expr, literal: str | int | float | bool | None) -> Value:
        """A value that the text spells out; None where no type holds it."""
        if literal is None:
            self.refuse(node, "is beyond the numbers of 64 bits")
        kinds: dict[type, T.DataType] = {str: TEXT, bool: BOOLEAN, int: LONG, float: DOUBLE}
        kind = kinds[type(literal)]
        return Value(kind, lambda: F.lit(literal).cast(kind), constant=True, literal=literal)

    def inside(self, node: exp.Expr, struct: Value, name: str) -> Value:
        """A field of a struct, of whatever type."""
        if not isinstance(struct.kind, T.StructType):
            self.refuse(node, f"asks for field {name!r} of {name_of(struct.kind)}; only structs have fields")
        field = self.field(node, struct.kind, name)
        return Value(field.dataType, lambda: struct.build().getField(field.name))

    def field(self, node: exp.Expr, struct: T.StructType, name: str) -> T.StructField:
        """The one column or field of a name, whose case does not count."""
        found = [field for field in struct.fields if field.name.lower() == name.lower()]
        if len(found) != 1:
            self.refuse(node, f"is no column; there are {sorted(struct.fieldNames())}")
        return found[0]

    def known(self, node: exp.Expr, value: Value) -> Value:
        """A column's value as one of the kinds."""
        kind = kind_of(value.kind)
        if kind is None:
            return self.refuse(node, f"is {value.kind.simpleString()}, which expressions cannot use safely")
        return value.cast(kind)

    def array(self, node: exp.Expr, operand: exp.Expr) -> Value:
        """An operand that is an array."""
        array = self.value(operand)
        if not isinstance(array.kind, T.ArrayType):
            self.refuse(node, f"needs an array where {name_of(array.kind)} is given")
        return array

    def time(self, node: exp.Expr, value: Value) -> Value:
        """A value that is a timestamp."""
        if value.kind not in (TIMESTAMP, NTZ):
            self.refuse(node, f"needs a timestamp where {name_of(value.kind)} is given")
        return value

    def to_date(self, node: exp.Expr, value: Value) -> Value:
        """A value as a date of the years 1 to 9999."""
        if value.kind in (TEXT, NOTHING):
            return self.cast(node, value, "DATE")
        if value.kind not in TIMES:
            self.refuse(node, f"needs a date where {name_of(value.kind)} is given")
        return joined(DATE, lambda: total.civil(value.build(), value.kind).cast(DATE), value)

    def cast(self, node: exp.Expr, value: Value, target: str) -> Value:
        """A value as another type; NULL where it has no such value."""
        spark_type, kind, takes = _TARGETS.get(target, ("", NOTHING, ()))
        if value.kind not in (*takes, NOTHING) or not takes:
            self.refuse(node, f"is a cast of {name_of(value.kind)} that is not known to be total")
        if value.constant and value.kind == TEXT and kind in TIMES and not _is_iso(value.literal):
            self.refuse(node, "is no date or time: write it out, as in date '2025-12-31' ('now' depends on the clock)")
        if value.kind in TIMES:
            return joined(kind, lambda: total.civil(value.build(), value.kind).try_cast(spark_type), value)
        return joined(kind, lambda: value.build().try_cast(spark_type).cast(kind), value)


def joined(kind: T.DataType, build: Callable[[], Column], *operands: Value) -> Value:
    """A value that is computed from others: constant if they all are."""
    return Value(kind, build, all(operand.constant for operand in operands))


def _is_iso(literal: object) -> bool:
    if not isinstance(literal, str) or not _ISO_TIME.fullmatch(literal):
        return False
    try:
        datetime.fromisoformat(literal)
    except ValueError:
        return False
    return True


def number_of(written: str) -> int | float | None:
    """The number as a long or a double; None where it is beyond both."""
    try:
        whole = int(written)
    except ValueError:
        real = float(written)
        return real if math.isfinite(real) else None
    return whole if -(2**63) <= whole < 2**63 else None
