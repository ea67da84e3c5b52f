"""A query as a task of several parties: everybody's bounded cells are added up."""

from __future__ import annotations

from dataclasses import dataclass

from dp.accounting.budget import Budget
from dp.execution.local import Vector, local_cells
from dp.execution.one_lake import Source, purpose
from dp.execution.release import StoredRelease
from dp.planning.plan import Plan
from lake.policy import Policy
from spark_mpc.party import Party
from spark_mpc.sums.base import Joint, SumProtocol, Work

__all__ = ["QueryTask"]


@dataclass(frozen=True)
class QueryTask:
    """See `Task`.

    Attributes:
        contribution: the name under which the tables were contributed.
        plan: the calibrated plan.
        recipients: the parties to which the result is opened, in the order of their names.
        sums: how vectors are added up.
    """

    contribution: str
    plan: Plan
    recipients: tuple[str, ...]
    sums: SumProtocol

    @property
    def protocol(self) -> str:
        return self.sums.name

    @property
    def length(self) -> int:
        return self.plan.length

    @property
    def purpose(self) -> str:
        return purpose(self.plan)

    @property
    def disclosure(self) -> str:
        return ""

    def to_json(self) -> dict[str, object]:
        return {"contribution": self.contribution, "recipients": list(self.recipients), **self.plan.to_json()}

    def price(self, like: Budget) -> Budget:
        return self.plan.price(like)

    def require_permission(self, policy: Policy, data_version: str) -> None:
        """Everything is noised."""

    def exact(self, party: Party, source: Source) -> Vector:
        cells = local_cells(source.df, self.plan, partitions=source.partitions)
        return Vector.of_cells(cells, self.plan.length, partitions=source.partitions, long_cells=party.long_cells)

    def joint(self, work: Work) -> Joint:
        return self.sums.joint(work, self.plan)

    def read(self, stored: bytes) -> StoredRelease:
        return StoredRelease.from_bytes(stored, self.plan)
