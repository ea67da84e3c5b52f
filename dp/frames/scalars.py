"""The rules of numbers, texts, dates and arrays: what each takes, and the total column that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp

from dp.frames import total
from dp.frames.kinds import BOOLEAN, DATE, DOUBLE, LONG, TEXT, TIMESTAMP, Value, name_of
from dp.frames.operands import PLAIN, TIMES, Operands, joined, number_of
from dp.frames.patterns import check_regex

__all__ = ["SCALARS", "item_at"]

_ARITHMETIC: Mapping[type[exp.Expr], Callable[[Column, Column], Column]] = MappingProxyType(
    {exp.Add: F.try_add, exp.Sub: F.try_subtract, exp.Mul: F.try_multiply, exp.Mod: F.try_mod}
)
_PARTS: Mapping[type[exp.Expr], Callable[[Column], Column]] = MappingProxyType(
    {exp.Hour: F.hour, exp.Minute: F.minute, exp.Second: F.second}
)
_MOST_POSITION = 2**20
_MOST_DIGITS = 15
_DATE_UNITS = ("YEAR", "QUARTER", "MONTH", "WEEK")
_TIME_UNITS = (*_DATE_UNITS, "DAY", "HOUR", "MINUTE", "SECOND")


def _add(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression")
    left, right = compiler.numbers(node, node.this, node.expression)
    compute = _ARITHMETIC[type(node)]
    return joined(left.kind, lambda: compute(left.build(), right.build()), left, right)


def _neg(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this")
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return compiler.literal(node, number_of(f"-{node.this.this}"))
    (number,) = compiler.numbers(node, node.this)
    compute = total.negated if isinstance(node, exp.Neg) else total.absolute
    return joined(number.kind, lambda: compute(number.build(), number.kind), number)


def _round(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "decimals")
    digits = 0 if node.args.get("decimals") is None else compiler.whole(node, node.args["decimals"], 0, _MOST_DIGITS)
    (number,) = compiler.numbers(node, node.this)
    return number if number.kind == LONG else joined(DOUBLE, lambda: F.round(number.build(), digits), number)


def _concat(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression", "expressions", "safe", "coalesce")
    parts = [node.this, node.expression] if isinstance(node, exp.DPipe) else node.expressions
    texts = compiler.all_of(node, TEXT, *parts)
    return joined(TEXT, lambda: total.cut(F.concat(*(text.build() for text in texts))), *texts)


def _concat_ws(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "expressions", "safe", "coalesce", "flatten")
    separator, *parts = node.expressions
    between = compiler.text(node, separator)
    texts = compiler.all_of(node, TEXT, *parts)
    return joined(TEXT, lambda: total.cut(F.concat_ws(between, *(text.build() for text in texts))), *texts)


def _substring(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "start", "length", "expression")
    (text,) = compiler.all_of(node, TEXT, node.this)
    if not isinstance(node, exp.Substring):
        count = compiler.whole(node, node.expression, 0, _MOST_POSITION)
        end = F.left if isinstance(node, exp.Left) else F.right
        return joined(TEXT, lambda: end(text.build(), F.lit(count)), text)
    start = compiler.whole(node, node.args.get("start"), -_MOST_POSITION, _MOST_POSITION)
    length = node.args.get("length")
    count = 2**31 - 1 if length is None else compiler.whole(node, length, 0, _MOST_POSITION)
    return joined(TEXT, lambda: F.substring(text.build(), start, count), text)


def _trim(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "position", "expression")
    characters = " " if node.expression is None else compiler.text(node, node.expression)
    trim = {"LEADING": F.ltrim, "TRAILING": F.rtrim}.get(str(node.args.get("position")), F.btrim)
    (text,) = compiler.all_of(node, TEXT, node.this)
    return joined(TEXT, lambda: trim(text.build(), F.lit(characters)), text)


def _replace(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression", "replacement")
    search, replacement = compiler.text(node, node.expression), compiler.text(node, node.args.get("replacement"))
    (text,) = compiler.all_of(node, TEXT, node.this)
    return joined(TEXT, lambda: total.cut(F.replace(total.cut(text.build()), F.lit(search), F.lit(replacement))), text)


def _regexp_split(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression")
    pattern = compiler.text(node, node.expression)
    compiler.checked(node, check_regex, pattern)
    (text,) = compiler.all_of(node, TEXT, node.this)
    return joined(T.ArrayType(TEXT), lambda: F.split(text.build(), pattern), text)


def _ts_or_ds_to_date(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "safe")
    return compiler.to_date(node, compiler.value(node.this))


def _ts_or_ds_add(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression", "unit")
    if str(node.args["unit"]) != "DAY":
        compiler.refuse(node, "adds something else than days")
    date = compiler.to_date(node, compiler.value(node.this))
    (days,) = compiler.all_of(node, LONG, node.expression)
    return joined(DATE, lambda: total.date_plus(date.build(), days.build()), date, days)


def _hour(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this")
    time = compiler.time(node, compiler.value(node.this))
    part = _PARTS[type(node)]
    return joined(LONG, lambda: total.long_of(part(total.civil(time.build(), time.kind))), time)


def _timestamp_trunc(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "unit")
    unit = str(node.args["unit"]).upper()
    time = compiler.value(node.this)
    if unit not in _TIME_UNITS or time.kind not in TIMES:
        compiler.refuse(node, f"needs one of {', '.join(_TIME_UNITS)}, and a date or a timestamp")
    return joined(
        TIMESTAMP,
        lambda: total.truncated_date(total.civil(time.build(), time.kind).cast(TIMESTAMP), unit),
        time,
    )


def _date_trunc(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "unit")
    unit = node.args["unit"]
    if not isinstance(unit, exp.Literal) or unit.this.upper() not in (*_DATE_UNITS, "MM", "YYYY"):
        compiler.refuse(node, f"needs one of {', '.join(_DATE_UNITS)}")
    date = compiler.to_date(node, compiler.value(node.this))
    return joined(DATE, lambda: F.trunc(total.civil(date.build(), DATE), unit.this), date)


def _bracket(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expressions", "offset", "safe")
    if len(node.expressions) != 1:
        compiler.refuse(node, "takes one index")
    return item_at(
        compiler, node, node.this, node.expressions[0], total.item_from_one if node.args.get("offset") else total.item
    )


def item_at(
    compiler: Operands, node: exp.Expr, of: exp.Expr, at: exp.Expr, take: Callable[[Column, Column], Column]
) -> Value:
    array, (index,) = compiler.array(node, of), compiler.all_of(node, LONG, at)
    return joined(array.kind.elementType, lambda: take(array.build(), index.build()), array, index)  # type: ignore[attr-defined]


def _array_size(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this")
    array = compiler.array(node, node.this)
    return joined(LONG, lambda: total.long_of(F.array_size(array.build())), array)


def _array_contains(compiler: Operands, node: exp.Expr) -> Value:
    compiler.only(node, "this", "expression")
    array = compiler.array(node, node.this)
    element = array.kind.elementType  # type: ignore[attr-defined]
    value = compiler.as_kind(node, compiler.value(node.expression), element)
    if value.kind not in (*PLAIN, *TIMES):
        compiler.refuse(node, f"looks for {name_of(element)}; only numbers, texts, booleans and dates can be found")
    return joined(BOOLEAN, lambda: F.array_contains(array.build(), value.build()), array, value)


SCALARS: Mapping[type[exp.Expr], Callable[[Operands, exp.Expr], Value]] = MappingProxyType(
    {
        exp.Add: _add,
        exp.Sub: _add,
        exp.Mul: _add,
        exp.Mod: _add,
        exp.Neg: _neg,
        exp.Abs: _neg,
        exp.Round: _round,
        exp.Concat: _concat,
        exp.DPipe: _concat,
        exp.ConcatWs: _concat_ws,
        exp.Substring: _substring,
        exp.Left: _substring,
        exp.Right: _substring,
        exp.Trim: _trim,
        exp.Replace: _replace,
        exp.RegexpSplit: _regexp_split,
        exp.TsOrDsToDate: _ts_or_ds_to_date,
        exp.TsOrDsAdd: _ts_or_ds_add,
        exp.Hour: _hour,
        exp.Minute: _hour,
        exp.Second: _hour,
        exp.TimestampTrunc: _timestamp_trunc,
        exp.DateTrunc: _date_trunc,
        exp.Bracket: _bracket,
        exp.ArraySize: _array_size,
        exp.ArrayContains: _array_contains,
    }
)
"""sqlglot's node -> its rule."""
