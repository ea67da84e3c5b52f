"""Declared public facts against the schema of the table that they are about: no row is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.frames.schema import check_keys, check_unit
from dp.planning.facts import Key, PublicFacts

__all__ = ["declared_facts"]


def declared_facts(
    schema: T.StructType,
    *,
    unit: str | Sequence[str],
    bounds: Mapping[str, tuple[Exact, Exact]],
    keys: Mapping[str, Sequence[Key]],
    max_units: int,
) -> PublicFacts:
    """The facts, if the schema allows them.

    Args:
        schema: of the pinned table.
        unit: one column or several, of integer, string, date, boolean or binary type.
        bounds: column -> (lower, upper).
        keys: column -> its public group keys.
        max_units: the greatest number of units.

    Raises:
        InvalidArgument: names the fact, its value and what to declare instead.
    """
    return PublicFacts(
        unit=_unit(schema, unit),
        bounds=MappingProxyType({column: _bounds(schema, column, pair) for column, pair in bounds.items()}),
        keys=MappingProxyType({column: _keys(schema, column, values) for column, values in keys.items()}),
        max_units=_max_units(max_units),
    )


def _unit(schema: T.StructType, unit: str | Sequence[str]) -> tuple[str, ...]:
    columns = (unit,) if isinstance(unit, str) else tuple(unit)
    if len(set(columns)) != len(columns):
        raise InvalidArgument("unit", unit, "name each column once")
    _refuse_nested("unit", columns)
    check_unit(schema, columns)
    return columns


def _bounds(schema: T.StructType, column: str, pair: tuple[Exact, Exact]) -> tuple[Fraction, Fraction]:
    parameter = f"bounds[{column!r}]"
    _refuse_nested("bounds", [column])
    if column not in schema.names:
        raise InvalidArgument(parameter, pair, f"no such column; there are {schema.names}")
    kind = schema[column].dataType
    if not isinstance(kind, T.NumericType):
        raise InvalidArgument(parameter, pair, f"the column is {kind.simpleString()}; only numbers have bounds")
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InvalidArgument(parameter, pair, "give a pair (lower, upper)")
    lower, upper = (rational(value, parameter) for value in pair)
    if lower > upper:
        raise InvalidArgument(parameter, pair, "the lower bound comes first")
    return lower, upper


def _keys(schema: T.StructType, column: str, values: Sequence[Key]) -> tuple[Key, ...]:
    parameter = f"keys[{column!r}]"
    _refuse_nested("keys", [column])
    if not isinstance(values, (tuple, list, range)) or not values:
        raise InvalidArgument(parameter, values, "give a non-empty list of values")
    unusable = [value for value in values if not isinstance(value, (int, str))]
    if unusable:
        raise InvalidArgument(parameter, unusable[0], "a key is an integer, a string or a boolean")
    check_keys(schema, [column], [(value,) for value in values])
    if len(set(values)) != len(values):
        raise InvalidArgument(parameter, values, "name each key once")
    return tuple(values)


def _max_units(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument("max_units", value, "give the greatest number of units as an integer of at least 1")
    return value


def _refuse_nested(parameter: str, columns: Iterable[str]) -> None:
    for column in columns:
        if not isinstance(column, str) or "." in column:
            raise InvalidArgument(
                parameter, column, "only a column of the table itself can be declared, no nested field"
            )
