"""What a table's owner declares in public: everything that a plan may depend on besides the query itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

from dp.errors import InvalidArgument

__all__ = ["DEFAULT_MAX_UNITS", "Key", "PublicFacts"]

Key = int | str | bool
"""A value of a grouping column: public, exact, comparable without rounding (so no floats)."""

DEFAULT_MAX_UNITS = 2**34
"""The greatest number of privacy units where none is declared: twice the people alive."""


@dataclass(frozen=True)
class PublicFacts:
    """Declared facts of one table.

    Attributes:
        unit: columns that together identify the privacy unit; a row in which one of them is NULL belongs to
            nobody and is dropped. No column: every row is a unit of its own.
        bounds: column -> (lower, upper), the clamp that an aggregate uses when it names none.
        keys: column -> the public list of its group keys.
        max_units: the greatest number of units that the table may hold; proves at plan time that no sum wraps.
        group_size: how many units the guarantee protects together (group privacy).
        rows_per_unit: where every row is a unit of its own, the most rows that one can have become since.
    """

    unit: tuple[str, ...]
    bounds: Mapping[str, tuple[Fraction, Fraction]] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, tuple[Key, ...]] = field(default_factory=lambda: MappingProxyType({}))
    max_units: int = DEFAULT_MAX_UNITS
    group_size: int = 1
    rows_per_unit: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.unit, tuple):
            raise InvalidArgument("unit", self.unit, "give a tuple of column names, an empty one where rows are units")
        for column, pair in self.bounds.items():
            if not all(isinstance(bound, Fraction) for bound in pair):
                raise InvalidArgument("bounds", {column: pair}, "give exact Fractions; lake.Table reads other numbers")
        for name in ("max_units", "group_size", "rows_per_unit"):
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise InvalidArgument(name, count, "give an integer of at least 1")
        if self.unit and self.rows_per_unit != 1:
            raise InvalidArgument(
                "rows_per_unit", self.rows_per_unit, "only rows that are units have it; leave it at 1"
            )

    @property
    def units_together(self) -> int:
        """How many of what bounding takes for one unit are protected together: rows that were one row are."""
        return self.group_size * self.rows_per_unit

    @property
    def bounded_units(self) -> int:
        """The most that the table may hold of what bounding takes for one unit."""
        return self.max_units * self.rows_per_unit
