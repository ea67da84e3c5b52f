"""How often the 95% intervals of a release cover the exact (clamped) answer, over seeds in the place of entropy.

False-alarm rate of each acceptance region: 1e-6. A twin whose noise is 15% or 30% wider than declared is rejected.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from scipy import stats

from dp.accounting.budget import Budget
from dp.execution.release import make_answers
from dp.planning.plan import NoiseParties, Plan, make_plan
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.plans import exact_words, paper_query, with_noise_scaled

pytestmark = pytest.mark.slow

GROUPS = 20_000
ROWS, UNITS = 40_000, 3_000
FALSE_ALARM = 1e-6
MOST_ABOVE = 0.0025
"""By how much rounding to integers and the margins of `dp.noise.accuracy` may raise the coverage at these scales."""

V_MEAN, D_MEAN = Fraction(27, 4), Fraction(-125, 2)  # of the columns below, both far from the middle of the bounds
AGGREGATES = (
    dp.count().alias("rows"),
    dp.count_units().alias("people"),
    dp.sum("v", 0, 10).alias("sum_v"),  # as it stands
    dp.sum("d", -100, 300).alias("sum_d"),  # derived: the mean below takes the sum from the middle of the bounds
    dp.mean("d", -100, 300).alias("mean_d"),
    dp.histogram("v", [0, 5, 10]).alias("bins"),
)
TRUTH = {"rows": ROWS, "people": UNITS, "bins": ROWS, "sum_v": V_MEAN * ROWS, "sum_d": D_MEAN * ROWS, "mean_d": D_MEAN}
FAMILIES: dict[str, Budget] = {"laplace": dp.PureDP("0.2"), "gaussian": dp.ZCDP("0.0005")}


def a_plan(family: str, parties: int) -> Plan:
    return make_plan(
        paper_query(AGGREGATES, groups=GROUPS), FAMILIES[family], parties=parties, noise=NoiseParties(parties, 1)
    )


def covered(plan: Plan, drawn: Plan, seed: str) -> dict[str, tuple[int, int]]:
    """Per aggregate: how many intervals held the truth, of how many; noise by `drawn`, intervals by `plan`."""
    words = exact_words(plan, rows=ROWS, units=UNITS, means={"v": V_MEAN, "d": D_MEAN})
    for party in range(plan.noise.copies):
        words = words + drawn.draw_noise(0, plan.length, seeded_random(f"{seed} {party}"))
    table = make_answers(plan, words).accuracy.to_pandas()
    counts = {}
    for name, of_aggregate in table.groupby("aggregate"):
        inside = of_aggregate["lower"].le(float(TRUTH[name])) & of_aggregate["upper"].ge(float(TRUTH[name]))
        counts[str(name)] = (int(inside.sum()), len(of_aggregate))
    return counts


def accepted(inside: int, trials: int) -> bool:
    """Whether the count could come from a coverage between 0.95 and 0.95 + MOST_ABOVE."""
    least = stats.binom.ppf(FALSE_ALARM / 2, trials, 0.95)
    most = stats.binom.isf(FALSE_ALARM / 2, trials, 0.95 + MOST_ABOVE)
    return bool(least <= inside <= most)


@pytest.mark.parametrize("parties", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_intervals_cover_as_often_as_they_say(family: str, parties: int) -> None:
    plan = a_plan(family, parties)
    counts = covered(plan, plan, f"coverage {family} {parties}")
    assert counts.keys() == TRUTH.keys()
    for name, (inside, trials) in counts.items():
        assert accepted(inside, trials), (name, inside / trials)


@pytest.mark.parametrize("factor", [Fraction(115, 100), Fraction(130, 100)])
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_that_is_wider_than_declared_is_noticed(family: str, factor: Fraction) -> None:
    plan = a_plan(family, 3)
    counts = covered(plan, with_noise_scaled(plan, factor), f"wide {family} {factor}")
    for name, (inside, trials) in counts.items():
        assert not accepted(inside, trials), (name, inside / trials)
