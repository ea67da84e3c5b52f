"""What `lake` offers, pinned."""

from __future__ import annotations

import lake


def test_exports_are_pinned() -> None:
    assert lake.__all__ == [
        "TIME",
        "USERS",
        "Balance",
        "Block",
        "Blocks",
        "ClaimLost",
        "DisclosureRefused",
        "LeaseExpired",
        "Ledger",
        "LedgerError",
        "LedgerMissing",
        "Policy",
        "Selector",
        "SessionError",
        "Table",
        "VersionUnavailable",
        "delta_session",
        "require_java",
        "resolve_jars",
        "user_ranges",
    ]
    assert all(hasattr(lake, name) for name in lake.__all__)
