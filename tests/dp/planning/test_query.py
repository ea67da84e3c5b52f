"""A query as a value: what it refuses, how it splits its budget, and that its public form is canonical."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys
from dp.planning.measures import Present, Rows, Units
from dp.planning.query import canonical, digest
from dp.planning.sum_measures import Total
from spark_mpc import dp
from tests.tools.plans import COLUMNS, FACTS, paper_query


def test_aggregates_that_need_the_same_measure_share_it() -> None:
    query = paper_query([dp.count(), dp.mean("i", 0, 10), dp.sum("i", 0, 10), dp.count_units()])
    assert [type(measure) for measure in query.shares] == [Rows, Total, Units]  # a mean over an `i` that is never NULL
    assert sum(query.shares.values()) == 1


@pytest.mark.parametrize(("column", "missing"), [("v", None), ("d", None)])
def test_where_values_can_be_missing_the_mean_counts_for_itself(column: str, missing: int | None) -> None:
    query = paper_query([dp.count(), dp.mean(column, 0, 10, missing=missing)])
    assert [type(measure) for measure in query.shares] == [Rows, Total, Present]


@pytest.mark.parametrize("column", ["v", "i", "d"])
def test_with_an_imputed_value_every_row_counts(column: str) -> None:
    query = paper_query([dp.count(), dp.mean(column, 0, 10, missing=2)])
    assert [type(measure) for measure in query.shares] == [Rows, Total]


def test_shares_follow_the_weights_exactly() -> None:
    query = paper_query([dp.count(), dp.sum("v", 0, 1).weight("1/3"), dp.count_units().weight("0.1")])
    total = 1 + Fraction(1, 3) + Fraction(1, 10)
    assert list(query.shares.values()) == [1 / total, Fraction(1, 3) / total, Fraction(1, 10) / total]


def test_of_two_weights_for_one_measure_the_greater_counts() -> None:
    for weights in ((2, 5), (5, 2)):
        query = paper_query([dp.count().weight(weights[0]), dp.mean("i", 0, 10).weight(weights[1])])
        total = next(measure for measure in query.shares if isinstance(measure, Total))
        assert query.shares[Rows()] == Fraction(5, 5 + weights[1])
        assert query.shares[total] == Fraction(weights[1], 5 + weights[1])


def test_a_sum_is_taken_from_the_middle_only_where_a_mean_of_the_same_values_is_asked() -> None:
    def centres(*aggregates: Aggregate) -> list[int]:
        return [m.encoding.centre for m in paper_query(aggregates).shares if isinstance(m, Total)]

    assert centres(dp.sum("v", 0, 10)) == [0]
    assert centres(dp.sum("v", 0, 10), dp.mean("v", 0, 10)) == [5]
    assert centres(dp.sum("v", 0, 10), dp.mean("v", 0, 10, missing=0)) == [0, 5]
    assert centres(dp.sum("v", 0, 10), dp.mean("v", 0, 12)) == [0, 6]


def test_declared_bounds_are_filled_in() -> None:
    facts = PublicFacts(unit=("id",), bounds={"v": (Fraction(-1), Fraction(4))}, max_units=1000)
    (aggregate,) = paper_query([dp.sum("v")], facts=facts).aggregates
    assert (aggregate.lower, aggregate.upper) == (-1, 4)  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgument, match=r"bounds=None: give 'd' a lower and an upper bound"):
        paper_query([dp.sum("d")], facts=facts)


@pytest.mark.parametrize(
    ("aggregates", "message"),
    [
        ([], r"agg=\(\): name at least one aggregate"),
        ([dp.count(), dp.count()], "two columns of the answer have the same name"),
        ([dp.count().alias("k")], "two columns of the answer have the same name"),
        ([dp.sum("nope", 0, 1)], "column='nope': no such numeric column; there are"),
        ([dp.histogram("v", [0, 2**62 + 1])], r"edges='4611686018427387905'.*2\^62"),
        ([dp.histogram("d", [0, Fraction(10) ** 400])], r"edges=.*2\^256"),
        ([dp.sum("v", "0.1", "0.9")], "no integer lies between them"),
        ([dp.mean("d", 0, Fraction(10) ** 400)], r"bounds of real columns stay within 2\^256"),
    ],
)
def test_impossible_queries_are_refused(aggregates: list[Aggregate], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        paper_query(aggregates)


def test_equal_queries_have_equal_digests_and_every_public_change_another() -> None:
    query = paper_query([dp.count(), dp.sum("v", 0, 10)], groups=2)
    same = paper_query([dp.count(), dp.sum("v", "0", 10.0)], groups=2)
    assert digest(query.to_json()) == digest(same.to_json())
    changed = [
        replace(query, keys=((1,), (0,))),
        replace(query, keys=((0,), (2,))),
        replace(query, keys=((0,), (True,))),
        replace(query, keys=((0,), ("1",))),
        replace(query, by=("j",)),
        replace(query, filters=("v > 1",)),
        replace(query, filters=("v > 1", "v < 9")),
        replace(query, filters=("v < 9", "v > 1")),
        replace(query, bounds=ContributionBounds(max_groups=1, max_rows=2)),
        replace(query, bounds=ContributionBounds(max_total_rows=1)),
        replace(query, facts=replace(FACTS, unit=("other",))),
        replace(query, facts=replace(FACTS, max_units=7)),
        replace(query, facts=replace(FACTS, group_size=2)),
        replace(query, facts=replace(FACTS, unit=())),
        replace(query, facts=replace(FACTS, unit=(), rows_per_unit=3)),
        replace(query, keys=PrivateKeys()),
        replace(query, keys=PrivateKeys("laplace")),
        replace(query, keys=PrivateKeys(min_units=2)),
        replace(query, keys=PrivateKeys(share=Fraction(2))),
        replace(query, keys=PrivateKeys(other="rest")),
        replace(query, columns={**COLUMNS, "v": COLUMNS["i"]}),
        replace(query, aggregates=(dp.sum("v", 0, 10), dp.count())),
        replace(query, aggregates=(dp.count(), dp.sum("v", 0, 10).weight(2))),
        replace(query, aggregates=(dp.count(), dp.sum("v", 0, 10, missing=0))),
    ]
    digests = {digest(each.to_json()) for each in [query, *changed]}
    assert len(digests) == 1 + len(changed)


def test_the_canonical_form_is_ascii_json_in_one_order() -> None:
    assert canonical({"b": 1, "a": ["ü", True]}) == b'{"a":["\\u00fc",true],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": float("nan")})
    query = paper_query([dp.count()])
    assert json.loads(canonical(query.to_json())) == query.to_json()


def test_a_unit_is_in_no_more_groups_than_there_are() -> None:
    few = paper_query([dp.count()], groups=2, bounds=ContributionBounds(max_groups=100, max_rows=4))
    assert few.bounds == ContributionBounds(max_groups=2, max_rows=4)
    assert few.shares.keys() == paper_query([dp.count()], groups=2).shares.keys()


@pytest.mark.parametrize("name", ["value", "Bin", "upper"])
def test_a_grouping_column_cannot_hide_in_the_accuracy_table(name: str) -> None:
    with pytest.raises(InvalidArgument, match="accuracy table"):
        replace(paper_query([dp.count()]), by=(name,))


def test_names_that_spark_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="same name"):
        paper_query([dp.count().alias("n"), dp.count().alias("N")])
