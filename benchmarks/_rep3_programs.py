"""Our programs for the cases of `three_cases`: from an engine and its shares to a share; and a sum without shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.three_cases import COMPARED, RADIX_BITS, Case, Inputs
from spark_mpc.circuits.exponential import sigmoid
from spark_mpc.circuits.fixed_point import FixedPoint, multiply
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.radix_sort import radix_sorted
from spark_mpc.circuits.selection import select
from spark_mpc.circuits.sorting import sort
from spark_mpc.protocols.channel import Channel
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, Share
from spark_mpc.ring.masks import PairKey, Words, add_masks

__all__ = ["PROGRAMS", "SUM", "Uploads", "opened", "shared"]

SUM = "sum of three"
"""The case whose inputs are not shared before it begins, see `Uploads`."""

_FORM = FixedPoint(fraction_bits=18, magnitude_bits=14)  # the fraction is that of SPU, as it ships


def _sorted(engine: Engine, x: Arithmetic) -> Share:
    (ordered,), _ = sort(engine, [Key(engine.plus_public(x, COMPARED), COMPARED.bit_length())])
    assert isinstance(ordered, Arithmetic)
    return engine.plus_public(ordered, -COMPARED)


def _by_digits(engine: Engine, x: Binary) -> Share:
    (ordered,) = radix_sorted(engine, [Key(x.shifted_right(64 - RADIX_BITS), RADIX_BITS)], [x])
    return ordered


PROGRAMS: Mapping[str, Callable[..., Share]] = {
    "multiply": lambda engine, x, y: engine.multiply(x, y),
    "compare": lambda engine, x, y: engine.negative(x - y),
    "equality": lambda engine, x, y: engine.zero(x - y),
    "select": select,
    "bits to numbers": lambda engine, bits: engine.bits_to_arithmetic(bits, np.uint32),
    "shuffle": lambda engine, x: engine.shuffled([x])[0],
    "sort": _sorted,
    "radix sort": _by_digits,
    "matmul": lambda engine, x, y: engine.matmul(x, y),
    "fixed-point multiply": lambda engine, x, y: multiply(engine, x, y, _FORM),
    "sigmoid": lambda engine, x: sigmoid(engine, x, _FORM),
}


@dataclass
class Uploads:
    """The additive protocol's sum, to party 0: pairwise masks, then one upload, over the channel of this benchmark.

    In a federation uploads are acknowledged messages of the transport, see the benchmark `secure_sum`.

    Attributes:
        channel: to the other two.
        keys: shared with each of them.
        position: of the next mask in their streams.
    """

    channel: Channel
    keys: tuple[PairKey, ...]
    position: int = 0

    def total(self, words: Words) -> Words | None:
        """The sum of everybody's words, at party 0; None elsewhere."""
        masked = add_masks(words, self.keys, self.position)
        self.position += len(words) + len(words) % 2
        if self.channel.me != 0:
            self.channel.send(0, "upload", masked)
            return None
        uploaded = np.empty_like(masked)
        for sender in (1, 2):
            self.channel.receive(sender, "upload", uploaded)
            masked += uploaded
        return masked


def shared(engine: Engine, values: Inputs) -> list[Share]:
    """Inputs of party 0 as shares."""
    return [_shared(engine, array) for array in values]


def _shared(engine: Engine, values: NDArray[Any]) -> Share:
    if values.dtype == np.uint64:
        return engine.input_binary(0, values if engine.me == 0 else None, values.size)
    if values.dtype == np.bool_:
        return engine.input_bits(0, values if engine.me == 0 else None, values.size)
    words = _FORM.encode(values) if values.dtype == np.float64 else values.view(np.uint64)
    flat = engine.input_words(0, words.reshape(-1) if engine.me == 0 else None, words.size)
    return flat.map(lambda part: part.reshape(values.shape))


def opened(engine: Engine, result: Share, case: Case) -> NDArray[Any]:
    """A result in the terms of its case."""
    if isinstance(result, Bits):
        bits = engine.open_bits(result)
        assert bits is not None
        return bits.astype(np.bool_)
    assert isinstance(result, Arithmetic | Binary)
    words = engine.open_words(result)
    assert words is not None
    if isinstance(result, Binary):
        return words
    if case.tolerance:
        return _FORM.decode(words)
    return words.view(np.int64) if words.dtype == np.uint64 else words
