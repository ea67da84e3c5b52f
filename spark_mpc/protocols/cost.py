"""What an operation sends, known before it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FREE", "Cost"]


@dataclass(frozen=True)
class Cost:
    """Rounds and payload bytes of an operation; framing and TLS come on top.

    Attributes:
        rounds: messages that wait for one another.
        sent_bytes: payload that each compute party sends, in their order.
    """

    rounds: int
    sent_bytes: tuple[int, ...]

    @property
    def payload_bytes(self) -> int:
        """What all parties send together."""
        return sum(self.sent_bytes)

    def __add__(self, later: Cost) -> Cost:
        """One after the other."""
        sent = tuple(a + b for a, b in zip(self.sent_bytes, later.sent_bytes, strict=True))
        return Cost(self.rounds + later.rounds, sent)

    def __mul__(self, times: int) -> Cost:
        """One after the other, so many times."""
        return Cost(self.rounds * times, tuple(times * sent for sent in self.sent_bytes))


FREE = Cost(0, (0, 0, 0))
"""An operation without messages."""
