"""One compute party as a process: it runs each operation once, and says how much memory that took at the most.

    python -m tests.spark_mpc.memory_worker DIRECTORY NAME

Prints, as JSON by the names of `OPERATIONS`, the peak beside what was there before, in bytes a row.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spark_mpc.circuits.compaction import compacted
from spark_mpc.circuits.exponential import sigmoid
from spark_mpc.circuits.extrema import column_min
from spark_mpc.circuits.fixed_point import FixedPoint, multiply
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.quicksort import quicksorted
from spark_mpc.circuits.radix_sort import radix_sorted
from spark_mpc.circuits.scans import one_segment, segmented_sum
from spark_mpc.circuits.selection import select
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.masks import Words
from spark_mpc.ring.streams import KeyStream
from spark_mpc.transport import tls_transport
from spark_mpc.transport.streams import StreamChannel, open_channel
from tests.tools.three import three_keys

RUN = b"m" * 32
PARTIES = ("a", "b", "c")
ROWS = 63 << 10
"""Below the length from which on a compiler is worth its memory."""
_CHUNK = 1 << 12
_SIDE = 240
_FORM = FixedPoint(fraction_bits=20, magnitude_bits=20)


@dataclass
class Columns:
    """What an operation works on, and its plain words."""

    words: Words
    x: Arithmetic
    y: Arithmetic
    w: Binary
    bits: Bits

    @property
    def matrix(self) -> Arithmetic:
        """Of some rows of x."""
        return self.x.map(lambda part: part[: _SIDE * _SIDE].reshape(_SIDE, _SIDE))


OPERATIONS: dict[str, Callable[[Rep3, Columns], object]] = {
    "input": lambda e, c: e.input_words(0, c.words if e.me == 0 else None, ROWS),
    "input of bits": lambda e, c: e.input_bits(0, c.words & np.uint64(1) if e.me == 0 else None, ROWS),
    "opening": lambda e, c: e.open_words(c.x),
    "opening of bits": lambda e, c: e.open_bits(c.bits),
    "multiply": lambda e, c: e.multiply(c.x, c.y),
    "inner products": lambda e, c: e.dot(*(one.map(lambda part: part.reshape(-1, 8)) for one in (c.x, c.y))),
    "matrix product": lambda e, c: e.matmul(c.matrix, c.matrix),
    "and": lambda e, c: e.and_words(c.w, c.w),
    "negative": lambda e, c: e.negative(c.x),
    "zero": lambda e, c: e.zero(c.x),
    "bits to numbers": lambda e, c: e.bits_to_arithmetic(c.bits),
    "bits counted": lambda e, c: e.combined_bits(c.bits, lambda ones: ones.sum(keepdims=True, dtype=ones.dtype)),
    "to binary": lambda e, c: e.to_binary(c.x),
    "truncated": lambda e, c: e.truncated(c.x, 20),
    "truncated exactly": lambda e, c: e.truncated_exactly(c.x, 20),
    "shuffle": lambda e, c: e.shuffled([c.x]),
    "shuffle of three": lambda e, c: e.shuffled([c.x, c.y, c.w]),
    "select": lambda e, c: select(e, c.bits, c.x, c.y),
    "fixed-point multiply": lambda e, c: multiply(e, c.x, c.y, _FORM),
    "sigmoid": lambda e, c: sigmoid(e, c.x, _FORM),
    "least": lambda e, c: column_min(e, c.x),
    "segmented sum": lambda e, c: segmented_sum(e, one_segment(e, ROWS), [c.x]),
    "compaction": lambda e, c: compacted(e, c.bits, [c.x]),
    "radix sort": lambda e, c: radix_sorted(e, [Key(c.w, 16)], [c.x]),
    "quicksort": lambda e, c: quicksorted(e, [Key(c.w, 64)], [c.x]),
}


def columns(engine: Rep3) -> Columns:
    """Shared by party 0."""
    words = np.random.default_rng(1).permutation(ROWS).astype(np.uint64)
    mine = words if engine.me == 0 else None
    x, y = engine.input_words(0, mine, ROWS), engine.input_words(0, mine, ROWS)
    bits = engine.input_bits(0, None if mine is None else mine & np.uint64(1), ROWS)
    return Columns(words, x, y, engine.input_binary(0, mine, ROWS), bits)


def peak_bytes(channel: StreamChannel, operation: Callable[[], object]) -> int:
    """What an operation takes beside what was there before, its result and what waits to be sent included."""
    gc.collect()
    tracemalloc.start()
    try:
        result = operation()
        channel.drain()
        peak = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return peak


def main(directory: str, name: str) -> None:
    """Meet, compute, report."""
    me, keys = PARTIES.index(name), three_keys(np.random.default_rng(7))
    federation = FederationFile.load(f"{directory}/federation.toml")
    with tls_transport(Identity.load(directory, name), federation) as transport:
        transport.begin(RUN)
        with open_channel(transport, RUN, PARTIES) as channel:
            engine = Rep3(Context(channel, KeyStream(keys[me]), KeyStream(keys[(me + 1) % 3]), chunk=_CHUNK))
            given = columns(engine)
            OPERATIONS["matrix product"](engine, given)  # it is compiled, whatever its size
            peaks = {
                name: peak_bytes(channel, lambda operation=operation: operation(engine, given)) / ROWS
                for name, operation in OPERATIONS.items()
            }
    print(json.dumps(peaks), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
