"""The tables of a ledger, for every store. Amounts are exact, so they are text; times are seconds since the epoch."""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeEngine

__all__ = [
    "METADATA",
    "REVISION",
    "WHOLE",
    "approvals",
    "audit",
    "blocks",
    "claims",
    "heads",
    "layouts",
    "ledger",
    "releases",
]

REVISION = "0005"
"""The revision of the migrations that makes these tables."""

WHOLE = "whole"
"""The block that the ledger's capacity is."""

METADATA = MetaData()

_Seconds: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")  # strict tables know no other name of it

ledger = Table(
    "ledger",
    METADATA,
    Column("only_row", Integer, CheckConstraint("only_row = 1"), primary_key=True),
    Column("ledger_id", Text, nullable=False),
    Column("capacity", Text, nullable=False),
    Column("created_at", _Seconds, nullable=False),
    Column("settings", Text, nullable=False, server_default="{}"),  # what the steward chose: JSON
    Column("passed", Integer, nullable=False, server_default="0"),  # the audit log's end at the last pass over waiters
    sqlite_strict=True,
)

layouts = Table(
    "layouts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("rule", Text, nullable=False),  # which blocks there are: JSON of a `lake.Blocks`
    Column("capacity", Text, nullable=False),  # of each of its blocks
    Column("created_at", _Seconds, nullable=False),
    sqlite_strict=True,
)

blocks = Table(
    "blocks",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("layout", Text, nullable=False),  # "" for the whole
    Column("capacity", Text, nullable=False),
    Column("unlocked", Text, nullable=False),  # the share of the capacity, a fraction in [0, 1]
    Column("unlocked_at", _Seconds, nullable=False),  # when that share was last brought up to date
    Column("acquired", Text, nullable=False),  # by reserved claims
    Column("consumed", Text, nullable=False),  # by armed and spent ones; never falls
    Column("created_at", _Seconds, nullable=False),
    Index("blocks_by_layout", "layout"),
    sqlite_strict=True,
)

STATES = ("waiting", "reserved", "armed", "spent", "released", "failed")
HOLDING = STATES[:2]  # for as long as a lease runs
# SQLite makes a table of every list of more than two for each row that it checks: that is half of an update's time.
_IS_STATE = " OR ".join(f"state = '{state}'" for state in STATES)

claims = Table(
    "claims",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("request_id", Text, nullable=False, unique=True),
    Column("parent", Integer),  # the claim whose budget this one consumes
    Column("blocks", Text, nullable=False),  # JSON list of names
    Column("price", Text, nullable=False),  # asked of each of the blocks, or JSON {"each": {block: amounts}}
    Column("held", Text),  # what is left of it once claims within it took their parts; NULL while that is all
    Column("owner", Text, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("data_version", Text, nullable=False),
    Column("release_key", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("disclosure", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_seconds", _Seconds, nullable=False),
    Column("lease_expires_at", _Seconds, nullable=False),
    Column("deadline_at", _Seconds),  # of a claim that waits
    Column("noised", LargeBinary),
    Column("created_at", _Seconds, nullable=False),
    Column("updated_at", _Seconds, nullable=False),
    # a server makes these ready anew for each statement: there the guards see to the same
    CheckConstraint(_IS_STATE).ddl_if(dialect="sqlite"),
    CheckConstraint("noised IS NULL OR state IN ('armed', 'spent')").ddl_if(dialect="sqlite"),
    Index("claims_by_state", "state", "lease_expires_at"),
    Index(
        "claims_by_release_key",
        "release_key",
        sqlite_where=text("noised IS NOT NULL"),
        postgresql_where=text("noised IS NOT NULL"),
    ),
    Index(
        "claims_by_parent",
        "parent",
        sqlite_where=text("parent IS NOT NULL"),
        postgresql_where=text("parent IS NOT NULL"),
    ),
    sqlite_strict=True,
)

releases = Table(
    "releases",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("release_key", Text, nullable=False, unique=True),
    Column("claim", Integer, nullable=False),
    Column("plan", Text, nullable=False),  # public: what was asked; "" where nobody said
    Column("release", LargeBinary, nullable=False),
    Column("stored_at", _Seconds, nullable=False),
    sqlite_strict=True,
)

approvals = Table(
    "approvals",
    METADATA,
    Column("release_key", Text, primary_key=True),
    Column("price", Text, nullable=False),  # the most that the steward agreed to
    Column("approved_at", _Seconds, nullable=False),
    sqlite_strict=True,
)

audit = Table(
    "audit",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", _Seconds, nullable=False),
    Column("event", Text, nullable=False),
    Column("hash", Text, nullable=False),  # SHA-256 of the hash before it and of this event
    sqlite_strict=True,
)

heads = Table(
    "heads",
    METADATA,
    Column("ledger_id", Text, primary_key=True),  # of a peer
    Column("party", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    Column("seen_at", _Seconds, nullable=False),
    sqlite_strict=True,
)
