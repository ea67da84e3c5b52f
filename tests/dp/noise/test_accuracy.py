"""Intervals: exact quantiles of small noise, close ones of large noise, and coverage counted over many draws.

A count of hits among n independent trials is compared with its binomial law at a false-alarm rate of 1e-6.
"""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dp.errors import InvalidArgument
from dp.noise.accuracy import Noise, NoiseTerm, ratio_interval
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace, Mechanism
from tests.tools.entropy import seeded_random

FALSE_ALARM = 1e-6
X = np.arange(-400, 401)
SMALL: list[tuple[str, Mechanism, NDArray[np.float64]]] = [
    ("laplace 1/3", DiscreteLaplace(Fraction(1, 3)), np.exp(-np.abs(X) * 3.0)),
    ("laplace 10/3", DiscreteLaplace(Fraction(10, 3)), np.exp(-np.abs(X) * 0.3)),
    ("gaussian 1/2", DiscreteGaussian(Fraction(1, 2)), np.exp(-(X**2) * 1.0)),
    ("gaussian 50", DiscreteGaussian(Fraction(50)), np.exp(-(X**2) / 100.0)),
]
MIXES = {
    "one laplace": Noise((NoiseTerm(DiscreteLaplace(Fraction(5)), 1.0, 1),)),
    "three laplace": Noise((NoiseTerm(DiscreteLaplace(Fraction(5)), 1.0, 3),)),
    "narrow": Noise((NoiseTerm(DiscreteLaplace(Fraction(1, 2)), 1.0, 3),)),
    "wide, scaled": Noise((NoiseTerm(DiscreteLaplace(Fraction(10**7, 3)), 2.0**-20, 3),)),
    "gaussians": Noise((NoiseTerm(DiscreteGaussian(Fraction(2**60)), 2.0**-30, 5),)),
    "two grids": Noise(
        (NoiseTerm(DiscreteLaplace(Fraction(5)), 1.0, 2), NoiseTerm(DiscreteLaplace(Fraction(1000)), -0.0137, 2))
    ),
    "two laws": Noise(
        (NoiseTerm(DiscreteLaplace(Fraction(5)), 1.0, 1), NoiseTerm(DiscreteGaussian(Fraction(40)), 0.3, 2))
    ),
}


def _draw(noise: Noise, size: int, seed: str, widen: int = 100) -> NDArray[np.float64]:
    """Draws of the noise, or of one whose scales are `widen` percent of it."""
    random, factor = seeded_random(seed), Fraction(widen, 100)
    total = np.zeros(size)
    for term in noise.terms:
        mechanism = term.mechanism
        if isinstance(mechanism, DiscreteLaplace):
            mechanism = DiscreteLaplace(mechanism.scale * factor)
        elif isinstance(mechanism, DiscreteGaussian):
            mechanism = DiscreteGaussian(mechanism.variance * factor**2)
        total += term.coefficient * mechanism.sample(size * term.copies, random).reshape(term.copies, size).sum(0)
    return total


def _too_few(hits: int, trials: int, confidence: float) -> bool:
    return float(stats.binom.cdf(hits, trials, confidence)) < FALSE_ALARM


