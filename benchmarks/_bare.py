"""The floor of a ledger's store: one row, one update, one durable transaction."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import psycopg

__all__ = ["BareRow"]

_MAKE = "CREATE TABLE bare (id INTEGER PRIMARY KEY, total BIGINT NOT NULL)"
_ADD = "UPDATE bare SET total = total + 1 WHERE id = 1"
_READ = "SELECT total FROM bare WHERE id = 1"
_BUSY_SECONDS = 60


class BareRow:
    """A row that counts. In SQLite with a write-ahead log and full sync, in PostgreSQL with its own defaults."""

    def __init__(self, where: str) -> None:
        """Connect to a file, or to a server by its address."""
        self._connection: Any = psycopg.connect(where, autocommit=True) if "://" in where else _sqlite_connection(where)

    def make(self) -> None:
        """Make the row."""
        self._connection.execute(_MAKE)
        self._connection.execute("INSERT INTO bare VALUES (1, 0)")

    def add(self) -> None:
        """Count one, durably."""
        while True:
            try:
                self._connection.execute(_ADD)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                time.sleep(0)
            else:
                return

    def total(self) -> int:
        """What was counted."""
        return int(self._connection.execute(_READ).fetchone()[0])

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def _sqlite_connection(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
