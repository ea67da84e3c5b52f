"""Secret inputs of a program: one party's exact answer to a query, which is never opened itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dp.accounting.budget import PureDP
from dp.errors import InvalidArgument
from dp.execution.local import Vector, local_cells
from dp.planning.keys import PrivateKeys
from dp.planning.plan import Plan, make_plan
from spark_mpc.federated_frame import FederatedQuery
from spark_mpc.programs.changes import Change
from spark_mpc.programs.expressions import SecretInts, secret_input
from spark_mpc.ring.masks import Words

__all__ = ["SecretCells", "secret"]


@dataclass(frozen=True, eq=False)
class SecretCells:
    """An input of a program; made by `secret`.

    Attributes:
        query: at each party of this process.
        owner: whose rows are counted.
        at_least: the least that a cell can be.
        at_most: the greatest.
    """

    query: FederatedQuery = field(repr=False)
    owner: str
    at_least: int
    at_most: int

    @property
    def bound(self) -> int:
        """The greatest magnitude of a cell."""
        return max(abs(self.at_least), abs(self.at_most))

    @cached_property
    def _plan(self) -> Plan:
        """The query's one measure; its noise is never drawn."""
        query = next(iter(self.query.queries.values())).query
        if isinstance(query.keys, PrivateKeys) or query.hierarchy is not None:
            raise InvalidArgument("query", list(query.by), "a program takes public groups, without totals over them")
        plan = make_plan(query, PureDP(1))
        measures = [part.measure for part in plan.parts]
        if len(measures) != 1 or measures[0].unit != 1 or not measures[0].in_units or plan.chooses:
            names = [aggregate.name for aggregate in query.aggregates]
            raise InvalidArgument("query", names, "a program takes integers: of dp.count(), or of one sum of integers")
        return plan

    @property
    def length(self) -> int:
        """Cells: the query's groups."""
        return self._plan.length

    @property
    def change(self) -> Change:
        """How far one unit's rows at the owner move the cells; to cut cells off moves them no further."""
        (part,), query = self._plan.parts, self._plan.query
        total = part.sensitivity.l1
        touched = query.bounds.groups * part.measure.width * query.facts.units_together
        return Change(min(total, touched), min(total, self.at_most - self.at_least), total)

    def expression(self, name: str) -> SecretInts:
        """The input, as a program's function gets it."""
        return secret_input(name, self.owner, self.length, self.bound, self.change)

    def exact(self) -> Words:
        """The owner's cells, cut off; only where the owner runs."""
        source = self.query.queries[self.owner].frame.source
        cells = local_cells(source.df, self._plan, partitions=source.partitions)
        words = Vector.of_cells(cells, self.length, partitions=source.partitions, long_cells=self.length).collect()
        return np.clip(words.view(np.int64), self.at_least, self.at_most).view(np.uint64)

    @property
    def description(self) -> str:
        """Whose cells, of what, between which ends; for people."""
        query, bounds = self._plan.query, self._plan.query.bounds
        names = ", ".join(aggregate.name for aggregate in query.aggregates)
        by = f" by {', '.join(query.by)}" if query.by else ""
        limits = ", ".join(f"{name}={value}" for name, value in vars(bounds).items() if value is not None)
        filters = "".join(f"; {step}" for step in query.filters)
        ends = f"cut off at {self.at_least:,} and {self.at_most:,}"
        return f"{names}{by} of {self.owner}, {self.length} cell(s) {ends}; {limits} a unit{filters}"

    def to_json(self) -> dict[str, object]:
        """What all parties must have alike."""
        ends = {"at_least": self.at_least, "at_most": self.at_most}
        return {"owner": self.owner, **ends, "query": self._plan.query.to_json()}


def secret(query: FederatedQuery, *, of: str, at_most: int, at_least: int = 0) -> SecretCells:
    """One party's exact cells of a query, as secret integers of a program.

    Args:
        query: over public groups, with one aggregate that is counted in integers: `dp.count()`, a sum of integers, a
            histogram (a cell for each bin), and the like.
        of: the party whose rows are counted.
        at_most: the greatest that a cell can be; what lies beyond is cut off before it is shared. A program's bounds,
            its sensitivity and its noise follow from it.
        at_least: the least, likewise.

    Raises:
        InvalidArgument: no such party, ends that are reversed or no integers below 2^62, another query, or parties of
            this process that declare different facts about their tables.
    """
    names = [peer.name for peer in query.frame.means.file.parties]
    if of not in names:
        raise InvalidArgument("of", of, f"the parties are {', '.join(names)}")
    ends = (at_least, at_most)
    if not all(isinstance(end, int) and not isinstance(end, bool) and abs(end) < 2**62 for end in ends):
        raise InvalidArgument("at_most", ends, "give the least and the greatest of a cell, integers below 2^62")
    if at_least >= at_most:
        raise InvalidArgument("at_most", ends, "the greatest is above the least, which is 0 unless given")
    asked = [each.query.to_json() for each in query.queries.values()]
    if any(other != asked[0] for other in asked):
        raise InvalidArgument("query", list(query.queries), "the parties declare different facts about their tables")
    cells = SecretCells(query, of, at_least, at_most)
    _ = cells.length  # refuses what is not one integer a group
    return cells
