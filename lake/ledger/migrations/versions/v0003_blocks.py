"""Blocks and claims in place of entries, and an audit log.

The tables are those of `lake.ledger.schema`, with what version 0005 takes away: whoever changes them writes the next
version, and freezes them here.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dp.accounting.budget import Budget, summed
from lake.ledger import schema
from lake.ledger.amounts import read_budget, write_budget
from lake.ledger.store import GENESIS, chained

revision = "0003"
down_revision = "0002"

_COPY_CLAIMS = """
    INSERT INTO claims (number, request_id, blocks, price, owner, weight, table_name, data_version, release_key, run_id,
                        purpose, disclosure, state, fence, lease_seconds, lease_expires_at, noised, created_at,
                        updated_at)
    SELECT number, request_id, '["whole"]', price, '', 1, table_name, data_version, release_key, run_id,
           purpose, disclosure, state, fence, lease_seconds, lease_expires_at, noised, created_at, updated_at
    FROM entries ORDER BY number
"""
_COPY_RELEASES = """
    INSERT INTO releases (release_key, claim, plan, release, stored_at)
    SELECT old.release_key, entries.number, '', old.release, old.stored_at
    FROM old_releases AS old JOIN entries ON entries.claim_id = old.claim_id ORDER BY entries.number
"""
_SUMS = "SELECT price, COUNT(*) FROM entries WHERE state IN (:one, :other) GROUP BY price"
_WHOLE = """
    INSERT INTO blocks (name, layout, capacity, unlocked, unlocked_at, acquired, consumed, created_at)
    VALUES ('whole', '', :capacity, '1', :at, :acquired, :consumed, :at)
"""
_CHECKS_ON_SERVER = """
    ALTER TABLE claims ADD CHECK (state IN ('waiting', 'reserved', 'armed', 'spent', 'released', 'failed')),
                       ADD CHECK (noised IS NULL OR state IN ('armed', 'spent'))
"""
_EVENT = "INSERT INTO audit (sequence, at, event, hash) VALUES (1, :at, :event, :hash)"


def upgrade() -> None:
    """Every entry becomes a claim on the whole, in the state that it was in."""
    db = op.get_bind()
    op.rename_table("releases", "old_releases")
    op.add_column("ledger", sa.Column("settings", sa.Text, nullable=False, server_default="{}"))
    op.add_column("ledger", sa.Column("passed", sa.Integer, nullable=False, server_default="0"))
    new = [table for name, table in schema.METADATA.tables.items() if name != "ledger"]
    schema.METADATA.create_all(db, tables=new)
    if db.dialect.name == "postgresql":
        op.execute(_CHECKS_ON_SERVER)
    db.execute(sa.text(_COPY_CLAIMS))
    db.execute(sa.text(_COPY_RELEASES))
    text, at = db.execute(sa.text("SELECT capacity, created_at FROM ledger")).one()
    acquired, consumed = (write_budget(_sum(db, text, states)) for states in (("reserved",) * 2, ("armed", "spent")))
    db.execute(sa.text(_WHOLE), {"capacity": text, "at": at, "acquired": acquired, "consumed": consumed})
    event = f'{{"acquired": {acquired}, "capacity": {text}, "consumed": {consumed}, "event": "migrated"}}'
    db.execute(sa.text(_EVENT), {"at": at, "event": event, "hash": chained(GENESIS.hash, event)})
    op.drop_table("old_releases")
    op.drop_table("entries")


def _sum(db: sa.Connection, capacity: str, states: tuple[str, ...]) -> Budget:
    found = db.execute(sa.text(_SUMS), {"one": states[0], "other": states[1]})
    return summed(((read_budget(price), count) for price, count in found), read_budget(capacity))
