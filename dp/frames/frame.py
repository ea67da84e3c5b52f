"""PrivateFrame: rows that only leave as differentially private aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from dp.frames.auto import AutoGroups, AutoQuery
from dp.frames.grouped import GroupedFrame, Limits, PrivateQuery, resolved_groups
from dp.frames.steps import StepRows
from dp.planning.aggregates import Aggregate
from dp.planning.keys import PrivateKeys

__all__ = ["PrivateFrame"]

Keys = Sequence[object] | DataFrame | PrivateKeys | None


class PrivateFrame(StepRows):
    """Rows of one table, of which nothing can be read but private aggregates: no collect, no show, no write.

    Made by `lake.Table.private()` or `df.dp(...)`. Its arguments are those of `PrivateRows`, its operations on rows
    those of `StepRows`.
    """

    @overload
    def groupBy(
        self,
        *columns: str,
        keys: Keys = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: None = None,
    ) -> GroupedFrame: ...

    @overload
    def groupBy(
        self,
        *columns: str,
        keys: Keys = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: Literal["auto"],
    ) -> AutoGroups: ...

    def groupBy(
        self,
        *columns: str,
        keys: Keys = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: Literal["auto"] | None = None,
    ) -> GroupedFrame | AutoGroups:
        """Group by public or private keys, and say how much of one unit counts.

        Args:
            columns: grouping columns; none for one group of everything.
            keys: public keys: values for one column, tuples for several, or a DataFrame of the grouping columns.
                Missing keys appear (with noise), rows with other keys have no effect. Or `dp.private_keys(...)`: keys
                that enough units have. Default: the keys that the table declares, or else private keys.
            max_groups: groups in which one unit counts (L0).
            max_rows: rows of one unit in each of them (Linf); may be left out where nothing adds up rows.
            max_total_rows: rows of one unit in all (L1), in place of max_rows.
            bounds: "auto" chooses what is missing, rows of one unit and clamps of columns, from small releases that a
                tenth of the budget each pays for.

        Raises:
            InvalidArgument: no bound, or keys that do not fit their columns.
        """
        groups, limits = resolved_groups(self, columns, keys), Limits(max_groups, max_rows, max_total_rows)
        if bounds == "auto":
            return AutoGroups(self, columns, groups, limits)
        if bounds is not None:
            raise InvalidArgument("bounds", bounds, 'give "auto", or bounds by their names')
        return GroupedFrame(self, columns, groups, limits.bounds(self.facts, columns))

    def rollup(
        self,
        *columns: str,
        keys: Keys = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
    ) -> GroupedFrame:
        """Group by public keys, with totals for every leading part of the columns and over everything.

        Totals are measured, too, and then made consistent: each is the sum of its groups. In the answer a column over
        which was totalled is NULL, as in Spark's rollup.

        Args:
            columns: grouping columns, from the coarsest to the finest.
            keys: public keys; see `groupBy`.
            max_groups: finest groups in which one unit counts (L0).
            max_rows: rows of one unit in each of them (Linf).
            max_total_rows: rows of one unit in all (L1), in place of max_rows.

        Raises:
            InvalidArgument: no columns, private keys, or no bound.
        """
        groups = resolved_groups(self, columns, keys)
        if not columns or isinstance(groups, PrivateKeys):
            raise InvalidArgument("keys", keys, "totals belong to public keys of grouping columns: give both")
        bounds = Limits(max_groups, max_rows, max_total_rows).bounds(self.facts, columns)
        return GroupedFrame(self, columns, groups, bounds, totals="rollup")

    @overload
    def agg(
        self,
        *aggregates: Aggregate,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: None = None,
    ) -> PrivateQuery: ...

    @overload
    def agg(
        self,
        *aggregates: Aggregate,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: Literal["auto"],
    ) -> AutoQuery: ...

    def agg(
        self,
        *aggregates: Aggregate,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
        bounds: Literal["auto"] | None = None,
    ) -> PrivateQuery | AutoQuery:
        """Aggregate all rows as one group; see `groupBy`."""
        if bounds is None:
            return self.groupBy(max_rows=max_rows, max_total_rows=max_total_rows).agg(*aggregates)
        return self.groupBy(max_rows=max_rows, max_total_rows=max_total_rows, bounds=bounds).agg(*aggregates)

    def __str__(self) -> str:
        return f"PrivateFrame({', '.join(f'{name}: {kind}' for name, kind in self.df.dtypes)})"
