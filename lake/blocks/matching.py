"""Whether a table may be cut by a rule: every privacy unit must lie in one block."""

from __future__ import annotations

from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.units import RowUnit, Unit, WindowUnit, identify, window_seconds
from lake.blocks.instants import DAY
from lake.blocks.rules import Blocks, Windows

__all__ = ["hashed_columns"]

_TIMES = (T.DateType, T.TimestampType)
_MONTH_SECONDS, _YEAR_SECONDS = 31 * DAY, 366 * DAY


def hashed_columns(rule: Blocks, schema: T.StructType, unit: Unit, group_size: int) -> tuple[str, ...]:
    """The columns whose hash tells the range of users, if the rule's blocks fit the unit.

    Args:
        rule: how the table is to be cut.
        schema: of the table, as it is stored.
        unit: as it was declared.
        group_size: as it was declared.

    Returns:
        The unit's columns, without the window where it has one; none where the rule does not cut users.

    Raises:
        InvalidArgument: blocks that are finer than the unit, or a column that they cannot be cut by.
    """
    if group_size != 1:
        remedy = (
            "units that are protected together may lie in different blocks, whose capacities add up: leave blocks "
            "or group_size out"
        )
        raise InvalidArgument("group_size", group_size, remedy)
    if rule.windows is not None:
        _check_column(rule.windows, schema)
        _check_windows(rule.windows, unit)
    return () if rule.user_ranges is None else _ids(schema, unit)


def _check_column(windows: Windows, schema: T.StructType) -> None:
    kind = schema[windows.column].dataType if windows.column in schema.names else None
    if not isinstance(kind, _TIMES):
        shown = "is no column of the table" if kind is None else f"is {kind.simpleString()}"
        remedy = f"it {shown}; blocks of time are cut by a date, or a timestamp with time zone, that is stored"
        raise InvalidArgument("blocks", windows.column, remedy)
    if isinstance(kind, T.DateType) and windows.seconds % DAY:
        raise InvalidArgument("blocks", windows.length, "a date has no hours: cut by whole days or weeks")


def _check_windows(windows: Windows, unit: Unit) -> None:
    """Each unit's rows lie in one window: those of a row do, and those of a window that divides the blocks' windows."""
    if isinstance(unit, RowUnit):
        return
    if not isinstance(unit, WindowUnit):
        raise InvalidArgument("blocks", f"every {windows.length}", _too_fine(windows, unit))
    if unit.time != windows.column:
        remedy = f"the unit is a window of {unit.time!r}: cut by that column, so that a unit lies in one block"
        raise InvalidArgument("blocks", windows.column, remedy)
    if windows.seconds % window_seconds(unit.length):
        remedy = (
            f"a unit of {unit.length} would lie in several blocks and spend the capacity of each: take windows that "
            f"are a multiple of {unit.length}"
        )
        raise InvalidArgument("blocks", f"every {windows.length}", remedy)


def _too_fine(windows: Windows, unit: Unit) -> str:
    period, seconds = ("month", _MONTH_SECONDS) if windows.seconds < _MONTH_SECONDS else ("year", _YEAR_SECONDS)
    times = max(seconds // windows.seconds, 2)
    ids = unit if isinstance(unit, str) else ", ".join(map(str, unit)) if isinstance(unit, list | tuple) else unit
    return (
        f"unit {ids!r} has rows in many such blocks, and would spend {times} times as much over a {period}: cut by "
        f"Blocks.users(...), or protect unit=dp.window({ids!r}, {windows.column!r}, {windows.length!r}) instead"
    )


def _ids(schema: T.StructType, unit: Unit) -> tuple[str, ...]:
    if isinstance(unit, RowUnit):
        remedy = "rows have no ids to cut users by: give unit= the ids, or cut by time alone"
        raise InvalidArgument("blocks", "users", remedy)
    here, elsewhere = (identify(schema, unit, zone).columns for zone in ("UTC", "Asia/Tokyo"))
    ids = here[:-1] if isinstance(unit, WindowUnit) else here
    if ids != elsewhere[: len(ids)]:
        remedy = "its ids depend on the session's time zone, and so would their blocks: take ids that do not"
        raise InvalidArgument("unit", unit, remedy)
    return ids
