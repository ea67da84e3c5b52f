"""Secret integers, with public bounds that follow every operation, and secret truth values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.protocols.engine import EVERYBODY, Engine
from spark_mpc.protocols.shares import Arithmetic, Bits
from spark_mpc.shared.base import Secret

__all__ = ["MOST_COMPARED", "MOST_HELD", "SharedBits", "SharedInts", "shared_bits", "shared_ints"]

MOST_COMPARED = 2**62 - 1
"""The greatest magnitude of values that are compared: the sign of a difference is right as long as it is below 2^63."""

MOST_HELD = 2**63 - 1
"""The greatest magnitude that a word holds."""


@dataclass(frozen=True, eq=False, repr=False)
class SharedBits(Secret):
    """Secret truth values, shape (n,).

    Attributes:
        engine: this party's.
        bits: its shares.

    Leaks: no operation anything but shapes; `open` the values, to whom it names.
    """

    engine: Engine = field(repr=False)
    bits: Bits = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the secret; public."""
        return (len(self.bits),)

    def __len__(self) -> int:
        return len(self.bits)

    def __invert__(self) -> Self:
        return self._of(self.engine.xor_public(self.bits, 1))

    def __xor__(self, other: Self) -> Self:
        self._require_alike(other)
        return self._of(self.bits ^ other.bits)

    def __and__(self, other: Self) -> Self:
        """Cost: 1 round, 1 bit an element and party."""
        self._require_alike(other)
        return self._of(self.engine.both(self.bits, other.bits))

    def __or__(self, other: Self) -> Self:
        """Cost: 1 round, 1 bit an element and party."""
        return ~(~self & ~other)

    def to_ints(self) -> SharedInts:
        """Zeros and ones. Cost: 2 rounds, 10.7 bytes an element and party."""
        return SharedInts(self.engine, self.engine.bits_to_arithmetic(self.bits), bound=1)

    def open(self, to: tuple[int, ...] = EVERYBODY) -> NDArray[np.bool_] | None:
        """The truth values, at the named compute parties; None elsewhere. Leaks: just that."""
        opened = self.engine.open_bits(self.bits, to)
        return None if opened is None else opened.astype(np.bool_)

    def _of(self, bits: Bits) -> Self:
        return type(self)(self.engine, bits)

    def _require_alike(self, other: Self) -> None:
        if not isinstance(other, SharedBits) or len(other) != len(self):
            raise InvalidArgument("other", other, f"give secret truth values of the same length {len(self)}")


