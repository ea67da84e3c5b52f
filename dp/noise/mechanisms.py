"""Additive noise over the integers: frozen values that sample themselves and know their own spread.

A further mechanism is a further class beside these, with the same six members, entered in `_MECHANISMS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.exact import rational
from dp.noise.entropy import RandomSource
from dp.noise.samplers import (
    MAX_SCALE_DENOMINATOR,
    MAX_SCALE_NUMERATOR,
    MAX_VARIANCE,
    discrete_gaussian,
    discrete_laplace,
)

__all__ = ["DiscreteGaussian", "DiscreteLaplace", "Mechanism", "mechanism_from_json"]

_LN2_ABOVE = Fraction(6931471806, 10**10)
_DIRECT_SUM_BELOW = 1  # variance under which the theta series of the Gaussian is summed directly
_DIRECT_TERMS = 12  # exp(-12^2 / 2) < 1e-31
_DUAL_TERMS = 2  # |t| <= pi leaves out terms below exp(-(5 pi)^2 / 2) < 1e-53


class Mechanism(Protocol):
    """Symmetric noise over the integers, of known distribution; a value, so it hashes."""

    def __hash__(self) -> int: ...

    @property
    def stddev(self) -> float:
        """Standard deviation of one draw."""
        ...

    def sample(self, size: int, random: RandomSource) -> NDArray[np.int64]:
        """Independent draws."""
        ...

    def characteristic(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """E exp(i t X), which is real."""
        ...

    def tail_bound(self, log2_probability: int, samples: int) -> int:
        """What no draw of `samples` exceeds in size, but with probability 2^-log2_probability."""
        ...

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with exact fractions."""
        ...


