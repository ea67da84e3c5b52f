"""How often 95% intervals of answers from stored releases cover the exact sums, over seeds in the place of entropy.

False-alarm rate of each acceptance region: 1e-6. A twin that forgets how many draws are in a sum is rejected.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.accounting.budget import Budget
from dp.execution.release import make_answers
from dp.planning.derivable import Derived
from dp.planning.plan import Plan, make_plan
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.plans import exact_words
from tests.tools.stored import a_query, followed

pytestmark = pytest.mark.slow

REGIONS = 6_000
ROWS = 40_000
FALSE_ALARM = 1e-6
MOST_ABOVE = 0.0025
"""By how much rounding to integers and the margins of `dp.noise.accuracy` may raise the coverage at these scales."""

MEAN = Fraction(27, 4)
FAMILIES: dict[str, Budget] = {"laplace": dp.PureDP("0.2"), "gaussian": dp.ZCDP("0.0005")}
AGGREGATES = (
    dp.count().alias("rows"),
    dp.sum("v", 0, 10).alias("sum_v"),
    dp.mean("v", 0, 10).alias("mean_v"),
    dp.histogram("v", [0, 5, 10]).alias("bins"),
)


class OneDraw(Derived):
    """A twin: its error bars are those of one cell, however many are added up."""

    @property
    def draws(self) -> NDArray[np.int64]:  # type: ignore[override]
        return np.ones(len(self.rows), np.int64)


def wards(region: int) -> int:
    """Two or five, so that not all sums have equal noise."""
    return 2 if region % 2 else 5


def derived_and_words(family: str) -> tuple[Derived, NDArray[np.uint64]]:
    keys = tuple((f"r{region}", ward) for region in range(REGIONS) for ward in range(wards(region)))
    plan: Plan = make_plan(a_query(*AGGREGATES, keys=keys), FAMILIES[family])
    words = exact_words(plan, rows=ROWS, units=0, means={"v": MEAN})
    words = words + plan.draw_noise(0, plan.length, seeded_random(f"free {family}"))
    regions = tuple((f"r{region}",) for region in range(REGIONS))
    return followed(a_query(*AGGREGATES, by=["region"], keys=regions), plan), words


def covered(derived: Derived, words: NDArray[np.uint64]) -> dict[tuple[str, int], tuple[int, int]]:
    """By aggregate and number of wards: how many intervals held the truth, of how many."""
    table = make_answers(derived, words).accuracy.to_pandas()
    table["wards"] = table["region"].map(lambda name: wards(int(name[1:])))
    counts = {}
    for (name, size), rows in table.groupby(["aggregate", "wards"]):
        truth = float(MEAN) if name == "mean_v" else ROWS * size * (float(MEAN) if name == "sum_v" else 1)
        inside = rows["lower"].le(truth) & rows["upper"].ge(truth)
        counts[str(name), int(size)] = (int(inside.sum()), len(rows))
    return counts


def accepted(inside: int, trials: int) -> bool:
    """Whether the count could come from a coverage between 0.95 and 0.95 + MOST_ABOVE."""
    least = stats.binom.ppf(FALSE_ALARM / 2, trials, 0.95)
    most = stats.binom.isf(FALSE_ALARM / 2, trials, 0.95 + MOST_ABOVE)
    return bool(least <= inside <= most)


@pytest.mark.parametrize("family", FAMILIES)
def test_intervals_of_sums_of_stored_cells_cover_as_often_as_they_say(family: str) -> None:
    derived, words = derived_and_words(family)
    counts = covered(derived, words)
    assert counts.keys() == {(aggregate.name, size) for aggregate in AGGREGATES for size in (2, 5)}
    for name, (inside, trials) in counts.items():
        assert accepted(inside, trials), (name, inside / trials)


@pytest.mark.parametrize("family", FAMILIES)
def test_error_bars_of_one_cell_are_too_short_for_a_sum(family: str) -> None:
    derived, words = derived_and_words(family)
    twin = OneDraw(**{name: getattr(derived, name) for name in ("query", "stored", "schemas", "row", "group", "only")})
    for name, (inside, trials) in covered(twin, words).items():
        assert not accepted(inside, trials), (name, inside / trials)
