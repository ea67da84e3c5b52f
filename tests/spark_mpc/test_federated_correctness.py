"""With the noise switched off, the parties' sums are the pooled ones: exactly, or to fixed-point precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dp.planning.aggregates import Aggregate
from spark_mpc import Federation, Overlap, Study, dp, lake
from spark_mpc.federated_frame import FederatedFrame, FederatedQuery
from spark_mpc.key_service import serve_keys
from spark_mpc.ring.masks import PairKey, add_masks
from spark_mpc.sums.additive import MaskBlock, MaskBlockOnExecutor
from tests.tools.lakes import make_ledgers, write_table
from tests.tools.twin import SharedWithoutNoise, WithoutNoise

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c", "d", "e")
COMPUTE = {"additive": (), "rep3": ("b", "c", "e")}
TWINS = {"additive": WithoutNoise(), "rep3": SharedWithoutNoise()}
CAPACITIES = {"additive": dp.PureDP(1000), "rep3": dp.ApproxDP(1000, "1e-3")}
PRICES = {"additive": ("100", 0), "rep3": ("1", "1e-6")}
"""What a release asks for; no noise is drawn, so it could be anything."""
SCHEMA = "id long, plan int, region string, v int, w long, d double, f float, n decimal(10,2)"
KEYS = [(plan, region) for plan in (0, 25, 95, 100) for region in ("north", "south", "", "Ünder 'quote`")]
EVERYTHING = {"max_total_rows": 10_000}
"""Bounds that truncate nothing, so that the pooled result is known exactly."""

INTEGERS = [None, -(2**31), -6, -5, -4, 0, 1, 2, 5, 19, 20, 21, 2**31 - 1]
LONGS = [None, -(2**63), -(2**30) - 1, -(2**30), -1, 0, 3, 2**30 - 1, 2**30, 2**63 - 1]
REALS = [
    *(None, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, 0.0),
    *(1000.0, -1000.0, math.nextafter(1000.0, 0.0), math.nextafter(1000.0, math.inf), 999.9999, -1000.001, 0.1, 1 / 3),
]
INTEGER_EDGES = (-5, 0, 1, 2, 5, 20)
REAL_EDGES = (-1000, 0, Fraction(1, 10), 999, 1000)


def made_up_rows(count: int, units: range, seed: int) -> list[tuple[object, ...]]:
    rng = np.random.default_rng(seed)

    def pick(values: list[object]) -> object:
        return values[int(rng.integers(len(values)))]

    plans, regions = [0, 25, 95, 7, None], ["north", "south", "", "North", "north ", None]
    return [
        (
            int(rng.integers(units.start, units.stop)),
            *(pick(plans), pick(regions), pick(INTEGERS), pick(LONGS), pick(REALS)),
            pick([None, math.nan, 0.1, -3.0e38, 1.5, math.inf]),
            pick([None, "0.01", "-12.34", "99999999.99"]),
        )
        for _ in range(count)
    ]


def typed(row: tuple[object, ...]) -> tuple[object, ...]:
    return (*row[:-1], None if row[-1] is None else pa.scalar(row[-1]).cast(pa.decimal128(10, 2)).as_py())


PARTY_ROWS = {
    "a": made_up_rows(150, range(40), seed=1),
    "b": made_up_rows(120, range(20, 60), seed=2),  # half of its units are at a as well
    "c": made_up_rows(90, range(100), seed=3),
    "d": [],
    "e": [(5, 25, "north", -3, 7, 2.5, 1.0, "1.00")],
}


def half_unit(bound: int) -> float:
    """The greatest rounding error of one row: 2^-21 of the power of two at or above the bound."""
    return 2.0 ** (math.ceil(math.log2(bound)) - 21)


def clamped(column: str, lower: int, upper: int) -> str:
    inside = f"greatest(least(cast({column} as double), {upper}D), {lower}D)"
    return f"CASE WHEN {column} IS NULL OR isnan(cast({column} as double)) THEN NULL ELSE {inside} END"


def binned(column: str, edges: tuple[int | Fraction, ...]) -> str:
    inner = " + ".join(f"cast({column} >= {float(edge)}D as int)" for edge in edges[1:-1])
    return f"CASE WHEN {column} IS NULL OR isnan(cast({column} as double)) THEN NULL ELSE {inner} END"


@dataclass(frozen=True)
class Case:
    """An aggregate, what Spark says of the pooled rows, and the greatest error of one row; `zero` if no row counts."""

    aggregate: Aggregate
    sql: str
    row_error: float = 0.0
    is_mean: bool = False
    zero: float = 0.0


def real_cases(column: str, bound: int) -> list[Case]:
    inside, error, imputed = clamped(column, -bound, bound), half_unit(bound), min(3, bound)  # clamped too
    return [
        Case(dp.sum(column, -bound, bound).alias(f"sum_{column}"), f"sum({inside})", error),
        Case(
            dp.sum(column, -bound, bound, missing=3).alias(f"sum3_{column}"),
            f"sum(coalesce({inside}, {imputed}D))",
            error,
        ),
        Case(dp.mean(column, -bound, bound).alias(f"mean_{column}"), f"avg({inside})", error, is_mean=True),
    ]


V, W, D = clamped("v", -5, 20), clamped("w", -(2**30), 2**30), clamped("d", -1000, 1000)
CASES = [
    Case(dp.count().alias("rows"), "count(*)"),
    Case(dp.count_units().alias("people"), "count(DISTINCT party, id)"),
    Case(dp.sum("v", -5, 20).alias("sum_v"), f"sum({V})"),
    Case(dp.sum("v", -5, 20, missing=3).alias("sum3_v"), f"sum(coalesce({V}, 3))"),
    Case(dp.mean("v", -5, 20).alias("mean_v"), f"avg({V})", 1e-12, is_mean=True, zero=7.0),
    Case(dp.mean("v", -5, 20, missing=-5).alias("mean5_v"), f"avg(coalesce({V}, -5))", 1e-12, is_mean=True, zero=7.0),
    Case(dp.unit_sum("v", -5, 20).alias("units_v"), "sum(CASE WHEN nth = 1 THEN least(greatest(total, -5), 20) END)"),
    Case(dp.variance("v", -5, 20).alias("variance_v"), f"var_pop({V})", 1e-6, is_mean=True, zero=84.0),
    Case(dp.stddev("v", -5, 20).alias("stddev_v"), f"stddev_pop({V})", 1e-6, is_mean=True, zero=math.sqrt(84)),
    Case(dp.sum("v", "-0.5", "1.5").alias("sum01_v"), f"sum({clamped('v', 0, 1)})"),  # the integers between the bounds
    Case(dp.sum("w", -(2**30), 2**30).alias("sum_w"), f"sum({W})"),
    *real_cases("d", 1000),
    Case(dp.mean("d", -1000, 1000, missing=5).alias("mean5_d"), f"avg(coalesce({D}, 5D))", half_unit(1000), True),
    Case(dp.sum("d", 0, 1).alias("sum01_d"), f"sum({clamped('d', 0, 1)})", half_unit(1)),
    *real_cases("f", 2),
    *real_cases("n", 100),
]
HISTOGRAMS = [
    (dp.histogram("v", INTEGER_EDGES).alias("h_v"), binned("v", INTEGER_EDGES), len(INTEGER_EDGES) - 1),
    (dp.histogram("d", REAL_EDGES).alias("h_d"), binned("d", REAL_EDGES), len(REAL_EDGES) - 1),
]


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, lake.Table]:
    folder = tmp_path_factory.mktemp("correctness")
    return {
        name: lake.Table.forPath(
            spark,
            write_table(spark, folder / name, SCHEMA, [typed(row) for row in rows]),
            unit="id",
            null_units="drop",
            max_units=10_000,
        )
        for name, rows in PARTY_ROWS.items()
    }


@pytest.fixture(scope="module")
def studies(
    spark: SparkSession, tables: dict[str, lake.Table], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, int], FederatedFrame]]:
    """Open studies without noise by protocol and parties; "long" takes the executors' path for every vector."""
    frames = {}
    with ExitStack() as running:
        for path, count in (("additive", 2), ("additive", 3), ("additive", 5), ("long", 3), ("rep3", 5)):
            names, protocol = NAMES[:count], "rep3" if path == "rep3" else "additive"
            study = Study(
                Federation.local(names, protocol=protocol, compute=COMPUTE[protocol]),
                spark,
                make_ledgers(tmp_path_factory.mktemp("ledgers"), names, CAPACITIES[protocol]),
                lambda party, step: None,
                protocol=TWINS[protocol],
                long_cells=10 if path == "long" else 10**6,
            )
            mine = {name: tables[name] for name in names}
            frames[path, count] = running.enter_context(study).contribute("claims", mine, overlap=Overlap(at_most=2))
        yield frames


