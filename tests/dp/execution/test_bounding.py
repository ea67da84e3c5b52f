"""Bounding on Spark: the same cells as the twin, whatever the order of rows, the partitions and the settings."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from pyspark import cloudpickle
from pyspark.sql import functions as F

from dp.errors import InvalidArgument
from dp.execution.blocks import dense_vector
from dp.execution.bounding import _Kernel, bounded_cells
from dp.execution.scatter import packed_by_bucket
from dp.planning.bounds import MAX_BOUND, ContributionBounds
from dp.planning.cells import BinCount, RowCount, RowSum, UnitCount
from tests.tools.bounding import MODULUS, Row, add_up, assert_sensitivity, mix, plain_cells, reference_cells

GROUPS, BINS, LARGEST, SALT = 6, 3, 9, -12345
RULES = (
    RowCount(0, 1),
    RowCount(6, 1, ("x",)),
    UnitCount(12, 1),
    RowSum(18, 1, ("x",)),
    BinCount(24, BINS, "bin", BINS),
)
BOUNDS = [
    ContributionBounds(max_groups=2, max_rows=2),
    ContributionBounds(max_total_rows=3),
    ContributionBounds(max_groups=2, max_total_rows=3),
]
UNBOUNDED = ContributionBounds(MAX_BOUND, MAX_BOUND)
SCHEMA = "who long, ward int, x long, bin int"


def draw_rows(seed, values, *, count=400):
    """Rows (who, ward, x, bin) of 30 units, some of them far over every bound; NULLs among the values."""
    rng = random.Random(seed)
    return [
        (
            rng.choice([rng.randrange(30), rng.randrange(5), -(2**63)]),
            rng.randrange(GROUPS),
            rng.choice([None, *values]),
            rng.choice([None, -1, 0, 1, 2, BINS]),
        )
        for _ in range(count)
    ]


def as_twin(rows, salt=SALT):
    seed = mix(salt % MODULUS)
    return [Row(who, mix((who % MODULUS) ^ seed), ward, (("bin", bin_), ("x", x))) for who, ward, x, bin_ in rows]


def spark_cells(frame, bounds, *, unit=("who",), partitions=3, salt=SALT, rules=RULES):
    cells = bounded_cells(frame, unit=unit, group="ward", rules=rules, bounds=bounds, salt=salt, partitions=partitions)
    table = cells.toArrow()
    found = table.column("cell").to_pylist()
    assert len(set(found)) == len(found), "one row per cell"
    return add_up([(found, table.column("word").to_pylist())])


@pytest.mark.slow
@pytest.mark.parametrize("bounds", BOUNDS)
def test_cells_equal_the_twin_for_every_order_and_partitioning(spark, bounds):
    """ATTACKS 14: order of rows, number of partitions, empty partitions."""
    rows = draw_rows(1, range(-LARGEST, LARGEST + 1))
    expected = reference_cells(as_twin(rows), RULES, bounds)
    for partitions, slices in [(1, 1), (2, 7), (9, 3)]:
        random.Random(partitions).shuffle(rows)
        frame = spark.createDataFrame(rows, SCHEMA).repartition(slices)
        assert spark_cells(frame, bounds, partitions=partitions) == expected


@pytest.mark.slow
def test_another_salt_chooses_other_rows(spark):
    frame = spark.createDataFrame(draw_rows(1, [1, 2, 3]), SCHEMA)
    assert spark_cells(frame, BOUNDS[0], salt=1) != spark_cells(frame, BOUNDS[0], salt=2)
    assert spark_cells(frame, BOUNDS[0], salt=1) == spark_cells(frame, BOUNDS[0], salt=1 + MODULUS)


@pytest.mark.slow
@pytest.mark.parametrize("ansi", ["true", "false"])
def test_extremes_wrap_around_and_nothing_raises(spark, ansi):
    """ATTACKS 3: Spark's own sum would throw under ANSI."""
    session = spark.newSession()
    session.conf.set("spark.sql.ansi.enabled", ansi)
    rows = draw_rows(2, [-(2**63), 2**63 - 1, 2**62, -1])
    frame = session.createDataFrame(rows, SCHEMA)
    assert spark_cells(frame, UNBOUNDED, partitions=5) == plain_cells(as_twin(rows), RULES)


