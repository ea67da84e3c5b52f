"""The parameters of Privacy on Beam and PipelineDP do here what they do there: one test a row of docs/peers.md.

Everything goes through the public face, on one Delta table. Answers are compared with exact ones that are written down
here, at an epsilon of 10^9. Noise then has scales below 10^-6: an integer is off with a probability below e^-10^5, and
a real by more than `CLOSE` with one below e^-50. Private keys are asked for at `SURE`: a group of two units is left out
with a probability below e^-50, a group of a single one is named with one of 10^-9.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import exp, sqrt
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dp.planning.explanation import Explanation
from lake.ledger import Ledger
from spark_mpc import dp, lake
from tests.tools.lakes import write_table

slow = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "docs" / "peers.md"
HERE = "../tests/e2e/test_conformance.py"

UNITS, WARDS = 30, ["a", "b", "c", "d"]
VALUES = (1, 2, 9)  # the rows of every unit in every ward
ROWS = UNITS * len(VALUES)  # of every ward
KINDS = {"big": 15, "middle": 11, "few": 3, "one": 1}  # the units of each; every unit is in one

EPSILON = 10**9
SURE = {"epsilon": "1000", "delta": "1e-9"}
CLOSE = 1e-4

SCHEMA = (
    "id long, person struct<name: string, floor: int>, house int, door int, ward string, kind string, "
    "v int, visit long, x double, y double, tags array<string>"
)


def kind_of(unit: int) -> str:
    kinds = [kind for kind, units in KINDS.items() for _ in range(units)]
    return kinds[unit]


def visits() -> Iterator[tuple[object, ...]]:
    """Every unit has the rows `VALUES` in every ward; ten names, fifteen houses of two doors each."""
    for unit in range(UNITS):
        for w, ward in enumerate(WARDS):
            for i, v in enumerate(VALUES):
                visit = (unit * len(WARDS) + w) * len(VALUES) + i
                person = (f"name {unit % 10}", unit % 3)
                tags = ["first", "second", "third"]
                yield unit, person, unit // 2, unit % 2, ward, kind_of(unit), v, visit, 3.0, 4.0, tags


@pytest.fixture(scope="module")
def path(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(spark, tmp_path_factory.mktemp("lake") / "visits", SCHEMA, list(visits()))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("ledgers")
    with Ledger.create(folder / "ledger.sqlite", capacity=dp.ApproxDP(10**12, "1/10")) as created:
        yield created


def table_of(spark: SparkSession, path: str, unit: Any = "id", **declared: Any) -> lake.Table:
    return lake.Table.forPath(spark, path, unit=unit, null_units="drop", max_units=10_000, **declared)


@pytest.fixture(scope="module")
def frame(spark: SparkSession, path: str) -> dp.PrivateFrame:
    return table_of(spark, path).private()


def values(release: dp.Release, column: str = "count", by: Sequence[str] = ("ward",)) -> dict[Any, Any]:
    """A column of the answer, by key."""
    rows = release.df.collect()
    return {row[by[0]] if len(by) == 1 else tuple(row[name] for name in by): row[column] for row in rows}


def close(value: Any) -> Any:
    """Numbers as near as `CLOSE`; names alike."""
    return pytest.approx(value, abs=CLOSE)


@pytest.fixture(scope="module")
def everything(frame: dp.PrivateFrame, ledger: Ledger) -> dict[str, Any]:
    """One release of all aggregates, with bounds that drop no row, as it is in each ward."""
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(
        dp.count(),
        dp.count_units(),
        dp.count_distinct("visit"),
        dp.sum("v", 0, 5),
        dp.sum("v", 0, 9).alias("unclamped"),
        dp.unit_sum("v", 0, 10),
        dp.mean("v", 0, 5),
        dp.variance("v", 0, 5),
        dp.stddev("v", 0, 5),
        dp.quantiles("v", ["0.1", "0.5", "0.9"], 0, 10),
        dp.median("v", 0, 10),
        dp.min("v", 0, 10),
        dp.max("v", 0, 10),
        dp.vector_sum(["x", "y"], bound=4, norm="l1").alias("l1"),
        dp.vector_sum(["x", "y"], bound=4, norm="l2").alias("l2"),
        dp.vector_sum(["x", "y"], bound=3, norm="linf").alias("linf"),
        dp.most_frequent("kind", list(KINDS), k=2),
        dp.truncated_share(),
    )
    rows = [row.asDict() for row in query.release(EPSILON, ledger=ledger).df.orderBy("ward").collect()]
    assert [row.pop("ward") for row in rows] == WARDS
    assert all(row[name] == close(value) for row in rows for name, value in rows[0].items()), "the wards are alike"
    found: dict[str, Any] = rows[0]
    return found


# whose rows they are: units, budgets


@slow
def test_a_private_frame_is_a_table_or_a_dataframe_with_a_unit(
    spark: SparkSession, path: str, frame: dp.PrivateFrame, ledger: Ledger
) -> None:
    df = spark.read.format("delta").load(path)
    accessor: Any = df.dp
    for private in (frame, accessor(unit="id", null_units="drop"), dp.private(df, unit="id", null_units="drop")):
        query = private.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(dp.count_units())
        assert values(query.release(EPSILON, ledger=ledger), "count_units") == dict.fromkeys(WARDS, UNITS)


@slow
@pytest.mark.parametrize(("unit", "units"), [("person.name", 10), (("house", "door"), 30)], ids=["nested", "several"])
def test_a_unit_may_be_nested_or_several_columns(
    unit: Any, units: int, spark: SparkSession, path: str, ledger: Ledger
) -> None:
    query = table_of(spark, path, unit).private().agg(dp.count_units(), dp.count(), max_rows=2)
    (row,) = query.release(EPSILON, ledger=ledger).df.collect()
    assert row.asDict() == {"count_units": units, "count": 2 * units}


@slow
def test_every_row_may_be_a_unit(spark: SparkSession, path: str, ledger: Ledger) -> None:
    """Where rows have no identifier: no bounds are named, and each row counts."""
    query = table_of(spark, path, dp.ROW).private().groupBy("ward", keys=WARDS).agg(dp.count())
    assert values(query.release(EPSILON, ledger=ledger)) == dict.fromkeys(WARDS, ROWS)


@slow
def test_a_ledger_counts_in_its_own_kind_of_budget(frame: dp.PrivateFrame, tmp_path: Path) -> None:
    query = frame.agg(dp.count(), max_rows=12)
    asked: list[tuple[dp.Budget, dict[str, Any], dp.Budget]] = [
        (dp.PureDP(2), {"epsilon": "1/2"}, dp.PureDP("1/2")),
        (dp.ApproxDP(2, "1e-5"), {"epsilon": "1/2", "delta": "1e-6"}, dp.ApproxDP("1/2", "1e-6")),
        (dp.ZCDP(2), {"rho": "1/2"}, dp.ZCDP("1/2")),
        (dp.ZCDP(2), {"epsilon": "1/2"}, dp.ZCDP("1/8")),  # epsilon^2 / 2
    ]
    for i, (capacity, budget, price) in enumerate(asked):
        with Ledger.create(tmp_path / f"{i}.sqlite", capacity=capacity) as ledger:
            assert query.release(**budget, ledger=ledger).price == price
            assert ledger.spent() == price
            with pytest.raises(dp.BudgetExceeded):
                query.release(**{**budget, next(iter(budget)): 5}, ledger=ledger)
            assert ledger.spent() == price


@slow
def test_many_aggregates_compose_more_sharply_than_one_by_one(frame: dp.PrivateFrame) -> None:
    """With a delta, sixteen sums have no more than about sqrt(16) times the noise of one, in place of 16 times."""

    def error(sums: int) -> float:
        aggregates = [dp.sum("v", 0, 5 + i).alias(f"sum_{i}") for i in range(sums)]
        query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(*aggregates).noise("gaussian")
        return query.explain(1, "1e-6").errors["sum_0"].half_width

    assert 3 < error(16) / error(1) < 4.5


@slow
def test_weights_split_the_budget(frame: dp.PrivateFrame) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    even = groups.agg(dp.count(), dp.sum("v", 0, 5)).explain(10).errors
    uneven = groups.agg(dp.count().weight(3), dp.sum("v", 0, 5)).explain(10).errors
    alone = groups.agg(dp.count()).explain("7.5").errors
    assert uneven["count"].half_width == alone["count"].half_width < even["count"].half_width
    assert uneven["sum_v"].half_width == pytest.approx(2 * even["sum_v"].half_width, rel=0.1)


@slow
def test_one_aggregate_gets_the_whole_budget(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(dp.count_units())
    release = query.release("0.3", ledger=ledger)
    assert release.price == dp.ApproxDP("0.3", 0)
    assert release.answers.accuracy["stddev"].to_pylist() == [pytest.approx(laplace_stddev(4 / 0.3))] * len(WARDS)


@slow
def test_selection_has_a_pot_of_its_own(frame: dp.PrivateFrame) -> None:
    def explained(epsilon: str, delta: str, keys: Any) -> Explanation:
        groups = frame.groupBy("kind", keys=keys, max_groups=1, max_rows=12)
        return groups.agg(dp.count(), dp.sum("v", 0, 5)).noise("laplace").explain(epsilon, delta)

    pots = explained("1", "1e-6", dp.private_keys(epsilon="0.25", delta="4e-7"))
    assert "the selection spends epsilon=0.25, delta=4e-07" in str(pots)
    weighted = explained("1", "1e-6", dp.private_keys(weight=3))
    assert "the selection spends epsilon=0.6, delta=1e-06" in str(weighted)
    assert pots.errors["count"].half_width < weighted.errors["count"].half_width


@slow
def test_noise_is_laplace_or_gaussian_on_request(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(dp.count())
    for family in ("laplace", "gaussian"):
        asked = query.noise(family)
        assert f"discrete {family}" in "\n".join(asked.explain(1, "1e-6").sections["Noise"])
        counts = values(asked.release(EPSILON, "1e-6", ledger=ledger))
        # no discrete Gaussian has a standard deviation below 1/2: 10 is twenty of them
        assert counts == dict.fromkeys(WARDS, ROWS if family == "laplace" else pytest.approx(ROWS, abs=10))
    with pytest.raises(dp.InvalidArgument, match="noise='gaussian'"):
        query.noise("gaussian").explain(1)


@slow
def test_the_noise_of_least_error_is_the_default(frame: dp.PrivateFrame) -> None:
    """Where a unit is in one group Laplace noise is smaller; where it is in many, Gaussian noise."""
    hours = range(400)
    for groups, family in ((1, "laplace"), (400, "gaussian")):
        query = frame.groupBy("v", keys=hours, max_groups=groups, max_rows=1).agg(dp.count())
        explained = {noise: query.noise(noise).explain(1, "1e-6") for noise in ("best", "laplace", "gaussian")}
        widths = {noise: explanation.errors["count"].half_width for noise, explanation in explained.items()}
        assert widths["best"] == widths[family] == min(widths.values())
        assert f"discrete {family}" in "\n".join(explained["best"].sections["Noise"])


# rows: what becomes of them before they are grouped


@slow
def test_rows_are_filtered_and_mapped(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    mapped = frame.where("v > 1 and kind <> 'one'").withColumn("cents", "v * 100 + door").select("ward", "cents")
    query = mapped.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    rows = query.agg(dp.count(), dp.count_units(), dp.sum("cents", 0, 1000)).release(EPSILON, ledger=ledger).df
    units = UNITS - KINDS["one"]
    total = units * (200 + 900) + 2 * 14  # the unit of kind "one" is behind the second door of the last house
    expected = (2 * units, units, total)
    assert [tuple(row)[1:] for row in rows.collect()] == [expected] * len(WARDS)


@slow
def test_explode_makes_a_row_of_each_item(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    tags = ["first", "second", "third", "fourth"]
    exploded = frame.explode("tags", max_items=2, alias="tag")
    query = exploded.groupBy("tag", keys=tags, max_groups=4, max_rows=12).agg(dp.count())
    every_row = ROWS * len(WARDS)
    counts = values(query.release(EPSILON, ledger=ledger), by=["tag"])
    assert counts == {"first": every_row, "second": every_row, "third": 0, "fourth": 0}


@slow
def test_keys_and_values_need_not_be_dropped(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """A frame has any columns; one query groups by none of them, one by two."""
    (row,) = frame.agg(dp.count(), dp.sum("v", 0, 5), max_rows=12).release(EPSILON, ledger=ledger).df.collect()
    assert tuple(row) == (ROWS * len(WARDS), 8 * UNITS * len(WARDS))
    keys = [("a", 0), ("a", 1), ("d", 1)]
    query = frame.groupBy("ward", "door", keys=keys, max_groups=4, max_rows=3).agg(dp.count())
    assert values(query.release(EPSILON, ledger=ledger), by=["ward", "door"]) == dict.fromkeys(keys, ROWS / 2)


# groups: public and private keys


@slow
def test_public_keys_are_a_list_or_a_dataframe(
    spark: SparkSession, path: str, frame: dp.PrivateFrame, ledger: Ledger
) -> None:
    """Missing keys appear and others vanish, before bounds are applied: all of a unit's one group is "a" or "d"."""
    expected = {"a": ROWS, "nowhere": 0}
    listed = list(expected)
    frames: list[tuple[dp.PrivateFrame, Any]] = [
        (frame, listed),
        (frame, spark.createDataFrame([(key, 1) for key in listed], "ward string, n int")),
    ]
    declared = table_of(spark, path, keys={"ward": listed}).private()
    for private, keys in [*frames, (declared, None)]:
        query = private.groupBy("ward", keys=keys, max_groups=1, max_rows=3).agg(dp.count())
        assert values(query.release(EPSILON, ledger=ledger)) == expected


