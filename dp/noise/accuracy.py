"""Intervals around released values, from the noise's distribution and released values alone.

They cover the noise. They do not cover what clamping, contribution bounds and missing rows did to the true value:
that cannot be told without looking at unreleased data, and nothing here looks at it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dp.errors import InvalidArgument
from dp.noise.mechanisms import Mechanism

__all__ = ["MAX_CONFIDENCE", "Noise", "NoiseTerm", "ratio_interval"]

MAX_CONFIDENCE = 1 - 1e-9
"""Greatest confidence of an interval; probabilities are computed to about 1e-11."""

Reals = NDArray[np.float64]

_NEGLIGIBLE_BITS = 48  # one draw leaves its table with probability 2^-48
_TABLE_POINTS = 1 << 16  # points of one draw's table on either side of zero; longer tables are coarsened
_GRID_POINTS = 1 << 18
_ALIASES = 4
_PROBABILITY_MARGIN = 1e-10
_CURVE_NODES = 33
_CURVE_MARGIN = 1e-3  # above the departure of a quantile curve from convexity between two nodes
_BISECTIONS = 60


@dataclass(frozen=True)
class NoiseTerm:
    """Independent draws of one mechanism, all multiplied by one number.

    Args:
        mechanism: what draws them.
        coefficient: finite; turns the mechanism's integers into the unit of the released value.
        copies: how many independent draws are summed, >= 1.

    Raises:
        InvalidArgument: a coefficient that is not finite, or copies < 1.
    """

    mechanism: Mechanism
    coefficient: float
    copies: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.coefficient):
            raise InvalidArgument("coefficient", self.coefficient, "give a finite coefficient")
        if self.copies < 1:
            raise InvalidArgument("copies", self.copies, "give the number of draws, at least 1")


@dataclass(frozen=True)
class Noise:
    """The sum of independent terms: all the noise in one released value.

    Args:
        terms: its parts; none means no noise.
    """

    terms: tuple[NoiseTerm, ...]

    @property
    def stddev(self) -> float:
        """Standard deviation of the sum."""
        return math.sqrt(sum(t.copies * (t.coefficient * t.mechanism.stddev) ** 2 for t in self.terms))

    def plus(self, other: Noise, factor: float) -> Noise:
        """This noise plus `factor` times another that is independent of it."""
        scaled = (NoiseTerm(t.mechanism, factor * t.coefficient, t.copies) for t in other.terms)
        return Noise(self.terms + tuple(scaled))

    def quantile(self, confidence: float) -> float:
        """The half-width of an interval: a q, close to the smallest, with P(|noise| <= q) >= confidence.

        Args:
            confidence: 0 < confidence <= 1 - 1e-9.

        Returns:
            The smallest q where all draws lie on one grid of at most 2^17 steps (such as integers of standard
            deviation up to some thousands); otherwise rounded up, by less than 2e-3 standard deviations a draw.

        Raises:
            InvalidArgument: a confidence outside its range.
        """
        _check_confidence(confidence)
        return _quantile(self, confidence)

    def confidence_of_mixtures(self, confidence: float) -> float:
        """At which confidence intervals for this noise cover weighted sums of independent draws of it, too.

        A weighted sum of the same variance is nearer to normal: below about nine tenths its intervals are wider than
        those of Laplace noise, above they are narrower.

        Args:
            confidence: 0 < confidence <= 1 - 1e-9, which the sums are to be covered with; the squares of their weights
                add up to at most one.

        Returns:
            At least `confidence`: that at which this noise is within a normal law's interval of the same variance.

        Raises:
            InvalidArgument: a confidence outside its range.
        """
        _check_confidence(confidence)
        cumulative, grid, _ = _distribution(self)
        normal = NormalDist().inv_cdf((1 + confidence) / 2) * self.stddev
        within = float(cumulative[min(math.ceil(normal / grid), len(cumulative) - 1)])
        return max(confidence, min(within, MAX_CONFIDENCE))


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    numerator_noise: Noise,
    denominator_noise: Noise,
    centre: float,
    lower: float,
    upper: float,
    confidence: float,
) -> tuple[Reals, Reals]:
    """Intervals for means that are released as centre + numerator / denominator.

    Args:
        numerator: noisy sums of (x - centre), one a group.
        denominator: noisy counts, one a group.
        numerator_noise: noise of every numerator, in its unit.
        denominator_noise: noise of every denominator, independent of the numerator's.
        centre: what was subtracted from every x.
        lower: least possible x.
        upper: greatest possible x.
        confidence: 0 < confidence <= 1 - 1e-9.

    Returns:
        Lower and upper ends: all m for which numerator - (m - centre) denominator is no further from zero than its
        noise is with this confidence, within lower..upper; the whole range where the count may not be positive.

    Raises:
        InvalidArgument: bounds that are not finite or reversed, or a confidence outside its range.

    Guarantees:
        For every group with at least one value, the true (clamped) mean lies inside with at least this probability:
        at the true mean, what is compared with the quantile is noise alone.
    Source:
        Fieller, "Some Problems in Interval Estimation" (1954), with exact quantiles in the place of normal ones.
    """
    if not (math.isfinite(lower) and math.isfinite(upper) and math.isfinite(centre) and lower <= upper):
        raise InvalidArgument("lower", (lower, centre, upper), "give finite numbers with lower <= upper")
    sums, counts = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    reach = max(abs(lower - centre), abs(upper - centre))
    nodes, widths = _quantile_curve(numerator_noise, denominator_noise, reach, confidence)
    # where the count exceeds every slope of the curve, both sides below are increasing in y = m - centre
    rises, runs = np.diff(widths), np.diff(nodes)
    steepest = float(np.max(rises[runs > 0] / runs[runs > 0], initial=0.0))  # no run where only one mean is possible
    certain = counts > max(denominator_noise.quantile(confidence), steepest)
    low, high = lower - centre, upper - centre

    def width(y: Reals) -> Reals:
        return np.asarray(np.interp(np.abs(y), nodes, widths))

    least = _bisect(lambda y: y * counts + width(y) < sums, low, high, counts.shape)[0]
    greatest = _bisect(lambda y: y * counts - width(y) <= sums, low, high, counts.shape)[1]
    slack = 1e-12 * (abs(centre) + reach)
    return (
        np.where(certain, np.maximum(centre + least - slack, lower), lower),
        np.where(certain, np.minimum(centre + greatest + slack, upper), upper),
    )


def _bisect(
    holds: Callable[[Reals], NDArray[np.bool_]], low: float, high: float, shape: tuple[int, ...]
) -> tuple[Reals, Reals]:
    """Points around the place where `holds`, true on the left and false on the right, changes; one place an element."""
    left, right = np.full(shape, low), np.full(shape, high)
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        true = holds(middle)
        left, right = np.where(true, middle, left), np.where(true, right, middle)
    return left, right


@lru_cache(maxsize=256)
def _quantile_curve(numerator: Noise, denominator: Noise, reach: float, confidence: float) -> tuple[Reals, Reals]:
    """Nodes x in 0..reach and quantiles of numerator + x denominator there, so that straight lines lie above the curve.

    The nodes are dense where the two noises are about equal, which is where the curve bends.
    """
    scale = numerator.stddev / denominator.stddev if denominator.stddev else 0.0
    steps = np.linspace(0, 1, _CURVE_NODES)
    nodes = scale * np.sinh(steps * math.asinh(reach / scale)) if scale else steps * reach
    nodes[-1] = reach
    widths = np.array([numerator.plus(denominator, float(x)).quantile(confidence) for x in nodes])
    return nodes, np.maximum.accumulate(widths) * (1 + _CURVE_MARGIN)


@dataclass(frozen=True)
class _Draw:
    """One draw times its coefficient: probabilities on multiples of `step`, moved by at most `moved`."""

    probabilities: Reals  # of -n..n times step
    step: Fraction
    moved: float
    copies: int


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence <= MAX_CONFIDENCE:
        raise InvalidArgument("confidence", confidence, "give a confidence above 0 and at most 1 - 1e-9")


@lru_cache(maxsize=4096)
def _quantile(noise: Noise, confidence: float) -> float:
    cumulative, grid, moved = _distribution(noise)
    return int(np.searchsorted(cumulative, confidence + _PROBABILITY_MARGIN)) * grid + moved


@lru_cache(maxsize=4)
def _distribution(noise: Noise) -> tuple[Reals, float, float]:
    """P(|noise| <= i * grid) for i = 0, 1, ...; the grid; and by how much the noise may lie further out than on it."""
    draws = _draws(noise)
    if not draws:
        return np.ones(1), 1.0, 0.0
    reach = max(float(d.step) * (d.probabilities.size // 2) for d in draws) + 10 * noise.stddev
    grid = _common_step([d.step for d in draws])
    if reach / float(grid) > _GRID_POINTS // 2 - 1:
        grid = Fraction(2 * reach / (_GRID_POINTS - 2))
    points = 1 << math.ceil(2 * reach / float(grid) + 2).bit_length()
    spectrum = np.ones(points // 2 + 1)
    moved = 0.0
    for draw in draws:
        spectrum = spectrum * np.fft.rfft(_on_grid(draw, grid, points)).real ** draw.copies
        off_grid = 0.0 if (draw.step / grid).denominator == 1 else float(grid)
        moved += draw.copies * (draw.moved + off_grid)
    mass = np.fft.irfft(spectrum, points)[: points // 2]
    mass[1:] *= 2  # of |noise|
    return np.cumsum(mass), float(grid), moved


def _draws(noise: Noise) -> list[_Draw]:
    """The noise's terms with equal ones merged and zeros left out."""
    copies: Counter[tuple[Mechanism, float]] = Counter()
    for term in noise.terms:
        if term.coefficient:
            copies[term.mechanism, abs(term.coefficient)] += term.copies
    return [_draw(mechanism, coefficient, n) for (mechanism, coefficient), n in copies.items()]


