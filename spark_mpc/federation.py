"""A federation, and a session in it: the face of the library towards a PySpark job."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pyspark.sql import SparkSession

from dp.errors import InvalidArgument
from dp.execution.local import LONG_CELLS
from lake.blocks import Selector
from lake.blocks.cut import HoldsBlocks
from lake.ledger.heads import WitnessedLedger
from lake.policy import Policy
from lake.table import Table
from spark_mpc.federated_frame import FederatedFrame, Means, Overlap
from spark_mpc.federation_file import FederationFile, Peer
from spark_mpc.identity import Identity
from spark_mpc.party import Party
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.base import SumProtocol
from spark_mpc.sums.replicated import Replicated
from spark_mpc.transport.base import Transport
from spark_mpc.transport.memory import MemoryHub
from spark_mpc.transport.tls import tls_transport

__all__ = ["Federation", "Study"]

_LOG = logging.getLogger("spark_mpc")

_PROTOCOLS: Mapping[str, tuple[SumProtocol, ...]] = {
    "additive": (Additive(),),
    "rep3": (Replicated(),),
    "auto": (Additive(), Replicated()),
}

Progress = Callable[[str, str], None]
"""Called with (party, step) whenever a party that runs in this process enters a step."""


@dataclass(frozen=True)
class Federation:
    """Parties that compute together, and which of them this process is.

    Made by `from_toml` (one party, its own process) or `local` (all of them in one process, to learn and to test).

    Attributes:
        file: the rules and the peers, equal at all parties.
        identities: of the parties that run in this process.
    """

    file: FederationFile
    identities: tuple[Identity, ...] = field(repr=False)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], me: str, *, key: str | os.PathLike[str] | None = None) -> Self:
        """This process is one party of the federation that a file describes.

        Args:
            path: the federation file, the same at all parties.
            me: this party's name in it.
            key: its private key, with the certificate beside it; default: `<me>.key` beside the file.

        Raises:
            InvalidArgument: no such file or party, or a key that does not belong to a certificate pinned for it.
        """
        file = FederationFile.load(path)
        peer = file.peer(me)
        identity = Identity.load_key(key or Path(path).parent / f"{me}.key", me)
        if identity.certificate not in peer.certificates:
            remedy = f"its certificate is not among those of {me} in {path}: add it there, at all parties"
            raise InvalidArgument("key", str(key or f"{me}.key"), remedy)
        return cls(file, (identity,))

    @classmethod
    def local(
        cls,
        names: list[str] | tuple[str, ...],
        *,
        protocol: str = "additive",
        colluders: int | None = None,
        compute: tuple[str, ...] = (),
    ) -> Self:
        """All parties in this process and one Spark session, over the same protocols, with keys made up on the spot.

        Args:
            names: of the parties, at least two.
            protocol: "additive", "rep3", or "auto": for each query the one of less noise.
            colluders: t, how many of them may collude; default: all but one; one under rep3.
            compute: unless additive, the three that compute, of more.
        """
        identities = tuple(Identity.create(name, valid_days=1) for name in sorted(names))
        peers = tuple(
            Peer(identity.name, f"127.0.0.1:{port}", (identity.certificate,))
            for port, identity in enumerate(identities, start=1)
        )
        return cls(FederationFile("local", peers, protocol, colluders=colluders, compute=tuple(compute)), identities)

    def session(
        self,
        spark: SparkSession,
        *,
        ledger: WitnessedLedger | Mapping[str, WitnessedLedger],
        progress: Progress | None = None,
        listen: str | None = None,
        policy: Policy | Mapping[str, Policy] | None = None,
    ) -> Study:
        """A session, to be used in a `with` statement, entered after Spark has started.

        Args:
            spark: this party's Spark.
            ledger: this party's; under `local`, a mapping from party to ledger.
            progress: called with (party, step); default: the log "spark_mpc" at level INFO.
            listen: "host:port" to listen on where that is not the address in the file, such as behind NAT.
            policy: what this owner lets be opened without noise, `lake.Policy.load(path)`; default: nothing. Under
                `local`, a mapping from party to policy, or one for all.

        Raises:
            InvalidArgument: not exactly one ledger for every party of this process, or a policy that is none.
        """
        names = [identity.name for identity in self.identities]
        ledgers = ledger if isinstance(ledger, Mapping) else dict.fromkeys(names[:1], ledger)
        if any(isinstance(given, (str, os.PathLike)) for given in ledgers.values()):
            raise InvalidArgument("ledger", str(ledger), "open it first: lake.Ledger.open(path)")
        if sorted(ledgers) != names or len({given.ledger_id for given in ledgers.values()}) < len(names):
            raise InvalidArgument("ledger", sorted(ledgers), f"give one ledger for each of {names}, all different")
        policies = policy if isinstance(policy, Mapping) else dict.fromkeys(names, policy or Policy())
        if not policies.keys() <= set(names) or not all(isinstance(given, Policy) for given in policies.values()):
            raise InvalidArgument("policy", str(policy), f"give lake.Policy.load(path), or one for each of {names}")
        return Study(self, spark, ledgers, progress or _logged, listen=listen, policies=policies)


def _logged(party: str, step: str) -> None:
    _LOG.info("%s: %s", party, step)


class Study:
    """An open session in a federation: contribute tables, then ask. Closes its port at the end of the `with` block."""

    def __init__(
        self,
        federation: Federation,
        spark: SparkSession,
        ledgers: Mapping[str, WitnessedLedger],
        progress: Progress,
        *,
        listen: str | None = None,
        protocol: SumProtocol | None = None,
        long_cells: int = LONG_CELLS,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self.federation = federation
        self.spark = spark
        self._ledgers, self._progress, self._listen = ledgers, progress, listen
        self._policies = policies or {}
        self._protocols = (protocol,) if protocol else _PROTOCOLS[federation.file.protocol]
        self._long_cells = long_cells
        self._open = ExitStack()
        self.parties: tuple[Party, ...] = ()

    def __enter__(self) -> Self:
        try:
            transports = self._transports()
        except BaseException:
            self._open.close()  # a `with` that is never entered is never left
            raise
        self.parties = tuple(
            self._party(identity, transports[identity.name]) for identity in self.federation.identities
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parties = ()
        self._open.close()

    def contribute(
        self,
        name: str,
        table: Table | Mapping[str, Table],
        *,
        overlap: Overlap | None = None,
        blocks: Selector | HoldsBlocks | None = None,
    ) -> FederatedFrame:
        """Bring a table of one's own into the study; the others' parts of it stay secret.

        Args:
            name: what all parties call it; they must agree.
            table: this party's; under `local`, a mapping from party to table.
            overlap: at how many parties one privacy unit may have rows; enters the sensitivity. Default: at all of
                them. `mpc.DISJOINT` if the parties' units are known to differ; a wrong declaration voids the
                guarantee for units that are at more parties.
            blocks: of a table that is cut into private blocks, which of them, or the claim that holds them; each
                party's ledger pays of its own. None: all that exist in its version.

        Raises:
            InvalidArgument: the session is not open, or not one table for every party of this process.
        """
        names = [party.name for party in self.parties]
        if not names:
            raise InvalidArgument("study", "closed", "use it inside its `with` block")
        tables = table if isinstance(table, Mapping) else dict.fromkeys(names[:1], table)
        for given in tables.values():
            if not isinstance(given, Table):
                raise InvalidArgument("table", type(given).__name__, "give a lake.Table; filter with where afterwards")
        if sorted(tables) != names:
            raise InvalidArgument("table", sorted(tables), f"give one table for each of {names}")
        if overlap is not None and not isinstance(overlap, Overlap):
            raise InvalidArgument("overlap", overlap, "give mpc.DISJOINT or mpc.Overlap(at_most=...)")
        frames = {party: tables[party].private(blocks) for party in names}
        everybody = len(self.federation.file.parties)
        at_most = min((overlap or Overlap(everybody)).at_most, everybody)
        means = Means(self.federation.file, self.parties, self._protocols, self.spark)
        return FederatedFrame(means, name, frames, at_most)

    def _transports(self) -> dict[str, Transport]:
        identities = self.federation.identities
        file = self.federation.file
        if len(identities) > 1:
            names = [peer.name for peer in file.parties]
            hub = MemoryHub(names, timeout_seconds=file.timeout_seconds)
            made: dict[str, Transport] = {identity.name: hub.transport(identity.name) for identity in identities}
        else:
            made = {identity.name: tls_transport(identity, file, listen=self._listen) for identity in identities}
        return {name: self._open.enter_context(transport) for name, transport in made.items()}

    def _party(self, identity: Identity, transport: Transport) -> Party:
        return Party(
            identity,
            self.federation.file,
            transport,
            self._ledgers[identity.name],
            lambda step: self._progress(identity.name, step),
            self._long_cells,
            self._policies.get(identity.name, Policy()),
        )