@slow
@pytest.mark.parametrize("strategy", ["truncated_geometric", "laplace", "gaussian"])
def test_private_keys_are_selected_by_a_strategy(strategy: Any, frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """A group of a single unit is named with the probability delta only."""
    keys = dp.private_keys(strategy=strategy)
    query = frame.groupBy("kind", keys=keys, max_groups=1, max_rows=12).agg(dp.count_units())
    (how, _) = query.explain(**SURE).sections["Private keys"]
    assert f"drawn by {strategy.replace('_', ' ')}" in how
    found = values(query.release(**SURE, ledger=ledger), "count_units", by=["kind"])
    assert found == {kind: units for kind, units in KINDS.items() if units > 1}


@slow
def test_keys_are_private_where_none_are_declared(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    query = frame.groupBy("kind", max_groups=1, max_rows=12).agg(dp.count())
    with pytest.raises(dp.InvalidArgument, match="private keys need a delta"):
        query.release(1000, ledger=ledger)
    assert sorted(values(query.release(**SURE, ledger=ledger), by=["kind"])) == ["big", "few", "middle"]


@slow
def test_rare_groups_may_be_added_up_under_one_key(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    keys = dp.private_keys(min_units=10, other="other")
    query = frame.groupBy("kind", keys=keys, max_groups=1, max_rows=12).agg(dp.count())
    found = values(query.release(**SURE, ledger=ledger), by=["kind"])
    assert found == {"big": 15 * 12, "middle": 11 * 12, "other": 4 * 12}


@slow
@pytest.mark.parametrize(("min_units", "named"), [(9, ["big", "middle"]), (14, ["big"])])
def test_groups_of_fewer_units_are_not_named(
    min_units: int, named: list[str], frame: dp.PrivateFrame, ledger: Ledger
) -> None:
    keys = dp.private_keys(min_units=min_units)
    release = frame.groupBy("kind", keys=keys, max_groups=1).agg().release(**SURE, ledger=ledger)
    assert [row["kind"] for row in release.df.collect()] == named


@slow
def test_keys_are_released_alone(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """The names of the groups, and nothing else, for the whole budget."""
    query = frame.groupBy("kind", "door", max_groups=1).agg()
    release = query.release(**SURE, ledger=ledger)
    assert release.df.columns == ["kind", "door"]
    expected = [("big", 0), ("big", 1), ("few", 0), ("middle", 0), ("middle", 1)]  # ("few", 1) has a single unit
    assert [tuple(row) for row in release.df.collect()] == expected
    assert "the selection spends epsilon=1000, delta=1e-09" in str(query.explain(**SURE))


# bounds: how much of a unit counts


@slow
def test_max_groups_drops_the_groups_beyond_it(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_groups=2, max_rows=3)
    release = groups.agg(dp.count(), dp.count_units(), dp.truncated_share()).release(EPSILON, ledger=ledger)
    units = values(release, "count_units")
    assert sum(units.values()) == 2 * UNITS
    assert values(release) == {ward: 3 * count for ward, count in units.items()}, "groups go as a whole"
    assert values(release, "truncated_share") == dict.fromkeys(WARDS, close(1.0))


@slow
def test_max_rows_drops_the_rows_beyond_it(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=2).agg(dp.count(), dp.count_units())
    release = query.release(EPSILON, ledger=ledger)
    assert values(release) == dict.fromkeys(WARDS, 2 * UNITS)
    assert values(release, "count_units") == dict.fromkeys(WARDS, UNITS)


@slow
def test_max_total_rows_bounds_all_groups_together(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_total_rows=5)
    release = groups.agg(dp.count(), dp.histogram("v", [1, 2, 9])).release(EPSILON, ledger=ledger)
    assert sum(values(release).values()) == 5 * UNITS
    assert {w: sum(bins) for w, bins in values(release, "histogram_v").items()} == values(release)


@slow
def test_units_and_their_sums_need_max_groups_alone(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_groups=2)
    release = groups.agg(dp.count_units(), dp.unit_sum("v", 0, 10)).release(EPSILON, ledger=ledger)
    units = values(release, "count_units")
    assert sum(units.values()) == 2 * UNITS
    assert values(release, "unit_sum_v") == {ward: 10 * count for ward, count in units.items()}
    with pytest.raises(dp.InvalidArgument, match="max_rows"):
        groups.agg(dp.count())


@slow
def test_bounds_are_chosen_privately_on_request(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """Twelve rows of a unit, and values from 1 to 9: powers of two around them."""
    spent = ledger.spent()
    query = frame.groupBy("ward", keys=WARDS, bounds="auto").agg(dp.count(), dp.sum("v"))
    release = query.release(EPSILON, ledger=ledger)
    assert dict(release.chosen) == {
        "rows of one unit": "at most 16 row(s) of one unit",
        "v": "v within 1 and 16",
    }
    assert values(release) == dict.fromkeys(WARDS, ROWS)
    assert values(release, "sum_v") == dict.fromkeys(WARDS, 12 * UNITS)
    paid = ledger.spent()
    assert isinstance(spent, dp.ApproxDP)
    assert isinstance(paid, dp.ApproxDP)
    assert paid.epsilon - spent.epsilon == EPSILON


@slow
def test_bounds_may_be_declared_with_the_table(spark: SparkSession, path: str, ledger: Ledger) -> None:
    frame = table_of(spark, path, bounds={"v": (0, 5)}).private()
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3).agg(dp.sum("v"), dp.mean("v"))
    release = query.release(EPSILON, ledger=ledger)
    assert values(release, "sum_v") == dict.fromkeys(WARDS, 8 * UNITS)
    assert values(release, "mean_v") == dict.fromkeys(WARDS, close(8 / 3))


# aggregates: in one query and one pass


@slow
def test_count(everything: dict[str, Any]) -> None:
    assert everything["count"] == ROWS


@slow
def test_count_units(everything: dict[str, Any]) -> None:
    assert everything["count_units"] == UNITS


@slow
def test_count_distinct(everything: dict[str, Any], frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """Every visit is a value of its own, and `max_rows` bounds how many a unit can add; repeated values count once."""
    assert everything["count_distinct_visit"] == ROWS
    query = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=2)
    release = query.agg(dp.count_distinct("visit"), dp.count_distinct("kind")).release(EPSILON, ledger=ledger)
    assert values(release, "count_distinct_visit") == dict.fromkeys(WARDS, 2 * UNITS)
    assert values(release, "count_distinct_kind") == dict.fromkeys(WARDS, len(KINDS))


@slow
def test_sum_clamps_every_row(everything: dict[str, Any]) -> None:
    assert everything["unclamped"] == 12 * UNITS
    assert everything["sum_v"] == (1 + 2 + 5) * UNITS


@slow
def test_unit_sum_clamps_the_total_of_a_unit(everything: dict[str, Any]) -> None:
    assert everything["unit_sum_v"] == 10 * UNITS


@slow
def test_mean_clamps_every_row(everything: dict[str, Any]) -> None:
    assert everything["mean_v"] == close(8 / 3)


@slow
def test_variance_clamps_every_row(everything: dict[str, Any]) -> None:
    variance = (1 + 4 + 25) / 3 - (8 / 3) ** 2
    assert everything["variance_v"] == close(variance)
    assert everything["stddev_v"] == close(sqrt(variance))


@slow
def test_count_mean_and_variance_come_together(everything: dict[str, Any], frame: dp.PrivateFrame) -> None:
    """What a variance measures, a mean needs, too: it costs nothing more."""
    assert (everything["count"], everything["mean_v"]) == (ROWS, close(8 / 3))
    groups = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    alone, mean = dp.variance("v", 0, 5), dp.mean("v", 0, 5)
    noise = [groups.agg(*asked).explain(1).sections["Noise"] for asked in ([alone], [mean, alone])]
    assert sorted(noise[0]) == sorted(noise[1])


@slow
def test_quantiles_of_several_ranks(everything: dict[str, Any], frame: dp.PrivateFrame) -> None:
    """And more ranks cost nothing."""
    assert everything["quantiles_v"] == [1, 2, 9]
    assert (everything["min_v"], everything["median_v"], everything["max_v"]) == (1, 2, 9)
    groups = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    few = groups.agg(dp.quantiles("v", ["0.5"], 0, 10)).explain(1)
    many = groups.agg(dp.quantiles("v", ["0.1", "0.5", "0.9"], 0, 10), dp.max("v", 0, 10)).explain(1)
    assert few.sections["Noise"] == many.sections["Noise"]


@slow
def test_vector_sum_in_three_norms(everything: dict[str, Any]) -> None:
    """Of rows (3, 4), shrunk to an L1 or L2 norm of 4, or clamped to an Linf norm of 3; rounded towards zero."""
    assert everything["l1"] == pytest.approx([ROWS * 4 * 3 / 7, ROWS * 4 * 4 / 7], rel=1e-5)
    assert everything["l2"] == pytest.approx([ROWS * 4 * 3 / 5, ROWS * 4 * 4 / 5], rel=1e-5)
    assert everything["linf"] == pytest.approx([ROWS * 3, ROWS * 3], rel=1e-5)


# answers


def laplace_stddev(scale: float) -> float:
    """Of discrete Laplace noise."""
    p = exp(-1 / scale)
    return sqrt(2 * p) / (1 - p)


@slow
def test_every_value_has_its_standard_deviation_and_interval(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    release = groups.agg(dp.count(), dp.sum("v", 0, 5)).release(2, ledger=ledger)
    stddev = {"count": laplace_stddev(12), "sum_v": laplace_stddev(60)}  # an epsilon of 1 for each
    rows = release.accuracy.collect()
    assert len(rows) == 2 * len(WARDS)
    for row in rows:
        assert row["stddev"] == pytest.approx(stddev[row["aggregate"]])
        assert row["lower"] < row["value"] < row["upper"]
    assert release.toPandas()["count"].tolist() == [r["value"] for r in rows if r["aggregate"] == "count"]


@slow
def test_counts_may_be_negative(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    """Of 400 empty groups, all would be above zero once in 2^380."""
    query = frame.groupBy("v", keys=range(100, 500), max_groups=1, max_rows=1).agg(dp.count())
    counts = values(query.release("0.1", ledger=ledger), by=["v"]).values()
    assert len(counts) == 400
    assert min(counts) < 0 < max(counts)


@slow
def test_explain_says_plan_price_and_error_before_anything_is_paid(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    before = ledger.spent()
    groups = frame.where("v > 1").groupBy("ward", keys=WARDS, max_groups=2, max_rows=3)
    explained = groups.agg(dp.count(), dp.mean("v", 0, 5)).explain("0.5")
    text = str(explained)
    for said in ("where v > 1", "4 public group(s) by ward", "privacy unit: id", "3 row(s) in each of 2 group(s)"):
        assert said in text
    assert "epsilon=0.5 for everything that is released" in text
    assert explained.errors.keys() == {"count", "mean_v"}
    assert ledger.spent() == before


@slow
def test_the_share_of_truncated_units_is_told(everything: dict[str, Any]) -> None:
    """Nothing is dropped here; `test_max_groups_drops_the_groups_beyond_it` has rows of every unit dropped."""
    assert everything["truncated_share"] == close(0.0)


@slow
def test_parameters_are_tuned_on_public_rows(spark: SparkSession, path: str, frame: dp.PrivateFrame) -> None:
    """A unit has three rows in a group: two lose some, four only add noise. Private rows are refused."""
    sample = spark.read.format("delta").load(path)  # made up, and so public

    def query(of: dp.PrivateFrame, max_rows: int) -> dp.PrivateQuery:
        return of.groupBy("ward", keys=WARDS, max_groups=4, max_rows=max_rows).agg(dp.count())

    refused: Any = frame
    tuning = dp.tune(sample, query, {"max_rows": [2, 3, 4]}, epsilon=10, unit="id")
    assert tuning.best == {"max_rows": 3}
    assert [(outcome.bias, outcome.rows_dropped) for outcome in tuning.outcomes] == [
        (UNITS, pytest.approx(1 / 3)),
        (0, 0),
        (0, 0),
    ]
    with pytest.raises(dp.InvalidArgument, match="sample"):
        dp.tune(refused, query, {"max_rows": [2, 3]}, epsilon=10)


@slow
def test_error_targets_give_the_least_budget(frame: dp.PrivateFrame) -> None:
    groups = frame.groupBy("ward", keys=WARDS, max_groups=4, max_rows=3)
    best = groups.agg(dp.count(), dp.sum("v", 0, 5)).budget_for({"count": 40, "sum_v": dp.relative("0.1", of=1000)})
    errors = best.query.explain(best.epsilon).errors
    assert errors["count"].half_width <= 40
    assert errors["sum_v"].half_width <= 100
    less = best.query.explain(best.epsilon * Fraction(99, 100)).errors
    assert less["count"].half_width > 40 or less["sum_v"].half_width > 100


@slow
def test_totals_are_the_sums_of_their_groups(frame: dp.PrivateFrame, ledger: Ledger) -> None:
    keys = [(ward, door) for ward in WARDS for door in (0, 1)]
    query = frame.rollup("ward", "door", keys=keys, max_groups=4, max_rows=3).agg(dp.count())
    counts = values(query.release(10, ledger=ledger), by=["ward", "door"])
    assert len(counts) == len(keys) + len(WARDS) + 1
    wards = {ward: counts[ward, 0] + counts[ward, 1] for ward in WARDS}
    assert {ward: counts[ward, None] for ward in WARDS} == pytest.approx(wards)
    assert counts[None, None] == pytest.approx(sum(wards.values()))
    assert counts[None, None] != ROWS * len(WARDS), "it is noisy"


@slow
def test_the_most_frequent_values_are_chosen(everything: dict[str, Any]) -> None:
    assert everything["most_frequent_kind"] == ["big", "middle"]


@slow
def test_a_dry_run_on_synthetic_rows_costs_nothing(spark: SparkSession, path: str, ledger: Ledger) -> None:
    before = ledger.spent()
    table = table_of(spark, path, keys={"ward": WARDS})
    query = table.synthetic(50).groupBy("ward", max_groups=4, max_rows=3).agg(dp.count(), dp.mean("v", 0, 5))
    release = query.release(EPSILON, ledger=ledger)
    assert release.synthetic
    assert sorted(values(release)) == WARDS
    assert ledger.spent() == before


# what docs/peers.md says of this file


def rows_of_peers() -> list[tuple[str, list[tuple[str, str]]]]:
    """Of the tables with tests: what is theirs, and the tests with the files that are linked."""
    lines = PEERS.read_text().splitlines()
    tables = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    rows = [cells for cells in tables if len(cells) == 3 and cells[-1] != "Test"]
    return [(cells[0], re.findall(r"\[`(\w+)`\]\(([^)]+)\)", cells[-1])) for cells in rows]


def test_every_row_of_the_table_names_its_test() -> None:
    rows = rows_of_peers()
    assert len(rows) > 40
    tree = ast.parse(Path(__file__).read_text())
    here = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    named = {name for _, tests in rows for name, _ in tests}
    assert [theirs for theirs, tests in rows if not tests] == []
    assert {file for _, tests in rows for _, file in tests} == {HERE}
    assert sorted(named - here) == [], "named in docs/peers.md, and not here"
    about_the_table = {"test_every_row_of_the_table_names_its_test", "test_every_link_of_the_table_leads_somewhere"}
    assert sorted(here - named) == sorted(about_the_table), "here, and not named in docs/peers.md"


def test_every_link_of_the_table_leads_somewhere() -> None:
    text = PEERS.read_text()
    links = re.findall(r"\]\(([^)#]+)", text)
    assert len(links) > 40
    assert [link for link in links if not (PEERS.parent / link).exists()] == []
    assert [name for name in re.findall(r"(?<![/\w])tests/[\w/]+\.py", text) if not (ROOT / name).exists()] == []
