"""A ledger in a SQLite file: made atomically, opened only if it is ours, written in one transaction at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ClauseElement, create_engine
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from lake.errors import LedgerError, LedgerMissing
from lake.filesystems import refuse_network_file_system
from lake.ledger.board import Board, Heard, Posted
from lake.ledger.migrate import brought_up, made
from lake.ledger.schema import REVISION
from lake.ledger.store import Clock, Errand, Made, Parameters, Post, Posts, Row, Texts, Transaction, unruly

__all__ = ["SQLiteStore"]

_APPLICATION_ID = 0x6D70634C  # "mpcL": tells a ledger from any other SQLite file
_SCHEMA_VERSION = int(REVISION)

_BOARD = "-board"
_OPEN_SECONDS = 10.0
_BUSY_SECONDS = 30.0
# SQLite's own waiters sleep up to 100 ms, in which hundreds of transactions would fit.
_PAUSE_SECONDS = 5e-4
_PAUSE_UNLESS_RUNG = 2e-2  # longer than whoever is at work needs for what is posted
_SERVING_SECONDS = 5e-2
_LINGERING_SECONDS = 3e-4  # those who were served come again sooner than that
_CACHE_KIB = 1 << 16  # a pass over a hundred thousand claims changes rows on most pages of their table

R = TypeVar("R")
T = TypeVar("T")

_MADE = "SELECT request_id FROM claims WHERE request_id IN ({})"
_TEXTS = Texts(sqlite_dialect.dialect(paramstyle="named"))


class _AtOnce:
    """Runs each statement when it is asked for: nothing is far away."""

    def __init__(self, cursor: sqlite3.Cursor, name: str) -> None:
        self._cursor, self._name = cursor, name

    def ahead(self, statement: ClauseElement, parameters: Parameters) -> None:
        """Nothing is gained by asking early."""

    def rows(self, statement: ClauseElement, parameters: Parameters) -> list[Row]:
        """Every row of a query."""
        text, (every,) = _TEXTS.of(statement, parameters)
        return self._cursor.execute(text, every).fetchall()

    def write(self, statement: ClauseElement, every: Sequence[Parameters], changes: int | None) -> None:
        """Run a statement with each of these parameters."""
        text, every = _TEXTS.of(statement, *every)
        done = self._cursor.connection.executemany(text, every)  # a cursor that stays would keep the file open
        if changes is not None and done.rowcount != changes * len(every):
            raise unruly(self._name)


class SQLiteStore:
    """An open ledger file.

    Invariant: every write goes to the file that stands at `path` now, never to one that was deleted or replaced since.
    Safe to share between threads; a forked child must open its own.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open an existing ledger; one of an older schema version is brought to this one.

        Args:
            path: the file.
            clock: seconds since the epoch.

        Raises:
            LedgerMissing: no such file.
            LedgerError: not a ledger, an unknown schema version, or a network file system.
        """
        self.path = _ledger_path(path)
        self._name = str(self.path)
        if not self.path.is_file():
            raise _missing(self.path)
        refuse_network_file_system(self.path)
        self._identity = _file_identity(self._name)
        self._process = os.getpid()
        self._clock = clock
        self._lock = threading.RLock()
        self._board = Board(self.path.with_name(self.path.name + _BOARD), _BUSY_SECONDS)
        self._connection = _opened(self.path)
        self._runner = _AtOnce(self._connection.cursor(), self._name)
        try:
            self._check_header()
            _make_durable(self._connection)
            self._migrate()
            self._connection.execute("PRAGMA busy_timeout = 0")  # from here on `_begin` waits
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except sqlite3.Error as error:
            self._connection.close()
            raise LedgerError(self.path, f"not a ledger ({error})", "give the path of a ledger file") from None
        except SQLAlchemyError as error:
            self._connection.close()
            problem = f"cannot be brought to schema version {_SCHEMA_VERSION} ({error.__cause__ or error})"
            raise LedgerError(self.path, problem, "it is as it was: see to the disk, then open it again") from None
        except LedgerError:
            self._connection.close()
            raise

    @staticmethod
    def create(path: Path, clock: Clock, found: Callable[[Transaction], None]) -> None:
        """Write a new ledger file that only its owner may read; it appears at `path` complete or not at all.

        Args:
            path: of the file.
            clock: seconds since the epoch.
            found: writes what a new ledger holds.

        Raises:
            LedgerError: something stands there already, the directory is missing, or a network file system.
        """
        path = _ledger_path(path)
        if not path.parent.is_dir():
            raise LedgerError(path, "its directory does not exist", "make the directory first")
        refuse_network_file_system(path)
        _refuse_leftovers(path)
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".ledger-") as scratch:
                draft = Path(scratch) / "draft"
                _write_draft(draft, clock, found)
                _publish(draft, path)
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            raise LedgerError(
                path, f"cannot be created ({error.__cause__ or error})", "choose a writable local disk"
            ) from None

    @property
    def name(self) -> str:
        """The file."""
        return self._name

    @property
    def has_steps(self) -> bool:
        """A file has no procedures."""
        return False

    def close(self) -> None:
        """Close the file; what was acknowledged is on disk already."""
        with self._lock if os.getpid() == self._process else contextlib.nullcontext():  # a fork may hold it for ever
            self._connection.close()
            self._board.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Everything inside happens at once and durably, or not at all.

        Raises:
            LedgerMissing: the file was deleted since it was opened.
            LedgerError: it was replaced, it stayed busy, or SQLite failed (a full disk).
        """
        with self._at_work():
            self._begin()
            yield self._begun()
            self._commit()
            self._board.ring()

    def together(self, errand: Errand[T]) -> T:
        """Do something that another process may do as well; as `Store.together`."""
        with self._at_work():
            end, posting, secret, heard = time.monotonic() + _BUSY_SECONDS, False, "", Heard(free=True)
            try:
                if errand.post is not None and self._board.served():  # the lock is hardly free
                    posting = True
                    secret = self._board.post(errand.post)
                    if self._board.served():  # and will see what was posted
                        heard = self._wait(secret)
                while True:
                    if secret and not heard.free:
                        found = self._found(errand, heard)
                        if found is not None:
                            return found
                        secret = ""  # its line was taken, or is late
                    if self._lock_taken():
                        return self._led(errand)
                    if errand.post is not None and not secret:
                        posting = True
                        secret = self._board.post(errand.post)
                        if self._lock_taken():  # nobody is at work any more who could have seen it
                            return self._led(errand)
                    if time.monotonic() > end:
                        raise self._busy()
                    heard = self._wait(secret)
            except BaseException:
                self._board.unseen()
                if posting:  # whoever hears of a refusal or an error does not expect it to be made later
                    self._board.clear()
                raise

    def at_once(self, step: str, *arguments: Any) -> Row | None:
        """A file has no procedures."""
        return None

    def _wait(self, secret: str) -> Heard:
        return self._board.wait(_PAUSE_UNLESS_RUNG if secret else _PAUSE_SECONDS, secret)

    def _found(self, errand: Errand[T], heard: Heard) -> T | None:
        """What came of it at somebody else's hands: as he tells, otherwise as the ledger shows."""
        self._check_in_place()
        if heard.number is not None:
            return errand.told(heard.number, heard.at)
        try:
            return errand.look(self._transaction())
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return None

    def _led(self, errand: Errand[T]) -> T:
        """Do it under the lock, with what others posted; then serve them for a while, as they come again at once."""
        with self._board.serving() as seen:  # from before those are told who come again at once
            done, made = self._lot(errand.lead)
            if made:
                self._serve(errand, seen)
        self._board.ring()
        return done

    def _serve(self, errand: Errand[T], seen: Callable[[], None]) -> None:
        """Do what others post, as long as more comes, but not for long: this process has work of its own."""
        end = time.monotonic() + _SERVING_SECONDS
        try:
            while time.monotonic() < end and self._board.awaited(_LINGERING_SECONDS) and self._lock_taken():
                seen()
                _, made = self._lot(lambda tx, posts: (None, errand.serve(tx, posts)))
                if not made:
                    break
        except Exception:  # what this process wanted is done: who comes next may meet the same
            self._roll_back()

    def _lot(self, do: Callable[[Transaction, Posts], tuple[R, Made]]) -> tuple[R, Made]:
        """One transaction under the lock that was taken, then tell those whose posts it took."""
        taken: list[Posted] = []

        def posts() -> Iterator[Post]:
            for lot in self._board.take():
                taken.extend(lot)
                yield from self._unmade([posted.post for posted in lot])

        try:
            tx = self._begun()
            done, made = do(tx, posts)
            self._commit()
        except BaseException:
            self._board.clear()  # whoever hears of a refusal or an error does not expect its post to be made later
            self._roll_back()
            self._board.tell(taken, {}, 0.0)
            raise
        self._board.tell(taken, made, tx.now)
        return done, made

    def _commit(self) -> None:
        """What was written is on the disk, in the file that stands at its path: nobody hears of it before."""
        self._connection.execute("COMMIT")
        self._check_in_place()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """This process and thread alone use the connection; what is not committed at the end is undone."""
        if os.getpid() != self._process:
            raise LedgerError(self.path, "this handle belongs to the parent process", "open the ledger in the child")
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                self._roll_back()
                raise LedgerError(self.path, f"SQLite failed ({error})", "see to the disk, then try again") from None
            except BaseException:
                self._roll_back()
                raise

    def _begin(self) -> None:
        """Take the lock; it comes first, so that no check is made on a state that is then lost."""
        end = time.monotonic() + _BUSY_SECONDS
        while not self._lock_taken():
            if time.monotonic() > end:
                raise self._busy()
            self._board.wait(_PAUSE_SECONDS)

    def _lock_taken(self) -> bool:
        """Begin a transaction that writes, unless another one is at work."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return False
        return True

    def _begun(self) -> Transaction:
        self._check_in_place()
        return self._transaction()

    def _transaction(self) -> Transaction:
        return Transaction(self._runner, self._clock())

    def _busy(self) -> LedgerError:
        problem = f"locked by another process for {_BUSY_SECONDS:.0f} s"
        return LedgerError(self.path, problem, "see who holds it, then try again")

    def _unmade(self, posts: Sequence[Post]) -> list[Post]:
        """Those of claims that are not there yet."""
        asked = [post.request_id for post in posts]
        made = {there for (there,) in self._connection.execute(_MADE.format(", ".join("?" * len(asked))), asked)}
        return [post for post in posts if post.request_id not in made]

    def _roll_back(self) -> None:
        """Undo what was not committed; nothing to do where it was."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _migrate(self) -> None:
        """All steps in one transaction: of processes that open an old ledger together one takes them, or nobody."""
        if self._version() == _SCHEMA_VERSION:
            return
        with self._lock, _alchemy(self._connection) as connection:
            self._begin()
            connection.begin()  # says that a transaction is open: otherwise Alembic begins its own, and commits it
            self._check_header()  # again, under the lock: another process may have been here
            brought_up(connection, f"{self._version():04}")
            connection.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.commit()

    def _version(self) -> int:
        found: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        return found

    def _check_header(self) -> None:
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        found = self._version()
        if application != _APPLICATION_ID:
            raise LedgerError(self.path, "not a ledger", "give the path of a ledger file")
        if found not in range(1, _SCHEMA_VERSION + 1):
            problem = f"has schema version {found}, this library reads 1 to {_SCHEMA_VERSION}"
            raise LedgerError(self.path, problem, "use the version of spark-mpc that wrote it")

    def _check_in_place(self) -> None:
        """A deleted file still takes writes, and forgets them: look before every transaction, and after it."""
        try:
            identity = _file_identity(self._name)
        except FileNotFoundError:
            raise _missing(self.path) from None
        except OSError as error:
            raise LedgerError(self.path, f"cannot be looked at ({error.strerror})", "see to the disk") from None
        if identity != self._identity:
            raise LedgerError(self.path, "was replaced since it was opened", "open it again")


