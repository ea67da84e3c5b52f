"""Random expressions, and rows with every awkward value that the types can hold."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

__all__ = ["NASTY_ROWS", "SCHEMA", "nasty_rows", "random_expression"]

SCHEMA = T.StructType(
    [
        T.StructField("n", T.LongType()),
        T.StructField("small", T.ByteType()),
        T.StructField("x", T.DoubleType()),
        T.StructField("dec", T.DecimalType(38, 0)),
        T.StructField("s", T.StringType()),
        T.StructField("b", T.BooleanType()),
        T.StructField("d", T.DateType()),
        T.StructField("ts", T.TimestampType()),
        T.StructField("ntz", T.TimestampNTZType()),
        T.StructField("items", T.ArrayType(T.IntegerType())),
        T.StructField(
            "nested",
            T.StructType(
                [
                    T.StructField("number", T.IntegerType()),
                    T.StructField("deep", T.StructType([T.StructField("name", T.StringType())])),
                ]
            ),
        ),
        T.StructField("people", T.ArrayType(T.StructType([T.StructField("name", T.StringType())]))),
        T.StructField("v", T.VariantType()),
        T.StructField("m", T.MapType(T.StringType(), T.IntegerType())),
        T.StructField("collated", T.StringType("UTF8_LCASE")),
    ]
)
"""Columns of every kind; the last three are of types that expressions do not know."""

_LEAST, _MOST = "-9223372036854775808L", "9223372036854775807L"
NASTY_ROWS = f"""
    SELECT n, cast(small AS tinyint) small, x, cast(dec AS decimal(38,0)) dec, s, b, d, ts, ntz, items, nested, people
    FROM VALUES
    (0L, 0, 0D, '0', '', true, date'2020-02-29', timestamp'2020-02-29 12:34:56.7', timestamp_ntz'2020-02-29 23:59:59',
        array(1, 2, NULL), named_struct('number', 1, 'deep', named_struct('name', 'x')),
        array(named_struct('name', 'y'))),
    ({_LEAST}, -128, double('nan'), '99999999999999999999999999999999999999', 'x', false, date'0001-01-01',
        timestamp_micros({_LEAST}), timestamp_ntz'0001-01-01 00:00:00', array(), NULL, array()),
    ({_MOST}, 127, double('inf'), '-99999999999999999999999999999999999999', repeat('9', 40), NULL, date'9999-12-31',
        timestamp_micros({_MOST}), timestamp_ntz'9999-12-31 23:59:59.999999', NULL, named_struct('number', NULL, 'deep',
        NULL), NULL),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, array(NULL), NULL, array(NULL)),
    (1L, 1, -0.0D, '1', '2020-99-99', true, date_from_unix_date(2147483647), timestamp'1582-10-10 00:00:00',
        timestamp_ntz'1969-12-31 23:59:59.999999', array(2147483647), NULL, NULL),
    (-1L, -1, double('-inf'), '-1', ' 12 ', false, date_from_unix_date(-2147483648),
        timestamp'1969-12-31 23:59:59.999999', timestamp_ntz'2024-03-31 02:30:00', array(-2147483648, 0), NULL, NULL),
    (-2147483648L, 0, 5e-324D, '7', '1.5e3', true, date'1582-10-14', timestamp'2024-03-31 02:30:00', NULL,
        array(1, 1, 1), NULL, NULL),
    (2147483648L, 0, 1.7976931348623157e308D, '7', 'ÄÖß\\u0000😀%_\\\\', false, date'1970-01-01',
        timestamp'1970-01-01 00:00:00', NULL, array(5), NULL, NULL),
    (3L, 3, 9.223372036854775e18D, '7', '2020-02-29', true, date'1900-01-01', timestamp'9999-12-31 23:59:59', NULL,
        array(3, 2, 1), NULL, NULL),
    (100L, 100, -1e-9D, '7', 'true', true, date'2000-02-29', timestamp'0001-01-01 00:00:00', NULL, array(0), NULL, NULL)
    AS t(n, small, x, dec, s, b, d, ts, ntz, items, nested, people)
