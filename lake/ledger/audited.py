"""What auditors, peers and mirrors ask a ledger: its events, their proof, and where they end."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import SparkSession

from lake.ledger.audit import Event, contains, events_after
from lake.ledger.heads import PeerHead, heads_of_peers, keep_newest
from lake.ledger.mirror import check_mirror, mirror
from lake.ledger.proof import all_tables, proved
from lake.ledger.store import Head, Store

__all__ = ["AuditedLedger"]


class AuditedLedger:
    """The audit log of a ledger.

    Guarantees:
        Every change of the ledger is an event, written with it or not at all, and hashed with all events before it.
        Whoever keeps a head notices when the ledger is set back to before it, however it went on from there.
    """

    def __init__(self, store: Store, ledger_id: str) -> None:
        self._store = store
        self._ledger_id = ledger_id

    @property
    def name(self) -> str:
        """The file, or the address without a password."""
        return self._store.name

    @property
    def ledger_id(self) -> str:
        """A random name, fixed when the ledger was created."""
        return self._ledger_id

    def head(self) -> Head:
        """Where the audit log ends."""
        with self._store.transaction() as tx:
            return tx.head()

    def events(self, after: int = 0) -> list[Event]:
        """The audit log.

        Args:
            after: the number of the event that is known already; 0 for all.
        """
        with self._store.transaction() as tx:
            return events_after(tx, after)

    def verify(self) -> Head:
        """Carry the audit log out again, and compare with the ledger: every block's and every claim's amounts, prices
        and states; layouts, settings, approvals; which releases are stored. Unlocked shares, leases and the contents
        of releases and vectors are not in the log.

        Returns:
            Where the log ends; compare it with what peers and mirrors have seen.

        Raises:
            LedgerError: an event is missing or was changed, or the ledger holds something else than its events say;
                names the first such event.
        """
        with self._store.transaction() as tx:
            found = all_tables(tx, self.name)
        return proved(found, self.name)  # others go on meanwhile

    def check_head(self, head: Head, whose: str) -> None:
        """Check that the audit log once ended where somebody saw it end.

        Args:
            head: what was seen.
            whose: who saw it, for the error.

        Raises:
            LedgerBehind: the log is shorter, or has another event there: an older copy of the ledger was restored.
        """
        with self._store.transaction() as tx:
            contains(tx, self.name, head, whose)

    def peer_heads(self) -> list[PeerHead]:
        """Of every ledger of a peer, the newest head that was seen; by party, the ledger seen last at the end."""
        with self._store.transaction() as tx:
            return heads_of_peers(tx)

    def keep_heads(self, seen: Iterable[PeerHead]) -> None:
        """Keep the heads of peers' ledgers, each if it is newer than what is kept of it."""
        with self._store.transaction() as tx:
            keep_newest(tx, seen)

    def mirror(self, spark: SparkSession, path: str) -> Head:
        """Append the events that a Delta table lacks, and make it where there is none.

        Safe to run by several at once, and again: every event stands there once. Columns: sequence, at, event, hash,
        ledger_id.

        Args:
            spark: a session with Delta.
            path: of the table; best where those who work with this ledger can only append.

        Returns:
            Where the mirror ends now.

        Raises:
            LedgerBehind: the mirror has seen what this ledger lacks.
            LedgerError: it mirrors another ledger, is no mirror, or cannot be written.
        """
        return mirror(self, spark, path)

    def check_mirror(self, spark: SparkSession, path: str) -> Head:
        """Check that the ledger holds what its mirror has seen; writes nothing.

        Args:
            spark: a session with Delta.
            path: of the mirror.

        Returns:
            Where the mirror ends.

        Raises:
            LedgerBehind: the mirror has seen what this ledger lacks.
            LedgerError: there is no mirror, or it is another ledger's.
        """
        return check_mirror(self, spark, path)
