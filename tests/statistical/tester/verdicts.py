"""One case judged: samples of the plan's own noise, and of noise that is 15% too small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.planning.plan import Plan
from tests.statistical.tester.cases import Case, distance
from tests.statistical.tester.pipeline import Encoded, Reals, loss_samples
from tests.statistical.tester.rejections import excess_of_epsilon_delta, excess_of_rho
from tests.tools.entropy import seeded_random
from tests.tools.plans import with_noise_scaled

__all__ = ["FALSE_ALARM", "TOO_SMALL", "Verdict", "excess", "judged"]

FALSE_ALARM = 1e-6
"""Of one verdict on an algorithm that keeps its guarantee."""

TOO_SMALL = Fraction(85, 100)

_MOST_CELLS = 9


@dataclass(frozen=True)
class Verdict:
    """By how much each twin certainly exceeds the guarantee; above 0 it is rejected.

    Attributes:
        case: which.
        moved: cells in which the neighbours differ.
        tight: whether the plan has next to nothing to spare on them: only then can its noise be judged to 15%.
        ours: of the plan.
        too_small: of its twin.
    """

    case: str
    moved: int
    tight: bool
    ours: float
    too_small: float

    @property
    def wrong(self) -> bool:
        """Whether ours was rejected, or the twin was not."""
        return self.ours > 0 or (self.tight and self.too_small <= 0)


def judged(case: Case, codes: Encoded, size_of: Callable[[Case, int], int]) -> Verdict:
    """Judge a case by as many samples as `size_of` says for the number of cells in which the neighbours differ."""
    plan, neighbours = case.plan, case.neighbours(codes)
    moved = int((neighbours[0] != neighbours[1]).sum())
    size, found = size_of(case, moved), []
    for drawn, seed in ((plan, "ours"), (with_noise_scaled(plan, TOO_SMALL), "too small")):
        samples = loss_samples(plan, drawn, neighbours, size, seeded_random(f"{case} {seed}"))
        found.append(excess(plan.guarantee, *samples))
    return Verdict(str(case), moved, _tellable(plan, moved, distance(plan, *neighbours)), *found)


def _tellable(plan: Plan, moved: int, distance_found: float) -> bool:
    """Whether 15% less noise must be noticed: a plan that allows for more than these neighbours use has some to spare.

    Laplace noise is priced as if all of a unit's change were in one cell, which costs most where there is a delta. And
    where many cells move under pure epsilon, the events that tell are too rare for some million samples.
    """
    if plan.query.noise_norm == 1 and moved > (_MOST_CELLS if isinstance(plan.guarantee, PureDP) else 1):
        return False
    return distance_found > 0.98


def excess(guarantee: Budget, without: Reals, with_unit: Reals) -> float:
    """By how much samples certainly exceed a guarantee."""
    if isinstance(guarantee, ZCDP):
        return excess_of_rho(without, with_unit, rho=float(guarantee.rho), false_alarm=FALSE_ALARM)
    assert isinstance(guarantee, PureDP | ApproxDP)
    delta = float(guarantee.delta) if isinstance(guarantee, ApproxDP) else 0.0
    paid = {"epsilon": float(guarantee.epsilon), "delta": delta}
    return excess_of_epsilon_delta(without, with_unit, **paid, false_alarm=FALSE_ALARM)
