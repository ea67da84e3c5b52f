"""Parties that are threads of this process, each with means of its own, and a record of everything they send."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pyspark.sql import SparkSession

from dp.execution.local import LONG_CELLS
from lake.ledger.heads import WitnessedLedger
from lake.table import Table
from spark_mpc.federated_frame import FederatedFrame, Means
from spark_mpc.federation import Federation
from spark_mpc.federation_file import FederationFile
from spark_mpc.party import Party
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.base import SumProtocol
from spark_mpc.transport.memory import MemoryHub

__all__ = ["Sent", "Wire", "all_at_once", "alone", "memory_parties", "step_of"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Sent:
    """One message, as the tap above the transport saw it."""

    sender: str
    peer: str
    run: bytes
    step: str
    payload: bytes = field(repr=False)


@dataclass
class Wire:
    """Everything that was sent, and every step that was entered; appended by several threads at once."""

    sent: list[Sent] = field(default_factory=list)
    entered: list[tuple[str, str]] = field(default_factory=list)

    def steps(self) -> set[str]:
        """The labels of all messages."""
        return {message.step for message in self.sent}

    def payloads(self, step: str) -> dict[tuple[str, str], bytes]:
        """The payloads of one step by (sender, peer)."""
        return {(m.sender, m.peer): m.payload for m in self.sent if m.step == step}


def step_of(wire: Wire, party: str) -> Callable[[str], None]:
    """A progress callback that records."""
    return lambda step: wire.entered.append((party, step))


@contextmanager
def memory_parties(
    federation: Federation,
    ledgers: Mapping[str, WitnessedLedger],
    wire: Wire,
    *,
    files: Mapping[str, FederationFile] | None = None,
    long_cells: int = LONG_CELLS,
) -> Iterator[dict[str, Party]]:
    """The parties of a local federation, started; `files` gives some of them another federation file."""
    names = [identity.name for identity in federation.identities]
    hub = MemoryHub(names, timeout_seconds=20.0, rendezvous_seconds=60.0)

    def tap(sender: str) -> Callable[[str, bytes, str, memoryview], None]:
        return lambda peer, run, step, payload: wire.sent.append(Sent(sender, peer, run, step, bytes(payload)))

    with ExitStack() as running:
        yield {
            identity.name: Party(
                identity,
                (files or {}).get(identity.name, federation.file),
                running.enter_context(hub.transport(identity.name, tap=tap(identity.name))),
                ledgers[identity.name],
                step_of(wire, identity.name),
                long_cells,
            )
            for identity in federation.identities
        }


def alone(
    party: Party,
    table: Table,
    spark: SparkSession,
    *,
    overlap: int,
    name: str = "claims",
    protocol: SumProtocol | None = None,
) -> FederatedFrame:
    """The frame of one party that knows only itself, as in a process of its own."""
    means = Means(party.federation, (party,), (protocol or Additive(),), spark)
    return FederatedFrame(means, name, {party.name: table.private()}, overlap)


def all_at_once(tasks: Mapping[str, Callable[[], _Result]]) -> dict[str, _Result | Exception]:
    """Run every task in a thread of its own; what it returned, or raised."""

    def outcome(task: Callable[[], _Result]) -> _Result | Exception:
        try:
            return task()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = {name: pool.submit(outcome, task) for name, task in tasks.items()}
    return {name: future.result() for name, future in futures.items()}
