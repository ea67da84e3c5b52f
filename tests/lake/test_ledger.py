"""The ledger's rules in one process: exact amounts, leases, fences, idempotency, and what it refuses to open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.accounting.ledger import BudgetLedger, Claim
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ClaimLost, LeaseExpired, LedgerError, LedgerMissing
from lake.ledger import Ledger, sqlite
from lake.ledger import ledger as ledger_module

SECRET = b"noised-vector-\x00\xff-that-nobody-may-see"


class Clock:
    """A clock that a test moves by hand, in both directions."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger.create(path, capacity=PureDP("1"), clock=clock) as made:
        yield made


def reserve(
    ledger: BudgetLedger,
    request_id: str,
    price: Budget | str = "0.1",
    *,
    key: str = "key",
    lease_seconds: float = 60,
    disclosure: str = "",
) -> Claim:
    return ledger.reserve(
        request_id=request_id,
        price=PureDP(price) if isinstance(price, str) else price,
        table="visits",
        data_version="t@3",
        release_key=key,
        run_id="run",
        purpose="a test",
        lease_seconds=lease_seconds,
        disclosure=disclosure,
    )


def store(ledger: Ledger) -> sqlite.SQLiteStore:
    assert isinstance(ledger._store, sqlite.SQLiteStore)
    return ledger._store


def connection(ledger: Ledger) -> sqlite3.Connection:
    return store(ledger)._connection


def state(ledger: Ledger, claim: Claim) -> str:
    return next(entry.state for entry in ledger.entries() if entry.claim_id == claim.claim_id)


# --- amounts


@pytest.mark.parametrize("prices", [["0.1", "0.9"], ["0.1"] * 10, ["1/3"] * 3, ["1"]])
def test_exact_amounts_exhaust_the_budget(ledger: Ledger, prices: list[str]) -> None:
    for number, price in enumerate(prices):
        ledger.arm(reserve(ledger, f"r{number}", price), b"")
    assert ledger.remaining() == PureDP(0)
    assert ledger.spent() == ledger.capacity
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "one more", "1/1000000000000")


def test_a_refusal_names_asked_remaining_and_ledger_and_changes_nothing(ledger: Ledger) -> None:
    reserve(ledger, "first", "0.6")
    before = (ledger.balance(), ledger.entries())
    with pytest.raises(BudgetExceeded, match=r"asked epsilon=0\.5, remaining epsilon=0\.4") as caught:
        reserve(ledger, "second", "0.5")
    assert ledger.name in str(caught.value)
    assert (ledger.balance(), ledger.entries()) == before


def test_every_amount_of_a_price_must_fit(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "l", capacity=ApproxDP("1", "1e-6")) as ledger:
        reserve(ledger, "r0", ApproxDP("0.1", "9e-7"))
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "r1", ApproxDP("0.1", "2e-7"))
        with pytest.raises(BudgetExceeded):
            reserve(ledger, "r2", ApproxDP("0.95", "1e-8"))
        reserve(ledger, "r3", ApproxDP("0.9", "1e-7"))
        assert ledger.remaining() == ApproxDP(0, 0)


@pytest.mark.parametrize("price", [ZCDP("0.1"), ApproxDP("0.1", "1e-9"), PureDP(0)])
def test_a_price_of_another_kind_or_of_nothing_is_refused(ledger: Ledger, price: Budget) -> None:
    with pytest.raises(InvalidArgument, match="price"):
        reserve(ledger, "r", price)
    assert ledger.entries() == []


@pytest.mark.parametrize("lease_seconds", [0, -1, float("nan"), float("inf")])
def test_an_unusable_lease_is_refused(ledger: Ledger, lease_seconds: float) -> None:
    with pytest.raises(InvalidArgument, match="lease_seconds"):
        reserve(ledger, "r", lease_seconds=lease_seconds)


# --- the life of an entry


def test_reserved_armed_spent(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "0.25")
    assert (ledger.reserved(), ledger.spent()) == (PureDP("0.25"), PureDP(0))
    ledger.arm(claim, SECRET)
    assert (ledger.reserved(), ledger.spent()) == (PureDP(0), PureDP("0.25"))
    assert state(ledger, claim) == "armed"
    ledger.commit(claim, b"release")
    assert state(ledger, claim) == "spent"
    assert ledger.stored_release("key") == b"release"
    assert ledger.remaining() == PureDP("0.75")


