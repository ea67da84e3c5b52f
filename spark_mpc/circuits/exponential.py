"""Exponential, logarithm and the logistic function of fixed-point numbers, by way of powers of two.

Source: the usual range reduction (Muller, Elementary Functions); polynomials through Chebyshev nodes, see `fitted`.
"""

from __future__ import annotations

import math

import numpy as np

from spark_mpc.circuits.bits import digit_masks, leading_place, numbers, parities, powers_of_two, product
from spark_mpc.circuits.chunks import in_chunks
from spark_mpc.circuits.division import MOST_FUNCTION_BITS, at_precision, inverse_of_half_to_one, require_narrow
from spark_mpc.circuits.fixed_point import FixedPoint, wide_product, wide_times
from spark_mpc.circuits.polynomials import PRECISION, evaluated, fitted
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic

__all__ = ["exponential", "logarithm", "sigmoid"]

_SIGN = 1 << 63
_LOW_BITS = PRECISION // 2
_ONE = 1 << PRECISION
_LOG_2_E_BITS = 33
_LOG_2_E = round(math.ldexp(1 / math.log(2), _LOG_2_E_BITS))


def exponential(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """e^x.

    Args:
        engine: of this party.
        x: shape (n,), of either sign, with e^x in the domain, that is x < magnitude_bits * ln(2).
        form: of x and of the result; see `require_narrow`.

    Guarantees: off by at most 2^-25 of the result plus 1 unit.
    Leaks: nothing. Cost: at most 35 rounds a chunk, and 348 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)
    least = form.fraction_bits + 1

    def circuit(x: Arithmetic) -> Arithmetic:
        digits = (form.magnitude_bits + least).bit_length()
        return _power(engine, _binary_logarithm(engine, x, form), least, digits, form.fraction_bits)

    with engine.step("exponential"):
        return in_chunks(engine, circuit, x)


def sigmoid(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """The logistic function 1 / (1 + e^-x): for x >= 0 as it stands, else one less that of -x.

    Args:
        engine: of this party.
        x: shape (n,), of either sign; the whole domain.
        form: of x and of the result; see `require_narrow`.

    Guarantees: off by at most 2^-25 plus 1 unit, by which it may lie beyond 0 or 1.
    Leaks: nothing. Cost: at most 61 rounds a chunk, and 495 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)

    def circuit(x: Arithmetic) -> Arithmetic:
        sign = engine.bits_to_arithmetic(engine.negative(x))
        magnitude = engine.multiply(x, engine.plus_public(sign.times(-2), 1))
        least = PRECISION + 1
        half_power = _power(
            engine, _binary_logarithm(engine, -magnitude, form), least, least.bit_length(), PRECISION - 1
        )
        # (1 + e^-|x|) / 2 lies in [1/2, 1]; its inverse is twice the result, here one bit further behind the point
        result = inverse_of_half_to_one(engine, engine.plus_public(half_power, _ONE // 2))
        mirrored = engine.multiply(sign, engine.plus_public(result.times(-2), 2 * _ONE))
        return engine.truncated(result + mirrored, PRECISION + 1 - form.fraction_bits)

    with engine.step("sigmoid"):
        return in_chunks(engine, circuit, x)


def logarithm(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """The natural logarithm of x.

    Args:
        engine: of this party.
        x: shape (n,), above zero; what comes of others means nothing.
        form: of x and of the result, which must lie in the domain; see `require_narrow`.

    Guarantees: off by at most 2^-24 plus 2 units.
    Leaks: nothing. Cost: at most 38 rounds a chunk, and 376 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)
    width = form.word_bits

    def circuit(x: Arithmetic) -> Arithmetic:
        one = leading_place(engine, engine.to_binary(x), width)
        chosen = digit_masks([width - place for place in range(width + 1)])
        digits = numbers(engine, parities(one, chosen), len(chosen))
        power = product(engine, powers_of_two(engine, digits))
        mantissa = at_precision(engine, engine.multiply(x, power), width)
        polynomial = fitted(np.log, 0.5, 1.0, max(form.unit / 4, 2.0**-26))
        exponent = engine.plus_public(-_valued(digits), form.magnitude_bits)
        total = evaluated(engine, polynomial, mantissa) + exponent.times(round(math.log(2) * _ONE))
        return engine.truncated(total, PRECISION - form.fraction_bits)

    with engine.step("logarithm"):
        return in_chunks(engine, circuit, x)


def _binary_logarithm(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """x / ln(2), with PRECISION bits behind the binary point: the exponent of two that gives e^x."""
    fine = MOST_FUNCTION_BITS - form.magnitude_bits
    lifted = x.times(1 << (fine - form.fraction_bits))
    return wide_times(engine, lifted, _LOG_2_E, _LOG_2_E_BITS // 2 + 1, fine + _LOG_2_E_BITS - PRECISION)


def _power(engine: Engine, t: Arithmetic, least: int, digits: int, fraction_bits: int) -> Arithmetic:
    """2^t with `fraction_bits` behind the binary point, and 0 for t < -least; t has PRECISION bits.

    t + least is n + u with 0 <= u < 1; n < 2^digits, whose digits give 2^n exactly, and a polynomial gives 2^u.
    """
    raised = engine.plus_public(t, least << PRECISION)
    chosen = [1 << (PRECISION + digit) for digit in range(digits)]
    *whole, negative = numbers(engine, parities(engine.to_binary(raised), [*chosen, _SIGN]), digits + 1)
    kept = engine.plus_public(-negative, 1)
    power = product(engine, [*powers_of_two(engine, whole), kept])
    rest = raised - _valued(whole).times(_ONE)
    mantissa = evaluated(engine, fitted(np.exp2, 0.0, 1.0, 2.0**-31), rest)
    return wide_product(engine, power, mantissa, _LOW_BITS, least + PRECISION - fraction_bits)


def _valued(digits: list[Arithmetic]) -> Arithmetic:
    """The number that binary digits make, the lowest first."""
    first, *others = digits
    return sum((digit.times(1 << place) for place, digit in enumerate(others, 1)), start=first)
