"""Expressions: what is accepted has a kind, what may raise or look elsewhere is refused, with the reason."""

from __future__ import annotations

import re

import pytest
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.expressions import compile_condition, compile_expression
from tests.tools.expressions import SCHEMA

CONDITIONS = """
    n = 2025 | n IN (1, 2) AND NOT x IS NULL | n < 15 OR (n BETWEEN 1 AND 2) | s LIKE 'a%' | n <=> x | `n` = 1
    CASE WHEN n = 1 THEN x ELSE n END > 3 | if(n > 1, n, x) > 1 | cast(s AS bigint) % n = 0 | n / (n - n) > 0
    abs(n) * n * n * n + n > 0 | coalesce(n, 0) > 1 | cast(s AS date) > date '2025-01-01' | N = 1 AND true | -n > 3
    d IN (date '2025-01-01') | x IS NOT NULL | CASE n WHEN 1 THEN 'a' ELSE s END = 'b' | lower(trim(s)) = 'x'
    length(upper(s)) = 1 | year(d) = 2020 | x <> cast('NaN' AS double) | cast(s AS boolean) | cast(x AS int) = n
    b | b IS NOT TRUE | s NOT LIKE 'a%' | s RLIKE '^[0-9]{2,4}$' | isnan(x) | array_contains(items, 3) | b = (n > 1)
    ts >= timestamp '2025-01-01 00:00:00' | isnull(s) OR isnotnull(n) | s = '${env:WARD}' | n IS DISTINCT FROM 1
    contains(s, 'a') AND startswith(s, 'b') AND endswith(s, 'c') | nested.deep.name = 'x' | dec > 0.5 | s LIKE 'a\\%'
"""
VALUES = {
    "n + small": T.LongType(),
    "n + x": T.DoubleType(),
    "n / 2": T.DoubleType(),
    "n % 2": T.LongType(),
    "dec * 2": T.DoubleType(),
    "-9223372036854775808": T.LongType(),
    "floor(x)": T.LongType(),
    "ceil(x / 2)": T.LongType(),
    "round(x, 2)": T.DoubleType(),
    "least(n, 1)": T.LongType(),
    "greatest(n, x)": T.DoubleType(),
    "sqrt(x) + ln(x) + exp(x) + pow(x, 2)": T.DoubleType(),
    "concat(s, '-', s) || 'x'": T.StringType(),
    "concat_ws('-', s, s)": T.StringType(),
    "substring(s, 1, 2)": T.StringType(),
    "left(s, 2) || right(s, 2)": T.StringType(),
    "replace(s, 'a', 'b')": T.StringType(),
    "trim(BOTH ' x' FROM s)": T.StringType(),
    "nullif(s, '')": T.StringType(),
    "split(s, ',')": T.ArrayType(T.StringType()),
    "split(lower(s), '[^a-z]+')[0]": T.StringType(),
    "items[0]": T.LongType(),
    "element_at(items, -1)": T.LongType(),
    "get(items, n)": T.LongType(),
    "size(items)": T.LongType(),
    "datediff(d, date '2020-01-01')": T.LongType(),
    "date_add(d, n)": T.DateType(),
    "date_sub(d, 3)": T.DateType(),
    "to_date(ts)": T.DateType(),
    "hour(ts) * 60 + minute(ntz)": T.LongType(),
    "dayofweek(ts) + weekday(d) + weekofyear(d) + dayofyear(d) + quarter(d) + day(d)": T.LongType(),
    "date_trunc('hour', ts)": T.TimestampType(),
    "trunc(d, 'MONTH')": T.DateType(),
    "cast(ts AS string)": T.StringType(),
    "cast(n AS double)": T.DoubleType(),
    "cast(s AS timestamp)": T.TimestampType(),
    "CASE WHEN b THEN 1 WHEN n > 2 THEN 2.5 END": T.DoubleType(),
    "nvl(s, 'none')": T.StringType(),
    "nested.number": T.LongType(),
    "people[0].name": T.StringType(),
}
REFUSED = {
    # other rows, other places, other times
    "n IN (SELECT 1)": "write it more plainly|other rows",
    "n = (SELECT 1)": "other rows",
    "EXISTS (SELECT 1)": "other rows",
    "sum(n) > 1": "other rows",
    "rank() OVER (ORDER BY n) = 1": "other rows",
    "rand() < 0.5": "another value at every run",
    "uuid() = s": "another value at every run",
    "monotonically_increasing_id() < 5": "total",
    "input_file_name() = 'x'": "total",
    "current_date() > d": "clock",
    "current_timestamp() > ts": "clock",
    "now() > ts": "clock|total",
    "d = date 'today'": "no date or time",
    "ts > cast('now' AS timestamp)": "no date or time",
    "ts > cast(concat('no', 'w') AS timestamp)": "no date or time",
    "_metadata.file_size > 1000": "no column",
    "t.n = 1": "no column",
    "nope = 1": "no column",
    # what raises
    "raise_error('x')": "total",
    "format_string(s, n) = 'x'": "total",
    "to_number(s, '9') = 1": "total",
    "my_udf(n)": "total",
    "split_part(s, 'a', 0) = 'x'": "total",
    "n div 0 = 1": "floor",
    "cast(s AS interval day) IS NULL": "total",
    "cast(s AS decimal(10, 2)) = 1": "cast",
    "cast(cast(n AS int) + 200000000 AS date) IS NULL": "cast",
    "make_date(n, n, n) = d": "total",
    "transform(items, i -> i / 0)[0] = 1": "total|check",
    "explode(items) = 1": "explode",
    # kinds
    "n = '1'": "mixes number and text",
    "d > '2020-01-01'": "mixes",
    "d = ts": "mixes",
    "ts = ntz": "mixes",
    "d - date '2020-01-01' IS NULL": "does not work on date",
    "d + 1 > d": "mixes",
    "abs(s) = 1": "does not work on text",
    "NOT n": "needs a boolean",
    "n AND true": "needs a boolean",
    "if(n > 1, n, s) = 1": "mixes",
    "CASE WHEN n THEN 1 END = 1": "needs a boolean",
    "coalesce(n, s) = 1": "mixes",
    "concat(s, n) = 'x'": "cast it",
    "items = items": "does not work",
    "items[0.5] = 1": "needs a number",
    "s[0] = 'x'": "needs an array",
    "n.field = 1": "only structs",
    "v IS NULL": "cannot use safely",
    "cast(v AS int) = 1": "cannot use safely",
    "collated = 'a'": "cannot use safely",
    "m['k'] = 1": "cannot use safely",
    "hour(d) = 1": "needs a timestamp",
    # what is not understood is never ignored
    "n BETWEEN SYMMETRIC 1 AND 2": "more plainly",
    "s LIKE 'a' ESCAPE '!'": "total",
    "s ILIKE 'a'": "total",
    "s LIKE ANY ('a', 'b')": "total",
    # patterns
    "s LIKE s": "literal text",
    "s LIKE 'a\\\\'": "escape",
    "s LIKE 'a\\\\bc'": "escape",
    "s LIKE '%a%a%a%a%'": "at most 3",
    "s RLIKE '(a+)+$'": "pattern",
    "s RLIKE 'a*a*a*b'": "repeat",
    "s RLIKE 'a|b'": "pattern",
    "s RLIKE '[z-a]'": "pattern",
    "s RLIKE '\\\\1'": "pattern",
    "split(s, '|') IS NULL": "pattern",
    # literals
    "round(x, n) = 1": "literal whole number",
    "substring(s, n, 1) = 'a'": "literal whole number",
    "n = 9223372036854775808": "64 bits",
    "x = 1e999": "64 bits",
    "n = :p": "write the value",
    # text that is no expression
    "": "not an expression",
    "1 +": "not an expression",
    "n = 1; DROP TABLE t": "not an expression",
    "n AS m": "expression|total",
    "n, x": "expression",
    "*": "expression|column",
    "n": "compare it",
}


@pytest.mark.parametrize("condition", [text for text in re.split(r"\s*\n\s*| \| ", CONDITIONS) if text])
def test_conditions_that_are_total(condition: str) -> None:
    assert compile_condition(condition, SCHEMA).text == condition


@pytest.mark.parametrize(("text", "kind"), VALUES.items(), ids=VALUES)
def test_values_have_kinds(text: str, kind: T.DataType) -> None:
    assert compile_expression(text, SCHEMA).kind == kind


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_may_raise_or_look_elsewhere_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason) as caught:
        compile_condition(text, SCHEMA)
    assert caught.value.parameter == "condition"
    assert caught.value.value == text


@pytest.mark.parametrize("value", [1, None, b"n = 1", lambda row: True])
def test_anything_but_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match="SQL text"):
        compile_condition(value, SCHEMA)


def test_columns_that_case_cannot_tell_apart_are_refused() -> None:
    schema = T.StructType([T.StructField("a", T.LongType()), T.StructField("A", T.LongType())])
    with pytest.raises(InvalidArgument, match="is no column"):
        compile_condition("a = 1", schema)
