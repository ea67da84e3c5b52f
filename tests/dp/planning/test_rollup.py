"""Rollups: nodes and totals in plain Python, consistency against least squares, sensitivities against brute force.

Statistical tests have fixed seeds and a false-alarm rate of 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dp.accounting.budget import Budget
from dp.errors import InvalidArgument
from dp.execution.release import make_answers
from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.aggregates import Aggregate
from dp.planning.bin_measures import Distinct
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import Key
from dp.planning.keys import PrivateKeys
from dp.planning.measures import Measure, Present, Rows, Sizes, Truncation, Units
from dp.planning.plan import NoiseParties, Plan, make_plan
from dp.planning.query import Query
from dp.planning.rollup import Hierarchy, RolledUp
from dp.planning.sum_measures import Total
from spark_mpc import dp
from tests.dp.planning.test_measures import (
    BOUNDS,
    MEASURES,
    UnitsRow,
    added_cells,
    contribution,
    everything_one_unit_can_do,
    l1,
    l2_squared,
    rows_of_one_unit,
)
from tests.tools.entropy import seeded_random
from tests.tools.exact import Record, exact_vector
from tests.tools.plans import paper_query, with_noise_scaled

FALSE_ALARM = 1e-6
Group = tuple[Key, ...]


@st.composite
def hierarchies(draw: st.DrawFn) -> Hierarchy:
    """Any public key list: one to three columns of mixed types, in any order, ragged."""
    columns = draw(st.integers(1, 3))
    value = st.sampled_from([0, 1, 2, "a", "b", ""])
    keys = draw(st.lists(st.tuples(*[value] * columns), min_size=1, max_size=12, unique=True))
    return Hierarchy(tuple(keys))


REGULAR = Hierarchy(tuple((ward, day) for ward in "abc" for day in range(4)))
RAGGED = Hierarchy((("a", 0, 1), ("b", 0, 1), ("a", 0, 2), ("a", 1, 1), ("c", 5, 5), ("a", 0, 3), ("b", 1, 0)))
CHAIN = Hierarchy((("only", "one", "group"),))
SHAPES = {"regular": REGULAR, "ragged": RAGGED, "chain": CHAIN}


def sums(hierarchy: Hierarchy) -> NDArray[np.float64]:
    """Which finest groups each node is the sum of, from the nodes' names alone; shape (nodes, groups)."""
    below = [
        [all(part is None or part == own for part, own in zip(node, key, strict=True)) for key in hierarchy.keys]
        for node in hierarchy.nodes
    ]
    return np.array(below, np.float64)


@given(hierarchies())
def test_nodes_are_the_distinct_leading_parts_level_by_level(hierarchy: Hierarchy) -> None:
    columns = len(hierarchy.keys[0])
    assert hierarchy.levels == columns + 1 == len(hierarchy.level_nodes)
    for level, nodes in enumerate(hierarchy.level_nodes):
        prefixes = [key[: columns - level] for key in hierarchy.keys]
        assert [node[: columns - level] for node in nodes] == sorted(set(prefixes), key=prefixes.index)
        assert all(node[columns - level :] == (None,) * level for node in nodes)
    assert hierarchy.level_nodes[0] == hierarchy.keys
    assert hierarchy.level_nodes[-1] == ((None,) * columns,)
    assert len(set(hierarchy.nodes)) == len(hierarchy.nodes)


@given(hierarchies())
def test_every_group_belongs_to_the_node_that_it_begins_with(hierarchy: Hierarchy) -> None:
    columns = len(hierarchy.keys[0])
    for level, (first, found) in enumerate(zip(hierarchy.offsets, hierarchy.ancestors, strict=True)):
        assert len(found) == len(hierarchy.keys)
        for key, position in zip(hierarchy.keys, found, strict=True):
            assert hierarchy.nodes[first + position] == key[: columns - level] + (None,) * level


