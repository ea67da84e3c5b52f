"""Three parties of replicated sharing in one process: a thread each, over queues."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.channel import Channel, Meter
from spark_mpc.protocols.rep3.context import CHUNK, PARTIES, Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.ring.masks import KEY_BYTES
from spark_mpc.ring.streams import KeyStream

__all__ = ["QueueChannel", "Sent", "contexts", "three_keys", "three_parties"]

T = TypeVar("T")
_SECONDS = 60.0


@dataclass(frozen=True)
class Sent:
    """One message as it went."""

    sender: int
    to: int
    step: str
    payload: bytes


@dataclass
class QueueChannel:
    """A `Channel` over queues; `record` keeps what was sent."""

    me: int
    queues: dict[tuple[int, int], queue.Queue[tuple[str, bytes, int]]] = field(repr=False)
    record: list[Sent] | None = None
    meter: Meter = field(default_factory=Meter)

    def send(self, to: int, step: str, data: NDArray[Any]) -> None:
        payload = np.ascontiguousarray(data).tobytes()
        if self.record is not None:
            self.record.append(Sent(self.me, to, step, payload))
        self.queues[self.me, to].put((step, payload, self.meter.sent(len(payload))))

    def receive(self, sender: int, step: str, out: NDArray[Any]) -> None:
        label, payload, rounds = self.queues[sender, self.me].get(timeout=_SECONDS)
        assert label == step, f"party {self.me} waits for {step}, {sender} sent {label}"
        assert len(payload) == out.nbytes, f"{step}: {len(payload)} bytes for {out.nbytes}"
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(payload, np.uint8)
        self.meter.received(rounds)


def three_keys(rng: np.random.Generator) -> list[bytes]:
    """A key for each pair: party i holds those of i and i + 1."""
    return [rng.bytes(KEY_BYTES) for _ in range(PARTIES)]


def contexts(
    seed: int = 0,
    *,
    chunk: int = CHUNK,
    record: list[Sent] | None = None,
    keys: Sequence[bytes] | None = None,
    kind: type[Context] = Context,
    channels: Sequence[Channel] | None = None,
) -> list[Context]:
    """One for each party, all of one run: keys as given or of a seed; over queues, or the channels given."""
    keys = keys or three_keys(np.random.default_rng(seed))
    queues: dict[tuple[int, int], queue.Queue[tuple[str, bytes, int]]] = {
        (a, b): queue.Queue() for a in range(PARTIES) for b in range(PARTIES) if a != b
    }
    between = channels or [QueueChannel(me, queues, record) for me in range(PARTIES)]
    return [
        kind(between[me], KeyStream(keys[me]), KeyStream(keys[(me + 1) % PARTIES]), chunk=chunk)
        for me in range(PARTIES)
    ]


def three_parties(
    program: Callable[[Rep3], T],
    seed: int = 0,
    *,
    chunk: int = CHUNK,
    record: list[Sent] | None = None,
    keys: Sequence[bytes] | None = None,
    kind: type[Context] = Context,
    channels: Sequence[Channel] | None = None,
) -> tuple[list[T], list[Meter]]:
    """Run one program as three parties; what each returned, and what each sent."""
    parties = contexts(seed, chunk=chunk, record=record, keys=keys, kind=kind, channels=channels)
    with ThreadPoolExecutor(PARTIES) as pool:
        results = list(pool.map(lambda context: program(Rep3(context)), parties))
    return results, [party.channel.meter for party in parties]
