"""Conditions that are total: whatever the rows hold, evaluating one neither raises nor depends on anything else.

An error that a row's value causes tells of that row, and so does whatever looks past the row (other rows, files, the
clock). Spark has dozens of functions and implicit casts that raise on some value even with ANSI off. So a condition is
checked like a small typed language, of operators that are known to be total on operands of these kinds, over the
columns that the table declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import singledispatchmethod
from types import MappingProxyType
from typing import Literal, NoReturn

import sqlglot
from pyspark.sql import types as T
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dp.errors import InvalidArgument

__all__ = ["total_condition"]

_Kind = Literal["number", "text", "boolean", "date", "null"]

_COLUMN_KINDS: Mapping[type[T.DataType], _Kind] = MappingProxyType(
    {
        T.ByteType: "number",
        T.ShortType: "number",
        T.IntegerType: "number",
        T.LongType: "number",
        T.FloatType: "number",
        T.DoubleType: "number",
        T.DecimalType: "number",
        T.StringType: "text",
        T.BooleanType: "boolean",
        T.DateType: "date",
    }
)
_BAD_ESCAPE = re.compile(r"^(?:[^\\]|\\[%_\\])*\\(?:$|[^%_\\])")
# kind that a cast gives -> kinds that it takes without ever raising, ANSI off
_CASTS: Mapping[str, tuple[_Kind, tuple[_Kind, ...]]] = MappingProxyType(
    {
        "INT": ("number", ("number", "text", "boolean")),
        "BIGINT": ("number", ("number", "text", "boolean")),
        "DOUBLE": ("number", ("number", "text", "boolean")),
        "TEXT": ("text", ("number", "text", "boolean", "date")),
        "BOOLEAN": ("boolean", ("number", "text", "boolean")),
        "DATE": ("date", ("text", "date")),
    }
)


def total_condition(condition: object, schema: T.StructType) -> str:
    """The condition, if no row of this schema can make it raise in a session with ANSI off.

    Args:
        condition: SQL text such as "year = 2025 AND ward IN ('A', 'B')": columns of numbers, strings, booleans and
            dates; comparisons between equal kinds, AND, OR, NOT, IN, BETWEEN, LIKE with a literal pattern, IS NULL,
            CASE, if, coalesce; + - * / % and abs of numbers; lower, upper, trim, length; year, month, day, dayofweek of
            dates; casts to int, bigint, double, string, boolean and (from text) date.
        schema: of the rows; hidden columns, such as a file's metadata, are not in it.

    Returns:
        The text as it was given.

    Raises:
        InvalidArgument: not a string, not a condition, or one that uses anything else; it names what.
    """
    if not isinstance(condition, str):
        remedy = 'write it as SQL text, such as "year = 2025": what a Column does to a row cannot be checked'
        raise InvalidArgument("condition", type(condition).__name__, remedy)
    if "${" in condition:
        raise InvalidArgument("condition", condition, "Spark would put a variable there; write the value itself")
    try:
        parsed = sqlglot.parse_one(condition, dialect="spark", into=exp.Condition)
    except SqlglotError:
        raise InvalidArgument("condition", condition, "it is not a condition in Spark's SQL") from None
    if _Checker(condition, schema).kind(parsed) != "boolean":
        raise InvalidArgument("condition", condition, "it is a value, not a condition: compare it with something")
    return condition


class _Checker:
    """Gives every node of a condition its kind, and refuses what is not total."""

    def __init__(self, condition: str, schema: T.StructType) -> None:
        self._condition = condition
        self._columns = {field.name.lower(): field.dataType for field in schema.fields}

    @singledispatchmethod
    def kind(self, node: exp.Expr) -> _Kind:
        """The kind of a node's value."""
        return self._refuse(node, "may raise on a row's value, or look past the row")

    @kind.register
    def _(self, node: exp.Paren) -> _Kind:
        return self.kind(node.this)

    @kind.register
    def _(self, node: exp.Column) -> _Kind:
        data_type = self._columns.get(node.name.lower())
        if data_type is None or node.table:
            return self._refuse(node, f"is no column; there are {sorted(self._columns)}")
        found = _COLUMN_KINDS.get(type(data_type))
        if found is None or (isinstance(data_type, T.StringType) and data_type != T.StringType()):
            return self._refuse(node, f"is {data_type.simpleString()}, which conditions cannot use safely")
        return found

    @kind.register
    def _(self, node: exp.Literal) -> _Kind:
        return "text" if node.is_string else "number"

    @kind.register
    def _(self, node: exp.Boolean) -> _Kind:
        return "boolean"

    @kind.register
    def _(self, node: exp.Null) -> _Kind:
        return "null"

    @kind.register(exp.And)
    @kind.register(exp.Or)
    def _(self, node: exp.Binary) -> _Kind:
        return self._all(node, "boolean", node.left, node.right)

    @kind.register
    def _(self, node: exp.Not) -> _Kind:
        return self._all(node, "boolean", node.this)

    @kind.register(exp.EQ)
    @kind.register(exp.NEQ)
    @kind.register(exp.GT)
    @kind.register(exp.GTE)
    @kind.register(exp.LT)
    @kind.register(exp.LTE)
    @kind.register(exp.NullSafeEQ)
    def _(self, node: exp.Binary) -> _Kind:
        self._alike(node, node.left, node.right)
        return "boolean"

    @kind.register
    def _(self, node: exp.Is) -> _Kind:
        if not isinstance(node.expression, exp.Null | exp.Boolean):
            self._refuse(node, "compares with something else than NULL, TRUE or FALSE")
        self.kind(node.this)
        return "boolean"

    @kind.register
    def _(self, node: exp.In) -> _Kind:
        if not node.expressions:
            self._refuse(node, "is not a list of values")
        self._alike(node, node.this, *node.expressions)
        return "boolean"

    @kind.register
    def _(self, node: exp.Between) -> _Kind:
        self._alike(node, node.this, node.args["low"], node.args["high"])
        return "boolean"

    @kind.register
    def _(self, node: exp.Like) -> _Kind:
        if not (isinstance(node.expression, exp.Literal) and node.expression.is_string):
            self._refuse(node, "has a pattern that is not a literal")
        if _BAD_ESCAPE.search(str(node.expression.this)):
            self._refuse(node, "has a pattern that escapes something else than %, _ and the escape itself")
        self._all(node, "text", node.this)
        return "boolean"

    @kind.register(exp.Add)
    @kind.register(exp.Sub)
    @kind.register(exp.Mul)
    @kind.register(exp.Div)
    @kind.register(exp.Mod)
    def _(self, node: exp.Binary) -> _Kind:
        return self._all(node, "number", node.left, node.right)

    @kind.register(exp.Neg)
    @kind.register(exp.Abs)
    def _(self, node: exp.Unary) -> _Kind:
        return self._all(node, "number", node.this)

    @kind.register(exp.Lower)
    @kind.register(exp.Upper)
    def _(self, node: exp.Func) -> _Kind:
        return self._all(node, "text", node.this)

    @kind.register
    def _(self, node: exp.Trim) -> _Kind:
        if set(node.args) - {"this"} and any(node.args[name] for name in set(node.args) - {"this"}):
            self._refuse(node, "trims more than spaces")
        return self._all(node, "text", node.this)

    @kind.register
    def _(self, node: exp.Length) -> _Kind:
        self._all(node, "text", node.this)
        return "number"

    @kind.register(exp.Year)
    @kind.register(exp.Month)
    @kind.register(exp.DayOfMonth)
    @kind.register(exp.DayOfWeek)
    def _(self, node: exp.Func) -> _Kind:
        day = node.this.this if isinstance(node.this, exp.TsOrDsToDate) else node.this
        self._all(node, "date", day)
        return "number"

    @kind.register
    def _(self, node: exp.Case) -> _Kind:
        for branch in node.args["ifs"]:
            if node.this is None:
                self._all(node, "boolean", branch.this)
            else:
                self._alike(node, node.this, branch.this)
        values = [branch.args["true"] for branch in node.args["ifs"]]
        return self._alike(node, *values, *([node.args["default"]] if node.args.get("default") else []))

    @kind.register
    def _(self, node: exp.If) -> _Kind:
        self._all(node, "boolean", node.this)
        return self._alike(node, node.args["true"], *([node.args["false"]] if node.args.get("false") else []))

    @kind.register
    def _(self, node: exp.Coalesce) -> _Kind:
        return self._alike(node, node.this, *node.expressions)

    @kind.register
    def _(self, node: exp.Cast) -> _Kind:
        target = _CASTS.get(node.to.this.name.replace("VARCHAR", "TEXT")) if not node.to.expressions else None
        if target is None or self.kind(node.this) not in (*target[1], "null"):
            return self._refuse(node, "is a cast that may raise")
        return target[0]

    def _all(self, node: exp.Expr, wanted: _Kind, *operands: exp.Expr) -> _Kind:
        for operand in operands:
            if self.kind(operand) not in (wanted, "null"):
                self._refuse(node, f"needs a {wanted} where {operand.sql(dialect='spark')!r} is none")
        return wanted

    def _alike(self, node: exp.Expr, *operands: exp.Expr) -> _Kind:
        kinds = {self.kind(operand) for operand in operands} - {"null"}
        if len(kinds) > 1:
            self._refuse(node, f"mixes {' and '.join(sorted(kinds))}: cast one of them")
        return kinds.pop() if kinds else "null"

    def _refuse(self, node: exp.Expr, why: str) -> NoReturn:
        remedy = f"{node.sql(dialect='spark')!r} {why}; prepare such a column where the table is written"
        raise InvalidArgument("condition", self._condition, remedy)
