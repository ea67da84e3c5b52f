"""Square roots of fixed-point numbers and their inverses: normalise by a power of four, approximate, improve once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spark_mpc.circuits.bits import digit_masks, leading_place, numbers, parities, powers_of_two, product
from spark_mpc.circuits.chunks import in_chunks
from spark_mpc.circuits.division import at_precision, require_narrow
from spark_mpc.circuits.fixed_point import FixedPoint, wide_product
from spark_mpc.circuits.polynomials import PRECISION, Polynomial, evaluated, fitted
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic

__all__ = ["inverse_square_root", "square_root"]

_LOW_BITS = PRECISION // 2
_START_ERROR = 2.0**-14
"""Of the first approximation, relative to a result of at least 1; a step of Newton's leaves 3/2 of its square."""


def square_root(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """The square root of x.

    Args:
        engine: of this party.
        x: shape (n,), not negative; what comes of negative numbers means nothing.
        form: of x and of the result; see `require_narrow`.

    Guarantees: off by at most 2^-26 of the result plus 1 unit; 0 for 0.
    Leaks: nothing. Cost: at most 50 rounds a chunk, and 435 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)

    def circuit(x: Arithmetic) -> Arithmetic:
        _, scaled, inverse = _normalised(engine, x, form)
        return wide_product(engine, scaled, inverse, _LOW_BITS, PRECISION + _half_exponent(form))

    with engine.step("root"):
        return in_chunks(engine, circuit, x)


def inverse_square_root(engine: Engine, x: Arithmetic, form: FixedPoint) -> Arithmetic:
    """One by the square root of x.

    Args:
        engine: of this party.
        x: shape (n,), above zero; what comes of others means nothing.
        form: of x and of the result, which must lie in the domain; see `require_narrow`.

    Guarantees: off by at most 2^-26 of the result plus 1 unit.
    Leaks: nothing. Cost: at most 46 rounds a chunk, and 410 bytes an element and party.

    Raises:
        InvalidArgument: the form is too wide.
    """
    require_narrow(form)

    def circuit(x: Arithmetic) -> Arithmetic:
        half_power, _, inverse = _normalised(engine, x, form)
        return engine.truncated(
            engine.multiply(half_power, inverse), PRECISION + _half_exponent(form) - form.fraction_bits
        )

    with engine.step("inverse-root"):
        return in_chunks(engine, circuit, x)


def _half_exponent(form: FixedPoint) -> int:
    """(top - fraction_bits) / 2, where words are brought to [2^(top - 2), 2^top)."""
    return (form.magnitude_bits + 1) // 2


def _normalised(engine: Engine, x: Arithmetic, form: FixedPoint) -> tuple[Arithmetic, Arithmetic, Arithmetic]:
    """h = 2^j with y = x h^2 / 2^top in [1/4, 1); then h, x h and 1 / sqrt(y).

    top is at least the bits of a word, and has the parity of the fraction's, so that the root's exponent is whole.
    """
    width, top = form.word_bits, form.fraction_bits + 2 * _half_exponent(form)
    one = leading_place(engine, engine.to_binary(x), width)
    chosen = digit_masks([(top - place) // 2 for place in range(width + 1)])
    half_power = product(engine, powers_of_two(engine, numbers(engine, parities(one, chosen), len(chosen))))
    scaled = engine.multiply(x, half_power)
    mantissa = at_precision(engine, engine.multiply(scaled, half_power), top)
    return half_power, scaled, _inverse_root(engine, mantissa)


def _inverse_root(engine: Engine, y: Arithmetic) -> Arithmetic:
    """1 / sqrt(y) for y in [1/4, 1), all with PRECISION bits: w (3 - y w^2) / 2 of a polynomial w."""
    w = evaluated(engine, _start(), y)
    times_y = engine.truncated(engine.multiply(w, y), PRECISION)
    rest = engine.plus_public(-engine.truncated(engine.multiply(times_y, w), PRECISION), 1 << PRECISION)
    return w + engine.truncated(engine.multiply(w, rest), PRECISION + 1)


def _start() -> Polynomial:
    return fitted(_inverse_square_root, 0.25, 1.0, _START_ERROR)


def _inverse_square_root(y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / np.sqrt(y)
