"""How much one privacy unit may contribute to a query: groups (L0), rows per group (Linf), rows in all (L1)."""

from __future__ import annotations

from dataclasses import dataclass

from dp.errors import InvalidArgument

__all__ = ["MAX_BOUND", "ContributionBounds"]

MAX_BOUND = 2**31 - 1
"""The greatest bound that can be declared: products of two bounds stay below 2^62."""


@dataclass(frozen=True)
class ContributionBounds:
    """The most that one privacy unit contributes; enforced on the rows, so that a sensitivity can rely on it.

    Either `max_groups` with `max_rows`, or `max_total_rows`, to which `max_groups` may be added; or `max_groups` alone,
    which suffices where nothing is counted by rows: for units, and for sums of units' totals.

    Args:
        max_groups: groups of one unit (L0), 1..MAX_BOUND.
        max_rows: rows of one unit in each of its groups (Linf), 1..MAX_BOUND.
        max_total_rows: rows of one unit over all its groups (L1), 1..MAX_BOUND.

    Raises:
        InvalidArgument: a bound that is not a positive integer, a combination that bounds nothing, or one that
            bounds the same thing twice.
    """

    max_groups: int | None = None
    max_rows: int | None = None
    max_total_rows: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_groups", "max_rows", "max_total_rows"):
            _check_bound(name, getattr(self, name))
        if self.max_total_rows is not None:
            if self.max_rows is not None:
                raise InvalidArgument("max_rows", self.max_rows, "leave it out where max_total_rows is given")
        elif self.max_groups is None:
            raise InvalidArgument("max_groups", None, "give max_groups and max_rows, or max_total_rows")

    @property
    def groups(self) -> int:
        """L0: the most groups in which one unit has a surviving row."""
        given = [bound for bound in (self.max_groups, self.max_total_rows) if bound is not None]
        return min(given)

    @property
    def rows_per_group(self) -> int:
        """Linf: the most surviving rows of one unit in one group.

        Raises:
            InvalidArgument: rows are not bounded.
        """
        if self.max_rows is None and self.max_total_rows is None:
            remedy = "what adds up rows needs a bound on them: give max_rows with max_groups, or max_total_rows"
            raise InvalidArgument("max_rows", None, remedy)
        return _first_given(self.max_rows, self.max_total_rows)

    @property
    def rows(self) -> int:
        """L1: the most surviving rows of one unit over all groups; an exact integer, however large."""
        return _first_given(self.max_total_rows, self.groups * self.rows_per_group)


def _check_bound(name: str, bound: object) -> None:
    if bound is None:
        return
    if not isinstance(bound, int) or isinstance(bound, bool) or not 1 <= bound <= MAX_BOUND:
        raise InvalidArgument(name, bound, f"a contribution bound is an integer from 1 to {MAX_BOUND}")


def _first_given(*bounds: int | None) -> int:
    return next(bound for bound in bounds if bound is not None)
