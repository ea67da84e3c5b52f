"""PrivateFrame: rows that only leave as differentially private aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from dp.accounting.ledger import BudgetLedger
from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.execution.one_lake import Source, release_one_lake
from dp.execution.release import Release
from dp.frames.conditions import total_condition
from dp.frames.schema import check_keys, check_unit, column_types
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import Explanation, explain_plan
from dp.planning.facts import Key, PublicFacts
from dp.planning.plan import guarantee, make_plan
from dp.planning.query import Query, resolve_keys

__all__ = ["GroupedFrame", "PrivateFrame", "PrivateQuery"]


@dataclass(frozen=True)
class PrivateFrame:
    """Rows of one table, of which nothing can be read but private aggregates: no collect, no show, no write.

    Made by `lake.Table.private()`.

    Args:
        spark: the session in which releases appear.
        df: the rows; its expressions must be total (a session with ANSI off), since an error that depends on a row
            tells of it.
        facts: what the owner declares in public.
        name: the table's name in ledgers and explanations.
        data_version: the pinned version; the same query on the same version is answered from the ledger.
        partitions: shuffle partitions of the exchange by unit.
    """

    spark: SparkSession = field(repr=False)
    df: DataFrame = field(repr=False)
    facts: PublicFacts
    name: str
    data_version: str
    partitions: int = 2
    filters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_unit(self.df.schema, self.facts.unit)

    def where(self, condition: str) -> Self:
        """Keep the rows that satisfy a condition; it is part of the plan, as text.

        Args:
            condition: SQL text over each row alone, of operators that raise on no value: see `dp.frames.conditions`.

        Raises:
            InvalidArgument: a condition that uses anything else (a function that may raise, a UDF, a subquery).
        """
        checked = total_condition(condition, self.df.schema)
        try:
            kept = self.df.where(checked)
        except (
            AnalysisException
        ) as error:  # ours is not Spark's parser: what it refuses is about the text, not the rows
            raise InvalidArgument("condition", condition, f"Spark refuses it ({error.getCondition()})") from None
        return replace(self, df=kept, filters=(*self.filters, checked))

    filter = where

    def groupBy(
        self,
        *columns: str,
        keys: Sequence[Key | tuple[Key, ...]] | None = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
    ) -> GroupedFrame:
        """Group by public keys, and say how much of one unit counts.

        Args:
            columns: grouping columns; none for one group of everything.
            keys: the public keys: values for one column, tuples for several. Missing keys appear (with noise), rows
                with other keys have no effect. Default: the keys that the table declares.
            max_groups: groups in which one unit counts (L0).
            max_rows: rows of one unit in each of them (Linf).
            max_total_rows: rows of one unit in all (L1), in place of max_rows.

        Raises:
            InvalidArgument: no bound, no keys, or keys that do not fit their columns.
        """
        groups = resolve_keys(columns, keys, self.facts)
        check_keys(self.df.schema, columns, groups)
        if not columns and max_groups is None and max_rows is not None:
            max_groups = 1  # there is only one
        return GroupedFrame(self, columns, groups, ContributionBounds(max_groups, max_rows, max_total_rows))

    def agg(
        self, *aggregates: Aggregate, max_rows: int | None = None, max_total_rows: int | None = None
    ) -> PrivateQuery:
        """Aggregate all rows as one group; see `groupBy`."""
        return self.groupBy(max_rows=max_rows, max_total_rows=max_total_rows).agg(*aggregates)

    @property
    def source(self) -> Source:
        """What a run reads."""
        return Source(self.spark, self.df, self.name, self.data_version, self.partitions)

    def __str__(self) -> str:
        return f"PrivateFrame({', '.join(f'{name}: {kind}' for name, kind in self.df.dtypes)})"


@dataclass(frozen=True)
class GroupedFrame:
    """A PrivateFrame with groups and bounds; `agg` makes it a query."""

    frame: PrivateFrame
    by: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...]
    bounds: ContributionBounds

    def query(self, *aggregates: Aggregate) -> Query:
        """The public query, checked against the frame's schema.

        Raises:
            InvalidArgument: no such column, no bounds, two columns of one name.
        """
        if not all(isinstance(aggregate, Aggregate) for aggregate in aggregates):
            raise InvalidArgument("agg", [str(a) for a in aggregates], "give dp aggregates, such as dp.count()")
        types = column_types(self.frame.df.schema)
        read = {aggregate.source for aggregate in aggregates}
        for column in sorted(name for name in read if name is not None and name not in types):
            raise InvalidArgument("column", column, f"no such numeric column; there are {sorted(types)}")
        columns = {name: kind for name, kind in types.items() if name in read}
        return Query(self.by, self.keys, self.bounds, aggregates, self.frame.facts, columns, self.frame.filters)

    def agg(self, *aggregates: Aggregate) -> PrivateQuery:
        """Name the aggregates, any number of them; they share one budget, split by their weights."""
        return PrivateQuery(self.frame, self.query(*aggregates))


@dataclass(frozen=True)
class PrivateQuery:
    """A query over one lake. `explain` is free; `release` pays."""

    frame: PrivateFrame
    query: Query

    def explain(self, epsilon: Exact | None = None, delta: Exact = 0, *, rho: Exact | None = None) -> Explanation:
        """Plan, price and expected error, before any row is read.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 <= delta < 1; above 0, Gaussian noise is used where it is smaller.
            rho: in place of epsilon: zero-concentrated differential privacy.

        Raises:
            InvalidArgument: an impossible guarantee, or sums that could wrap.
        """
        plan = make_plan(self.query, guarantee(epsilon, delta, rho))
        return explain_plan(plan, (f"{self.frame.name} at version {self.frame.data_version}",))

    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        ledger: BudgetLedger,
        rho: Exact | None = None,
        staging: str | None = None,
    ) -> Release:
        """Pay, draw the noise, and release; the same query on the same version is answered again for free.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 <= delta < 1.
            ledger: the owner's ledger; it is debited durably before any noise is drawn.
            rho: in place of epsilon: zero-concentrated differential privacy.
            staging: a private directory for vectors of more than a million cells, if executors are elsewhere.

        Raises:
            InvalidArgument: an impossible guarantee, or sums that could wrap; nothing is paid.
            BudgetExceeded: the ledger has less left; nothing is paid.

        Guarantees: the release satisfies the guarantee for neighbours that differ by all rows of one unit. What is
            armed on the ledger is never refunded, whatever happens next.
        """
        plan = make_plan(self.query, guarantee(epsilon, delta, rho))
        return release_one_lake(plan, self.frame.source, ledger, staging)