@pytest.mark.slow
def test_without_truncation_it_is_the_plain_aggregate(spark):
    frame = spark.createDataFrame(draw_rows(3, range(-LARGEST, LARGEST + 1)), SCHEMA)
    plain = frame.groupBy("ward").agg(F.count("*"), F.count("x"), F.countDistinct("who"), F.sum("x")).collect()
    expected = {6 * measure + row[0]: row[1 + measure] % MODULUS for row in plain for measure in range(4)}
    found = spark_cells(frame, UNBOUNDED, rules=RULES[:4])
    assert found == {cell: word for cell, word in expected.items() if word}


@pytest.mark.slow
@pytest.mark.parametrize("bounds", BOUNDS)
def test_one_unit_changes_no_more_than_the_bounds(spark, bounds):
    rows = draw_rows(4, range(-LARGEST, LARGEST + 1))
    everyone = spark_cells(spark.createDataFrame(rows, SCHEMA), bounds)
    for unit in (-(2**63), 0, 7):
        others = spark_cells(spark.createDataFrame([row for row in rows if row[0] != unit], SCHEMA), bounds)
        assert_sensitivity(everyone, others, RULES, bounds, groups=GROUPS, largest=LARGEST)


@pytest.mark.slow
def test_the_law_catches_a_plan_that_does_not_bound(spark):
    rows = draw_rows(4, range(-LARGEST, LARGEST + 1))
    everyone = spark_cells(spark.createDataFrame(rows, SCHEMA), UNBOUNDED)
    others = spark_cells(spark.createDataFrame([row for row in rows if row[0] != 0], SCHEMA), UNBOUNDED)
    with pytest.raises(AssertionError, match="L"):
        assert_sensitivity(everyone, others, RULES, BOUNDS[0], groups=GROUPS, largest=LARGEST)


def count_units(frame, unit):
    return spark_cells(frame, ContributionBounds(1, 1), unit=unit, rules=[UnitCount(0, 1)]).get(0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ddl", "values", "units"),
    [
        ("string", ["a", "A", "a ", " a", "", "á", "a", None], 6),
        ("string collate UTF8_LCASE", ["a", "A", "a"], 2),
        ("binary", [b"a", b"\xff\xfe", b"\xff\xff", b"a", None], 3),
        ("tinyint", [-128, 127, 127, None], 2),
        ("boolean", [True, False, True, None], 2),
        ("date", ["2020-01-01", "2020-01-02", "2020-01-01"], 2),
        # one instant an hour after the other: the same local time twice
        ("timestamp", ["2021-10-31 00:30:00+00:00", "2021-10-31 01:30:00+00:00"], 2),
        ("decimal(38,2)", ["1.00", "1.01", "99999999999999999999999999999999999.99", "1"], 3),
    ],
)
def test_units_are_told_apart_exactly(spark, ddl, values, units):
    """ATTACKS 17: 'a', 'A' and 'a ' are three; NULL is nobody."""
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    raw = "binary" if ddl == "binary" else "string"
    frame = session.createDataFrame([(str(v) if raw == "string" and v is not None else v,) for v in values], f"v {raw}")
    frame = frame.select(F.col("v").cast(ddl).alias("who"), F.lit(0).alias("ward"))
    assert count_units(frame, ("who",)) == units