def test_a_released_reservation_is_free_and_stays_released(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "1")
    ledger.release(claim)
    ledger.release(claim)
    assert ledger.remaining() == PureDP(1)
    for step in (lambda: ledger.arm(claim, b""), lambda: ledger.renew(claim), lambda: ledger.commit(claim, b"")):
        with pytest.raises(ClaimLost):
            step()
    with pytest.raises(ClaimLost, match="new request id"):
        reserve(ledger, "r", "1")


def test_armed_is_never_refunded(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r", "1")
    ledger.arm(claim, b"")
    clock.now += 1e9
    for _ in range(2):
        with pytest.raises(ClaimLost, match="armed"):
            ledger.release(claim)
    with pytest.raises(ClaimLost, match="armed"):
        ledger.arm(claim, b"other")
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "s", "0.1")
    ledger.commit(claim, None)
    with pytest.raises(ClaimLost, match="spent"):
        ledger.release(claim)
    assert ledger.remaining() == PureDP(0)


def test_an_unarmed_claim_cannot_be_committed(ledger: Ledger) -> None:
    claim = reserve(ledger, "r")
    with pytest.raises(ClaimLost):
        ledger.commit(claim, b"free lunch")
    assert ledger.stored_release("key") is None


def test_claims_of_nobody_and_of_other_ledgers_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    claim = reserve(ledger, "r")
    with pytest.raises(ClaimLost, match="unknown"):
        ledger.arm(replace(claim, claim_id="made up"), b"")
    with (
        Ledger.create(tmp_path / "other", capacity=PureDP(1)) as other,
        pytest.raises(InvalidArgument, match="another"),
    ):
        other.arm(claim, b"")


# --- idempotency


def test_the_same_request_is_debited_once(ledger: Ledger) -> None:
    first = reserve(ledger, "r", "0.6")
    assert reserve(ledger, "r", "0.6") == first
    assert ledger.reserved() == PureDP("0.6")
    ledger.arm(first, b"")
    assert reserve(ledger, "r", "0.6") == first
    assert ledger.spent() == PureDP("0.6")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "r", "0.5")
    with pytest.raises(InvalidArgument, match="other content"):
        reserve(ledger, "r", "0.6", key="another release")


def test_committing_again_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET)
    ledger.commit(claim, b"release")
    before = (ledger.balance(), ledger.entries())
    clock.now += 5
    ledger.commit(claim, b"release")
    ledger.commit(claim, b"a second answer")
    ledger.commit(claim, None)
    assert (ledger.balance(), ledger.entries()) == before
    assert ledger.stored_release("key") == b"release"


# --- leases


def test_an_expired_lease_can_neither_be_armed_nor_refunded_twice(ledger: Ledger, clock: Clock) -> None:
    late = reserve(ledger, "late", "0.6")
    clock.now += 60
    with pytest.raises(LeaseExpired, match="new request id"):
        ledger.arm(late, b"")
    with pytest.raises(LeaseExpired):
        ledger.renew(late)
    assert ledger.remaining() == PureDP(1)
    other = reserve(ledger, "other", "0.6")  # takes what the expired lease gave back
    with pytest.raises(LeaseExpired):
        ledger.arm(late, b"")
    ledger.release(late)
    assert (ledger.reserved(), ledger.remaining()) == (PureDP("0.6"), PureDP("0.4"))
    ledger.arm(other, b"")
    assert ledger.spent() == PureDP("0.6")


def test_a_clock_set_back_gives_nothing_back(ledger: Ledger, clock: Clock) -> None:
    expired = reserve(ledger, "expired", "0.6")
    clock.now += 100
    winner = reserve(ledger, "winner", "0.6")
    clock.now -= 100  # the first lease would run again, but it was given back
    with pytest.raises(ClaimLost):
        ledger.arm(expired, b"")
    ledger.release(expired)
    assert ledger.remaining() == PureDP("0.4")
    ledger.arm(winner, b"")
    clock.now = 0.0
    assert (ledger.spent(), ledger.remaining()) == (PureDP("0.6"), PureDP("0.4"))
    with pytest.raises(BudgetExceeded):
        reserve(ledger, "too much", "0.5")


def test_renewal_extends_the_lease_and_voids_older_tickets(ledger: Ledger, clock: Clock) -> None:
    old = reserve(ledger, "r")
    clock.now += 50
    new = ledger.renew(old)
    assert new.lease_expires_at == clock.now + 60
    clock.now += 50
    for step in (lambda: ledger.arm(old, b""), lambda: ledger.renew(old), lambda: ledger.release(old)):
        with pytest.raises(ClaimLost, match="another holder"):
            step()
    ledger.arm(new, b"")
    with pytest.raises(ClaimLost, match="another holder"):
        ledger.commit(old, b"")


