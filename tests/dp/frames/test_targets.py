"""Error targets: what is found meets them by its own plan, and hardly more than that is paid."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from dp.frames.targets import ErrorBudget, least_budget, relative
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.keys import PrivateKeys
from dp.planning.plan import guarantee, make_plan
from dp.planning.query import Query
from spark_mpc import dp
from tests.tools.plans import COLUMNS, FACTS, paper_query

BOUNDS = ContributionBounds(max_groups=3, max_rows=4)
N, S = dp.count().alias("n"), dp.sum("d", 0, 5000).alias("s")


def asked(*aggregates: Aggregate) -> Query:
    return paper_query(aggregates, groups=5, bounds=BOUNDS)


def found(query: Query, errors: dict[str, object], **more: object) -> ErrorBudget[Query]:
    return least_budget(query, lambda weighted: weighted, errors, **more)  # type: ignore[arg-type]


def expected(
    query: Query, epsilon: Fraction, delta: Fraction, rows: float = 1, confidence: float = 0.95
) -> dict[str, float]:
    """What a plan says, worked out apart from what is tested."""
    plan = make_plan(query, guarantee(epsilon, delta))
    errors = {a.name: a.expected_error(plan.query.schema, plan.noise_term, confidence) for a in plan.query.aggregates}
    return {name: error.half_width / (rows if error.per_row else 1) for name, error in errors.items()}


CASES: list[tuple[Query, dict[str, object], dict[str, object]]] = [
    (asked(N), {"n": 50}, {}),
    (asked(N), {"n": "50"}, {"confidence": 0.99}),
    (asked(N, S), {"n": 50, "s": 10**5}, {}),
    (asked(N, S), {"n": 50, "s": 10**5}, {"delta": "1e-6"}),
    (asked(N, S, dp.mean("v", 0, 100).alias("m")), {"n": 500, "m": "1"}, {"rows": 1000}),
]


@pytest.mark.parametrize(("query", "errors", "more"), CASES, ids=range(len(CASES)))
def test_targets_are_met_and_a_smaller_budget_misses_one(
    query: Query, errors: dict[str, object], more: dict[str, object]
) -> None:
    budget = found(query, errors, **more)
    rows, confidence = float(str(more.get("rows", 1))), float(str(more.get("confidence", 0.95)))
    at = expected(budget.query, budget.epsilon, budget.delta, rows, confidence)
    targets = {name: float(str(target)) for name, target in errors.items()}
    assert all(at[name] <= target for name, target in targets.items())
    assert budget.errors == pytest.approx({name: at[name] for name in errors})
    less = expected(budget.query, budget.epsilon * Fraction(99, 100), budget.delta, rows, confidence)
    assert any(less[name] > target for name, target in targets.items())
    assert len(Decimal(str(float(budget.epsilon))).normalize().as_tuple().digits) <= 3


def test_weights_beat_an_equal_split() -> None:
    """Two targets of very different cost: splitting equally, the dearer one decides for both."""
    budget = found(asked(N, S), {"n": 50, "s": 10**5})
    equal = expected(asked(N, S), budget.epsilon, Fraction(0))
    assert equal["s"] > 10**5
    cost = {name: found(asked(a), {name: t}).epsilon for name, a, t in (("n", N, 50), ("s", S, 10**5))}
    assert budget.epsilon <= sum(cost.values()) * Fraction(101, 100)  # no more than both apart


def test_aggregates_that_share_measures_do_not_pay_twice() -> None:
    mean = dp.mean("i", 0, 5000).alias("m")
    errors = {"n": 20, "m": 100}
    together = found(asked(N, mean), errors, rows=1000).epsilon
    apart = found(asked(N), {"n": 20}).epsilon + found(asked(mean), {"m": 100}, rows=1000).epsilon
    assert together < apart


def test_an_aggregate_without_a_target_gets_as_much_as_the_least() -> None:
    budget = found(asked(N, S, dp.count_units().alias("u")), {"n": 50, "s": 10**5})
    assert budget.weights["u"] == min(budget.weights["n"], budget.weights["s"])
    assert set(budget.errors) == {"n", "s"}


def test_private_keys_keep_their_share() -> None:
    query = Query(("k",), PrivateKeys(), BOUNDS, (N, S), FACTS, COLUMNS)
    budget = found(query, {"n": 500, "s": 10**6}, delta="1e-6")
    assert float(budget.query.selection_share) == pytest.approx(float(query.selection_share), rel=0.01)
    at = expected(budget.query, budget.epsilon, budget.delta)
    assert at["n"] <= 500
    assert at["s"] <= 10**6


def test_tighter_targets_cost_more() -> None:
    epsilons = [found(asked(N, S), {"n": n, "s": 10**5}).epsilon for n in (100, 50, 10)]
    assert all(less < more for less, more in itertools.pairwise(epsilons))


def test_it_says_what_it_found() -> None:
    text = str(found(asked(N, S), {"n": 50}, delta="1e-6"))
    assert text.startswith("epsilon=")
    assert "delta=1e-06" in text
    assert "n, weight 1: ± " in text
    assert text.endswith("s, weight 1")


@pytest.mark.parametrize(
    ("errors", "more", "message"),
    [
        ({}, {}, r"aggregates are \['n', 'm', 's'\]"),
        ({"nothing": 1}, {}, r"aggregates are \['n', 'm', 's'\]"),
        ({"n": 0}, {}, "above zero"),
        ({"n": -3}, {}, "above zero"),
        ({"n": "many"}, {}, "finite number"),
        ({"m": 1}, {}, "declared or released number"),
        ({"m": 1}, {"rows": 0}, "above zero"),
        ({"s": "1e-9"}, {}, r"no epsilon up to 1e\+06"),
    ],
)
def test_impossible_targets_are_refused(errors: dict[str, object], more: dict[str, object], message: str) -> None:
    with pytest.raises(dp.InvalidArgument, match=message):
        found(asked(N, dp.mean("v", 0, 10).alias("m"), S), errors, **more)


def test_private_keys_need_a_delta() -> None:
    with pytest.raises(dp.InvalidArgument, match="private keys need a delta"):
        found(Query(("k",), PrivateKeys(), BOUNDS, (N,), FACTS, COLUMNS), {"n": 50})


def test_a_relative_target_is_exact() -> None:
    assert relative("0.05", of=1343) == Fraction(1343, 20)
    assert relative("1/3", of=np.int64(-9)) == 3
    assert relative(0.1, of=4.5) == Fraction(9, 20)
    for share, of in ((0, 5), (-1, 5), (1, 0)):
        with pytest.raises(dp.InvalidArgument, match="above zero"):
            relative(share, of=of)


@pytest.mark.parametrize("unreleased", [N, asked(N), lambda: 3, None, [3], True], ids=range(6))
def test_a_target_is_relative_to_numbers_only(unreleased: object) -> None:
    """A query, a frame or an aggregate is no number: nothing is ever computed for it."""
    with pytest.raises(dp.InvalidArgument, match="of="):
        relative("0.1", of=unreleased)  # type: ignore[arg-type]
