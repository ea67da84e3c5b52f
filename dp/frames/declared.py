"""Declared public facts against the schema of the rows that they are about: no row is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.execution.sessions import session_zone
from dp.frames.schema import check_keys, check_unit
from dp.frames.units import Unit, identify
from dp.planning.facts import DEFAULT_MAX_UNITS, Key, PublicFacts

__all__ = ["NullUnits", "declare", "declared_facts"]

NullUnits = Literal["refuse", "drop"]
"""What becomes of rows that belong to nobody, because a unit column is NULL."""


def declare(
    df: DataFrame,
    *,
    unit: Unit,
    bounds: Mapping[str, tuple[Exact, Exact]] | None = None,
    keys: Mapping[str, Sequence[Key]] | None = None,
    max_units: int = DEFAULT_MAX_UNITS,
    null_units: NullUnits = "refuse",
    group_size: int = 1,
) -> tuple[DataFrame, PublicFacts]:
    """The rows with every column that identifies their unit, and the facts, if the schema allows them.

    Args:
        df: the rows.
        unit: see `dp.frames.units.identify`.
        bounds: column -> (lower, upper).
        keys: column -> its public group keys.
        max_units: the greatest number of units.
        null_units: "drop" leaves rows out of every result whose unit is NULL. "refuse" takes only columns that the
            schema declares NOT NULL: whether a row has a NULL is a secret of that row, so no answer may depend on it.
        group_size: the guarantee holds for so many units together.

    Raises:
        InvalidArgument: names the fact, its value and what to declare instead.
    """
    identity = identify(df.schema, unit, session_zone(df.sparkSession))
    rows = df.withColumns({name: build(df) for name, build in identity.derived.items()}) if identity.derived else df
    facts = declared_facts(
        rows.schema,
        unit=identity.columns,
        bounds=bounds or {},
        keys=keys or {},
        max_units=max_units,
        null_units=null_units,
        group_size=group_size,
    )
    return rows, facts


def declared_facts(
    schema: T.StructType,
    *,
    unit: tuple[str, ...],
    bounds: Mapping[str, tuple[Exact, Exact]],
    keys: Mapping[str, Sequence[Key]],
    max_units: int,
    null_units: NullUnits = "refuse",
    group_size: int = 1,
) -> PublicFacts:
    """The facts, if the schema allows them; see `declare`.

    Args:
        schema: of the rows, with every unit column.
        unit: columns of integer, string, date, boolean or binary type; none where every row is a unit.
        bounds: column -> (lower, upper).
        keys: column -> its public group keys.
        max_units: the greatest number of units.
        null_units: what becomes of rows whose unit is NULL.
        group_size: the guarantee holds for so many units together.

    Raises:
        InvalidArgument: names the fact, its value and what to declare instead.
    """
    check_unit(schema, unit)
    _check_null_units(schema, unit, null_units)
    return PublicFacts(
        unit=unit,
        bounds=MappingProxyType({column: _bounds(schema, column, pair) for column, pair in bounds.items()}),
        keys=MappingProxyType({column: _keys(schema, column, values) for column, values in keys.items()}),
        max_units=_positive("max_units", max_units, "the greatest number of units"),
        group_size=_positive("group_size", group_size, "how many units are protected together"),
    )


def _check_null_units(schema: T.StructType, unit: tuple[str, ...], null_units: NullUnits) -> None:
    if null_units not in ("refuse", "drop"):
        raise InvalidArgument("null_units", null_units, 'give "drop", or "refuse" for columns that are NOT NULL')
    nullable = [column for column in unit if schema[column].nullable]
    if null_units == "refuse" and nullable:
        remedy = (
            f"{nullable} may be NULL, and a NULL id belongs to nobody. That no row has one cannot be checked without "
            'telling of a row: say null_units="drop" to leave such rows out, or declare the columns NOT NULL in the '
            "table"
        )
        raise InvalidArgument("null_units", null_units, remedy)


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


def _refuse_nested(parameter: str, columns: Iterable[str]) -> None:
    for column in columns:
        if not isinstance(column, str) or "." in column:
            raise InvalidArgument(
                parameter, column, "only a column of the table itself can be declared, no nested field"
            )


def _positive(parameter: str, value: int, meaning: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(parameter, value, f"give {meaning} as an integer of at least 1")
    return value
