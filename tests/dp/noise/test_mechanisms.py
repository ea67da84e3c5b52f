"""Mechanisms: the guarantee on neighbours, spread, tails, characteristic functions and their JSON form."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace, Mechanism, mechanism_from_json
from tests.tools.entropy import seeded_random

LAPLACES = [DiscreteLaplace(Fraction(x)) for x in ("1/4", "1", "10/3", "40")]
GAUSSIANS = [DiscreteGaussian(Fraction(x)) for x in ("1/20", "1/2", "999/1000", "1", "22/7", "400")]
POINTS = 1 << 12
X = np.arange(-POINTS // 2, POINTS // 2)


def _weights(mechanism: Mechanism) -> NDArray[np.float64]:
    if isinstance(mechanism, DiscreteLaplace):
        raw = np.exp(-np.abs(X) / float(mechanism.scale))
    else:
        assert isinstance(mechanism, DiscreteGaussian)
        raw = np.exp(-(X**2) / (2 * float(mechanism.variance)))
    return np.asarray(raw / raw.sum())


@pytest.mark.parametrize("mechanism", [*LAPLACES, *GAUSSIANS], ids=str)
def test_characteristic_function_is_that_of_the_probabilities(mechanism: Mechanism) -> None:
    t = np.concatenate([np.linspace(-9, 9, 91), [0.0, math.pi, 2 * math.pi, 100.0]])
    direct = np.cos(np.outer(t, X)) @ _weights(mechanism)
    assert np.abs(mechanism.characteristic(t) - direct).max() < 1e-12


@pytest.mark.parametrize("mechanism", [*LAPLACES, *GAUSSIANS], ids=str)
def test_stddev_is_that_of_the_probabilities(mechanism: Mechanism) -> None:
    assert mechanism.stddev == pytest.approx(math.sqrt(float((_weights(mechanism) * X**2).sum())), rel=1e-9)


@pytest.mark.parametrize("mechanism", [*LAPLACES, *GAUSSIANS], ids=str)
def test_samples_have_the_stated_spread(mechanism: Mechanism) -> None:
    # the mean of 200,000 squares is normal; 6 of its standard deviations make the false-alarm rate below 1e-6
    weights = _weights(mechanism)
    variance = float((weights * X**2).sum())
    spread = math.sqrt((float((weights * X**4).sum()) - variance**2) / 200_000)
    squares = mechanism.sample(200_000, seeded_random(1)).astype(np.float64) ** 2
    assert abs(squares.mean() - variance) < 6 * spread
    if variance > 0.1:
        assert abs(1.15**2 * squares.mean() - variance) > 6 * spread  # the twin, 15% off, is rejected


@pytest.mark.parametrize("mechanism", LAPLACES, ids=str)
@pytest.mark.parametrize("sensitivity", [1, 3])
def test_laplace_gives_pure_differential_privacy(mechanism: DiscreteLaplace, sensitivity: int) -> None:
    sample = np.log(_weights(mechanism)[POINTS // 2 - 100 : POINTS // 2 + 100])
    loss = np.abs(sample[sensitivity:] - sample[:-sensitivity]).max()
    assert loss == pytest.approx(sensitivity / float(mechanism.scale))


@pytest.mark.parametrize("mechanism", GAUSSIANS, ids=str)
@pytest.mark.parametrize("sensitivity", [1, 3])
@pytest.mark.parametrize("order", [1.1, 2.0, 9.0])
def test_gaussian_gives_zero_concentrated_privacy(mechanism: DiscreteGaussian, sensitivity: int, order: float) -> None:
    variance, shifted = float(mechanism.variance), X - sensitivity
    logarithm = (order * -(X**2) + (order - 1) * shifted**2) / (2 * variance)
    normaliser = math.log(np.exp(-(X**2) / (2 * variance)).sum())
    divergence = (np.logaddexp.reduce(logarithm) - normaliser) / (order - 1)
    assert divergence <= order * sensitivity**2 / (2 * variance) * (1 + 1e-9)


@pytest.mark.parametrize("mechanism", [*LAPLACES, *GAUSSIANS], ids=str)
@pytest.mark.parametrize(("bits", "samples"), [(0, 1), (10, 1), (10, 1000), (40, 7)])
def test_tail_bound_holds_and_is_not_idle(mechanism: Mechanism, bits: int, samples: int) -> None:
    bound = mechanism.tail_bound(bits, samples)
    weights = _weights(mechanism)
    assert samples * float(weights[np.abs(X) > bound].sum()) <= 2.0**-bits
    if bits == 10 and mechanism.stddev > 3:
        assert samples * float(weights[np.abs(X) > bound * 0.7].sum()) > 2.0**-bits


def test_tail_bound_refuses_what_is_no_probability() -> None:
    for bits, samples in ((-1, 1), (1, 0)):
        with pytest.raises(InvalidArgument):
            LAPLACES[0].tail_bound(bits, samples)


@given(st.fractions(Fraction(1, 10**9), 10**7, max_denominator=10**9))
def test_json_round_trip_is_exact(parameter: Fraction) -> None:
    for mechanism in (DiscreteLaplace(parameter), DiscreteGaussian(parameter)):
        assert mechanism_from_json(mechanism.to_json()) == mechanism
        assert type(mechanism).from_json(mechanism.to_json()) == mechanism


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"mechanism": "uniform", "scale": "1"},
        {"mechanism": "discrete_laplace"},
        {"mechanism": "discrete_laplace", "variance": "1"},
        {"mechanism": "discrete_laplace", "scale": "1", "more": "1"},
        {"mechanism": "discrete_laplace", "scale": "nan"},
        {"mechanism": "discrete_laplace", "scale": "0"},
        {"mechanism": "discrete_gaussian", "variance": "-1"},
    ],
)
def test_json_of_another_shape_is_refused(data: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        mechanism_from_json(data)


def test_from_json_refuses_another_mechanism() -> None:
    with pytest.raises(InvalidArgument):
        DiscreteLaplace.from_json(GAUSSIANS[0].to_json())


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1, 2), Fraction(2**55 + 1)])
def test_absurd_parameters_are_refused(scale: Fraction) -> None:
    with pytest.raises(InvalidArgument, match="scale"):
        DiscreteLaplace(scale)
    with pytest.raises(InvalidArgument, match="variance"):
        DiscreteGaussian(scale * 2**20)
