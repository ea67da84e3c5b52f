"""One real PostgreSQL server for a test run (for each worker of it), started when the first test asks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks._postgres import NoPostgres, PostgresServer

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server. Where there is none its tests are skipped, and fail if REQUIRE_POSTGRES is set, as CI does."""
    try:
        server = PostgresServer().__enter__()
    except NoPostgres as error:
        if os.environ.get("REQUIRE_POSTGRES"):
            raise
        pytest.skip(str(error))
    yield server
    server.close()
