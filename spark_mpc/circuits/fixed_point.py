"""Reals as integers under sharing: a word w stands for w / 2^fraction_bits.

Products carry twice the fraction; one truncation brings them back. Every value, results included, must lie in the
declared domain: nothing notices under sharing when one does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, concatenated
from spark_mpc.ring.masks import Words

__all__ = [
    "MOST_WORD_BITS",
    "FixedPoint",
    "Truncation",
    "dot",
    "matmul",
    "multiply",
    "times_public",
    "truncation_for",
    "wide_product",
    "wide_times",
]

MOST_WORD_BITS = 62
"""Words that are compared or truncated lie in |w| < 2^62."""

Truncation = Callable[[Engine, Arithmetic, int], Arithmetic]


@dataclass(frozen=True)
class FixedPoint:
    """The domain of a column of reals, and how fine it is: public, and part of a plan.

    Attributes:
        fraction_bits: a unit of the word is 2^-fraction_bits.
        magnitude_bits: every value, results included, lies in |value| < 2^magnitude_bits.

    Raises:
        InvalidArgument: a negative number of bits, or words of more than 62.
    """

    fraction_bits: int
    magnitude_bits: int

    def __post_init__(self) -> None:
        for name, bits in (("fraction_bits", self.fraction_bits), ("magnitude_bits", self.magnitude_bits)):
            if bits < 0:
                raise InvalidArgument(name, bits, "give 0 or more bits")
        if self.word_bits > MOST_WORD_BITS:
            given = self.fraction_bits, self.magnitude_bits
            raise InvalidArgument(
                "fraction_bits, magnitude_bits", given, f"give at most {MOST_WORD_BITS} bits together"
            )

    @property
    def word_bits(self) -> int:
        """Of the magnitude of a word."""
        return self.fraction_bits + self.magnitude_bits

    @property
    def product_bits(self) -> int:
        """Of the magnitude of a product before its truncation."""
        return self.word_bits + self.fraction_bits

    @property
    def unit(self) -> float:
        """The value of the lowest bit."""
        return float(2.0**-self.fraction_bits)

    def encode(self, values: NDArray[np.float64]) -> Words:
        """Words of reals, rounded to the nearest.

        Raises:
            InvalidArgument: a value that is no number or lies outside the domain; it is not shown.
        """
        scaled = np.rint(np.ldexp(np.asarray(values, np.float64), self.fraction_bits))
        if not bool(np.all(np.abs(scaled) < 2.0**self.word_bits)):  # NaN compares as false
            remedy = f"clamp them to less than 2^{self.magnitude_bits} in magnitude and leave out what is no number"
            raise InvalidArgument("values", "outside the domain", remedy)
        return scaled.astype(np.int64).view(np.uint64)

    def decode(self, words: Words) -> NDArray[np.float64]:
        """Reals of words."""
        return np.ldexp(words.view(np.int64).astype(np.float64), -self.fraction_bits)


def truncation_for(product_bits: int) -> Truncation:
    """How words of a magnitude below 2^product_bits are truncated.

    Rounding at random is right to one unit below 2^62 and costs 2 rounds; above, an adder gives the floor in 11.

    Raises:
        InvalidArgument: such products do not fit the ring.
    """
    if product_bits <= MOST_WORD_BITS:
        return lambda engine, x, bits: engine.truncated(x, bits)
    if product_bits == MOST_WORD_BITS + 1:
        return lambda engine, x, bits: engine.truncated_exactly(x, bits)
    remedy = "take fewer fraction_bits or magnitude_bits: magnitude_bits + 2 * fraction_bits is at most 63"
    raise InvalidArgument("product_bits", product_bits, remedy)


def multiply(engine: Engine, x: Arithmetic, y: Arithmetic, form: FixedPoint) -> Arithmetic:
    """Products of reals, element by element.

    Args:
        engine: of this party.
        x: shape (n,).
        y: shape (n,).
        form: of both and of the products.

    Guarantees: less than one unit beside the product of the words.
    Leaks: nothing. Cost: 3 rounds, 17.3 bytes an element and party; 12 rounds a chunk and at most 46.3 bytes where
        products have 63 bits.

    Raises:
        InvalidArgument: products of this form do not fit the ring.
    """
    return truncation_for(form.product_bits)(engine, engine.multiply(x, y), form.fraction_bits)


def dot(engine: Engine, x: Arithmetic, y: Arithmetic, form: FixedPoint) -> Arithmetic:
    """Inner products over the last axis, shapes (rows, n) to (rows,), with one truncation each.

    Guarantees: less than one unit beside the sum of the products of the words, which must lie in the domain.
    Leaks: nothing. Cost: 3 rounds, 17.3 bytes a row and party; 12 rounds a chunk and at most 46.3 bytes where products
        have 63 bits.

    Raises:
        InvalidArgument: products of this form do not fit the ring.
    """
    return truncation_for(form.product_bits)(engine, engine.dot(x, y), form.fraction_bits)


def matmul(engine: Engine, x: Arithmetic, y: Arithmetic, form: FixedPoint) -> Arithmetic:
    """The product of matrices, with one truncation for each element of the result.

    Guarantees: less than one unit beside the product of the words, which must lie in the domain.
    Leaks: nothing but the shapes. Cost: 3 rounds, 17.3 bytes an element of the result and party; 12 rounds a chunk and
        at most 46.3 bytes where products have 63 bits.

    Raises:
        InvalidArgument: products of this form do not fit the ring.
    """
    truncated = truncation_for(form.product_bits)
    products = engine.matmul(x, y)
    shape = products.shape
    words = truncated(engine, products.map(lambda part: part.reshape(-1)), form.fraction_bits)
    return words.map(lambda part: part.reshape(shape))


def times_public(engine: Engine, x: Arithmetic, factors: float | NDArray[np.float64], form: FixedPoint) -> Arithmetic:
    """Products with public reals.

    Args:
        engine: of this party.
        x: shape (n,).
        factors: one for all, or shape (n,); the products must lie in the domain.
        form: of x and of the products.

    Guarantees: less than one unit beside the product with the factors, these rounded to 62 - form.word_bits bits
        behind the binary point.
    Leaks: nothing. Cost: 2 rounds, 9.3 bytes an element and party (10.7 where words have less than 30 bits).

    Raises:
        InvalidArgument: a factor that is no number, or so large that no product but zero lies in the domain.
    """
    bits = MOST_WORD_BITS - form.word_bits
    words = FixedPoint(bits, form.word_bits).encode(np.asarray(factors, np.float64))
    return engine.truncated(x.times(words if words.ndim else int(words.view(np.int64))), bits)


def wide_product(engine: Engine, x: Arithmetic, y: Arithmetic, low_bits: int, bits: int) -> Arithmetic:
    """x y / 2^bits of whole words whose product need not fit: y is cut in two at `low_bits`.

    Args:
        engine: of this party.
        x: shape (n,).
        y: shape (n,).
        low_bits: 0 to bits; |x| 2^low_bits < 2^62 and |x y| < 2^(62 + low_bits).
        bits: of the result's truncation.

    Guarantees: less than 1 + 2^(low_bits - bits) units beside it.
    Leaks: nothing. Cost: at most 7 rounds, and 44 bytes an element and party; 4/3 byte more for each truncation by more
        than 32 bits.
    """
    high = engine.truncated(y, low_bits)
    low = y - high.times(1 << low_bits)
    both = engine.multiply(concatenated([x, x]), concatenated([high, low]))
    upper, lower = both.piece(slice(0, len(x))), both.piece(slice(len(x), None))
    return engine.truncated(upper + engine.truncated(lower, low_bits), bits - low_bits)


def wide_times(engine: Engine, x: Arithmetic, factor: int, low_bits: int, bits: int) -> Arithmetic:
    """`wide_product` with a public word.

    Leaks: nothing. Cost: at most 4 rounds, and 18.7 bytes an element and party; 4/3 byte more for each truncation by
        more than 32 bits.
    """
    high, low = divmod(factor, 1 << low_bits)
    total = x.times(high) + engine.truncated(x.times(low), low_bits)
    return engine.truncated(total, bits - low_bits)
