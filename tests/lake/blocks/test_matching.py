"""Blocks fit the unit, or the table is refused: a unit in several blocks would spend the capacity of each."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.units import ROW, normalize_id, window
from lake.blocks.matching import hashed_columns
from lake.blocks.rules import Blocks

SCHEMA = (
    T.StructType()
    .add("id", "long")
    .add("name", "string")
    .add("person", T.StructType().add("id", "long"))
    .add("day", "date")
    .add("at", "timestamp")
    .add("local", "timestamp_ntz")
    .add("text", "string")
)
USERS = Blocks.users(16, name="users")


def every(length: str, column: str = "at", users: int | None = None) -> Blocks:
    return Blocks.every(length, column, since="1970-01-01", name="a", users=users)


@pytest.mark.parametrize(
    ("rule", "unit", "ids"),
    [
        (every("1 day"), ROW, ()),
        (every("1 day", "day"), ROW, ()),
        (every("6 hours"), ROW, ()),
        (USERS, "id", ("id",)),
        (USERS, ["id", "name"], ("id", "name")),
        (USERS, "person.id", ("person.id",)),
        (USERS, normalize_id("name"), (normalize_id("name"),)),
        (USERS, window("id", "at", "1 day"), ("id",)),
        (USERS, window("id", "cast(text AS timestamp)", "1 day"), ("id",)),
        (every("1 day"), window("id", "at", "1 day"), ()),
        (every("1 week"), window("id", "at", "1 day"), ()),
        (every("6 hours"), window("id", "at", "90 minutes"), ()),
        (every("1 week", "day", users=4), window(["id", "name"], "day", "1 day"), ("id", "name")),
    ],
)
def test_a_unit_that_lies_in_one_block_is_accepted(rule: Blocks, unit: Any, ids: tuple[str, ...]) -> None:
    assert hashed_columns(rule, SCHEMA, unit, 1) == ids


@pytest.mark.parametrize(
    ("rule", "unit", "message"),
    [
        (every("1 day"), "id", r"spend 31 times as much over a month: cut by Blocks.users"),
        (every("1 day"), ["id", "name"], r"'id, name' has rows in many such blocks"),
        (every("60 days"), "id", r"spend 6 times as much over a year"),
        (every("2000 days"), "id", r"spend 2 times as much"),
        (every("1 day", users=4), "id", r"31 times as much"),
        (every("1 day"), window("id", "at", "1 week"), r"take windows that are a multiple of 1 week"),
        (every("6 hours"), window("id", "at", "4 hours"), r"a multiple of 4 hours"),
        (every("1 day", "day"), window("id", "at", "1 day"), r"the unit is a window of 'at'"),
        (every("1 day"), window("id", "cast(text AS timestamp)", "1 day"), r"the unit is a window of 'cast"),
        (every("1 day", users=4), ROW, r"rows have no ids"),
        (USERS, ROW, r"rows have no ids"),
        (USERS, "cast(at AS date)", r"depend on the session's time zone"),
        (USERS, window("cast(at AS date)", "at", "1 day"), r"depend on the session's time zone"),
        (every("1 day", "nope"), ROW, r"is no column"),
        (every("1 day", "At"), ROW, r"is no column"),
        (every("1 day", "local"), ROW, r"timestamp with time zone"),
        (every("1 day", "text"), ROW, r"is string; blocks of time"),
        (every("1 day", "person.id"), ROW, r"is no column"),
        (every("6 hours", "day"), ROW, r"a date has no hours"),
    ],
)
def test_blocks_that_do_not_fit_the_unit_are_refused(rule: Blocks, unit: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        hashed_columns(rule, SCHEMA, unit, 1)


@pytest.mark.parametrize(("rule", "unit"), [(USERS, "id"), (every("1 day"), ROW)])
def test_units_that_are_protected_together_may_lie_in_several_blocks_and_are_refused(rule: Blocks, unit: Any) -> None:
    with pytest.raises(InvalidArgument, match="capacities add up"):
        hashed_columns(rule, SCHEMA, unit, 2)
