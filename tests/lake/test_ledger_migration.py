"""A ledger of schema version 1 is brought to the present one when it is opened: whole or not at all, and once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dp.accounting.budget import PureDP
from dp.accounting.ledger import Entry
from lake import ledger_store
from lake.errors import LedgerError
from lake.ledger import Ledger
from lake.ledger_store import LedgerStore
from tests.lake.test_ledger import Clock, reserve

VERSION_1 = """
CREATE TABLE ledger (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    ledger_id  TEXT NOT NULL,
    capacity   TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE TABLE entries (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    claim_id         TEXT NOT NULL UNIQUE,
    request_id       TEXT NOT NULL UNIQUE,
    run_id           TEXT NOT NULL,
    table_name       TEXT NOT NULL,
    data_version     TEXT NOT NULL,
    purpose          TEXT NOT NULL,
    release_key      TEXT NOT NULL,
    price            TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('reserved', 'armed', 'spent', 'released')),
    fence            INTEGER NOT NULL,
    lease_seconds    REAL NOT NULL,
    lease_expires_at REAL NOT NULL,
    noised           BLOB,
    created_at       REAL NOT NULL,
    updated_at       REAL NOT NULL,
    CHECK (noised IS NULL OR state IN ('armed', 'spent'))
) STRICT;
CREATE INDEX entries_by_state ON entries (state, price, lease_expires_at);
CREATE INDEX entries_by_release_key ON entries (release_key);
CREATE TABLE releases (
    release_key TEXT PRIMARY KEY,
    claim_id    TEXT NOT NULL REFERENCES entries (claim_id),
    release     BLOB NOT NULL,
    stored_at   REAL NOT NULL
) STRICT;
INSERT INTO ledger VALUES (1, 'f00d', '{"epsilon": "1", "kind": "pure"}', 999000.0);
INSERT INTO entries VALUES
    (1, 'c1', 'r1', 'run', 'visits', 't@3', 'a test', 'k1', '{"epsilon": "1/7", "kind": "pure"}', 'spent',
     2, 60.0, 999060.0, NULL, 999000.0, 999001.0),
    (2, 'c2', 'r2', 'run', 'visits', 't@3', 'a test', 'k2', '{"epsilon": "1/5", "kind": "pure"}', 'spent',
     1, 60.0, 999060.0, x'00ff', 999000.0, 999002.0),
    (3, 'c3', 'r3', 'run', 'visits', 't@3', 'a test', 'k3', '{"epsilon": "1/2", "kind": "pure"}', 'released',
     1, 60.0, 999060.0, NULL, 999000.0, 999003.0),
    (4, 'c4', 'r4', 'run', 'visits', 't@3', 'a test', 'key', '{"epsilon": "1/10", "kind": "pure"}', 'reserved',
     1, 60.0, 1000060.0, NULL, 1000000.0, 1000000.0);
INSERT INTO releases VALUES ('k1', 'c1', x'616263', 999001.0);
PRAGMA application_id = 0x6D70634C;
PRAGMA user_version = 1;
"""
COLUMNS_1 = """number, claim_id, request_id, run_id, table_name, data_version, purpose, release_key, price, state,
    fence, lease_seconds, lease_expires_at, noised, created_at, updated_at"""

OPENER = """
import sys
from lake.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
with Ledger.open(sys.argv[1]) as opened:
    print(len(opened.entries()), flush=True)
"""
DYING = """
import os, signal, sys
from lake import ledger_store
from lake.ledger import Ledger
class Deadly(dict):
    def __getitem__(self, version):
        return super().__getitem__(version) if version == 1 else os.kill(os.getpid(), signal.SIGKILL)
