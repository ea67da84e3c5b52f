"""One party's own means, and what all parties of a run must ask alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dp.accounting.ledger import BudgetLedger
from dp.execution.local import LONG_CELLS
from dp.planning.plan import Plan
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.sums.base import SumProtocol
from spark_mpc.transport.base import Transport

__all__ = ["STEPS", "Party", "Task"]

STEPS = ("agree", "reserve", "local", "share", "noise", "ready", "arm", "open", "commit", "release")
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
    """

    identity: Identity = field(repr=False)
    federation: FederationFile = field(repr=False)
    transport: Transport = field(repr=False)
    ledger: BudgetLedger = field(repr=False)
    progress: Callable[[str], None] = field(repr=False)
    long_cells: int = LONG_CELLS

    @property
    def name(self) -> str:
        """Its name."""
        return self.identity.name

    def enter(self, step: str) -> None:
        """Say, here and to the peers, which step this party is in."""
        assert step in STEPS
        self.transport.step(step)
        self.progress(step)


@dataclass(frozen=True)
class Task:
    """What all parties must ask alike.

    Attributes:
        contribution: the name under which the tables were contributed.
        plan: the calibrated plan.
        recipients: the parties to which the result is opened, in the order of their names.
        protocol: how vectors are added up.
    """

    contribution: str
    plan: Plan
    recipients: tuple[str, ...]
    protocol: SumProtocol

    def to_json(self) -> dict[str, object]:
        """Its public fields."""
        return {"contribution": self.contribution, "recipients": list(self.recipients), **self.plan.to_json()}
