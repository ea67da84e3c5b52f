"""The stochastic tester, in part: every aggregate once, every form of bound under every guarantee, private keys.

False-alarm rate of each verdict: 1e-6. Each case has a twin with 15% less noise, which the same samples' test must
reject. `python -m tests.statistical.tester` judges every combination, a million samples each.
"""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from tests.statistical.tester.cases import AGGREGATES, BOUNDS, GUARANTEES, raw_rows
from tests.statistical.tester.pipeline import Encoded, encoded
from tests.statistical.tester.rejections import excess_of_epsilon_delta, excess_of_rho
from tests.statistical.tester.selections import OTHERS_PLANS, NamesAndCounts, NamesCase, names_cases, others_verdict
from tests.statistical.tester.suite import MILLION, quick_cases, quick_size
from tests.statistical.tester.verdicts import FALSE_ALARM, judged

pytestmark = pytest.mark.slow

QUICK = {str(case): case for case in quick_cases()}


@pytest.fixture(scope="module")
def codes(spark: SparkSession) -> Encoded:
    return encoded(spark, [case.plan for case in QUICK.values()], raw_rows())


@pytest.mark.parametrize("name", QUICK)
def test_a_release_costs_what_was_paid_and_less_noise_is_noticed(name: str, codes: Encoded) -> None:
    verdict = judged(QUICK[name], codes, quick_size)
    assert verdict.tight, "the neighbours do not use up what the plan allows for: the twin could not be told"
    assert verdict.ours <= 0
    assert verdict.too_small > 0


def test_the_part_holds_every_aggregate_and_every_form_of_bound() -> None:
    names = [name.split(" | ") for name in QUICK]
    assert {aggregate for aggregate, _, _ in names} == set(AGGREGATES)
    assert {(limit, guarantee) for _, limit, guarantee in names} == {(b, g) for b in BOUNDS for g in GUARANTEES}


@pytest.mark.parametrize("case", [case for case in names_cases() if case.max_groups == 1], ids=str)
def test_names_cost_what_was_paid_and_naming_too_many_is_noticed(case: NamesCase) -> None:
    assert not case.judged(MILLION // 5).wrong


def test_names_and_counts_together_cost_what_was_paid() -> None:
    assert not NamesAndCounts("laplace").judged(MILLION // 10).wrong


@pytest.mark.parametrize("asked", OTHERS_PLANS, ids=str)
def test_all_other_groups_in_one_cell_cost_what_was_paid(asked: object, codes: Encoded) -> None:
    assert not others_verdict(asked, codes, MILLION // 5).wrong  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_the_tests_themselves_accept_what_just_keeps_its_guarantee(seed: int) -> None:
    """Randomised response at exactly epsilon, the Gaussian mechanism at exactly rho; with a tenth more, rejected."""
    random = np.random.default_rng(seed)
    for epsilon, rejected in ((1.0, False), (1.1, True)):
        honest = 1 / (1 + np.exp(-epsilon))
        answers = [(random.random(MILLION // 5) < p).astype(np.float64) for p in (1 - honest, honest)]
        excess = excess_of_epsilon_delta(*answers, epsilon=1.0, delta=0.0, false_alarm=FALSE_ALARM)
        assert (excess > 0) == rejected
    for shift, rejected in ((0.5, False), (0.55, True)):
        losses = [random.normal(mean * shift**2 / 2, shift, MILLION // 2) for mean in (-1, 1)]
        excess = excess_of_rho(*losses, rho=0.125, false_alarm=FALSE_ALARM)
        assert (excess > 0) == rejected