def the_query(frame: FederatedFrame) -> FederatedQuery:
    aggregates = [*(case.aggregate for case in CASES), *(histogram for histogram, _, _ in HISTOGRAMS)]
    return frame.groupBy("plan", "region", keys=KEYS, **EVERYTHING).agg(*aggregates)


def pooled(spark: SparkSession, tables: dict[str, lake.Table], count: int) -> DataFrame:
    parts = [
        spark.read.format("delta").load(tables[name].path).withColumn("party", F.lit(name)) for name in NAMES[:count]
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.unionByName(part)
    return whole


Truths = dict[tuple[int, str], dict[str, Any]]


@pytest.fixture(scope="module")
def truth_of(spark: SparkSession, tables: dict[str, lake.Table]) -> Callable[[int], Truths]:
    """What Spark says of the pooled rows of so many parties, by group; found once for all protocols."""
    expressions = [F.expr(case.sql).alias(case.aggregate.name) for case in CASES]
    counted = [
        F.expr(f"count({case.sql[4:-1]})").alias(f"n_{case.aggregate.name}")
        for case in CASES
        if case.row_error and not case.is_mean
    ]
    bins = [
        F.expr(f"count_if(({index}) = {i})").alias(f"{histogram.name}_{i}")
        for histogram, index, width in HISTOGRAMS
        for i in range(width)
    ]
    unit = Window.partitionBy("party", "id", "plan", "region")

    def truth(count: int) -> Truths:
        rows = (
            pooled(spark, tables, count)
            .withColumn("total", F.coalesce(F.sum("v").over(unit), F.lit(0)))
            .withColumn("nth", F.row_number().over(unit.orderBy("v")))
        )
        collected = rows.groupBy("plan", "region").agg(*expressions, *counted, *bins).collect()
        return {(row["plan"], row["region"]): row.asDict() for row in collected}

    return cache(truth)


@pytest.mark.parametrize(("protocol", "count"), [("additive", 2), ("additive", 3), ("additive", 5), ("rep3", 5)])
def test_the_parties_together_answer_as_the_pooled_rows_would(
    protocol: str,
    count: int,
    truth_of: Callable[[int], Truths],
    studies: dict[tuple[str, int], FederatedFrame],
) -> None:
    release = the_query(studies[protocol, count]).release(*PRICES[protocol])
    assert release is not None
    answers = {(row["plan"], row["region"]): row for row in release.answers.values.to_pylist()}
    assert list(answers) == KEYS
    truth = truth_of(count)
    for key in KEYS:
        of_group = truth.get(key, {})
        for case in CASES:
            name = case.aggregate.name
            expected, given = of_group.get(name), answers[key][name]
            expected = case.zero if expected is None else float(expected)
            rows_with_error = 1 if case.is_mean else of_group.get(f"n_{name}", 0)
            assert abs(given - expected) <= case.row_error * rows_with_error + 1e-9 * (case.row_error > 0), (key, name)
        for histogram, _, width in HISTOGRAMS:
            assert answers[key][histogram.name] == [of_group.get(f"{histogram.name}_{i}", 0) for i in range(width)]
    assert sum(row["rows"] for row in answers.values()) > 0
    assert (100, "north") not in truth  # an empty group


@pytest.mark.parametrize("protocol", PRICES)
@pytest.mark.parametrize(
    "aggregate",
    [dp.count_distinct("v"), dp.most_frequent("plan", [0, 25]), dp.chosen_quantile("v", "0.5", -5, 20)],
    ids=lambda aggregate: type(aggregate).__name__,
)
def test_what_does_not_add_up_is_refused_before_anything_is_paid(
    protocol: str, aggregate: Aggregate, studies: dict[tuple[str, int], FederatedFrame]
) -> None:
    frame = studies[protocol, 5]
    ledgers = [party.ledger for party in frame.means.parties]
    before = [ledger.head() for ledger in ledgers]
    with pytest.raises(dp.InvalidArgument, match=rf"^agg='{aggregate.name}'.* do not add up: leave it out"):
        frame.groupBy("plan", "region", keys=KEYS, **EVERYTHING).agg(aggregate).release(*PRICES[protocol])
    assert [ledger.head() for ledger in ledgers] == before  # no entry, not even one that was given back


def test_a_long_vector_on_executors_opens_the_same_words_and_leaves_nothing_behind(
    studies: dict[tuple[str, int], FederatedFrame], tmp_path: Path
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    on_executors = the_query(studies["long", 3]).release(epsilon="100", staging=str(staging))
    on_driver = the_query(studies["additive", 3]).release(epsilon="100")
    assert on_executors is not None
    assert on_driver is not None
    assert on_executors.answers.values.equals(on_driver.answers.values)
    assert on_executors.answers.accuracy.equals(on_driver.answers.accuracy)
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(("protocol", "count"), [("additive", 3), ("rep3", 5)])
def test_filters_and_no_group_columns(
    protocol: str,
    count: int,
    spark: SparkSession,
    tables: dict[str, lake.Table],
    studies: dict[tuple[str, int], FederatedFrame],
) -> None:
    filtered = studies[protocol, count].where("v >= 0").where("region != 'south' AND d < 999")
    release = filtered.agg(
        dp.count().alias("n"), dp.count_units().alias("people"), dp.sum("v", 0, 20).alias("s"), **EVERYTHING
    ).release(*PRICES[protocol])
    assert release is not None
    truth = (
        pooled(spark, tables, count)
        .where("v >= 0 AND region != 'south' AND d < 999")
        .agg(
            F.count("*").alias("n"),
            F.count_distinct("party", "id").alias("people"),
            F.expr("sum(least(v, 20))").alias("s"),
        )
        .first()
    )
    assert truth is not None
    (row,) = release.answers.values.to_pylist()
    assert row == truth.asDict()
    assert row["n"] > 20


def test_the_closure_for_executors_holds_no_key() -> None:
    keys = (PairKey(bytes(range(16)), adds=True), PairKey(bytes(range(100, 116)), adds=False))
    words = np.arange(1000, dtype=np.uint64)
    with serve_keys(keys, "127.0.0.1") as ticket:
        pickled = cloudpickle.dumps(MaskBlockOnExecutor(1000, ticket))
        assert not any(pair.key in pickled for pair in keys)
        masked = cloudpickle.loads(pickled)(0, words)
    np.testing.assert_array_equal(masked, add_masks(words, keys, 0))
    # the search finds keys where there are some
    assert all(pair.key in cloudpickle.dumps(MaskBlock(1000, keys)) for pair in keys)
