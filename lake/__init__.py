"""Where a party's data and budget live: Delta tables at a pinned version, declared public facts, the privacy ledger."""

from lake.errors import (
    ClaimLost,
    DisclosureRefused,
    LeaseExpired,
    LedgerError,
    LedgerMissing,
    SessionError,
    VersionUnavailable,
)
from lake.ledger import Balance, Ledger
from lake.policy import Policy
from lake.sessions import delta_session, require_java, resolve_jars
from lake.table import Table

__all__ = [
    "Balance",
    "ClaimLost",
    "DisclosureRefused",
    "LeaseExpired",
    "Ledger",
    "LedgerError",
    "LedgerMissing",
    "Policy",
    "SessionError",
    "Table",
    "VersionUnavailable",
    "delta_session",
    "require_java",
    "resolve_jars",
]
