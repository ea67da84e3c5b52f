"""Selections from a budget: they cost it, and next to nothing less."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from dp.accounting.calibration import zcdp_rho
from dp.accounting.selections import gaussian_threshold, laplace_threshold

epsilons = st.fractions(Fraction(1, 1000), 20)
deltas = st.builds(lambda digits, m: Fraction(m, 10**digits), st.integers(2, 15), st.integers(1, 9))
counts = st.integers(1, 50)


@settings(deadline=None)
@given(epsilons, deltas, counts, st.integers(1, 5), st.integers(1, 9))
def test_the_budget_is_spent(epsilon: Fraction, delta: Fraction, groups: int, size: int, least: int) -> None:
    shared = {"max_groups": groups, "group_size": size, "pre_threshold": least}
    laplace = laplace_threshold(epsilon=epsilon, delta=delta, **shared)
    assert epsilon * (1 - Fraction(1, 2**47)) <= laplace.epsilon <= epsilon
    gaussian = gaussian_threshold(epsilon=epsilon, delta=delta, **shared)
    assert gaussian.epsilon == epsilon
    assert gaussian.rho == zcdp_rho(epsilon, delta / 2)
    for selection in (laplace, gaussian):
        assert selection.delta == delta
        assert (selection.max_groups, selection.group_size, selection.pre_threshold) == (groups, size, least)
