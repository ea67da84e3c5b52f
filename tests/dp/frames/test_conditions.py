"""Conditions: what is accepted is total, what may raise or look elsewhere is refused by name."""

from __future__ import annotations

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.conditions import total_condition
from lake.table import Table
from tests.conftest import DeltaWriter

ACCEPTED = [
    "n = 2025",
    "n IN (1, 2) AND NOT x IS NULL",
    "n < 15 OR (n BETWEEN 1 AND 2)",
    "s LIKE 'a%'",
    "CASE WHEN n = 1 THEN x ELSE n END > 3",
    "if(n > 1, n, x) > 1",
    "cast(s AS bigint) % n = 0",
    "n / (n - n) > 0",
    "abs(n) * n * n * n + n > 0",
    "coalesce(n, 0) > 1",
    "cast(s AS date) > date '2025-01-01'",
    "n <=> x",
    "`n` = 1",
    "N = 1 AND true",
    "d IN (date '2025-01-01')",
    "x IS NOT NULL",
    "CASE n WHEN 1 THEN 'a' ELSE s END = 'b'",
    "lower(trim(s)) = 'x'",
    "length(upper(s)) = 1",
    "year(d) = 2020",
    "x <> cast('NaN' AS double)",
    "cast(s AS boolean)",
    "cast(x AS int) = n",
    "-n > 3",
]
REFUSED = [
    "element_at(a, 0) = 1",
    "rand() < 0.5",
    "raise_error('x')",
    "format_string(s, n) = 'x'",
    "n IN (SELECT 1)",
    "n = (SELECT 1)",
    "EXISTS (SELECT 1)",
    "n = 1; DROP TABLE t",
    "s LIKE pattern",
    "to_number(s, '9') = 1",
    "my_udf(n)",
    "input_file_name() = 'x'",
    "monotonically_increasing_id() < 5",
    "current_timestamp() > d",
    "cast(s AS interval day) IS NULL",
    "split_part(s, 'a', 0) = 'x'",
    "",
    "1 +",
    "n AS m",
    "n, x",
    "*",
    "n",
    "cast(d AS timestamp) IS NULL",
    "d = ts",
    "d - date '2020-01-01' IS NULL",
    "d + 1 > d",
    "cast(cast(n AS int) + 200000000 AS date) IS NULL",
    "cast(v AS int) = 1",
    "v IS NULL",
    "n = '1'",
    "d > '2020-01-01'",
    "_metadata.file_size > 1000",
    "_metadata.file_path = 'x'",
    "t.n = 1",
    "nope = 1",
    "s LIKE 'a\\\\'",
    "trim(both 'x' from s) = 'a'",
    "abs(s) = 1",
    "NOT n",
    "n AND true",
    "if(n > 1, n, s) = 1",
    "CASE WHEN n THEN 1 END = 1",
    "coalesce(n, s) = 1",
    "cast(s AS decimal(10, 2)) = 1",
    "collated = 'a'",
    "s = '${env:WARD}'",
    "s LIKE 'a\\\\bc'",
]
SCHEMA = T.StructType(
    [
        T.StructField("n", T.LongType()),
        T.StructField("x", T.DoubleType()),
        T.StructField("s", T.StringType()),
        T.StructField("d", T.DateType()),
        T.StructField("ts", T.TimestampType()),
        T.StructField("v", T.VariantType()),
        T.StructField("pattern", T.StringType()),
        T.StructField("collated", T.StringType("UTF8_LCASE")),
    ]
)


@pytest.mark.parametrize("condition", ACCEPTED)
def test_a_total_condition_comes_back_as_it_was_given(condition: str) -> None:
    assert total_condition(condition, SCHEMA) == condition


@pytest.mark.parametrize("condition", REFUSED)
def test_what_may_raise_or_look_elsewhere_is_refused(condition: str) -> None:
    with pytest.raises(InvalidArgument, match="condition="):
        total_condition(condition, SCHEMA)


@pytest.mark.slow
def test_a_column_is_refused_because_nobody_can_check_it(spark: SparkSession) -> None:
    column: Column = F.col("n") > F.lit(1)
    with pytest.raises(InvalidArgument, match="SQL text"):
        total_condition(column, SCHEMA)


@pytest.mark.slow
def test_no_accepted_condition_raises_on_any_row(spark: SparkSession, write_delta: DeltaWriter) -> None:
    nasty = [
        (0, 0.0, "", None),
        (-(2**63), float("nan"), "x", "2020-02-29"),
        (2**63 - 1, float("inf"), "9" * 40, "0001-01-01"),
        (None, None, None, "9999-12-31"),
        (1, -0.0, "2020-99-99", "1582-10-10"),
    ]
    rows = spark.createDataFrame(nasty, "n long, x double, s string, d string")
    path = write_delta("nasty", "n long, x double, s string, d date", [])
    rows.select("n", "x", "s", F.col("d").cast("date")).write.format("delta").mode("append").save(path)
    frame = Table.forPath(spark, path, unit="n").private()
    flags = [frame.where(condition).df.selectExpr("count(*) AS c") for condition in ACCEPTED]
    counted = [flag.first() for flag in flags]
    assert all(row is not None and 0 <= row["c"] <= len(nasty) for row in counted)
