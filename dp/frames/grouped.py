"""What follows a PrivateFrame's groupBy: groups with their bounds, and queries, which explain and release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pyspark.sql import DataFrame

from dp.accounting.ledger import BudgetLedger
from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.execution.free import release_from, without_paying
from dp.execution.one_lake import paying_ledger, release_one_lake
from dp.execution.release import Release
from dp.frames.rows import PrivateRows
from dp.frames.schema import check_keys, column_types
from dp.frames.targets import ErrorBudget, least_budget
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import Explanation, explain_plan
from dp.planning.facts import PublicFacts
from dp.planning.keys import Group, PrivateKeys, resolve_keys
from dp.planning.names import quoted
from dp.planning.plan import guarantee, make_plan
from dp.planning.query import NoiseFamily, Query

__all__ = ["GroupedFrame", "Limits", "PrivateQuery", "resolved_groups"]


@dataclass(frozen=True)
class Limits:
    """Contribution bounds as a caller writes them; see `ContributionBounds`."""

    max_groups: int | None
    max_rows: int | None
    max_total_rows: int | None

    def bounds(self, facts: PublicFacts, columns: Sequence[str]) -> ContributionBounds:
        """The bounds; some need not be written.

        Raises:
            InvalidArgument: bounds that are missing, or superfluous.
        """
        given = [bound for bound in vars(self).values() if bound is not None]
        if not facts.unit:
            if given:
                remedy = (
                    f"every row is a unit of its own, of at most {facts.rows_per_unit} row(s) now: leave bounds out"
                )
                raise InvalidArgument("max_rows", given[0], remedy)
            return ContributionBounds(max_groups=1, max_rows=1)  # the rows of one are protected together
        if not columns and self.max_groups is None and self.max_total_rows is None:
            return ContributionBounds(max_groups=1, max_rows=self.max_rows)  # there is only one group
        return ContributionBounds(self.max_groups, self.max_rows, self.max_total_rows)


def resolved_groups(
    frame: PrivateRows, columns: tuple[str, ...], keys: Sequence[object] | DataFrame | PrivateKeys | None
) -> tuple[Group, ...] | PrivateKeys:
    """The groups of a query, checked against the rows' schema; see `PrivateFrame.groupBy`."""
    listed = _collected(keys, columns) if isinstance(keys, DataFrame) else keys
    groups = resolve_keys(columns, listed, frame.facts)
    check_keys(frame.df.schema, columns, _named(groups, len(columns)))
    return groups


def _named(groups: tuple[Group, ...] | PrivateKeys, columns: int) -> tuple[Group, ...]:
    """The groups that are known already: public ones, or that of the others."""
    if not isinstance(groups, PrivateKeys):
        return groups
    return () if groups.other is None else ((groups.other,) * columns,)


def _collected(keys: DataFrame, columns: Sequence[str]) -> list[object]:
    """Public keys from an ordinary DataFrame, in an order that depends on nothing else."""
    missing = sorted(set(columns) - set(keys.columns))
    if missing:
        raise InvalidArgument("keys", keys.columns, f"the keys need the grouping columns; {missing} are missing")
    table = keys.select(*(quoted(column) for column in columns)).distinct().toArrow()
    return sorted(zip(*(table.column(i).to_pylist() for i in range(len(columns))), strict=True), key=repr)


@dataclass(frozen=True)
class GroupedFrame:
    """A PrivateFrame with groups and bounds; `agg` makes it a query."""

    frame: PrivateRows
    by: tuple[str, ...]
    keys: tuple[Group, ...] | PrivateKeys
    bounds: ContributionBounds
    totals: Literal["none", "rollup"] = "none"

    def query(self, *aggregates: Aggregate) -> Query:
        """The public query, checked against the frame's schema.

        Raises:
            InvalidArgument: no such column, no bounds, two columns of one name.
        """
        if not all(isinstance(aggregate, Aggregate) for aggregate in aggregates):
            raise InvalidArgument("agg", [str(a) for a in aggregates], "give dp aggregates, such as dp.count()")
        types = column_types(self.frame.df.schema)
        read = {source for aggregate in aggregates for source in aggregate.sources}
        for column in sorted(read - types.keys()):
            raise InvalidArgument("column", column, f"no such column; there are {sorted(types)}")
        columns = {name: kind for name, kind in types.items() if name in read}
        return Query(
            self.by,
            self.keys,
            self.bounds,
            aggregates,
            self.frame.facts,
            columns,
            filters=self.frame.steps,
            totals=self.totals,
        )

    def agg(self, *aggregates: Aggregate) -> PrivateQuery:
        """Name the aggregates, any number of them; they share one budget, split by their weights.

        With private keys there may be none: the release is then the names of the groups.
        """
        return PrivateQuery(self.frame, self.query(*aggregates))