"""
"""A query for the rows."""


def nasty_rows(spark: SparkSession) -> DataFrame:
    """NULL, NaN, infinities, -0.0, the ends of every type, dates beyond the calendar, text that is almost a number."""
    return spark.sql(NASTY_ROWS)


def random_expression(random: Random, depth: int) -> str:
    """A text of the expression language, of any kind, nested up to `depth` deep."""
    return _OF[random.choice(list(_OF))](random, depth)


def _number(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(
            ["n", "small", "x", "dec", "nested.number", "0", "1", "-1", "0.5", "1e300", "9223372036854775807"]
        )
    a, b = _number(random, depth - 1), _number(random, depth - 1)
    return random.choice(
        [
            *(f"({a} {operator} {b})" for operator in ("+", "-", "*", "/", "%")),
            *(f"{function}({a})" for function in ("abs", "-", "floor", "ceil", "sqrt", "ln", "exp")),
            *(f"round({a}, 2)", f"pow({a}, {b})", f"least({a}, {b})", f"greatest({a}, {b})", f"nullif({a}, {b})"),
            *(f"coalesce({a}, {b})", f"if({_boolean(random, depth - 1)}, {a}, {b})"),
            f"CASE {a} WHEN {b} THEN {a} ELSE {b} END",
            *(f"cast({a} AS {kind})" for kind in ("int", "bigint", "tinyint", "double", "float")),
            *(f"cast({_text(random, depth - 1)} AS {kind})" for kind in ("int", "bigint", "double")),
            *(f"length({_text(random, depth - 1)})", f"cast({_boolean(random, depth - 1)} AS int)"),
            *(f"{part}({_day(random, depth - 1)})" for part in ("year", "quarter", "month", "day", "dayofyear")),
            *(f"{part}({_day(random, depth - 1)})" for part in ("dayofweek", "weekday", "weekofyear")),
            *(f"{part}({_time(random, depth - 1)})" for part in ("hour", "minute", "second")),
            f"datediff({_day(random, depth - 1)}, {_day(random, depth - 1)})",
            *(f"items[cast({a} AS bigint)]", f"element_at(items, cast({a} AS bigint))", "size(items)"),
            f"get(items, cast({a} AS int))",
        ]
    )


def _text(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(["s", "nested.deep.name", "people[0].name", "'a'", "''", "'2020-02-30'", "'NaN'"])
    a, b = _text(random, depth - 1), _text(random, depth - 1)
    return random.choice(
        [
            *(f"{function}({a})" for function in ("lower", "upper", "trim", "ltrim", "rtrim")),
            *(f"concat({a}, {b})", f"concat_ws('-', {a}, {b})", f"({a} || {b})", f"replace({a}, '9', 'ab')"),
            *(f"substring({a}, {random.randint(-4, 4)}, 3)", f"left({a}, 2)", f"right({a}, 2)"),
            *(f"coalesce({a}, {b})", f"nullif({a}, {b})", f"least({a}, {b})", f"trim(BOTH '9 x' FROM {a})"),
            *(f"if({_boolean(random, depth - 1)}, {a}, {b})", f"split({a}, '[^a-z]+')[{random.randint(-1, 2)}]"),
            *(f"cast({_number(random, depth - 1)} AS string)", f"cast({_day(random, depth - 1)} AS string)"),
            *(f"cast({_time(random, depth - 1)} AS string)", f"cast({_boolean(random, depth - 1)} AS string)"),
        ]
    )


def _day(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(["d", "date '2020-02-29'", "date '0001-01-01'", "date '9999-12-31'"])
    a = _day(random, depth - 1)
    return random.choice(
        [
            f"date_add({a}, cast({_number(random, depth - 1)} AS bigint))",
            f"date_sub({a}, {random.randint(-5, 4_000_000)})",
            f"trunc({a}, '{random.choice(['YEAR', 'QUARTER', 'MONTH', 'WEEK'])}')",
            *(f"to_date({_time(random, depth - 1)})", f"cast({_time(random, depth - 1)} AS date)"),
            *("cast(s AS date)", f"coalesce({a}, d)", f"greatest({a}, {_day(random, depth - 1)})"),
        ]
    )


def _time(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(["ts", "ntz", "timestamp '2024-03-31 02:30:00'"])
    unit = random.choice(["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"])
    return random.choice(
        [
            *(f"date_trunc('{unit}', {_time(random, depth - 1)})", f"date_trunc('{unit}', {_day(random, depth - 1)})"),
            *(f"cast({_day(random, depth - 1)} AS timestamp)", "cast(s AS timestamp)", "cast(s AS timestamp_ntz)"),
            *(f"cast({_time(random, depth - 1)} AS timestamp)", f"cast({_time(random, depth - 1)} AS timestamp_ntz)"),
        ]
    )


def _boolean(random: Random, depth: int) -> str:
    if depth == 0:
        return random.choice(["b", "true", "false", "n IS NULL", "x <=> x"])
    operand = random.choice([_number, _text, _day])
    a, b = operand(random, depth - 1), operand(random, depth - 1)
    return random.choice(
        [
            *(f"({a} {operator} {b})" for operator in ("=", "<>", "<", "<=", ">", ">=", "<=>")),
            *(f"({a} IN ({b}, {a}))", f"({a} NOT BETWEEN {b} AND {a})", f"({a} IS NOT NULL)"),
            *(f"(NOT {_boolean(random, depth - 1)})", f"({_boolean(random, depth - 1)} IS TRUE)"),
            *(f"({_boolean(random, depth - 1)} {both} {_boolean(random, depth - 1)})" for both in ("AND", "OR")),
            *(f"({_text(random, depth - 1)} LIKE '%9%')", f"({_text(random, depth - 1)} RLIKE '^[0-9]+$')"),
            *(f"isnan({_number(random, depth - 1)})", f"array_contains(items, cast({_number(random, 0)} AS int))"),
            *(f"contains(s, {_text(random, depth - 1)})", f"cast({_number(random, depth - 1)} AS boolean)"),
            f"cast({_text(random, depth - 1)} AS boolean)",
        ]
    )


_OF: dict[str, Callable[[Random, int], str]] = {
    "number": _number,
    "text": _text,
    "day": _day,
    "time": _time,
    "boolean": _boolean,
}
