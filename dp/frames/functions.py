"""The functions of expressions that are no more than a signature: kinds in, kind out, and the total Spark function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp

from dp.frames.kinds import BOOLEAN, DATE, DOUBLE, LONG, TEXT
from dp.frames.total import floor_or_ceil, long_of

__all__ = ["ANONYMOUS", "SIGNATURES", "WHY_NOT", "Signature"]


@dataclass(frozen=True)
class Signature:
    """A function whose operands have fixed kinds.

    Attributes:
        operands: argument of sqlglot's node -> its kind; DOUBLE takes any number, DATE any date or timestamp.
        result: the kind of the value.
        build: makes the column from the operands' columns.
    """

    operands: Mapping[str, T.DataType]
    result: T.DataType
    build: Callable[..., Column]


def _of(kind: T.DataType, result: T.DataType, build: Callable[..., Column]) -> Signature:
    return Signature({"this": kind}, result, build)


def _part(function: Callable[[Column], Column]) -> Signature:
    """A part of a date, which Spark gives as an int."""
    return _of(DATE, LONG, lambda date: long_of(function(date)))


def _numeric(function: Callable[..., Column]) -> Signature:
    return Signature({"this": DOUBLE, "expression": DOUBLE}, DOUBLE, function)


def _test(function: Callable[[Column, Column], Column]) -> Signature:
    return Signature({"this": TEXT, "expression": TEXT}, BOOLEAN, function)


SIGNATURES: Mapping[type[exp.Expr], Signature] = MappingProxyType(
    {
        exp.Lower: _of(TEXT, TEXT, F.lower),
        exp.Upper: _of(TEXT, TEXT, F.upper),
        exp.Length: _of(TEXT, LONG, lambda text: long_of(F.length(text))),
        exp.Contains: _test(F.contains),
        exp.StartsWith: _test(F.startswith),
        exp.EndsWith: _test(F.endswith),
        exp.Div: _numeric(F.try_divide),
        exp.Pow: _numeric(F.power),
        exp.Sqrt: _of(DOUBLE, DOUBLE, F.sqrt),
        exp.Ln: _of(DOUBLE, DOUBLE, F.ln),
        exp.Exp: _of(DOUBLE, DOUBLE, F.exp),
        exp.IsNan: _of(DOUBLE, BOOLEAN, F.isnan),
        exp.Floor: _of(DOUBLE, LONG, lambda number: floor_or_ceil(number, up=False)),
        exp.Ceil: _of(DOUBLE, LONG, lambda number: floor_or_ceil(number, up=True)),
        exp.Year: _part(F.year),
        exp.Quarter: _part(F.quarter),
        exp.Month: _part(F.month),
        exp.WeekOfYear: _part(F.weekofyear),
        exp.DayOfMonth: _part(F.dayofmonth),
        exp.Day: _part(F.dayofmonth),
        exp.DayOfYear: _part(F.dayofyear),
        exp.DayOfWeek: _part(F.dayofweek),
        exp.DateDiff: Signature(
            {"this": DATE, "expression": DATE}, LONG, lambda end, start: long_of(F.datediff(end, start))
        ),
    }
)
"""sqlglot's node -> its function."""

ANONYMOUS: Mapping[str, Signature] = MappingProxyType(
    {
        "weekday": _part(F.weekday),
    }
)
"""Functions of one operand that sqlglot knows by name only."""

_OTHER_ROWS = "looks at other rows: use groupBy(...).agg(...) with bounds"
_CLOCK = "depends on the clock: write the date that you mean"
_CHANGES = "is another value at every run, so that no sensitivity holds: leave it out"
_FUNCTION = "is a function of rows that nobody can check: prepare such a column where the table is written"

WHY_NOT: Mapping[type[exp.Expr], str] = MappingProxyType(
    {
        exp.Subquery: "looks at other rows: join a public table, or prepare the column where the table is written",
        exp.Select: "looks at other rows: join a public table, or prepare the column where the table is written",
        exp.Exists: "looks at other rows: join a public table, or prepare the column where the table is written",
        exp.AggFunc: _OTHER_ROWS,
        exp.Window: _OTHER_ROWS,
        exp.Explode: 'makes several rows of one: use the frame\'s explode("items", max_items=...)',
        exp.Rand: _CHANGES,
        exp.Randn: _CHANGES,
        exp.Uuid: _CHANGES,
        exp.CurrentDate: _CLOCK,
        exp.CurrentTimestamp: _CLOCK,
        exp.IntDiv: "raises on zero: write floor(a / b)",
        exp.Lambda: _FUNCTION,
        exp.Star: "names no column: write out which",
        exp.Placeholder: "is no value: write the value itself",
    }
)
"""Nodes that people try, and why they are refused."""
