"""Our programs for the cases of `three_cases`: from an engine and its shares to a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.three_cases import COMPARED, Case, Inputs
from spark_mpc.circuits.exponential import sigmoid
from spark_mpc.circuits.fixed_point import FixedPoint, multiply
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.selection import select
from spark_mpc.circuits.sorting import sort
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Bits, Share

__all__ = ["PROGRAMS", "opened", "shared"]

_FORM = FixedPoint(fraction_bits=18, magnitude_bits=14)  # the fraction is that of SPU, as it ships


def _sorted(engine: Engine, x: Arithmetic) -> Share:
    (ordered,), _ = sort(engine, [Key(engine.plus_public(x, COMPARED), COMPARED.bit_length())])
    assert isinstance(ordered, Arithmetic)
    return engine.plus_public(ordered, -COMPARED)


PROGRAMS: Mapping[str, Callable[..., Share]] = {
    "multiply": lambda engine, x, y: engine.multiply(x, y),
    "compare": lambda engine, x, y: engine.negative(x - y),
    "equality": lambda engine, x, y: engine.zero(x - y),
    "select": select,
    "bits to numbers": lambda engine, bits: engine.bits_to_arithmetic(bits, np.uint32),
    "shuffle": lambda engine, x: engine.shuffled([x])[0],
    "sort": _sorted,
    "matmul": lambda engine, x, y: engine.matmul(x, y),
    "fixed-point multiply": lambda engine, x, y: multiply(engine, x, y, _FORM),
    "sigmoid": lambda engine, x: sigmoid(engine, x, _FORM),
}


def shared(engine: Engine, values: Inputs) -> list[Share]:
    """Inputs of party 0 as shares."""
    return [_shared(engine, array) for array in values]


def _shared(engine: Engine, values: NDArray[Any]) -> Share:
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
    assert isinstance(result, Arithmetic)
    words = engine.open_words(result)
    assert words is not None
    if case.tolerance:
        return _FORM.decode(words)
    return words.view(np.int64) if words.dtype == np.uint64 else words
