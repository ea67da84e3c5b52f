"""One party's own means, and what all parties of a run must ask alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dp.ledger import BudgetLedger
from dp.local import LONG_CELLS
from dp.plan import Plan
from spark_mpc.additive import SumProtocol
from spark_mpc.errors import Disagreement
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.transport.base import Transport

__all__ = ["STEPS", "Party", "Task", "first_failure", "public_reason"]

STEPS = ("agree", "reserve", "local", "noise", "ready", "arm", "open", "commit", "release")
"""The steps that a party reports, in their order."""

_REASON_CHARACTERS = 2000


@dataclass(frozen=True)
class Party:
    """One party's own means; nothing of it leaves this process.

    Attributes:
        identity: name, key and certificate.
        federation: the rules and the peers.
        transport: started, over the same peers.
        ledger: this owner's budget.
        progress: called with every step that is entered.
        long_cells: vectors of more cells are noised and masked on executors.
    """

    identity: Identity = field(repr=False)
    federation: FederationFile = field(repr=False)
    transport: Transport = field(repr=False)
    ledger: BudgetLedger = field(repr=False)
    progress: Callable[[str], None] = field(repr=False)
    long_cells: int = LONG_CELLS

    @property
    def name(self) -> str:
        """Its name."""
        return self.identity.name

    def enter(self, step: str) -> None:
        """Say, here and to the peers, which step this party is in."""
        assert step in STEPS
        self.transport.step(step)
        self.progress(step)

    @contextmanager
    def together(self, run: bytes) -> Iterator[ThreadPoolExecutor]:
        """Threads for sending and receiving at once; a failure ends the run, so that none of them is left waiting."""
        with ThreadPoolExecutor(2 * len(self.transport.peers)) as pool:
            try:
                yield pool
            except BaseException as error:
                self.transport.abort(run, public_reason(error))
                raise

    def exchange(self, run: bytes, step: str, payload: bytes, max_bytes: int) -> dict[str, bytes]:
        """Send one message to every peer and receive one of each, all at once; returns the peers' payloads."""
        peers = self.transport.peers
        with self.together(run) as pool:
            sent = [pool.submit(self.transport.send, peer, run, step, payload) for peer in peers]
            received = {peer: pool.submit(self.transport.receive, peer, run, step, max_bytes) for peer in peers}
            first_failure([*received.values(), *sent])
        return {peer: future.result() for peer, future in received.items()}


@dataclass(frozen=True)
class Task:
    """What all parties must ask alike.

    Attributes:
        contribution: the name under which the tables were contributed.
        plan: the calibrated plan.
        recipients: the parties to which the result is opened, in the order of their names.
        protocol: how vectors are added up.
    """

    contribution: str
    plan: Plan
    recipients: tuple[str, ...]
    protocol: SumProtocol

    def to_json(self) -> dict[str, object]:
        """Its public fields."""
        return {"contribution": self.contribution, "recipients": list(self.recipients), **self.plan.to_json()}


def public_reason(error: BaseException) -> str:
    """What peers are told of a failure: what they disagree about (all of it public), or the kind of error alone."""
    return str(error)[:_REASON_CHARACTERS] if isinstance(error, Disagreement) else type(error).__name__


def first_failure(futures: Iterable[Future[Any]]) -> None:
    """Wait until all are done, or one has failed; raise what failed first."""
    for future in as_completed(list(futures)):
        future.result()
