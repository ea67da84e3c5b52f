"""Runs without Spark: the noised vector is paid for already; the rest is the real path."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import Claim, Resumable
from dp.execution.one_lake import Source
from lake.ledger.heads import PeerHead
from lake.ledger.store import GENESIS, Head

__all__ = ["PaidLedger", "UnseenLedger", "sparkless_source"]


class UnseenLedger:
    """A ledger that nobody has seen before, and that has seen nobody's."""

    def __init__(self) -> None:
        self.ledger_id = secrets.token_hex(16)

    def head(self) -> Head:
        return Head(1, 32 * "ab")

    def check_head(self, head: Head, whose: str) -> None:
        assert head == GENESIS

    def peer_heads(self) -> list[PeerHead]:
        return []

    def keep_heads(self, seen: Iterable[PeerHead]) -> None:
        """Forgotten."""


class PaidLedger(UnseenLedger):
    """A ledger that has paid for whatever is asked; it forgets what is committed, so that every run is a whole one.

    Attributes:
        noised: the vector that a test gives it to send.
        committed: the last release.
        stored: a release that it had from the start, or None.
    """

    def __init__(self, stored: bytes | None = None) -> None:
        self.noised, self.committed, self.stored = b"", b"", stored
        super().__init__()

    @property
    def capacity(self) -> Budget:
        return PureDP(1)

    def stored_release(self, release_key: str) -> bytes | None:
        return self.stored

    def resumable(self, release_key: str) -> Resumable | None:
        if self.stored is not None:
            return None
        return Resumable(Claim("claim", "ledger", "request", PureDP(1), release_key, 1, 0.0, 60.0), self.noised)

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        self.committed = release or b""


class _NoSpark:
    """Shows releases as the Arrow tables that they are."""

    def createDataFrame(self, table: pa.Table) -> pa.Table:
        return table


def sparkless_source() -> Source:
    """Rows that nobody reads."""
    spark: Any = _NoSpark()
    rows: Any = None
    return Source(spark, rows, "claims", "claims@1", 2)
