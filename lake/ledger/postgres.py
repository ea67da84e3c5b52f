"""A ledger in a schema of a PostgreSQL database: for drivers that move about."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from dp.errors import InvalidArgument
from lake.errors import LedgerError, LedgerMissing
from lake.ledger.migrate import brought_up, made
from lake.ledger.rights import grant_analyst
from lake.ledger.schema import REVISION
from lake.ledger.store import START, Clock, Parameters, Row, Texts, Transaction, unruly

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresStore", "is_address"]

_DEFAULT_LEDGER = "privacy_ledger"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_SECRETS = ("password", "sslpassword")  # of an address's parameters

# A transaction that waits gives up; one whose holder was stopped is ended by the server, so that no ledger hangs.
_WAIT_SECONDS = 30
_IDLE_SECONDS = 60
_SETTINGS = f"""
    SET synchronous_commit = on; SET lock_timeout = '{_WAIT_SECONDS}s';
    SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'
"""
# Whoever holds this lock is the only one at work; every later statement sees all that was committed before.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT pg_advisory_xact_lock('audit'::regclass::oid::bigint), extract(epoch FROM clock_timestamp())::float8"
_REVISION = "SELECT version_num FROM alembic_version"

_TEXTS = Texts(psycopg_dialect.dialect())  # type: ignore[no-untyped-call]


def is_address(where: object) -> bool:
    """Whether it names a ledger on a server."""
    return isinstance(where, str) and where.partition("://")[0] in _SCHEMES and "://" in where


class _Pipelined:
    """Sends statements without waiting for their answers, until one is needed: a server may be far away."""

    def __init__(self, connection: psycopg.Connection, pipeline: psycopg.Pipeline, name: str) -> None:
        self._connection, self._pipeline, self._name = connection, pipeline, name
        self._asked: dict[tuple[str, str], Any] = {}
        self._written: list[tuple[Any, int | None]] = []

    def ahead(self, text: str, parameters: Parameters) -> None:
        """Send a query whose answer is wanted later; what is written meanwhile makes it void."""
        self._asked[text, repr(parameters)] = self._sent(text, parameters)

    def rows(self, text: str, parameters: Parameters) -> list[Row]:
        """Every row of a query."""
        cursor = self._asked.pop((text, repr(parameters)), None) or self._sent(text, parameters)
        return cursor.fetchall()  # type: ignore[no-any-return]

    def write(self, text: str, parameters: Parameters, changes: int | None) -> None:
        """Send a statement; what it did is looked at before the end."""
        self._asked.clear()
        self._written.append((self._sent(text, parameters), changes))

    def commit(self) -> None:
        """See that every write did what it should, then make all of them durable."""
        self._pipeline.sync()
        for cursor, changes in self._written:
            if changes not in (None, cursor.rowcount):
                raise unruly(self._name)
        end = self._sent("COMMIT", {})
        self._pipeline.sync()
        if end.statusmessage != "COMMIT":
            raise LedgerError(self._name, "nothing was committed", "see to the server, then repeat")

    def _sent(self, text: str, parameters: Parameters) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(text, parameters or None)
        return cursor


class PostgresStore:
    """An open ledger on a server.

    Safe to share between threads; a forked child must open its own. A connection that broke is made again for the next
    transaction.
    """

    def __init__(self, address: str, clock: Clock | None) -> None:
        """Open an existing ledger.

        Args:
            address: "postgresql://user@host/database?ledger=NAME"; NAME is a schema, "privacy_ledger" unless given.
            clock: seconds since the epoch; None for the server's.

        Raises:
            LedgerMissing: no such ledger in that database.
            LedgerError: the server cannot be reached, or the ledger is of another version.
            InvalidArgument: not such an address.
        """
        self._url, self._ledger = _parsed(address)
        self._clock = clock
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._connection = self._connected()
        try:
            self._check_revision()
        except BaseException:
            self._connection.close()
            raise

    @staticmethod
    def create(address: str, clock: Clock | None, found: Callable[[Transaction], None]) -> None:
        """Make a new ledger: a schema of its own, owned by who is connected; complete or not at all.

        Args:
            address: as for opening.
            clock: seconds since the epoch; None for the server's.
            found: writes what a new ledger holds.

        Raises:
            LedgerError: the schema exists already, or this user may not make one.
        """
        url, ledger = _parsed(address)
        try:
            with _alchemy(url) as connection:
                connection.exec_driver_sql(f'CREATE SCHEMA "{ledger}"')
                connection.exec_driver_sql(f'SET LOCAL search_path TO "{ledger}"')
                made(connection)
                _begun(connection, clock, found)
                connection.commit()
        except SQLAlchemyError as error:
            name, problem = _shown(url, ledger), _said(error.__cause__ or error)
            remedy = "open the ledger that is there, or create it as a user who may make a schema"
            raise LedgerError(name, f"cannot be created ({problem})", remedy) from None

    @staticmethod
    def migrate(address: str) -> None:
        """Bring an older ledger to this version; its owner does this.

        Raises:
            LedgerError: it cannot be, and is as it was.
        """
        url, ledger = _parsed(address)
        try:
            with _alchemy(url) as connection:
                connection.exec_driver_sql(f'SET LOCAL search_path TO "{ledger}"')
                brought_up(connection, connection.exec_driver_sql(_REVISION).scalar_one())
                connection.commit()
        except SQLAlchemyError as error:
            problem = _said(error.__cause__ or error)
            raise LedgerError(_shown(url, ledger), f"cannot be migrated ({problem})", "do it as its owner") from None

    @staticmethod
    def grant(address: str, role: str) -> None:
        """Let a role use a ledger as analysts do; its owner does this.

        Args:
            address: as for opening.
            role: of one analyst, or of a group of them.

        Raises:
            LedgerError: the server cannot be reached, or failed.
            InvalidArgument: no such role or ledger, a role that rights do not bind, or this user is not the owner.
        """
        url, ledger = _parsed(address)
        try:
            with _alchemy(url) as connection:
                grant_analyst(connection, ledger, role)
                connection.commit()
        except SQLAlchemyError as error:
            problem = _said(error.__cause__ or error)
            raise LedgerError(_shown(url, ledger), f"cannot grant ({problem})", "see to it, then repeat") from None

    @property
    def name(self) -> str:
        """The address, without a password."""
        return _shown(self._url, self._ledger)

    def close(self) -> None:
        """Close the connection; what was acknowledged is durable already."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside happens at once and durably, or not at all; transactions come one after another.

        Raises:
            LedgerError: the server is away, the ledger stayed busy, or this user may not do that.
        """
        import psycopg

        if os.getpid() != self._process:
            raise LedgerError(self.name, "this handle belongs to the parent process", "open the ledger in the child")
        with self._lock:
            try:
                if self._connection.closed:
                    self._connection = self._connected()
                with self._connection.pipeline() as pipeline:
                    runner = _Pipelined(self._connection, pipeline, self.name)
                    runner.write(_BEGIN, {}, None)
                    runner.ahead(_LOCK, {})
                    runner.ahead(*_TEXTS.of(START))
                    yield Transaction(runner, _TEXTS, self._now(runner))
                    runner.commit()
            except psycopg.errors.InsufficientPrivilege as error:
                raise LedgerError(self.name, f"refused ({_said(error)})", "ask its steward") from None
            except psycopg.Error as error:
                raise LedgerError(self.name, f"PostgreSQL failed ({_said(error)})", "see to it, then repeat") from None
            finally:
                self._roll_back()

    def _now(self, runner: _Pipelined) -> float:
        """Wait for the lock; the time in which it was given."""
        ((_, now),) = runner.rows(_LOCK, {})
        return float(now) if self._clock is None else self._clock()

    def _roll_back(self) -> None:
        """Undo what was not committed; nothing to do where it was."""
        import psycopg

        with contextlib.suppress(psycopg.Error):
            self._connection.rollback()

    def _connected(self) -> psycopg.Connection:
        import psycopg

        try:
            connection = psycopg.connect(**_connect_arguments(self._url), autocommit=True)
            connection.execute(_SETTINGS.encode())
            connection.execute(f'SET search_path TO "{self._ledger}"')
        except psycopg.Error as error:
            problem = f"cannot be reached ({_said(error)})"
            raise LedgerError(self.name, problem, "check the address, the server and the password file") from None
        return connection

    def _check_revision(self) -> None:
        import psycopg

        try:
            row = self._connection.execute(_REVISION).fetchone()
        except psycopg.errors.UndefinedTable:
            problem = f"there is no ledger {self._ledger!r} in that database"
            raise LedgerMissing(self.name, problem, "ask its steward to create it, or to grant you its use") from None
        except psycopg.Error as error:
            raise LedgerError(self.name, f"refused ({_said(error)})", "ask its steward") from None
        found = "nothing" if row is None else row[0]
        if found != REVISION:
            remedy = "its steward runs `spark-mpc ledger migrate`, or use the version of spark-mpc that wrote it"
            raise LedgerError(self.name, f"is of version {found}, this library reads {REVISION}", remedy)


def _begun(connection: Connection, clock: Clock | None, found: Callable[[Transaction], None]) -> None:
    """Write what a new ledger holds, in the transaction that made its tables."""
    driver: Any = connection.connection.driver_connection
    with driver.pipeline() as pipeline:
        runner = _Pipelined(driver, pipeline, "")
        ((_, now),) = runner.rows(_LOCK, {})
        found(Transaction(runner, _TEXTS, float(now) if clock is None else clock()))


def _parsed(address: str) -> tuple[URL, str]:
    if find_spec("psycopg") is None:
        remedy = "pip install 'spark-mpc[postgres]'"
        raise InvalidArgument("where", "an address of PostgreSQL, whose driver psycopg is not installed", remedy)
    try:
        url = make_url(address)
    except SQLAlchemyError:
        remedy = 'write "postgresql://user@host/database?ledger=NAME"'
        raise InvalidArgument("where", "an address that cannot be read", remedy) from None
    name = url.query.get("ledger", _DEFAULT_LEDGER)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument("ledger", name, "a ledger's name is made of a-z, 0-9 and _, at most 63 of them")
    rest = url.difference_update_query(["ledger"]).set(drivername="postgresql+psycopg")
    return rest, name


def _shown(url: URL, ledger: str) -> str:
    shown = url.set(drivername="postgresql").difference_update_query(_SECRETS).update_query_dict({"ledger": ledger})
    return shown.render_as_string(hide_password=True)


def _connect_arguments(url: URL) -> dict[str, Any]:
    return {**url.translate_connect_args(username="user", database="dbname"), **url.query}


def _said(error: BaseException) -> str:
    """The first line of an error of the server: never the statement's parameters."""
    return str(error).partition("\n")[0].strip()


@contextlib.contextmanager
def _alchemy(url: URL) -> Iterator[Connection]:
    """A connection for the tables; what is not committed is rolled back."""
    engine = create_engine(url, poolclass=StaticPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
