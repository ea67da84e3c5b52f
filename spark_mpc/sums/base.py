"""The faces of what opens cells: a protocol that adds up the parties' vectors, and one attempt of anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from pyspark.sql import SparkSession

from dp.execution.local import Vector
from dp.execution.release import StoredRelease
from dp.planning.plan import NoiseParties, Plan
from spark_mpc.federation_file import FederationFile
from spark_mpc.protocols.cost import Cost
from spark_mpc.ring.masks import Words
from spark_mpc.transport.base import Transport

__all__ = ["Joint", "SumProtocol", "Work"]


@dataclass(frozen=True)
class Work:
    """What one attempt of one party has at hand; nothing of it leaves the process.

    Attributes:
        me: this party.
        file: the federation.
        transport: to the others, in the run.
        run: the attempt.
        recipients: the parties to which the cells are opened.
        secrets: by peer, a secret that the two share for this attempt.
        spark: this party's session.
        directory: staging for long vectors.
        enter: called with every step that is entered.
    """

    me: str
    file: FederationFile
    transport: Transport = field(repr=False)
    run: bytes
    recipients: tuple[str, ...]
    secrets: Mapping[str, bytes] = field(repr=False)
    spark: SparkSession = field(repr=False)
    directory: str
    enter: Callable[[str], None] = field(repr=False)


class Joint(Protocol):
    """One attempt of one party to open cells; a context, which lets go of connections at its end."""

    def prepare(self, exact: Vector) -> bytes:
        """Everything that can be done before the ledger arms; nothing from which a result follows leaves this party.

        Args:
            exact: this party's own words.

        Returns:
            What the ledger stores when it arms, from which `resume` can open the same cells later; empty if this
            protocol cannot.
        """

    def resume(self, stored: bytes) -> None:
        """In place of `prepare`: what an earlier attempt had stored, under this attempt's masks."""

    def open(self, commit: Callable[[Words | None], StoredRelease | None]) -> StoredRelease | None:
        """Open to the recipients, after every party's ledger has armed.

        Args:
            commit: called once with the opened cells (None at a party that is no recipient), as soon as this party is
                sure of them.

        Raises:
            PeerLost, AbortedByPeer, WireError: before `commit` was called.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SumProtocol(Protocol):
    """How parties add up their vectors; the twin of the tests, which adds no noise, implements it too."""

    @property
    def name(self) -> str:
        """Compared at agreement; two protocols never meet."""

    def noise_parties(self, file: FederationFile) -> NoiseParties:
        """Who draws noise, and how many of them must suffice alone."""

    def joint(self, work: Work, plan: Plan) -> Joint:
        """An attempt to open the noised sum of a plan's vectors."""

    def cost(self, file: FederationFile, recipients: tuple[str, ...], plan: Plan) -> Cost:
        """What parties send, in the order of their names."""

    def trust(self, file: FederationFile) -> str:
        """The corruption model, in a line for `explain`."""
