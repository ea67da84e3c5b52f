"""How the values of a ledger are written as rows, and read back: exact amounts as text, times as seconds."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from dp.accounting.budget import Budget, budget_from_json, budget_to_json, left_after, summed
from dp.accounting.ledger import Claim, Entry

__all__ = [
    "INSERT_ENTRY",
    "REQUEST_OF",
    "Balance",
    "read_balance",
    "read_budget",
    "read_claim",
    "read_entries",
    "write_budget",
]

REQUEST_OF = """
    SELECT run_id, table_name, data_version, purpose, release_key, price, disclosure, state
    FROM entries WHERE request_id = ?
"""
"""What a repeated request must repeat exactly, and its state."""

INSERT_ENTRY = """
    INSERT INTO entries (claim_id, request_id, run_id, table_name, data_version, purpose, release_key, price,
                         disclosure, state, fence, lease_seconds, lease_expires_at, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'reserved', 1, ?, ?, ?, ?)
"""

_CLAIM_BY = """
    SELECT claim_id, request_id, price, release_key, fence, lease_expires_at FROM entries
    WHERE (:column = 'claim_id' AND claim_id = :value) OR (:column = 'request_id' AND request_id = :value)
"""

_ENTRIES = """
    SELECT claim_id, run_id, table_name, data_version, purpose, price, state, created_at, updated_at, release_key,
           disclosure
    FROM entries ORDER BY number
"""

# Equal prices are counted in SQL, so that a long ledger stays quick.
_SPENT = "SELECT price, COUNT(*) FROM entries WHERE state IN ('armed', 'spent') GROUP BY price"
_RESERVED = "SELECT price, COUNT(*) FROM entries WHERE state = 'reserved' AND lease_expires_at > ? GROUP BY price"


@dataclass(frozen=True)
class Balance:
    """One consistent look at a ledger.

    Guarantees:
        capacity = spent + reserved + remaining, exactly.
    """

    capacity: Budget
    spent: Budget
    reserved: Budget
    remaining: Budget


def read_balance(db: sqlite3.Connection, capacity: Budget, now: float) -> Balance:
    """Spent, reserved and remaining of a capacity; a lease that has run out by `now` holds nothing."""
    spent = _total(db.execute(_SPENT), capacity)
    reserved = _total(db.execute(_RESERVED, (now,)), capacity)
    return Balance(capacity, spent, reserved, left_after(capacity, spent, reserved))


def read_claim(db: sqlite3.Connection, ledger_id: str, column: Literal["claim_id", "request_id"], value: str) -> Claim:
    """The ticket of one entry as it stands now."""
    row = db.execute(_CLAIM_BY, {"column": column, "value": value}).fetchone()
    return Claim(
        claim_id=row[0],
        ledger_id=ledger_id,
        request_id=row[1],
        price=read_budget(row[2]),
        release_key=row[3],
        fence=row[4],
        lease_expires_at=row[5],
    )


def read_entries(db: sqlite3.Connection) -> list[Entry]:
    """Every entry, oldest first."""
    return [
        Entry(
            claim_id=row[0],
            run_id=row[1],
            table=row[2],
            data_version=row[3],
            purpose=row[4],
            price=read_budget(row[5]),
            state=row[6],
            created_at=_iso(row[7]),
            updated_at=_iso(row[8]),
            release_key=row[9],
            disclosure=row[10],
        )
        for row in db.execute(_ENTRIES)
    ]


def write_budget(budget: Budget) -> str:
    """Exact and canonical: equal budgets are equal texts."""
    return json.dumps(budget_to_json(budget), sort_keys=True)


def read_budget(text: str) -> Budget:
    """What `write_budget` wrote."""
    return budget_from_json(json.loads(text))


def _total(prices: sqlite3.Cursor, capacity: Budget) -> Budget:
    return summed(((read_budget(price), count) for price, count in prices), capacity)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