@dataclass(frozen=True)
class PrivateQuery:
    """A query over one lake. `explain` is free; `release` pays."""

    frame: PrivateRows
    query: Query

    def noise(self, family: NoiseFamily) -> PrivateQuery:
        """The same query with another family of noise than the one of least error.

        Args:
            family: "laplace", "gaussian" (with a delta or a rho), or "best".

        Raises:
            InvalidArgument: an unknown family.
        """
        return replace(self, query=replace(self.query, noise=family))

    def explain(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        rho: Exact | None = None,
        ledger: BudgetLedger | None = None,
    ) -> Explanation:
        """Plan, price and expected error, before any row is read; and what is free already.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 <= delta < 1; above 0, Gaussian noise is used where it is smaller.
            rho: in place of epsilon: zero-concentrated differential privacy.
            ledger: the owner's ledger: its stored releases that answer the question are offered; see `from_release`.

        Raises:
            InvalidArgument: an impossible guarantee, or sums that could wrap.
        """
        plan = make_plan(self.query, guarantee(epsilon, delta, rho))
        free = None if ledger is None else without_paying(plan, self.frame.source, ledger)
        return explain_plan(plan, (self.frame.description,), free=free)

    def budget_for(
        self,
        errors: Mapping[str, Exact],
        *,
        delta: Exact = 0,
        confidence: float = 0.95,
        rows: Exact | None = None,
    ) -> ErrorBudget[PrivateQuery]:
        """The least epsilon, and the split of it, for which the expected errors are within targets. Reads no row.

        Errors are those of the noise, as `explain` prints them: not what bounding and clamping do.

        Args:
            errors: aggregate -> its target, in its unit; `dp.relative(share, of=...)` makes one of a public number. For
                a standard deviation it is that of its square, for quantiles a share of ranks. Aggregates without a
                target get as much as the least of the others.
            delta: of the release.
            confidence: at which errors are expected to be within their targets.
            rows: a group's size, declared or released before, where errors depend on it: means, quantiles.

        Raises:
            InvalidArgument: no such aggregate, a target that is not positive, a missing `rows`, or targets that no
                budget meets.
        """
        return least_budget(
            self.query,
            lambda query: replace(self, query=query),
            errors,
            delta=delta,
            confidence=confidence,
            rows=rows,
        )

    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        ledger: BudgetLedger | None = None,
        rho: Exact | None = None,
        staging: str | None = None,
    ) -> Release:
        """Pay, draw the noise, and release; the same query on the same version is answered again for free.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 <= delta < 1.
            ledger: the owner's ledger; it is debited durably before any noise is drawn. Synthetic rows need none.
            rho: in place of epsilon: zero-concentrated differential privacy.
            staging: a private directory for vectors of more than a million cells, if executors are elsewhere.

        Raises:
            InvalidArgument: an impossible guarantee, sums that could wrap, or no ledger; nothing is paid.
            BudgetExceeded: the ledger has less left; nothing is paid.

        Guarantees: the release satisfies the guarantee for neighbours that differ by all rows of one unit. What is
            armed on the ledger is never refunded, whatever happens next.
        """
        asked, source = guarantee(epsilon, delta, rho), self.frame.source
        paying = paying_ledger(source, ledger, asked)
        return release_one_lake(make_plan(self.query, asked), source, paying, staging)

    def from_release(self, number: int, *, ledger: BudgetLedger) -> Release:
        """Answer the query from a stored release, where it follows from that; nothing is paid and no row is read.

        Args:
            number: of the stored release, as `explain(..., ledger=ledger)` offers it.
            ledger: the owner's ledger, which keeps the release; nothing in it changes.

        Raises:
            InvalidArgument: no such release of this version of the table, or the query does not follow from it; it says
                why.

        Guarantees: the answer is a function of what was released before, so that the guarantee that was paid for then
            covers both. But for the noise, values have the law that the query's own would have, on the rows that the
            release is about: `plan.only` says which, if not all. Intervals follow from the exact law of the noise.
        """
        return release_from(number, self.query, self.frame.source, ledger)
