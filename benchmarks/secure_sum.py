"""Sums of three parties' vectors: three processes, mutual TLS on loopback, to one recipient and to all.

Each repetition is a run of its own: fresh X25519 keys are exchanged, the vector is masked, uploaded and added up. The
time is that of the slowest party, from a common start to its result (or, for a party that is no recipient, until its
upload was taken). Beside it, in the same run: numpy adding the three vectors in one process ("plain"), and AES-128 in
counter mode making one party's two key streams ("aes").
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._measure import median_seconds
from benchmarks._parties import NAMES, Parties, Party
from spark_mpc.identity import AttemptKey, derive
from spark_mpc.ring.masks import KEY_BYTES, PairKey, Words, add_masks, keystream
from spark_mpc.talk import exchange, open_sum
from spark_mpc.transport.base import Transport

__all__ = ["run"]

_REPETITIONS = 5
_ROUNDS = 2  # keys, upload
_STREAM_WORDS = 1 << 15


@dataclass(frozen=True)
class _Job:
    values: int
    recipients: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    seconds: float
    sent_bytes: int
    peak_mib: float
    right: bool


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Three sizes, to one recipient and to all."""
    sizes = (100_000, 1_000_000) if quick else (100_000, 1_000_000, 10_000_000)
    floors = {values: _floors(values) for values in sizes}
    with Parties(_open) as parties:
        for values in sizes:
            for case, recipients in (("to one", NAMES[:1]), ("to all", NAMES)):
                job = _Job(values, recipients)
                parties.do(job)  # warms up
                yield from _records(case, values, [parties.do(job) for _ in range(_REPETITIONS)], floors[values])


def _records(
    case: str, values: int, repetitions: list[list[_Measured]], floors: dict[str, float]
) -> Iterator[dict[str, object]]:
    assert all(party.right for parties in repetitions for party in parties), "the sum is wrong"
    seconds = statistics.median(max(party.seconds for party in parties) for parties in repetitions)
    measured = {
        "case": f"{case}, {values:,} values",
        "rows": values,
        "seconds": round(seconds, 4),
        "rounds": _ROUNDS,
        "bytes": max(party.sent_bytes for party in repetitions[-1]),
        "peak_mib": max(party.peak_mib for party in repetitions[-1]),
    }
    for against, floor in floors.items():
        yield {**measured, "against": against, "against_seconds": round(floor, 4), "ratio": round(seconds / floor, 2)}


def _floors(values: int) -> dict[str, float]:
    vectors = [np.arange(values, dtype=np.uint64) for _ in NAMES]
    total, stream = np.empty_like(vectors[0]), np.empty(min(_STREAM_WORDS, values), np.uint64)

    def plain() -> None:
        np.add(vectors[0], vectors[1], out=total)
        np.add(total, vectors[2], out=total)

    def aes() -> None:
        for key in (bytes(KEY_BYTES), b"\1" * KEY_BYTES):
            for start in range(0, values, len(stream)):
                keystream(key, start, stream[: values - start])

    return {"plain": median_seconds(plain, repetitions=5), "aes": median_seconds(aes, repetitions=5)}


@contextmanager
def _open(party: Party) -> Iterator[Callable[[_Job], _Measured]]:
    yield lambda job: _sum(party, job)


def _sum(party: Party, job: _Job) -> _Measured:
    transport = party.transport
    mine = np.arange(job.values, dtype=np.uint64) * np.uint64(NAMES.index(transport.me) + 1)
    with party.run() as run:
        started = time.perf_counter()
        masked = add_masks(mine, _keys(transport, run), 0)
        total = open_sum(transport, run, job.recipients, masked, lambda words: words)
        seconds = time.perf_counter() - started
        sent = transport.traffic(run).sent_bytes
    return _Measured(seconds, sent, _own_peak_mib(), _right(total, job, transport.me))


def _own_peak_mib() -> float:
    """The greatest resident memory of this process so far (its own since exec; `getrusage` counts the parent's too)."""
    status = Path("/proc/self/status").read_text()
    return round(int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024, 1)  # type: ignore[union-attr]


def _right(total: Words | None, job: _Job, me: str) -> bool:
    if total is None:
        return me not in job.recipients
    return bool(np.array_equal(total, np.arange(job.values, dtype=np.uint64) * np.uint64(6)))


def _keys(transport: Transport, run: bytes) -> list[PairKey]:
    attempt = AttemptKey()
    public = exchange(transport, run, "keys", attempt.public, 32)
    return [
        PairKey(derive(attempt.shared_secret(public[peer]), salt=run, info=b"", length=KEY_BYTES), transport.me < peer)
        for peer in transport.peers
    ]
