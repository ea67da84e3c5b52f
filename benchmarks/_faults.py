"""Stores in which things go wrong at a chosen point.

A point lies before a transaction, before each of its statements, before its COMMIT, and after it (before the caller
hears of it); before and after a call of a procedure.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from sqlalchemy import ClauseElement

from lake.ledger.postgres import PostgresStore, is_address
from lake.ledger.sqlite import SQLiteStore
from lake.ledger.store import Clock, Errand, Made, Parameters, Posts, Row, Runner, Store, Transaction

__all__ = ["Abandoned", "Faulty", "Fuse", "Thrown", "kill", "store_of", "throw"]


T = TypeVar("T")


class Abandoned(BaseException):
    """The process is gone; whatever is left of it in this one must not run on."""


class Thrown(Exception):
    """Something went wrong in the middle of a transaction, and the process lives on."""


@dataclass
class Fuse:
    """Goes off once, at the point that is so many points away.

    Attributes:
        points: how many more are passed before that; None: it does not burn.
        effect: what happens then.
    """

    points: int | None = None
    effect: Callable[[], NoReturn] | None = None

    def set(self, points: int, effect: Callable[[], NoReturn]) -> None:
        """Let it burn."""
        self.points, self.effect = points, effect

    def point(self) -> None:
        """One point is passed."""
        if self.points is None or self.effect is None:
            return
        if self.points == 0:
            self.points = None
            self.effect()
        self.points -= 1


class Faulty:
    """A store with a fuse in its transactions."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        """Run the transactions of `store`."""
        self._store, self._fuse = store, fuse

    @property
    def name(self) -> str:
        """The store's."""
        return self._store.name

    @property
    def has_steps(self) -> bool:
        """The store's."""
        return self._store.has_steps

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction of the store."""
        self._fuse.point()
        with self._store.transaction() as tx:
            yield self._watched(tx)
            self._fuse.point()
        self._fuse.point()

    def together(self, errand: Errand[T]) -> T:
        """One transaction of the store, or what another process did."""
        self._fuse.point()
        done = self._store.together(_WatchedErrand(errand, self._watched, self._fuse.point))
        self._fuse.point()
        return done

    def at_once(self, step: str, *arguments: Any) -> Row | None:
        """One call of a procedure of the store."""
        self._fuse.point()
        done = self._store.at_once(step, *arguments)
        if done is not None:
            self._fuse.point()
        return done

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _watched(self, tx: Transaction) -> Transaction:
        return Transaction(_Watched(tx._runner, self._fuse.point), tx.now)


class _WatchedErrand(Generic[T]):
    """An errand whose transactions are watched."""

    def __init__(
        self, errand: Errand[T], watched: Callable[[Transaction], Transaction], point: Callable[[], None]
    ) -> None:
        self._errand, self._watched, self._point = errand, watched, point
        self.post, self.look, self.told = errand.post, errand.look, errand.told

    def lead(self, tx: Transaction, posts: Posts) -> tuple[T, Made]:
        """Pass it on, and a point before what follows."""
        done = self._errand.lead(self._watched(tx), posts)
        self._point()
        return done

    def serve(self, tx: Transaction, posts: Posts) -> Made:
        """Pass it on, and a point before what follows."""
        made = self._errand.serve(self._watched(tx), posts)
        self._point()
        return made


class _Watched:
    """A runner that passes a point before each statement."""

    def __init__(self, runner: Runner, point: Callable[[], None]) -> None:
        self._runner, self._point = runner, point

    def ahead(self, statement: ClauseElement, parameters: Parameters) -> None:
        """Pass it on."""
        self._runner.ahead(statement, parameters)

    def rows(self, statement: ClauseElement, parameters: Parameters) -> list[Row]:
        """Pass it on."""
        self._point()
        return self._runner.rows(statement, parameters)

    def write(self, statement: ClauseElement, every: Sequence[Parameters], changes: int | None) -> None:
        """Pass it on, one by one."""
        for parameters in every:
            self._point()
            self._runner.write(statement, [parameters], changes)


def store_of(where: str, clock: Clock) -> Store:
    """The store of an existing ledger, over a new connection."""
    return PostgresStore(where, clock) if is_address(where) else SQLiteStore(Path(where), clock)


def throw() -> NoReturn:
    """Go on after an exception."""
    raise Thrown("thrown into a transaction")


def kill() -> NoReturn:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process does not go on")
