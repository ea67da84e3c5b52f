"""A choice between two secrets by a secret bit."""

from __future__ import annotations

from spark_mpc.circuits.bits import masks
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits

__all__ = ["select", "select_binary"]


def select(engine: Engine, condition: Bits, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    """x where the condition holds, else y.

    Args:
        engine: of this party.
        condition: n bits.
        x: uint64 or uint32, shape (n,).
        y: of the type and shape of x.

    Guarantees: exact. Leaks: nothing. Cost: 3 rounds, 18.7 bytes an element and party (half in Z_2^32).
    """
    holds = engine.bits_to_arithmetic(condition, x.dtype.type)
    return y + engine.multiply(holds, x - y)


def select_binary(engine: Engine, condition: Bits, x: Binary, y: Binary) -> Binary:
    """The same of words shared by exclusive or, shape (n,).

    Guarantees: exact. Leaks: nothing. Cost: 1 round, 8 bytes an element and party.
    """
    return y ^ engine.and_words(masks(condition), x ^ y)
