"""Circuits of many rounds on long columns: piece by piece, so that what lies between the rounds stays in cache."""

from __future__ import annotations

from collections.abc import Callable

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, concatenated

__all__ = ["in_chunks"]


def in_chunks(engine: Engine, circuit: Callable[..., Arithmetic], *columns: Arithmetic) -> Arithmetic:
    """Apply a circuit to every `engine.chunk` elements of columns of one length, and join what it gives.

    Cost: rounds of the circuit for every chunk; its bytes.
    """
    length = len(columns[0])
    if length <= engine.chunk:
        return circuit(*columns) if length else columns[0]
    starts = range(0, length, engine.chunk)
    pieces = [slice(start, min(start + engine.chunk, length)) for start in starts]
    return concatenated([circuit(*(column.piece(piece) for column in columns)) for piece in pieces])
