"""Bad input: a clear error that names parameter, value and remedy, before any ledger has any entry.

Bad values of rows are no errors: they have a documented treatment, the same on both sides of a neighbouring pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import spark_mpc as mpc
from lake.ledger import Ledger
from spark_mpc import dp, lake
from spark_mpc.federated_frame import FederatedFrame
from tests.tools.lakes import make_ledgers, nothing_entered, write_table
from tests.tools.twin import WithoutNoise

pytestmark = pytest.mark.slow

NAMES = ("a", "b")
SCHEMA = "id long, k int, s string, v int, d double, day date, flag boolean"
ROWS = [(1, 0, "x", 3, 1.5, None, True), (2, 1, "y", None, math.nan, None, None)]
BOUNDS = {"max_groups": 1, "max_rows": 1}


@dataclass(frozen=True)
class World:
    """An open study over two small lakes."""

    study: mpc.Study
    frame: FederatedFrame
    tables: dict[str, lake.Table]
    ledgers: dict[str, Ledger]

    @property
    def groups(self) -> object:
        return self.frame.groupBy("k", keys=[0, 1], **BOUNDS)


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad input")
    path = write_table(spark, folder / "t", SCHEMA, ROWS)
    tables = {name: lake.Table.forPath(spark, path, unit="id", null_units="drop", max_units=1000) for name in NAMES}
    ledgers = make_ledgers(folder, NAMES)
    with mpc.Federation.local(NAMES).session(spark, ledger=ledgers) as study:
        yield World(study, study.contribute("t", tables), tables, ledgers)


Ask = Callable[[World], object]

REFUSED: dict[str, tuple[Ask, str]] = {
    "missing column": (
        lambda w: w.groups.agg(dp.sum("nope", 0, 1)),
        "column='nope': no such column; there are",
    ),
    "text column": (lambda w: w.groups.agg(dp.mean("s", 0, 1)), "column='s': no such numeric column; there are"),
    "date column": (lambda w: w.groups.agg(dp.sum("day", 0, 1)), "column='day': no such numeric column"),
    "boolean column": (lambda w: w.groups.agg(dp.sum("flag", 0, 1)), "column='flag': no such numeric column"),
    "no such group": (lambda w: w.frame.groupBy("nope", keys=[1], **BOUNDS), "groupBy='nope': no such column"),
    "group of doubles": (lambda w: w.frame.groupBy("d", keys=[1], **BOUNDS), "groupBy='d double': a key is an integer"),
    "key of another type": (lambda w: w.frame.groupBy("k", keys=["0"], **BOUNDS), "keys='0': column 'k' is int"),
    "boolean for integer": (lambda w: w.frame.groupBy("k", keys=[True], **BOUNDS), "keys=True: column 'k' is int"),
    "key out of range": (lambda w: w.frame.groupBy("k", keys=[2**31], **BOUNDS), "keys=2147483648: column 'k' is int"),
    "integer for text": (lambda w: w.frame.groupBy("s", keys=[0], **BOUNDS), "keys=0: column 's' is string"),
    "no keys": (lambda w: w.frame.groupBy("k", **BOUNDS), "keys=None: over several lakes keys are public"),
    "a float key": (lambda w: w.frame.groupBy("k", keys=[0.0], **BOUNDS), "keys=0.0: a key is an integer"),
    "a key twice": (lambda w: w.frame.groupBy("k", keys=[0, 0], **BOUNDS), "each only once"),
    "no row bound": (lambda w: w.frame.groupBy("k", keys=[0]), "max_groups=None: give max_groups and max_rows"),
    "half a row bound": (
        lambda w: w.frame.groupBy("k", keys=[0], max_groups=1).agg(dp.count()),
        "max_rows=None: what adds up rows needs a bound",
    ),
    "no row bound at all": (lambda w: w.frame.agg(dp.count()), "max_rows=None: what adds up rows needs a bound"),
    "zero rows": (lambda w: w.frame.agg(dp.count(), max_rows=0), "max_rows=0: a contribution bound is an integer"),
    "a float bound": (lambda w: w.frame.agg(dp.count(), max_rows=1.0), "max_rows=1.0: a contribution bound"),
    "endless rows": (lambda w: w.frame.agg(dp.count(), max_rows=math.inf), "max_rows=inf: a contribution bound"),
    "no aggregate": (lambda w: w.groups.agg(), "agg=.*: name at least one aggregate"),
    "a name in place of one": (lambda w: w.groups.agg("count"), "agg=.*: give dp aggregates"),
    "one name twice": (lambda w: w.groups.agg(dp.count(), dp.count()), "use .alias"),
    "the name of a group": (lambda w: w.groups.agg(dp.count().alias("k")), "use .alias"),
    "no bounds": (lambda w: w.groups.agg(dp.sum("v")), "bounds=None: give 'v' a lower and an upper bound"),
    "reversed bounds": (lambda w: w.groups.agg(dp.sum("v", 2, 1)), r"bounds=\(2, 1\): the lower bound comes first"),
    "a NaN bound": (lambda w: w.groups.agg(dp.sum("d", 0, math.nan)), "upper=nan: give a finite number"),
    "an endless bound": (lambda w: w.groups.agg(dp.sum("d", -math.inf, 0)), "lower=-inf: give a finite number"),
    "no epsilon": (lambda w: w.groups.agg(dp.count()).release(), "epsilon=None: give epsilon"),
    "epsilon and rho": (lambda w: w.groups.agg(dp.count()).release(epsilon=1, rho=1), "epsilon=1: give epsilon"),
    "epsilon 0": (lambda w: w.groups.agg(dp.count()).release(epsilon=0), "epsilon=0: a release costs something"),
    "epsilon < 0": (
        lambda w: w.groups.agg(dp.count()).release(epsilon="-1"),
        "epsilon='-1': a release costs something",
    ),
    "epsilon NaN": (lambda w: w.groups.agg(dp.count()).release(epsilon=math.nan), "epsilon=nan: give a finite number"),
    "epsilon inf": (lambda w: w.groups.agg(dp.count()).release(epsilon=math.inf), "epsilon=inf: give a finite number"),
    "delta 1": (lambda w: w.groups.agg(dp.count()).release(epsilon=1, delta=1), "delta=1: delta is a probability"),
    "rho on a pure ledger": (
        lambda w: w.groups.agg(dp.count()).release(rho=1),
        "rho=.1.: this ledger counts in PureDP",
    ),
    "unknown recipient": (
        lambda w: w.groups.agg(dp.count()).release(epsilon=1, recipients=["c"]),
        r"recipients=\['c'\]: name at least one of \['a', 'b'\]",
    ),
    "no recipient": (
        lambda w: w.groups.agg(dp.count()).release(epsilon=1, recipients=[]),
        r"recipients=\[\]: name at least one of",
    ),
    "a sum that could wrap": (
        lambda w: w.groups.agg(dp.sum("v", 0, 2**52)).release(epsilon=1),
        r"max_units=1000: a sum of 'total' could reach \d+ and wrap at 2\^63",
    ),
    "overlap 0": (lambda w: mpc.Overlap(at_most=0), "at_most=0: a unit is at 1 party or more"),
    "overlap that is no Overlap": (
        lambda w: w.study.contribute("t", w.tables, overlap=2),
        r"overlap=2: give mpc.DISJOINT or mpc.Overlap\(at_most=...\)",
    ),
    "a table too few": (lambda w: w.study.contribute("t", {"a": w.tables["a"]}), "table=.*: give one table for each"),
    "a condition on no column": (lambda w: w.frame.where("nope > 1"), "condition='nope > 1': 'nope' is no column"),
    "a condition that may raise": (lambda w: w.frame.where("raise_error('x') IS NULL"), "condition="),
    "a condition on other rows": (lambda w: w.frame.where("v > (SELECT 1)"), "condition="),
    "a random condition": (lambda w: w.frame.where("rand() < 0.5"), "condition="),
}


@pytest.mark.parametrize("ask", REFUSED)
def test_is_refused_before_anything_is_reserved(ask: str, world: World) -> None:
    asked, message = REFUSED[ask]
    with pytest.raises(dp.InvalidArgument, match=message):
        asked(world)
    assert nothing_entered(world.ledgers.values())


@pytest.mark.parametrize(
    ("unit", "message"),
    [((), "unit="), ("nope", "unit='nope': no such column"), ("d", "unit='d double': a unit column has an exact type")],
)
def test_a_table_without_a_unit_is_no_table(
    unit: str | tuple[str, ...], message: str, world: World, spark: SparkSession
) -> None:
    with pytest.raises(dp.InvalidArgument, match=message):
        lake.Table.forPath(spark, world.tables["a"].path, unit=unit, null_units="drop")


def test_a_study_is_used_inside_its_block(world: World, spark: SparkSession) -> None:
    study = mpc.Federation.local(NAMES).session(spark, ledger=world.ledgers)
    for _ in range(2):
        with pytest.raises(dp.InvalidArgument, match="study='closed': use it inside its `with` block"):
            study.contribute("t", world.tables)
        with study:
            frame = study.contribute("t", world.tables)
    with pytest.raises(dp.SparkMpcError, match="closed"):
        frame.agg(dp.count(), max_rows=1).release(epsilon=1)
    assert nothing_entered(world.ledgers.values())


@pytest.mark.parametrize("ledgers", [{}, {"a"}, {"a", "b", "c"}])
def test_one_ledger_for_every_party_of_the_process(ledgers: set[str], world: World, spark: SparkSession) -> None:
    given = {name: world.ledgers.get(name, world.ledgers["a"]) for name in ledgers}
    with pytest.raises(dp.InvalidArgument, match=r"ledger=.*give one ledger for each of"):
        mpc.Federation.local(NAMES).session(spark, ledger=given)


BAD_ROWS = [
    (7, 0, "x", None, math.nan, None, None),
    (7, 0, "x", 2**31 - 1, math.inf, None, None),
    (7, 1, None, -(2**31), -math.inf, None, None),
    (7, None, "é\0", 5, -0.0, None, None),
    (None, 0, "x", 5, 5.0, None, None),
]
"""Everything that one unit (and a row of nobody) may bring along."""


def test_bad_values_are_treated_as_documented_with_and_without_the_unit_that_has_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    """In a session with ANSI on: no value raises, and the unit moves the sums by no more than its bounds allow."""
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"
    paths = {
        "with": write_table(spark, tmp_path / "with", SCHEMA, [*ROWS, *BAD_ROWS]),
        "without": write_table(spark, tmp_path / "without", SCHEMA, ROWS),
    }
    other = write_table(spark, tmp_path / "other", SCHEMA, ROWS)
    answers = {}
    for side, path in paths.items():
        tables = {
            "a": lake.Table.forPath(spark, path, unit="id", null_units="drop", max_units=1000),
            "b": lake.Table.forPath(spark, other, unit="id", null_units="drop", max_units=1000),
        }
        (tmp_path / f"{side} ledgers").mkdir()
        ledgers = make_ledgers(tmp_path / f"{side} ledgers", NAMES)
        federation = mpc.Federation.local(NAMES)
        with mpc.Study(federation, spark, ledgers, lambda party, step: None, protocol=WithoutNoise()) as study:
            frame = study.contribute("t", tables, overlap=mpc.DISJOINT)
            frame = frame.where("v IS NULL OR v % 0 IS NULL OR cast(s AS int) > 0 OR d / 0 > 1")
            release = (
                frame.groupBy("k", keys=[0, 1], max_total_rows=10)
                .agg(
                    dp.count().alias("n"),
                    dp.count_units().alias("people"),
                    dp.sum("v", 0, 20).alias("v"),
                    dp.sum("v", 0, 20, missing=7).alias("v7"),
                    dp.sum("d", -4, 4).alias("d"),
                    dp.sum("d", -4, 4, missing=1).alias("d1"),
                    dp.mean("d", -4, 4).alias("m"),
                    dp.histogram("d", [-4, 0, 4]).alias("h"),
                )
                .release(epsilon="1000")
            )
        assert release is not None
        answers[side] = release.answers.values.to_pylist()
    assert answers["without"] == [
        {"k": 0, "n": 2, "people": 2, "v": 6.0, "v7": 6.0, "d": 3.0, "d1": 3.0, "m": 1.5, "h": [0, 2]},
        {"k": 1, "n": 2, "people": 2, "v": 0.0, "v7": 14.0, "d": 0.0, "d1": 2.0, "m": 0.0, "h": [0, 0]},
    ]
    assert answers["with"] == [
        # NULL and NaN count as rows, and in sums as nothing or as `missing`; the infinities are clamped
        {"k": 0, "n": 4, "people": 3, "v": 26.0, "v7": 33.0, "d": 7.0, "d1": 8.0, "m": 7 / 3, "h": [0, 3]},
        {"k": 1, "n": 3, "people": 3, "v": 0.0, "v7": 14.0, "d": -4.0, "d1": -2.0, "m": -4.0, "h": [1, 0]},
    ]
