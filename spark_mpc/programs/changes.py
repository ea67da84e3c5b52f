"""By how much one privacy unit can change secret integers, followed through every operation on them.

A party's rows decide its inputs. Two sets of rows that differ by one unit of one party give two arrays; their
difference is bounded here in three norms, from those of the operands and from the greatest magnitudes that all values
have in either set. Sound whatever the values are: docs/privacy.md, "Programs", has the argument.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNCHANGED", "Change", "Size", "compared", "matrix_product", "product", "selected", "summed", "together"]


@dataclass(frozen=True)
class Size:
    """What is public of an array.

    Attributes:
        shape: of the array.
        bound: the greatest magnitude of an element.
    """

    shape: tuple[int, ...]
    bound: int

    @property
    def cells(self) -> int:
        """Elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


@dataclass(frozen=True)
class Change:
    """Bounds of a difference of two arrays of integers.

    Attributes:
        cells: how many elements differ (L0).
        most: the greatest difference of an element (Linf).
        total: the sum of all differences (L1).
    """

    cells: int
    most: int
    total: int

    def __add__(self, other: Change) -> Change:
        """Of a sum or a difference of two arrays."""
        return Change(self.cells + other.cells, self.most + other.most, self.total + other.total)

    def times(self, factor: int) -> Change:
        """Of an array times a public integer."""
        return Change(self.cells, self.most * factor, self.total * factor)

    def within(self, size: Size) -> Change:
        """The same, as far as elements of that size can differ at all; each bound tightened by the two others."""
        most = min(self.most, 2 * size.bound, self.total)
        cells = min(self.cells, size.cells, self.total)
        return Change(cells, most, min(self.total, cells * most))


UNCHANGED = Change(0, 0, 0)
"""Of what is public."""


def product(x: Change, x_size: Size, y: Change, y_size: Size) -> Change:
    """Of products of elements: x'y' - xy = (x' - x) y' + x (y' - y)."""
    return x.times(y_size.bound) + y.times(x_size.bound)


def matrix_product(x: Change, x_size: Size, y: Change, y_size: Size) -> Change:
    """Of a matrix product: an element of x meets a row of y, one of y a column of x."""
    rows, columns = x_size.shape[0], y_size.shape[1]
    total = columns * x.total * y_size.bound + rows * x_size.bound * y.total
    most = x.total * y_size.bound + x_size.bound * y.total
    return Change(columns * x.cells + rows * y.cells, most, total)


def summed(x: Change) -> Change:
    """Of sums of elements."""
    return Change(x.cells, x.total, x.total)


def compared(x: Change, y: Change) -> Change:
    """Of truth values that depend on one element of each."""
    cells = x.cells + y.cells
    return Change(cells, min(cells, 1), cells)


def selected(condition: Change, x: Change, x_size: Size, y: Change, y_size: Size) -> Change:
    """Of choices: where the condition differs, one of x stands beside one of y."""
    apart = x_size.bound + y_size.bound
    kept = x + y
    most = max(x.most, y.most, apart if condition.cells else 0)
    return Change(kept.cells + condition.cells, most, kept.total + condition.cells * apart)


def together(changes: list[Change], at_once: int) -> int:
    """How far units of several parties move an array in all, in L1: the same unit is at so many parties at most.

    One party's rows change after the other's, and each step is bounded by its own.
    """
    return sum(sorted((change.total for change in changes), reverse=True)[:at_once])
