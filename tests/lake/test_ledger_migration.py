"""Older ledgers are brought to the present version: whole or not at all, once, and exact to the last fraction."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from benchmarks._ledger_audit import Auditor
from benchmarks._postgres import PostgresServer
from dp.accounting.budget import PureDP
from dp.accounting.ledger import Entry
from lake.errors import LedgerError, LedgerMissing
from lake.ledger import Ledger
from lake.ledger.postgres import PostgresStore
from lake.ledger.schema import METADATA
from lake.ledger.sqlite import SQLiteStore
from tests.lake.older_ledgers import made_by_sqlite, made_on_server
from tests.tools.ledgers import Clock, reserve

NOW = 5

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
from sqlalchemy import event
from sqlalchemy.engine import Engine
from lake.ledger import Ledger
left = int(sys.argv[2])
@event.listens_for(Engine, "before_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.open(sys.argv[1])
"""


@pytest.fixture(params=[1, 2])
def older(request: pytest.FixtureRequest) -> int:
    """The version that made the ledger."""
    return int(request.param)


@pytest.fixture
def path(tmp_path: Path, older: int) -> Path:
    """The file that it left."""
    made_by_sqlite(tmp_path / "ledger", older)
    return tmp_path / "ledger"


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def content(path: Path) -> list[object]:
    """Every table's definition and rows."""
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name, sql").fetchall()
        rows = [db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names(tables)]
        return [tables, rows]


def names(tables: list[tuple[str, str]]) -> list[str]:
    return [name for name, sql in tables if sql and sql.startswith("CREATE TABLE")]


def layout(path: Path) -> list[object]:
    """Columns, types, defaults, checks, indices and triggers.

    Not: whether a primary key was declared NOT NULL, which a rowid is anyway; and what older versions counted with.
    """
    with closing(sqlite3.connect(path)) as db:
        tables = sorted(row[1:] for row in db.execute("PRAGMA table_list") if row[1] != "sqlite_sequence")
        table = 'SELECT name, type, "notnull" OR pk, dflt_value, pk FROM pragma_table_info(?)'
        columns = [db.execute(table, row[:1]) for row in tables]
        rest = db.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') ORDER BY name")
        checks = db.execute("SELECT name, sql LIKE '%CHECK%' FROM sqlite_master WHERE type = 'table' ORDER BY name")
        found = [row for row in checks if row[0] != "sqlite_sequence"]
        return [tables, [of.fetchall() for of in columns], rest.fetchall(), found]


def expect_as_before(ledger: Ledger) -> None:
    """What the older version said of it, and that nothing of it is a disclosure."""
    assert ledger.ledger_id == "f00d"
    balance = ledger.balance()
    assert (balance.capacity, balance.spent, balance.reserved) == (PureDP(1), PureDP("12/35"), PureDP("1/10"))
    entries = ledger.entries()
    assert [entry.state for entry in entries] == ["spent", "spent", "released", "reserved"]
    assert {entry.disclosure for entry in entries} == {""}
    assert entries[0] == Entry(
        claim_id="1",
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
        blocks=("whole",),
    )
    assert (ledger.stored_release("k1"), ledger.stored_release("k2")) == (b"abc", None)
    assert ledger.stored_releases("visits", "t@3") == []  # nobody said what they answer
    resumed = ledger.resumable("k2")
    assert resumed is not None
    assert (resumed.claim.claim_id, resumed.noised) == ("2", b"\x00\xff")


def expect_that_it_lives_on(ledger: Ledger) -> None:
    """Claims of before take their next steps, and new ones follow."""
    held = reserve(ledger, "r4")  # asked under the older version, repeated under this one
    assert held.claim_id == "4"
    ledger.arm(held, b"noised")
    ledger.commit(held, b"release")
    resumed = ledger.resumable("k2")
    assert resumed is not None
    ledger.commit(resumed.claim, b"late")
    exact = reserve(ledger, "r5", PureDP(0), key="k5", disclosure="exposure-2026")
    assert exact.claim_id == "5"
    assert (ledger.spent(), ledger.stored_release("k2")) == (PureDP("31/70"), b"late")


@contextmanager
def stopped_after(statements: int) -> Iterator[list[str]]:
    """Every statement of SQLAlchemy raises once so many have run; gives those that ran."""
    ran: list[str] = []

    def count(*arguments: object) -> None:
        if len(ran) == statements:
            raise SQLAlchemyError("stopped here")
        ran.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield ran
    finally:
        event.remove(Engine, "before_cursor_execute", count)


