"""Our transport and its streams beside a tuned gRPC stream: many small rounds, bulk to one recipient, bulk to all.

Three processes on loopback, mutual TLS with the same certificates, both in the same run and by turns, so that a machine
that drifts drifts for both. What is sent ends in one buffer of its receiver per peer. The time is that of the slowest
party, from a common start until it has everything. Outside of it, what arrived is compared with what was sent.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from benchmarks._grpc import Stream, streams
from benchmarks._parties import NAMES, Parties, Party
from spark_mpc.talk import exchange
from spark_mpc.transport.base import Transport
from spark_mpc.transport.streams import StreamChannel, open_channel

__all__ = ["run"]

_REPETITIONS = 7
_GRPC, _STREAMS = "grpc", "streams"

_Recipients = Mapping[str, tuple[str, ...]]
"""Whom each party sends to."""

_TO_ONE: _Recipients = {"a": (), "b": ("a",), "c": ("a",)}
_TO_NEXT: _Recipients = {"a": ("b",), "b": ("c",), "c": ("a",)}  # as in replicated sharing
_TO_ALL: _Recipients = {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}


@dataclass(frozen=True)
class _Case:
    name: str
    ours: str  # which of our ways is compared with gRPC
    rounds: int
    round_bytes: int  # from a sender to each recipient
    recipients: _Recipients

    @property
    def payload_bytes(self) -> int:
        """From a sender to each recipient, over all rounds."""
        return self.rounds * self.round_bytes

    def senders_to(self, me: str) -> tuple[str, ...]:
        """The peers that send to a party."""
        return tuple(name for name in NAMES if me in self.recipients[name])


@dataclass(frozen=True)
class _Job:
    case: _Case
    way: str


@dataclass(frozen=True)
class _Measured:
    seconds: float
    checksums: dict[str, int]  # of what each peer sent


@dataclass(frozen=True)
class _Round:
    """What one party does in a round: its payload for each recipient, and where to put what each peer sends."""

    step: str
    payload: memoryview
    recipients: tuple[str, ...]
    buffers: Mapping[str, memoryview]


_Act = Callable[[_Round], None]
"""Does a party's part of a round; returns when this party has what peers send."""

