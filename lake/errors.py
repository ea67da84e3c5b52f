"""Errors of tables, ledgers and local sessions.

SparkMpcError
 +- LedgerError            the ledger cannot be used: not ours, wrong version, busy, on a network file system
 |   +- LedgerMissing      no ledger at that path; jobs never create one
 |   +- LedgerBehind       it lacks what a peer or a mirror has seen of it: an older copy was restored
 |   +- ApprovalNeeded     the steward has to agree first
 |   +- ClaimLost          the claim is no longer in the state that the step needs
 |       +- LeaseExpired   because its lease ran out before it was armed
 +- DisclosureRefused      the owner's policy does not let this be opened without noise
 +- VersionUnavailable     no Delta table, no such version, or its files were vacuumed away
 +- SessionError           Spark cannot be started here: no usable Java, or no Delta jars
"""

from __future__ import annotations

from pathlib import Path

from dp.errors import SparkMpcError

__all__ = [
    "ApprovalNeeded",
    "ClaimLost",
    "DisclosureRefused",
    "LeaseExpired",
    "LedgerBehind",
    "LedgerError",
    "LedgerMissing",
    "SessionError",
    "VersionUnavailable",
]


class LedgerError(SparkMpcError):
    """A ledger that cannot be used as it is; nothing was debited.

    Args:
        path: the ledger's file, or the address of its server without a password.
        problem: what is wrong, without any stored value.
        remedy: what to do about it.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"ledger {str(path)!r}: {problem}; {remedy}")


class LedgerMissing(LedgerError):
    """There is no ledger file at the path; opening never creates one."""


class LedgerBehind(LedgerError):
    """A ledger that lacks events which a peer or a mirror has seen: an older copy of it was restored."""


class ApprovalNeeded(LedgerError):
    """A claim that cannot be armed until the steward has agreed to it."""


class ClaimLost(LedgerError):
    """A claim that may no longer take the step: released, already armed, renewed by another holder, or unknown."""


class LeaseExpired(ClaimLost):
    """A reservation whose lease ran out; its budget is available to others again."""


class DisclosureRefused(SparkMpcError):
    """An opening without noise that the owner's policy does not allow; nothing was opened.

    Args:
        name: the disclosure.
        problem: what is not allowed.
        remedy: what to do about it, with the stanza that a policy file needs.
    """

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        self.name = name
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"disclosure {name!r}: {problem}; {remedy}")


class VersionUnavailable(SparkMpcError):
    """A pinned version of a Delta table that cannot be read.

    Args:
        path: the table.
        version: the version asked for; None for the latest.
        problem: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, path: str, version: int | None, problem: str, remedy: str) -> None:
        self.path = path
        self.version = version
        self.remedy = remedy
        shown = "latest version" if version is None else f"version {version}"
        super().__init__(f"table {path!r}, {shown}: {problem}; {remedy}")


class SessionError(SparkMpcError):
    """Spark with Delta cannot be started on this machine; the message names the remedy."""