@dataclass(frozen=True, eq=False, repr=False)
class SharedInts(Secret):  # noqa: PLW1641 - a secret cannot be hashed, as its base says
    """Secret integers of any shape, between -bound and bound.

    Attributes:
        engine: this party's.
        words: its shares, two's complement modulo 2^64.
        bound: the greatest magnitude that the values can have, public; it follows every operation, and one whose
            result could wrap is refused before anything is sent.

    Leaks: no operation anything but shapes; `open` the values, to whom it names.
    """

    engine: Engine = field(repr=False)
    words: Arithmetic = field(repr=False)
    bound: int

    def __post_init__(self) -> None:
        if self.bound > MOST_HELD:
            remedy = "values would wrap around 2^64: declare smaller bounds, or sum fewer of them"
            raise InvalidArgument("bound", self.bound, remedy)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the secret; public."""
        return self.words.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | NDArray[np.integer[Any]]) -> Self:
        """Elements at public places."""
        return self._of(self.words.map(lambda part: part[at]), self.bound)

    def reshape(self, *shape: int) -> Self:
        """In another shape."""
        return self._of(self.words.map(lambda part: part.reshape(*shape)), self.bound)

    def __neg__(self) -> Self:
        return self._of(-self.words, self.bound)

    def __add__(self, other: Self | int | NDArray[np.integer[Any]]) -> Self:
        if isinstance(other, SharedInts):
            self._require_alike(other)
            return self._of(self.words + other.words, self.bound + other.bound)
        return self._of(self.engine.plus_public(self.words, self._public(other)), self.bound + _magnitude(other))

    __radd__ = __add__

    def __sub__(self, other: Self | int | NDArray[np.integer[Any]]) -> Self:
        if isinstance(other, SharedInts):
            self._require_alike(other)
            return self._of(self.words - other.words, self.bound + other.bound)
        return self + _negated(other)

    def __rsub__(self, other: int | NDArray[np.integer[Any]]) -> Self:  # type: ignore[misc]
        return -self + other

    def __mul__(self, other: Self | int | NDArray[np.integer[Any]]) -> Self:
        """Cost: free with what is public; 1 round, 8 bytes an element and party with what is secret."""
        if not isinstance(other, SharedInts):
            return self._of(self.words.times(self._public(other)), self.bound * _magnitude(other))
        self._require_alike(other)
        bound = self.bound * other.bound
        _require_held(bound)
        flat = (one.words.map(np.ravel) for one in (self, other))
        product = self.engine.multiply(*flat)
        return self._of(product.map(lambda part: part.reshape(self.shape)), bound)

    __rmul__ = __mul__

    def __matmul__(self, other: Self) -> Self:
        """Product of two matrices. Cost: 1 round, 8 bytes an element of the result and party."""
        if (
            not isinstance(other, SharedInts)
            or len(self.shape) != 2
            or len(other.shape) != 2
            or other.shape[0] != self.shape[1]
        ):
            raise InvalidArgument("other", other, f"give a secret matrix of {self.shape[-1]} rows")
        bound = self.bound * other.bound * self.shape[1]
        _require_held(bound)
        return self._of(self.engine.matmul(self.words, other.words), bound)

    def sum(self, axis: int | None = None) -> Self:
        """Sum over all elements (shape (1,)) or an axis. Free."""
        count = int(np.prod(self.shape)) if axis is None else self.shape[axis]

        def total(part: NDArray[Any]) -> NDArray[Any]:
            return np.atleast_1d(part.sum(axis=axis, dtype=part.dtype))

        return self._of(self.words.map(total), self.bound * max(count, 1))

    def dot(self, other: Self) -> Self:
        """Inner product with integers of the same shape, shape (1,). Cost: 1 round, 8 bytes a party."""
        self._require_alike(other)
        bound = self.bound * other.bound * max(int(np.prod(self.shape)), 1)
        _require_held(bound)
        rows = (one.words.map(lambda part: part.reshape(1, -1)) for one in (self, other))
        return self._of(self.engine.dot(*rows), bound)

    def __lt__(self, other: Self | int) -> SharedBits:
        """Cost: 8 rounds a chunk, 25.3 bytes an element and party."""
        return SharedBits(self.engine, self.engine.negative(self._difference(other)))

    def __gt__(self, other: Self | int) -> SharedBits:
        return SharedBits(self.engine, self.engine.negative(-self._difference(other)))

    def __ge__(self, other: Self | int) -> SharedBits:
        return ~(self < other)

    def __le__(self, other: Self | int) -> SharedBits:
        return ~(self > other)

    def __eq__(self, other: object) -> SharedBits:  # type: ignore[override]
        """Cost: 7 rounds a chunk, 10.5 bytes an element and party."""
        return SharedBits(self.engine, self.engine.zero(self._difference(other)))

    def __ne__(self, other: object) -> SharedBits:  # type: ignore[override]
        return ~(self == other)

    def open(self, to: tuple[int, ...] = EVERYBODY) -> NDArray[np.int64] | None:
        """The integers, at the named compute parties; None elsewhere. Leaks: just that."""
        opened = self.engine.open_words(self.words, to)
        return None if opened is None else opened.view(np.int64)

    def _difference(self, other: object) -> Arithmetic:
        if not isinstance(other, SharedInts | int | np.integer | np.ndarray):
            raise InvalidArgument("other", other, "compare with integers, secret or public")
        magnitude = other.bound if isinstance(other, SharedInts) else _magnitude(other)
        if len(self.shape) != 1:
            raise InvalidArgument("shape", self.shape, "compare columns: reshape(-1) first")
        greatest = max(self.bound, magnitude)
        if greatest > MOST_COMPARED:
            raise InvalidArgument("bound", greatest, "values that are compared stay below 2^62: declare smaller bounds")
        return (self - other).words  # type: ignore[operator]

    def _of(self, words: Arithmetic, bound: int) -> Self:
        return type(self)(self.engine, words, bound)

    def _public(self, value: int | np.integer[Any] | NDArray[np.integer[Any]]) -> int | NDArray[np.uint64]:
        if not isinstance(value, np.ndarray):
            return int(value)
        if value.shape != self.shape or value.dtype.kind not in "iu":
            problem = f"{value.dtype} of shape {value.shape}"
            raise InvalidArgument("other", problem, f"give one integer, or integers of shape {self.shape}")
        _require_held(_magnitude(value))
        return value.astype(np.int64).view(np.uint64)

    def _require_alike(self, other: SharedInts) -> None:
        if other.shape != self.shape:
            raise InvalidArgument("other", other, f"give integers of the same shape {self.shape}")


def shared_ints(
    engine: Engine, *, owner: int, values: NDArray[np.integer[Any]] | None, length: int, bound: int
) -> SharedInts:
    """Share one compute party's integers.

    Args:
        engine: this party's.
        owner: the party whose integers they are.
        values: shape (length,), at the owner; None elsewhere.
        length: public.
        bound: the greatest magnitude, public; the owner's values are checked against it.

    Raises:
        InvalidArgument: values of another length, or beyond the bound; nothing was sent.

    Leaks: nothing but the length. Cost: 1 round, 8 bytes an element from the owner.
    """
    if not 0 <= bound <= MOST_HELD:
        raise InvalidArgument("bound", bound, "give the greatest magnitude of the values, below 2^63")
    words = None
    if values is not None and (engine.me == owner or engine.name == "plain"):
        words = _checked(values, length, bound)
    return SharedInts(engine, engine.input_words(owner, words, length), bound)


def shared_bits(engine: Engine, *, owner: int, values: NDArray[Any] | None, length: int) -> SharedBits:
    """Share one compute party's truth values; see `shared_ints`. Cost: 1 round, 1 bit an element from the owner."""
    if values is not None and values.shape != (length,):
        raise InvalidArgument("values", f"shape {values.shape}", f"give {length} truth values, as declared")
    return SharedBits(engine, engine.input_bits(owner, values, length))


def _checked(values: NDArray[np.integer[Any]], length: int, bound: int) -> NDArray[np.uint64]:
    if values.shape != (length,) or values.dtype.kind not in "iu":
        problem = f"{values.dtype} of shape {values.shape}"
        raise InvalidArgument("values", problem, f"give {length} integers, as declared")
    if length and not -bound <= int(values.min()) <= int(values.max()) <= bound:
        raise InvalidArgument(
            "values", "beyond the bound", f"clamp them to -{bound}..{bound}, or declare a larger bound"
        )
    return values.astype(np.int64).view(np.uint64)


def _negated(value: int | np.integer[Any] | NDArray[np.integer[Any]]) -> int | NDArray[np.int64]:
    if not isinstance(value, np.ndarray):
        return -int(value)
    _require_held(_magnitude(value))
    return -value.astype(np.int64)


def _magnitude(value: int | np.integer[Any] | NDArray[np.integer[Any]]) -> int:
    if isinstance(value, np.ndarray):
        return max(abs(int(value.min())), abs(int(value.max()))) if value.size else 0
    return abs(int(value))


def _require_held(bound: int) -> None:
    if bound > MOST_HELD:
        raise InvalidArgument("bound", bound, "the result could wrap around 2^64: declare smaller bounds")
