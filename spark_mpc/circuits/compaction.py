"""Rows that are kept come first, in their order; how many they are stays secret."""

from __future__ import annotations

from collections.abc import Sequence

from spark_mpc.circuits.columns import Column
from spark_mpc.circuits.radix_sort import digit_places
from spark_mpc.circuits.routing import delivered
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Bits

__all__ = ["compacted"]


def compacted(engine: Engine, kept: Bits, columns: Sequence[Column]) -> list[Column]:
    """Bring the rows with a secret one to the front; the others follow, both in their order.

    Args:
        engine: of this party.
        kept: one bit a row; where later steps need it, its words (`words_of`) are given as a column, too.
        columns: n rows each; their length stays.

    Guarantees: what is opened is a permutation that a shuffle has made uniform.
    Leaks: nothing, the number of kept rows included. Cost: 7 rounds; 2 elements of every column and 21.3 bytes, a row
        and party.
    Source: Asharov et al. 2022, section 4 (a radix sort by one bit).
    """
    if len(kept) < 2:
        return list(columns)
    with engine.step("compact"):
        return delivered(engine, columns, digit_places(engine, engine.xor_public(kept, 1), 1))