# --- resuming


def test_a_paid_vector_can_be_sent_again_until_its_release_is_stored(ledger: Ledger) -> None:
    assert ledger.resumable("key") is None
    claim = reserve(ledger, "r")
    assert ledger.resumable("key") is None
    ledger.arm(claim, SECRET)
    resumed = ledger.resumable("key")
    assert resumed is not None
    assert (resumed.claim, resumed.noised) == (claim, SECRET)
    assert ledger.resumable("another version of the data") is None
    ledger.commit(claim, None)  # this party receives no result
    assert ledger.resumable("key") == resumed
    ledger.commit(resumed.claim, b"release")
    assert ledger.resumable("key") is None
    assert ledger.stored_release("key") == b"release"


def test_the_newest_vector_is_resumed_and_the_first_release_stays(ledger: Ledger) -> None:
    claims = [reserve(ledger, f"r{number}") for number in range(2)]
    for number, claim in enumerate(claims):
        ledger.arm(claim, b"%d" % number)
    resumed = ledger.resumable("key")
    assert resumed is not None
    assert resumed.noised == b"1"
    ledger.commit(claims[0], b"first")
    ledger.commit(claims[1], b"second")
    assert ledger.stored_release("key") == b"first"
    assert ledger.spent() == PureDP("0.2")


def test_the_vector_is_gone_from_the_file_once_its_release_is_stored(ledger: Ledger, path: Path) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET * 1000)
    ledger.commit(claim, b"release")
    ledger.close()  # the log is folded into the file and removed
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger"]
    assert SECRET not in path.read_bytes()


# --- restarts


def test_on_restart_armed_becomes_spent_and_a_running_job_still_commits(
    ledger: Ledger, path: Path, clock: Clock
) -> None:
    armed, waiting = reserve(ledger, "armed", "0.5"), reserve(ledger, "waiting", "0.1")
    ledger.arm(armed, SECRET)
    with Ledger.open(path, clock=clock) as again:
        assert (state(again, armed), state(again, waiting)) == ("spent", "reserved")
        with pytest.raises(ClaimLost):
            again.release(armed)
    ledger.commit(armed, b"release")
    assert ledger.stored_release("key") == b"release"
    assert ledger.balance().spent == PureDP("0.5")


def test_everything_survives_reopening(ledger: Ledger, path: Path, clock: Clock) -> None:
    claim = reserve(ledger, "r", "1/7")
    ledger.arm(claim, SECRET)
    ledger.commit(claim, b"release")
    before = (ledger.balance(), ledger.entries(), ledger.ledger_id)
    ledger.close()
    with Ledger.open(path, clock=clock) as again:
        assert (again.balance(), again.entries(), again.ledger_id) == before
        assert again.stored_release("key") == b"release"
        assert reserve(again, "r", "1/7") == claim


# --- the file


def test_only_the_owner_may_read_the_files(ledger: Ledger, path: Path) -> None:
    reserve(ledger, "r")
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["ledger", "ledger-shm", "ledger-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_durability_settings(ledger: Ledger) -> None:
    db = connection(ledger)
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2
    tables = {row[1]: row[5] for row in db.execute("PRAGMA table_list") if not row[1].startswith("sqlite_")}
    assert {name for name, strict in tables.items() if not strict} == {"alembic_version"}


def test_creating_refuses_what_exists(ledger: Ledger, path: Path) -> None:
    with pytest.raises(LedgerError, match="exists already"):
        Ledger.create(path, capacity=PureDP(100))
    assert ledger.capacity == PureDP(1)
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger", "ledger-shm", "ledger-wal"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a directory in which even root cannot write")
def test_a_place_where_nothing_can_be_written_is_an_error() -> None:
    with pytest.raises(LedgerError, match=r"cannot be created \(.*choose a writable local disk"):
        Ledger.create("/proc/ledger", capacity=PureDP(1))


def test_creating_refuses_a_place_without_a_directory_and_leftovers(path: Path) -> None:
    with pytest.raises(LedgerError, match="directory"):
        Ledger.create(path / "below", capacity=PureDP(1))
    path.with_name("ledger-wal").touch()
    with pytest.raises(LedgerError, match="earlier ledger"):
        Ledger.create(path, capacity=PureDP(1))


def test_a_missing_ledger_is_an_error_and_never_a_new_budget(path: Path) -> None:
    with pytest.raises(LedgerMissing, match="steward"):
        Ledger.open(path)
    assert not path.exists()


