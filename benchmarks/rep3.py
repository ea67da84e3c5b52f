"""Three-party computation beside SPU and a prototype: three processes on the same two cores, 64-bit numbers.

Ours runs over mutual TLS, as always, and over plain loopback sockets, which only this benchmark has; SPU 0.9.5 runs
ABY3 over plain brpc links, as it ships. Before the clock starts, programs are compiled, inputs are shared, all three
parties have met at a barrier, and everything has run once; a repetition ends when the slowest party holds its shares of
the result. Results are opened and compared with numpy's afterwards: a wrong one of ours fails the benchmark.

Records compare ours over mutual TLS with ours over plain sockets ("plain") and with SPU ("spu"), and ours over plain
sockets with the prototype ("prototype") that the environment variable REP3_FLOOR names: there the best repetition of
both, since that is what the prototype tells; elsewhere medians. `cpu_seconds` are those of all three parties, which
others' load on the machine hardly changes; `peak_mib` is the most that a party ever held, its interpreter and libraries
included. SPU counts sends where ours counts rounds of messages that wait for one another. `_rep3_page` makes
docs/benchmarks-rep3.md of a whole run.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from functools import partial

from cryptography.hazmat.primitives.serialization import NoEncryption

from benchmarks._floor import NoFloor, floor
from benchmarks._machine import machine
from benchmarks._peers import SPU, PeerFailed
from benchmarks._three import Measured, Three, ThreeFailed, cores, free_ports
from benchmarks.peers.three_cases import CASES, Case
from spark_mpc.identity import Identity

__all__ = ["ours", "run"]

_CORES = 2
_PARTIES = range(3)
_NAMES = ("a", "b", "c")
_REPETITIONS = 25  # as far as _MOST_SECONDS allow: single ones of some 40 ms differ by a half
_FLOOR_REPETITIONS = 5
_MOST_SECONDS = 10.0
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

_Contestant = Callable[[], Three]


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Every case, by all contestants one after the other: 1e6 rows (sorting 1e5, too); quick: 1e5 and fewer."""
    for case in CASES.values():
        for rows in (case.quick_rows,) if quick else case.rows:
            yield from _compare(case, rows)


def ours(transport: str) -> Three:
    """Our parties, as a context.

    Args:
        transport: "plain" or "tls".
    """
    keys = [secrets.token_hex(16) for _ in _PARTIES]
    common = {"names": _NAMES, "ports": free_ports(len(_PARTIES))}
    identities = [Identity.create(name, valid_days=1) for name in _NAMES]
    common["certificates"] = [identity.certificate for identity in identities]
    setups = [
        {
            **common,
            "me": me,
            "keys": (keys[me], keys[(me + 1) % len(_PARTIES)]),
            "key_pem": identities[me].key_pem(NoEncryption()).decode(),
        }
        for me in _PARTIES
    ]
    return Three(transport, [sys.executable, "-m", "benchmarks._rep3_party", transport], setups, _ONE_THREAD)


def _spu() -> Three:
    ports = free_ports(len(_PARTIES))
    return Three(
        "spu", [str(SPU.python()), "-m", "benchmarks.peers.spu"], [{"me": m, "ports": ports} for m in _PARTIES]
    )


def _compare(case: Case, rows: int) -> Iterator[dict[str, object]]:
    with cores(_CORES):
        tls, plain = _measured(partial(ours, "tls"), case, rows), _measured(partial(ours, "plain"), case, rows)
        spu = _measured_or_why_not(_spu, case, rows)
        named = {"case": f"{case.name}, {rows:,} rows", "rows": rows, "machine": machine(_CORES)}
        yield {**named, "transport": "tls", **_record(tls), **_against("plain", tls, plain)}
        yield {**named, "transport": "tls", **_record(tls), **_against("spu", tls, spu)}
        yield {**named, "transport": "plain", **_record(plain), **_against_floor(plain, case, rows)}


def _measured(contestant: _Contestant, case: Case, rows: int) -> Measured:
    with contestant() as three:
        return three.measure(case.name, rows, repetitions=_REPETITIONS, most_seconds=_MOST_SECONDS)


def _measured_or_why_not(contestant: _Contestant, case: Case, rows: int) -> Measured | str:
    try:
        return _measured(contestant, case, rows)
    except (ThreeFailed, PeerFailed) as reason:
        return str(reason)


def _record(measured: Measured) -> dict[str, object]:
    return {
        "seconds": round(measured.median_seconds, 4),
        "cpu_seconds": round(measured.median_cpu_seconds, 3),
        "rounds": measured.rounds,
        "bytes": measured.sent_bytes,
        "peak_mib": measured.peak_mib,
        "max_error": measured.max_error,
    }


def _against(name: str, mine: Measured, theirs: Measured | str) -> dict[str, object]:
    if isinstance(theirs, str):
        return {"against": name, "skipped": theirs}
    return {
        "against": name,
        **{f"against_{field}": value for field, value in _record(theirs).items()},
        "ratio": round(mine.median_seconds / theirs.median_seconds, 3),
        "cpu_ratio": round(mine.median_cpu_seconds / theirs.median_cpu_seconds, 3),
    }


def _against_floor(mine: Measured, case: Case, rows: int) -> dict[str, object]:
    try:
        lowest = floor(case.name, rows, _FLOOR_REPETITIONS)
    except NoFloor as reason:
        return {"against": "prototype", "skipped": str(reason)}
    return {
        "against": "prototype",
        "against_seconds": lowest.seconds,
        "against_cpu_seconds": round(lowest.cpu_seconds, 3),
        "ratio": round(min(mine.seconds) / lowest.seconds, 3),
        "cpu_ratio": round(min(mine.cpu_seconds) / lowest.cpu_seconds, 3),
    }
