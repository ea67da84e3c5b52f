"""One party of ours as a process: `python -m benchmarks._rep3_party plain|tls`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._plain_channel import plain_channel
from benchmarks._rep3_programs import PROGRAMS, opened, shared
from benchmarks.peers.three_cases import Case, Inputs
from benchmarks.peers.three_parties import Party, Spent, Unsupported, serve
from spark_mpc.protocols.channel import Channel
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.ring.streams import KeyStream

__all__ = ["open_plain"]


@contextmanager
def open_plain(setup: Mapping[str, Any]) -> Iterator[Party]:
    """Over plain sockets."""
    channel = plain_channel(setup["me"], setup["ports"])
    try:
        yield _Ours(channel, setup)
    finally:
        channel.close()


class _Ours:
    """See `Party`."""

    def __init__(self, channel: Channel, setup: Mapping[str, Any]) -> None:
        self._channel = channel
        own, following = (KeyStream(bytes.fromhex(key)) for key in setup["keys"])
        self._engine = Rep3(Context(channel, own, following))

    def share(self, case: Case, rows: int, inputs: Inputs) -> None:
        if case.name not in PROGRAMS:
            raise Unsupported("not written yet")
        self._program, self._inputs = PROGRAMS[case.name], shared(self._engine, inputs)

    def barrier(self) -> None:
        nothing = np.zeros(1, np.uint8)
        others = [number for number in range(3) if number != self._channel.me]
        for number in others:
            self._channel.send(number, "barrier", nothing)
        for number in others:
            self._channel.receive(number, "barrier", nothing.copy())

    def run(self) -> None:
        meter = self._channel.meter
        sent, rounds = meter.sent_bytes, meter.rounds
        self._result = self._program(self._engine, *self._inputs)
        self._spent = Spent(meter.sent_bytes - sent, meter.rounds - rounds)

    def spent(self) -> Spent:
        return self._spent

    def opened(self) -> NDArray[Any]:
        return opened(self._engine, self._result)


if __name__ == "__main__":
    serve({"plain": open_plain}[sys.argv[1]])
