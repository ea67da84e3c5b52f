"""A ledger's file: who may read it, what is refused, and what a full disk, a lock or a deletion does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dp.accounting.budget import ApproxDP, PureDP
from dp.errors import InvalidArgument
from lake.errors import LedgerError, LedgerMissing
from lake.ledger import Ledger, sqlite
from lake.ledger import ledger as ledger_module
from tests.tools.ledgers import Clock, reserve

SECRET = b"noised-vector-\x00\xff-that-nobody-may-see"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger.create(path, capacity=PureDP("1"), clock=clock) as made:
        yield made


def store(ledger: Ledger) -> sqlite.SQLiteStore:
    assert isinstance(ledger._store, sqlite.SQLiteStore)
    return ledger._store


def connection(ledger: Ledger) -> sqlite3.Connection:
    return store(ledger)._connection


def test_the_vector_is_gone_from_the_file_once_its_release_is_stored(ledger: Ledger, path: Path) -> None:
    claim = reserve(ledger, "r")
    ledger.arm(claim, SECRET * 1000)
    ledger.commit(claim, b"release")
    ledger.close()  # the log is folded into the file and removed
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger"]
    assert SECRET not in path.read_bytes()


def test_a_block_whose_sum_was_put_in_another_kind_grants_nothing(path: Path, clock: Clock) -> None:
    with Ledger.create(path, capacity=ApproxDP(1, "0.1"), clock=clock) as ledger:
        reserve(ledger, "a", ApproxDP("0.1", "0.09"))
        connection(ledger).execute("UPDATE blocks SET acquired = ?", ('{"epsilon": "1/10", "kind": "pure"}',))
        for _ in range(2):
            with pytest.raises(InvalidArgument, match="same amounts"):
                reserve(ledger, "b", ApproxDP("0.1", "0.09"))
        assert [entry.run_id for entry in ledger.entries()] == ["run"]


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


def test_a_ledger_that_goes_while_a_step_is_written_is_an_error(ledger: Ledger, path: Path) -> None:
    claim = reserve(ledger, "r")
    with pytest.raises(LedgerMissing, match="there is no such file"), store(ledger).transaction():
        path.rename(f"{path}.away")
    Path(f"{path}.away").rename(path)
    ledger.arm(claim, b"")


def test_a_place_that_cannot_be_looked_at_is_an_error(ledger: Ledger, path: Path) -> None:
    """Here: its folder has become a file."""
    folder, away = path.parent, path.parent.with_name("away")
    folder.rename(away)
    folder.touch()
    with pytest.raises(LedgerError, match="cannot be looked at"):
        ledger.head()
    folder.unlink()
    away.rename(folder)
    assert ledger.head().sequence == 1


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
    with pytest.raises(LedgerError, match="schema version 7, this library reads 1 to 5"):
        Ledger.open(path)


def test_a_forked_child_must_open_its_own(ledger: Ledger) -> None:
    store(ledger)._process = os.getppid()  # what a child sees: a handle that another process made
    with pytest.raises(LedgerError, match="open the ledger in the child"):
        ledger.remaining()


def test_a_forked_child_can_close_what_its_parent_works_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child nobody lets the lock of the parent's thread fall."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(store(ledger)._lock.acquire).result()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        ledger.close()
        thread.submit(store(ledger)._lock.release).result()


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
