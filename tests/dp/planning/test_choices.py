"""Choices: exact calibration, laws of what is chosen, privacy on neighbours, refusals, and what is said beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.accounting.events import PureEvent, ZcdpEvent
from dp.errors import InvalidArgument, SparkMpcError
from dp.execution.plots import plot_answers
from dp.execution.release import make_answers
from dp.execution.rendering import html_table
from dp.noise.choice import ExponentialTopK, Peeling, TopK
from dp.planning.bin_measures import Items
from dp.planning.bounds import ContributionBounds
from dp.planning.choices import Choices
from dp.planning.explanation import explain_plan
from dp.planning.parts import NoiseParties
from dp.planning.plan import MAX_CHOICE_CELLS, Plan, make_plan
from spark_mpc import dp
from tests.dp.noise.test_choice import exponential_law, flip_law, renyi
from tests.tools.entropy import seeded_random
from tests.tools.plans import FACTS, paper_query

FALSE_ALARM = 1e-6
RUNS = 6000
FLAT = dp.PureDP(1)
ROUND = dp.ZCDP("1/2")


def plan_of(
    values: int,
    k: int = 1,
    *,
    asked: dp.Budget = FLAT,
    groups: int = 1,
    max_groups: int = 1,
    max_rows: int = 8,
    **query: Any,
) -> Plan:
    bounds = ContributionBounds(max_groups=max_groups, max_rows=max_rows)
    chosen = dp.most_frequent("v", list(range(values)), k)
    return make_plan(paper_query([chosen], groups=groups, bounds=bounds, **query), asked)


def with_scale(plan: Plan, factor: Fraction) -> Plan:
    """A fault: choices of another scale than the budget has room for."""
    (part,) = plan.parts
    assert isinstance(part.mechanism, Peeling)
    return replace(
        plan, parts=(replace(part, mechanism=replace(part.mechanism, epsilon=part.mechanism.epsilon / factor)),)
    )


def chosen(plan: Plan, counts: list[int], seed: str) -> NDArray[np.int64]:
    """The order of choice in every group, all groups having these counts; shape (groups, k)."""
    words = np.tile(np.array(counts, np.int64), plan.groups).view(np.uint64)
    ranks = plan.noised(words, seeded_random(seed)).view(np.int64).reshape(plan.groups, -1)
    k = int(ranks.max())
    assert (np.sort(ranks, axis=1)[:, -k:] == np.arange(1, k + 1)).all()
    return np.argsort(np.where(ranks > 0, ranks, k + 1), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("together", [1, 2])
def test_permute_and_flip_has_all_rows_of_a_unit_as_its_range(k: int, together: int) -> None:
    plan = plan_of(5, k, max_groups=2, max_rows=8, groups=4, facts=replace(FACTS, group_size=together))
    (part,) = plan.parts
    assert part.mechanism == TopK(Fraction(1), Fraction(16 * together), k)
    assert part.event == PureEvent(Fraction(1, k), count=k)
    assert plan.price(dp.PureDP) == dp.PureDP(1)


@pytest.mark.parametrize("k", [1, 3])
def test_exponential_choices_of_several_groups_cost_what_the_squares_of_their_ranges_do(k: int) -> None:
    (part,) = plan_of(5, k, asked=ROUND, max_groups=4, max_rows=8, groups=9).parts
    assert isinstance(part.mechanism, ExponentialTopK)
    assert part.event == ZcdpEvent(Fraction(1, 2))
    spent = k * Fraction(4 * 8**2) / (8 * part.mechanism.scale**2)
    assert 0 <= Fraction(1, 2) - spent < 1e-12


def test_a_choice_shares_the_budget_with_noisy_counts_of_the_same_values() -> None:
    query = paper_query([dp.most_frequent("v", [1, 2]), dp.top_k("v", 1, [1, 2]).weight(3), dp.count()])
    measures = dict(query.shares)
    items = Items("v", (1, 2))
    assert measures[Choices(items, 1)] == Fraction(1, 5)
    assert measures[items] == Fraction(3, 5)
    plan = make_plan(query, FLAT)
    assert [type(part.mechanism).__name__ for part in plan.parts] == ["TopK", "DiscreteLaplace", "DiscreteLaplace"]
    opened = plan.noised(np.zeros(plan.length, np.uint64), seeded_random("shared")).view(np.int64)
    assert sorted(opened[:2]) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "law"), [(FLAT, flip_law), (ROUND, exponential_law)])
def test_choices_follow_their_law(asked: dp.Budget, law: Any) -> None:
    counts, plan = [12, 9, 0], plan_of(3, 2, asked=asked, groups=RUNS, max_rows=8)
    mechanism = plan.parts[0].mechanism
    assert isinstance(mechanism, Peeling)
    pairs = list(itertools.permutations(range(3), 2))

    def expected(rate: float) -> list[float]:
        first = law([float(count) for count in counts], rate)
        rest = {i: [j for j in range(3) if j != i] for i in range(3)}
        second = {i: law([float(counts[j]) for j in rest[i]], rate) for i in range(3)}
        return [RUNS * first[i] * second[i][rest[i].index(j)] for i, j in pairs]

    def p_value(of: Plan) -> float:
        found = [tuple(row) for row in chosen(of, counts, "law").tolist()]
        return float(
            stats.chisquare([found.count(pair) for pair in pairs], expected(1 / float(mechanism.scale))).pvalue
        )

    assert p_value(plan) > FALSE_ALARM
    assert p_value(with_scale(plan, Fraction(2, 3))) < FALSE_ALARM  # the twin spends 1.5 epsilon


def neighbours(values: int, groups: int, rows: int, of_group: int) -> Iterator[NDArray[np.int64]]:
    """What a unit adds: at most so many rows, for any values of any groups."""
    cells = itertools.product(range(rows + 1), repeat=groups * values)
    shapes = (np.array(cell).reshape(groups, values) for cell in cells)
    return (added for added in shapes if added.sum() <= rows and added.sum(axis=1).max() <= of_group)


def joint(law: Any, counts: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """One choice in every group: the product of their laws."""
    laws = [law([float(count) for count in group], rate) for group in counts]
    return np.asarray(np.multiply.outer(laws[0], laws[1])).ravel()


BASES = [np.zeros((2, 3), np.int64), np.array([[0, 1, 2], [2, 0, 0]]), np.array([[5, 0, 0], [4, 4, 0]])]


@pytest.mark.parametrize("base", BASES, ids=str)
def test_no_unit_moves_the_choices_of_all_groups_by_more_than_epsilon(base: NDArray[np.int64]) -> None:
    (part,) = plan_of(3, max_groups=2, max_rows=2, groups=2).parts
    assert isinstance(part.mechanism, TopK)
    rate = 1 / float(part.mechanism.scale)
    pairs = [(joint(flip_law, base, rate), joint(flip_law, base + added, rate)) for added in neighbours(3, 2, 4, 2)]
    worst = max(float(np.abs(np.log(p / q)).max()) for p, q in pairs)
    assert 0.6 < worst <= 1 + 1e-9
    twin = [
        (joint(flip_law, base, 2 * rate), joint(flip_law, base + added, 2 * rate)) for added in neighbours(3, 2, 4, 2)
    ]
    assert max(float(np.abs(np.log(p / q)).max()) for p, q in twin) > 1


@pytest.mark.parametrize("base", BASES, ids=str)
def test_no_unit_moves_concentrated_choices_by_more_than_rho(base: NDArray[np.int64]) -> None:
    (part,) = plan_of(3, asked=ROUND, max_groups=2, max_rows=2, groups=2).parts
    assert isinstance(part.mechanism, ExponentialTopK)
    rate, orders = 1 / float(part.mechanism.scale), (1.001, 1.5, 2.0, 4.0, 16.0)

    def worst(factor: float) -> float:
        laws = [
            (joint(exponential_law, base, factor * rate), joint(exponential_law, base + added, factor * rate))
            for added in neighbours(3, 2, 4, 2)
        ]
        return max(renyi(*way, order) / order for p, q in laws for way in ((p, q), (q, p)) for order in orders)

    assert worst(1) <= 0.5 * (1 + 1e-9)
    assert worst(3) > 0.5


@pytest.mark.slow
def test_all_rows_of_a_unit_on_one_value_cost_epsilon_and_no_more() -> None:
    # the last value wins with a probability that a unit of 8 rows multiplies by e, exactly
    def measured(plan: Plan) -> tuple[float, float]:
        """Bounds of log(P with the unit / P without it), each wrong with probability FALSE_ALARM."""
        wins = [int((chosen(plan, counts, f"{counts}")[:, 0] == 1).sum()) for counts in ([8, 0], [8, 8])]
        without, with_unit = (stats.binomtest(won, 4 * RUNS).proportion_ci(1 - FALSE_ALARM) for won in wins)
        return float(np.log(with_unit.low / without.high)), float(np.log(with_unit.high / without.low))

    plan = plan_of(2, groups=4 * RUNS, max_rows=8)
    low, high = measured(plan)
    assert low <= 1 <= high
    assert measured(with_scale(plan, Fraction(2, 3)))[0] > 1  # the twin spends 1.5 epsilon


@pytest.mark.slow
@pytest.mark.parametrize("asked", [FLAT, ROUND])
@pytest.mark.parametrize("k", [1, 3])
def test_a_choice_seldom_falls_as_short_as_is_said(asked: dp.Budget, k: int) -> None:
    plan = plan_of(20, k, asked=asked, groups=RUNS, max_rows=64)
    (aggregate,) = plan.query.aggregates
    error = aggregate.expected_error(plan.query.schema, plan.noise_term, 0.95)
    assert error.of == "shortfall"
    far = int(error.half_width) + 1
    missed = (chosen(plan, [far] * k + [0] * (20 - k), "far") >= k).any(axis=1).mean()
    assert 0.005 < missed < 0.05
    near = (chosen(plan, [far // 3] * k + [0] * (20 - k), "near") >= k).any(axis=1).mean()
    assert near > 0.05


def test_one_choice_is_surer_than_the_highest_of_noisy_counts() -> None:
    for asked in (FLAT, ROUND):
        bounds, values, counts = ContributionBounds(max_groups=1, max_rows=64), list(range(200)), [0] * 200
        plans = [
            make_plan(paper_query([aggregate], groups=1000, bounds=bounds), asked)
            for aggregate in (dp.most_frequent("v", values), dp.top_k("v", 1, values))
        ]
        counts[7] = 400 if asked is FLAT else 300
        words = np.tile(np.array(counts, np.uint64), 1000)
        found = [make_answers(plan, plan.noised(words, seeded_random("surer"))).accuracy for plan in plans]
        right = [sum(label == "7" for label in table.column("label").to_pylist()) for table in found]
        assert right[0] > right[1] + 30


def test_several_lakes_and_totals_are_refused() -> None:
    query = paper_query([dp.most_frequent("v", [1, 2])], groups=2)
    with pytest.raises(InvalidArgument, match=r"^agg="):
        make_plan(query, FLAT, parties=2, noise=NoiseParties(2, 1))
    with pytest.raises(InvalidArgument, match=r"^agg='choices'"):
        make_plan(replace(query, totals="rollup"), FLAT)


def test_counts_to_choose_by_are_never_opened_as_they_are() -> None:
    plan = plan_of(3)
    with pytest.raises(SparkMpcError, match="choices are made"):
        plan.draw_noise(0, plan.length, seeded_random("none"))


def test_long_vectors_are_refused() -> None:
    assert plan_of(4, groups=2**20).length == MAX_CHOICE_CELLS
    with pytest.raises(InvalidArgument, match=r"^keys=.*fewer keys"):
        plan_of(4, groups=2**20 + 1)


def test_so_little_budget_that_no_coin_is_tossed_is_refused() -> None:
    for asked in (dp.PureDP("1e-30"), dp.ZCDP("1e-60")):
        with pytest.raises(InvalidArgument, match=r"^epsilon=.*ask for more"):
            plan_of(3, asked=asked)


def test_counts_that_could_wrap_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^max_units="):
        plan_of(3, max_rows=2**31 - 1, facts=replace(FACTS, max_units=2**40))


@pytest.mark.parametrize(("values", "k"), [([], 1), ([1, 1], 1), ([1, "a"], 1), ([1, 2], 0), ([1, 2], 3), ([1.5], 1)])
def test_impossible_wishes_are_refused(values: list[Any], k: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^(values|k)="):
        dp.most_frequent("v", values, k)


def test_cells_that_are_no_ranking_are_refused() -> None:
    plan = plan_of(3, 2)
    assert make_answers(plan, np.array([0, 2, 1], np.uint64)).values.column(1).to_pylist() == [["2", "1"]]
    for damaged in ([0, 0, 1], [1, 1, 2], [0, 1, 3], [3, 1, 2], [900, 4, 7], [2**64 - 1, 1, 2]):
        with pytest.raises(InvalidArgument, match="no choice was made"):
            make_answers(plan, np.array(damaged, np.uint64))


def test_answers_are_labels_whose_ranks_have_no_interval() -> None:
    plan = make_plan(paper_query([dp.count(), dp.most_frequent("v", [5, 7, 9], 2)], groups=2), FLAT)
    words = np.array([10, 20, 0, 2, 1, 1, 0, 2], np.uint64)
    answers = make_answers(plan, words)
    assert answers.values.column("most_frequent_v").to_pylist() == [["9", "7"], ["5", "9"]]
    ranked = answers.accuracy.to_pylist()[2:]
    assert [(row["k"], row["bin"], row["label"], row["value"]) for row in ranked] == [
        *((0, 0, "9", 1), (0, 1, "7", 2), (1, 0, "5", 1), (1, 1, "9", 2)),
    ]
    assert all(row[end] is None for row in ranked for end in ("stddev", "lower", "upper"))
    assert "<td>9<br>7</td>" in html_table(answers.values, answers.accuracy, ["k"])
    figure = plot_answers(answers.accuracy, ["k"], plan.rows, plan.query.aggregates, "")
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["0: 9, 7\n1: 5, 9"]


def test_no_group_has_no_labels() -> None:
    plan = make_plan(paper_query([dp.most_frequent("v", [5, 7, 9], 2)]), FLAT).for_keys(())
    assert make_answers(plan, np.zeros(0, np.uint64)).values.column("most_frequent_v").to_pylist() == []


def test_what_is_chosen_and_how_is_explained() -> None:
    text = str(explain_plan(plan_of(20, 2, max_rows=64), ()))
    assert "choices(v): 2 of 20 values by permute-and-flip, epsilon=1; one that trails by 383.5 rows" in text
    assert "most_frequent_v: in no group is one chosen that trails a better one by more than 845.7 rows" in text
    assert "by the exponential mechanism" in str(explain_plan(plan_of(20, asked=ROUND), ()))
