"""What a steward chose for a ledger: how claims are scheduled, and which of them need approval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy import bindparam, update

from dp.accounting.budget import Budget, budget_from_json, budget_to_json
from dp.errors import InvalidArgument
from lake.ledger.amounts import within
from lake.ledger.balances import Demand
from lake.ledger.schema import ledger
from lake.ledger.store import Transaction
from lake.scheduling import FirstComeFirstServed, Scheduler, scheduler_from_json, scheduler_to_json

__all__ = ["APPROVAL_SECONDS", "Settings", "read_settings", "write_settings"]

APPROVAL_SECONDS = 600.0
"""How long a job waits for the steward, unless the steward says otherwise."""

_WRITE = update(ledger).values(settings=bindparam("settings"))


@dataclass(frozen=True)
class Settings:
    """Settings of one ledger.

    Attributes:
        scheduler: who is granted when several claims compete.
        approval_above: a claim that costs more on any block is not armed before the steward approved it, nor is any
            exact opening, which no price pays for; None where nothing needs approval. Of the ledger's kind.
        approval_seconds: how long a job waits for it, before it reads a row.
    """

    scheduler: Scheduler = field(default_factory=FirstComeFirstServed)
    approval_above: Budget | None = None
    approval_seconds: float = APPROVAL_SECONDS

    def needs_approval(self, demand: Demand, disclosure: str) -> bool:
        """Whether it opens something exactly, or one block gives more than may go unasked: any amount, at any order."""
        above = self.approval_above
        if above is None:
            return False
        return disclosure != "" or not all(within(amount, above) for amount in demand.values())

    def to_json(self) -> dict[str, object]:
        """The settings for the record."""
        above = None if self.approval_above is None else budget_to_json(self.approval_above)
        return {
            "scheduling": scheduler_to_json(self.scheduler),
            "approval_above": above,
            "approval_seconds": self.approval_seconds,
        }


@lru_cache(maxsize=64)
def _parsed(text: str) -> Settings:
    found = json.loads(text)
    if not found:
        return Settings()
    match found:
        case {"scheduling": Mapping() as scheduling, "approval_above": above, "approval_seconds": float(seconds)}:
            scheduler = scheduler_from_json(scheduling)
            return Settings(scheduler, None if above is None else budget_from_json(above), seconds)
    raise InvalidArgument("settings", text, "they were not written by this version of spark-mpc")


def read_settings(tx: Transaction) -> Settings:
    """The settings as they stand."""
    return _parsed(tx.start.settings)


def write_settings(tx: Transaction, settings: Settings) -> None:
    """Change them; the change is on record."""
    tx.write(_WRITE, settings=json.dumps(settings.to_json(), sort_keys=True))
    tx.record("settings", settings=settings.to_json())
