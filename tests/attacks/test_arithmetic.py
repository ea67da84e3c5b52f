"""ATTACKS 3 and 5: every arithmetic operation, over both ends of every type, raises nowhere and ignores ANSI mode.

Random expressions (test_expressions) nest deeply and meet an overflow rarely; here each operation meets all of them.
"""

from __future__ import annotations

import pytest
from pyspark.errors import ArithmeticException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dp.frames.expressions import compile_expression
from tests.attacks.test_expressions import evaluated
from tests.tools.expressions import nasty_rows

pytestmark = pytest.mark.slow

OPERANDS = ("n", "small", "x", "0", "-1", "9223372036854775807")
UNARY = [f"{function}({a})" for function in ("-", "abs", "floor", "ceil") for a in ("n", "small", "x")]
CASTS = [f"cast({a} AS {kind})" for kind in ("tinyint", "int", "bigint", "double") for a in ("n", "x", "s", "b")]


@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "%"])
def test_no_pair_of_operands_raises(spark: SparkSession, operator: str) -> None:
    texts = [f"{a} {operator} {b}" for a in OPERANDS[:3] for b in OPERANDS]
    assert_total(spark, texts)


def test_no_operand_raises(spark: SparkSession) -> None:
    assert_total(spark, UNARY + CASTS)


def assert_total(spark: SparkSession, texts: list[str]) -> None:
    schema = nasty_rows(spark).schema
    columns = [compile_expression(text, schema).build() for text in texts]
    with_ansi, without = (evaluated(spark, mode, columns) for mode in ("true", "false"))
    pairs = zip(texts, zip(*with_ansi, strict=True), zip(*without, strict=True), strict=True)
    assert [text for text, one, other in pairs if one != other] == []


@pytest.mark.parametrize("text", ["n + 1", "n - 1", "n * 2", "-n", "n % 0", "n / 0"])
def test_spark_left_to_itself_raises(spark: SparkSession, text: str) -> None:
    with pytest.raises(ArithmeticException):
        evaluated(spark, "true", [F.expr(text)])
