"""Federations on loopback, and parties that act at the same time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from spark_mpc.federation_file import FederationFile, Peer
from spark_mpc.identity import Identity

__all__ = ["LoopbackFederation", "at_once", "free_ports", "loopback_federation"]

T = TypeVar("T")


@dataclass(frozen=True)
class LoopbackFederation:
    """A federation file whose addresses are free ports of this machine, with everybody's keys."""

    file: FederationFile
    identities: Mapping[str, Identity]


def loopback_federation(
    names: Sequence[str], *, timeout_seconds: float = 2.0, rendezvous_seconds: float = 20.0
) -> LoopbackFederation:
    """A fresh federation of `names`."""
    identities = {name: Identity.create(name) for name in names}
    with free_ports(len(names)) as ports:
        parties = tuple(
            Peer(name, f"127.0.0.1:{port}", (identities[name].certificate,))
            for name, port in zip(names, ports, strict=True)
        )
    file = FederationFile("tests", parties, timeout_seconds=timeout_seconds, rendezvous_seconds=rendezvous_seconds)
    return LoopbackFederation(file, identities)


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Different ports of loopback, kept while the context lasts."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [listening.getsockname()[1] for listening in sockets]


def at_once(*actions: Callable[[], T]) -> list[T]:
    """Run every action in a thread of its own; results in order, or the first error."""
    with ThreadPoolExecutor(len(actions)) as threads:
        futures = [threads.submit(action) for action in actions]
        return [future.result(timeout=60) for future in futures]
