"""The checks of a private frame's operations: what each does to the schema, the unit and the declared facts.

All of them are functions of schemas and public facts; no row is looked at and nothing is computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.kinds import BOOLEAN, DATE, LONG, TEXT, kind_of, name_of
from dp.frames.rows import PrivateRows
from dp.planning.bounds import MAX_BOUND
from dp.planning.facts import PublicFacts
from dp.planning.names import quoted

__all__ = [
    "check_max_items",
    "check_max_rows",
    "check_no_clash",
    "check_same_blocks",
    "check_same_columns",
    "check_same_unit",
    "existing",
    "facts_of_both",
    "facts_of_either",
    "join_columns",
    "listed",
    "multiplied",
    "nested",
    "new_name",
    "renamed",
    "replaced",
    "with_unit",
]

_V = TypeVar("_V")
_JOINABLE = (LONG, TEXT, BOOLEAN, DATE)


def listed(names: Sequence[str]) -> str:
    """Names as a step's text shows them: quoted where they are not plain."""
    return ", ".join(name if name.isidentifier() else quoted(name) for name in names)


def existing(schema: T.StructType, columns: Sequence[str], parameter: str) -> tuple[str, ...]:
    """The columns under the names that the schema gives them; case does not count.

    Raises:
        InvalidArgument: no columns, one that does not exist, or one named twice.
    """
    if not columns or not all(isinstance(column, str) for column in columns):
        remedy = "name columns as strings; new columns are made by withColumn(name, text)"
        raise InvalidArgument(parameter, [str(column) for column in columns], remedy)
    names = {name.casefold(): name for name in schema.names}
    missing = [column for column in columns if column.casefold() not in names]
    if missing:
        raise InvalidArgument(parameter, missing[0], f"no such column; there are {schema.names}")
    found = tuple(names[column.casefold()] for column in columns)
    if len(set(found)) != len(found):
        raise InvalidArgument(parameter, list(columns), "name each column once")
    return found


def with_unit(columns: Sequence[str], facts: PublicFacts) -> tuple[str, ...]:
    """The columns, and the unit's, which no operation takes away."""
    return (*columns, *(column for column in facts.unit if column not in columns))


def new_name(name: object, facts: PublicFacts, parameter: str) -> str:
    """A name for a new or redefined column.

    Raises:
        InvalidArgument: no name, or a column of the unit: redefining it would make other units of the same rows.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgument(parameter, name, "give the column's name")
    if name.casefold() in {column.casefold() for column in facts.unit}:
        remedy = f"the unit is {', '.join(facts.unit)}; its columns cannot be redefined, renamed, dropped or exploded"
        raise InvalidArgument(parameter, name, f"{remedy}: take another name")
    return name


def replaced(facts: PublicFacts, columns: Sequence[str]) -> PublicFacts:
    """The facts without what was declared about columns that are gone, or hold other values now."""
    gone = {column.casefold() for column in columns}

    def kept(declared: Mapping[str, _V]) -> Mapping[str, _V]:
        return MappingProxyType({name: fact for name, fact in declared.items() if name.casefold() not in gone})

    return replace(facts, bounds=kept(facts.bounds), keys=kept(facts.keys))


def renamed(facts: PublicFacts, old: str, new: str) -> PublicFacts:
    """The facts with one column under its new name."""

    def moved(declared: Mapping[str, _V]) -> Mapping[str, _V]:
        return MappingProxyType({new if name == old else name: fact for name, fact in declared.items()})

    return replace(facts, bounds=moved(facts.bounds), keys=moved(facts.keys))


def multiplied(facts: PublicFacts, times: int, parameter: str) -> PublicFacts:
    """The facts after each row has become up to `times` rows: a bound where rows are units, else bounding's work."""
    if facts.unit:
        return facts
    rows = facts.rows_per_unit * max(times, 1)
    if rows > MAX_BOUND:
        raise InvalidArgument(parameter, times, f"one row would become {rows} rows; the most is {MAX_BOUND}")
    return replace(facts, rows_per_unit=rows)


def check_max_items(max_items: object) -> int:
    """How many items of an array `explode` keeps.

    Raises:
        InvalidArgument: not a positive integer.
    """
    if not isinstance(max_items, int) or isinstance(max_items, bool) or not 1 <= max_items <= MAX_BOUND:
        remedy = (
            "say how many items of a row count, at least 1: the sizes of arrays are secret, and the rest is dropped"
        )
        raise InvalidArgument("max_items", max_items, remedy)
    return max_items


def check_max_rows(max_rows: object) -> tuple[int, int]:
    """The rows of one unit that a join takes from its left and right side.

    Raises:
        InvalidArgument: not a pair of positive integers.
    """
    if not isinstance(max_rows, tuple) or len(max_rows) != 2:
        remedy = "give a pair: the rows of one unit that count on the left, and on the right"
        raise InvalidArgument("max_rows", max_rows, remedy)
    for bound in max_rows:
        if not isinstance(bound, int) or isinstance(bound, bool) or not 1 <= bound <= MAX_BOUND:
            raise InvalidArgument("max_rows", max_rows, f"bounds are integers from 1 to {MAX_BOUND}")
    return max_rows


