"""Secret reals: integers that count units of 2^-fraction_bits, with public bounds that follow every operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.circuits import division, exponential, roots
from spark_mpc.circuits.fixed_point import FixedPoint, times_public, truncation_for
from spark_mpc.protocols.engine import EVERYBODY, Engine
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.shared.base import Secret
from spark_mpc.shared.ints import MOST_HELD, SharedBits, SharedInts

__all__ = ["SharedReals", "shared_reals"]

Function = Callable[[Engine, Arithmetic, FixedPoint], Arithmetic]


@dataclass(frozen=True, eq=False, repr=False)
class SharedReals(Secret):  # noqa: PLW1641 - a secret cannot be hashed, as its base says
    """Secret reals, shape (n,) or a matrix, between -bound and bound.

    Attributes:
        units: how many units each is; its bound is in units.
        fraction_bits: a unit is 2^-fraction_bits; the same for operands of one operation.

    Guarantees: sums are exact; a product is less than one unit beside the exact one. An operation whose result could
        wrap is refused before anything is sent.
    Leaks: no operation anything but shapes; `open` the values, to whom it names, and of a product the unit that its
        rounding adds: see `rep3.truncation.truncated`.
    """

    units: SharedInts = field(repr=False)
    fraction_bits: int

    @property
    def engine(self) -> Engine:
        """This party's."""
        return self.units.engine

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the secret; public."""
        return self.units.shape

    @property
    def bound(self) -> float:
        """The greatest magnitude that the values can have."""
        return math.ldexp(self.units.bound, -self.fraction_bits)

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, at: slice | NDArray[np.integer[Any]]) -> Self:
        """Elements at public places."""
        return self._of(self.units[at])

    def __neg__(self) -> Self:
        return self._of(-self.units)

    def __add__(self, other: Self | float) -> Self:
        return self._of(self.units + self._units_of(other))

    __radd__ = __add__

    def __sub__(self, other: Self | float) -> Self:
        return self._of(self.units - self._units_of(other))

    def __rsub__(self, other: float) -> Self:
        return -self + other

    def __mul__(self, other: Self | float) -> Self:
        """Element by element.

        Cost: with a public number 2 rounds, 9.3 bytes an element and party (10.7 where words have less than 30 bits);
            with secrets 3 rounds, 17.3 bytes, but 12 rounds a chunk and at most 46.3 bytes where products have 63 bits.
        """
        if isinstance(other, SharedReals):
            self._require_alike(other)
            return self._truncated(self.units * other.units)
        if not math.isfinite(other):
            raise InvalidArgument("other", other, "give a finite number")
        bound = math.ceil(self.units.bound * abs(other)) + 1
        bits = max(self.units.bound, bound).bit_length()
        form = FixedPoint(self.fraction_bits, max(bits - self.fraction_bits, 0))
        return self._of(SharedInts(self.engine, times_public(self.engine, self.units.words, other, form), bound))

    __rmul__ = __mul__

    def __matmul__(self, other: Self) -> Self:
        """Product of two matrices.

        Cost: 3 rounds, 17.3 bytes an element of the result and party; 12 rounds a chunk and at most 46.3 bytes where
            sums of products have 63 bits.
        """
        self._require_alike(other)
        return self._truncated(self.units @ other.units)

    def dot(self, other: Self) -> Self:
        """Inner product, shape (1,).

        Cost: 3 rounds, 17.3 bytes a party; 12 rounds and at most 1703 bytes where the sum of products has 63 bits.
        """
        self._require_alike(other)
        return self._truncated(self.units.dot(other.units))

    def sum(self, axis: int | None = None) -> Self:
        """Sum over all elements (shape (1,)) or an axis. Free."""
        return self._of(self.units.sum(axis))

    def reshape(self, *shape: int) -> Self:
        """In another shape."""
        return self._of(self.units.reshape(*shape))

    def __lt__(self, other: Self | float) -> SharedBits:
        """Cost: 8 rounds a chunk, 25.3 bytes an element and party."""
        return self.units < self._units_of(other)

    def __gt__(self, other: Self | float) -> SharedBits:
        return self.units > self._units_of(other)

    def __ge__(self, other: Self | float) -> SharedBits:
        return ~(self < other)

    def __le__(self, other: Self | float) -> SharedBits:
        return ~(self > other)

    def __eq__(self, other: object) -> SharedBits:  # type: ignore[override]
        """Whether both are the same multiple of a unit. Cost: 7 rounds a chunk, 10.5 bytes an element and party."""
        if not isinstance(other, SharedReals | float | int):
            raise InvalidArgument("other", other, "compare with reals, secret or public")
        return self.units.__eq__(self._units_of(other))

    def __ne__(self, other: object) -> SharedBits:  # type: ignore[override]
        return ~(self == other)

    def reciprocal(self, bound: float) -> Self:
        """1 / x where that is below `bound` in magnitude; what comes of others, zero included, means nothing.

        Guarantees, cost: see `circuits.division.reciprocal`.
        """
        return self._function(division.reciprocal, bound)

    def divide(self, divisor: Self, bound: float) -> Self:
        """self / divisor where that is below `bound` in magnitude; what comes of others, zero included, means nothing.

        Args:
            divisor: shape (n,), as self; of either sign and of the same fraction_bits, which the result has, too.
            bound: of the results, public.

        Guarantees: off by at most 2^-26 of the result plus 2 + 2 / |divisor| units.
        Leaks: nothing. Cost: at most 48 rounds a chunk, and 430 bytes an element and party.

        Raises:
            InvalidArgument: another length or other fraction_bits; a bound that is not finite; operands or results
                that need more than 30 bits before the binary point, or 44 in all. Nothing was sent.
        """
        self._require_alike(divisor)
        self.units._require_alike(divisor.units)
        x = self.units.words
        return divisor._function(lambda engine, y, form: division.divide(engine, x, y, form), bound, self.bound)

    def sqrt(self) -> Self:
        """The square root of values that are not negative. See `circuits.roots.square_root`."""
        return self._function(roots.square_root, max(math.sqrt(self.bound), 1.0))

    def exp(self, bound: float) -> Self:
        """e^x where that is below `bound`. See `circuits.exponential.exponential`."""
        return self._function(exponential.exponential, bound)

    def log(self) -> Self:
        """The natural logarithm of positive values. See `circuits.exponential.logarithm`."""
        least = self.fraction_bits * math.log(2)
        return self._function(exponential.logarithm, max(least, math.log(max(self.bound, 1.0))) + 1)

    def sigmoid(self) -> Self:
        """1 / (1 + e^-x). See `circuits.exponential.sigmoid`."""
        return self._function(exponential.sigmoid, 1 + math.ldexp(1, -20))

    def open(self, to: tuple[int, ...] = EVERYBODY) -> NDArray[np.float64] | None:
        """The reals, at the named compute parties; None elsewhere. Leaks: just that."""
        opened = self.units.open(to)
        return None if opened is None else np.ldexp(opened.astype(np.float64), -self.fraction_bits)

    def _function(self, function: Function, *bounds: float) -> Self:
        """A circuit whose arguments and result lie in one domain; `bounds`: of the result, then of other arguments."""
        if not all(map(math.isfinite, bounds)):
            raise InvalidArgument("bound", bounds[0], "give a finite number, the greatest magnitude of the results")
        if len(self.shape) != 1:
            raise InvalidArgument("shape", self.shape, "functions take columns: reshape(-1) first")
        greatest = max(self.bound, *bounds)
        form = FixedPoint(self.fraction_bits, max(math.frexp(greatest)[1], 0))
        words = function(self.engine, self.units.words, form)
        return self._of(SharedInts(self.engine, words, (1 << form.word_bits) - 1))

    def _truncated(self, products: SharedInts) -> Self:
        truncate = truncation_for(products.bound.bit_length())
        shape = products.shape
        words = truncate(self.engine, products.words.map(np.ravel), self.fraction_bits)
        bound = (products.bound >> self.fraction_bits) + 1
        return self._of(SharedInts(self.engine, words.map(lambda part: part.reshape(shape)), bound))

    def _units_of(self, other: Self | float) -> SharedInts | int:
        if isinstance(other, SharedReals):
            self._require_alike(other)
            return other.units
        return _rounded(other, self.fraction_bits)

    def _require_alike(self, other: object) -> None:
        if not isinstance(other, SharedReals) or other.fraction_bits != self.fraction_bits:
            raise InvalidArgument("other", other, f"give secret reals of {self.fraction_bits} fraction_bits too")

    def _of(self, units: SharedInts) -> Self:
        return type(self)(units, self.fraction_bits)


def shared_reals(
    engine: Engine,
    *,
    owner: int,
    values: NDArray[np.floating[Any]] | None,
    length: int,
    bound: float,
    fraction_bits: int = 20,
) -> SharedReals:
    """Share one compute party's reals, rounded to multiples of 2^-fraction_bits.

    Args:
        engine: this party's.
        owner: the party whose reals they are.
        values: shape (length,), at the owner; None elsewhere.
        length: public.
        bound: the greatest magnitude, public; the owner's values are checked against it.
        fraction_bits: 0 to 30.

    Raises:
        InvalidArgument: values of another length, beyond the bound, or no numbers; nothing was sent.

    Leaks: nothing but the length. Cost: 1 round, 8 bytes an element from the owner.
    """
    most = _rounded(bound, fraction_bits)
    if most < 0:
        raise InvalidArgument("bound", bound, "give the greatest magnitude of the values")
    words = None
    if values is not None and (engine.me == owner or engine.name == "plain"):
        if values.shape != (length,) or not bool(np.all(np.abs(values) <= bound)):  # NaN compares as false
            remedy = f"give {length} numbers of at most {bound} in magnitude, or declare a larger bound"
            raise InvalidArgument("values", "of another length, too large, or no numbers", remedy)
        words = np.rint(np.ldexp(values.astype(np.float64), fraction_bits)).astype(np.int64).view(np.uint64)
    return SharedReals(SharedInts(engine, engine.input_words(owner, words, length), most), fraction_bits)


def _rounded(value: float, fraction_bits: int) -> int:
    if not math.isfinite(value) or abs(value) > math.ldexp(MOST_HELD, -fraction_bits):
        raise InvalidArgument("other", value, f"give a number that {fraction_bits} fraction_bits leave room for")
    return round(math.ldexp(value, fraction_bits))