ledger_store._MIGRATIONS = Deadly({1: ledger_store._MIGRATIONS[1], 2: "never reached"})
ledger_store.SCHEMA_VERSION = 3
Ledger.open(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger as version 1 left it: spent with a release, spent with a vector, released, reserved until 1000060."""
    made = tmp_path / "ledger"
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(VERSION_1)
    return made


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def content(path: Path) -> list[list[tuple[object, ...]]]:
    """Everything that version 1 wrote."""
    queries = ("SELECT * FROM ledger", f"SELECT {COLUMNS_1} FROM entries", "SELECT * FROM releases")
    with closing(sqlite3.connect(path)) as db:
        return [db.execute(query).fetchall() for query in queries]


def layout(path: Path) -> list[tuple[object, ...]]:
    """Columns, types, defaults and indices."""
    with closing(sqlite3.connect(path)) as db:
        columns = [
            row for table in ("ledger", "entries", "releases") for row in db.execute(f"PRAGMA table_info({table})")
        ]
        indices = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
        strict = sorted(row[1:2] + row[5:] for row in db.execute("PRAGMA table_list"))
    return [*columns, *indices, *strict]


def expect_as_before(ledger: Ledger) -> None:
    """What version 1 said of the fixture, and that nothing of it is a disclosure."""
    assert ledger.ledger_id == "f00d"
    balance = ledger.balance()
    assert (balance.capacity, balance.spent, balance.reserved) == (PureDP(1), PureDP("12/35"), PureDP("1/10"))
    entries = ledger.entries()
    assert [entry.state for entry in entries] == ["spent", "spent", "released", "reserved"]
    assert {entry.disclosure for entry in entries} == {""}
    assert entries[0] == Entry(
        claim_id="c1",
        run_id="run",
        table="visits",
        data_version="t@3",
        purpose="a test",
        price=PureDP("1/7"),
        state="spent",
        created_at="1970-01-12T13:30:00.000+00:00",
        updated_at="1970-01-12T13:30:01.000+00:00",
        release_key="k1",
        disclosure="",
    )
    assert (ledger.stored_release("k1"), ledger.stored_release("k2")) == (b"abc", None)
    resumed = ledger.resumable("k2")
    assert resumed is not None
    assert (resumed.claim.claim_id, resumed.noised) == ("c2", b"\x00\xff")


def test_everything_reads_as_before_and_disclosures_can_follow(path: Path) -> None:
    before = content(path)
    for _ in range(2):
        with Ledger.open(path, clock=Clock()) as ledger:
            expect_as_before(ledger)
        assert (content(path), version(path)) == (before, 2)
    with Ledger.open(path, clock=Clock()) as ledger:
        assert reserve(ledger, "r4").claim_id == "c4"  # asked under version 1, repeated under this one
        exact = reserve(ledger, "r5", PureDP(0), key="k5", disclosure="exposure-2026")
        ledger.arm(exact, b"")
        ledger.commit(exact, b"exact")
        assert [entry.disclosure for entry in ledger.entries()] == ["", "", "", "", "exposure-2026"]


def test_a_migrated_file_has_the_layout_of_a_new_one(path: Path) -> None:
    new = path.with_name("new")
    Ledger.create(new, capacity=PureDP(1)).close()
    assert layout(path) != layout(new)
    Ledger.open(path).close()
    assert layout(path) == layout(new)


def test_what_was_armed_under_version_1_counts_as_spent(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE entries SET state = 'armed' WHERE number = 2")
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)


def test_a_migration_that_fails_leaves_version_1(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(path), layout(path)
    steps = {**ledger_store._MIGRATIONS, 2: "ALTER TABLE nowhere ADD COLUMN x TEXT"}
    with monkeypatch.context() as patched:
        patched.setattr(ledger_store, "_MIGRATIONS", steps)
        patched.setattr(ledger_store, "SCHEMA_VERSION", 3)
        with pytest.raises(LedgerError, match="nowhere"):
            Ledger.open(path)
    assert ((content(path), layout(path)), version(path)) == (before, 1)
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)


@pytest.mark.parametrize("theirs", [2, 3])
def test_a_process_that_was_overtaken_looks_again(path: Path, monkeypatch: pytest.MonkeyPatch, theirs: int) -> None:
    begin = LedgerStore._begin

    def overtaken(store: LedgerStore) -> None:
        """Between our look at the version and our lock another process is done."""
        monkeypatch.undo()
        Ledger.open(path).close()
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {theirs}")
        begin(store)

    monkeypatch.setattr(LedgerStore, "_begin", overtaken)
    if theirs == 3:  # by a spark-mpc of the future
        with pytest.raises(LedgerError, match="schema version 3, this library reads 1 to 2"):
            Ledger.open(path)
    else:
        with Ledger.open(path, clock=Clock()) as ledger:
            expect_as_before(ledger)
    assert version(path) == theirs


def test_threads_that_open_it_at_once_all_get_it(path: Path) -> None:
    before, barrier = content(path), threading.Barrier(4)

    def opened(_: int) -> int:
        barrier.wait()
        with Ledger.open(path, clock=Clock()) as ledger:
            return len(ledger.entries())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [4] * 4
    assert (content(path), version(path)) == (before, 2)


def start(script: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_open_it_at_once_all_get_it(path: Path) -> None:
    before = content(path)
    openers = [start(OPENER, path) for _ in range(2)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    assert [opener.communicate()[0] for opener in openers] == ["4\n"] * 2
    assert [opener.returncode for opener in openers] == [0] * 2
    assert (content(path), version(path)) == (before, 2)


@pytest.mark.slow
def test_kill_9_in_the_middle_leaves_version_1(path: Path) -> None:
    before = content(path), layout(path)
    victim = start(DYING, path)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert ((content(path), layout(path)), version(path)) == (before, 1)
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)
