"""Group keys: public lists and what they refuse; private keys, their share of the budget and their plans."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dp.accounting.budget import Budget
from dp.errors import InvalidArgument
from dp.execution.release import StoredRelease, make_answers
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace
from dp.noise.selection import TruncatedGeometric
from dp.noise.thresholds import GaussianThreshold, LaplaceThreshold
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import explain_plan
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys, resolve_keys
from dp.planning.plan import NoiseParties, Plan, make_plan
from dp.planning.query import Query, digest
from spark_mpc import dp
from tests.tools.plans import COLUMNS, FACTS

BOUNDS = ContributionBounds(max_groups=2, max_rows=3)
ASKED = dp.ApproxDP(1, "1e-6")


def private_query(
    *aggregates: Aggregate, keys: PrivateKeys | None = None, bounds: ContributionBounds = BOUNDS, **facts: Any
) -> Query:
    return Query(("k",), keys or PrivateKeys(), bounds, aggregates, dataclasses.replace(FACTS, **facts), COLUMNS)


def test_keys_are_taken_from_the_call_or_from_the_declared_facts() -> None:
    facts = PublicFacts(unit=("id",), keys={"a": (1, 2), "b": ("x", "y")})
    assert resolve_keys((), None, facts) == ((),)
    assert resolve_keys(("a",), None, facts) == ((1,), (2,))
    assert resolve_keys(("a", "b"), None, facts) == ((1, "x"), (1, "y"), (2, "x"), (2, "y"))
    assert resolve_keys(("a", "b"), [(2, "y")], facts) == ((2, "y"),)
    assert resolve_keys(("c",), [1, True, "1"], facts) == ((1,), (True,), ("1",))  # different keys all


@pytest.mark.parametrize(
    ("by", "keys", "message"),
    [
        ((), [1], "keys belong to grouping columns"),
        (("c",), [], "give at least one key"),
        (("c",), [1, 1], "each only once"),
        (("c",), [1.5], "a key is an integer, a string or a boolean"),
        (("c",), [None], "a key is an integer, a string or a boolean"),
        (("c",), "abc", "give a list of keys"),
        (("c", "d"), [1], r"every key has 2 value\(s\)"),
        (("c", "d"), [(1, 2, 3)], r"every key has 2 value\(s\)"),
        (("c",), [(1, 2)], r"every key has 1 value\(s\)"),
    ],
)
def test_unusable_keys_are_refused(by: tuple[str, ...], keys: list[object] | None, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve_keys(by, keys, FACTS)


@pytest.mark.parametrize("keys", [{"a", "b"}, {"a": 1}, "ab", iter(["a"])])
def test_keys_without_an_order_are_refused(keys: object) -> None:
    with pytest.raises(InvalidArgument, match="order"):
        resolve_keys(("k",), keys, PublicFacts(("id",)))  # type: ignore[arg-type]


@pytest.mark.parametrize("by", [("c",), ("a", "c"), ("c", "d")])
def test_without_declared_keys_they_are_private(by: tuple[str, ...]) -> None:
    facts = PublicFacts(unit=("id",), keys={"a": (1, 2)})
    assert resolve_keys(by, None, facts) == PrivateKeys()
    wish = dp.private_keys(strategy="laplace", min_units=4, weight="1/2", other="rest")
    assert resolve_keys(by, wish, facts) == wish == PrivateKeys("laplace", 4, Fraction(1, 2), "rest")
    assert resolve_keys(("a",), wish, facts) == wish, "a wish for private keys outranks declared ones"
    with pytest.raises(InvalidArgument, match="keys belong to grouping columns"):
        resolve_keys((), wish, facts)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"strategy": "snapping"}, "strategy"),
        ({"min_units": 0}, "min_units"),
        ({"min_units": 1.5}, "min_units"),
        ({"min_units": True}, "min_units"),
        ({"weight": 0}, "weight"),
        ({"weight": -1}, "weight"),
        ({"weight": float("nan")}, "weight"),
    ],
)
def test_impossible_wishes_are_refused(arguments: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        dp.private_keys(**arguments)


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("truncated_geometric", TruncatedGeometric),
        ("laplace", LaplaceThreshold),
        ("gaussian", GaussianThreshold),
    ],
)
@pytest.mark.parametrize("group_size", [1, 3])
def test_the_selection_gets_its_share_of_epsilon_and_the_delta(strategy: Any, kind: Any, group_size: int) -> None:
    wish = PrivateKeys(strategy, min_units=5, share=Fraction(3))
    query = private_query(dp.count(), dp.count_units().weight(2), keys=wish, group_size=group_size)
    plan = make_plan(query, ASKED)
    shared: Any = plan.selection
    assert isinstance(shared, kind)
    assert shared.epsilon == Fraction(3, 6)
    assert (shared.max_groups, shared.group_size, shared.pre_threshold) == (2, group_size, 5)
    if isinstance(plan.parts[0].mechanism, DiscreteLaplace):
        assert shared.delta == ASKED.delta
        for part, share in zip(plan.parts, (1, 2), strict=True):  # or less noise, by sharper composition
            assert isinstance(part.mechanism, DiscreteLaplace)
            assert part.mechanism.scale <= part.sensitivity.l1 / Fraction(share, 6)
    else:
        assert shared.delta == ASKED.delta / 2
    assert sum(query.shares.values()) + query.selection_share == 1


def test_gaussian_noise_shares_the_delta_with_the_selection() -> None:
    wide = ContributionBounds(max_groups=400, max_rows=1)
    plan = make_plan(private_query(dp.count(), bounds=wide), ASKED)
    (part,) = plan.parts
    assert isinstance(part.mechanism, DiscreteGaussian)
    assert plan.selection is not None
    assert plan.selection.delta == ASKED.delta / 2
    assert plan.selection.epsilon == Fraction(1, 2)
    alone = dp.ApproxDP("1/2", ASKED.delta / 2)  # what the measure would get of its own
    public = Query(("k",), tuple((key,) for key in range(400)), wide, (dp.count(),), FACTS, COLUMNS)
    (twin,) = make_plan(public, alone).parts
    assert isinstance(twin.mechanism, DiscreteGaussian)
    assert 1 / 1.1 < part.mechanism.variance / twin.mechanism.variance < 1.1


def test_keys_alone_get_the_whole_budget() -> None:
    plan = make_plan(private_query(), ASKED)
    assert plan.parts == ()
    assert plan.length == 0
    assert plan.selection is not None
    assert (plan.selection.epsilon, plan.selection.delta) == (ASKED.epsilon, ASKED.delta)
    assert plan.price(dp.ApproxDP) == ASKED
    with pytest.raises(InvalidArgument, match="name at least one aggregate"):
        Query(("k",), ((1,),), BOUNDS, (), FACTS, COLUMNS)


@pytest.mark.parametrize("asked", [dp.PureDP(1), dp.ZCDP(1)], ids=str)
def test_private_keys_need_a_delta(asked: Budget) -> None:
    with pytest.raises(InvalidArgument, match=r"delta=.*private keys need a delta beside epsilon"):
        make_plan(private_query(dp.count()), asked)


@pytest.mark.parametrize("kind", [dp.PureDP, dp.ZCDP])
def test_ledgers_that_count_no_delta_cannot_pay(kind: type[Budget]) -> None:
    with pytest.raises(InvalidArgument):
        make_plan(private_query(dp.count()), ASKED).price(kind)


def test_over_several_lakes_keys_are_public() -> None:
    with pytest.raises(InvalidArgument, match=r"keys=None: over several lakes keys are public"):
        make_plan(private_query(dp.count()), ASKED, parties=2, noise=NoiseParties(2, 1))


def test_what_is_counted_over_all_groups_needs_public_keys() -> None:
    with pytest.raises(InvalidArgument, match="agg='truncated_share': it belongs to public keys"):
        make_plan(private_query(dp.count(), dp.truncated_share()), ASKED)


def test_chosen_keys_change_the_number_of_cells_and_nothing_else() -> None:
    plan = make_plan(private_query(dp.count(), dp.histogram("v", [0, 1, 2])), ASKED)
    assert (plan.keys, plan.length) == ((), 0)
    located = plan.for_keys((("a",), ("b",), ("c",)))
    assert [(part.offset, part.cells) for part in located.parts] == [(0, 3), (3, 6)]
    assert [part.mechanism for part in located.parts] == [part.mechanism for part in plan.parts]
    assert located.selection == plan.selection
    assert digest(plan.for_keys(()).to_json()) == digest(plan.to_json())


def test_the_others_bucket_is_calibrated_for_all_groups_in_one_cell() -> None:
    usual, other = (
        make_plan(private_query(dp.count(), keys=PrivateKeys(other=name)), ASKED).parts[0].sensitivity
        for name in (None, "rest")
    )
    assert (usual.l1, usual.l2_squared) == (6, 18)
    assert (other.l1, other.l2_squared) == (6, 36)


def test_the_plan_says_how_keys_are_chosen() -> None:
    text = str(explain_plan(make_plan(private_query(dp.count(), keys=PrivateKeys(min_units=50)), ASKED), ("t",)))
    assert "private groups by k" in text
    assert "drawn by truncated geometric" in text
    assert "the selection spends epsilon=0.5, delta=1e-06" in text


AGGREGATES = [
    *(dp.count(), dp.histogram("v", [0, 1, 2]), dp.mean("v", 0, 10), dp.top_k("v", 2, [1, 2, 3])),
    *(dp.variance("d", 0, 1), dp.stddev("d", 0, 1), dp.count_distinct("v")),
    *(dp.vector_sum(["v", "d"], bound=2), dp.unit_sum("v", 0, 9)),
]


@pytest.mark.parametrize("keys", [(), (("a",),), (("a",), ("b",))], ids=len)
def test_any_number_of_groups_decodes_and_comes_back_from_bytes(keys: tuple[tuple[str], ...]) -> None:
    plan = make_plan(private_query(*AGGREGATES), ASKED)
    located = plan.for_keys(keys)
    stored = StoredRelease("ab", np.arange(located.length, dtype=np.uint64), keys)
    again = StoredRelease.from_bytes(stored.to_bytes(), plan)
    assert again.keys == keys
    assert again.to_bytes() == stored.to_bytes()
    answers = make_answers(again.plan(plan), again.words)
    assert answers.values.column("k").to_pylist() == [key for (key,) in keys]
    assert answers.accuracy.num_rows == len(keys) * (1 + 2 + 1 + 2 + 1 + 1 + 1 + 2 + 1)


GOOD = StoredRelease("ab", np.arange(2, dtype=np.uint64), ((1,), (True,))).to_bytes()


def with_keys(keys: object) -> bytes:
    text = keys if isinstance(keys, bytes) else json.dumps(keys).encode()
    header = {"run_id": "ab", "cells": 2, "key_bytes": len(text)}
    return b"spark-mpc release 2\n" + json.dumps(header).encode() + b"\n" + text + bytes(16)


def a_plan(**changes: Any) -> Plan:
    return make_plan(private_query(dp.count(), **changes), ASKED)


@pytest.mark.parametrize(
    "keys", [[[1]], [[1], [2], [3]], [[1, 2], [3, 4]], [1, 2], "ab", None, {}, b"not json", [[1.5], [2]], [[None], [2]]]
)
def test_damaged_keys_are_refused(keys: object) -> None:
    assert StoredRelease.from_bytes(with_keys([["x"], ["y"]]), a_plan()).keys == (("x",), ("y",))
    with pytest.raises(dp.SparkMpcError, match="damaged"):
        StoredRelease.from_bytes(with_keys(keys), a_plan())


def test_true_and_one_stay_different_keys() -> None:
    keys = StoredRelease.from_bytes(GOOD, a_plan()).keys
    assert keys is not None
    assert [type(value) for (value,) in keys] == [int, bool]
