"""What is asked of us and of every peer, in the same words.

A peer is a process: it reads one request, and prints one line of JSON for every question. This module runs in the
environments of the peers, and imports nothing that they may lack.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TextIO

from benchmarks._measure import Cost, median_cost

__all__ = [
    "AGGREGATES",
    "CORES",
    "KEYS",
    "MAX_GROUPS",
    "MAX_ROWS",
    "MAX_TOTAL_ROWS",
    "VALUES",
    "Answer",
    "Ask",
    "Question",
    "Reply",
    "Request",
    "Unsupported",
    "replies",
    "serve",
]

KEYS = 1000
VALUES = (0, 100)
MAX_GROUPS, MAX_ROWS = 4, 4
MAX_TOTAL_ROWS = MAX_GROUPS * MAX_ROWS  # the same L1 sensitivity
AGGREGATES = ("count", "sum", "mean", "variance", "median")
CORES = 2

Answer = Mapping[str, Mapping[int, float]]
"""By aggregate: the released value of every released key."""


class Unsupported(Exception):
    """A peer has no such feature; says what it lacks."""


@dataclass(frozen=True)
class Question:
    """One release, grouped by key.

    Attributes:
        visits: folder of the Parquet files.
        aggregates: of AGGREGATES, on one budget.
        keys: "public" (0..KEYS - 1) or "private".
        bounds: "groups" (MAX_GROUPS with MAX_ROWS in each) or "rows" (MAX_TOTAL_ROWS, wherever).
        epsilon: for everything that is released.
        delta: 0 where keys are public.
    """

    visits: str
    aggregates: tuple[str, ...]
    keys: str
    bounds: str
    epsilon: float = 1.0
    delta: float = 0.0


Ask = Callable[[Question], Answer]
"""Releases the answer to a question; all of it is on the driver then. Raises Unsupported."""


@dataclass(frozen=True)
class Request:
    """What a peer is asked.

    Attributes:
        questions: one after another.
        warm_up: folder of a small table, of which every question is asked first, which does not count; "" for none.
        warm_up_seconds: no further warm-up of a question is begun after so many seconds.
        repetitions: of every question.
        most_seconds: no further repetition is begun after so many seconds.
    """

    questions: tuple[Question, ...]
    warm_up: str = ""
    warm_up_seconds: float = 0.0
    repetitions: int = 1
    most_seconds: float = float("inf")

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """What `to_json` wrote."""
        fields = json.loads(text)
        asked = (
            Question(**{**question, "aggregates": tuple(question["aggregates"])}) for question in fields["questions"]
        )
        return cls(**{**fields, "questions": tuple(asked)})


@dataclass(frozen=True)
class Reply:
    """What became of one question.

    Attributes:
        seconds: wall-clock time of each repetition.
        cpu_seconds: of the process with all its children, in each repetition; others' load hardly changes it.
        answers: of each repetition.
        unsupported: what is lacking, or "".
    """

    seconds: tuple[float, ...] = ()
    cpu_seconds: tuple[float, ...] = ()
    answers: tuple[Answer, ...] = ()
    unsupported: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """What `to_json` wrote; keys are numbers again."""
        fields = json.loads(text)
        answers = tuple(
            {name: {int(key): value for key, value in column.items()} for name, column in answer.items()}
            for answer in fields["answers"]
        )
        return cls(tuple(fields["seconds"]), tuple(fields["cpu_seconds"]), answers, fields["unsupported"])


def replies(ask: Ask, request: Request) -> Iterator[Reply]:
    """Ask all questions, each warmed up, timed, and repeated."""
    for question in request.questions:
        try:
            if request.warm_up:
                _warm_up(ask, replace(question, visits=request.warm_up), request.warm_up_seconds)
            yield _repeated(ask, question, request)
        except Unsupported as error:
            yield Reply(unsupported=str(error))


def _repeated(ask: Ask, question: Question, request: Request) -> Reply:
    costs: list[Cost] = []
    answers: list[Answer] = []
    while not costs or (len(costs) < request.repetitions and sum(c.seconds for c in costs) < request.most_seconds):
        costs.append(median_cost(lambda: answers.append(ask(question)), repetitions=1, warm_up=0))
    return Reply(tuple(c.seconds for c in costs), tuple(c.cpu_seconds for c in costs), tuple(answers))


def _warm_up(ask: Ask, question: Question, seconds: float) -> None:
    started = time.perf_counter()
    ask(question)
    while time.perf_counter() - started < seconds:
        ask(question)


def serve(open_peer: Callable[[], AbstractContextManager[Ask]]) -> None:
    """The main program of a peer: a request on standard input, replies on standard output."""
    request = Request.from_json(sys.stdin.readline())
    with _replies_only() as out, open_peer() as ask:
        for reply in replies(ask, request):
            print(reply.to_json(), file=out, flush=True)


@contextmanager
def _replies_only() -> Iterator[TextIO]:
    """Standard output for replies alone: whatever a peer or its JVM prints goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield out
