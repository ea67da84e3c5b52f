"""Exact samplers over the integers, vectorised; no floating-point number is touched on the way to the output.

Both follow Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (2020), Algorithms 1 to 3,
in batches. A coin whose probability is irrational, or too long for 64 bits, is decided by comparing a random word
with integer bounds of that probability; the rare word that falls between the bounds is resolved with integers of any
length, by conditioning on the word or lengthening it. So the output has exactly the stated distribution, given
uniform bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import count
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.noise.entropy import RandomSource, Words, uniform_below, words

__all__ = [
    "MAX_SCALE_DENOMINATOR",
    "MAX_SCALE_NUMERATOR",
    "MAX_VARIANCE",
    "bernoulli_exp",
    "discrete_gaussian",
    "discrete_laplace",
]

MAX_SCALE_NUMERATOR = 1 << 55
"""A Laplace draw is U + tV with U < t <= 2^55; it passes 2^63 only where V >= 255, with probability e^-255 < 2^-367."""

MAX_SCALE_DENOMINATOR = 1 << 62
MAX_VARIANCE = 1 << 72
"""Greatest variance of a Gaussian: its proposals are Laplace draws of scale at most 2^36 + 1."""

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

_BATCH = 1 << 16  # proposals at a time: the working arrays stay in the cache, whatever the size asked for
_ROOT_RANGE_BITS = 5  # square roots of exponents are tabulated below 2^5; beyond them acceptance is below e^-900
_MAX_ROOT = 31
_REMOTE_EXPONENT = 900  # (31 - 1/sqrt 2)^2 > 900


@dataclass(frozen=True)
class Precision:
    """Widths of the fast path. They change its speed, never the distribution; tests narrow them.

    Attributes:
        word_bits: random bits of a first comparison, at most 64.
        root_bits: fractional bits of the square root of a Gaussian exponent; 2 * root_bits <= min(54, word_bits).
    """

    word_bits: int = 64
    root_bits: int = 27


_FULL = Precision()


def discrete_laplace(scale: Fraction, size: int, random: RandomSource, *, precision: Precision = _FULL) -> Integers:
    """Independent draws x with probability proportional to exp(-|x| / scale).

    Args:
        scale: > 0, exact; numerator at most 2^55, denominator at most 2^62.
        size: number of draws, >= 0.
        random: the source of bytes.
        precision: widths of the fast path.

    Raises:
        InvalidArgument: a scale or size outside these ranges.

    Guarantees:
        Exactly this distribution over all integers, given uniform bytes. A draw that passes 2^63 raises OverflowError
        instead of wrapping, with probability below 2^-367.
    Cost:
        At most eight random words a draw on average, bounded memory beside the result.
    Source:
        Canonne, Kamath and Steinke 2020, Algorithm 2.
    """
    if not 0 < scale.numerator <= MAX_SCALE_NUMERATOR or scale.denominator > MAX_SCALE_DENOMINATOR:
        raise InvalidArgument("scale", scale, "give a scale > 0 with numerator <= 2^55 and denominator <= 2^62")
    return _collect(size, lambda n: _laplace_batch(scale.numerator, scale.denominator, n, random, precision))


def discrete_gaussian(variance: Fraction, size: int, random: RandomSource, *, precision: Precision = _FULL) -> Integers:
    """Independent draws x with probability proportional to exp(-x^2 / (2 variance)).

    Args:
        variance: > 0, exact, at most 2^72.
        size: number of draws, >= 0.
        random: the source of bytes.
        precision: widths of the fast path.

    Raises:
        InvalidArgument: a variance or size outside these ranges.

    Guarantees:
        Exactly this distribution over all integers, given uniform bytes. A proposal that passes 2^63 raises
        OverflowError instead of wrapping, with probability below 2^-367.
    Cost:
        At most fifteen random words a draw on average, bounded memory beside the result.
    Source:
        Canonne, Kamath and Steinke 2020, Algorithm 3.
    """
    if not 0 < variance <= MAX_VARIANCE:
        raise InvalidArgument("variance", variance, "give a variance > 0 and <= 2^72")
    plan = _GaussianPlan.of(variance, precision.root_bits)
    return _collect(size, lambda n: _gaussian_batch(plan, n, random, precision))


def bernoulli_exp(
    whole: Integers, rest: Words, denominator: int, random: RandomSource, *, precision: Precision = _FULL
) -> Mask:
    """Independent bits, true with probability exp(-(whole + rest / denominator)).

    Args:
        whole: >= 0.
        rest: 0 <= rest < denominator, of the same length.
        denominator: 1 <= denominator <= 2^63.
        random: the source of bytes.
        precision: widths of the fast path.

    Raises:
        InvalidArgument: a denominator outside its range.

    Guarantees:
        Exactly this probability, however small, given uniform bytes.
    Cost:
        At most seven random words a bit on average.
    Source:
        Canonne, Kamath and Steinke 2020, Algorithm 1.
    """
    # `whole` successes in a row of probability 1/e, then one of probability exp(-rest / denominator)
    alive = np.flatnonzero(_geometric(whole.size, random, precision) >= whole)
    low = rest[alive]
    result = np.zeros(whole.size, np.bool_)
    result[alive] = _bernoulli_exp(alive.size, lambda i: uniform_below(denominator, i.size, random) < low[i], random)
    return result


def _collect(size: int, batch: Callable[[int], Integers]) -> Integers:
    """Fill an array from a rejection sampler: `batch(n)` makes n proposals and returns those accepted, in order."""
    if size < 0:
        raise InvalidArgument("size", size, "give a number of draws >= 0")
    result = np.empty(size, np.int64)
    filled = 0
    while filled < size:
        missing = size - filled
        accepted = batch(min(_BATCH, 2 * missing + 16))[:missing]
        result[filled : filled + accepted.size] = accepted
        filled += accepted.size
    return result


def _laplace_batch(
    numerator: int, denominator: int, proposals: int, random: RandomSource, precision: Precision
) -> Integers:
    drawn = uniform_below(2 * numerator, proposals, random)
    negative, low = (drawn & np.uint64(1)).astype(np.bool_), drawn >> np.uint64(1)
    kept = _bernoulli_exp(proposals, lambda i: uniform_below(numerator, i.size, random) < low[i], random)
    negative, low = negative[kept], low[kept].astype(np.int64)
    high = _geometric(low.size, random, precision)
    if int(high.max(initial=0)) >= (1 << 63) // numerator - 1:
        raise OverflowError("a noise value passed 2^63; this happens with probability below 2^-367")
    # low + numerator * high is geometric with ratio exp(-1 / numerator); dividing it makes the ratio exp(-1 / scale)
    magnitude = (low + high * np.int64(numerator)) // np.int64(denominator)
    one_zero = ~negative | (magnitude != 0)  # zero has one sign
    draws: Integers = np.where(negative, -magnitude, magnitude)[one_zero]
    return draws


def _gaussian_batch(plan: _GaussianPlan, proposals: int, random: RandomSource, precision: Precision) -> Integers:
    proposed = _laplace_batch(plan.proposal_scale, 1, proposals, random, precision)
    return proposed[_accept(plan, np.abs(proposed), random, precision)]


def _bernoulli_exp(size: int, coin: Callable[[Integers], Mask], random: RandomSource) -> Mask:
    """Independent bits, true with probability exp(-p_i), where `coin(indices)` tosses coins of probability p_i.

    Source: Canonne, Kamath and Steinke 2020, Algorithm 1 (after von Neumann): toss coins of probability p, p/2, p/3,
    ... until one fails; the answer is whether the failing one has an odd number.
    """
    result = np.zeros(size, np.bool_)
    alive = np.arange(size)
    for trial in count(1):
        if not alive.size:
            break
        hit = coin(alive)
        if trial > 1:
            hit &= uniform_below(trial, alive.size, random) == 0
        result[alive[~hit]] = trial % 2 == 1
        alive = alive[hit]
    return result


def _bernoulli(probability: Fraction, random: RandomSource) -> bool:
    """One exact bit of a rational probability in 0..1, of any length."""
    bits = probability.denominator.bit_length()
    while True:
        drawn = int.from_bytes(random((bits + 7) // 8), "little") & ((1 << bits) - 1)
        if drawn < probability.denominator:
            return drawn < probability.numerator


def _geometric(size: int, random: RandomSource, precision: Precision) -> Integers:
    """Independent v >= 0 with probability proportional to e^-v.

    v is the number of k >= 1 with u < e^-k, for u uniform in [0, 1).
    """
    ascending = _thresholds(precision.word_bits)
    drawn = words(random, size) >> np.uint64(64 - precision.word_bits)
    not_above = np.searchsorted(ascending, drawn, side="right")
    result = ascending.size - not_above
    tied = np.flatnonzero(ascending[np.maximum(not_above, 1) - 1] == drawn)
    for i in tied:  # the word agrees with e^-k in every bit
        result[i] = _geometric_exactly(int(drawn[i]), random, precision)
    return result.astype(np.int64, copy=False)


def _geometric_exactly(prefix: int, random: RandomSource, precision: Precision) -> int:
    """The count that `_geometric` wants, given the first bits of u; draws further bits until they decide."""
    bits, passed = precision.word_bits, 0
    while True:
        threshold = _exp_floor(passed + 1, bits)
        if prefix < threshold:
            passed += 1
        elif prefix > threshold:
            return passed
        else:
            fresh = int(words(random, 1)[0]) >> (64 - precision.word_bits)
            prefix, bits = (prefix << precision.word_bits) | fresh, bits + precision.word_bits


@cache
def _thresholds(bits: int) -> Words:
    """floor(2^bits e^-k) for k from the first that is zero down to 1, ascending."""
    descending: list[int] = []
    while not descending or descending[-1]:
        descending.append(_exp_floor(len(descending) + 1, bits))
    return np.array(descending[::-1], np.uint64)


@cache
def _exp_floor(exponent: int, bits: int) -> int:
    """floor(2^bits e^-exponent), by rational bounds of e that are refined until both give the same integer."""
    for terms in count(32, 16):
        factorial, total = 1, 1
        for i in range(terms, 0, -1):  # Horner: total / factorial = sum of 1 / i! for i <= terms
            factorial *= i
            total += factorial
        below, above = Fraction(total, factorial), Fraction(total + 1, factorial)  # the remainder is below 1 / terms!
        greatest, least = (_scaled_power(1 / bound, exponent, bits) for bound in (below, above))
        if least == greatest:
            return least
    raise AssertionError("e is irrational: some bound decides")


def _scaled_power(base: Fraction, exponent: int, bits: int) -> int:
    """floor(2^bits base^exponent); on the two integers, so that no power is reduced in vain."""
    scaled: int = (base.numerator**exponent << bits) // base.denominator**exponent
    return scaled


@dataclass(frozen=True)
class _GaussianPlan:
    """Integers from which the exponent ((y - variance / t)^2 / (2 variance)) of a proposal y >= 0 is bounded.

    Its root is y * slope - offset, with slope = 1 / sqrt(2 variance) and offset = sqrt(variance / 2) / t.
    """

    variance: Fraction
    proposal_scale: int  # t
    root_bits: int
    greatest: int  # greatest y in the table's range: y * slope <= 31
    drop: int  # low bits of y left out of the product, so that it fits in 64 bits
    slope: int  # floor(slope * 2^(drop + 58))
    offset: int  # floor(offset * 2^root_bits)

    @staticmethod
    def of(variance: Fraction, root_bits: int) -> _GaussianPlan:
        proposal_scale = isqrt(int(variance)) + 1
        greatest = isqrt(int(2 * _MAX_ROOT**2 * variance))
        drop = max(0, greatest.bit_length() - 32)
        slope = isqrt(int(Fraction(1 << 2 * (drop + 58)) / (2 * variance))) if greatest else 0
        offset = isqrt(int(variance * (1 << 2 * root_bits) / (2 * proposal_scale**2)))
        return _GaussianPlan(variance, proposal_scale, root_bits, greatest, drop, slope, offset)

    def exponent(self, magnitude: int) -> Fraction:
        """The exact exponent."""
        return (magnitude - self.variance / self.proposal_scale) ** 2 / (2 * self.variance)

    def exponent_bounds(self, magnitude: Words) -> tuple[Words, Words]:
        """Integers below and above exponent * 2^(2 root_bits).

        With y' = y >> drop and slope' = floor(slope 2^(drop + 58)),
        y' slope' <= y slope 2^58 <= (y' + [drop > 0]) (slope' + 1) < 31 * 2^58 + 2^34 < 2^63, so nothing overflows.
        """
        inside = magnitude <= np.uint64(self.greatest)
        high_bits = np.where(inside, magnitude, np.uint64(0)) >> np.uint64(self.drop)
        shift = np.uint64(58 - self.root_bits)
        below = (high_bits * np.uint64(self.slope)) >> shift
        above = ((high_bits + np.uint64(self.drop > 0)) * np.uint64(self.slope + 1)) >> shift
        root_low = below.astype(np.int64) - np.int64(self.offset + 1)
        root_high = above.astype(np.int64) + np.int64(1 - self.offset)
        least = np.maximum(np.maximum(root_low, -root_high), 0).astype(np.uint64)  # zero where the bounds straddle zero
        most = np.maximum(root_high, -root_low).astype(np.uint64)
        remote = np.uint64(_REMOTE_EXPONENT << 2 * self.root_bits)
        return np.where(inside, least * least, remote), np.where(inside, most * most, np.uint64((1 << 64) - 1))


def _accept(plan: _GaussianPlan, magnitude: Integers, random: RandomSource, precision: Precision) -> Mask:
    """Independent bits, true with probability exp(-exponent(magnitude))."""
    fraction_bits = np.uint64(2 * plan.root_bits)
    low, high = plan.exponent_bounds(magnitude.astype(np.uint64))
    whole = low >> fraction_bits
    certain = whole == high >> fraction_bits
    # exp(-whole - rest): at least `whole` successes in a row of probability 1/e, then one of probability exp(-rest)
    successes = np.zeros(magnitude.size, np.int64)
    tossed = np.flatnonzero((whole > 0) | ~certain)
    successes[tossed] = _geometric(tossed.size, random, precision)
    alive = successes >= whole.astype(np.int64)
    accepted = np.zeros(magnitude.size, np.bool_)
    decided = np.flatnonzero(alive & certain)
    coin = _fraction_coin(plan, magnitude[decided], (low[decided], high[decided]), random, precision)
    accepted[decided] = _bernoulli_exp(decided.size, coin, random)
    for i in np.flatnonzero(alive & ~certain):
        accepted[i] = _accept_exactly(plan.exponent(int(magnitude[i])), int(successes[i]), random)
    return accepted


def _fraction_coin(
    plan: _GaussianPlan, magnitude: Integers, bounds: tuple[Words, Words], random: RandomSource, precision: Precision
) -> Callable[[Integers], Mask]:
    """Coins whose probability is the fractional part of the exponent, given bounds of it in one unit interval."""
    fraction = np.uint64((1 << 2 * plan.root_bits) - 1)
    spare = np.uint64(precision.word_bits - 2 * plan.root_bits)
    below, above = ((bound & fraction) << spare for bound in bounds)

    def toss(indices: Integers) -> Mask:
        drawn = words(random, indices.size) >> np.uint64(64 - precision.word_bits)
        hit: Mask = drawn < below[indices]
        for j in np.flatnonzero(~hit & (drawn < above[indices])):
            # given its first bits `drawn`, a uniform number lies below p with this probability
            probability = (plan.exponent(int(magnitude[indices[j]])) % 1) * (1 << precision.word_bits) - int(drawn[j])
            hit[j] = _bernoulli(min(max(probability, Fraction(0)), Fraction(1)), random)
        return hit

    return toss


def _accept_exactly(exponent: Fraction, successes: int, random: RandomSource) -> bool:
    """One bit of probability exp(-exponent), given the number of successes in a row of probability 1/e."""
    if successes < int(exponent):
        return False
    rest = exponent % 1
    return bool(_bernoulli_exp(1, lambda _: np.array([_bernoulli(rest, random)]), random)[0])
