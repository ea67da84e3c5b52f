"""What `lake` offers, pinned."""

from __future__ import annotations

import lake


def test_exports_are_pinned() -> None:
    assert lake.__all__ == [
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
    assert all(hasattr(lake, name) for name in lake.__all__)
