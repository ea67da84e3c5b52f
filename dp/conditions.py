"""Conditions that are total: whatever the rows hold, evaluating one neither raises nor depends on anything else.

An error that a row's value causes tells of that row, and so does a function that leaves the query. Spark has dozens of
functions that raise on some value even with ANSI off, so conditions are made of what is known to be total, and of
nothing else.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dp.errors import InvalidArgument

__all__ = ["total_condition"]

_LOGIC = (exp.And, exp.Or, exp.Not, exp.Paren, exp.Boolean, exp.Null, exp.Case, exp.If, exp.Coalesce)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.Is, exp.In, exp.Between)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.Abs)
_TEXT = (exp.Like, exp.Lower, exp.Upper, exp.Trim, exp.Length)
_DATES = (exp.Year, exp.Month, exp.DayOfMonth, exp.DayOfWeek, exp.TsOrDsToDate, exp.Cast, exp.DataType)
_NAMES = (exp.Column, exp.Identifier, exp.Literal)
_TOTAL = (*_LOGIC, *_COMPARISONS, *_ARITHMETIC, *_TEXT, *_DATES, *_NAMES)

_CAST_TO = ("INT", "BIGINT", "DOUBLE", "TEXT", "VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPNTZ", "BOOLEAN")


def total_condition(condition: object) -> str:
    """The condition, if it is made of columns, literals and operators that are total in a session with ANSI off.

    Args:
        condition: SQL text such as "year = 2025 AND ward IN ('A', 'B')": comparisons, AND, OR, NOT, IN, BETWEEN, LIKE
            with a literal pattern, IS NULL, CASE, coalesce, + - * / %, abs, lower, upper, trim, length, year, month,
            day, dayofweek, and casts to numbers, strings, dates, timestamps and booleans.

    Returns:
        The text as it was given.

    Raises:
        InvalidArgument: not a string, not a condition, or one that uses anything else; it names what.
    """
    if not isinstance(condition, str):
        remedy = "write it as SQL text, such as \"year = 2025\": what a Column does to a row cannot be checked"
        raise InvalidArgument("condition", type(condition).__name__, remedy)
    try:
        parsed = sqlglot.parse_one(condition, dialect="spark", into=exp.Condition)
    except SqlglotError:
        raise InvalidArgument("condition", condition, "it is not a condition in Spark's SQL") from None
    for node in parsed.walk():
        _require_total(node, condition)
    return condition


def _require_total(node: exp.Expression, condition: str) -> None:
    total = isinstance(node, _TOTAL)
    if isinstance(node, exp.DataType):
        total = node.this.name in _CAST_TO
    elif isinstance(node, exp.Like):
        total = isinstance(node.expression, exp.Literal)
    elif isinstance(node, exp.In):
        total = not node.args.get("query")
    if not total:
        remedy = f"{node.sql(dialect='spark')!r} may raise on a row's value: prepare such a column when you load the table"
        raise InvalidArgument("condition", condition, remedy)
