"""Ledgers as older versions left them: spent with a release, spent with a vector, released, reserved until 1000060."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from lake.ledger.migrate import config_for

__all__ = ["made_by_sqlite", "made_on_server"]

_TABLES = """
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
    updated_at       REAL NOT NULL,{disclosure}
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
PRAGMA application_id = 0x6D70634C;
"""
_ROWS = """
INSERT INTO ledger VALUES (1, 'f00d', '{"epsilon": "1", "kind": "pure"}', 999000.0);
INSERT INTO entries (number, claim_id, request_id, run_id, table_name, data_version, purpose, release_key, price, state,
    fence, lease_seconds, lease_expires_at, noised, created_at, updated_at) VALUES
    (1, 'c1', 'r1', 'run', 'visits', 't@3', 'a test', 'k1', '{"epsilon": "1/7", "kind": "pure"}', 'spent',
     2, 60.0, 999060.0, NULL, 999000.0, 999001.0),
    (2, 'c2', 'r2', 'run', 'visits', 't@3', 'a test', 'k2', '{"epsilon": "1/5", "kind": "pure"}', 'spent',
     1, 60.0, 999060.0, x'00ff', 999000.0, 999002.0),
    (3, 'c3', 'r3', 'run', 'visits', 't@3', 'a test', 'k3', '{"epsilon": "1/2", "kind": "pure"}', 'released',
     1, 60.0, 999060.0, NULL, 999000.0, 999003.0),
    (4, 'c4', 'r4', 'run', 'visits', 't@3', 'a test', 'key', '{"epsilon": "1/10", "kind": "pure"}', 'reserved',
     1, 60.0, 1000060.0, NULL, 1000000.0, 1000000.0);
INSERT INTO releases VALUES ('k1', 'c1', x'616263', 999001.0);
"""
_DISCLOSURE = {1: "", 2: "\n    disclosure       TEXT NOT NULL DEFAULT '',"}


def made_by_sqlite(path: Path, version: int) -> None:
    """A file as spark-mpc of that version made it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(_TABLES.replace("{disclosure}", _DISCLOSURE[version]) + _ROWS)
        db.execute(f"PRAGMA user_version = {version}")


def made_on_server(address: str, schema: str, revision: str) -> None:
    """A schema as the migrations up to a revision make it; none older than 0003 ever ran on a server."""
    engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {schema}")
        command.upgrade(config_for(connection), min(revision, "0002"))
        for statement in _ROWS.replace("x'", r"'\x").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        command.upgrade(config_for(connection), revision)
    engine.dispose()