@pytest.mark.parametrize(("mechanism", "weights"), [s[1:] for s in SMALL], ids=[s[0] for s in SMALL])
@pytest.mark.parametrize("copies", [1, 2, 5])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999, 1 - 1e-7])
def test_integer_noise_has_its_exact_quantile(
    mechanism: Mechanism, weights: NDArray[np.float64], copies: int, confidence: float
) -> None:
    law = np.ones(1)
    for _ in range(copies):
        law = np.convolve(law, weights / weights.sum())
    cumulative = np.cumsum(np.concatenate([[law[law.size // 2]], 2 * law[law.size // 2 + 1 :]]))
    expected = int(np.searchsorted(cumulative, confidence))
    assert Noise((NoiseTerm(mechanism, 1.0, copies),)).quantile(confidence) == expected
    assert Noise((NoiseTerm(mechanism, -0.25, copies),)).quantile(confidence) == expected / 4


def test_equal_terms_merge_and_zero_terms_vanish() -> None:
    term = NoiseTerm(DiscreteLaplace(Fraction(4)), 2.0, 1)
    together = Noise((NoiseTerm(DiscreteLaplace(Fraction(4)), -2.0, 3),)).quantile(0.95)
    assert Noise((term, term, term, NoiseTerm(DiscreteGaussian(Fraction(9)), 0.0, 2))).quantile(0.95) == together
    assert Noise(()).quantile(0.95) == 0.0
    assert Noise(()).stddev == 0.0


@pytest.mark.parametrize("scale", [10**3, 10**5, 10**9, 2**45])
@pytest.mark.parametrize("confidence", [0.95, 0.999, 1 - 1e-8])
def test_wide_laplace_has_the_quantile_of_its_tail(scale: int, confidence: float) -> None:
    exact = -scale * math.log(1 - confidence)
    quantile = Noise((NoiseTerm(DiscreteLaplace(Fraction(scale)), 1.0, 1),)).quantile(confidence)
    assert exact - 1 <= quantile <= exact * 1.002 + 2


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_intervals_cover_as_stated_and_are_not_wide(mix: str, confidence: float) -> None:
    noise, trials = MIXES[mix], 400_000
    size = np.abs(_draw(noise, trials, f"{mix}"))
    quantile = noise.quantile(confidence)
    assert not _too_few(int((size <= quantile).sum()), trials, confidence)
    # a slightly smaller interval, beyond one step of the grid, is caught
    step = max(abs(t.coefficient) for t in noise.terms)
    smaller = quantile * 0.95 - (1.5 * step if mix in ("one laplace", "three laplace", "narrow") else 0)
    assert _too_few(int((size <= smaller).sum()), trials, confidence)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix != "narrow"])  # whose interval of integers covers 97%
def test_noise_of_another_scale_is_not_covered(mix: str) -> None:
    noise, trials = MIXES[mix], 400_000
    size = np.abs(_draw(noise, trials, f"twin {mix}", widen=115))
    assert _too_few(int((size <= noise.quantile(0.95)).sum()), trials, 0.95)
    assert _too_few(int((size <= noise.quantile(0.999)).sum()), trials, 0.999)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.sampled_from(sorted(MIXES)))
def test_more_confidence_never_narrows(first: float, second: float, mix: str) -> None:
    low, high = sorted((first, second))
    assert MIXES[mix].quantile(low) <= MIXES[mix].quantile(high)


def test_standard_deviations_add_in_squares() -> None:
    noise = Noise(
        (NoiseTerm(DiscreteGaussian(Fraction(100)), 3.0, 4), NoiseTerm(DiscreteGaussian(Fraction(64)), 1.0, 1))
    )
    assert noise.stddev == pytest.approx(math.sqrt(4 * 900 + 64))
    assert Noise(noise.terms[:1]).plus(Noise(noise.terms[1:]), -2.0).stddev == pytest.approx(math.sqrt(3600 + 256))


SUM_NOISE = Noise((NoiseTerm(DiscreteLaplace(Fraction(40_000)), 1e-3, 3),))
COUNT_NOISE = Noise((NoiseTerm(DiscreteLaplace(Fraction(10)), 1.0, 3),))


def _means(
    trials: int,
    count: int,
    seed: str,
    widen: int = 100,
    *,
    centre: float = 10.0,
    lower: float = 0.0,
    upper: float = 20.0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Share of intervals that hold the true mean, and their mean width, for groups of one size."""
    truth = np.random.default_rng(7).uniform(0, 20, trials)
    sums = (truth - 10) * count + _draw(SUM_NOISE, trials, f"sum {seed}", widen)
    counts = count + _draw(COUNT_NOISE, trials, f"count {seed}", widen)
    low, high = ratio_interval(
        sums,
        counts,
        numerator_noise=SUM_NOISE,
        denominator_noise=COUNT_NOISE,
        centre=centre,
        lower=lower,
        upper=upper,
        confidence=confidence,
    )
    assert (low >= 0).all()
    assert (high <= 20).all()
    return float(((low <= truth) & (truth <= high)).sum()), float((high - low).mean())


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 30, 100, 1000, 100_000])
def test_intervals_of_means_cover_as_stated(count: int) -> None:
    hits, _ = _means(100_000, count, f"cover {count}")
    assert not _too_few(int(hits), 100_000, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1000, 100_000])
def test_intervals_of_means_are_not_idle(count: int) -> None:
    hits, width = _means(100_000, count, f"wide {count}")
    assert hits < 0.955 * 100_000
    assert width < 2 * 1.02 * SUM_NOISE.plus(COUNT_NOISE, 10.0).quantile(0.95) / count
    twin_hits, _ = _means(100_000, count, f"twin {count}", widen=115)
    assert _too_few(int(twin_hits), 100_000, 0.95)


def test_a_count_that_may_be_zero_gives_the_whole_range() -> None:
    low, high = ratio_interval(
        [5.0, 5.0, 5.0],
        [0.0, COUNT_NOISE.quantile(0.95), -1e6],
        numerator_noise=SUM_NOISE,
        denominator_noise=COUNT_NOISE,
        centre=10.0,
        lower=0.0,
        upper=20.0,
        confidence=0.95,
    )
    assert low.tolist() == [0.0] * 3
    assert high.tolist() == [20.0] * 3


def test_the_ends_are_those_of_the_fieller_set() -> None:
    sums, counts, centre = 300.0, 400.0, 3.0
    low, high = ratio_interval(
        sums,
        counts,
        numerator_noise=SUM_NOISE,
        denominator_noise=COUNT_NOISE,
        centre=centre,
        lower=-20.0,
        upper=20.0,
        confidence=0.95,
    )
    for m in np.linspace(float(low) - 2, float(high) + 2, 41):
        fits = abs(sums - (m - centre) * counts) <= SUM_NOISE.plus(COUNT_NOISE, -(m - centre)).quantile(0.95)
        if fits:
            assert low <= m <= high
        else:
            assert m < float(low) + 0.01 or m > float(high) - 0.01


def test_without_noise_the_mean_is_exact() -> None:
    low, high = ratio_interval(
        [50.0, -50.0],
        [10.0, 10.0],
        numerator_noise=Noise(()),
        denominator_noise=Noise(()),
        centre=1.0,
        lower=-10.0,
        upper=10.0,
        confidence=0.95,
    )
    assert low == pytest.approx([6.0, -4.0])
    assert high == pytest.approx([6.0, -4.0])


@pytest.mark.slow
def test_a_hundred_thousand_groups_take_seconds() -> None:
    started = time.perf_counter()
    _means(100_000, 500, "speed", confidence=0.9)
    assert time.perf_counter() - started < 30  # about two on an idle core


def test_arguments_out_of_range_are_refused_by_name() -> None:
    for confidence in (0.0, 1.0, -1.0, 1.5, math.nan):
        with pytest.raises(InvalidArgument, match="confidence"):
            SUM_NOISE.quantile(confidence)
    for coefficient in (math.nan, math.inf):
        with pytest.raises(InvalidArgument, match="coefficient"):
            NoiseTerm(DiscreteLaplace(Fraction(1)), coefficient, 1)
    with pytest.raises(InvalidArgument, match="copies"):
        NoiseTerm(DiscreteLaplace(Fraction(1)), 1.0, 0)
    for centre, lower, upper in ((10.0, 30.0, 20.0), (10.0, 0.0, math.nan), (math.inf, 0.0, 20.0)):
        with pytest.raises(InvalidArgument, match="lower"):
            _means(10, 10, "refused", centre=centre, lower=lower, upper=upper)


WEIGHTS = {"equal": [1.0] * 16, "two": [1.0, 1.0], "unequal": [8.0, 3.0, 3.0, 1.0], "one": [1.0]}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("confidence", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("mechanism", [DiscreteLaplace(Fraction(300)), DiscreteGaussian(Fraction(10**5))], ids=str)
def test_mixtures_are_covered_at_the_confidence_that_is_found(
    mechanism: Mechanism, confidence: float, weights: str
) -> None:
    one = Noise((NoiseTerm(mechanism, 1.0, 1),))
    norm = math.hypot(*WEIGHTS[weights])
    mixture = Noise(tuple(NoiseTerm(mechanism, weight / norm, 1) for weight in WEIGHTS[weights]))
    found = one.confidence_of_mixtures(confidence)
    assert found >= confidence
    assert one.quantile(found) >= mixture.quantile(confidence) * 0.995


def test_one_laplace_draw_is_no_bound_for_mixtures_of_them() -> None:
    one = Noise((NoiseTerm(DiscreteLaplace(Fraction(300)), 1.0, 1),))
    sixteen = Noise((NoiseTerm(DiscreteLaplace(Fraction(300)), 0.25, 16),))
    assert one.quantile(0.5) < 0.8 * sixteen.quantile(0.5)
    assert one.confidence_of_mixtures(0.5) == pytest.approx(1 - math.exp(-math.sqrt(2) * 0.6745), abs=2e-3)
    assert one.confidence_of_mixtures(0.99) == 0.99
    with pytest.raises(InvalidArgument, match="confidence"):
        one.confidence_of_mixtures(1.0)
