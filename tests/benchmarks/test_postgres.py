"""A PostgreSQL server of one's own: it answers, keeps what it acknowledged, and is gone after, whoever ends how."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from benchmarks import _postgres
from benchmarks._postgres import Installation, NoPostgres, PostgresServer, installations
from tests.tools.postgres import started

_ASKER = """
import sys
from benchmarks._postgres import PostgresServer
with PostgresServer() as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


def test_it_answers_and_syncs_to_the_disk(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url()) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
    assert shown == [("on",), ("on",)]


def test_nothing_listens_on_the_network(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_two_databases_are_separate(postgres: PostgresServer) -> None:
    first, second = postgres.create_database(), postgres.create_database()
    with psycopg.connect(postgres.url(first)) as connection:
        connection.execute("CREATE TABLE only_here (x int)")
    with psycopg.connect(postgres.url(second)) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT x FROM only_here")


def test_a_role_logs_in_and_can_nothing_else(postgres: PostgresServer) -> None:
    role = postgres.create_role("nobody special")
    with psycopg.connect(postgres.url(user=role), autocommit=True) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE DATABASE more")


def test_a_database_belongs_to_its_owner(postgres: PostgresServer) -> None:
    steward = postgres.create_role("steward")
    with psycopg.connect(postgres.url(postgres.create_database(steward), steward)) as connection:
        connection.execute("CREATE SCHEMA claims")


@pytest.mark.parametrize("installation", installations(), ids=lambda found: str(found.programs)[-40:])
def test_every_installation_serves_keeps_what_it_acknowledged_and_is_gone_after(installation: Installation) -> None:
    with PostgresServer(installation=installation) as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS x")
        server.crash()
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT x FROM kept").fetchone() == (7,)
        process_id = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        assert Path(f"/proc/{process_id}").exists() or not Path("/proc").exists()
    assert not server.folder.exists()
    assert not Path(f"/proc/{process_id}").exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url())


def test_it_takes_settings() -> None:
    with PostgresServer(settings={"fsync": "off"}) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_what_it_does_not_know_is_in_the_error() -> None:
    with pytest.raises(NoPostgres, match="no_such_setting"):
        PostgresServer(settings={"no_such_setting": "1"}).__enter__()


def test_kill_minus_nine_of_its_owner_leaves_no_server(postgres: PostgresServer) -> None:
    """`postgres` is asked for so that this is skipped where there is none."""
    owner = subprocess.Popen([sys.executable, "-c", _ASKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        with psycopg.connect(url) as connection:
            owner.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep(60)")  # the server ends it
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_long_temporary_folder_is_no_trouble(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "long" * 30)
    with PostgresServer() as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_without_a_server_tests_are_skipped_and_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres, "installations", list)
    monkeypatch.delenv("REQUIRE_POSTGRES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install PostgreSQL"):
        started()


def test_without_a_server_tests_fail_where_one_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres, "installations", list)
    monkeypatch.setenv("REQUIRE_POSTGRES", "1")
    with pytest.raises(NoPostgres, match="install PostgreSQL"):
        started()


def test_continuous_integration_requires_one() -> None:
    assert "export REQUIRE_POSTGRES=1" in (Path(__file__).parents[2] / ".ci" / "run").read_text()