def noisy(hierarchy: Hierarchy, seed: int, *shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(-(10**6), 10**6, (len(hierarchy.nodes), *shape))


def nearest(hierarchy: Hierarchy, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """The least-squares solution, by numpy."""
    design = sums(hierarchy)
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    return np.asarray(design @ np.linalg.lstsq(design, flat)[0]).reshape(cells.shape)


@given(hierarchies(), st.integers(0, 2**32), st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_consistent_cells_are_the_nearest_ones(hierarchy: Hierarchy, seed: int, shape: tuple[int, ...]) -> None:
    cells = noisy(hierarchy, seed, *shape)
    found = hierarchy.consistent(cells)
    assert found.shape == cells.shape
    np.testing.assert_allclose(found, nearest(hierarchy, cells), rtol=0, atol=1e-6)


@pytest.mark.parametrize("hierarchy", SHAPES.values(), ids=SHAPES.keys())
def test_least_squares_on_known_shapes(hierarchy: Hierarchy) -> None:
    cells = noisy(hierarchy, 4)
    np.testing.assert_allclose(hierarchy.consistent(cells), nearest(hierarchy, cells), rtol=0, atol=1e-6)
    own_sums = sums(hierarchy) @ cells[: len(hierarchy.keys)]
    assert np.abs(own_sums - nearest(hierarchy, cells)).max() > 1, "adding up the finest groups is not it"


@given(hierarchies(), st.integers(0, 2**32), st.sampled_from([(), (3,)]))
def test_totals_are_the_sums_of_their_parts(hierarchy: Hierarchy, seed: int, shape: tuple[int, ...]) -> None:
    found = hierarchy.consistent(noisy(hierarchy, seed, *shape))
    added = np.tensordot(sums(hierarchy), found[: len(hierarchy.keys)], axes=1)
    np.testing.assert_allclose(found, added, rtol=1e-9, atol=1e-9 * 10**6)


@given(hierarchies(), st.integers(0, 2**32), st.sampled_from([(), (3,)]))
def test_what_is_consistent_already_stays(hierarchy: Hierarchy, seed: int, shape: tuple[int, ...]) -> None:
    finest = np.random.default_rng(seed).integers(0, 2**40, (len(hierarchy.keys), *shape))
    exact = np.tensordot(sums(hierarchy).astype(np.int64), finest, axes=1)
    np.testing.assert_allclose(hierarchy.consistent(exact), exact, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_no_node_is_less_accurate_than_its_own_cell(name: str) -> None:
    """Of 40,000 runs the sample variance of normal noise is that of chi square; the theory's value is the hat's."""
    hierarchy, runs, stddev = SHAPES[name], 40_000, 1e6  # so wide that rounding to integers is nothing
    noise = np.rint(np.random.default_rng(11).normal(0, stddev, (len(hierarchy.nodes), runs))).astype(np.int64)
    found = hierarchy.consistent(noise).var(axis=1, ddof=1) / stddev**2
    low, high = (stats.chi2.ppf(tail, runs - 1) / (runs - 1) for tail in (FALSE_ALARM / 2, 1 - FALSE_ALARM / 2))
    design = sums(hierarchy)
    expected = np.diag(design @ np.linalg.pinv(design))
    assert expected.max() < 1, "each is better than its own cell"
    assert np.all((low * expected <= found) & (found <= high * expected))
    added = (design @ noise[: len(hierarchy.keys)]).var(axis=1, ddof=1) / stddev**2
    if name != "chain":  # the twin: adding up is worse for a total than its own cell
        assert added.max() > 2


ADDING = [measure for measure in MEASURES if measure.adds_over_groups]
NOT_ADDING: list[Measure] = [Units(), Sizes(3), Truncation(), Distinct("v", real=False)]
THREE = {
    "flat": Hierarchy(((0,), (1,), (2,))),
    "two wards": Hierarchy((("a", 0), ("b", 0), ("a", 1))),
}


def rolled_contribution(rolled: RolledUp, rows: Sequence[UnitsRow]) -> dict[int, int]:
    return added_cells(rolled, rows_of_one_unit(rolled.measure, rows))


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("measure", ADDING, ids=str)
def test_sensitivity_holds_for_everything_that_a_unit_can_do(
    measure: Measure, name: str, bounds: ContributionBounds
) -> None:
    rolled = RolledUp(measure, THREE[name])
    changes = [rolled_contribution(rolled, rows) for rows in everything_one_unit_can_do(bounds)]
    declared, finest = rolled.sensitivity(bounds), measure.sensitivity(bounds)
    assert max(map(l2_squared, changes)) <= declared.l2_squared
    assert max(map(l1, changes)) <= declared.l1
    if getattr(measure, "norm", None) != "l2":  # whose L1 norm is a square root, rounded up
        assert max(map(l1, changes)) == declared.l1
    if measure.width == 1 and name == "flat":
        assert max(map(l2_squared, changes)) == declared.l2_squared, "all groups come together in the only total"
    # the planted fault: the finest level's price for all levels
    assert max(map(l1, changes)) > finest.l1
    assert max(map(l2_squared, changes)) > finest.l2_squared


@pytest.mark.parametrize("measure", ADDING, ids=str)
def test_cells_of_totals_are_sums_of_the_groups_cells(measure: Measure) -> None:
    hierarchy = THREE["two wards"]
    rolled, bounds = RolledUp(measure, hierarchy), ContributionBounds(max_groups=3, max_rows=2)
    for rows in everything_one_unit_can_do(bounds)[::7]:
        finest = np.zeros((3, measure.width), np.int64)
        for cell, amount in contribution(measure, rows).items():
            finest[cell // measure.width, cell % measure.width] = amount
        expected = np.tensordot(sums(hierarchy).astype(np.int64), finest, axes=1).ravel()
        found = rolled_contribution(rolled, rows)
        assert found == {cell: amount for cell, amount in enumerate(expected.tolist()) if amount}
    assert rolled.cells(3) == len(hierarchy.nodes) * measure.width


@pytest.mark.parametrize("measure", NOT_ADDING, ids=str)
def test_measures_that_do_not_add_are_refused(measure: Measure) -> None:
    with pytest.raises(InvalidArgument, match="totals of it are not sums of groups: ask for it by groupBy"):
        RolledUp(measure, REGULAR)


def rollup(
    *aggregates: Aggregate, keys: tuple[Group, ...] = REGULAR.keys, bounds: ContributionBounds | None = None
) -> Query:
    """A rollup by `ward` and `day`, on paper."""
    plain = paper_query(aggregates, groups=len(keys), bounds=bounds)
    return replace(plain, by=tuple(f"k{i}" for i in range(len(keys[0]))), keys=keys, totals="rollup")


REFUSED: dict[str, Aggregate] = {
    "count_units": dp.count_units(),
    "count_distinct": dp.count_distinct("v"),
    "truncated_share": dp.truncated_share(),
    "most_frequent": dp.most_frequent("v", [1, 2]),
    "chosen_quantile": dp.chosen_quantile("v", "0.5", 0, 10),
}


@pytest.mark.parametrize("name", REFUSED)
def test_aggregates_whose_totals_are_no_sums_are_refused_at_the_query(name: str) -> None:
    paper_query([REFUSED[name]])  # by groupBy it may be asked
    with pytest.raises(InvalidArgument, match="ask for it by groupBy"):
        rollup(REFUSED[name])
    with pytest.raises(InvalidArgument, match="ask for it by groupBy"):
        rollup(dp.count(), REFUSED[name])


ACCEPTED: list[Aggregate] = [
    dp.count(),
    dp.sum("v", 0, 10),
    dp.mean("d", 0, 10),
    dp.variance("d", 0, 10),
    dp.histogram("v", [0, 5, 10]),
    dp.top_k("v", 1, [1, 2]),
    dp.unit_sum("v", 0, 10),
    dp.vector_sum(["v", "d"], bound=5),
    dp.median("v", 0, 9),
]


@pytest.mark.parametrize("aggregate", ACCEPTED, ids=lambda aggregate: type(aggregate).__name__)
def test_aggregates_that_add_up_are_planned_for_every_node(aggregate: Aggregate) -> None:
    query = rollup(aggregate, keys=RAGGED.keys)
    plan = make_plan(query, dp.PureDP(1))
    assert plan.rows == RAGGED.nodes
    assert all(isinstance(part.measure, RolledUp) for part in plan.parts)
    assert plan.length == sum(len(RAGGED.nodes) * part.measure.width for part in plan.parts)
    table = make_answers(plan, np.zeros(plan.length, np.uint64)).values
    assert list(zip(*(table.column(name).to_pylist() for name in query.by), strict=True)) == list(RAGGED.nodes)


def test_private_keys_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="totals belong to public keys"):
        replace(rollup(dp.count()), keys=PrivateKeys())


def test_a_rollup_is_another_question_than_groupBy() -> None:
    asked = rollup(dp.count())
    by_group = replace(asked, totals="none")
    texts = [make_plan(query, dp.PureDP(1)).to_json() for query in (asked, by_group)]
    assert texts[0] != texts[1]
    assert texts[0]["query"] != texts[1]["query"]
    assert texts[0]["measures"] != texts[1]["measures"]
    assert RolledUp(Rows(), REGULAR).to_json() != Rows().to_json()
    assert "3 levels" in RolledUp(Rows(), REGULAR).label


RECORDS: list[Record] = [
    (unit, group, {"v": unit % 9 if unit % 5 else None, "d": float(unit % 7)})
    for unit in range(400)
    for group in (unit % 12, unit % 7, 11)
]
AGGREGATES = (dp.count(), dp.sum("v", 0, 8), dp.mean("d", 0, 6), dp.histogram("v", [0, 4, 9]))
LIMITS = ContributionBounds(max_groups=3, max_rows=3)
FAMILIES: dict[str, Budget] = {"laplace": dp.PureDP(1), "gaussian": dp.ZCDP("1/8")}
RUNS = 1000


def small_plan(family: str, parties: int = 1) -> Plan:
    noise = NoiseParties(parties, 1)
    return make_plan(rollup(*AGGREGATES, bounds=LIMITS), FAMILIES[family], parties=parties, noise=noise)


def test_without_noise_totals_are_those_of_plain_python() -> None:
    plan = small_plan("laplace")
    values = make_answers(plan, exact_vector(plan, RECORDS)).values.to_pylist()
    for node, of_node in zip(REGULAR.nodes, sums(REGULAR), strict=True):
        inside = [row for _, group, row in RECORDS if of_node[group]]
        (answer,) = (row for row in values if (row["k0"], row["k1"]) == node)
        known = [int(str(row["v"])) for row in inside if row["v"] is not None]
        assert answer["count"] == pytest.approx(len(inside), abs=1e-9)
        assert answer["sum_v"] == pytest.approx(sum(known), abs=1e-6)
        assert answer["mean_d"] == pytest.approx(np.mean([float(str(row["d"])) for row in inside]), abs=1e-6)
        assert answer["histogram_v"] == pytest.approx([sum(v < 4 for v in known), sum(v >= 4 for v in known)], abs=1e-9)


def covered(family: str, factor: Fraction, parties: int = 1, confidence: float = 0.95) -> dict[str, int]:
    """Per aggregate: of how many runs of RUNS the interval held the truth, at the node and place that does worst."""
    plan = small_plan(family, parties)
    drawn, exact = with_noise_scaled(plan, factor), exact_vector(plan, RECORDS)
    truth = make_answers(plan, exact).accuracy.to_pandas()
    random, inside = seeded_random(f"rollup {family} {factor} {parties}"), np.zeros(len(truth), np.int64)
    for _ in range(RUNS):
        words = exact.copy()
        for _ in range(parties):
            words = words + drawn.draw_noise(0, plan.length, random)
        table = make_answers(plan, words, confidence).accuracy
        lower, upper = (np.array(table.column(end)) for end in ("lower", "upper"))
        inside += (lower - 1e-6 <= truth["value"]) & (truth["value"] <= upper + 1e-6)
    return {str(name): int(inside[places].min()) for name, places in truth.groupby("aggregate").indices.items()}


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.95, 0.6, 0.25])
@pytest.mark.parametrize(("family", "parties"), [("laplace", 1), ("gaussian", 1), ("laplace", 3)])
def test_intervals_cover_at_least_as_often_as_they_say(family: str, parties: int, confidence: float) -> None:
    """Below 0.8 the interval of one cell's Laplace noise would not: totals made of many are nearer to normal."""
    least = stats.binom.ppf(FALSE_ALARM, RUNS, confidence)
    for name, inside in covered(family, Fraction(1), parties, confidence).items():
        assert inside >= least, (name, inside)


@pytest.mark.parametrize("confidence", [0.1, 0.25, 0.5, 0.8, 0.95])
def test_intervals_are_no_narrower_than_the_noise_of_consistent_cells(confidence: float) -> None:
    """Without a draw: each node's noise is a known weighted sum of all cells' noise, whose quantile is known."""
    plan = make_plan(rollup(dp.count(), bounds=LIMITS), FAMILIES["laplace"])
    (part,), nodes = plan.parts, len(REGULAR.nodes)
    weights = REGULAR.consistent(np.eye(nodes, dtype=np.int64) * 10**6) / 1e6
    accuracy = make_answers(plan, np.full(plan.length, 10**6, np.uint64), confidence).accuracy
    widths = np.array(accuracy.column("upper")) - np.array(accuracy.column("value"))
    for node, row in enumerate(weights):
        noise = Noise(tuple(NoiseTerm(part.noise, float(weight), 1) for weight in row if abs(weight) > 1e-4))
        assert widths[node] >= noise.quantile(confidence) * 0.97


def test_an_answers_confidence_is_the_one_that_was_asked_for() -> None:
    plan = small_plan("laplace")
    table = make_answers(plan, exact_vector(plan, RECORDS), 0.25).accuracy
    assert set(table.column("confidence").to_pylist()) == {0.25}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_that_is_twice_as_wide_is_noticed(family: str) -> None:
    least = stats.binom.ppf(FALSE_ALARM, RUNS, 0.95)
    counts = covered(family, Fraction(2))
    assert counts.keys() >= {"count", "sum_v", "mean_d", "histogram_v"}
    for name, inside in counts.items():
        assert inside < least, (name, inside)


def test_rollups_are_linear_so_parties_may_add_them_up() -> None:
    plan = make_plan(
        rollup(*AGGREGATES, bounds=LIMITS), dp.PureDP(1), parties=3, parties_per_unit=2, noise=NoiseParties(3, 1)
    )
    together = exact_vector(plan, RECORDS)
    shares = [exact_vector(plan, [row for row in RECORDS if row[0] % 3 == party]) for party in range(3)]
    assert (shares[0] + shares[1] + shares[2]).tolist() == together.tolist()
    alone = make_plan(rollup(*AGGREGATES, bounds=LIMITS), dp.PureDP(1))
    assert [part.sensitivity for part in plan.parts] == [part.sensitivity.times(2) for part in alone.parts]


def test_what_an_aggregate_needs_is_found_among_the_rolled_up_parts() -> None:
    plan = small_plan("gaussian")
    measures = [part.measure.measure for part in plan.parts if isinstance(part.measure, RolledUp)]
    assert {type(measure) for measure in measures} >= {Rows, Present, Total}
    for measure in measures:
        assert plan.part_of(measure).measure == RolledUp(measure, REGULAR)
