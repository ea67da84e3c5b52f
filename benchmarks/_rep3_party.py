"""One party of ours as a process: `python -m benchmarks._rep3_party plain|tls`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray

from benchmarks._plain_channel import plain_channel
from benchmarks._rep3_programs import PROGRAMS, SUM, Uploads, opened, shared
from benchmarks.peers.three_cases import Case, Inputs
from benchmarks.peers.three_parties import Party, Spent, serve
from spark_mpc.federation_file import FederationFile, Peer
from spark_mpc.identity import Identity
from spark_mpc.protocols.channel import Channel
from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.ring.masks import PairKey
from spark_mpc.ring.streams import KeyStream
from spark_mpc.talk import exchange
from spark_mpc.transport.base import RENDEZVOUS
from spark_mpc.transport.streams import open_channel
from spark_mpc.transport.tls import tls_transport

__all__ = ["open_plain", "open_tls"]

_RUN = hashlib.sha256(b"benchmark").digest()
_NOTHING = np.zeros(1, np.uint8)


@contextmanager
def open_plain(setup: Mapping[str, Any]) -> Iterator[Party]:
    """Over plain sockets."""
    channel = plain_channel(setup["me"], setup["ports"])
    try:
        yield _Ours(channel, setup["keys"])
    finally:
        channel.close()


@contextmanager
def open_tls(setup: Mapping[str, Any]) -> Iterator[Party]:
    """Over mutual TLS, as in a real run."""
    names, certificates = setup["names"], setup["certificates"]
    peers = tuple(
        Peer(name, f"127.0.0.1:{port}", (certificate,))
        for name, port, certificate in zip(names, setup["ports"], certificates, strict=True)
    )
    key = load_pem_private_key(setup["key_pem"].encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    identity = Identity(names[setup["me"]], certificates[setup["me"]], key)
    with tls_transport(identity, FederationFile("benchmark", peers)) as transport:
        exchange(transport, RENDEZVOUS, "hello", b"", 0)  # waits until all listen
        transport.begin(_RUN)
        with open_channel(transport, _RUN, tuple(names)) as channel:
            yield _Ours(channel, setup["keys"])


class _Ours:
    """See `Party`."""

    _work: Callable[[], Any]

    def __init__(self, channel: Channel, keys: tuple[str, str]) -> None:
        self._channel = channel
        own, following = map(bytes.fromhex, keys)
        self._engine = Rep3(Context(channel, KeyStream(own), KeyStream(following)))
        self._uploads = Uploads(channel, (PairKey(own, adds=True), PairKey(following, adds=False)))

    def share(self, case: Case, _rows: int, inputs: Inputs) -> None:
        self._case = case
        if case.name == SUM:
            self._work = partial(self._uploads.total, inputs[self._channel.me].view(np.uint64))
        else:
            self._work = partial(PROGRAMS[case.name], self._engine, *shared(self._engine, inputs))

    def barrier(self) -> None:
        others = [number for number in range(PARTIES) if number != self._channel.me]
        for number in others:
            self._channel.send(number, "barrier", _NOTHING)
        for number in others:
            self._channel.receive(number, "barrier", _NOTHING.copy())

    def run(self) -> None:
        meter = self._channel.meter
        sent, rounds = meter.sent_bytes, meter.rounds
        self._result = self._work()
        self._spent = Spent(meter.sent_bytes - sent, meter.rounds - rounds)

    def spent(self) -> Spent:
        return self._spent

    def opened(self) -> NDArray[Any] | None:
        if self._case.name == SUM:
            return None if self._result is None else self._result.view(np.int64)
        return opened(self._engine, self._result, self._case)


if __name__ == "__main__":
    serve({"plain": open_plain, "tls": open_tls}[sys.argv[1]])
