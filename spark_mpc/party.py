"""One party's own means, and what all parties of a run must ask alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dp.accounting.budget import Budget
from dp.execution.local import LONG_CELLS, Vector
from dp.execution.one_lake import Source
from dp.execution.release import StoredRelease
from lake.ledger.heads import WitnessedLedger
from lake.policy import Policy
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.sums.base import Joint, Work
from spark_mpc.transport.base import Transport

__all__ = ["STEPS", "Party", "Task"]

STEPS = ("agree", "reserve", "local", "share", "compute", "noise", "ready", "arm", "open", "commit", "release")
"""The steps that a party reports, in their order."""


@dataclass(frozen=True)
class Party:
    """One party's own means; nothing of it leaves this process.

    Attributes:
        identity: name, key and certificate.
        federation: the rules and the peers.
        transport: started, over the same peers.
        ledger: this owner's budget.
        progress: called with every step that is entered.
        long_cells: vectors of more cells are noised and masked on executors.
        policy: what this owner lets be opened without noise.
    """

    identity: Identity = field(repr=False)
    federation: FederationFile = field(repr=False)
    transport: Transport = field(repr=False)
    ledger: WitnessedLedger = field(repr=False)
    progress: Callable[[str], None] = field(repr=False)
    long_cells: int = LONG_CELLS
    policy: Policy = field(default_factory=Policy, repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return self.identity.name

    def enter(self, step: str) -> None:
        """Say, here and to the peers, which step this party is in."""
        assert step in STEPS
        self.transport.step(step)
        self.progress(step)


class Task(Protocol):
    """What all parties must ask alike: a query over all their tables, or a program over secret inputs."""

    @property
    def protocol(self) -> str:
        """The name of how it is computed; two protocols never meet."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The parties to which the cells are opened, in the order of their names."""

    @property
    def length(self) -> int:
        """Cells that are opened."""

    @property
    def purpose(self) -> str:
        """What a ledger's entry says of it."""

    @property
    def disclosure(self) -> str:
        """The name under which cells are opened without noise; "" where they are noised."""

    def to_json(self) -> dict[str, object]:
        """Its public fields."""

    def price(self, like: Budget) -> Budget:
        """What a ledger of this kind pays.

        Raises:
            InvalidArgument: this kind cannot express it.
        """

    def require_permission(self, policy: Policy, data_version: str) -> None:
        """An owner's word on what would be opened without noise of this version of its table.

        Raises:
            DisclosureRefused: the owner's policy does not list it.
        """

    def exact(self, party: Party, source: Source) -> Vector:
        """This party's own words, bounded and exact; they stay with it, or leave as shares."""

    def joint(self, work: Work) -> Joint:
        """An attempt to open the cells."""

    def read(self, stored: bytes) -> StoredRelease:
        """A release of these cells as a ledger keeps it; strict, because it may come from a peer.

        Raises:
            SparkMpcError: not a release of this task.
        """
