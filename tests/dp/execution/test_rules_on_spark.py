"""Every cell rule through Spark, for groups that are numbered and for groups that are coded, against the twin."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.execution.bounding import bounded_cells, bounded_groups
from dp.planning.bounds import MAX_BOUND, ContributionBounds
from dp.planning.cells import (
    BinCount,
    CellRule,
    DistinctItems,
    RowCount,
    RowSum,
    TruncatedUnits,
    UnitCount,
    UnitSizes,
    UnitTotal,
    VectorSum,
)
from tests.tools.bounding import MODULUS, Row, add_up, mix, plain_cells, reference_cells

pytestmark = pytest.mark.slow

GROUPS, SALT = 6, 99
BY_GROUP: tuple[CellRule, ...] = (
    RowCount(0, 1, ("x",)),
    UnitCount(0, 1),
    UnitSizes(0, 4, 4),
    RowSum(0, 1, ("x", "x", "y"), 7),
    RowSum(0, 1, ("y",), 0, ("x", "bin")),
    UnitTotal(0, 1, "x", -5, 2**52),
    BinCount(0, 3, "bin", 3),
    BinCount(0, 2, "bin", 2, 2),
    VectorSum(0, 2, ("y", "bin"), "l1", 5),
    VectorSum(0, 2, ("bin", "y"), "l2", 1000),
    VectorSum(0, 2, ("y", "bin"), "linf", 2),
    DistinctItems(0, 1, "x"),
    DistinctItems(0, 1, "bin"),
)
RULES = (*(replace(rule, offset=30 * place) for place, rule in enumerate(BY_GROUP)), TruncatedUnits(1000, 2))
BOUNDS = [
    ContributionBounds(max_groups=2, max_rows=2),
    ContributionBounds(max_groups=2, max_total_rows=3),
    ContributionBounds(max_groups=3),
]
EXTREMES = [None, -(2**63), 2**63 - 1, 2**62, -1, 0, 5]
SCHEMA = "who long, ward long, bin int, x long, y int"
NAMES = ("bin", "x", "y")
CODES = [0, 5, 2**40, 2**62 + 1, 2**63 - 2, 2**63 - 1]


def draw_rows(seed: int, *, codes: list[int]) -> list[tuple[int | None, ...]]:
    rng = random.Random(seed)
    return [
        (
            rng.choice([rng.randrange(30), rng.randrange(4), -(2**63)]),
            rng.choice(codes),
            rng.choice([None, -1, 0, 1, 2, 3, 4]),
            rng.choice(EXTREMES),
            rng.choice([None, -(2**21), 2**21, rng.randrange(-100, 100)]),
        )
        for _ in range(300)
    ]


def as_twin(rows: list[tuple[int | None, ...]]) -> list[Row]:
    seed = mix(SALT)
    return [
        Row(who, mix((who % MODULUS) ^ seed), ward, tuple(zip(NAMES, values, strict=True)))  # type: ignore[operator, arg-type]
        for who, ward, *values in rows
    ]


def numbered(frame: DataFrame, bounds: ContributionBounds, *, unit: tuple[str, ...], partitions: int) -> dict[int, int]:
    cells = bounded_cells(frame, unit=unit, group="ward", rules=RULES, bounds=bounds, salt=SALT, partitions=partitions)
    table = cells.toArrow()
    found = table.column("cell").to_pylist()
    assert len(set(found)) == len(found), "one row per cell"
    return add_up([(found, table.column("word").to_pylist())])


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("ansi", ["true", "false"])
def test_cells_of_every_rule_equal_the_twin(spark: SparkSession, bounds: ContributionBounds, ansi: str) -> None:
    """ATTACKS 3, 14: wrap-around in every rule, whatever the order and the partitions; nothing raises."""
    session = spark.newSession()
    session.conf.set("spark.sql.ansi.enabled", ansi)
    rows = draw_rows(1, codes=list(range(GROUPS)))
    expected = reference_cells(as_twin(rows), RULES, bounds)
    for partitions, slices in [(1, 3), (5, 2)]:
        random.Random(partitions).shuffle(rows)
        frame = session.createDataFrame(rows, SCHEMA).repartition(slices)
        assert numbered(frame, bounds, unit=("who",), partitions=partitions) == expected


def test_rows_that_are_units_all_survive(spark: SparkSession) -> None:
    rows = draw_rows(2, codes=list(range(GROUPS)))
    apart = [row._replace(unit=number) for number, row in enumerate(as_twin(rows))]
    frame = spark.createDataFrame(rows, SCHEMA).repartition(3)
    assert numbered(frame, ContributionBounds(1, 1), unit=(), partitions=3) == plain_cells(apart, RULES)


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_groups_of_any_code_have_the_cells_of_the_twin(spark: SparkSession, bounds: ContributionBounds) -> None:
    """The widest codes times the number of cells would wrap: groups are numbered within a partition."""
    offsets, width = [], 0
    for rule in BY_GROUP:
        offsets.append(width)
        width += rule.stride
    rules = [replace(rule, offset=offset, stride=width) for rule, offset in zip(BY_GROUP, offsets, strict=True)]
    rows = draw_rows(3, codes=CODES)
    cells = bounded_groups(
        spark.createDataFrame(rows, SCHEMA).repartition(3),
        unit=("who",),
        group="ward",
        rules=rules,
        bounds=bounds,
        salt=SALT,
        partitions=4,
        cells_per_group=width,
    )
    found = {(row.group, row.cell): row.word % MODULUS for row in cells.collect() if row.word}
    expected = reference_cells(as_twin(rows), rules, bounds)
    assert found == {(cell // width, cell % width): word for cell, word in expected.items()}


def test_distinct_items_are_those_of_plain_spark(spark: SparkSession) -> None:
    rows = draw_rows(4, codes=list(range(GROUPS)))
    frame = spark.createDataFrame(rows, SCHEMA)
    unbounded = ContributionBounds(MAX_BOUND, MAX_BOUND)
    cells = bounded_cells(
        frame,
        unit=("who",),
        group="ward",
        rules=[DistinctItems(0, 1, "x"), DistinctItems(GROUPS, 1, "bin"), RowCount(2 * GROUPS, 1)],
        bounds=unbounded,
        salt=SALT,
        partitions=3,
    )
    plain = frame.groupBy("ward").agg(F.countDistinct("x"), F.countDistinct("bin"), F.count("*")).collect()
    expected = {GROUPS * place + row[0]: row[1 + place] for row in plain for place in range(3)}
    assert {row.cell: row.word for row in cells.collect()} == expected