def check_same_unit(left: PublicFacts, right: PublicFacts, doing: str) -> None:
    """Refuse two frames whose units differ: one guarantee cannot speak of both.

    Raises:
        InvalidArgument: other unit columns, or another group size.
    """
    if (left.unit, left.group_size) != (right.unit, right.group_size):
        remedy = f"{doing} takes frames of one unit; this one has {left.unit} in groups of {left.group_size}"
        raise InvalidArgument("unit", right.unit, f"{remedy}: rename columns, or declare both alike")


def check_same_blocks(left: PrivateRows, right: PrivateRows, doing: str) -> None:
    """Refuse two frames of other private blocks: one of them would be read, and not be paid for.

    Raises:
        InvalidArgument: other blocks, or blocks of another rule.
    """
    if (left.blocks, left.layout) != (right.blocks, right.layout):
        shown = [f"{len(rows.blocks)} block(s)" if rows.blocks else "no blocks" for rows in (left, right)]
        remedy = (
            f"{doing} takes frames of the same private blocks, cut by the same rule; this one has {shown[0]}, the "
            f"other {shown[1]}: declare both tables with the same blocks=, and read both with the same selector"
        )
        raise InvalidArgument("other", right.name, remedy)


def check_same_columns(left: T.StructType, right: T.StructType) -> None:
    """Refuse a union of other columns or types: an implicit cast may raise.

    Raises:
        InvalidArgument: names what differs.
    """
    ours, theirs = ({field.name: field.dataType.simpleString() for field in schema.fields} for schema in (left, right))
    different = sorted(set(ours.items()) ^ set(theirs.items()))
    if different:
        remedy = "a union takes the same columns and types on both sides; select, rename or cast first"
        raise InvalidArgument("other", different, remedy)


def check_no_clash(left: Sequence[str], right: Sequence[str]) -> None:
    """Refuse a join after which two columns would have one name.

    Raises:
        InvalidArgument: names them.
    """
    ours = {name.casefold() for name in left}
    twice = [name for name in right if name.casefold() in ours]
    if twice:
        raise InvalidArgument("other", twice, "both sides have these columns; use withColumnRenamed on one side")


def join_columns(left: T.StructType, right: T.StructType, on: object) -> tuple[str, ...]:
    """The columns of both sides that a join compares.

    Raises:
        InvalidArgument: none (every row would meet every other), one that a side lacks, or kinds that differ.
    """
    names = (on,) if isinstance(on, str) else on
    if not isinstance(names, (tuple, list)) or not names or not all(isinstance(name, str) for name in names):
        remedy = (
            'name the columns that both sides have, as in on=["ward"]; without any, each row would meet every other'
        )
        raise InvalidArgument("on", str(on), remedy)
    if len(set(names)) != len(names):
        raise InvalidArgument("on", list(names), "name each column once")
    for name in names:
        kinds = [kind_of(schema[name].dataType) if name in schema.names else None for schema in (left, right)]
        if kinds[0] is None or kinds[0] != kinds[1] or kinds[0] not in _JOINABLE:
            shown = [("missing or of another type" if kind is None else name_of(kind)) for kind in kinds]
            remedy = f"it is {shown[0]} on the left and {shown[1]} on the right; join on equal whole numbers, strings"
            raise InvalidArgument("on", name, f"{remedy}, booleans or dates, with names written alike")
    return tuple(names)


def facts_of_either(left: PublicFacts, right: PublicFacts) -> PublicFacts:
    """What holds of rows that come from one side or the other; a row of a table may be on both."""
    return replace(
        left,
        bounds=_equal(left.bounds, right.bounds),
        keys=_equal(left.keys, right.keys),
        max_units=left.max_units + right.max_units,
        rows_per_unit=1 if left.unit else left.rows_per_unit + right.rows_per_unit,
    )


def facts_of_both(left: PublicFacts, right: PublicFacts) -> PublicFacts:
    """What holds of pairs of rows of one unit."""
    return replace(
        left,
        bounds=MappingProxyType({**right.bounds, **left.bounds}),
        keys=MappingProxyType({**right.keys, **left.keys}),
        max_units=min(left.max_units, right.max_units),
    )


def _equal(left: Mapping[str, _V], right: Mapping[str, _V]) -> Mapping[str, _V]:
    return MappingProxyType({name: fact for name, fact in left.items() if right.get(name) == fact})


def nested(name: str, steps: Sequence[str]) -> str:
    """Another frame in a step's text: its name, and its own steps as a JSON list, so that nothing is ambiguous."""
    return f"{name} {json.dumps(list(steps))}" if steps else name
