"""Expressions that are total: whatever the rows hold, evaluating one neither raises nor depends on anything else.

An error that a row's value causes tells of that row, and so does whatever looks past the row (other rows, files, the
clock). Spark has dozens of functions and implicit casts that raise on some value, more of them under ANSI mode. So the
text is not Spark's to interpret: it is parsed, checked like a small typed language, and compiled here to a column of
operations that give NULL where Spark's own would raise, under ANSI mode and without it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce, singledispatchmethod
from types import MappingProxyType

import sqlglot
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dp.errors import InvalidArgument
from dp.frames import total
from dp.frames.functions import ANONYMOUS, SIGNATURES, WHY_NOT, Signature
from dp.frames.kinds import BOOLEAN, DATE, NOTHING, TEXT, TIMESTAMP, Value, null_as
from dp.frames.operands import Operands, joined, number_of
from dp.frames.patterns import check_like, check_regex
from dp.frames.scalars import SCALARS, item_at
from dp.planning.names import quoted

__all__ = ["Expression", "compile_condition", "compile_expression"]

_UNKNOWN = "is not known to be total: prepare such a column where the table is written"
_COMPARISONS: Mapping[type[exp.Expr], Callable[[Column, Column], Column]] = MappingProxyType(
    {
        exp.EQ: operator.eq,
        exp.NEQ: operator.ne,
        exp.GT: operator.gt,
        exp.GTE: operator.ge,
        exp.LT: operator.lt,
        exp.LTE: operator.le,
        exp.NullSafeEQ: lambda left, right: left.eqNullSafe(right),
        exp.NullSafeNEQ: lambda left, right: ~left.eqNullSafe(right),
    }
)


@dataclass(frozen=True)
class Expression:
    """A checked text.

    Attributes:
        text: as it was given.
        kind: the Spark type of its values.
        build: makes the column; needs a session.
        zoned: whether instants of time are in it, so that its values may depend on the session's time zone.
    """

    text: str
    kind: T.DataType
    build: Callable[[], Column]
    zoned: bool


def compile_expression(text: object, schema: T.StructType, parameter: str = "expression") -> Expression:
    """The expression, if no row of this schema can make it raise.

    Args:
        text: SQL such as "year(visited_at) = 2025 AND ward IN ('A', 'B')"; docs/one-lake.md lists what there is.
        schema: of the rows; hidden columns, such as a file's metadata, are not in it.
        parameter: what errors call the text.

    Raises:
        InvalidArgument: not a string, not an expression, or one that uses anything else; it names what and why.

    Guarantees: for every row of the schema the column evaluates without an error, to a value that depends on that row
        alone (and, where it is `zoned`, on the session's time zone), and that is the same with
        `spark.sql.ansi.enabled` on and off.
    """
    if not isinstance(text, str):
        remedy = 'write it as SQL text, such as "year = 2025": what a Column does to a row cannot be checked'
        raise InvalidArgument(parameter, type(text).__name__, remedy)
    try:
        parsed = sqlglot.parse_one(text, dialect="spark", into=exp.Condition)
    except SqlglotError:
        raise InvalidArgument(parameter, text, "it is not an expression in Spark's SQL") from None
    compiler = _Compiler(text, schema, parameter)
    value = compiler.value(parsed)
    return Expression(text, value.kind, value.build, compiler.zoned)


def compile_condition(text: object, schema: T.StructType) -> Expression:
    """An expression that is true or false; see `compile_expression`."""
    compiled = compile_expression(text, schema, "condition")
    if compiled.kind != BOOLEAN:
        raise InvalidArgument("condition", text, "it is a value, not a condition: compare it with something")
    return compiled


class _Compiler(Operands):
    """The rule of every node.

    Attributes:
        zoned: whether an instant of time was met. All that a session's time zone changes has one among its operands, or
            results in one: parts and texts of instants, and instants that are read from texts, dates and local times.
    """

    zoned = False

    def value(self, node: exp.Expr) -> Value:
        value = self._value(node)
        self.zoned = self.zoned or value.kind == TIMESTAMP
        return value

    def _value(self, node: exp.Expr) -> Value:
        if (signature := SIGNATURES.get(type(node))) is not None:
            return self._call(node, signature)
        if (scalar := SCALARS.get(type(node))) is not None:
            return scalar(self, node)
        return self._rule(node)

    @singledispatchmethod
    def _rule(self, node: exp.Expr) -> Value:
        why = next((why for kind, why in WHY_NOT.items() if isinstance(node, kind)), None)
        return self.refuse(node, why or _UNKNOWN)

    # values of a row, and literals

    @_rule.register
    def _(self, node: exp.Paren) -> Value:
        self.only(node, "this")
        return self.value(node.this)

    @_rule.register
    def _(self, node: exp.Column) -> Value:
        self.only(node, "this", "table", "db", "catalog")
        if not all(isinstance(part, exp.Identifier) for part in node.parts):
            self.refuse(node, "names no column: write out which")
        first, *fields = (part.name for part in node.parts)
        column = self.field(node, self._schema, first)
        found = Value(column.dataType, lambda: F.col(quoted(column.name)))
        return self.known(node, reduce(lambda value, name: self.inside(node, value, name), fields, found))

    @_rule.register
    def _(self, node: exp.Dot) -> Value:
        self.only(node, "this", "expression")
        if not isinstance(node.expression, exp.Identifier):
            self.refuse(node, "is not a field")
        return self.known(node, self.inside(node, self.value(node.this), node.expression.name))

    @_rule.register
    def _(self, node: exp.Literal) -> Value:
        return self.literal(node, node.this if node.is_string else number_of(node.this))

    @_rule.register
    def _(self, node: exp.RawString) -> Value:
        return self.literal(node, node.this)

    @_rule.register
    def _(self, node: exp.Boolean) -> Value:
        return self.literal(node, bool(node.this))

    @_rule.register
    def _(self, node: exp.Null) -> Value:
        return Value(NOTHING, lambda: F.lit(None), constant=True)

    # truth and comparison

    @_rule.register(exp.And)
    @_rule.register(exp.Or)
    def _(self, node: exp.Binary) -> Value:
        self.only(node, "this", "expression")
        left, right = self.all_of(node, BOOLEAN, node.left, node.right)
        if isinstance(node, exp.And):
            return joined(BOOLEAN, lambda: left.build() & right.build(), left, right)
        return joined(BOOLEAN, lambda: left.build() | right.build(), left, right)

    @_rule.register
    def _(self, node: exp.Not) -> Value:
        self.only(node, "this")
        (operand,) = self.all_of(node, BOOLEAN, node.this)
        return joined(BOOLEAN, lambda: ~operand.build(), operand)

    @_rule.register(exp.EQ)
    @_rule.register(exp.NEQ)
    @_rule.register(exp.GT)
    @_rule.register(exp.GTE)
    @_rule.register(exp.LT)
    @_rule.register(exp.LTE)
    @_rule.register(exp.NullSafeEQ)
    @_rule.register(exp.NullSafeNEQ)
    def _(self, node: exp.Binary) -> Value:
        self.only(node, "this", "expression")
        left, right = self.comparable(node, node.left, node.right)
        compare = _COMPARISONS[type(node)]
        return joined(BOOLEAN, lambda: compare(left.build(), right.build()), left, right)

    @_rule.register
    def _(self, node: exp.Is) -> Value:
        self.only(node, "this", "expression")
        wanted = node.expression
        if isinstance(wanted, exp.Boolean):
            (truth,) = self.all_of(node, BOOLEAN, node.this)
            return joined(BOOLEAN, lambda: truth.build().eqNullSafe(F.lit(bool(wanted.this))), truth)
        if not isinstance(wanted, exp.Null):
            self.refuse(node, "compares with something else than NULL, TRUE or FALSE")
        operand = self.value(node.this)
        return joined(BOOLEAN, lambda: operand.build().isNull(), operand)

    @_rule.register
    def _(self, node: exp.In) -> Value:
        self.only(node, "this", "expressions")
        if not node.expressions:
            self.refuse(node, "is not a list of values")
        left, *values = self.comparable(node, node.this, *node.expressions)
        return joined(BOOLEAN, lambda: left.build().isin(*(value.build() for value in values)), left, *values)

    @_rule.register
    def _(self, node: exp.Between) -> Value:
        self.only(node, "this", "low", "high")
        value, low, high = self.comparable(node, node.this, node.args["low"], node.args["high"])
        return joined(BOOLEAN, lambda: value.build().between(low.build(), high.build()), value, low, high)

    @_rule.register(exp.Like)
    @_rule.register(exp.RegexpLike)
    def _(self, node: exp.Binary) -> Value:
        self.only(node, "this", "expression", "negate")
        pattern = self.text(node, node.expression)
        (text,) = self.all_of(node, TEXT, node.this)
        if isinstance(node, exp.Like):
            self.checked(node, check_like, pattern)
            return _negated(node, joined(BOOLEAN, lambda: text.build().like(pattern), text))
        self.checked(node, check_regex, pattern)
        return _negated(node, joined(BOOLEAN, lambda: text.build().rlike(pattern), text))

    # choice

    @_rule.register
    def _(self, node: exp.Case) -> Value:
        self.only(node, "this", "ifs", "default")
        branches = node.args["ifs"]
        if node.this is None:
            tests = self.all_of(node, BOOLEAN, *(branch.this for branch in branches))
        else:
            chosen, *cases = self.comparable(node, node.this, *(branch.this for branch in branches))
            tests = [joined(BOOLEAN, _equality(chosen, case), chosen, case) for case in cases]
        return self._choice(node, tests, [branch.args["true"] for branch in branches], node.args.get("default"))

    @_rule.register
    def _(self, node: exp.If) -> Value:
        self.only(node, "this", "true", "false")
        return self._choice(node, self.all_of(node, BOOLEAN, node.this), [node.args["true"]], node.args.get("false"))

    @_rule.register
    def _(self, node: exp.Nullif) -> Value:
        self.only(node, "this", "expression")
        left, right = self.alike(node, node.this, node.expression)
        return joined(left.kind, lambda: F.nullif(left.build(), right.build()), left, right)

    @_rule.register(exp.Coalesce)
    @_rule.register(exp.Least)
    @_rule.register(exp.Greatest)
    def _(self, node: exp.Func) -> Value:
        self.only(node, "this", "expressions", "ignore_nulls", "is_nvl", "is_null")
        values = self.alike(node, node.this, *node.expressions)
        if isinstance(values[0].kind, T.ArrayType | T.StructType) or (
            len(values) < 2 and not isinstance(node, exp.Coalesce)
        ):
            self.refuse(node, "chooses among two or more numbers, texts, dates or booleans")
        choose = {exp.Least: F.least, exp.Greatest: F.greatest}.get(type(node), F.coalesce)
        return joined(values[0].kind, lambda: choose(*(value.build() for value in values)), *values)

    def _choice(
        self, node: exp.Expr, tests: Sequence[Value], then: Sequence[exp.Expr], other: exp.Expr | None
    ) -> Value:
        values = self.alike(node, *then, *([] if other is None else [other]))
        kind, branches = values[0].kind, list(zip(tests, values, strict=False))

        def build() -> Column:
            chosen = values[-1].build() if other is not None else null_as(kind)
            for test, value in reversed(branches):
                chosen = F.when(test.build(), value.build()).otherwise(chosen)
            return chosen

        return joined(kind, build, *tests, *values)

    # casts and functions by name

    @_rule.register(exp.Cast)
    @_rule.register(exp.TryCast)
    def _(self, node: exp.Cast) -> Value:
        self.only(node, "this", "to", "safe")
        if node.to.expressions or node.to.args.get("nested"):
            self.refuse(node, "is a cast that is not known to be total; cast to double, or prepare the column")
        return self.cast(node, self.value(node.this), node.to.this.name)

    @_rule.register
    def _(self, node: exp.Anonymous) -> Value:
        name, operands = str(node.this).lower(), node.expressions
        if name in ("isnull", "isnotnull") and len(operands) == 1:
            test = exp.Is(this=operands[0], expression=exp.Null())
            return self.value(test if name == "isnull" else exp.Not(this=test))
        if name == "get" and len(operands) == 2:
            return item_at(self, node, operands[0], operands[1], total.item)
        if name == "btrim" and len(operands) == 1:
            return self.value(exp.Trim(this=operands[0]))
        signature = ANONYMOUS.get(name)
        if signature is None or len(operands) != 1:
            self.refuse(node, _UNKNOWN)
        (date,) = self._operands(node, signature, operands)
        return joined(signature.result, lambda: signature.build(date.build()), date)

    def _call(self, node: exp.Expr, signature: Signature) -> Value:
        self.only(node, *signature.operands, "typed", "safe", "zone")
        operands = [node.args.get(name) for name in signature.operands]
        if None in operands:
            self.refuse(node, f"takes {len(operands)} operand(s)")
        values = self._operands(node, signature, [operand for operand in operands if operand is not None])
        return joined(signature.result, lambda: signature.build(*(value.build() for value in values)), *values)

    def _operands(self, node: exp.Expr, signature: Signature, operands: Sequence[exp.Expr]) -> list[Value]:
        kinds = signature.operands.values()
        return [
            self.to_date(node, self.value(operand)) if kind == DATE else self.as_kind(node, self.value(operand), kind)
            for operand, kind in zip(operands, kinds, strict=True)
        ]


def _equality(left: Value, right: Value) -> Callable[[], Column]:
    return lambda: left.build() == right.build()


def _negated(node: exp.Expr, value: Value) -> Value:
    return joined(BOOLEAN, lambda: ~value.build(), value) if node.args.get("negate") else value