# --- files


def test_everything_reads_as_before_and_lives_on(path: Path) -> None:
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)
    before = content(path)
    with Ledger.open(path, clock=Clock()) as ledger:  # once: a second time nothing is left to do
        assert content(path) == before
        expect_as_before(ledger)
        expect_that_it_lives_on(ledger)
    assert version(path) == NOW


def test_the_audit_log_of_a_migrated_ledger_begins_with_its_sums(path: Path) -> None:
    with Ledger.open(path, clock=Clock()) as ledger:
        assert ledger.head().sequence == 1
        expect_that_it_lives_on(ledger)
    with closing(SQLiteStore(path, Clock())) as store:
        problems = Auditor(store).look().problems
    assert all("claims" in problem for problem in problems)  # it does not name the claims of before, only their sums


def test_a_migrated_file_has_the_layout_of_a_new_one(path: Path) -> None:
    new = path.with_name("new")
    Ledger.create(new, capacity=PureDP(1)).close()
    assert layout(path) != layout(new)
    Ledger.open(path).close()
    assert layout(path) == layout(new)


def test_what_was_armed_counts_as_spent(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE entries SET state = 'armed' WHERE number = 2")
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)


@pytest.mark.slow
def test_a_migration_that_stops_at_any_statement_changes_nothing(path: Path, older: int) -> None:
    before = content(path)
    for statements in itertools.count():
        with stopped_after(statements) as ran, suppress(LedgerError):
            Ledger.open(path, clock=Clock()).close()
            break
        assert len(ran) == statements
        assert (content(path), version(path)) == (before, older)
    assert len(ran) > 40
    assert version(path) == NOW
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)


