"""One real PostgreSQL server for a test run (for each worker of it), started when the first test asks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks._postgres import NoPostgres, PostgresServer

__all__ = ["postgres", "started"]


def started() -> PostgresServer:
    """A server. Where there is none the test is skipped, or fails if REQUIRE_POSTGRES is set, as CI does."""
    try:
        return PostgresServer().__enter__()
    except NoPostgres as error:
        if os.environ.get("REQUIRE_POSTGRES"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this run; tests make databases and roles of their own in it."""
    server = started()
    yield server
    server.close()
