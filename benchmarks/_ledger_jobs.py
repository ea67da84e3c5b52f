"""Requests to a ledger as the client knows them, who may be killed at any time."""

from __future__ import annotations

from dataclasses import dataclass

from dp.accounting.ledger import Claim
from lake.ledger.rows import Request
from lake.ledger.selection import Named

__all__ = ["Clock", "Job"]

_MAY_BE = {
    "asking": ("nowhere", "waiting", "reserved", "released", "failed"),
    "waiting": ("waiting", "reserved", "released", "failed"),
    "armed": ("armed", "spent"),
    "spent": ("spent",),
    "lost": ("reserved", "released"),
    "released": ("released", "failed"),
    "refused": ("nowhere", "failed", "released"),
}


@dataclass
class Clock:
    """A clock that is moved by hand, and may be set back.

    Attributes:
        now: seconds since the epoch.
        latest: the greatest that it ever was: by then a lease may have ended.
    """

    now: float = 1_000_000.0
    latest: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        """Let time pass, or set it back."""
        self.now += seconds
        self.latest = max(self.latest, self.now)


@dataclass
class Job:
    """A client's request, and how it knows it to stand.

    Attributes:
        request: what it asks for.
        choice: of which blocks how much.
        known: "asking", "waiting", "held", "armed"; "spent", "lost" (given back by the lease), "released", "refused".
        ticket: the newest that it was given.
        doing: the step that was not acknowledged yet; "" if there is none.
    """

    request: Request
    choice: Named
    known: str = "asking"
    ticket: Claim | None = None
    doing: str = ""

    @property
    def key(self) -> str:
        """Of its release."""
        return self.request.release_key

    @property
    def noised(self) -> bytes:
        """Its vector."""
        return b"noised " + self.key.encode()

    @property
    def answer(self) -> bytes:
        """Its release."""
        return b"release " + self.key.encode()

    @property
    def claim(self) -> Claim:
        """Its ticket, once it has one."""
        assert self.ticket is not None
        return self.ticket

    @property
    def ended(self) -> bool:
        """Whether no step of it is left."""
        return self.known in ("spent", "lost", "released", "refused")

    def may_be(self, latest: float) -> tuple[str, ...]:
        """The states that its claim can be in, by what was acknowledged and what is under way.

        Args:
            latest: the greatest time that the ledger's clock has shown.
        """
        if self.known in _MAY_BE:
            return _MAY_BE[self.known]
        if self.doing in ("arm", "give_back"):
            return ("reserved", "released", *(("armed", "spent") if self.doing == "arm" else ()))
        running = self.claim.lease_expires_at > latest
        return ("reserved",) if running else ("reserved", "released")