_Way = Callable[[bytes], AbstractContextManager[_Act]]
"""Opens what a run needs, before its time is taken."""


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Rounds and bulk, by acknowledged messages and by streams.

    Acknowledged: small rounds, by one thread and by `exchange`; bulk to one recipient, and to all. Streams: small
    rounds, and bulk in rounds of a megabyte, from each party to the next and to all; bulk in one round.

    Args:
        quick: a tenth of the rounds and of the bulk.
    """
    part = 10 if quick else 1
    rounds, bulk_bytes = 500 // part, 80_000_000 // part
    small, bulk = f"{rounds} rounds of 1 KiB", f"{bulk_bytes // 10**6} MB"
    cases = (
        _Case(f"{small}, one thread", "in turn", rounds, 1024, _TO_ALL),
        _Case(f"{small}, exchange", "exchange", rounds, 1024, _TO_ALL),
        _Case(f"{bulk} from two to one", "at once", 1, bulk_bytes, _TO_ONE),
        _Case(f"{bulk} from each to all", "at once", 1, bulk_bytes, _TO_ALL),
        _Case(f"streams: {4 * rounds} rounds of 64 B to the next", _STREAMS, 4 * rounds, 64, _TO_NEXT),
        _Case(f"streams: {4 * rounds} rounds of 64 B to all", _STREAMS, 4 * rounds, 64, _TO_ALL),
        _Case(f"streams: {bulk} to the next, 1 MB a round", _STREAMS, bulk_bytes // 10**6, 10**6, _TO_NEXT),
        _Case(f"streams: {bulk} to all, 1 MB a round", _STREAMS, bulk_bytes // 10**6, 10**6, _TO_ALL),
        _Case(f"streams: {bulk} to the next, one round", _STREAMS, 1, bulk_bytes, _TO_NEXT),
    )
    with Parties(_open) as parties:
        for case in cases:
            pairs = [
                (_seconds(parties, case, case.ours), _seconds(parties, case, _GRPC)) for _ in range(1 + _REPETITIONS)
            ]
            yield _record(case, pairs[1:])  # the first warmed up


def _record(case: _Case, pairs: list[tuple[float, float]]) -> dict[str, object]:
    ours, theirs = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return {
        "case": case.name,
        "seconds": round(ours, 4),
        "rounds": case.rounds,
        "bytes": case.payload_bytes * max(map(len, case.recipients.values())),
        "against": _GRPC,
        "against_seconds": round(theirs, 4),
        "ratio": round(ours / theirs, 2),
    }


def _seconds(parties: Parties[_Job, _Measured], case: _Case, way: str) -> float:
    measured = parties.do(_Job(case, way))
    for name, party in zip(NAMES, measured, strict=True):
        sent = {peer: _checksum(peer, case.payload_bytes) for peer in case.senders_to(name)}
        assert party.checksums == sent, f"{case.name}, {way}: {name} has other bytes than were sent"
    return max(party.seconds for party in measured)


@lru_cache
def _checksum(name: str, length: int) -> int:
    return zlib.crc32(_payload(name, length))


@lru_cache(maxsize=1)
def _payload(name: str, length: int) -> memoryview:
    return memoryview(np.random.default_rng(NAMES.index(name)).bytes(length))


@contextmanager
def _open(party: Party) -> Iterator[Callable[[_Job], _Measured]]:
    with ThreadPoolExecutor(2 * len(NAMES)) as pool, streams(party) as standing:
        ways: dict[str, _Way] = {
            "in turn": lambda run: nullcontext(partial(_in_turn, party.transport, run)),
            "exchange": lambda run: nullcontext(partial(_exchange, party.transport, run)),
            "at once": lambda run: nullcontext(partial(_at_once, party.transport, pool, run)),
            _STREAMS: partial(_streaming, party.transport),
            _GRPC: lambda _: nullcontext(partial(_over_grpc, standing)),
        }
        yield lambda job: _measure(party, job.case, ways[job.way])


def _measure(party: Party, case: _Case, way: _Way) -> _Measured:
    me = party.identity.name
    payload, recipients = _payload(me, case.payload_bytes), case.recipients[me]
    received = {peer: memoryview(bytearray(case.payload_bytes)) for peer in case.senders_to(me)}
    with party.run() as run, way(run) as act:
        started = time.perf_counter()
        for number in range(case.rounds):
            part = slice(number * case.round_bytes, (number + 1) * case.round_bytes)
            buffers = {peer: buffer[part] for peer, buffer in received.items()}
            act(_Round(f"round/{number}", payload[part], recipients, buffers))
        seconds = time.perf_counter() - started
    return _Measured(seconds, {peer: zlib.crc32(buffer) for peer, buffer in received.items()})


def _in_turn(transport: Transport, run: bytes, part: _Round) -> None:
    for peer in part.recipients:
        transport.send(peer, run, part.step, part.payload)
    for peer, buffer in part.buffers.items():
        transport.receive_into(peer, run, part.step, buffer)


def _exchange(transport: Transport, run: bytes, part: _Round) -> None:
    for peer, payload in exchange(transport, run, part.step, bytes(part.payload), len(part.payload)).items():
        part.buffers[peer][:] = payload


def _at_once(transport: Transport, pool: ThreadPoolExecutor, run: bytes, part: _Round) -> None:
    # What is long is sent while it is received, and therefore by threads.
    moving = [pool.submit(transport.receive_into, peer, run, part.step, view) for peer, view in part.buffers.items()]
    moving += [pool.submit(transport.send, peer, run, part.step, part.payload) for peer in part.recipients]
    for moved in moving:
        moved.result()


@contextmanager
def _streaming(transport: Transport, run: bytes) -> Iterator[_Act]:
    with open_channel(transport, run, NAMES) as channel:
        yield partial(_over_streams, channel)


def _over_streams(channel: StreamChannel, part: _Round) -> None:
    for peer in part.recipients:
        channel.send(NAMES.index(peer), part.step, np.frombuffer(part.payload, np.uint8))
    for peer, buffer in part.buffers.items():
        channel.receive(NAMES.index(peer), part.step, np.frombuffer(buffer, np.uint8))


def _over_grpc(standing: Mapping[str, Stream], part: _Round) -> None:
    for peer in part.recipients:
        standing[peer].send(part.payload)
    for peer, buffer in part.buffers.items():
        standing[peer].receive_into(buffer)
