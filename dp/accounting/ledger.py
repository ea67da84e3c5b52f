"""What a mechanism needs of a privacy ledger: an interface, and the values that cross it.

The life of an entry, each arrow one durable and atomic write:

    reserve -> reserved -- arm --> armed -- commit --> spent
                  |
                  +-- release, or an expired lease --> released

Armed and spent entries are never refunded. What is opened without noise stands in the ledger too, under the name of a
disclosure: its price is nothing, because no amount of budget would be enough. Implementations live in `lake`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dp.accounting.budget import Budget
from dp.errors import InvalidArgument

__all__ = [
    "BudgetLedger",
    "Claim",
    "Entry",
    "EntryState",
    "Resumable",
    "StoredAnswer",
    "disclosure_name",
    "new_request_id",
    "require_price",
]

EntryState = Literal["waiting", "reserved", "armed", "spent", "released", "failed"]

_DISCLOSURE_NAME = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Claim:
    """A holder's ticket for one entry of one ledger.

    Attributes:
        claim_id: the entry.
        ledger_id: the ledger that it stands in.
        request_id: what the caller named the request; asking again with it gives this claim again.
        price: what the entry costs; nothing for a disclosure.
        release_key: names the release that is paid for: same key, same answer.
        fence: grows with every renewal; only the holder of the newest ticket may arm, renew or release.
        lease_expires_at: seconds since the epoch, by the ledger's clock.
        lease_seconds: how long it holds once it was renewed.
    """

    claim_id: str
    ledger_id: str
    request_id: str
    price: Budget
    release_key: str
    fence: int
    lease_expires_at: float
    lease_seconds: float


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
class StoredAnswer:
    """A stored release by its public side: what else follows from it can be told without opening it.

    Attributes:
        number: which of this ledger's stored releases it is, counted from 1; it never changes.
        release_key: names the release; `stored_release` gives it.
        plan: its plan's public fields as canonical JSON, character for character as `commit` got them.
    """

    number: int
    release_key: str
    plan: str


@dataclass(frozen=True)
class Entry:
    """One line of the ledger, for people and for audit; holds nothing secret.

    Attributes:
        claim_id: the entry.
        run_id: the run that made it.
        table: name of the table that was read.
        data_version: the pinned version of that table.
        purpose: why, in the caller's words.
        price: what it costs; nothing for a disclosure.
        state: "waiting" (nothing held yet), "reserved", "armed", "spent", "released" or "failed" (never granted).
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC; the last change of state or lease.
        release_key: names the release that was paid for.
        disclosure: "" for what is noised; else the name of the disclosure, which is opened exactly.
        blocks: of which it is paid; each gives the price.
        owner: who asked, where somebody said.
        waits_until: ISO 8601, UTC; when it gives up waiting. "" where it waits for nothing.
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
    disclosure: str
    blocks: tuple[str, ...] = ()
    owner: str = ""
    waits_until: str = ""


def new_request_id() -> str:
    """A name that no other request has: milliseconds since the epoch in 12 hexadecimal digits, then 128 random bits.

    Names of about the same time are neighbours in the index of a ledger, which need not be written all over the place
    then; as with UUIDs of version 7 (RFC 9562).
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(16).hex()}"


def disclosure_name(value: object, parameter: str) -> str:
    """`value` if it can be a disclosure's name: small letters, digits, `-` and `_`, 1 to 64 of them.

    Raises:
        InvalidArgument: otherwise.
    """
    if not isinstance(value, str) or not _DISCLOSURE_NAME.fullmatch(value):
        raise InvalidArgument(parameter, value, 'a disclosure\'s name looks like "exposure-2026": a-z, 0-9, - and _')
    return value


def require_price(price: Budget, disclosure: str) -> None:
    """Nothing is the price of a disclosure, and of a disclosure alone.

    Args:
        price: what is offered.
        disclosure: as in `Entry`.

    Raises:
        InvalidArgument: nothing for what is noised, a price for what is opened exactly, an amount below zero (of what
            remains of a Renyi budget), or a malformed name.
    """
    amounts = price.amounts.values()
    if any(amount.numerator < 0 for amount in amounts):
        raise InvalidArgument("price", str(price), "no amount of a price is below zero: ask for some of what remains")
    costs = any(amounts)
    if disclosure == "":
        if not costs:
            remedy = "a claim costs more than nothing, unless it names a disclosure, which is opened exactly"
            raise InvalidArgument("price", str(price), remedy)
        return
    name = disclosure_name(disclosure, "disclosure")
    if costs:
        remedy = f"no price pays for disclosure {name!r}, which is opened exactly: give summed((), ledger.capacity)"
        raise InvalidArgument("price", str(price), remedy)


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

    def remaining(self, blocks: tuple[str, ...] = ()) -> Budget:
        """What a new claim may take of the whole; or of each of some private blocks."""

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
        disclosure: str = "",
        blocks: tuple[str, ...] = (),
        layout: str = "",
    ) -> Claim:
        """Claim part of the budget for as long as the lease runs; the same request id gives the same claim.

        The price is claimed of each of the private blocks that are named, of all or of none; where none is named, of
        the whole. `layout` is the fingerprint of the rule that cut the rows: a ledger whose blocks of these names are
        cut by another rule refuses. A price of nothing is accepted exactly when a disclosure is named, and a
        disclosure's price must be nothing.
        """

    def renew(self, claim: Claim) -> Claim:
        """Start a running lease afresh; earlier tickets of the claim are void."""

    def await_approval(self, claim: Claim, check: Callable[[], None] | None = None) -> None:
        """Wait until the owner has agreed to a reserved claim, where the owner wants to be asked; then it can be armed.

        Called before a row is read. `check` is called again and again meanwhile; what it raises ends the wait.
        """

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend the claim for good and store its noised vector, in one write."""

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        """Close an armed claim, and store its release where this party receives one.

        Args:
            claim: armed, or marked as spent meanwhile.
            release: what later questions are answered from; the first one under a release key stays.
            plan: the plan's public fields as canonical JSON, stored with the release; "" if nothing follows from it.
        """

    def release(self, claim: Claim) -> None:
        """Give an unarmed claim back."""

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key, if one is stored."""

    def stored_releases(self, table: str, data_version: str) -> list[StoredAnswer]:
        """The stored releases with a plan, oldest first, whose claims name this table and version; reads no release."""

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key whose release is not stored: its vector can be sent again, for free."""
