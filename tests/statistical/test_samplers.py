"""Samples of every sampler against its law, by Pearson's test.

The false-alarm rate of each comparison is 1e-6. Seeds are fixed, so a sampler that passes keeps passing; each case has
a twin whose scale is 15% off, which the same test must reject.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.noise import samplers
from dp.noise.entropy import words
from dp.noise.samplers import Precision, discrete_gaussian, discrete_laplace
from tests.tools.entropy import seeded_random
from tests.tools.laws import chi_square_p_value, gaussian_law, laplace_law

FALSE_ALARM = 1e-6
SIZE = 200_000
SCALES = [Fraction(1, 3), Fraction(1), Fraction(10, 3), Fraction("17.25"), Fraction(10**6 + 3, 7), Fraction(2**45)]
VARIANCES = [Fraction(1, 3), Fraction(1), Fraction(22, 7), Fraction("104.7"), Fraction(10**9, 7), Fraction(2**70)]
NARROW = Precision(word_bits=8, root_bits=3)
OFF = [Fraction(85, 100), Fraction(115, 100)]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_laplace_follows_its_law(scale: Fraction) -> None:
    sample = discrete_laplace(scale, SIZE, seeded_random(1))
    assert chi_square_p_value(sample, laplace_law(float(scale))) > FALSE_ALARM


@pytest.mark.parametrize("factor", OFF, ids=str)
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_laplace_of_another_scale_is_rejected(scale: Fraction, factor: Fraction) -> None:
    sample = discrete_laplace(scale * factor, SIZE, seeded_random(2))
    assert chi_square_p_value(sample, laplace_law(float(scale))) < FALSE_ALARM


@pytest.mark.parametrize("variance", VARIANCES, ids=str)
def test_gaussian_follows_its_law(variance: Fraction) -> None:
    sample = discrete_gaussian(variance, SIZE, seeded_random(3))
    assert chi_square_p_value(sample, gaussian_law(float(variance))) > FALSE_ALARM


@pytest.mark.parametrize("factor", OFF, ids=str)
@pytest.mark.parametrize("variance", VARIANCES, ids=str)
def test_gaussian_of_another_scale_is_rejected(variance: Fraction, factor: Fraction) -> None:
    sample = discrete_gaussian(variance * factor**2, SIZE, seeded_random(4))
    assert chi_square_p_value(sample, gaussian_law(float(variance))) < FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_laplace_resolves_words_that_do_not_decide(bits: int) -> None:
    # words of 1, 2 or 4 bits tie with a threshold in at least a sixth of the draws
    sample = discrete_laplace(Fraction(10, 3), 50_000, seeded_random(5), precision=Precision(bits, bits // 2))
    assert chi_square_p_value(sample, laplace_law(10 / 3)) > FALSE_ALARM


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_laplace_that_ignores_ties_is_rejected(bits: int) -> None:
    thresholds = samplers._thresholds(bits)
    drawn = words(seeded_random(6), 50_000) >> np.uint64(64 - bits)
    assert np.isin(drawn, thresholds).mean() > 1 / 6
    unresolved = thresholds.size - np.searchsorted(thresholds, drawn, side="right")
    resolved = samplers._geometric(50_000, seeded_random(6), Precision(bits, bits // 2))
    assert _geometric_distance(resolved) < 0.01 < _geometric_distance(unresolved)


@pytest.mark.slow
@pytest.mark.parametrize("variance", [Fraction(1, 3), Fraction(22, 7), Fraction("104.7"), Fraction(10**9, 7)], ids=str)
def test_gaussian_resolves_words_that_do_not_decide(variance: Fraction) -> None:
    # three fractional bits leave the whole part of most large exponents open, and many a word between the bounds
    sample = discrete_gaussian(variance, 30_000, seeded_random(7), precision=NARROW)
    assert chi_square_p_value(sample, gaussian_law(float(variance))) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("variance", [Fraction(22, 7), Fraction(10**9, 7)], ids=str)
def test_narrow_gaussian_of_another_scale_is_rejected(variance: Fraction) -> None:
    sample = discrete_gaussian(variance * OFF[1] ** 2, 30_000, seeded_random(8), precision=NARROW)
    assert chi_square_p_value(sample, gaussian_law(float(variance))) < FALSE_ALARM


def test_every_integer_is_reached() -> None:
    sample = discrete_laplace(Fraction(10, 3), SIZE, seeded_random(9))
    assert set(range(-12, 13)) <= set(sample.tolist())


@pytest.mark.parametrize("scale", [Fraction(2**20, 3), Fraction(10**9)], ids=str)
def test_no_grid_is_coarser_than_the_integers(scale: Fraction) -> None:
    # residues of a wide Laplace are uniform; a sampler with a coarser grid, or one that scaled floats, misses some
    for modulus in (2, 7, 16):
        residues = discrete_laplace(scale, SIZE, seeded_random(10)) % modulus
        counts = np.bincount(residues, minlength=modulus)
        assert np.abs(counts - SIZE / modulus).max() < 6 * np.sqrt(SIZE / modulus)  # 6 sigma: below 1e-6 for all


def _geometric_distance(sample: NDArray[np.int64]) -> float:
    observed = np.bincount(sample, minlength=6)[:6] / sample.size
    return float(np.abs(observed - (1 - np.exp(-1)) * np.exp(-np.arange(6))).max())
