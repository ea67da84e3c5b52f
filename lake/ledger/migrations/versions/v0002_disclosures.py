"""What is opened without noise bears the name of a disclosure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Entries of before had none."""
    op.add_column("entries", sa.Column("disclosure", sa.Text, nullable=False, server_default=""))
