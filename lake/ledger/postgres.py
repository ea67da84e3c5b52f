"""A ledger in a schema of a PostgreSQL database: for drivers that move about."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, ClauseElement, create_engine, make_url
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from dp.errors import InvalidArgument, SparkMpcError
from lake.errors import LedgerError, LedgerMissing
from lake.ledger.calls import Calls
from lake.ledger.migrate import brought_up, made
from lake.ledger.rights import grant_analyst
from lake.ledger.schema import REVISION
from lake.ledger.store import START, Clock, Errand, Parameters, Row, Texts, Transaction, unruly

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresStore", "is_address"]

T = TypeVar("T")

_DEFAULT_LEDGER = "privacy_ledger"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_SECRETS = ("password", "sslpassword")  # of an address's parameters

# A transaction that waits gives up; one whose holder was stopped is ended by the server, so that no ledger hangs.
_WAIT_SECONDS = 30
_IDLE_SECONDS = 60
# Plans stay, and every question about claims has an index: a plan that was made for few rows, or for leases of any age,
# must not read all of them. (What has no index then looks dear enough to be compiled: that takes far longer.)
_SETTINGS = f"""
    SET client_encoding = 'UTF8'; SET spark_mpc.adds = '';
    SET synchronous_commit = on; SET lock_timeout = '{_WAIT_SECONDS}s';
    SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s';
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off
"""
# Whoever holds this lock is the only one at work; every later statement sees all that was committed before.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT pg_advisory_xact_lock('audit'::regclass::oid::bigint)"
# Others commit without waiting for the disk (steps.sql). Who waits for a record of its own to be there, waits for
# theirs: so that nothing is told, and no head is given away, that the server could still lose.
_ON_DISK = "SELECT pg_logical_emit_message(true, '', '')"
_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"
# Divides by nothing, which ends the transaction, if the statement did not change one row.
_EXACTLY = "WITH changed AS ({} RETURNING 1) SELECT 1 / (count(*) = {})::int FROM changed"
_IDLE = 0  # libpq's PQTRANS_IDLE
_LONG_BYTES = 1 << 16
_CLOCK_SECONDS = 300
_REVISION = "SELECT version_num FROM alembic_version"

_TEXTS = Texts(psycopg_dialect.dialect())  # type: ignore[no-untyped-call]


def is_address(where: object) -> bool:
    """Whether it names a ledger on a server."""
    return isinstance(where, str) and where.partition("://")[0] in _SCHEMES and "://" in where


class _Batched:
    """Sends statements together: when an answer is needed, and at the end. A server may be far away.

    Parameters are written into the text, as the driver quotes them: only so does a batch travel at once.
    """

    def __init__(self, connection: psycopg.Connection, name: str, *first: str) -> None:
        import psycopg

        self._connection, self._name = connection, name
        self._cursor = psycopg.ClientCursor(connection)
        self._unsent = [(statement, False) for statement in first]  # in order, and whether somebody wants the rows
        self._known: dict[str, list[Row]] = {}

    def ahead(self, statement: ClauseElement, parameters: Parameters) -> None:
        """Send a query with the next batch; what is written before that makes it void."""
        self._ask(self._query(statement, parameters))

    def rows(self, statement: ClauseElement, parameters: Parameters) -> list[Row]:
        """Every row of a query."""
        query = self._query(statement, parameters)
        if query not in self._known:
            self._ask(query)
            self.send()
        return self._known.pop(query)

    def _query(self, statement: ClauseElement, parameters: Parameters) -> str:
        text, (every,) = _TEXTS.of(statement, parameters)
        return self._cursor.mogrify(text, every)

    def _ask(self, query: str) -> None:
        if (query, True) not in self._unsent:
            self._unsent.append((query, True))

    def write(self, statement: ClauseElement, every: Sequence[Parameters], changes: int | None) -> None:
        """Send statements with the next batch; the server itself ends the transaction if one does not do its work."""
        text, every = _TEXTS.of(statement, *every)
        self._known.clear()
        self._unsent = [(statement, wanted) for statement, wanted in self._unsent if not wanted]
        for parameters in every:
            if any(isinstance(value, bytes) and len(value) > _LONG_BYTES for value in parameters.values()):
                self.send()
                self._connection.execute(text.encode(), parameters)
                continue
            filled = self._cursor.mogrify(text, parameters)
            self._unsent.append((filled if changes is None else _EXACTLY.format(filled, changes), False))

    def send(self, *last: str) -> None:
        """Send what waits, and take the answers."""
        statements = [*self._unsent, *((statement, False) for statement in last)]
        self._unsent = []
        if not statements:
            return
        self._cursor.execute(";\n".join(statement for statement, _ in statements).encode())
        for statement, wanted in statements:
            if wanted:
                self._known[statement] = self._cursor.fetchall()
            self._cursor.nextset()

    def commit(self) -> None:
        """Make everything durable."""
        self.send(_ON_DISK, "COMMIT")
        if self._cursor.statusmessage != "COMMIT":
            raise LedgerError(self._name, "nothing was committed", "see to the server, then repeat")


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
        self._name = _shown(self._url, self._ledger)
        self._clock = clock
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._server_time, self._asked_at = 0.0, -math.inf
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
        return self._name

    @property
    def has_steps(self) -> bool:
        """Those of `steps.sql`."""
        return True

    def close(self) -> None:
        """Close the connection; what was acknowledged is durable already."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside happens at once and durably, or not at all; transactions come one after another.

        Raises:
            LedgerError: the server is away, the ledger stayed busy, or this user may not do that.
        """
        with self._at_work() as connection:
            runner = _Batched(connection, self.name, _BEGIN, _LOCK)
            runner.ahead(START, {})
            try:
                yield Transaction(runner, self._now())
            except SparkMpcError:  # a refusal tells something, too
                connection.rollback()
                connection.execute(_ON_DISK)
                raise
            runner.commit()

    def at_once(self, step: str, *arguments: Any) -> Row | None:
        """Call a procedure of `steps.sql`; as `Store.at_once`."""
        with self._at_work():
            now = self._now()
            answer = self._calls.answer(step, now, *arguments)
        return None if answer is None else (now, answer)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[psycopg.Connection]:
        """This process and thread alone use the connection; what is not committed at the end is undone."""
        import psycopg

        if os.getpid() != self._process:
            raise LedgerError(self.name, "this handle belongs to the parent process", "open the ledger in the child")
        with self._lock:
            try:
                if self._connection.closed:
                    self._connection = self._connected()
                yield self._connection
            except psycopg.errors.DivisionByZero:
                raise unruly(self.name) from None
            except psycopg.errors.InsufficientPrivilege as error:
                raise LedgerError(self.name, f"refused ({_said(error)})", "ask its steward") from None
            except psycopg.Error as error:
                raise LedgerError(self.name, f"PostgreSQL failed ({_said(error)})", "see to it, then repeat") from None
            finally:
                self._roll_back()

    def together(self, errand: Errand[T]) -> T:
        """As `Store.together`; on a server everybody does it alone."""
        with self.transaction() as tx:
            done, _ = errand.lead(tx, list)
            return done

    def _now(self) -> float:
        """The caller's clock, or the server's: asked now and then, and counted on between."""
        if self._clock is not None:
            return self._clock()
        if _uptime() - self._asked_at > _CLOCK_SECONDS:
            self._server_time, self._asked_at = _server_time(self._connection), _uptime()
        return self._server_time + _uptime() - self._asked_at

    def _roll_back(self) -> None:
        """Undo what was not committed, and nothing where it was; a connection that is out of step is given up."""
        import psycopg

        if self._is_idle():
            return
        with contextlib.suppress(psycopg.Error):
            self._connection.rollback()
        if not self._is_idle():
            self._connection.close()  # interrupted in the middle of a statement: the server undoes it

    def _is_idle(self) -> bool:
        return self._connection.pgconn.transaction_status == _IDLE

    def _connected(self) -> psycopg.Connection:
        import psycopg

        try:
            # the driver prepares nothing: it would forget all that is prepared, the procedures' calls too
            connection = psycopg.connect(**_connect_arguments(self._url), autocommit=True, prepare_threshold=None)
            connection.execute(_SETTINGS.encode())
            connection.execute(f'SET search_path TO "{self._ledger}"')
            self._calls = Calls(connection)
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
    runner = _Batched(driver, "", _LOCK)
    found(Transaction(runner, _server_time(driver) if clock is None else clock()))
    runner.send()


def _server_time(connection: psycopg.Connection) -> float:
    ((now,),) = connection.execute(_TIME.encode()).fetchall()
    return float(now)


def _uptime() -> float:
    """Seconds that this machine has been up, asleep or awake; its clock may be set meanwhile."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


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
