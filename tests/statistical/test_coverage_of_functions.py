"""How often the 95% intervals of variances, vectors, unit sums, distinct counts, top-k and shares cover the truth.

Every group of a vector is one run with noise of its own. False-alarm rate of each acceptance region: 1e-6. Intervals of
sums cover as often as they say, and a twin whose noise is 15% wider is rejected; those of ratios and of the highest of
several counts cover at least so often, and a twin whose noise is three times as wide is rejected.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.accounting.budget import Budget
from dp.execution.release import make_answers
from dp.planning.bounds import ContributionBounds
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.exact import Record, exact_vector
from tests.tools.plans import paper_query, with_noise_scaled

pytestmark = pytest.mark.slow

RUNS = 10_000
FALSE_ALARM = 1e-6
MOST_ABOVE = 0.004
FAMILIES: dict[str, Budget] = {"laplace": dp.PureDP(4), "gaussian": dp.ZCDP("1/2")}
BOUNDS = ContributionBounds(max_groups=1, max_rows=2)
D = (-100, 300)
LINEAR = (
    dp.unit_sum("v", -20, 90),
    dp.vector_sum(["v", "d"], bound=100),
    dp.count_distinct("v"),
    dp.sufficient_statistics(["i", "d"], {"i": (0, 10), "d": D}),
)
CAUTIOUS = (dp.variance("d", *D), dp.stddev("d", *D), dp.mean("d", *D), dp.top_k("v", 2, [0, 1, 2]))
RECORDS: list[Record] = [
    (unit, 0, {"v": unit % 3 if unit % 7 else unit, "i": unit % 10, "d": float(unit % 8 * 25 - 50)})
    for unit in range(5000)
]


@cache
def exact_group() -> tuple[Plan, NDArray[np.uint64], dict[str, list[float]]]:
    """One group's plan, its words, and what is true of them."""
    plan = make_plan(paper_query([*LINEAR, *CAUTIOUS], bounds=BOUNDS), dp.PureDP(1))
    words = exact_vector(plan, RECORDS)
    answers = make_answers(plan, words).accuracy.to_pylist()
    truth: dict[str, list[float]] = {}
    for row in answers:
        truth.setdefault(row["aggregate"], []).append(row["value"])
    return plan, words, truth


def noised(plan: Plan, drawn: Plan, seed: str) -> NDArray[np.uint64]:
    """The words of one group for every group, with noise."""
    one, words, _ = exact_group()
    tiled = [np.tile(words[part.offset : part.offset + part.cells], RUNS) for part in one.parts]
    assert [part.measure for part in one.parts] == [part.measure for part in plan.parts]
    return np.concatenate(tiled) + drawn.draw_noise(0, plan.length, seeded_random(seed))


def covered(family: str, factor: Fraction = Fraction(1)) -> dict[str, tuple[int, int]]:
    """Per aggregate: how many runs held every truth of one place, of how many; the place that does worst."""
    plan = make_plan(paper_query([*LINEAR, *CAUTIOUS], groups=RUNS, bounds=BOUNDS), FAMILIES[family])
    words = noised(plan, with_noise_scaled(plan, factor), f"functions {family} {factor}")
    table = make_answers(plan, words).accuracy.to_pandas()
    counts = {}
    for name, of_aggregate in table.groupby("aggregate"):
        truth = exact_group()[2][str(name)]
        low, high = (of_aggregate[end].to_numpy().reshape(RUNS, -1) for end in ("lower", "upper"))
        if name == "top_2_v":  # by the label's own count, whichever it is
            own = np.array([exact_counts()[int(label)] for label in of_aggregate["label"]]).reshape(RUNS, -1)
            inside = ((low <= own) & (own <= high)).all(axis=1, keepdims=True)
        else:
            inside = (low <= np.array(truth) + 1e-6) & (np.array(truth) - 1e-6 <= high)
        counts[str(name)] = (int(inside.sum(axis=0).min()), RUNS)
    return counts


def exact_counts() -> dict[int, int]:
    return {value: sum(values["v"] == value for _, _, values in RECORDS) for value in (0, 1, 2)}


def accepted(name: str, inside: int, trials: int) -> bool:
    """Whether the count could come from a coverage of 0.95, or more where intervals are cautious."""
    least = stats.binom.ppf(FALSE_ALARM / 2, trials, 0.95)
    exact = name in {aggregate.name for aggregate in LINEAR}
    most = stats.binom.isf(FALSE_ALARM / 2, trials, 0.95 + MOST_ABOVE) if exact else trials
    return bool(least <= inside <= most)


@pytest.mark.parametrize("family", FAMILIES)
def test_intervals_cover_as_often_as_they_say(family: str) -> None:
    counts = covered(family)
    assert counts.keys() == {aggregate.name for aggregate in (*LINEAR, *CAUTIOUS)}
    for name, (inside, trials) in counts.items():
        assert accepted(name, inside, trials), (name, inside / trials)


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_that_is_wider_than_declared_is_noticed(family: str) -> None:
    for name, (inside, trials) in covered(family, Fraction(115, 100)).items():
        if name in {aggregate.name for aggregate in LINEAR}:
            assert not accepted(name, inside, trials), (name, inside / trials)
    for name, (inside, trials) in covered(family, Fraction(3)).items():
        assert not accepted(name, inside, trials), (name, inside / trials)


def test_the_share_of_truncated_units_is_covered() -> None:
    """1,000 releases; a twin with three times the noise."""
    plan = make_plan(paper_query([dp.truncated_share()]), dp.PureDP("1/10"))
    exact = np.array([300, 1000], np.uint64)

    def inside(factor: int) -> int:
        drawn, random = with_noise_scaled(plan, Fraction(factor)), seeded_random(f"shares {factor}")
        held = 0
        for _ in range(1000):
            (row,) = make_answers(plan, exact + drawn.draw_noise(0, 2, random)).accuracy.to_pylist()
            held += row["lower"] <= 0.3 <= row["upper"]
        return held

    assert accepted("cautious", inside(1), 1000)
    assert not accepted("cautious", inside(3), 1000)


def test_standard_deviations_are_those_of_the_released_values() -> None:
    """Of 10,000 runs; the sample's own error is about 1%."""
    plan = make_plan(paper_query([*LINEAR, *CAUTIOUS], groups=RUNS, bounds=BOUNDS), FAMILIES["gaussian"])
    table = make_answers(plan, noised(plan, plan, "spread")).accuracy.to_pandas()
    for name, of_aggregate in table[table["aggregate"] != "top_2_v"].groupby("aggregate"):
        values, declared = (of_aggregate[column].to_numpy().reshape(RUNS, -1) for column in ("value", "stddev"))
        for place in range(values.shape[1]):
            ratio = values[:, place].std() / np.median(declared[:, place])
            assert math.isclose(ratio, 1, rel_tol=0.05), (name, place, ratio)
