"""An owner's privacy ledger as jobs use it: claims, what they paid for, and what is left."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Self

from sqlalchemy import bindparam, insert

from dp.accounting.budget import Budget, budget_to_json
from dp.accounting.ledger import BudgetLedger, Claim, new_request_id
from dp.errors import InvalidArgument, SparkMpcError
from dp.execution.leases import LEASE_SECONDS
from lake.blocks.rules import Blocks
from lake.blocks.selectors import Selector
from lake.errors import ApprovalNeeded, LedgerError
from lake.ledger.amounts import require_capacity, write_budget
from lake.ledger.approval import lacks_approval, still_needed, wait_for
from lake.ledger.asking import Asking
from lake.ledger.balances import expect_blocks, made_block
from lake.ledger.books import Books
from lake.ledger.claim import OpenClaim, hold
from lake.ledger.passes import run_pass
from lake.ledger.postgres import PostgresStore, is_address
from lake.ledger.rows import ClaimRow, Request, check_request, expect_claims
from lake.ledger.schema import WHOLE, ledger
from lake.ledger.selection import Choice, Named, Wanted
from lake.ledger.settings import read_settings
from lake.ledger.sqlite import SQLiteStore
from lake.ledger.steps import armed_at_once, claimed_at_once, spent_at_once
from lake.ledger.store import Clock, Transaction
from lake.ledger.view import LedgerView

__all__ = ["Ledger"]

_MOST_BLOB_BYTES = 999_000_000  # SQLite's own limit is 1e9 bytes a row

_FOUND = insert(ledger).values({name: bindparam(name) for name in ("only_row", "ledger_id", "capacity", "created_at")})


class Ledger(LedgerView, BudgetLedger):
    """A privacy budget, in a file or on a server.

    Guarantees:
        Every change is one durable transaction: what was acknowledged survives kill -9, and processes that race never
        overspend. Armed and spent claims are never refunded; a released claim never comes back, whatever the clock
        does. Every change is in an audit log, each of whose lines is hashed with all before it.
    Leaks:
        To whoever reads it: prices, purposes, stored releases (those of disclosures are exact), and noised vectors (of
        unfinished runs, and of all runs in which this owner was no recipient). A file is made readable by its owner
        alone.
    Cost:
        One durable transaction per change; in a file, claims of processes that wait for each other share one.
    """

    @classmethod
    def create(cls, where: str | PathLike[str], *, capacity: Budget, clock: Clock | None = None) -> Ledger:
        """Make a new ledger; the steward does this once, jobs open it.

        Args:
            where: a file on a local disk, which must not exist; or "postgresql://user@host/database?ledger=NAME",
                where NAME is a schema that must not exist ("privacy_ledger" unless given).
            capacity: the whole budget, for ever; its kind is the only kind that the ledger takes.
            clock: seconds since the epoch; None for this machine's, on a server for the server's.

        Raises:
            InvalidArgument: a capacity of which an amount is below zero, or delta is not below 1.
            LedgerError: the place is taken, or lies on a network file system, or cannot be written.
        """

        def found(tx: Transaction) -> None:
            text, ledger_id = write_budget(capacity), secrets.token_hex(16)
            tx.write(_FOUND, only_row=1, ledger_id=ledger_id, capacity=text, created_at=tx.now)
            made_block(tx, WHOLE, "", capacity, unlocked=Fraction(1), at=tx.now)
            tx.record("created", ledger=ledger_id, capacity=budget_to_json(capacity))

        require_capacity("capacity", capacity)
        if is_address(where):
            PostgresStore.create(fspath(where), clock, found)
        else:
            SQLiteStore.create(Path(where), clock or time.time, found)
        return cls.open(where, clock=clock)

    @classmethod
    def open(cls, where: str | PathLike[str], *, clock: Clock | None = None) -> Ledger:
        """Open an existing ledger; claims that are armed count as spent from here on.

        A job that runs meanwhile can still commit what it armed. A file of an older version is brought to this one
        in place; no amount in it changes, but an older spark-mpc opens it no more. On a server its owner does that.

        Raises:
            LedgerMissing: there is none; a job never makes a budget of its own.
            LedgerError: not a ledger, one of another version, out of reach, or on a network file system.
        """
        if is_address(where):
            opened = cls(PostgresStore(fspath(where), clock))
        else:
            opened = cls(SQLiteStore(Path(where), clock or time.time))
        with opened.books() as books:
            books.settle()
        return opened

    def close(self) -> None:
        """Close the file or the connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self.name!r}, capacity={self.capacity})"

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
        """Claim part of the budget, now or not at all, until the lease runs out.

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
            blocks: each of them gives the price; none for the whole.
            layout: the fingerprint of the rule that cut the rows; "" without blocks.

        Raises:
            BudgetExceeded: less is left; nothing was debited.
            ClaimLost: the request was released before; a new attempt needs a new id.
            InvalidArgument: a price of another kind, of nothing without a disclosure or of more than nothing with one,
                a malformed name of a disclosure, an unusable lease, an empty id, the id of a request with other
                content, or blocks that the ledger's layout does not make.
        """
        request = Request(
            request_id=request_id,
            lease_seconds=lease_seconds,
            table=table,
            data_version=data_version,
            release_key=release_key,
            run_id=run_id,
            purpose=purpose,
            disclosure=disclosure,
        )
        return self.ask(request, Named(blocks or (WHOLE,), price, layout)).ticket(self.ledger_id)

    def claim(
        self,
        blocks: Blocks | None = None,
        selector: Selector | None = None,
        *,
        demand: Budget | Mapping[str, Budget],
        min_blocks: int | None = None,
        max_blocks: int | None = None,
        timeout_seconds: float = 0.0,
        weight: int = 1,
        owner: str = "",
        purpose: str = "",
        request_id: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> AbstractContextManager[OpenClaim]:
        """Hold budget on some blocks while a job works; what it did not use is given back.

        Args:
            blocks: the rule that cuts the table, `table.blocks`; None for the whole.
            selector: which of its blocks, such as `lake.TIME >= "2026-03-01"`; None for all that there are.
            demand: of each block; or of each its own, by name.
            min_blocks: take fewer blocks than all, but no fewer than these; None: all of them or nothing.
            max_blocks: take no more than these, the latest; None: any number.
            timeout_seconds: how long it may wait for others; 0: now or not at all.
            weight: what it is worth beside others, a whole number of at least 1; a scheduler may look at it.
            owner: who asks, for the record.
            purpose: for the record.
            request_id: makes it idempotent; None for a new one.
            lease_seconds: how long it holds once this process is gone.

        Raises:
            BudgetExceeded: it cannot be granted, or was not in time; nothing is held.
            ClaimLost: the request was made before, and has ended.
            InvalidArgument: a parameter that cannot be used.
        """
        wanted = Wanted(blocks, Selector() if selector is None else selector, demand, min_blocks, max_blocks)
        request = Request(
            request_id=new_request_id() if request_id is None else request_id,
            lease_seconds=lease_seconds,
            timeout_seconds=timeout_seconds,
            owner=owner,
            weight=weight,
            table=wanted.table,
            data_version=wanted.text,
            purpose=purpose,
        )
        return hold(self, request, wanted)

    def ask(self, request: Request, choice: Choice) -> ClaimRow:
        """Make a claim, or find the one that this request made; it may wait if the request says so.

        Args:
            request: all but the blocks and their amounts.
            choice: these.

        Raises:
            BudgetExceeded: less is left, and it may not wait or never will be granted.
            ClaimLost: the request ended before.
            InvalidArgument: as `reserve` does.
        """
        check_request(request)
        asking = Asking(self.name, self.ledger_id, self.capacity, request, choice)
        outcome = claimed_at_once(self._store, asking.post, request, choice) or self._store.together(asking)
        if isinstance(outcome, SparkMpcError):
            raise outcome
        return outcome

    def poll(self, number: int) -> ClaimRow:
        """Say that the holder of a waiting claim is still there, and let the scheduler look; the claim as it stands."""
        with self.books() as books:
            row = books.numbered(number)
            if row.state == "waiting":
                books.still_waiting(row)
                run_pass(books, read_settings(books.tx))
            return books.numbered(number)

    def renew(self, claim: Claim) -> Claim:
        """Start a running lease afresh; earlier tickets of this claim are void.

        Raises:
            LeaseExpired: it ran out already.
            ClaimLost: armed, released, or renewed by another holder.
        """
        with self._changing(claim) as books:
            return books.renew(books.held(claim, "reserved")).ticket(self.ledger_id)

    def await_approval(self, claim: Claim, check: Callable[[], None] | None = None) -> None:
        """Wait until the steward has agreed to a claim, if that is needed; do this before a row is read.

        The ledger's settings say how long. It is logged once, with the command that approves.

        Args:
            claim: reserved; keep its lease meanwhile, newer tickets are fine.
            check: called between two looks; what it raises ends the wait. None: nothing else ends it.

        Raises:
            ApprovalNeeded: nobody agreed in time; nothing was spent. Once it is approved, the same query goes through.
            ClaimLost: it was given back, or its lease ran out.
        """
        self._check_owned(claim)
        wait_for(
            lambda: self._lacks_approval(int(claim.claim_id)),
            self.settings().approval_seconds,
            check or (lambda: None),
        )

    def arm(self, claim: Claim, noised: bytes) -> None:
        """Spend the claim for good and store its noised vector: do this before any byte from which a result follows.

        Raises:
            LeaseExpired: the lease ran out first; nothing was spent.
            ClaimLost: armed or released already, or renewed by another holder.
            ApprovalNeeded: the steward has not approved it, and has to (see `await_approval`); nothing was spent.
        """
        self._check_fits(noised)
        self._check_owned(claim)
        if armed_at_once(self._store, claim, noised):
            return
        with self._changing(claim) as books:
            row = books.held(claim, "reserved")
            missing = lacks_approval(books, read_settings(books.tx), row)
            if missing is not None:
                raise missing
            books.arm(row, noised)

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        """Close an armed claim; a release is stored under its key, and its noised vector is then dropped.

        Committing again changes nothing. The first release under a key stays: asking again gives the same answer.

        Args:
            claim: armed, or spent meanwhile.
            release: what this party received; None if it receives nothing.
            plan: public: what was asked, as canonical JSON; "" if nothing else follows from the release.

        Raises:
            ClaimLost: never armed.
        """
        self._check_fits(release or b"")
        self._check_owned(claim)
        if spent_at_once(self._store, claim, release, plan):
            return
        with self._changing(claim) as books:
            row = books.held(claim, "armed", "spent")
            if release is not None and not row.request.release_key:
                raise InvalidArgument(
                    "release", f"of claim {row.number}", "it names no release: reserve with a release_key"
                )
            spent = books.spend(row) if row.state == "armed" else row
            if release is not None:
                books.store(spent, release, plan)

    def release(self, claim: Claim) -> None:
        """Give an unarmed claim back; giving back twice counts once.

        Raises:
            ClaimLost: armed or spent, which is never refunded, or renewed by another holder.
        """
        with self._changing(claim) as books:
            row = books.held(claim, "waiting", "reserved", "released", "failed")
            if row.state in ("waiting", "reserved"):
                books.release(row)

    @contextmanager
    def _changing(self, claim: Claim) -> Iterator[Books]:
        self._check_owned(claim)
        with self._store.transaction() as tx:
            expect_claims(tx, number=int(claim.claim_id) if claim.claim_id.isdecimal() else None)
            expect_blocks(tx, [WHOLE])  # most claims are on it
            books = Books(tx, self.name)
            yield books
            books.accounts.save()

    def _lacks_approval(self, number: int) -> ApprovalNeeded | None:
        with self.books() as books:
            return still_needed(books, read_settings(books.tx), number)

    def _check_owned(self, claim: Claim) -> None:
        if claim.ledger_id != self.ledger_id:
            raise InvalidArgument("claim", claim.claim_id, f"it belongs to another ledger than {self.name!r}")

    def _check_fits(self, stored: bytes) -> None:
        if len(stored) > _MOST_BLOB_BYTES:
            problem = f"cannot store {len(stored)} bytes in one claim, only {_MOST_BLOB_BYTES}"
            raise LedgerError(self.name, problem, "ask for fewer cells in one release")
