"""Runs without Spark: the noised vector is paid for already; the rest is the real path."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import Claim, Resumable
from dp.execution.one_lake import Source

__all__ = ["PaidLedger", "sparkless_source"]


class PaidLedger:
    """A ledger that has paid for whatever is asked; it forgets what is committed, so that every run is a whole one.

    Attributes:
        noised: the vector that a test gives it to send.
        committed: the last release.
        stored: a release that it had from the start, or None.
    """

    def __init__(self, stored: bytes | None = None) -> None:
        self.noised, self.committed, self.stored = b"", b"", stored

    @property
    def capacity(self) -> Budget:
        return PureDP(1)

    def stored_release(self, release_key: str) -> bytes | None:
        return self.stored

    def resumable(self, release_key: str) -> Resumable | None:
        if self.stored is not None:
            return None
        return Resumable(Claim("claim", "ledger", "request", PureDP(1), release_key, 1, 0.0), self.noised)

    def commit(self, claim: Claim, release: bytes | None) -> None:
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
