"""Private keys on Spark: groups by code, a choice among them, and the vector and names of those that were chosen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy import stats

from dp.execution.candidates import Candidates, Chosen, choose, local_candidates
from dp.frames.frame import PrivateFrame
from dp.noise.entropy import RandomSource, os_random
from dp.planning.aggregates import Aggregate
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys
from dp.planning.plan import Plan, make_plan
from lake.ledger import Ledger
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.lakes import Rows

pytestmark = pytest.mark.slow

ASKED = dp.ApproxDP(1, "1e-6")
SURE = dp.ApproxDP(400, "1/100")
"""So much that groups of a few units are named for certain."""

SCHEMA = "id long, k string, v int"
FALSE_ALARM = 1e-6


def private(spark: SparkSession, rows: Rows | DataFrame, schema: str = SCHEMA) -> PrivateFrame:
    df = rows if isinstance(rows, DataFrame) else spark.createDataFrame([tuple(row) for row in rows], schema)
    return PrivateFrame(spark, df, PublicFacts(("id",), max_units=10**6), "t", "1")


def plan_of(
    frame: PrivateFrame,
    *aggregates: Aggregate,
    by: Sequence[str] = ("k",),
    keys: PrivateKeys | None = None,
    asked: dp.Budget = ASKED,
    **bounds: int,
) -> Plan:
    limits: Any = bounds or {"max_groups": 5, "max_rows": 3}
    groups = frame.groupBy(*by, keys=keys, **limits)
    return make_plan(groups.agg(*aggregates).query, asked)


def candidates_of(frame: PrivateFrame, plan: Plan) -> Candidates:
    return local_candidates(frame.df, plan, partitions=2)


def chosen(frame: PrivateFrame, plan: Plan, random: RandomSource = os_random) -> Chosen:
    return choose(plan, candidates_of(frame, plan), random)


def exact(found: Chosen) -> dict[tuple[object, ...], list[list[int]]]:
    """By key, the cells of every part."""
    plan, cells = found.plan, found.words.view(np.int64)
    parts = [cells[p.offset : p.offset + p.cells].reshape(plan.groups, -1).tolist() for p in plan.parts]
    return {key: [part[index] for part in parts] for index, key in enumerate(plan.keys)}


def rows_of(units: dict[object, int], *, each: int = 1, value: int = 4) -> list[tuple[int, object, int]]:
    return [(unit, key, value) for key, count in units.items() for unit in range(count) for _ in range(each)]


def test_a_group_comes_with_its_own_cells_and_key(spark: SparkSession) -> None:
    frame = private(spark, rows_of({"b": 40, "a": 60, "": 50, "ü": 30, "few": 1}, each=2))
    plan = plan_of(frame, dp.count(), dp.count_units(), dp.sum("v", 0, 3), dp.histogram("v", [0, 4, 8]), asked=SURE)
    found = exact(chosen(frame, plan))
    assert list(found) == [("",), ("a",), ("b",), ("ü",)], "in the order of the keys, whatever the data"
    for key, units in {"b": 40, "a": 60, "": 50, "ü": 30}.items():
        assert found[key,] == [[2 * units], [units], [6 * units], [0, 2 * units]]


@pytest.mark.parametrize(
    ("schema", "keys"),
    [
        ("id long, a string, b int", [("x", 1), ("x", 2), ("y", 1), ("1", 1), ("", -(2**31))]),
        ("id long, a boolean, b long", [(True, 2**63 - 1), (False, 2**63 - 1), (True, -(2**63))]),
        ("id long, a short, b byte", [(1, 1), (-1, 127)]),
        ("id long, a string, b string", [("a", "bc"), ("ab", "c"), ("a", "b c"), ("", "abc"), ("abc", "")]),
    ],
    ids=["string and int", "boolean and long", "short and byte", "columns do not run together"],
)
def test_keys_of_several_columns_keep_their_types(
    schema: str, keys: list[tuple[object, ...]], spark: SparkSession, tmp_path: Path
) -> None:
    rows = [(unit, *key) for key in keys for unit in range(20)]
    frame = private(spark, rows, schema)
    groups = frame.groupBy("a", "b", max_groups=5, max_rows=1)
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(1000, "1/2"))
    for _ in range(2):  # the second time from the ledger
        release = groups.agg(dp.count()).release("400", "1/100", ledger=ledger)
        assert [row[:2] for row in map(tuple, release.df.collect())] == sorted(keys)
        assert [type(value) for value in release.df.collect()[0][:2]] == [type(value) for value in keys[0]]


def test_rows_without_a_whole_key_or_a_unit_belong_to_no_group(spark: SparkSession) -> None:
    rows: list[tuple[object, ...]] = [(unit, "x", 1) for unit in range(30)]
    nobody = [(unit, None, 1) for unit in range(30)] + [(None, "x", 1)] * 30 + [(None, "ghost", 1)] * 30
    found = []
    for some in (rows, rows + nobody):
        frame = private(spark, some, "id long, k string, v int")
        plan = plan_of(frame, dp.count(), dp.count_units(), asked=SURE, max_groups=1, max_rows=1)
        candidates = candidates_of(frame, plan)
        assert candidates.units.tolist() == [30]
        found.append(exact(choose(plan, candidates, os_random)))
    assert found[0] == found[1] == {("x",): [[30], [30]]}
    frame = private(spark, [(unit, "x", None if unit % 2 else unit) for unit in range(30)])
    by_two = plan_of(frame, dp.count(), by=("k", "v"), asked=SURE, max_groups=1, max_rows=1)
    assert None not in {key[1] for key in chosen(frame, by_two).plan.keys}


def test_bounds_hold_before_groups_are_counted(spark: SparkSession) -> None:
    """A unit that is in every group counts in `max_groups` of them only, and its rows in other groups do not count."""
    frame = private(spark, [(unit, f"{group}", 1) for unit in range(20) for group in range(50) for _ in range(4)])
    plan = plan_of(frame, dp.count(), max_groups=3, max_rows=2)
    candidates = candidates_of(frame, plan)
    assert candidates.units.sum() == 20 * 3
    assert candidates.word.sum() == 20 * 3 * 2


def test_all_other_groups_are_added_up_under_one_key(spark: SparkSession) -> None:
    units: dict[object, int] = {"big": 300, "large": 200, **{f"rare {i}": 1 + i % 3 for i in range(100)}}
    frame = private(spark, rows_of(units, each=2))
    aggregates = (dp.count(), dp.count_units(), dp.sum("v", 0, 9), dp.histogram("v", [0, 4, 8]))
    keys = dp.private_keys(other="the rest", min_units=50)
    plan = plan_of(frame, *aggregates, keys=keys, asked=SURE, max_groups=200, max_rows=2)
    found = exact(chosen(frame, plan))
    assert list(found) == [("big",), ("large",), ("the rest",)]
    few = sum(units.values()) - 500
    assert found["the rest",] == [[2 * few], [few], [8 * few], [0, 2 * few]]

    nobody = exact(chosen(frame, plan_of(frame, *aggregates, keys=dp.private_keys(other="all", min_units=10**6))))
    assert list(nobody) == [("all",)], "the others' key is there whatever the data"
    empty = private(spark, [])
    assert exact(chosen(empty, plan_of(empty, dp.count(), keys=keys))) == {("the rest",): [[0]]}


def test_an_others_key_must_fit_the_columns(spark: SparkSession) -> None:
    with pytest.raises(dp.InvalidArgument, match="keys='rest'"):
        private(spark, []).groupBy("v", keys=dp.private_keys(other="rest"), max_groups=1, max_rows=1)


def test_groups_of_fewer_units_than_asked_are_never_named(spark: SparkSession) -> None:
    frame = private(spark, rows_of({f"{i:03}": i for i in range(1, 40)}))
    plan = plan_of(frame, keys=dp.private_keys(min_units=20), asked=SURE, max_groups=40, max_rows=1)
    assert plan.selection is not None
    for attempt in range(5):
        named = chosen(frame, plan, seeded_random(f"min units {attempt}")).plan.keys
        assert min(named) >= ("020",)
        assert ("039",) in named


def test_without_any_group_that_is_named_the_answer_is_empty(spark: SparkSession, tmp_path: Path) -> None:
    frame = private(spark, rows_of({"a": 2, "b": 3}))
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(10, "1/10"))
    aggregates = [dp.count(), dp.mean("v", 0, 9), dp.histogram("v", [0, 4, 8]), dp.top_k("v", 1, [1, 2])]
    groups = frame.groupBy("k", keys=dp.private_keys(min_units=50), max_groups=1, max_rows=1)
    release = groups.agg(*aggregates).release(1, "1e-6", ledger=ledger)
    assert release.df.count() == release.accuracy.count() == 0
    assert release.df.columns == ["k", *(aggregate.name for aggregate in aggregates)]
    assert "paid" in str(release)
    again = groups.agg(*aggregates).release(1, "1e-6", ledger=ledger)
    assert again.paid_before
    assert again.df.count() == 0


@pytest.mark.parametrize("aggregates", [(), (dp.count(), dp.mean("v", 0, 9))], ids=["keys only", "aggregates"])
def test_asked_again_the_ledger_answers_for_free_with_the_same_keys(
    aggregates: tuple[Aggregate, ...], spark: SparkSession, tmp_path: Path
) -> None:
    frame = private(spark, rows_of({f"{i}": 3 * i for i in range(30)}))  # of many groups it is open who is named
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(10, "1/10"))
    query = frame.groupBy("k", max_groups=30, max_rows=1).agg(*aggregates)
    first = query.release(3, "1e-6", ledger=ledger)
    (entry,) = ledger.entries()
    stored = ledger.stored_release(entry.release_key)
    second = query.release(3, "1e-6", ledger=ledger)
    assert (first.paid_before, second.paid_before) == (False, True)
    assert second.run_id == first.run_id
    assert second.answers.values.equals(first.answers.values)
    assert second.answers.accuracy.equals(first.answers.accuracy)
    assert second.df.collect() == first.df.collect()
    assert ledger.spent() == dp.ApproxDP(3, "1e-6")
    assert ledger.stored_release(entry.release_key) == stored
    assert stored is not None
    header = json.loads(stored.split(b"\n")[1])
    assert header["key_bytes"] > 0


@pytest.mark.parametrize("asked", [{"epsilon": 1}, {"rho": 1}], ids=str)
def test_what_cannot_be_answered_is_refused_before_it_is_paid(
    asked: dict[str, Any], spark: SparkSession, tmp_path: Path
) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(10, "1/10"))
    groups = private(spark, rows_of({"a": 9})).groupBy("k", max_groups=1, max_rows=1)
    with pytest.raises(dp.InvalidArgument, match="private keys need a delta"):
        groups.agg(dp.count()).release(**asked, ledger=ledger)
    with pytest.raises(dp.InvalidArgument, match="it belongs to public keys"):
        groups.agg(dp.count(), dp.truncated_share()).release(1, "1e-6", ledger=ledger)
    assert ledger.entries() == []


def test_the_order_of_groups_depends_on_their_keys_only(spark: SparkSession) -> None:
    """ATTACKS 15: not on the order of rows, on how often a key occurs, or on the salted codes."""
    frame = private(spark, rows_of({f"{i}": 20 + i * 7 % 31 for i in range(60)}).copy())
    for slices in (1, 5):
        mixed = private(spark, frame.df.orderBy("v", "id").repartition(slices))
        plan = plan_of(mixed, dp.count_units(), asked=SURE, max_groups=60, max_rows=1)
        candidates = candidates_of(mixed, plan)
        keys = choose(plan, candidates, os_random).plan.keys
        assert list(keys) == sorted((f"{i}",) for i in range(60))
        found = exact(choose(plan, candidates, os_random))
        assert found == {(f"{i}",): [[20 + i * 7 % 31]] for i in range(60)}
    other_salt = candidates_of(mixed, plan)
    assert not np.array_equal(other_salt.codes, candidates.codes)


def test_twenty_thousand_groups(spark: SparkSession) -> None:
    df = spark.range(200_000).selectExpr("id % 977 AS id", "concat('g', id % 20000) AS k", "cast(id % 5 AS int) AS v")
    frame = private(spark, df)
    plan = plan_of(frame, dp.count(), dp.sum("v", 0, 4), asked=dp.ApproxDP(10**5, "1/100"), max_groups=300, max_rows=9)
    candidates = candidates_of(frame, plan)
    assert len(candidates.codes) == 20_000
    found = choose(plan, candidates, os_random)
    plain = df.groupBy("k").agg(F.count("*"), F.sum("v")).collect()
    assert plan.selection is not None
    kept = plan.selection.threshold_at(1 - 1e-12)
    assert kept <= 10, "each of these groups is in the answer"
    assert exact(found) == {(key,): [[rows], [total]] for key, rows, total in plain}


@pytest.mark.parametrize("strategy", ["truncated_geometric", "laplace", "gaussian"])
def test_groups_are_named_with_the_probability_of_the_selection(strategy: Any, spark: SparkSession) -> None:
    """4,000 draws; two-sided exact binomial tests; the twin looks at a group of one unit more or less."""
    sizes = {f"{units}": units for units in range(1, 40)}
    frame = private(spark, rows_of(sizes))  # type: ignore[arg-type]
    keys = dp.private_keys(strategy=strategy)
    plan = plan_of(frame, keys=keys, asked=dp.ApproxDP(20, "1/5"), max_groups=39, max_rows=1)
    selection: Any = plan.selection
    candidates, random = candidates_of(frame, plan), seeded_random(f"named {strategy}")
    by_code = {int(units): place for place, units in enumerate(candidates.units)}
    assert sorted(by_code) == sorted(sizes.values())
    draws = 4000
    named: Counter[int] = Counter()
    for _ in range(draws):
        kept = selection.keep(candidates.units, random)
        named.update(candidates.units[kept].tolist())
    uncertain = [units for units in sizes.values() if 0.05 < selection.keep_probability(units) < 0.95]
    assert len(uncertain) > 3
    for units in uncertain:
        assert stats.binomtest(named[units], draws, selection.keep_probability(units)).pvalue > FALSE_ALARM
    middle = selection.threshold_at(0.5)
    assert stats.binomtest(named[middle], draws, selection.keep_probability(middle + 3)).pvalue < FALSE_ALARM
    once = choose(plan, candidates, seeded_random("one choice"))
    expected = selection.keep(candidates.units, seeded_random("one choice"))
    assert sorted(int(key) for (key,) in once.plan.keys) == sorted(candidates.units[expected].tolist())


def test_candidates_show_nothing_of_what_they_hold(spark: SparkSession) -> None:
    frame = private(spark, rows_of({"secret name": 41}))
    candidates = candidates_of(frame, plan_of(frame, dp.count()))
    assert repr(candidates) == "Candidates()"
    (shown,) = choose(plan_of(frame, dp.count(), asked=SURE), candidates, os_random).plan.keys
    assert shown == ("secret name",)
