"""Inputs: the encoded integer columns that rows bring along. Measures name them; equal inputs are computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add

from pyspark.sql import Column
from pyspark.sql import functions as F

from dp.planning.fixed_point import FixedPoint
from dp.planning.names import quoted
from dp.planning.tree import Tree

__all__ = ["Index", "Input", "Item", "Leaf", "Listed", "Present", "Value"]


class Input(ABC):
    """One long column over a row; NULL where the row has nothing to add. Frozen, compared by content, total."""

    @abstractmethod
    def column(self) -> Column:
        """The expression; it raises on no value of a row."""

    def served_by(self, other: Input) -> bool:
        """Whether another input is NULL exactly where this one is, and nothing else of this one is read."""
        return False


@dataclass(frozen=True)
class Value(Input):
    """A clamped column in encoded units; a missing value counts as `imputed`, or is NULL where that is None."""

    source: str
    encoding: FixedPoint
    imputed: Fraction | None = None

    def column(self) -> Column:
        encoded = self.encoding.encode(F.col(quoted(self.source)))
        if self.imputed is None:
            return encoded
        return F.coalesce(encoded, F.lit(self.encoding.encoded(self.imputed)).cast("long"))


@dataclass(frozen=True)
class Present(Input):
    """1 where a column is neither NULL nor NaN."""

    source: str
    integral: bool

    def column(self) -> Column:
        return F.when(_missing(F.col(quoted(self.source)), self.integral), F.lit(None)).otherwise(F.lit(1)).cast("long")

    def served_by(self, other: Input) -> bool:
        return isinstance(other, Value) and other.source == self.source and other.imputed is None


@dataclass(frozen=True)
class Index(Input):
    """The bin of a column: i where edges[i] <= x < edges[i + 1]; others go to the outermost bins."""

    source: str
    edges: tuple[Fraction, ...]
    integral: bool

    def column(self) -> Column:
        value = F.col(quoted(self.source))
        missing = _missing(value, self.integral)
        inner = [(value >= _literal(edge, self.integral)).cast("long") for edge in self.edges[1:-1]]
        return F.when(missing, F.lit(None)).otherwise(reduce(add, inner, F.lit(0).cast("long"))).cast("long")


@dataclass(frozen=True)
class Leaf(Input):
    """The leaf of a tree over a column's bounds; NULL where the column is missing."""

    source: str
    tree: Tree

    def column(self) -> Column:
        return self.tree.leaf_column(F.col(quoted(self.source)))


@dataclass(frozen=True)
class Listed(Input):
    """The position of a column's value in a public list; NULL where it is not on the list."""

    source: str
    values: tuple[int | str | bool, ...]

    def column(self) -> Column:
        position = F.array_position(F.array(*(F.lit(value) for value in self.values)), F.col(quoted(self.source)))
        return F.when(position > 0, position - 1).cast("long")  # 0: not there, NULL: no value


@dataclass(frozen=True)
class Item(Input):
    """A hash of a column's value, to tell different values apart; 64 bits, so that 10^6 of them hardly ever collide."""

    source: str
    real: bool

    def column(self) -> Column:
        value = F.col(quoted(self.source))
        if not self.real:
            return F.when(value.isNotNull(), F.xxhash64(value))
        number = value.cast("double")
        # -0.0 is 0.0, and NaN is no value
        return F.when(number.isNotNull() & ~F.isnan(number), F.xxhash64(number + F.lit(0.0)))


def _missing(value: Column, integral: bool) -> Column:
    return value.isNull() if integral else value.isNull() | F.isnan(value.cast("double"))


def _literal(edge: Fraction, integral: bool) -> Column:
    """An edge that compares with the column without a lossy cast: integers for integers, doubles for the rest."""
    return F.lit(-((-edge) // 1)) if integral else F.lit(float(edge))
