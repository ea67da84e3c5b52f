"""The errors of a federation: what went wrong between parties, and where.

    SparkMpcError
     +- FederationError
         +- PeerLost             a peer stopped answering, or its process ended or was restarted
         +- RunAborted           this party ended the run
         |   +- AbortedByPeer    a peer ended the run
         +- Disagreement         parties that do not mean the same query, version or federation
         +- CertificateRefused   a certificate that is not the pinned one, or has expired
         +- SignatureRefused     a signature that does not belong to the certificate or the data
         +- WireError            a message that is not accepted, here or by the peer

A message names peer, step and remedy; none holds a payload or a key.
"""

from __future__ import annotations

from collections.abc import Sequence

from dp.errors import SparkMpcError

__all__ = [
    "AbortedByPeer",
    "CertificateRefused",
    "Disagreement",
    "FederationError",
    "PeerLost",
    "RunAborted",
    "SignatureRefused",
    "WireError",
]


class FederationError(SparkMpcError):
    """Root of what can go wrong between parties."""


class PeerLost(FederationError):
    """A peer that is needed is gone: silent, ended, unreachable or restarted.

    Args:
        peer: the party's name.
        step: the last step that it was known to be in.
        reason: what was seen, with the remedy.
    """

    def __init__(self, peer: str, step: str, reason: str) -> None:
        self.peer = peer
        self.step = step
        self.reason = reason
        super().__init__(f"lost {peer} (last seen in {step!r}): {reason}")


class RunAborted(FederationError):
    """This party ended the run; nothing more is sent or received in it.

    Args:
        reason: why, as it was told to the peers.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the run was aborted: {reason}")

    @property
    def retold(self) -> str:
        """The reason as it is told to others: whoever hears of it here first still learns where it began."""
        return self.reason


class AbortedByPeer(RunAborted):
    """A peer ended the run.

    Args:
        peer: the party that ended it.
        reason: why, in that party's words.
    """

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"by {peer}: {reason}")
        self.peer = peer
        self.reason = reason

    @property
    def retold(self) -> str:
        """See `RunAborted.retold`."""
        return self.reason if self.reason.startswith("told by ") else f"told by {self.peer}: {self.reason}"


class Disagreement(FederationError):
    """Parties that do not mean the same thing; found before any share is sent.

    Args:
        differences: one line for each, naming the item and both values.
    """

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__("the parties disagree: " + "; ".join(self.differences))


class CertificateRefused(FederationError):
    """A certificate that cannot be accepted, or ours was not.

    Args:
        peer: the party it should belong to.
        reason: what is wrong with it, with the remedy.
    """

    def __init__(self, peer: str, reason: str) -> None:
        self.peer = peer
        self.reason = reason
        super().__init__(f"certificate of {peer}: {reason}")


class SignatureRefused(FederationError):
    """A signature that does not belong to the certificate and the data."""


class WireError(FederationError):
    """A message that is not accepted: malformed, too long, repeated, out of order, or of a run that is over."""
