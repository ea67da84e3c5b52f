"""Samplers: integer bounds that are really bounds, refused scales, shapes, memory and cost."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise import samplers
from dp.noise.entropy import RandomSource
from dp.noise.samplers import discrete_gaussian, discrete_laplace
from tests.tools.entropy import seeded_random

Sampler = Callable[[Fraction, int, RandomSource], NDArray[np.int64]]


@given(st.integers(1, 120), st.integers(0, 200))
def test_thresholds_are_the_floor_of_powers_of_e(exponent: int, bits: int) -> None:
    arithmetic = Context(prec=160)
    exact = arithmetic.multiply(Decimal(2**bits), arithmetic.exp(Decimal(-exponent)))
    assert samplers._exp_floor(exponent, bits) == int(exact)


@given(
    st.fractions(Fraction(1, 10**6), 2**72, max_denominator=10**9),
    st.sampled_from([3, 10, 27]),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=8),
    st.lists(st.floats(0, 50), min_size=1, max_size=8),
)
def test_bounds_of_the_gaussian_exponent_enclose_it(
    variance: Fraction, root_bits: int, far: list[int], near: list[float]
) -> None:
    plan = samplers._GaussianPlan.of(variance, root_bits)
    magnitudes = far + [int(z * float(variance) ** 0.5) for z in near]
    low, high = plan.exponent_bounds(np.array(magnitudes, np.uint64))
    for magnitude, least, most in zip(magnitudes, low, high, strict=True):
        exact = plan.exponent(magnitude) * 4**root_bits
        assert int(least) <= exact
        assert exact <= int(most) or magnitude > plan.greatest


@given(st.fractions(Fraction(1, 100), 2**72, max_denominator=10**6), st.floats(0, 8))
def test_bounds_of_the_gaussian_exponent_are_close(variance: Fraction, deviations: float) -> None:
    plan = samplers._GaussianPlan.of(variance, 27)
    magnitude = int(deviations * float(variance) ** 0.5)
    low, high = plan.exponent_bounds(np.array([magnitude], np.uint64))
    assert (int(high[0]) - int(low[0])) / 2**54 < 2**-20  # about one word in a million is resolved the long way


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1), Fraction(2**55 + 1), Fraction(1, 2**62 + 1)])
def test_laplace_refuses_absurd_scales(scale: Fraction) -> None:
    with pytest.raises(InvalidArgument, match="scale"):
        discrete_laplace(scale, 1, seeded_random(0))


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1), Fraction(2**72 + 1)])
def test_gaussian_refuses_absurd_variances(variance: Fraction) -> None:
    with pytest.raises(InvalidArgument, match="variance"):
        discrete_gaussian(variance, 1, seeded_random(0))


@pytest.mark.parametrize("sampler", [discrete_laplace, discrete_gaussian])
def test_a_negative_size_is_refused(sampler: Sampler) -> None:
    with pytest.raises(InvalidArgument, match="size"):
        sampler(Fraction(1), -1, seeded_random(0))


@settings(max_examples=60, deadline=None)
@given(st.fractions(Fraction(1, 10**4), 2**40, max_denominator=10**4), st.integers(0, 300), st.integers(0, 2**32))
def test_samples_have_the_size_asked_and_follow_the_seed(scale: Fraction, size: int, seed: int) -> None:
    for sampler in (discrete_laplace, discrete_gaussian):
        sample = sampler(scale, size, seeded_random(seed))
        assert sample.dtype == np.int64
        assert sample.shape == (size,)
        assert np.array_equal(sample, sampler(scale, size, seeded_random(seed)))


def test_extreme_scales_stay_in_range() -> None:
    wide = discrete_laplace(Fraction(2**55), 100_000, seeded_random(1))
    assert 2**54 < np.abs(wide).mean() < 2**56
    assert np.abs(discrete_gaussian(Fraction(2**72), 100_000, seeded_random(1))).max() < 2**39
    assert not discrete_laplace(Fraction(1, 2**62), 1000, seeded_random(1)).any()
    assert not discrete_gaussian(Fraction(1, 10**400), 1000, seeded_random(1)).any()


def test_a_draw_beyond_64_bits_raises_instead_of_wrapping() -> None:
    # a source of zero bytes makes every geometric part as long as its words stay zero; then all bits are set
    calls = iter([0, 0] + [0] * 12)

    def mostly_zero(count: int) -> bytes:
        return bytes([next(calls, 255)]) * count

    with pytest.raises(OverflowError, match="2\\^63"):
        discrete_laplace(Fraction(2**55), 1, mostly_zero)


def test_proposals_far_outside_the_table_are_decided_exactly() -> None:
    plan = samplers._GaussianPlan.of(Fraction(1, 10**4), 27)
    assert plan.greatest == 0
    far = np.ones(2000, np.int64)  # exponent about 5000
    assert not samplers._accept(plan, far, seeded_random(1), samplers.Precision()).any()
    assert not samplers._accept_exactly(plan.exponent(1), 40, seeded_random(1))
    exactly = [samplers._accept_exactly(Fraction(5, 2), 2, seeded_random(i)) for i in range(4000)]
    assert abs(np.mean(exactly) - np.exp(-0.5)) < 5 * 0.5 / 4000**0.5  # 5 sigma


@pytest.mark.parametrize(
    ("sampler", "words"),
    [(discrete_laplace, 8), (discrete_gaussian, 15)],
)
@pytest.mark.parametrize("parameter", [Fraction(1, 50), Fraction(1), Fraction(10, 3), Fraction(10**6), Fraction(2**50)])
def test_the_cost_in_random_words_is_as_stated(sampler: Sampler, words: int, parameter: Fraction) -> None:
    used = 0
    source = seeded_random(5)

    def counting(count: int) -> bytes:
        nonlocal used
        used += count
        return source(count)

    sampler(parameter, 200_000, counting)
    assert used <= 8 * words * 200_000


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [discrete_laplace, discrete_gaussian])
def test_memory_beside_the_result_is_bounded(sampler: Sampler) -> None:
    tracemalloc.start()
    try:
        sampler(Fraction(10**6), 2_000_000, seeded_random(6))
        assert tracemalloc.get_traced_memory()[1] < 16_000_000 + 24_000_000
    finally:
        tracemalloc.stop()
