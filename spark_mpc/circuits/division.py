"""Reciprocals and quotients of fixed-point numbers: normalise by a power of two, approximate, improve.

Source: Goldschmidt 1964 for the iteration; Catrina, Saxena 2010 for normalising under sharing.
"""

from __future__ import annotations

import math

import numpy as np

from dp.errors import InvalidArgument
from spark_mpc.circuits.bits import digit_masks, leading_place, numbers, parities, powers_of_two, product
from spark_mpc.circuits.chunks import in_chunks
from spark_mpc.circuits.fixed_point import FixedPoint, wide_product
from spark_mpc.circuits.polynomials import PRECISION
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, concatenated
from spark_mpc.ring.masks import Words

__all__ = ["MOST_FUNCTION_BITS", "at_precision", "divide", "inverse_of_half_to_one", "reciprocal", "require_narrow"]

MOST_FUNCTION_BITS = 44
"""Of the words that division, roots, exponential and logarithm take."""

_SIGN = 1 << 63
_LOW_BITS = PRECISION // 2
_STEPS = 3
_START = 4 * math.sqrt(3) - 4
"""a - 2 y is within a factor 1 +- 0.072 of 1 / y on [1/2, 1], the best of this slope."""


def require_narrow(form: FixedPoint) -> None:
    """Functions need room in the ring for what they compute in between.

    Raises:
        InvalidArgument: words of more than 44 bits, or more than 30 before or behind the binary point.
    """
    if form.word_bits > MOST_FUNCTION_BITS or max(form.fraction_bits, form.magnitude_bits) > PRECISION:
        remedy = f"give at most {PRECISION} bits before and behind the binary point, {MOST_FUNCTION_BITS} together"
        raise InvalidArgument("fraction_bits, magnitude_bits", (form.fraction_bits, form.magnitude_bits), remedy)


def reciprocal(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """1 / x.

    Args:
        engine: of this party.
        x: shape (n,), of either sign, with 1 / x in the domain; what comes of others, zero included, means nothing.
        form: of x and of the result; see `require_narrow`.

    Guarantees: off by at most 2^-26 of the result plus 2 units.
    Leaks: nothing. Cost: at most 41 rounds a chunk, and 387 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)

    def circuit(x: Arithmetic) -> Arithmetic:
        factor, mantissa = _normalised(engine, x, form)
        inverse = inverse_of_half_to_one(engine, mantissa)
        bits = form.word_bits + PRECISION - 2 * form.fraction_bits
        return wide_product(engine, factor, inverse, min(_LOW_BITS, bits), bits)

    with engine.step("reciprocal"):
        return in_chunks(engine, circuit, x)


def divide(engine: Engine, x: Arithmetic, y: Arithmetic, form: FixedPoint) -> Arithmetic:
    """x / y.

    Args:
        engine: of this party.
        x: shape (n,).
        y: shape (n,), of either sign, with x / y in the domain; what comes of others, zero included, means nothing.
        form: of all; see `require_narrow`.

    Guarantees: off by at most 2^-26 of the result plus 2 + 2 / |y| units.
    Leaks: nothing. Cost: at most 48 rounds a chunk, and 430 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)

    def circuit(x: Arithmetic, y: Arithmetic) -> Arithmetic:
        factor, mantissa = _normalised(engine, y, form)
        inverse = inverse_of_half_to_one(engine, mantissa)
        # x / mantissa first: small quotients keep the bits that a reciprocal of the domain would lose
        scaled = wide_product(engine, x, inverse, _LOW_BITS, PRECISION)
        return wide_product(engine, factor, scaled, min(_LOW_BITS, form.magnitude_bits), form.magnitude_bits)

    with engine.step("divide"):
        return in_chunks(engine, circuit, x, y)


def _normalised(engine: Engine, x: Arithmetic, form: FixedPoint) -> tuple[Arithmetic, Arithmetic]:
    """A power of two with the sign of x, and |x| times it: in [1/2, 1], with PRECISION bits behind the point.

    The power is 2^(width - place), with place - 1 the leading one of |x|, or of |x| - 1 if x is negative.
    """
    width = form.word_bits
    words = engine.to_binary(x)
    one = leading_place(engine, words.map(_without_sign), width)
    chosen = digit_masks([width - place for place in range(width + 1)])
    with_sign = one ^ words.masked(_SIGN)
    *digits, sign = numbers(engine, parities(with_sign, [*chosen, _SIGN]), len(chosen) + 1)
    negated = engine.plus_public(sign.times(-2), 1)
    factor = product(engine, [*powers_of_two(engine, digits), negated])
    return factor, at_precision(engine, engine.multiply(x, factor), width)


def inverse_of_half_to_one(engine: Engine, y: Arithmetic) -> Arithmetic:
    """1 / y for y in [1/2, 1]; both with PRECISION bits behind the binary point.

    With w (1 + e) = 1 / y + O(e^2) at the start, w takes in 1 + e, 1 + e^2, 1 + e^4, while e is squared.

    Guarantees: relative error of the method 7.1e-10; with that of the truncations below 2^-27.
    Leaks: nothing. Cost: 12 rounds, 104 bytes an element and party.
    """
    one = 1 << PRECISION
    w = engine.plus_public(y.times(-2), round(_START * one))
    e = engine.plus_public(-_product(engine, y, w), one)
    for _ in range(_STEPS - 1):
        grown = _product(engine, concatenated([w, e]), concatenated([e, e]))
        w, e = w + grown.piece(slice(0, len(y))), grown.piece(slice(len(y), None))
    return w + _product(engine, w, e)


def at_precision(engine: Engine, x: Arithmetic, fraction_bits: int) -> Arithmetic:
    """Words with `fraction_bits` behind the binary point as words with PRECISION."""
    if fraction_bits <= PRECISION:
        return x.times(1 << (PRECISION - fraction_bits))
    return engine.truncated(x, fraction_bits - PRECISION)


def _product(engine: Engine, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    return engine.truncated(engine.multiply(x, y), PRECISION)


def _without_sign(words: Words) -> Words:
    """Words, those that are negative with all bits flipped: linear in the bits."""
    return words ^ (words.view(np.int64) >> np.int64(63)).view(np.uint64)