def test_a_migration_that_fails_says_so_and_changes_nothing(path: Path, older: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE old_releases (in_the_way TEXT)")
    before = content(path)
    with pytest.raises(
        LedgerError, match=rf"cannot be brought to schema version {NOW} \(.*old_releases.*it is as it was"
    ):
        Ledger.open(path)
    assert (content(path), version(path)) == (before, older)


@pytest.mark.parametrize("theirs", [NOW, NOW + 1])
def test_a_process_that_was_overtaken_looks_again(path: Path, monkeypatch: pytest.MonkeyPatch, theirs: int) -> None:
    begin = SQLiteStore._begin

    def overtaken(store: SQLiteStore) -> None:
        """Between our look at the version and our lock another process is done."""
        monkeypatch.undo()
        Ledger.open(path).close()
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {theirs}")
        begin(store)

    monkeypatch.setattr(SQLiteStore, "_begin", overtaken)
    if theirs > NOW:  # by a spark-mpc of the future
        with pytest.raises(LedgerError, match=f"schema version {NOW + 1}, this library reads 1 to {NOW}"):
            Ledger.open(path)
    else:
        with Ledger.open(path, clock=Clock()) as ledger:
            assert ledger.head().sequence >= 1
    assert version(path) == theirs


def test_an_older_library_refuses_a_migrated_file(path: Path, older: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(path).close()
    monkeypatch.setattr("lake.ledger.sqlite._SCHEMA_VERSION", older)
    with pytest.raises(LedgerError, match=f"schema version {NOW}, this library reads 1 to {older}"):
        Ledger.open(path)


def test_threads_that_open_it_at_once_all_get_it(path: Path) -> None:
    barrier = threading.Barrier(4)

    def opened(_: int) -> int:
        barrier.wait()
        with Ledger.open(path, clock=Clock()) as ledger:
            return len(ledger.entries())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [4] * 4
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)
        assert ledger.head().sequence == 1


def start(script: str, path: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_open_it_at_once_all_get_it(path: Path) -> None:
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
    assert version(path) == NOW


@pytest.mark.slow
def test_kill_9_in_the_middle_changes_nothing(path: Path, older: int) -> None:
    before = content(path)
    for statements in (0, 7, 16, 30, 60):
        victim = start(DYING, path, statements)
        victim.communicate()
        assert victim.returncode == -signal.SIGKILL
        assert (content(path), version(path)) == (before, older)
    with Ledger.open(path, clock=Clock()) as ledger:
        expect_as_before(ledger)


# --- servers


COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, replace(column_default, table_schema, '')
             FROM information_schema.columns WHERE table_schema = %s ORDER BY table_name, column_name"""
INDICES = """SELECT replace(replace(indexdef, schemaname, ''), 'pkey1', 'pkey') FROM pg_indexes
             WHERE schemaname = %s ORDER BY 1"""  # a key of the new table waits for the name of the old one's
TRIGGERS = """SELECT event_object_table, trigger_name, event_manipulation, action_condition
              FROM information_schema.triggers WHERE trigger_schema = %s ORDER BY 1, 2, 3"""
CHECKS = """SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = %s::regnamespace ORDER BY 1, 2"""

ROUTINES = """SELECT proname, pg_get_function_arguments(oid),
                     md5(replace(prosrc, format('"%%s"', pronamespace::regnamespace), ''))
              FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY 1"""


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.create_database()


def layout_on_server(server: PostgresServer, database: str, schema: str) -> list[object]:
    with psycopg.connect(server.url(database)) as db:
        db.execute(f"SET search_path TO {schema}")
        return [db.execute(query, (schema,)).fetchall() for query in (COLUMNS, INDICES, TRIGGERS, CHECKS, ROUTINES)]


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["0001", "0002", "0004"])
def test_an_older_ledger_on_a_server_is_refused_until_its_owner_migrates_it(
    postgres: PostgresServer, database: str, revision: str
) -> None:
    made_on_server(postgres.url(database), "old", revision)
    address = postgres.url(database, ledger="old")
    before = layout_on_server(postgres, database, "old")
    with pytest.raises(LedgerError, match=f"of version {revision}, this library reads 0005; .*ledger migrate"):
        Ledger.open(address)
    assert layout_on_server(postgres, database, "old") == before
    PostgresStore.migrate(address)
    with Ledger.open(address, clock=Clock()) as ledger:
        expect_as_before(ledger)
        expect_that_it_lives_on(ledger)
    Ledger.create(postgres.url(database, ledger="new"), capacity=PureDP(1)).close()
    assert layout_on_server(postgres, database, "old") == layout_on_server(postgres, database, "new")


@pytest.mark.slow
def test_a_migration_on_a_server_that_stops_changes_nothing(postgres: PostgresServer, database: str) -> None:
    made_on_server(postgres.url(database), "old", "0002")
    address, before = postgres.url(database, ledger="old"), layout_on_server(postgres, database, "old")
    for statements in (0, 5, 12, 20, 30, 38, 45):
        with stopped_after(statements), pytest.raises(LedgerError, match="stopped here"):
            PostgresStore.migrate(address)
        assert layout_on_server(postgres, database, "old") == before
    PostgresStore.migrate(address)
    PostgresStore.migrate(address)  # nothing is left to do
    with Ledger.open(address, clock=Clock()) as ledger:
        expect_as_before(ledger)


@pytest.mark.slow
def test_only_its_owner_can_migrate_a_ledger(postgres: PostgresServer, database: str) -> None:
    made_on_server(postgres.url(database), "old", "0002")
    stranger = postgres.create_role("stranger")
    with psycopg.connect(postgres.url(database), autocommit=True) as db:
        db.execute(f"GRANT USAGE ON SCHEMA old TO {stranger}")
        db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA old TO {stranger}")
    before = layout_on_server(postgres, database, "old")
    with pytest.raises(LedgerError, match=r"cannot be migrated.*as its owner"):
        PostgresStore.migrate(postgres.url(database, stranger, ledger="old"))
    assert layout_on_server(postgres, database, "old") == before


@pytest.mark.slow
def test_there_is_nothing_to_migrate_where_no_ledger_is(postgres: PostgresServer, database: str) -> None:
    address = postgres.url(database, ledger="nowhere")
    with pytest.raises(LedgerMissing):
        Ledger.open(address)
    with pytest.raises(LedgerError, match="cannot be migrated"):
        PostgresStore.migrate(address)


def test_the_tables_of_the_schema_are_those_that_the_last_step_makes(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "new", capacity=PureDP(1)).close()
    with closing(sqlite3.connect(tmp_path / "new")) as db:
        found = {row[1] for row in db.execute("PRAGMA table_list") if not row[1].startswith("sqlite_")}
    assert found == {*METADATA.tables, "alembic_version"}
