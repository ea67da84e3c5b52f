"""A store under a ledger: one transaction at a time, and an audit log that every change is written to.

SQLAlchemy writes each statement once for each dialect; the driver's own cursor runs it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import ClauseElement, Dialect, bindparam, exists, func, insert, select

from lake.errors import LedgerError
from lake.ledger.schema import HOLDING, audit, claims, ledger

__all__ = [
    "GENESIS",
    "START",
    "Clock",
    "Errand",
    "Head",
    "Made",
    "Parameters",
    "Post",
    "Posts",
    "Row",
    "Runner",
    "Start",
    "Store",
    "Texts",
    "Transaction",
    "chained",
    "unruly",
]

Clock = Callable[[], float]
"""Seconds since the epoch."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Row = tuple[Any, ...]
Parameters = Mapping[str, Any]

START = select(
    ledger.c.settings,
    ledger.c.passed,
    select(func.max(claims.c.number)).scalar_subquery(),
    exists().where(claims.c.state == "waiting"),
    *(
        select(func.min(claims.c.lease_expires_at)).where(claims.c.state == state).scalar_subquery()
        for state in HOLDING
    ),
    select(func.max(audit.c.sequence)).scalar_subquery(),
    select(audit.c.hash).order_by(audit.c.sequence.desc()).limit(1).scalar_subquery(),
)
"""What `Transaction.start` reads."""
_JSON = json.JSONEncoder(sort_keys=True)
_MANY = 500
_APPEND = insert(audit).values({column: bindparam(column.name) for column in audit.columns})


@dataclass(frozen=True)
class Head:
    """Where an audit log ends: whoever keeps it notices a ledger that was set back.

    Attributes:
        sequence: the number of the last event; 0 before the first.
        hash: of the whole log up to it, hexadecimal.
    """

    sequence: int
    hash: str


GENESIS = Head(0, "")
"""Of a log without an event."""


def chained(previous: str, event: str) -> str:
    """The hash of an event that follows the event of hash `previous`."""
    return hashlib.sha256(f"{previous}\n{event}".encode()).hexdigest()


