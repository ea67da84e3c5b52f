"""What parties do at once: exchange a message with every peer, and open a sum to its recipients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

from lake.errors import LedgerBehind
from spark_mpc.errors import AbortedByPeer, Disagreement, FederationError, PeerLost
from spark_mpc.ring.masks import Words
from spark_mpc.transport.base import Transport

__all__ = ["exchange", "exchange_each", "open_sum", "public_reason", "take_leave"]

_REASON_CHARACTERS = 2000

T = TypeVar("T")


def public_reason(error: BaseException) -> str:
    """What peers are told of a failure: who is lost, who gave up, what differs, whose ledger lacks what whom has seen
    (all public); else its kind alone.
    """
    if isinstance(error, AbortedByPeer):
        return error.retold[:_REASON_CHARACTERS]
    if isinstance(error, LedgerBehind):  # not its path
        return f"its ledger {error.problem}"[:_REASON_CHARACTERS]
    return str(error)[:_REASON_CHARACTERS] if isinstance(error, Disagreement | PeerLost) else type(error).__name__


@contextmanager
def _together(transport: Transport, run: bytes) -> Iterator[ThreadPoolExecutor]:
    """Threads for sending and receiving at once; a failure ends the run, so that none of them is left waiting."""
    with ThreadPoolExecutor(2 * len(transport.peers)) as pool:
        try:
            yield pool
        except BaseException as error:
            transport.abort(run, public_reason(error))
            raise


def _first_failure(futures: Iterable[Future[Any]]) -> None:
    """Wait until all are done, or one has failed; raise what failed first."""
    for future in as_completed(list(futures)):
        future.result()


def exchange(transport: Transport, run: bytes, step: str, payload: bytes, max_bytes: int) -> dict[str, bytes]:
    """Send one message to every peer at once, then receive one of each.

    Returns:
        The peers' payloads, each at most `max_bytes`.

    Raises:
        PeerLost, AbortedByPeer, WireError: the run is over.
    """
    return exchange_each(transport, run, step, dict.fromkeys(transport.peers, payload), max_bytes)


def exchange_each(
    transport: Transport, run: bytes, step: str, payloads: Mapping[str, bytes], max_bytes: int
) -> dict[str, bytes]:
    """The same with a message of its own for every peer."""
    with _together(transport, run) as pool:
        # sent before received: a transport that meets a restarted peer must know who took our newest greeting
        _first_failure([pool.submit(transport.send, peer, run, step, payloads[peer]) for peer in transport.peers])
        received = {peer: pool.submit(transport.receive, peer, run, step, max_bytes) for peer in transport.peers}
        _first_failure(received.values())
    return {peer: future.result() for peer, future in received.items()}


def open_sum(
    transport: Transport, run: bytes, recipients: Sequence[str], masked: Words, commit: Callable[[Words | None], T]
) -> T:
    """Upload a masked vector to the recipients; as one of them, add up everybody's.

    Args:
        transport: of this party.
        run: the attempt whose keys masked the vector.
        recipients: the parties to which the sum is opened.
        masked: this party's vector under its masks, uint64, contiguous.
        commit: called once with the sum modulo 2^64 (None at a party that is no recipient), as soon as this party is
            sure of it: a recipient when it has everything, the others when everybody has theirs.

    Returns:
        What `commit` returned.

    Raises:
        PeerLost, AbortedByPeer, WireError: before `commit` was called.

    Cost: 1 round, 8 bytes per word and recipient other than the sender.
    """
    receives = transport.me in recipients
    view = masked.data.cast("B")
    with _together(transport, run) as pool:
        uploads = [np.empty_like(masked) for _ in transport.peers] if receives else []
        receiving = [
            pool.submit(transport.receive_into, peer, run, "upload", words.data.cast("B"))
            for peer, words in zip(transport.peers, uploads, strict=False)
        ]
        sending = [
            pool.submit(transport.send, peer, run, "upload", view) for peer in recipients if peer != transport.me
        ]
        if not receives:
            _first_failure(sending)
            return commit(None)
        _first_failure(receiving)
        result = commit(_summed(masked, uploads))
        with suppress(FederationError):  # this party has its result; a recipient that is gone fetches it later
            _first_failure(sending)
        return result


def _summed(masked: Words, uploads: Sequence[Words]) -> Words:
    total, *others = uploads  # the first buffer becomes the sum: nobody else holds it, and memory stays at n vectors
    for words in (masked, *others):
        np.add(total, words, out=total)  # modulo 2^64: the masks cancel here and nowhere else
    return total


def take_leave(transport: Transport, run: bytes) -> None:
    """Wait until no peer needs this process any more; one that is lost now has lost nothing, and ends no run."""

    def farewell(peer: str) -> None:
        with suppress(FederationError):
            transport.send(peer, run, "done", b"")
            transport.receive(peer, run, "done", 0)

    with ThreadPoolExecutor(len(transport.peers)) as pool:
        list(pool.map(farewell, transport.peers))
    transport.finish(run)
