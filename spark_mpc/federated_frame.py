"""Queries over all parties' tables together: the same words as on one lake, with everybody's rows behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, overload

from pyspark.sql import DataFrame, SparkSession

from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.execution.release import Release
from dp.frames.frame import PrivateFrame
from dp.frames.grouped import GroupedFrame, PrivateQuery
from dp.planning.aggregates import Aggregate
from dp.planning.explanation import Explanation, explain_plan
from dp.planning.keys import PrivateKeys
from dp.planning.plan import NoiseParties, Plan, guarantee, make_plan
from dp.planning.query import NoiseFamily
from spark_mpc.federation_file import FederationFile
from spark_mpc.party import Party
from spark_mpc.run import Outcome, run_party, run_together
from spark_mpc.sums.base import SumProtocol
from spark_mpc.sums.picking import Picked, pick
from spark_mpc.sums.task import QueryTask

__all__ = ["DISJOINT", "FederatedFrame", "FederatedGroups", "FederatedQuery", "Means", "Overlap"]


@dataclass(frozen=True)
class Overlap:
    """At how many parties one privacy unit may have rows; declared, public, and part of the sensitivity.

    Args:
        at_most: 1 where the parties' units are known to differ; else how many parties may share a unit.
    """

    at_most: int

    def __post_init__(self) -> None:
        if not isinstance(self.at_most, int) or isinstance(self.at_most, bool) or self.at_most < 1:
            raise InvalidArgument("at_most", self.at_most, "a unit is at 1 party or more")


DISJOINT = Overlap(at_most=1)
"""No privacy unit has rows at two parties."""


@dataclass(frozen=True)
class Means:
    """What a study lends to its queries.

    Attributes:
        file: the federation's rules.
        parties: those that run in this process.
        protocols: how vectors may be added up; the planner picks one for each query.
        spark: the session in which releases appear.
    """

    file: FederationFile = field(repr=False)
    parties: tuple[Party, ...] = field(repr=False)
    protocols: tuple[SumProtocol, ...] = field(repr=False)
    spark: SparkSession = field(repr=False)

    def recipients(self, chosen: Sequence[str] | None) -> tuple[str, ...]:
        """Those to which a result is opened, in the order of their names; everybody where none are chosen.

        Raises:
            InvalidArgument: nobody, or somebody who is no party.
        """
        everybody = tuple(peer.name for peer in self.file.parties)
        named = everybody if chosen is None else tuple(sorted(set(chosen)))
        if not named or not set(named) <= set(everybody):
            raise InvalidArgument("recipients", chosen, f"name at least one of {list(everybody)}")
        return named


@dataclass(frozen=True)
class FederatedFrame:
    """The parties' rows under one name: mine, and the others', which stay secret. See `dp.PrivateFrame`."""

    means: Means = field(repr=False)
    name: str
    frames: Mapping[str, PrivateFrame]
    parties_per_unit: int

    def where(self, condition: str) -> Self:
        """Keep the rows that satisfy a condition; all parties must write it alike. See `PrivateFrame.where`."""
        return self._each(lambda frame: frame.where(condition))

    filter = where

    def select(self, *columns: str) -> Self:
        """Keep these columns, and the unit's; see `PrivateFrame.select`."""
        return self._each(lambda frame: frame.select(*columns))

    def drop(self, *columns: str) -> Self:
        """Leave columns out; see `PrivateFrame.drop`."""
        return self._each(lambda frame: frame.drop(*columns))

    def withColumn(self, name: str, expression: str) -> Self:
        """Add or redefine a column; see `PrivateFrame.withColumn`."""
        return self._each(lambda frame: frame.withColumn(name, expression))

    def withColumnRenamed(self, existing: str, new: str) -> Self:
        """Give a column another name; see `PrivateFrame.withColumnRenamed`."""
        return self._each(lambda frame: frame.withColumnRenamed(existing, new))

    def explode(self, items: str, *, max_items: int, alias: str | None = None) -> Self:
        """One row for each item of an array; see `PrivateFrame.explode`."""
        return self._each(lambda frame: frame.explode(items, max_items=max_items, alias=alias))

    def join(self, other: DataFrame, on: str | Sequence[str], how: Literal["inner", "left"] = "inner") -> Self:
        """Add the columns of a public table, whose content the parties compare; see `PrivateFrame.join`."""
        return self._each(lambda frame: frame.join(other, on, how))

    def _each(self, step: Callable[[PrivateFrame], PrivateFrame]) -> Self:
        """The same step at every party of this process; the others do it, too, or the plans differ."""
        return replace(self, frames={party: step(frame) for party, frame in self.frames.items()})

    def groupBy(
        self,
        *columns: str,
        keys: Sequence[object] | DataFrame | None = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
    ) -> FederatedGroups:
        """Group by public keys, and say how much of one unit counts at each party; see `PrivateFrame.groupBy`."""
        groups = {
            party: frame.groupBy(
                *columns, keys=keys, max_groups=max_groups, max_rows=max_rows, max_total_rows=max_total_rows
            )
            for party, frame in self.frames.items()
        }
        if any(isinstance(group.keys, PrivateKeys) for group in groups.values()):
            remedy = f"over several lakes keys are public: give those of {list(columns)}, here or as declared facts"
            raise InvalidArgument("keys", keys, remedy)
        return FederatedGroups(self, groups)

    def rollup(
        self,
        *columns: str,
        keys: Sequence[object] | DataFrame | None = None,
        max_groups: int | None = None,
        max_rows: int | None = None,
        max_total_rows: int | None = None,
    ) -> FederatedGroups:
        """Group by public keys, with consistent totals; see `PrivateFrame.rollup`."""
        groups = {
            party: frame.rollup(
                *columns, keys=keys, max_groups=max_groups, max_rows=max_rows, max_total_rows=max_total_rows
            )
            for party, frame in self.frames.items()
        }
        return FederatedGroups(self, groups)

    def agg(
        self, *aggregates: Aggregate, max_rows: int | None = None, max_total_rows: int | None = None
    ) -> FederatedQuery:
        """Aggregate all rows as one group; see `groupBy`."""
        return self.groupBy(max_rows=max_rows, max_total_rows=max_total_rows).agg(*aggregates)


