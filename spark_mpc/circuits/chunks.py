"""Circuits of many rounds on long columns: piece by piece, so that what lies between the rounds stays in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic

__all__ = ["in_chunks"]


def in_chunks(engine: Engine, circuit: Callable[..., Arithmetic], *columns: Arithmetic) -> Arithmetic:
    """Apply a circuit to every `engine.chunk` elements of columns of one length, and join what it gives.

    Cost: rounds of the circuit for every chunk; its bytes.
    """
    length = len(columns[0])
    if length <= engine.chunk:
        return circuit(*columns) if length else columns[0]
    whole: tuple[NDArray[Any], ...] = ()
    for start in range(0, length, engine.chunk):
        piece = slice(start, min(start + engine.chunk, length))
        result = circuit(*(column.piece(piece) for column in columns))
        whole = whole or tuple(np.empty(length, result.dtype) for _ in result.parts)
        for out, part in zip(whole, result.parts, strict=True):
            out[piece] = part
    return Arithmetic(whole)
