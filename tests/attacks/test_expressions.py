"""ATTACKS 4, 5 and 15: no expression raises on a value, means something else under ANSI mode, or changes by the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.frames.expressions import compile_expression
from spark_mpc import dp
from tests.tools.expressions import nasty_rows, random_expression

pytestmark = pytest.mark.slow

BATCH, SEED = 60, 20250101
ZONES = ("UTC", "America/Sao_Paulo", "Asia/Kathmandu", "Europe/Berlin")


@pytest.fixture(params=["true", "false"], ids=["ansi", "no-ansi"])
def ansi(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[str]:
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", request.param)
    yield request.param
    spark.conf.set("spark.sql.ansi.enabled", before or "true")


def evaluated(spark: SparkSession, mode: str, columns: Sequence[Column], zone: str = "UTC") -> list[list[str | None]]:
    """The columns over the nasty rows as text, in a session of this mode and time zone."""
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", zone)
    session.conf.set("spark.sql.ansi.enabled", mode)
    session.conf.set("spark.sql.shuffle.partitions", "2")
    shown = [column.cast("string").alias(f"c{index}") for index, column in enumerate(columns)]
    return [list(row) for row in nasty_rows(session).select(*shown).collect()]


@pytest.mark.parametrize("batch", range(len(ZONES)))
def test_random_expressions_never_raise_and_ansi_mode_changes_none(spark: SparkSession, batch: int) -> None:
    """ATTACKS 5. A fixed seed; every expression runs in both modes over every awkward value."""
    schema, random = nasty_rows(spark).schema, Random(SEED + batch)
    texts = [random_expression(random, depth=1 + index % 3) for index in range(BATCH)]
    columns = [compile_expression(text, schema).build() for text in texts]
    with_ansi, without = (evaluated(spark, mode, columns, ZONES[batch]) for mode in ("true", "false"))
    values = zip(texts, zip(*with_ansi, strict=True), zip(*without, strict=True), strict=True)
    assert [text for text, one, other in values if one != other] == []


def test_the_same_texts_left_to_spark_do_raise_and_do_differ(spark: SparkSession) -> None:
    """What the test above is able to find: planted are plain Spark expressions."""
    for text in ("1 / n", "n + 1", "cast(s AS int)", "items[5]", "abs(n)", "element_at(items, 0)", "to_date(s)"):
        with pytest.raises(PySparkException):
            evaluated(spark, "true", [F.expr(text)])
    planted = [F.expr("try_divide(n, 0)"), F.expr("size(items)")]
    assert evaluated(spark, "true", planted) != evaluated(spark, "false", planted)


def test_missing_values_stay_missing(spark: SparkSession, ansi: str) -> None:
    """ATTACKS 4: what is no number becomes none; only least and greatest skip NULLs, as they do in Spark."""
    rows = spark.createDataFrame([(None,), (math.nan,), (math.inf,), (-math.inf,), (-0.0,)], "x double")

    def of(text: str) -> list[object]:
        found = [row[0] for row in rows.select(compile_expression(text, rows.schema).build()).collect()]
        return ["nan" if isinstance(value, float) and math.isnan(value) else value for value in found]

    assert of("floor(x)") == [None, None, None, None, 0]
    assert of("cast(x AS int)") == [None, None, None, None, 0]
    assert of("x / 0") == [None] * 5
    assert of("greatest(least(x, 100), 0)") == [100.0, 100.0, 100.0, 0.0, 0.0]
    assert of("if(x IS NULL OR isnan(x), NULL, greatest(least(x, 100), 0))") == [None, None, 100.0, 0.0, 0.0]
    assert of("nullif(x, cast('NaN' AS double))")[1] is None
    raw = rows.select(F.floor("x")).collect()
    assert raw[1][0] == 0  # what Spark makes of NaN


def private_rows(df: DataFrame) -> dp.PrivateFrame:
    return dp.private(df, unit="n", null_units="drop")


def test_frames_of_an_ansi_session_are_safe(spark: SparkSession, ansi: str) -> None:
    """Whoever calls df.dp(...) keeps the session's own mode; the same steps raise if Spark interprets them."""
    frame = (
        private_rows(nasty_rows(spark)).withColumn("q", "100 / n").where("cast(s AS int) > 0 OR q * n <> 1e300 OR b")
    )
    items = frame.explode("items", max_items=2, alias="item").where("item + n > 0 OR item % 0 IS NULL")
    assert items.select("q", "item").df.collect()
    if ansi == "true":
        with pytest.raises(PySparkException):
            nasty_rows(spark).withColumn("q", F.expr("100 / n")).collect()


@pytest.mark.parametrize("text", ["rand()", "uuid()", "monotonically_increasing_id()", "spark_partition_id()", "now()"])
def test_expressions_that_change_by_the_run_are_refused(spark: SparkSession, text: str) -> None:
    """ATTACKS 15."""
    with pytest.raises(dp.InvalidArgument, match=r"at every run|clock|known to be total"):
        private_rows(nasty_rows(spark)).withColumn("r", text)


def test_no_function_of_the_callers_session_is_ever_called(spark: SparkSession) -> None:
    """A user-defined function could count its calls, write a file, or raise."""
    spark.udf.register("mine", lambda value: 1 // 0, "int")
    with pytest.raises(dp.InvalidArgument, match="known to be total"):
        private_rows(nasty_rows(spark)).where("mine(n) = 1")


def test_texts_do_not_grow_without_end(spark: SparkSession) -> None:
    """One row could fill a memory, and so be seen, if twenty steps doubled its text."""
    rows = spark.createDataFrame([(1, "ab" * 1000)], "n long, s string")
    frame = private_rows(rows)
    for _ in range(12):
        frame = frame.withColumn("s", "concat(s, s)")
    longest = frame.df.agg(F.max(F.length("s"))).first()
    assert longest is not None
    assert longest[0] == 65_536
    plain = rows.select(F.repeat("s", 2**12).alias("s")).agg(F.max(F.length("s"))).first()
    assert plain is not None
    assert plain[0] > 8_000_000


def test_narrow_types_neither_wrap_nor_round_again(spark: SparkSession, ansi: str) -> None:
    """ATTACKS 6: bytes, float32, decimals and int32 dates are widened before anything is computed."""
    rows = spark.sql("""SELECT cast(127 AS tinyint) AS b, cast(0.1 AS float) AS f, cast('9.99' AS decimal(3,2)) AS m,
        date_from_unix_date(2147483647) AS far, date'9999-12-31' AS last""")

    def of(text: str) -> object:
        row = rows.select(compile_expression(text, rows.schema).build()).first()
        assert row is not None
        return row[0]

    assert of("b * b + b") == 127 * 128
    assert of("f") == 0.10000000149011612  # the float itself, not 0.1
    assert of("m * 1000") == 9990.0
    assert of("datediff(far, last)") is None
    assert of("date_add(last, 1)") is None
    assert of("far > last") is True  # a comparison takes dates as they are
    wrapped = rows.selectExpr("datediff(far, date'1900-01-01')").first()
    assert wrapped is not None
    assert wrapped[0] < 0  # what Spark makes of it: int32 wraps silently, in either mode