@dataclass(frozen=True)
class FederatedGroups:
    """A FederatedFrame with groups and bounds; `agg` makes it a query."""

    frame: FederatedFrame
    groups: Mapping[str, GroupedFrame]

    def agg(self, *aggregates: Aggregate) -> FederatedQuery:
        """Name the aggregates, any number of them; they share one budget, split by their weights."""
        return FederatedQuery(self.frame, {party: group.agg(*aggregates) for party, group in self.groups.items()})


@dataclass(frozen=True)
class FederatedQuery:
    """A query over all parties. `explain` is free; `release` runs it and every owner's ledger pays the full price."""

    frame: FederatedFrame
    queries: Mapping[str, PrivateQuery]

    def noise(self, family: NoiseFamily) -> FederatedQuery:
        """The same query with another family of noise; see `PrivateQuery.noise`."""
        return replace(self, queries={party: query.noise(family) for party, query in self.queries.items()})

    def explain(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        rho: Exact | None = None,
        recipients: Sequence[str] | None = None,
    ) -> Explanation:
        """Plan, price, expected error, protocol cost and leakage, before any row is read or any peer is asked."""
        means, (query, *_) = self.frame.means, self.queries.values()
        file = means.file
        opened_to = means.recipients(recipients)
        picked = self._picked(query, epsilon, delta, rho, opened_to)
        plan, protocol, cost = picked.plan, picked.protocol, picked.cost
        sources = tuple(f"{party}: {q.frame.description}" for party, q in self.queries.items())
        others = [peer.name for peer in file.parties if peer.name not in self.queries]
        secret = (f"{', '.join(others)}: their part of {self.frame.name!r}, secret",) if others else ()
        more = {
            "Protocol": (
                f"{protocol.name}, {len(file.parties)} parties, {protocol.trust(file)}",
                *(f"picked among {line}" for line in picked.why),
                f"{plan.noise.copies} noise parts, of which {plan.noise.honest} suffice alone",
                f"{cost.rounds} rounds, {max(cost.sent_bytes):,} bytes of shares sent by a party",
            ),
            "Leaks": (
                "the group keys, the bounds and everything else on this page; the parties' names and data versions",
                f"{plan.length} cells, whatever the data; timing is not hidden",
                f"the result is opened to {', '.join(opened_to)}",
            ),
        }
        return explain_plan(plan, (*sources, *secret), more)

    @overload
    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        rho: Exact | None = None,
        recipients: None = None,
        staging: str | None = None,
    ) -> Release: ...

    @overload
    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        rho: Exact | None = None,
        recipients: Sequence[str],
        staging: str | None = None,
    ) -> Release | None: ...

    def release(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        rho: Exact | None = None,
        recipients: Sequence[str] | None = None,
        staging: str | None = None,
    ) -> Release | None:
        """Run the query with the other parties, who run it too; what was released before is answered for free.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 <= delta < 1; above 0, Gaussian noise is used where it is smaller.
            rho: in place of epsilon: zero-concentrated differential privacy.
            recipients: the parties to which the result is opened; default: all.
            staging: a private directory for vectors of more than a million cells, if executors are elsewhere.

        Returns:
            The release; None at a party that contributes and is no recipient.

        Raises:
            InvalidArgument: an impossible guarantee, sums that could wrap, or an unknown recipient; nothing is paid.
            BudgetExceeded: this party's ledger has less left; nobody has paid.
            Disagreement: a peer means something else; nothing was shared or paid.
            PeerLost, AbortedByPeer: ledgers that had armed have paid in full, the others nothing; run it again.

        Guarantees: the release satisfies the guarantee towards any coalition, recipients included, that the protocol
            stands: `explain` names both.
        """
        means = self.frame.means
        opened_to = means.recipients(recipients)

        picked = {party: self._picked(query, epsilon, delta, rho, opened_to) for party, query in self.queries.items()}

        def run(party: Party) -> Outcome | None:
            task = QueryTask(self.frame.name, picked[party.name].plan, opened_to, picked[party.name].protocol)
            return run_party(party, task, self.queries[party.name].frame.source, staging)

        outcome, plan = run_together(run, means.parties), next(iter(picked.values())).plan
        if outcome is None:
            return None
        made = Release.of(plan, outcome.stored, means.spark, outcome.price, paid_before=outcome.paid_before)
        return replace(made, notices=outcome.notices)

    def _picked(
        self, query: PrivateQuery, epsilon: Exact | None, delta: Exact, rho: Exact | None, opened_to: tuple[str, ...]
    ) -> Picked:
        means, asked = self.frame.means, guarantee(epsilon, delta, rho)

        def make(noise: NoiseParties) -> Plan:
            return make_plan(
                query.query,
                asked,
                parties=len(means.file.parties),
                parties_per_unit=self.frame.parties_per_unit,
                noise=noise,
            )

        return pick(means.protocols, means.file, opened_to, make)
