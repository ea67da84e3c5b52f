"""Privacy units: whom or what a guarantee protects, as columns of the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.expressions import Expression, compile_expression
from dp.frames.kinds import DATE, DOUBLE, LONG, TIMESTAMP
from dp.planning.names import quoted

__all__ = ["ROW", "Identity", "RowUnit", "Unit", "WindowUnit", "identify", "normalize_id", "window", "window_seconds"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_LENGTH = re.compile(r"([1-9]\d{0,4}) (second|minute|hour|day|week)s?")
_SPACES = r" \t\n\r\u00a0"  # as a literal of the expression language


@dataclass(frozen=True)
class RowUnit:
    """Every row is a privacy unit of its own. Use `ROW`."""


ROW = RowUnit()
"""Every row is a privacy unit of its own: neighbours differ by one row. Somebody with ten rows is protected ten times
less than it says; use it where rows are about different people, or where single events are to be protected."""


@dataclass(frozen=True)
class WindowUnit:
    """What one id did within one window of time; made by `window`.

    Attributes:
        ids: the columns that identify the id.
        time: a date or timestamp, as an expression.
        length: as in "1 day".
    """

    ids: tuple[str, ...]
    time: str
    length: str


Unit = str | Sequence[str] | RowUnit | WindowUnit
"""One column or expression, several, `ROW`, or a `window`."""


@dataclass(frozen=True)
class Identity:
    """A unit against a schema.

    Attributes:
        columns: the columns that together identify the unit; none for rows.
        derived: those of them that the rows do not have yet, each with what makes it.
    """

    columns: tuple[str, ...]
    derived: Mapping[str, Callable[[DataFrame], Column]] = field(default_factory=lambda: MappingProxyType({}))


def window(ids: str | Sequence[str], time: str, length: str) -> WindowUnit:
    """A unit that is one id within one window of time, such as a patient's day.

    Neighbours differ by all rows of one id within one window. What an id does in several windows is protected window by
    window: k windows together have k times the epsilon.

    Args:
        ids: the columns that identify the id.
        time: a column, or an expression over columns, that is a date or a timestamp with time zone.
        length: a number and "seconds", "minutes", "hours", "days" or "weeks". Windows are aligned to 1970-01-01 UTC.

    Raises:
        InvalidArgument: another length.
    """
    window_seconds(length)
    return WindowUnit(_names(ids), time, length)


def window_seconds(length: str) -> int:
    """How long windows of a length such as "1 day" are.

    Raises:
        InvalidArgument: another length; see `window`.
    """
    found = _LENGTH.fullmatch(length) if isinstance(length, str) else None
    if found is None:
        raise InvalidArgument("length", length, 'write a number and a unit, such as "1 day" or "6 hours"')
    return int(found[1]) * _SECONDS[found[2]]


def normalize_id(column: str) -> str:
    """An expression under which 'a', 'A' and ' a ' are one id; give it as `unit=`, or to `withColumn` before a join.

    It lowers the case and trims white space, no-break spaces included. Spark has no function for Unicode's normal
    forms: an accented letter that is written as one character and as two stays two ids. Where ids come from several
    systems, normalise them where the table is written.

    Args:
        column: of strings; fields of structs as in "person.id".
    """
    return f"lower(trim(BOTH '{_SPACES}' FROM {column}))"


def identify(schema: T.StructType, unit: Unit, zone: str = "UTC") -> Identity:
    """The columns of a unit, and how those are made that the rows do not have.

    Args:
        schema: of the rows.
        unit: names of columns; nested fields as "person.id"; expressions such as `normalize_id("patient_id")`; `ROW`;
            or a `window`.
        zone: the session's time zone; columns whose values depend on it bear its name.

    Raises:
        InvalidArgument: an expression that is refused, or a window over something that is no time.
    """
    if isinstance(unit, RowUnit):
        return Identity(())
    ids = unit.ids if isinstance(unit, WindowUnit) else _names(unit)
    made = {name: _derived(schema, name) for name in ids if name not in schema.names and not name.isidentifier()}
    names = {name: _in_zone(name, compiled, zone) for name, compiled in made.items()}
    columns = tuple(names.get(name, name) for name in ids)
    derived = {names[name]: _built(compiled) for name, compiled in made.items()}
    if not isinstance(unit, WindowUnit):
        return Identity(columns, MappingProxyType(derived))
    is_column = unit.time in schema.names
    time = compile_expression(quoted(unit.time) if is_column else unit.time, schema, "time")
    # an instant that is stored lies in the same window in every zone
    name = f"{unit.time if is_column else _in_zone(unit.time, time, zone)} / {unit.length}"
    return Identity((*columns, name), MappingProxyType({**derived, name: _window_number(time, unit)}))


def _derived(schema: T.StructType, text: str) -> Expression:
    if text.lower() in {name.lower() for name in schema.names}:
        raise InvalidArgument("unit", text, f"no such column; there are {schema.names}")
    return compile_expression(text, schema, "unit")


def _built(compiled: Expression) -> Callable[[DataFrame], Column]:
    return lambda _: compiled.build()


def _in_zone(text: str, compiled: Expression, zone: str) -> str:
    return f"{text} in {zone}" if compiled.zoned else text


def _window_number(time: Expression, unit: WindowUnit) -> Callable[[DataFrame], Column]:
    seconds = window_seconds(unit.length)
    if time.kind not in (DATE, TIMESTAMP):
        raise InvalidArgument("time", unit.time, "give a date, or a timestamp with time zone")
    if time.kind == DATE and seconds % _SECONDS["day"]:
        raise InvalidArgument("length", unit.length, "a date has no hours: give whole days or weeks")

    def build(df: DataFrame) -> Column:
        column = time.build()
        since = F.unix_date(column).cast(LONG) * F.lit(86_400) if time.kind == DATE else F.unix_seconds(column)
        # half a second in, so that no rounding of doubles reaches the edge of a window
        number = F.floor((since.cast(DOUBLE) + F.lit(0.5)) * F.lit(1 / seconds))
        # Spark thinks that `floor` may give a NULL of its own; where the time is never NULL, neither is its window
        return number if df.select(column).schema[0].nullable else F.coalesce(number, F.lit(0))

    return build


def _names(unit: str | Sequence[str]) -> tuple[str, ...]:
    names = (unit,) if isinstance(unit, str) else tuple(unit) if isinstance(unit, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgument("unit", unit, "name the column(s) that identify the privacy unit, or give dp.ROW")
    if len(set(names)) != len(names):
        raise InvalidArgument("unit", unit, "name each column once")
    return names
