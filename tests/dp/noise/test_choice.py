"""Choices: laws of small cases, the price on neighbours, and inputs without floats."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dp.errors import InvalidArgument
from dp.noise.choice import Choice, ExponentialMechanism, ExponentialTopK, PermuteAndFlip, TopK, Utilities
from dp.noise.entropy import RandomSource
from dp.noise.samplers import Precision, bernoulli_exp
from tests.tools.entropy import seeded_random

FALSE_ALARM = 1e-6
ORDERS = [1.001, 1.1, 1.5, 2.0, 3.0, 8.0, 30.0]
EPSILONS = [0.01, 0.1, 1.0, 3.0]
TIES_OFTEN = Precision(word_bits=4, root_bits=2)

Law = np.ndarray[tuple[int], np.dtype[np.float64]]


def exponential_law(utilities: list[float], rate: float) -> Law:
    weights = np.exp(rate * (np.array(utilities) - max(utilities)))
    return np.asarray(weights / weights.sum())


def flip_law(utilities: list[float], rate: float) -> Law:
    """Permute-and-flip as its source states it: over all orders, the first coin that succeeds."""
    law = np.zeros(len(utilities))
    heads = np.exp(rate * (np.array(utilities) - max(utilities)))
    orders = list(permutations(range(len(utilities))))
    for order in orders:
        reached = 1.0
        for i in order:
            law[i] += reached * heads[i] / len(orders)
            reached *= 1 - heads[i]
    return law


def renyi(p: Law, q: Law, order: float) -> float:
    return float(np.log((p**order * q ** (1 - order)).sum()) / (order - 1))


def neighbours(candidates: int) -> list[tuple[list[float], list[float]]]:
    """Utilities and those of a neighbour, each moved by at most one: differences move by at most two."""
    bases = [[0.0] * candidates, [float(i) for i in range(candidates)], [0.0] * (candidates - 1) + [4.0]]
    moves = product((-1.0, 0.0, 1.0), repeat=candidates)
    return [(base, [b + m for b, m in zip(base, move, strict=True)]) for move in moves for base in bases]


def one_sided(candidates: int) -> list[tuple[list[float], list[float]]]:
    """Neighbours whose utilities all move up, or all down: differences move by at most one."""
    return [(a, b) for a, b in neighbours(candidates) if (d := set(np.subtract(b, a))) <= {0, 1} or d <= {0, -1}]


LAWS = [(exponential_law, ExponentialMechanism), (flip_law, PermuteAndFlip)]
PAIRS = [(2.0, neighbours(2) + neighbours(3) + neighbours(4)), (1.0, one_sided(2) + one_sided(3) + one_sided(4))]


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize(("law", "mechanism"), LAWS)
@pytest.mark.parametrize(("reach", "pairs"), PAIRS, ids=["two-sided", "one-sided"])
def test_the_price_holds_on_neighbours(law, mechanism, reach, pairs, epsilon) -> None:  # type: ignore[no-untyped-def]
    rho = float(mechanism(Fraction(str(epsilon)), Fraction(2)).zcdp_rho)
    for before, after in pairs:
        p, q = law(before, epsilon / reach), law(after, epsilon / reach)
        assert np.abs(np.log(p / q)).max() <= epsilon * (1 + 1e-9)
        assert all(renyi(p, q, order) <= order * rho * (1 + 1e-6) + 1e-12 for order in ORDERS)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_only_the_exponential_mechanism_has_a_bounded_range(epsilon: float) -> None:
    def widest(law) -> float:  # type: ignore[no-untyped-def]
        return max(float(np.ptp(np.log(law(a, epsilon / 2) / law(b, epsilon / 2)))) for a, b in neighbours(3))

    assert widest(exponential_law) <= epsilon * (1 + 1e-9)
    assert widest(flip_law) > 1.2 * epsilon


def test_permute_and_flip_at_an_eighth_would_lie() -> None:
    # two equal candidates against a difference of two: the loss is about +-epsilon with probability a half each
    p, q = flip_law([0.0, 0.0], 0.05), flip_law([1.0, -1.0], 0.05)
    assert renyi(p, q, 1.1) > 3.5 * 1.1 * 0.1**2 / 8
    assert renyi(p, q, 1.1) <= 1.1 * float(PermuteAndFlip(Fraction(1, 10), Fraction(2)).zcdp_rho)


def test_one_sided_sensitivity_on_two_sided_neighbours_would_lie() -> None:
    for law, _ in LAWS:
        worst = max(float(np.abs(np.log(law(a, 1.0) / law(b, 1.0))).max()) for a, b in neighbours(2))
        assert worst > 1.2


@pytest.mark.parametrize("utilities", [[0, 1], [3, 3, 3], [0, 5, 2, 4], [Fraction(1, 3), Fraction(-1, 7), Fraction(2)]])
@pytest.mark.parametrize(("law", "mechanism"), LAWS)
def test_choices_follow_their_law(utilities, law, mechanism) -> None:  # type: ignore[no-untyped-def]
    chooser = mechanism(Fraction(3, 2), Fraction(2))
    random = seeded_random(f"choice {utilities}")
    counts = np.bincount([int(chooser.choose(utilities, random)[0]) for _ in range(4000)], minlength=len(utilities))
    floats = [float(u) for u in utilities]
    assert stats.chisquare(counts, 4000 * law(floats, 0.75)).pvalue > FALSE_ALARM
    if len(set(utilities)) > 1:  # the twin, at half the epsilon, is rejected
        assert stats.chisquare(counts, 4000 * law(floats, 0.375)).pvalue < FALSE_ALARM


@pytest.mark.parametrize(("law", "peeling"), [(flip_law, TopK), (exponential_law, ExponentialTopK)])
def test_top_k_follows_the_law_of_peeling(law, peeling) -> None:  # type: ignore[no-untyped-def]
    utilities, random = [0, 1, 3], seeded_random("peeling")
    chosen = [tuple(peeling(Fraction(2), Fraction(1), 2).choose(utilities, random).tolist()) for _ in range(4000)]
    pairs = list(permutations(range(3), 2))

    def expected(rate: float) -> list[float]:
        first = law([float(u) for u in utilities], rate)
        laws = []
        for i, j in pairs:
            rest = [k for k in range(3) if k != i]
            laws.append(4000 * first[i] * law([float(utilities[k]) for k in rest], rate)[rest.index(j)])
        return laws

    counts = [chosen.count(pair) for pair in pairs]
    assert stats.chisquare(counts, expected(1.0)).pvalue > FALSE_ALARM
    assert stats.chisquare(counts, expected(2.0)).pvalue < FALSE_ALARM  # the twin pays epsilon for each choice


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 99))
def test_top_k_chooses_distinct_candidates(utilities: list[int], k: int, seed: int) -> None:
    chosen = TopK(Fraction(1), Fraction(2), k).choose(utilities, seeded_random(seed)).tolist()
    assert len(chosen) == len(set(chosen)) == min(k, len(utilities))
    assert set(chosen) <= set(range(len(utilities)))


MECHANISMS: list[Choice] = [
    ExponentialMechanism(Fraction(1), Fraction(2)),
    PermuteAndFlip(Fraction(1), Fraction(2)),
    TopK(Fraction(1), Fraction(2), 1),
    ExponentialTopK(Fraction(1), Fraction(2), 1),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
@pytest.mark.parametrize("far", [10**4, 10**30, 10**400])
def test_nothing_underflows_or_overflows(mechanism: Choice, far: int) -> None:
    # in floats exp(-far / 2) is zero for all of these, and 10^400 is infinite
    random = seeded_random("far")
    assert mechanism.choose([-far, -2 * far, 0], random).tolist() == [2]
    ties = [int(mechanism.choose([-far, far, far], random)[0]) for _ in range(60)]
    assert set(ties) == {1, 2}  # wrong with probability 2^-59


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
def test_extremes_of_int64_do_not_wrap(mechanism: Choice) -> None:
    utilities = np.array([-(2**63), 2**63 - 1, 0], np.int64)
    assert mechanism.choose(utilities, seeded_random(1)).tolist() == [1]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
def test_equal_inputs_in_other_forms_choose_alike(mechanism: Choice) -> None:
    forms: list[Utilities] = [[2, 0, 1], np.array([2, 0, 1]), [Fraction(2), Fraction(0), Fraction(1)]]
    moved = [10**30 + u for u in (2, 0, 1)]  # Python integers take the other path
    for seed in range(30):
        choices = {int(mechanism.choose(form, seeded_random(seed))[0]) for form in [*forms, moved]}
        assert len(choices) == 1


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
def test_one_candidate_is_chosen(mechanism: Choice) -> None:
    assert mechanism.choose([-7], seeded_random(2)).tolist() == [0]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
def test_no_candidates_are_refused(mechanism: Choice) -> None:
    with pytest.raises(InvalidArgument, match="utilities"):
        mechanism.choose([], seeded_random(3))


def test_a_long_ratio_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="epsilon"):
        PermuteAndFlip(Fraction(1, 3**50), Fraction(1)).choose([0, 1], seeded_random(4))


@pytest.mark.parametrize("cls", [ExponentialMechanism, PermuteAndFlip])
def test_bad_parameters_are_refused(cls: type[ExponentialMechanism] | type[PermuteAndFlip]) -> None:
    for epsilon, reach in ((0, 1), (-1, 1), (1, 0), (1, -2)):
        with pytest.raises(InvalidArgument):
            cls(Fraction(epsilon), Fraction(reach))
    with pytest.raises(InvalidArgument, match="k="):
        TopK(Fraction(1), Fraction(1), 0)


@given(st.fractions(Fraction(1, 1000), 20), st.integers(1, 50))
def test_prices_in_zcdp(epsilon: Fraction, k: int) -> None:
    assert ExponentialMechanism(epsilon, Fraction(2)).zcdp_rho == epsilon**2 / 8
    assert PermuteAndFlip(epsilon, Fraction(2)).zcdp_rho == epsilon**2 / 2
    assert TopK(epsilon, Fraction(2), k).zcdp_rho == epsilon**2 / (2 * k)
    assert ExponentialTopK(epsilon, Fraction(2), k).zcdp_rho == epsilon**2 / (8 * k)
    for peeling in (TopK(epsilon, Fraction(2), k), ExponentialTopK(epsilon, Fraction(2), k)):
        assert peeling.epsilon == epsilon
        assert peeling.scale == 2 * k / epsilon


def test_json_has_exact_fractions() -> None:
    shared = {"epsilon": "1/3", "range_sensitivity": "2"}
    assert ExponentialMechanism(Fraction(1, 3), Fraction(2)).to_json() == {"choice": "exponential", **shared}
    assert PermuteAndFlip(Fraction(1, 3), Fraction(2)).to_json() == {"choice": "permute_and_flip", **shared}
    assert TopK(Fraction(1, 3), Fraction(2), 5).to_json() == {"choice": "top_k", "k": "5", **shared}


@pytest.mark.parametrize("precision", [Precision(), TIES_OFTEN])
@pytest.mark.parametrize(
    ("whole", "rest", "denominator"), [(0, 0, 1), (0, 1, 3), (1, 0, 1), (2, 5, 7), (0, 2**62, 2**63)]
)
def test_bernoulli_exp_has_its_probability(precision: Precision, whole: int, rest: int, denominator: int) -> None:
    size, p = 50_000, math.exp(-(whole + rest / denominator))
    shape = np.full(size, whole, np.int64), np.full(size, rest, np.uint64)
    hits = int(bernoulli_exp(*shape, denominator, seeded_random(5), precision=precision).sum())
    assert stats.binomtest(hits, size, p).pvalue > FALSE_ALARM
    assert stats.binomtest(hits, size, p * 0.85).pvalue < FALSE_ALARM  # the twin, 15% off


def counting(random: RandomSource, drawn: list[int]) -> RandomSource:
    """The same source; appends how many bytes were asked."""

    def counted(count: int) -> bytes:
        drawn.append(count)
        return random(count)

    return counted


@pytest.mark.parametrize("denominator", [1, 7, (1 << 64) // 3 + 1, 1 << 63])
def test_bernoulli_exp_draws_at_most_seven_words_a_bit(denominator: int) -> None:
    for rest in (0, denominator - 1):
        drawn: list[int] = []
        shape = np.zeros(20_000, np.int64), np.full(20_000, rest, np.uint64)
        bernoulli_exp(*shape, denominator, counting(seeded_random(6), drawn))
        assert sum(drawn) / 8 / 20_000 < 7


def test_a_choice_costs_fewer_than_two_rounds_of_coins() -> None:
    # at most seven words a coin; a proposal of the exponential mechanism is one more
    for mechanism, words_a_candidate in ((MECHANISMS[0], 2 * 8), (MECHANISMS[1], 7)):
        drawn: list[int] = []
        for _ in range(20):
            mechanism.choose(np.arange(1000), counting(seeded_random("cost"), drawn))
        assert sum(drawn) / 8 / 20_000 < words_a_candidate
