"""Where a party's data and budget live: Delta tables at a pinned version, declared public facts, the privacy ledger."""

from lake.blocks import TIME, USERS, Block, Blocks, Selector, user_ranges
from lake.errors import (
    ApprovalNeeded,
    ClaimLost,
    DisclosureRefused,
    LeaseExpired,
    LedgerBehind,
    LedgerError,
    LedgerMissing,
    SessionError,
    VersionUnavailable,
)
from lake.ledger import Balance, BlockState, Head, Ledger, OpenClaim, Steward
from lake.policy import Policy
from lake.scheduling import DPF, AtOnce, ByArrivals, ByTime, DPack, FirstComeFirstServed, RoundRobin
from lake.sessions import delta_session, require_java, resolve_jars
from lake.table import Table

__all__ = [
    "DPF",
    "TIME",
    "USERS",
    "ApprovalNeeded",
    "AtOnce",
    "Balance",
    "Block",
    "BlockState",
    "Blocks",
    "ByArrivals",
    "ByTime",
    "ClaimLost",
    "DPack",
    "DisclosureRefused",
    "FirstComeFirstServed",
    "Head",
    "LeaseExpired",
    "Ledger",
    "LedgerBehind",
    "LedgerError",
    "LedgerMissing",
    "OpenClaim",
    "Policy",
    "RoundRobin",
    "Selector",
    "SessionError",
    "Steward",
    "Table",
    "VersionUnavailable",
    "delta_session",
    "require_java",
    "resolve_jars",
    "user_ranges",
]