@pytest.mark.slow
def test_units_of_several_columns_do_not_run_together(spark):
    rows = [
        ("ab", "c", 1),
        ("a", "bc", 1),
        ("a", "bc", 2),
        ("1:a", "", 1),
        ("", "1:a", 1),
        ("a", None, 1),
        ("a", "bc", 1),
    ]
    frame = spark.createDataFrame(rows, "first string, `last.name` string, n int").withColumn("ward", F.lit(0))
    assert count_units(frame, ("first", "last.name", "n")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("bounds", BOUNDS)
def test_string_units_are_bounded_as_the_twin_bounds_them(spark, bounds):
    rows = draw_rows(5, range(-LARGEST, LARGEST + 1))
    frame = spark.createDataFrame(rows, SCHEMA).withColumn("name", F.concat(F.lit("unit "), "who"))
    name_hash = F.xxhash64(F.lit(SALT), F.col("name").cast("binary"))
    hashes = {row.who: row.hash % MODULUS for row in frame.select("who", name_hash.alias("hash")).distinct().collect()}
    twins = [row._replace(unit_hash=hashes[row.unit]) for row in as_twin(rows)]
    found = spark_cells(frame, bounds, unit=("name",), partitions=4)
    assert found == reference_cells(twins, RULES, bounds)


@pytest.mark.slow
def test_rows_of_nobody_and_of_no_group_have_no_effect(spark):
    rows = draw_rows(6, [1, 2, 3])
    nobody = [(None, 0, 5, 1), (3, None, 5, 1), (3, -1, 5, 1)]
    found = spark_cells(spark.createDataFrame(rows + nobody, SCHEMA), BOUNDS[0])
    assert found == spark_cells(spark.createDataFrame(rows, SCHEMA), BOUNDS[0])


@pytest.mark.slow
def test_no_rows_and_one_row(spark):
    assert spark_cells(spark.createDataFrame([], SCHEMA), BOUNDS[0]) == {}
    one = spark.createDataFrame([(1, 0, None, None)], SCHEMA)
    assert spark_cells(one, BOUNDS[0], partitions=8) == {0: 1, 12: 1}


@pytest.mark.slow
def test_two_actions_and_a_dense_vector_agree(spark):
    frame = spark.createDataFrame(draw_rows(7, range(LARGEST)), SCHEMA)
    cells = bounded_cells(frame, unit=("who",), group="ward", rules=RULES, bounds=BOUNDS[0], salt=SALT, partitions=3)
    first = dense_vector(cells, 42)
    assert (first == dense_vector(cells, 42)).all()
    assert {cell: int(word) for cell, word in enumerate(first) if word} == spark_cells(frame, BOUNDS[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"unit": ("nobody",)}, "column"),
        ({"unit": ("height",)}, "unit"),
        ({"group": "name"}, "column"),
        ({"rules": (RowSum(0, 1, ("height",)),)}, "column"),
        ({"rules": (RowSum(0, 1, ("weight",)),)}, "column"),
        ({"partitions": 0}, "partitions"),
    ],
)
def test_bad_requests_are_refused_before_any_row_is_read(spark, change, parameter):
    frame = spark.range(1).selectExpr("id as who", "0 as ward", "raise_error('read') as name", "0.5D as height")
    good = {"unit": ("who",), "group": "ward", "rules": RULES[:1], "bounds": BOUNDS[0], "salt": 1}
    with pytest.raises(InvalidArgument) as error:
        bounded_cells(frame, **{"partitions": 2, **good, **change})
    assert error.value.parameter == parameter


def test_the_worker_gets_names_not_code():
    """What is shipped must be importable from a zip: the pickle refers to the module instead of carrying it."""
    shipped = cloudpickle.dumps(_Kernel(RULES, BOUNDS[0], salt=1))
    assert b"dp.execution.bounding" in shipped
    assert len(shipped) < 1000


def test_an_empty_partition_gives_nothing():
    empty = pa.RecordBatch.from_pylist([], pa.schema([("unit", pa.int64()), ("group", pa.int32())]))
    packed = list(packed_by_bucket([empty, empty], salt=1, buckets=3))
    for batches in ([], packed, [*packed, *packed], [empty.select(["group"])]):
        assert list(_Kernel(RULES[:1], BOUNDS[0], salt=1)(iter(batches))) == []


@pytest.mark.parametrize("columns", [["group"], ["unit", "group"]])
def test_an_empty_batch_among_others_loses_nothing(columns):
    rows = pa.RecordBatch.from_pydict({"unit": [1, 2, 3], "group": pa.array([0, 0, 1], pa.int32())}).select(columns)
    batches = [rows.slice(0, 0), rows, rows.slice(0, 0), rows]
    if "unit" in columns:
        packed = list(packed_by_bucket(batches, salt=1, buckets=1))
        batches = [packed[0].slice(0, 0), *packed]
    partials = pa.Table.from_batches(_Kernel(RULES[:1], UNBOUNDED, salt=1)(iter(batches)))
    assert dict(zip(partials["cell"].to_pylist(), partials["word"].to_pylist(), strict=True)) == {0: 4, 1: 2}
