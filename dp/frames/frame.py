"""PrivateFrame: rows that only leave as differentially private aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NoReturn, Self, overload

from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from dp.execution.one_lake import Source
from dp.frames.auto import AutoGroups, AutoQuery
from dp.frames.grouped import GroupedFrame, Limits, PrivateQuery, resolved_groups
from dp.frames.steps import StepRows
from dp.frames.synthetic import synthetic_rows
from dp.planning.aggregates import Aggregate
from dp.planning.keys import PrivateKeys

__all__ = ["PrivateFrame", "SampleFrame", "SyntheticFrame", "UnprotectedFrame"]

Keys = Sequence[object] | DataFrame | PrivateKeys | None

_READING = frozenset(
    [
        "collect",
        "count",
        "describe",
        "distinct",
        "first",
        "foreach",
        "head",
        "limit",
        "orderBy",
        "rdd",
        "sample",
        "show",
        "sort",
        "summary",
        "tail",
        "take",
        "toArrow",
        "toDF",
        "toJSON",
        "toLocalIterator",
        "toPandas",
        "write",
        "writeTo",
    ]
)


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

    def synthetic(self, rows: int = 1000, *, seed: int = 0) -> SyntheticFrame:
        """A dry run: synthetic rows of this frame's schema and declared facts. No row of this frame is read.

        Whatever is written for this frame runs on those rows, `release` included, and costs nothing: a ledger may be
        left out, and one that is given is not debited. The numbers mean nothing.

        Args:
            rows: how many.
            seed: the same seed makes the same rows.

        Raises:
            InvalidArgument: no or too many rows, or a NOT NULL column of a type that no value is known of.
        """
        df = synthetic_rows(self.df.sparkSession, self.df.schema, self.facts, rows, seed)
        name = f"SYNTHETIC rows of the schema of {self.name}"
        return SyntheticFrame(self.spark, df, self.facts, name, f"{rows} rows, seed {seed}", self.partitions)

    def __getattr__(self, name: str) -> NoReturn:
        if name in _READING:
            remedy = "rows are private: ask with groupBy(...).agg(...).release(...)"
            raise AttributeError(f"PrivateFrame has no {name!r}: {remedy}")
        raise AttributeError(f"PrivateFrame has no {name!r}")

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}: {kind}' for name, kind in self.df.dtypes)})"


class UnprotectedFrame(PrivateFrame):
    """Rows that nobody has to protect, behind the face of private ones; they never meet private rows."""

    def union(self, other: Self) -> Self:
        """As `StepRows.union`, of frames of this kind."""
        self._check_kind(other, "union")
        return super().union(other)

    def join_on_unit(self, other: Self, *, max_rows: tuple[int, int], on: str | Sequence[str] | None = None) -> Self:
        """As `StepRows.join_on_unit`, of frames of this kind."""
        self._check_kind(other, "join_on_unit")
        return super().join_on_unit(other, max_rows=max_rows, on=on)

    def _check_kind(self, other: object, doing: str) -> None:
        if type(other) is not type(self):
            remedy = f"{doing} of a {type(self).__name__} takes another one: private rows would lose their protection"
            raise InvalidArgument("other", type(other).__name__, remedy)


class SyntheticFrame(UnprotectedFrame):
    """Synthetic rows, made from a schema and declared facts; releases need no ledger, and say that they are synthetic.

    Made by `lake.Table.synthetic()` or `PrivateFrame.synthetic()`.
    """

    @property
    def source(self) -> Source:
        return replace(super().source, synthetic=True)

    @property
    def description(self) -> str:
        return f"{self.name} ({self.data_version}): nothing real is read, nothing is paid"


class SampleFrame(UnprotectedFrame):
    """Rows that their owner calls public; `dp.tune` makes one. A release of it needs a ledger all the same."""