def test_a_deleted_ledger_is_an_error_even_while_open(ledger: Ledger, path: Path) -> None:
    claim = reserve(ledger, "r")
    path.unlink()
    for step in (lambda: reserve(ledger, "s"), lambda: ledger.arm(claim, b""), ledger.remaining):
        with pytest.raises(LedgerMissing):
            step()
    assert not path.exists()


def test_a_replaced_ledger_is_an_error_while_open(ledger: Ledger, path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)
    with pytest.raises(LedgerError, match="replaced"):
        reserve(ledger, "s")


def test_other_files_are_not_ledgers(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"not a database, and long enough to have a header of its own" * 100)
    empty = tmp_path / "empty"
    empty.touch()
    other = tmp_path / "other"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE ledger (capacity TEXT)")
    for file in (text, empty, other):
        before = file.read_bytes()
        with pytest.raises(LedgerError, match="not a ledger"):
            Ledger.open(file)
        assert file.read_bytes() == before
    with pytest.raises(LedgerMissing):
        Ledger.open(tmp_path)


def test_another_schema_version_is_named(ledger: Ledger, path: Path) -> None:
    ledger.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match="schema version 7, this library reads 1 to 3"):
        Ledger.open(path)


def test_a_forked_child_must_open_its_own(ledger: Ledger) -> None:
    store(ledger)._process = os.getppid()  # what a child sees: a handle that another process made
    with pytest.raises(LedgerError, match="open the ledger in the child"):
        ledger.remaining()


def test_threads_may_share_a_handle(path: Path) -> None:
    with Ledger.create(path, capacity=PureDP(20)) as ledger, ThreadPoolExecutor(8) as pool:

        def attempt(number: int) -> str:
            try:
                ledger.arm(reserve(ledger, f"r{number}", "1"), b"")
            except BudgetExceeded:
                return "refused"
            return "spent"

        assert Counter(pool.map(attempt, range(32))) == {"spent": 20, "refused": 12}
        assert ledger.spent() == PureDP(20)


def test_a_ledger_that_stays_locked_is_an_error(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    with Ledger.open(path) as impatient, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked by another process"):
            reserve(impatient, "r")
        other.execute("ROLLBACK")
        assert reserve(impatient, "r").price == PureDP("0.1")


def test_a_full_disk_spends_nothing(ledger: Ledger) -> None:
    claim = reserve(ledger, "r")
    before = (ledger.balance(), ledger.entries())
    db = connection(ledger)
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(LedgerError, match=r"full.*see to the disk") as caught:
        ledger.arm(claim, SECRET * 10_000)
    assert "noised-vector" not in repr(caught.value)
    assert (ledger.balance(), ledger.entries()) == before
    ledger.arm(claim, b"")


def test_a_vector_beyond_sqlite_is_refused_by_its_size_alone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_MOST_BLOB_BYTES", len(SECRET) - 1)
    claim = reserve(ledger, "r")
    with pytest.raises(LedgerError, match=f"cannot store {len(SECRET)} bytes") as caught:
        ledger.arm(claim, SECRET)
    assert "noised-vector" not in repr(caught.value)
    assert ledger.spent() == PureDP(0)


# --- secrets


def test_nothing_secret_is_shown_or_exported(ledger: Ledger, clock: Clock) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET)
    texts = [repr(ledger), repr(ledger.resumable("key")), str(ledger.resumable("key"))]
    texts += [repr(ledger.entries()), repr(ledger.export_rows()), repr(claim)]
    for step in (lambda: ledger.arm(claim, SECRET), lambda: ledger.release(claim)):
        with pytest.raises(ClaimLost) as caught:
            step()
        texts.append(repr(caught.value))
    assert not any("noised-vector" in text for text in texts)
    assert "key" in texts[1]


def test_export_is_exact(ledger: Ledger) -> None:
    claim = reserve(ledger, "r", "1/3")
    (row,) = ledger.export_rows()
    assert row == {
        "ledger_id": ledger.ledger_id,
        "claim_id": claim.claim_id,
        "run_id": "run",
        "table": "visits",
        "data_version": "t@3",
        "purpose": "a test",
        "state": "reserved",
        "created_at": "1970-01-12T13:46:40.000+00:00",
        "updated_at": "1970-01-12T13:46:40.000+00:00",
        "release_key": "key",
        "disclosure": "",
        "blocks": "whole",
        "owner": "",
        "kind": "pure",
        "epsilon": "1/3",
    }
