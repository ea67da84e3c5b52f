"""What a mechanism needs of a privacy ledger: an interface, and the values that cross it.

The life of an entry, each arrow one durable and atomic write:

    reserve -> reserved -- arm --> armed -- commit --> spent
                  |
                  +-- release, or an expired lease --> released

Armed and spent entries are never refunded. Implementations live in `lake`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from dp.accounting.budget import Budget

__all__ = ["BudgetLedger", "Claim", "Entry", "EntryState", "Resumable"]

EntryState = Literal["reserved", "armed", "spent", "released"]


@dataclass(frozen=True)
class Claim:
    """A holder's ticket for one entry of one ledger.

    Attributes:
        claim_id: the entry.
        ledger_id: the ledger that it stands in.
        request_id: what the caller named the request; asking again with it gives this claim again.
        price: what the entry costs.
        release_key: names the release that is paid for: same key, same answer.
        fence: grows with every renewal; only the holder of the newest ticket may arm, renew or release.
        lease_expires_at: seconds since the epoch, by the ledger's clock.
    """

    claim_id: str
    ledger_id: str
    request_id: str
    price: Budget
    release_key: str
    fence: int
    lease_expires_at: float


@dataclass(frozen=True)
class Resumable:
    """A paid claim without a stored release, and the noised vector that it paid for.

    Attributes:
        claim: the ticket; it can be committed.
        noised: the vector with this party's noise, encoded by whoever armed the claim. Secret: never shown.
    """

    claim: Claim
    noised: bytes = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """One line of the ledger, for people and for audit; holds nothing secret.

    Attributes:
        claim_id: the entry.
        run_id: the run that made it.
        table: name of the table that was read.
        data_version: the pinned version of that table.
        purpose: why, in the caller's words.
        price: what it costs.
        state: "reserved", "armed", "spent" or "released"; only a released entry is free.
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC; the last change of state or lease.
        release_key: names the release that was paid for.
    """

    claim_id: str
    run_id: str
    table: str
    data_version: str
    purpose: str
    price: Budget
    state: EntryState
    created_at: str
    updated_at: str
    release_key: str


class BudgetLedger(Protocol):
    """One owner's privacy budget.

    Guarantees:
        capacity = spent + reserved + remaining, exactly, whatever processes do at once and whenever one of them dies.
        Every method that changes state returns only after the change is durable.
    """

    @property
    def capacity(self) -> Budget:
        """The whole budget, fixed when the ledger was created."""

    @property
    def ledger_id(self) -> str:
        """A random name, fixed when the ledger was created."""

    def spent(self) -> Budget:
        """Armed and spent entries together."""

    def reserved(self) -> Budget:
        """Entries that are claimed, not armed, and whose lease runs."""

    def remaining(self) -> Budget:
        """What a new claim may take."""

    def entries(self) -> list[Entry]:
        """Every entry, oldest first."""

    def export_rows(self) -> list[dict[str, str]]:
        """Every entry as plain text fields, amounts as exact fractions."""

    def reserve(
        self,
        *,
        request_id: str,
        price: Budget,
        table: str,
        data_version: str,
        release_key: str,
        run_id: str,
        purpose: str,
        lease_seconds: float,
    ) -> Claim:
        """Claim part of the budget for as long as the lease runs; the same request id gives the same claim."""

    def renew(self, claim: Claim) -> Claim:
        """Start a running lease afresh; earlier tickets of the claim are void."""

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend the claim for good and store its noised vector, in one write."""

    def commit(self, claim: Claim, release: bytes | None) -> None:
        """Close an armed claim, and store its release where this party receives one."""

    def release(self, claim: Claim) -> None:
        """Give an unarmed claim back."""

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key, if one is stored."""

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key whose release is not stored: its vector can be sent again, for free."""