def _ledger_path(path: Path) -> Path:
    """Where it lies; not where another ledger has its board."""
    resolved = path.resolve()
    if resolved.name.endswith(_BOARD):
        raise LedgerError(resolved, f"ends in {_BOARD!r}, as the board of another ledger does", "choose another name")
    return resolved


def _missing(path: Path) -> LedgerMissing:
    return LedgerMissing(path, "there is no such file", "ask its steward to create it, or to restore it from a backup")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _file_identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  Path.stat() takes twice as long, and every debit looks
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, without implicit transactions."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_OPEN_SECONDS, check_same_thread=False
    )


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.Error as error:
        raise LedgerError(path, f"cannot be opened ({error})", "check its permissions") from None


def _make_durable(connection: sqlite3.Connection) -> None:
    """A commit returns after its log is on the disk; what is deleted is overwritten."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")


@contextlib.contextmanager
def _alchemy(connection: sqlite3.Connection) -> Iterator[Connection]:
    """The same connection for SQLAlchemy; what it does not commit is rolled back."""
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as shared:
        yield shared


def _write_draft(draft: Path, clock: Clock, found: Callable[[Transaction], None]) -> None:
    draft.touch(mode=0o600)
    with contextlib.closing(_connect(draft)) as connection:
        _make_durable(connection)
        with _alchemy(connection) as shared:
            made(shared)
            shared.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
            shared.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            shared.commit()
        found(Transaction(_AtOnce(connection.cursor(), str(draft)), clock()))


def _refuse_leftovers(path: Path) -> None:
    """SQLite would replay the log of a ledger that was deleted into a new one of the same name."""
    if path.exists():
        raise _taken(path)
    for suffix in ("-wal", "-shm", "-journal"):
        leftover = path.with_name(path.name + suffix)
        if leftover.exists():
            problem = f"{leftover.name!r} of an earlier ledger is still there"
            raise LedgerError(path, problem, "find out what became of that ledger, then choose another path")


def _taken(path: Path) -> LedgerError:
    return LedgerError(path, "exists already", "open it, or choose another path: a ledger is never reset")


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name; a link, unlike a rename, fails where something stands already."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise _taken(path) from None
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