def _draw(mechanism: Mechanism, coefficient: float, copies: int) -> _Draw:
    spacing, probabilities = _table(mechanism)
    moved = coefficient * spacing if spacing > 1 else 0.0
    return _Draw(probabilities, Fraction(coefficient) * spacing, moved, copies)


@lru_cache(maxsize=64)
def _table(mechanism: Mechanism) -> tuple[int, Reals]:
    """Probabilities of one draw at multiples of a spacing, from minus to plus what it hardly ever exceeds.

    With a spacing above one, every integer's probability is shared between its two neighbours in proportion, which
    convolves with a triangle; the spectrum of the result sums the draw's over the aliases of every frequency.
    """
    greatest = mechanism.tail_bound(_NEGLIGIBLE_BITS, 1)
    spacing = 1 << max(0, (greatest // _TABLE_POINTS).bit_length())
    half = greatest // spacing + 1
    points = 1 << (2 * half).bit_length()
    frequency = 2 * np.pi * np.arange(points // 2 + 1) / (points * spacing)
    aliases = range(-min(_ALIASES, spacing // 2), min(_ALIASES, (spacing - 1) // 2) + 1)
    shifted = [frequency + 2 * np.pi * alias / spacing for alias in aliases]
    spectrum = sum((mechanism.characteristic(t) * _triangle(t, spacing) for t in shifted), np.zeros(frequency.size))
    folded = np.fft.irfft(spectrum, points)
    return spacing, np.maximum(np.concatenate([folded[-half:], folded[: half + 1]]), 0.0)


def _triangle(t: Reals, spacing: int) -> Reals:
    """Characteristic function of a triangle of integers, `spacing` wide on either side."""
    ratio = np.sinc(spacing * t / (2 * np.pi)) / np.sinc(t / (2 * np.pi))
    return np.asarray(ratio**2)


def _on_grid(draw: _Draw, grid: Fraction, points: int) -> Reals:
    """A draw's probabilities on a circular grid, each shared between its two neighbours in proportion."""
    half = draw.probabilities.size // 2
    ratio = draw.step / grid
    index = np.arange(-half, half + 1)
    if ratio.denominator == 1:
        return _histogram(index * int(ratio), draw.probabilities, points)
    position = index * float(ratio)
    below = np.floor(position)
    share = position - below
    left = below.astype(np.int64)
    return _histogram(left, draw.probabilities * (1 - share), points) + _histogram(
        left + 1, draw.probabilities * share, points
    )


def _histogram(index: NDArray[np.int64], weights: Reals, points: int) -> Reals:
    return np.asarray(np.bincount(index % points, weights, points), np.float64)


def _common_step(steps: list[Fraction]) -> Fraction:
    """The greatest number of which all are multiples."""
    denominator = math.lcm(*(step.denominator for step in steps))
    return Fraction(math.gcd(*(int(step * denominator) for step in steps)), denominator)