@dataclass(frozen=True)
class DiscreteLaplace:
    """Discrete Laplace noise: x with probability proportional to exp(-|x| / scale).

    Args:
        scale: > 0, exact.

    Raises:
        InvalidArgument: a scale <= 0, or with a numerator above 2^55 or a denominator above 2^62.

    Guarantees:
        Added to integers of l1 sensitivity d, each coordinate with a draw of its own, it gives (d / scale)-differential
        privacy; samples are exact.
    Cost:
        At most eight random words a draw on average.
    Source:
        Ghosh, Roughgarden and Sundararajan 2009; sampler of Canonne, Kamath and Steinke 2020, Algorithm 2.
    """

    scale: Fraction
    kind: ClassVar[str] = "discrete_laplace"

    def __post_init__(self) -> None:
        if not 0 < self.scale.numerator <= MAX_SCALE_NUMERATOR or self.scale.denominator > MAX_SCALE_DENOMINATOR:
            raise InvalidArgument("scale", self.scale, "give a scale > 0 with numerator <= 2^55, denominator <= 2^62")

    @property
    def stddev(self) -> float:
        """Standard deviation of one draw."""
        return 1 / (math.sqrt(2) * self._sinh()) if self._sinh() < math.inf else 0.0

    def sample(self, size: int, random: RandomSource) -> NDArray[np.int64]:
        """Independent exact draws.

        Args:
            size: how many, >= 0.
            random: the source of bytes; `os_random` wherever the noise protects somebody.
        """
        return discrete_laplace(self.scale, size, random)

    def characteristic(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """E exp(i t X) = 1 / (1 + (sin(t / 2) / sinh(1 / (2 scale)))^2).

        Args:
            t: real, any shape.
        """
        result: NDArray[np.float64] = 1 / (1 + (np.sin(np.asarray(t) / 2) / self._sinh()) ** 2)
        return result

    def tail_bound(self, log2_probability: int, samples: int) -> int:
        """An m with P(some |x| of `samples` draws > m) <= 2^-log2_probability.

        From P(|x| > m) < 2 exp(-(m + 1) / scale) and a union bound; integers and rationals only, rounded up.

        Args:
            log2_probability: >= 0.
            samples: >= 1.
        """
        return math.ceil(self.scale * _LN2_ABOVE * _tail_bits(log2_probability, samples))

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with an exact fraction."""
        return {"mechanism": self.kind, "scale": str(self.scale)}

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> DiscreteLaplace:
        """Read what `to_json` wrote.

        Raises:
            InvalidArgument: other fields than `to_json` writes, or a scale that the class refuses.
        """
        return cls(_only_parameter(data, cls.kind, "scale"))

    def _sinh(self) -> float:
        half_rate = float(1 / (2 * self.scale))
        return math.sinh(half_rate) if half_rate < 700 else math.inf


@dataclass(frozen=True)
class DiscreteGaussian:
    """Discrete Gaussian noise: x with probability proportional to exp(-x^2 / (2 variance)).

    Args:
        variance: > 0, exact, at most 2^72; the variance of the continuous Gaussian, slightly above that of a draw.

    Raises:
        InvalidArgument: a variance outside this range.

    Guarantees:
        Added to integers of l2 sensitivity d, each coordinate with a draw of its own, it gives d^2 / (2 variance)
        zero-concentrated differential privacy; samples are exact.
    Cost:
        At most fifteen random words a draw on average.
    Source:
        Canonne, Kamath and Steinke 2020, Theorem 4 and Algorithm 3.
    """

    variance: Fraction
    kind: ClassVar[str] = "discrete_gaussian"

    def __post_init__(self) -> None:
        if not 0 < self.variance <= MAX_VARIANCE:
            raise InvalidArgument("variance", self.variance, "give a variance > 0 and <= 2^72")

    @property
    def stddev(self) -> float:
        """Standard deviation of one draw."""
        if self.variance >= 10:  # the discrete variance is smaller by a relative exp(-190) or less
            return math.sqrt(self.variance)
        x = np.arange(-60, 61, dtype=np.float64)  # 60^2 / (2 * 10) = 180
        weights = np.exp(-(x**2) / (2 * max(float(self.variance), 1e-300)))
        return math.sqrt(float((weights * x**2).sum() / weights.sum()))

    def sample(self, size: int, random: RandomSource) -> NDArray[np.int64]:
        """Independent exact draws.

        Args:
            size: how many, >= 0.
            random: the source of bytes; `os_random` wherever the noise protects somebody.
        """
        return discrete_gaussian(self.variance, size, random)

    def characteristic(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """E exp(i t X), by the theta series or its Poisson dual, whichever converges faster; error below 1e-14.

        Args:
            t: real, any shape.
        """
        turn = 2 * np.pi
        angle = np.asarray(t, np.float64) - turn * np.round(np.asarray(t) / turn)
        variance = max(float(self.variance), 1e-300)
        if variance < _DIRECT_SUM_BELOW:
            terms = [math.exp(-x * x / (2 * variance)) for x in range(1, _DIRECT_TERMS + 1)]
            above = sum((2 * w * np.cos(x * angle) for x, w in enumerate(terms, 1)), np.ones_like(angle))
            return np.asarray(above / (1 + 2 * sum(terms)))
        shifts = [turn * k for k in range(-_DUAL_TERMS, _DUAL_TERMS + 1)]
        total = sum((np.exp(-variance * (angle - s) ** 2 / 2) for s in shifts), np.zeros_like(angle))
        return np.asarray(total / sum(math.exp(-variance * s**2 / 2) for s in shifts))

    def tail_bound(self, log2_probability: int, samples: int) -> int:
        """An m with P(some |x| of `samples` draws > m) <= 2^-log2_probability.

        From P(|x| >= m) <= 2 exp(-m^2 / (2 variance)) (the discrete Gaussian is as subgaussian as the continuous one:
        Canonne, Kamath and Steinke 2020) and a union bound; integers and rationals only, rounded up.

        Args:
            log2_probability: >= 0.
            samples: >= 1.
        """
        return isqrt(math.ceil(2 * self.variance * _LN2_ABOVE * _tail_bits(log2_probability, samples))) + 1

    def to_json(self) -> dict[str, str]:
        """The mechanism as a JSON object with an exact fraction."""
        return {"mechanism": self.kind, "variance": str(self.variance)}

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> DiscreteGaussian:
        """Read what `to_json` wrote.

        Raises:
            InvalidArgument: other fields than `to_json` writes, or a variance that the class refuses.
        """
        return cls(_only_parameter(data, cls.kind, "variance"))


_MECHANISMS = {cls.kind: cls for cls in (DiscreteLaplace, DiscreteGaussian)}


def mechanism_from_json(data: Mapping[str, str]) -> DiscreteLaplace | DiscreteGaussian:
    """Read what a mechanism's `to_json` wrote.

    Raises:
        InvalidArgument: an unknown mechanism, or fields that do not belong to it.
    """
    kind = data.get("mechanism", "")
    if kind not in _MECHANISMS:
        raise InvalidArgument("mechanism", kind, f"a mechanism is one of {sorted(_MECHANISMS)}")
    return _MECHANISMS[kind].from_json(data)


def _only_parameter(data: Mapping[str, str], kind: str, parameter: str) -> Fraction:
    if set(data) != {"mechanism", parameter} or data["mechanism"] != kind:
        raise InvalidArgument("mechanism", dict(data), f'give exactly "mechanism": "{kind}" and "{parameter}"')
    return rational(data[parameter], parameter)


def _tail_bits(log2_probability: int, samples: int) -> int:
    """log2 of 2 * samples / 2^-log2_probability, rounded up: the two tails of every draw share the probability."""
    if log2_probability < 0 or samples < 1:
        raise InvalidArgument("samples", samples, "give samples >= 1 and log2_probability >= 0")
    return log2_probability + 1 + (samples - 1).bit_length()
