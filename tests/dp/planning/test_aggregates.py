"""Aggregates: names, weights, bounds, and estimates whose expected error is known before any row is read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dp.errors import InvalidArgument
from dp.execution.release import make_answers
from dp.planning.aggregates import Aggregate
from dp.planning.plan import make_plan
from spark_mpc import dp
from tests.tools.plans import exact_words, paper_query


@pytest.mark.parametrize("name", ["", "a b", "1st", "a.b", None, 3])
def test_unusable_names_are_refused(name: object) -> None:
    with pytest.raises(InvalidArgument, match="alias="):
        dp.count().alias(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0, -1, "nan", float("inf"), True, None])
def test_unusable_weights_are_refused(share: object) -> None:
    with pytest.raises(InvalidArgument, match="weight="):
        dp.count().weight(share)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [dp.sum, dp.mean])
@pytest.mark.parametrize(
    ("lower", "upper", "parameter"),
    [
        (5, 1, "bounds"),
        (None, 1, "bounds"),
        (1, None, "bounds"),
        (float("nan"), 1, "lower"),
        (0, float("nan"), "upper"),
        (0, float("inf"), "upper"),
        (float("-inf"), 0, "lower"),
        ("zero", 1, "lower"),
        (False, 1, "lower"),
    ],
)
def test_unusable_bounds_are_refused(make: object, lower: object, upper: object, parameter: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        make("v", lower, upper)  # type: ignore[operator]


@pytest.mark.parametrize("make", [dp.sum, dp.mean])
def test_unusable_columns_and_imputed_values_are_refused(make: object) -> None:
    with pytest.raises(InvalidArgument, match="column=None"):
        make(None, 0, 1)  # type: ignore[operator]
    with pytest.raises(InvalidArgument, match="missing=nan"):
        make("v", 0, 1, missing=float("nan"))  # type: ignore[operator]


@pytest.mark.parametrize("edges", [[], [1], [1, 1], [2, 1], [0, float("nan")], [0, float("inf")], ["a", 1]])
def test_unusable_edges_are_refused(edges: list[object]) -> None:
    with pytest.raises(InvalidArgument, match="edges="):
        dp.histogram("v", edges)  # type: ignore[arg-type]


def test_bounds_are_exact_decimals() -> None:
    aggregate = dp.sum("d", 0.1, "1e-1")
    assert (aggregate.lower, aggregate.upper) == (Fraction(1, 10), Fraction(1, 10))


AGGREGATES: list[Aggregate] = [
    dp.count(),
    dp.count_units(),
    dp.histogram("v", [0, 1, 2]),
    dp.sum("v", -3, 7),
    dp.sum("d", 0, "0.5"),
]


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda a: a.name)
def test_the_expected_error_is_the_half_width_of_the_interval(aggregate: Aggregate) -> None:
    query = paper_query([aggregate])
    plan = make_plan(query, dp.PureDP("1/2"))
    expected = query.aggregates[0].expected_error(query.schema, plan.noise_term, 0.95)
    words = exact_words(plan, rows=70, units=20, means={"v": Fraction(2), "d": Fraction(1, 4)})
    for row in make_answers(plan, words).accuracy.to_pylist():
        assert row["upper"] - row["value"] == pytest.approx(expected.half_width)
        assert row["value"] - row["lower"] == pytest.approx(expected.half_width)
    assert not expected.per_row


def test_the_expected_error_of_a_mean_is_per_row_and_holds_for_the_worst_mean() -> None:
    query = paper_query([dp.mean("v", 0, 10).alias("m")])
    plan = make_plan(query, dp.PureDP("1/2"))
    expected = query.aggregates[0].expected_error(query.schema, plan.noise_term, 0.95)
    assert expected.per_row
    rows = 10**6
    widths = []
    for mean in (Fraction(0), Fraction(5), Fraction(10)):
        words = exact_words(plan, rows=rows, units=20, means={"v": mean})
        (row,) = make_answers(plan, words).accuracy.to_pylist()
        widths.append(max(row["upper"] - row["value"], row["value"] - row["lower"]))
    assert max(widths) == pytest.approx(expected.half_width / rows, rel=0.02)


def test_public_fields_are_json_and_tell_aggregates_apart() -> None:
    texts = [str(aggregate.to_json()) for aggregate in (*AGGREGATES, dp.mean("v", -3, 7), dp.count().weight(2))]
    assert len(set(texts)) == len(texts)
    assert all("Fraction" not in text for text in texts)


def test_larger_weights_mean_less_noise() -> None:
    def spread(weight: int) -> float:
        plan = make_plan(paper_query([dp.count().weight(weight), dp.sum("v", 0, 1)]), dp.PureDP(1))
        return plan.parts[0].mechanism.stddev

    assert np.all(np.diff([spread(weight) for weight in (1, 2, 5)]) < 0)
