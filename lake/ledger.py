"""An owner's privacy ledger on SQLite: who was granted how much, on which data, for which release."""

from __future__ import annotations

import math
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Self

from dp.accounting.budget import Budget, budget_to_json, fits, same_kind
from dp.accounting.ledger import BudgetLedger, Claim, Entry, Resumable, require_price
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ClaimLost, LeaseExpired, LedgerError
from lake.ledger_rows import (
    INSERT_ENTRY,
    REQUEST_OF,
    Balance,
    read_balance,
    read_budget,
    read_claim,
    read_entries,
    write_budget,
)
from lake.ledger_store import LedgerStore

__all__ = ["Balance", "Ledger"]

_MOST_BLOB_BYTES = 999_000_000  # SQLite's own limit is 1e9 bytes a row


class Ledger(BudgetLedger):
    """A privacy budget in a file.

    Guarantees:
        Every change is one durable transaction (WAL, full sync): what was acknowledged survives kill -9, and processes
        that race never overspend. Armed and spent entries are never refunded; a released entry never comes back,
        whatever the clock does.
    Leaks:
        To whoever reads the file: prices, purposes, stored releases (those of disclosures are exact), and noised
        vectors (of unfinished runs, and of all runs in which this owner was no recipient). The file is made readable by
        its owner alone.
    Cost:
        One disk sync per change.
    """

    def __init__(self, store: LedgerStore, clock: Callable[[], float]) -> None:
        """Use `Ledger.open` or `Ledger.create`."""
        self._store = store
        self._clock = clock
        with store.transaction() as db:
            row = db.execute("SELECT ledger_id, capacity FROM ledger").fetchone()
        self._ledger_id: str = row[0]
        self._capacity = read_budget(row[1])

    @classmethod
    def create(cls, path: str | PathLike[str], *, capacity: Budget, clock: Callable[[], float] = time.time) -> Ledger:
        """Make a new ledger; the steward does this once, jobs open it.

        Args:
            path: a file on a local disk, which must not exist.
            capacity: the whole budget, for ever; its kind is the only kind that the ledger takes.
            clock: seconds since the epoch.

        Raises:
            LedgerError: the path is taken, or lies on a network file system.
        """
        LedgerStore.create(
            Path(path), ledger_id=secrets.token_hex(16), capacity=write_budget(capacity), created_at=clock()
        )
        return cls.open(path, clock=clock)

    @classmethod
    def open(cls, path: str | PathLike[str], *, clock: Callable[[], float] = time.time) -> Ledger:
        """Open an existing ledger; entries that are armed count as spent from here on.

        A job that runs meanwhile can still commit what it armed. A file of an older version is brought to this one
        in place; nothing in it changes, but an older spark-mpc opens it no more.

        Raises:
            LedgerMissing: no such file; a job never makes a budget of its own.
            LedgerError: not a ledger, one of a newer version, or on a network file system.
        """
        ledger = cls(LedgerStore(Path(path)), clock)
        ledger._settle()
        return ledger

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r}, capacity={self.capacity})"

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def capacity(self) -> Budget:
        """The whole budget."""
        return self._capacity

    @property
    def ledger_id(self) -> str:
        """A random name, fixed when the ledger was created."""
        return self._ledger_id

    def balance(self) -> Balance:
        """Capacity, spent, reserved and remaining as of one moment."""
        with self._store.transaction() as db:
            return read_balance(db, self.capacity, self._clock())

    def spent(self) -> Budget:
        """Armed and spent entries together."""
        return self.balance().spent

    def reserved(self) -> Budget:
        """Claimed, not armed, with a running lease."""
        return self.balance().reserved

    def remaining(self) -> Budget:
        """What a new claim may take."""
        return self.balance().remaining

    def entries(self) -> list[Entry]:
        """Every entry, oldest first."""
        with self._store.transaction() as db:
            return read_entries(db)

    def export_rows(self) -> list[dict[str, str]]:
        """Every entry as text fields; the price becomes "kind" and one exact fraction for each of its amounts."""
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
    ) -> Claim:
        """Claim part of the budget until the lease runs out; frees expired leases first.

        A request that was armed meanwhile gives its claim too: it can be committed, not armed again.

        Args:
            request_id: makes the call idempotent: the same id and content give the same claim, debited once.
            price: of the ledger's kind; above zero, or nothing for a disclosure.
            table: name of the table, for the record.
            data_version: its pinned version, for the record.
            release_key: names the release that is paid for.
            run_id: names the run, for the record.
            purpose: in the caller's words, for the record.
            lease_seconds: how long the claim holds unless armed or renewed; above zero.
            disclosure: the name of what is opened exactly; "" for what is noised.

        Raises:
            BudgetExceeded: less is left; nothing was debited.
            ClaimLost: the request was released before; a new attempt needs a new id.
            InvalidArgument: a price of another kind, of nothing without a disclosure or of more than nothing with one,
                a malformed name of a disclosure, an unusable lease, an empty id, or the id of a request with other
                content.
        """
        self._check_price(price, disclosure)
        if not (math.isfinite(lease_seconds) and lease_seconds > 0):
            raise InvalidArgument("lease_seconds", lease_seconds, "give a finite number of seconds above zero")
        if not request_id:
            raise InvalidArgument(
                "request_id", request_id, "give a random name, the same one when a request is repeated"
            )
        request = (run_id, table, data_version, purpose, release_key, write_budget(price), disclosure)
        with self._store.transaction() as db:
            now = self._reclaim(db)
            if db.execute("SELECT 1 FROM entries WHERE request_id = ?", (request_id,)).fetchone():
                return self._repeated(db, request_id, request)
            self._check_affordable(db, price, now)
            db.execute(
                INSERT_ENTRY,
                (secrets.token_hex(16), request_id, *request, lease_seconds, now + lease_seconds, now, now),
            )
            return read_claim(db, self.ledger_id, "request_id", request_id)

    def renew(self, claim: Claim) -> Claim:
        """Start a running lease afresh; earlier tickets of this claim are void.

        Raises:
            LeaseExpired: it ran out already.
            ClaimLost: armed, released, or renewed by another holder.
        """
        with self._changing(claim) as (db, now):
            changed = db.execute(
                "UPDATE entries SET fence = fence + 1, lease_expires_at = ? + lease_seconds, updated_at = ?"
                " WHERE claim_id = ? AND fence = ? AND state = 'reserved' AND lease_expires_at > ?",
                (now, now, claim.claim_id, claim.fence, now),
            )
            self._require(changed, db, claim, now)
            return read_claim(db, self.ledger_id, "claim_id", claim.claim_id)

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend the claim for good and store its noised vector: do this before any byte from which a result follows.

        Raises:
            LeaseExpired: the lease ran out first; nothing was spent.
            ClaimLost: armed or released already, or renewed by another holder.
        """
        self._check_fits(noised)
        with self._changing(claim) as (db, now):
            changed = db.execute(
                "UPDATE entries SET state = 'armed', noised = ?, updated_at = ?"
                " WHERE claim_id = ? AND fence = ? AND state = 'reserved' AND lease_expires_at > ?",
                (noised, now, claim.claim_id, claim.fence, now),
            )
            self._require(changed, db, claim, now)

    def commit(self, claim: Claim, release: bytes | None) -> None:
        """Close an armed claim; a release is stored under its key, and its noised vector is then dropped.

        Committing again changes nothing. The first release under a key stays: asking again gives the same answer.

        Raises:
            ClaimLost: never armed.
        """
        self._check_fits(release or b"")
        with self._changing(claim) as (db, now):
            changed = db.execute(
                "UPDATE entries SET state = 'spent', updated_at = CASE state WHEN 'spent' THEN updated_at ELSE ? END"
                " WHERE claim_id = ? AND fence = ? AND state IN ('armed', 'spent')",
                (now, claim.claim_id, claim.fence),
            )
            self._require(changed, db, claim, now)
            if release is not None:
                key = db.execute("SELECT release_key FROM entries WHERE claim_id = ?", (claim.claim_id,)).fetchone()[0]
                stored = (key, claim.claim_id, release, now)
                db.execute("INSERT INTO releases VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", stored)
                db.execute("UPDATE entries SET noised = NULL WHERE release_key = ?", (key,))

    def release(self, claim: Claim) -> None:
        """Give an unarmed claim back; giving back twice counts once.

        Raises:
            ClaimLost: armed or spent, which is never refunded, or renewed by another holder.
        """
        with self._changing(claim) as (db, now):
            changed = db.execute(
                "UPDATE entries SET state = 'released',"
                " updated_at = CASE state WHEN 'released' THEN updated_at ELSE ? END"
                " WHERE claim_id = ? AND (state = 'released' OR (state = 'reserved' AND fence = ?))",
                (now, claim.claim_id, claim.fence),
            )
            self._require(changed, db, claim, now)

    def stored_release(self, release_key: str) -> bytes | None:
        """The release that was paid for under this key, byte for byte; None if none is stored."""
        with self._store.transaction() as db:
            row = db.execute("SELECT release FROM releases WHERE release_key = ?", (release_key,)).fetchone()
        return None if row is None else bytes(row[0])

    def resumable(self, release_key: str) -> Resumable | None:
        """The newest paid claim under this key and its noised vector; None if there is none, or a release is stored."""
        with self._store.transaction() as db:
            row = db.execute(
                "SELECT claim_id, noised FROM entries WHERE release_key = ? AND noised IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM releases WHERE releases.release_key = entries.release_key)"
                " ORDER BY number DESC LIMIT 1",
                (release_key,),
            ).fetchone()
            return None if row is None else Resumable(read_claim(db, self.ledger_id, "claim_id", row[0]), bytes(row[1]))

    def _settle(self) -> None:
        """After a crash nobody knows whether an armed claim led to a result: it did, for the budget."""
        with self._store.transaction() as db:
            db.execute("UPDATE entries SET state = 'spent', updated_at = ? WHERE state = 'armed'", (self._clock(),))

    @contextmanager
    def _changing(self, claim: Claim) -> Iterator[tuple[sqlite3.Connection, float]]:
        if claim.ledger_id != self.ledger_id:
            raise InvalidArgument("claim", claim.claim_id, f"it belongs to another ledger than {str(self.path)!r}")
        with self._store.transaction() as db:
            yield db, self._clock()

    def _require(self, changed: sqlite3.Cursor, db: sqlite3.Connection, claim: Claim, now: float) -> None:
        """Explain why a conditional update matched no row."""
        if changed.rowcount == 1:
            return
        found = "SELECT state, fence, lease_expires_at FROM entries WHERE claim_id = ?"
        state, fence, lease_expires_at = db.execute(found, (claim.claim_id,)).fetchone() or ("unknown", 0, 0.0)
        name = f"claim {claim.claim_id}"
        if fence > claim.fence:
            raise ClaimLost(self.path, f"{name} was renewed by another holder", "leave it to that holder")
        if state in ("reserved", "released") and lease_expires_at <= now:
            raise LeaseExpired(self.path, f"the lease of {name} has run out", "reserve again under a new request id")
        problem = f"{name} is {state}"
        raise ClaimLost(
            self.path, problem, "armed and spent claims are final; otherwise reserve under a new request id"
        )

    def _reclaim(self, db: sqlite3.Connection) -> float:
        """Give expired leases back, once; returns the time that they were measured at."""
        now = self._clock()
        db.execute(
            "UPDATE entries SET state = 'released', updated_at = ? WHERE state = 'reserved' AND lease_expires_at <= ?",
            (now, now),
        )
        return now

    def _repeated(self, db: sqlite3.Connection, request_id: str, request: tuple[str, ...]) -> Claim:
        """The claim of a request that was made before."""
        found = db.execute(REQUEST_OF, (request_id,)).fetchone()
        if found[:-1] != request:
            raise InvalidArgument(
                "request_id", request_id, "was used for a request with other content: choose a new one"
            )
        if found[-1] == "released":
            raise ClaimLost(self.path, f"request {request_id!r} was released", "reserve under a new request id")
        return read_claim(db, self.ledger_id, "request_id", request_id)

    def _check_fits(self, stored: bytes) -> None:
        if len(stored) > _MOST_BLOB_BYTES:
            problem = f"cannot store {len(stored)} bytes in one entry, only {_MOST_BLOB_BYTES}"
            raise LedgerError(self.path, problem, "ask for fewer cells in one release")

    def _check_price(self, price: Budget, disclosure: str) -> None:
        if not same_kind(price, self.capacity):
            kind = f"{type(self.capacity).__name__} prices only, each of {', '.join(self.capacity.amounts)}"
            raise InvalidArgument("price", price, f"ledger {str(self.path)!r} takes {kind}")
        require_price(price, disclosure)

    def _check_affordable(self, db: sqlite3.Connection, price: Budget, now: float) -> None:
        """Compare the price with what is left; `now` is the time at which expired leases were reclaimed."""
        remaining = read_balance(db, self.capacity, now).remaining
        if not fits(price, remaining):
            raise BudgetExceeded(
                f"asked {price}, remaining {remaining} of {self.capacity} on ledger {str(self.path)!r}:"
                " ask for less, or ask its steward"
            )
