"""Declared facts against a schema; no Spark session is needed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.declared import declared_facts

SCHEMA = T.StructType(
    [
        T.StructField("patient", T.LongType()),
        T.StructField("ward", T.StringType()),
        T.StructField("days", T.IntegerType()),
        T.StructField("cost", T.DoubleType()),
        T.StructField("tags", T.ArrayType(T.IntegerType())),
        T.StructField("person", T.StructType([T.StructField("id", T.LongType())])),
        T.StructField("folded", T.StringType("UTF8_LCASE")),
    ]
)
NOTHING: dict[str, object] = {
    **{"unit": ("patient",), "bounds": {}, "keys": {}, "max_units": 10, "null_units": "drop", "group_size": 1}
}


def test_facts_are_exact_and_frozen() -> None:
    facts = declared_facts(
        SCHEMA,
        unit=("patient", "ward"),
        bounds={"cost": (0, "2000.5"), "days": (-1, 0.1)},
        keys={"ward": ["a", "b", "z"], "days": range(3)},
        max_units=100,
        null_units="drop",
        group_size=3,
    )
    assert facts.group_size == 3
    assert facts.unit == ("patient", "ward")
    assert facts.bounds == {"cost": (Fraction(0), Fraction(4001, 2)), "days": (Fraction(-1), Fraction(1, 10))}
    assert facts.keys == {"ward": ("a", "b", "z"), "days": (0, 1, 2)}
    assert facts.max_units == 100
    with pytest.raises(TypeError):
        facts.bounds["cost"] = (Fraction(0), Fraction(1))  # type: ignore[index]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"unit": ("nobody",)}, "no such column"),
        ({"unit": ("cost",)}, "double"),
        ({"unit": ("tags",)}, "array"),
        ({"unit": ("folded",)}, "without collation"),
        ({"null_units": "refuse"}, r"\['patient'\] may be NULL.*null_units=\"drop\".*NOT NULL"),
        ({"null_units": None}, "null_units=None"),
        ({"group_size": 0}, "at least 1"),
        ({"group_size": True}, "at least 1"),
        ({"bounds": {"nothing": (0, 1)}}, "no such column"),
        ({"bounds": {"ward": (0, 1)}}, "only numbers have bounds"),
        ({"bounds": {"cost": (2, 1)}}, "the lower bound comes first"),
        ({"bounds": {"cost": (0, float("nan"))}}, "finite number"),
        ({"bounds": {"cost": (0, float("inf"))}}, "finite number"),
        ({"bounds": {"cost": ("-inf", 1)}}, "finite number"),
        ({"bounds": {"cost": (0,)}}, "pair"),
        ({"bounds": {"cost": "01"}}, "pair"),
        ({"keys": {"nothing": [1]}}, "no such column"),
        ({"keys": {"days": []}}, "non-empty"),
        ({"keys": {"days": [1, 1]}}, "name each key once"),
        ({"keys": {"days": [1, "2"]}}, "keys='2'"),
        ({"keys": {"days": [True]}}, "keys=True"),
        ({"keys": {"days": [2**31]}}, "within its range"),
        ({"keys": {"days": [1.5]}}, "an integer, a string or a boolean"),
        ({"keys": {"days": [None]}}, "an integer, a string or a boolean"),
        ({"keys": {"ward": [1]}}, "keys=1"),
        ({"keys": {"ward": "ab"}}, "list of values"),
        ({"keys": {"cost": [1]}}, "double"),
        ({"keys": {"folded": ["a"]}}, "without collation"),
        ({"max_units": 0}, "at least 1"),
        ({"max_units": True}, "at least 1"),
        ({"max_units": 1.5}, "at least 1"),
    ],
)
def test_facts_that_the_schema_contradicts(declared: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        declared_facts(SCHEMA, **{**NOTHING, **declared})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [T.ByteType(), T.ShortType(), T.IntegerType(), T.LongType(), T.StringType(), T.DateType(), T.BooleanType()],
    ids=lambda kind: kind.simpleString(),
)
def test_types_that_identify_a_unit(kind: T.DataType) -> None:
    schema = T.StructType([T.StructField("u", kind)])
    assert declared_facts(schema, unit=("u",), bounds={}, keys={}, max_units=1, null_units="drop").unit == ("u",)


@pytest.mark.parametrize(
    "kind",
    [T.FloatType(), T.DoubleType(), T.DecimalType(10, 2), T.TimestampType(), T.MapType(T.LongType(), T.LongType())],
    ids=lambda kind: kind.simpleString(),
)
def test_types_that_do_not(kind: T.DataType) -> None:
    schema = T.StructType([T.StructField("u", kind)])
    with pytest.raises(InvalidArgument, match="unit"):
        declared_facts(schema, unit=("u",), bounds={}, keys={}, max_units=1, null_units="drop")


@pytest.mark.parametrize(("kind", "bits"), [(T.ByteType(), 8), (T.ShortType(), 16), (T.LongType(), 64)])
def test_integer_keys_stay_in_the_range_of_their_column(kind: T.DataType, bits: int) -> None:
    schema = T.StructType([T.StructField("k", kind)])
    ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
    assert declared_facts(schema, unit=("k",), bounds={}, keys={"k": ends}, max_units=1, null_units="drop").keys[
        "k"
    ] == tuple(ends)
    for outside in (ends[0] - 1, ends[1] + 1):
        with pytest.raises(InvalidArgument, match="keys"):
            declared_facts(schema, unit=("k",), bounds={}, keys={"k": [outside]}, max_units=1, null_units="drop")


def test_a_unit_of_columns_that_are_never_null_needs_no_word() -> None:
    schema = T.StructType([T.StructField("u", T.LongType(), nullable=False)])
    assert declared_facts(schema, unit=("u",), bounds={}, keys={}, max_units=1).unit == ("u",)


def test_rows_as_units_have_no_columns() -> None:
    assert declared_facts(SCHEMA, unit=(), bounds={}, keys={}, max_units=1).unit == ()