class Texts:
    """Statements as text of one dialect, made once each; statements are constants of their modules."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[int, tuple[ClauseElement, str, Parameters]] = {}

    def of(self, statement: ClauseElement, *every: Parameters) -> tuple[str, Sequence[Parameters]]:
        """The text that the driver takes, and its parameters, with those that the statement itself sets."""
        found = self._texts.get(id(statement))
        if found is None:
            found = (statement, *self._made(statement))  # kept alive: so the id stays its own
            self._texts[id(statement)] = found
        _, text, own = found
        return text, [{**own, **parameters} for parameters in every] if own else every

    def _made(self, statement: ClauseElement) -> tuple[str, Parameters]:
        compiled: Any = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        own = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
        return str(compiled), own


class Runner(Protocol):
    """How a store runs statements within a transaction; it may put off what nobody waits for."""

    def ahead(self, statement: ClauseElement, parameters: Parameters) -> None:
        """Say that a query will be asked soon: a store far away can send it with others."""

    def rows(self, statement: ClauseElement, parameters: Parameters) -> list[Row]:
        """Every row of a query, after all that was written before it."""

    def write(self, statement: ClauseElement, every: Sequence[Parameters], changes: int | None) -> None:
        """Run a statement with each of these parameters.

        Args:
            statement: the statement.
            every: the parameters of each run.
            changes: how many rows each run changes, and none could change more; fewer end the transaction. None: any.
        """


class Post(NamedTuple):
    """A claim that is to be made, as others see it.

    Attributes:
        request_id: of the claim.
        content: what else is asked, as plain values of JSON.
        secret: of this post, once it is one: who tells it has read the post.
    """

    request_id: str
    content: list[Any]
    secret: str = ""

    def __repr__(self) -> str:
        return f"Post({self.request_id!r})"


Posts = Callable[[], Iterable[Post]]
"""Takes what others posted, of claims that are not there yet; more may come while it is read."""

Made = Mapping[str, int]
"""The numbers of claims that were made of posts, by the secrets of these."""


@dataclass
class Start:
    """What most transactions need to know first.

    Attributes:
        settings: the steward's, as JSON.
        passed: where the audit log ended at the scheduler's last pass.
        last_claim: the number of the newest claim; 0 before the first.
        anybody_waits: whether a claim waits to be granted.
        next_end: when the first of the leases ends, in seconds since the epoch.
        head: where the audit log ends.
    """

    settings: str
    passed: int
    last_claim: int
    anybody_waits: bool
    next_end: float
    head: Head


class Transaction:
    """What one transition reads and writes; nobody else's transition is at work meanwhile.

    Attributes:
        now: when it began, in seconds since the epoch.
    """

    def __init__(self, runner: Runner, now: float) -> None:
        """Made by a store, which holds the lock."""
        self.now = now
        self._runner = runner
        self._start: Start | None = None

    @property
    def start(self) -> Start:
        """How the ledger stood when the transaction began; `record` and `new_claim` keep it up to date."""
        if self._start is None:
            ((settings, passed, last_claim, anybody_waits, *ends, sequence, digest),) = self.rows(START)
            next_end = min((end for end in ends if end is not None), default=math.inf)
            head = GENESIS if sequence is None else Head(sequence, digest)
            self._start = Start(settings, passed, last_claim or 0, bool(anybody_waits), next_end, head)
        return self._start

    def start_again(self) -> None:
        """Let `start` say how the ledger stands now: claims have ended."""
        self._start = None

    def ahead(self, statement: ClauseElement, **parameters: Any) -> None:
        """Say that this will be asked for by `rows`, word for word, before anything is written."""
        self._runner.ahead(statement, parameters)

    def rows(self, statement: ClauseElement, **parameters: Any) -> list[Row]:
        """Every row of a query."""
        return self._runner.rows(statement, parameters)

    def row(self, statement: ClauseElement, **parameters: Any) -> Row | None:
        """The first row, if there is one."""
        return next(iter(self.rows(statement, **parameters)), None)

    def write(self, statement: ClauseElement, **parameters: Any) -> None:
        """Run a statement that changes any number of rows."""
        self._runner.write(statement, [parameters], None)

    def write_one(self, statement: ClauseElement, **parameters: Any) -> None:
        """Run a statement that changes one row, which it names by its key.

        Raises:
            LedgerError: it changed none, so somebody else did who does not keep to the rules; now, or when the
                transaction ends.
        """
        self._runner.write(statement, [parameters], 1)

    def write_each(self, statement: ClauseElement, every: Sequence[Parameters]) -> None:
        """Run a statement with each of these parameters; as `write`."""
        self._runner.write(statement, every, None)

    def write_one_each(self, statement: ClauseElement, every: Sequence[Parameters]) -> None:
        """Run a statement with each of these parameters, as `write_one` does."""
        self._runner.write(statement, every, 1)

    def head(self) -> Head:
        """Where the audit log ends."""
        return self.start.head

    def new_claim(self, waits: bool) -> int:
        """The next number of a claim: whoever asks uses it, for one that waits or for one that does not."""
        start = self.start
        start.last_claim += 1
        start.anybody_waits = start.anybody_waits or waits
        return start.last_claim

    def record(self, kind: str, **event: Any) -> None:
        """Append one event to the audit log.

        Args:
            kind: what happened, such as "armed".
            event: to whom; values of JSON, nothing secret.
        """
        self._append([_JSON.encode({"event": kind, **event, "at": self.now})])

    def record_said(self, events: Iterable[str]) -> None:
        """Append one event after the other to the audit log; as `record`.

        Args:
            events: of the JSON of each, all but the brackets and the time; names in order.
        """
        at = _JSON.encode(self.now)
        self._append(f'{{"at": {at}, {said}}}' for said in events)

    def _append(self, events: Iterable[str]) -> None:
        sequence, digest = self.start.head.sequence, self.start.head.hash
        lines: list[Parameters] = []
        for event in events:
            sequence, digest = sequence + 1, chained(digest, event)
            lines.append({"at": self.now, "event": event, "sequence": sequence, "hash": digest})
            if len(lines) == _MANY:  # of more at once Python's garbage collection would look through all that there is
                self._runner.write(_APPEND, lines, None)
                lines = []
        self.start.head = Head(sequence, digest)
        if lines:
            self._runner.write(_APPEND, lines, None)


def unruly(name: str) -> LedgerError:
    """What to tell when a row is not as it was read, under a lock that everybody takes."""
    return LedgerError(name, "was changed by another program meanwhile", "find out by which; nothing was done here")


class Errand(Protocol[T_co]):
    """Something that one process wants done, and another may do for it."""

    @property
    def post(self) -> Post | None:
        """What is to be done, for others; None if only this process can. It may be lost, then it is done here."""

    def look(self, tx: Transaction) -> T_co | None:
        """Whether it was done already, by one query; None: not yet."""

    def lead(self, tx: Transaction, posts: Posts) -> tuple[T_co, Made]:
        """Look, and if it was not done, do it; then ask what others posted, to the end, and do what is surely granted.

        Returns:
            What came of it, and what was made of posts. If it raises, nothing was done.
        """

    def serve(self, tx: Transaction, posts: Posts) -> Made:
        """Do what is surely granted of others' posts, and nothing of its own."""

    def told(self, number: int, at: float) -> T_co:
        """What came of it if somebody else made the claim of that number at that time of exactly this post."""


class Store(Protocol):
    """Where a ledger is kept."""

    @property
    def name(self) -> str:
        """The store as errors and people name it; shows no password."""

    @property
    def has_steps(self) -> bool:
        """Whether `at_once` can take a step."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Everything inside happens at once and durably, or not at all; transactions come one after another.

        Raises:
            LedgerMissing: the store is gone.
            LedgerError: it stayed busy, or failed; nothing was changed; or a file was moved meanwhile, and what was
                changed went with it.
        """

    def together(self, errand: Errand[T]) -> T:
        """Do something that another process may do as well, in one durable transaction of either.

        While another one is at work the post is shown to it and to those that come after it; one of them may do it,
        with its own and others', which costs all of them one transaction. Whoever is at work goes on for a moment as
        long as others come, so the call may take longer than its own transaction.

        Raises:
            LedgerMissing: the store is gone.
            LedgerError: it stayed busy, or failed; unless another process did it, nothing was changed; or a file was
                moved meanwhile, and what was changed went with it.
        """

    def at_once(self, step: str, *arguments: Any) -> Row | None:
        """Take a step of a claim by a procedure of the store's own, durably, if nothing stands in its way.

        Args:
            step: the procedure.
            arguments: what it takes between the time, which the store tells it, and its answer.

        Returns:
            The time, and the answer as text. None: nothing was done, or this store has no procedures: a transaction
            is needed.

        Raises:
            LedgerMissing: the store is gone.
            LedgerError: it stayed busy, or failed; it is not known whether the step was taken.
        """

    def close(self) -> None:
        """Close it; what was acknowledged is durable already."""
