"""What parties tell each other of their ledgers, so that a ledger that was set back is found by the others.

A ledger's head, the number and hash of its last audit event, is told before and after arming, and kept by every peer
in its own ledger. When the parties meet again each says what it has seen of the other's, which must contain it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lake.ledger.heads import PeerHead
from lake.ledger.store import GENESIS, Head
from spark_mpc.handshake import HEAD_BYTES, head_from_bytes, head_to_bytes
from spark_mpc.party import Party
from spark_mpc.talk import exchange

__all__ = ["check_witness", "heads_seen", "other_ledgers", "tell_heads"]

_LOG = logging.getLogger("spark_mpc")


def heads_seen(party: Party, ledgers: Mapping[str, str]) -> dict[str, Head]:
    """The newest head that this party has seen of each peer's ledger, by peer.

    Args:
        party: whose ledger keeps them.
        ledgers: the id of every party's ledger in this run.
    """
    kept = {peer.ledger_id: peer.head for peer in party.ledger.peer_heads()}
    return {peer: kept.get(ledgers[peer], GENESIS) for peer in party.transport.peers}


def check_witness(party: Party, seen: Mapping[str, Head]) -> None:
    """Check this party's own ledger against what peers have seen of it.

    Args:
        party: whose ledger it is.
        seen: by peer.

    Raises:
        LedgerBehind: an older copy of the ledger was restored.
    """
    for peer, head in seen.items():
        party.ledger.check_head(head, peer)


def other_ledgers(party: Party, ledgers: Mapping[str, str]) -> tuple[str, ...]:
    """What to tell of peers that come with a ledger never seen before, although they had one; it is logged too."""
    kept = party.ledger.peer_heads()
    known = {peer.ledger_id for peer in kept}
    before = {peer.party: peer.ledger_id for peer in kept}
    changed = (name for name in party.transport.peers if ledgers[name] not in known and name in before)
    notices = tuple(
        f"{name} pays from a ledger that {party.name} has never seen, {ledgers[name]}; it used {before[name]} before:"
        " ask its steward why, because two ledgers over the same people are two budgets"
        for name in changed
    )
    for notice in notices:
        _LOG.warning("%s", notice)
    return notices


def tell_heads(party: Party, run: bytes, step: str, head: Head, ledgers: Mapping[str, str]) -> None:
    """Tell every peer where this party's ledger ends now, and keep where theirs do.

    Args:
        party: who tells.
        run: the attempt.
        step: the message's label.
        head: of this party's ledger.
        ledgers: the id of every party's.
    """
    answers = exchange(party.transport, run, step, head_to_bytes(head), HEAD_BYTES)
    heads = {peer: head_from_bytes(data, peer) for peer, data in answers.items()}
    party.ledger.keep_heads([PeerHead(peer, ledgers[peer], theirs) for peer, theirs in heads.items()])
