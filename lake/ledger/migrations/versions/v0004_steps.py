"""Steps that a server takes in one call: procedures beside the guards, which every migration puts in place. No table
changes."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing to do in the tables."""
