"""What a protocol over arrays needs of a transport: labelled arrays between compute parties, in lockstep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Channel", "Meter"]


@dataclass
class Meter:
    """What a party has sent and received so far.

    Attributes:
        sent_bytes: payload; framing and TLS come on top.
        sent_messages: labelled messages.
        rounds: the longest chain of messages, each sent after the one before it was received, that ends here.
    """

    sent_bytes: int = 0
    sent_messages: int = 0
    rounds: int = 0

    def sent(self, length: int) -> int:
        """Count a message of `length` bytes; returns the rounds that it carries along."""
        self.sent_bytes += length
        self.sent_messages += 1
        return self.rounds

    def received(self, carried_rounds: int) -> None:
        """Count a message that carried its sender's rounds."""
        self.rounds = max(self.rounds, carried_rounds + 1)


class Channel(Protocol):
    """Labelled arrays between three compute parties, numbered 0, 1, 2.

    Guarantees: messages of one sender arrive in their order, each once, unaltered; what is received has the label and
        exactly the length that the receiver expects, or the run ends. A party that sends before it receives, round
        after round, never waits for ever: a send returns at once while at most two messages or 64 MiB are on their way.
    """

    @property
    def me(self) -> int:
        """This party's number."""

    @property
    def meter(self) -> Meter:
        """What was sent and received."""

    def send(self, to: int, step: str, data: NDArray[Any]) -> None:
        """Send a contiguous array, which nobody may write to from now on.

        Raises:
            PeerLost, AbortedByPeer: the run is over.
        """

    def receive(self, sender: int, step: str, out: NDArray[Any]) -> None:
        """Fill a contiguous array with the next message of `sender`, which must be labelled `step` and fit exactly.

        Raises:
            WireError: another label or length.
            PeerLost, AbortedByPeer: the run is over.
        """
