"""The tables of a ledger on an open connection: made new, or brought to this version step by step."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

from lake.ledger.guards import install_guards
from lake.ledger.schema import METADATA, REVISION

__all__ = ["brought_up", "config_for", "made"]


def made(connection: Connection) -> None:
    """Make the tables of this version; the caller commits."""
    METADATA.create_all(connection)
    command.stamp(config_for(connection), REVISION)
    install_guards(connection)


def brought_up(connection: Connection, version: str) -> None:
    """Take the steps from `version` to this one, in the caller's transaction."""
    command.stamp(config_for(connection), version)
    command.upgrade(config_for(connection), REVISION)
    install_guards(connection)


def config_for(connection: Connection) -> Config:
    """What Alembic's commands take: our steps, on this connection, which has a transaction open."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
