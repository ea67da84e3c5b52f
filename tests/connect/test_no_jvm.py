"""No RDD and no handle of the JVM in the sources: what Spark Connect does not have is not used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("dp", "lake", "spark_mpc", "examples") for path in (ROOT / package).rglob("*.py"))
CLASSIC_ONLY = {"rdd", "sparkContext", "SparkContext", "_sc", "_jsc", "_jvm", "_jdf", "_jsparkSession", "_jconf"}


def classic_only(source: str) -> set[str]:
    """Names of classic Spark alone that a source uses: as attributes, as imports, or by getattr."""
    return {name for node in ast.walk(ast.parse(source)) for name in _named(node)} & CLASSIC_ONLY


def _named(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            yield name
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
            yield name
        case ast.alias(name=name):
            yield name.split(".")[-1]


def test_sources_use_what_both_sparks_have() -> None:
    assert len(SOURCES) > 80
    assert {str(path.relative_to(ROOT)): names for path in SOURCES if (names := classic_only(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("rows = df.rdd.map(tuple)", "rdd"),
        ("spark.sparkContext.setLogLevel('ERROR')", "sparkContext"),
        ("def f(df):\n    return df._jdf.queryExecution()", "_jdf"),
        ("getattr(spark, '_jvm').java", "_jvm"),
        ("spark._jsparkSession.sessionState()", "_jsparkSession"),
        ("from pyspark import SparkContext as Context", "SparkContext"),
    ],
)
def test_the_check_finds_what_is_planted(planted: str, found: str) -> None:
    assert classic_only(planted) == {found}
    assert classic_only("refused = ['rdd']; df.toArrow()") == set()
