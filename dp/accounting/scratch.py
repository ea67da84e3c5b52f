"""A privacy ledger in memory, for dry runs: it keeps the books of a ledger, protects nobody and forgets everything."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction

from dp.accounting.budget import Budget, budget_to_json, fits, left_after, same_kind, summed
from dp.accounting.ledger import BudgetLedger, Claim, Entry, EntryState, Resumable, StoredAnswer, require_price
from dp.errors import BudgetExceeded, InvalidArgument

__all__ = ["ScratchLedger"]

_PLENTY = Fraction(10**9)
_GREATEST_DELTA = Fraction(999_999, 10**6)


@dataclass
class _Line:
    """One entry, and what it stands for."""

    claim: Claim
    entry: Entry
    noised: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Stored:
    """A release, its plan's public fields, and whose rows it is about."""

    release: bytes = field(repr=False)
    plan: str
    table: str
    data_version: str


class ScratchLedger(BudgetLedger):
    """A ledger that lives as long as this object does; for rows that nobody has to protect.

    Guarantees:
        None that protect anybody: nothing is durable, leases never run out, and it is for one thread. Its sums are
        those of a ledger: capacity = spent + reserved + remaining.
    """

    def __init__(self, capacity: Budget) -> None:
        """Start with nothing spent.

        Args:
            capacity: the whole budget; prices are of its kind.
        """
        self._capacity = capacity
        self._ledger_id = f"scratch-{secrets.token_hex(8)}"
        self._lines: dict[str, _Line] = {}
        self._releases: dict[str, _Stored] = {}

    @classmethod
    def plenty(cls, like: Budget) -> ScratchLedger:
        """A ledger of the same kind of budget as another that no dry run exhausts."""
        return cls(like.of_amounts({name: _GREATEST_DELTA if name == "delta" else _PLENTY for name in like.amounts}))

    @property
    def capacity(self) -> Budget:
        """The whole budget."""
        return self._capacity

    @property
    def ledger_id(self) -> str:
        """A random name."""
        return self._ledger_id

    def spent(self) -> Budget:
        """Armed and spent entries together."""
        return self._sum("armed", "spent")

    def reserved(self) -> Budget:
        """Claimed, not armed."""
        return self._sum("reserved")

    def remaining(self, blocks: tuple[str, ...] = ()) -> Budget:
        """What a new claim may take."""
        return left_after(self._capacity, self._sum("armed", "spent", "reserved"))

    def entries(self) -> list[Entry]:
        """Every entry, oldest first."""
        return [line.entry for line in self._lines.values()]

    def export_rows(self) -> list[dict[str, str]]:
        """Every entry as text fields; the price becomes "kind" and its amounts."""
        rows = []
        for entry in self.entries():
            fields = {name: str(value) for name, value in vars(entry).items() if name != "price"}
            rows.append({"ledger_id": self.ledger_id, **fields, **budget_to_json(entry.price)})
        return rows

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
        """Claim part of the budget; the same request id gives the same claim.

        It has no blocks: whichever are named, the whole pays, which is never less.

        Raises:
            BudgetExceeded: less is left.
            InvalidArgument: a price of another kind, of nothing without a disclosure, or of more than nothing with one.
        """
        if request_id in self._lines:
            return self._lines[request_id].claim
        if not same_kind(price, self._capacity):
            kind = f"{type(self._capacity).__name__} prices only, each of {', '.join(self._capacity.amounts)}"
            remedy = f"this ledger takes {kind}"
            raise InvalidArgument("price", str(price), remedy)
        require_price(price, disclosure)
        remaining = self.remaining()
        if not fits(price, remaining):
            raise BudgetExceeded(f"asked {price}, remaining {remaining} of {self._capacity} on a scratch ledger")
        claim_id, now = secrets.token_hex(16), _now()
        claim = Claim(claim_id, self.ledger_id, request_id, price, release_key, 0, math.inf, math.inf)
        of_run = {"run_id": run_id, "table": table, "data_version": data_version, "purpose": purpose}
        entry = Entry(
            claim_id=claim_id,
            **of_run,
            price=price,
            state="reserved",
            created_at=now,
            updated_at=now,
            release_key=release_key,
            disclosure=disclosure,
            blocks=blocks,
        )
        self._lines[request_id] = _Line(claim, entry)
        return claim

    def renew(self, claim: Claim) -> Claim:
        """The same ticket: leases never run out here."""
        self._line(claim, "reserved")
        return claim

    def await_approval(self, claim: Claim, check: Callable[[], None] | None = None) -> None:
        """Nobody has to agree: no policy stands here."""
        self._line(claim, "reserved")

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend the claim for good."""
        line = self._line(claim, "reserved")
        _become(line, "armed")
        line.noised = noised

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        """Close an armed claim; the first release under a key stays."""
        line = self._line(claim, "armed", "spent")
        _become(line, "spent")
        if release is not None:
            stored = _Stored(release, plan, line.entry.table, line.entry.data_version)
            self._releases.setdefault(claim.release_key, stored)

    def release(self, claim: Claim) -> None:
        """Give an unarmed claim back."""
        _become(self._line(claim, "reserved", "released"), "released")

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key."""
        stored = self._releases.get(release_key)
        return None if stored is None else stored.release

    def stored_releases(self, table: str, data_version: str) -> list[StoredAnswer]:
        """The stored releases with a plan of this table and version, oldest first."""
        return [
            StoredAnswer(number, key, stored.plan)
            for number, (key, stored) in enumerate(self._releases.items(), 1)
            if stored.plan and (stored.table, stored.data_version) == (table, data_version)
        ]

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key whose release is not stored."""
        if release_key in self._releases:
            return None
        found = [line for line in self._lines.values() if line.claim.release_key == release_key and line.noised]
        return Resumable(found[-1].claim, found[-1].noised or b"") if found else None

    def _sum(self, *states: EntryState) -> Budget:
        return summed(((entry.price, 1) for entry in self.entries() if entry.state in states), self._capacity)

    def _line(self, claim: Claim, *states: EntryState) -> _Line:
        line = self._lines.get(claim.request_id)
        if line is None or line.claim.claim_id != claim.claim_id:
            raise InvalidArgument("claim", claim.claim_id, "it belongs to another ledger")
        if line.entry.state not in states:
            raise InvalidArgument("claim", claim.claim_id, f"it is {line.entry.state}: reserve again")
        return line


def _become(line: _Line, state: EntryState) -> None:
    line.entry = replace(line.entry, state=state, updated_at=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
