"""Our transport beside tuned gRPC: many small rounds, bulk to one recipient, bulk to all.

Three processes on loopback, mutual TLS with the same certificates, both in the same run and by turns, so that a machine
that drifts drifts for both. A payload ends in one buffer of its receiver. The time is that of the slowest party, from a
common start until it has everything; what arrived is compared with what was sent, outside of that time.
"""

from __future__ import annotations

import os
import statistics
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks._grpc import Stream, streams
from benchmarks._parties import NAMES, Parties, Party
from spark_mpc.talk import exchange

__all__ = ["run"]

_REPETITIONS = 7
_WAYS = ("ours", "grpc")
MODE = os.environ.get("MODE", "pool")

Swap = Callable[[int, memoryview, tuple[str, ...], Mapping[str, memoryview]], None]
"""(number of the round, payload, its recipients, where to put what peers send)."""


@dataclass(frozen=True)
class _Case:
    name: str
    rounds: int
    round_bytes: int  # from a sender to each recipient
    recipients: tuple[str, ...]

    @property
    def payload_bytes(self) -> int:
        """From a sender to each recipient, over all rounds."""
        return self.rounds * self.round_bytes

    def senders_to(self, me: str) -> tuple[str, ...]:
        """The peers that send to a party."""
        return tuple(name for name in NAMES if name != me) if me in self.recipients else ()


@dataclass(frozen=True)
class _Measured:
    seconds: float
    checksums: dict[str, int]  # of what each peer sent


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Three cases: 500 rounds of 1 KiB, 80 MB from two senders to one recipient, 80 MB from each to each.

    Args:
        quick: a tenth of that.
    """
    rounds, bulk_bytes = (50, 8_000_000) if quick else (500, int(os.environ.get("BULK", 80_000_000)))
    cases = (
        _Case(f"{rounds} rounds of 1 KiB", rounds, 1024, NAMES),
        _Case(f"{bulk_bytes // 10**6} MB to one", 1, bulk_bytes, NAMES[:1]),
        _Case(f"{bulk_bytes // 10**6} MB to all", 1, bulk_bytes, NAMES),
    )
    with Parties(_party) as parties:
        for case in cases:
            yield _record(case, [[_seconds(parties, case, way) for way in _WAYS] for _ in range(1 + _REPETITIONS)][1:])


def _record(case: _Case, repetitions: list[list[float]]) -> dict[str, object]:
    ours, theirs = (statistics.median(seconds) for seconds in zip(*repetitions, strict=True))
    return {
        "case": case.name,
        "seconds": round(ours, 4),
        "rounds": case.rounds,
        "bytes": case.payload_bytes * max(len(case.senders_to(name)) for name in NAMES),
        "against": "grpc",
        "against_seconds": round(theirs, 4),
        "ratio": round(ours / theirs, 2),
        "all": [[round(x,4) for x in r] for r in repetitions],
    }


def _seconds(parties: Parties[tuple[_Case, str], _Measured], case: _Case, way: str) -> float:
    measured = parties.do((case, way))
    sent = {name: zlib.crc32(_payload(name, case)) for name in NAMES}
    for name, party in zip(NAMES, measured, strict=True):
        assert party.checksums == {peer: sent[peer] for peer in case.senders_to(name)}, f"{way}: {name} got other bytes"
    return max(party.seconds for party in measured)


@contextmanager
def _party(party: Party) -> Iterator[Callable[[tuple[_Case, str]], _Measured]]:
    with ThreadPoolExecutor(2 * len(NAMES)) as pool, streams(party) as standing:
        ways = {"ours": lambda: _ours(party, pool), "grpc": lambda: _grpc(standing, pool)}
        yield lambda job: _measure(party.identity.name, job[0], ways[job[1]])


def _measure(me: str, case: _Case, way: Callable[[], AbstractContextManager[Swap]]) -> _Measured:
    mine = _payload(me, case)
    recipients = tuple(name for name in case.recipients if name != me)
    received = {peer: memoryview(bytearray(case.payload_bytes)) for peer in case.senders_to(me)}
    with way() as swap:
        started = time.perf_counter()
        for number in range(case.rounds):
            part = slice(number * case.round_bytes, (number + 1) * case.round_bytes)
            swap(number, mine[part], recipients, {peer: buffer[part] for peer, buffer in received.items()})
        seconds = time.perf_counter() - started
    return _Measured(seconds, {peer: zlib.crc32(buffer) for peer, buffer in received.items()})


def _payload(name: str, case: _Case) -> memoryview:
    return memoryview(np.random.default_rng(NAMES.index(name)).bytes(case.payload_bytes))


@contextmanager
def _ours(party: Party, pool: ThreadPoolExecutor) -> Iterator[Swap]:
    transport = party.transport
    with party.run() as run:

        def swap(number, payload, recipients, buffers) -> None:
            step = f"round/{number}"
            if MODE == "exchange" and len(payload) <= 65536:
                for peer, got in exchange(transport, run, step, payload, 1024).items():
                    buffers[peer][:] = got
                return
            if MODE == "seq" and len(payload) <= 65536:
                for peer in recipients:
                    transport.send(peer, run, step, payload)
                for peer, buffer in buffers.items():
                    transport.receive_into(peer, run, step, buffer)
                return
            if MODE == "half" and len(payload) <= 65536:
                s=[pool.submit(transport.send, peer, run, step, payload) for peer in recipients[1:]]
                transport.send(recipients[0], run, step, payload)
                for peer, buffer in buffers.items():
                    transport.receive_into(peer, run, step, buffer)
                for t in s: t.result()
                return
            tasks = [pool.submit(transport.receive_into, p, run, step, b) for p, b in buffers.items()]
            tasks += [pool.submit(transport.send, p, run, step, payload) for p in recipients]
            for task in tasks:
                task.result()

        yield swap


@contextmanager
def _grpc(standing: Mapping[str, Stream], pool: ThreadPoolExecutor) -> Iterator[Swap]:
    def swap(number, payload, recipients, buffers) -> None:
        for peer in recipients:
            standing[peer].send(payload)
        if len(payload) < 65536:
            for peer, buffer in buffers.items():
                standing[peer].receive_into(buffer)
            return
        tasks = [pool.submit(standing[p].receive_into, b) for p, b in buffers.items()]
        for task in tasks:
            task.result()

    for stream in standing.values():
        stream.send(memoryview(b"\0"))
    for stream in standing.values():
        stream.receive_into(memoryview(bytearray(1)))
    yield swap
