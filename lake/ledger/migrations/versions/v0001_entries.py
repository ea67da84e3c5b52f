"""The first ledgers: entries of one budget, and the releases that they paid for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None

_SECONDS: TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "ledger",
        sa.Column("only_row", sa.Integer, sa.CheckConstraint("only_row = 1"), primary_key=True),
        sa.Column("ledger_id", sa.Text, nullable=False),
        sa.Column("capacity", sa.Text, nullable=False),
        sa.Column("created_at", _SECONDS, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "entries",
        sa.Column("number", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False, unique=True) for name in ("claim_id", "request_id")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("run_id", "table_name", "data_version", "purpose")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("release_key", "price", "state")),
        sa.Column("fence", sa.Integer, nullable=False),
        *(sa.Column(name, _SECONDS, nullable=False) for name in ("lease_seconds", "lease_expires_at")),
        sa.Column("noised", sa.LargeBinary),
        *(sa.Column(name, _SECONDS, nullable=False) for name in ("created_at", "updated_at")),
        sa.CheckConstraint("state IN ('reserved', 'armed', 'spent', 'released')"),
        sa.CheckConstraint("noised IS NULL OR state IN ('armed', 'spent')"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("entries_by_state", "entries", ["state", "price", "lease_expires_at"])
    op.create_index("entries_by_release_key", "entries", ["release_key"])
    op.create_table(
        "releases",
        sa.Column("release_key", sa.Text, primary_key=True),
        sa.Column("claim_id", sa.Text, sa.ForeignKey("entries.claim_id"), nullable=False),
        sa.Column("release", sa.LargeBinary, nullable=False),
        sa.Column("stored_at", _SECONDS, nullable=False),
        sqlite_strict=True,
    )
