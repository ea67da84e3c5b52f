"""Posting claims to the board of a ledger file, as other processes do."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks._ledger_audit import Auditor
from dp.accounting.budget import PureDP
from lake.ledger import Ledger
from lake.ledger.board import Board
from lake.ledger.posts import written_post
from lake.ledger.rows import Request
from lake.ledger.schema import claims
from lake.ledger.selection import Named
from lake.ledger.store import Post
from tests.lake.claiming import VISITS
from tests.tools.ledgers import Place

__all__ = ["ASKED", "at_work", "beside", "check", "file_place", "moments", "posted", "put", "requests"]

ASKED = Request("theirs", 60, table="visits", data_version="t@3", release_key="key", run_id="run", purpose="a test")
"""As `tests.tools.ledgers.reserve` asks it."""

_REQUESTS = select(claims.c.request_id).order_by(claims.c.number)


@pytest.fixture
def file_place(tmp_path: Path) -> Place:
    """Fresh places for files: a server has no board."""
    names = (f"ledger_{number}" for number in itertools.count())
    return lambda: str(tmp_path / next(names))


def check(ledger: Ledger) -> None:
    assert Auditor(ledger._store).look().problems == ()
    assert ledger.verify() == ledger.head()


def posted(ledger: Ledger, request_id: str, price: str = "0.1", *blocks: str, **fields: Any) -> Post:
    """What a process writes that asks for what `reserve` asks for (of blocks, for what `pay` does)."""
    choice = Named(blocks or ("whole",), PureDP(price), "")
    request = replace(ASKED, request_id=request_id, **fields)
    if blocks:
        choice = replace(choice, layout=VISITS.fingerprint)
        request = replace(request, lease_seconds=30, release_key=f"key of {request_id}")
    post = written_post(ledger.ledger_id, ledger.capacity, request, choice)
    assert post is not None
    return post


def put(ledger: Ledger, *posts: Post) -> None:
    """Post as other processes do."""
    with contextlib.closing(Board(beside(ledger), 30)) as board:
        for post in posts:
            board.post(post)


def beside(ledger: Ledger) -> Path:
    """Where the board of a ledger is."""
    return Path(f"{ledger.name}-board")


@contextlib.contextmanager
def at_work(ledger: Ledger) -> Iterator[Callable[[int], None]]:
    """Hold the lock; gives what waits until so many have posted."""

    def until(number: int) -> None:
        end = time.monotonic() + 20
        while not beside(ledger).exists() or beside(ledger).read_bytes().count(b"\n") < number:
            assert time.monotonic() < end
            time.sleep(0.005)

    with ledger._store.transaction():
        yield until


def requests(ledger: Ledger) -> list[str]:
    """Of every claim, oldest first."""
    with ledger._store.transaction() as tx:
        return [request_id for (request_id,) in tx.rows(_REQUESTS)]


def moments(ledger: Ledger) -> list[float]:
    """When each claim was made: those of one transaction have one moment, if the clock runs."""
    return [event.at for event in ledger.events() if event.fields["event"] == "reserved"]
