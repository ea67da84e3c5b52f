"""Our programs for the cases of `three_cases`: from an engine and its shares to a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.three_cases import Inputs
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Bits, Share

__all__ = ["PROGRAMS", "opened", "shared"]


def _select(engine: Engine, condition: Bits, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    return y + engine.multiply(engine.bits_to_arithmetic(condition), x - y)


PROGRAMS: Mapping[str, Callable[..., Share]] = {
    "multiply": lambda engine, x, y: engine.multiply(x, y),
    "compare": lambda engine, x, y: engine.negative(x - y),
    "equality": lambda engine, x, y: engine.zero(x - y),
    "select": _select,
    "bits to numbers": lambda engine, bits: engine.bits_to_arithmetic(bits, np.uint32),
    "shuffle": lambda engine, x: engine.shuffled([x])[0],
    "matmul": lambda engine, x, y: engine.matmul(x, y),
}


def shared(engine: Engine, values: Inputs) -> list[Share]:
    """Inputs of party 0 as shares."""
    return [_shared(engine, array) for array in values]


def _shared(engine: Engine, values: NDArray[Any]) -> Share:
    mine = values.reshape(-1) if engine.me == 0 else None
    if values.dtype == np.bool_:
        return engine.input_bits(0, mine, values.size)
    words = None if mine is None else mine.view(np.uint64)
    return engine.input_words(0, words, values.size).map(lambda part: part.reshape(values.shape))


def opened(engine: Engine, result: Share) -> NDArray[Any]:
    """A result in the terms of its case."""
    if isinstance(result, Bits):
        bits = engine.open_bits(result)
        assert bits is not None
        return bits.astype(np.bool_)
    assert isinstance(result, Arithmetic)
    words = engine.open_words(result)
    assert words is not None
    return words.view(np.int64) if words.dtype == np.uint64 else words
