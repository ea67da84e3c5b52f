"""Three parties as processes: mutual TLS on loopback, up over all cases of a benchmark, one job after another."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Generic, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import NoEncryption, load_pem_private_key

from benchmarks._three import free_ports
from spark_mpc.federation_file import FederationFile, Peer
from spark_mpc.identity import Identity
from spark_mpc.talk import exchange, take_leave
from spark_mpc.transport.base import RENDEZVOUS, Transport
from spark_mpc.transport.tls import tls_transport

__all__ = ["NAMES", "Parties", "Party"]

NAMES = ("a", "b", "c")
_FAREWELL_SECONDS = 30

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Party:
    """One party in its process."""

    identity: Identity
    file: FederationFile
    transport: Transport
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def run(self) -> Iterator[bytes]:
        """A run of its own, which all parties enter and leave together."""
        run = hashlib.sha256(next(self._numbers).to_bytes(8, "big")).digest()
        self.transport.begin(run)
        exchange(self.transport, run, "start", b"", 0)
        yield run
        take_leave(self.transport, run)


class Parties(Generic[J, R]):
    """The processes, as a context.

    Args:
        work: opens what a party needs, and yields the function that does its part of a job; named at module level,
            because it is sent to new processes.
    """

    def __init__(self, work: Callable[[Party], AbstractContextManager[Callable[[J], R]]]) -> None:
        self._work = work
        self._pipes: list[Connection] = []

    def __enter__(self) -> Self:
        identities = [Identity.create(name, valid_days=1) for name in NAMES]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(NAMES))]
        peers = tuple(Peer(i.name, a, (i.certificate,)) for i, a in zip(identities, addresses, strict=True))
        context = get_context("spawn")
        self._processes = []
        for identity in identities:
            ours, theirs = context.Pipe()
            secrets = (identity.name, identity.certificate, identity.key_pem(NoEncryption()))
            arguments = (theirs, FederationFile("benchmark", peers), secrets, self._work)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends its pipe
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            with suppress(BrokenPipeError):  # it has failed already
                pipe.send(None)
        for process in self._processes:
            process.join(_FAREWELL_SECONDS)

    def do(self, job: J) -> list[R]:
        """Let all parties do a job at once.

        Returns:
            What each of them made of it, in the order of `NAMES`.

        Raises:
            EOFError: one of them failed; it has printed why.
        """
        for pipe in self._pipes:
            pipe.send(job)
        return [pipe.recv() for pipe in self._pipes]


def _serve(
    pipe: Connection,
    file: FederationFile,
    secrets: tuple[str, str, bytes],
    work: Callable[[Party], AbstractContextManager[Callable[[J], R]]],
) -> None:
    name, certificate, pem = secrets
    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    identity = Identity(name, certificate, key)
    with tls_transport(identity, file) as transport:
        exchange(transport, RENDEZVOUS, "hello", b"", 0)  # in a run, who does not listen yet is lost after two seconds
        with work(Party(identity, file, transport)) as do:
            while (job := pipe.recv()) is not None:
                pipe.send(do(job))
