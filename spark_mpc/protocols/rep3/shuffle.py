"""A secret random order: three hops, in each of which two parties permute and hand the result to the third.

Source: Laur, Willemson, Zhang 2011; Araki et al. 2021 (three-party shuffle of replicated shares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.rep3.replication import Pair
from spark_mpc.protocols.shares import Arithmetic, Binary, OneShare
from spark_mpc.ring.permutations import Permutation, permutation
from spark_mpc.ring.streams import KeyStream

__all__ = ["shuffled"]


def shuffled(context: Context, columns: Sequence[OneShare]) -> list[OneShare]:
    """Bring the rows of columns into one uniformly random order that no party knows.

    Args:
        context: of this party.
        columns: arithmetic or binary, all of one length.

    Guarantees: of the three permutations that are composed each party knows two; every hop shares afresh.
    Leaks: nothing. Cost: 3 rounds; 2 elements of each column and party.
    """
    moved = list(columns)
    with context.step("shuffle"):
        for hop in range(PARTIES):
            _hop_of_all(context, hop, moved)
    return moved


def _hop_of_all(context: Context, hop: int, columns: list[OneShare]) -> None:
    """Replace the columns one after the other: what a hop has done with is free before the next column."""
    order = _order(context, hop, len(columns[0]))
    for number in range(len(columns)):
        columns[number] = _hop(context, hop, number, columns[number], order)


def _order(context: Context, hop: int, length: int) -> Permutation | None:
    """The permutation of a hop, known to parties `hop` and `hop + 1` by their common key."""
    stream = _common_stream(context, hop)
    return None if stream is None else permutation(stream, length)


def _common_stream(context: Context, hop: int) -> KeyStream | None:
    if context.me == hop:
        return context.following
    return context.own if context.previous == hop else None


def _hop(context: Context, hop: int, number: int, column: OneShare, order: Permutation | None) -> OneShare:
    """Parties a and b hold all parts between them: both permute, and share afresh towards c.

    New parts: y_b is a key stream of a and b; a sends y_a, b sends y_c.
    """
    label, length = context.label(f"{hop}/{number}"), len(column)
    more, less = (np.bitwise_xor, np.bitwise_xor) if isinstance(column, Binary) else (np.add, np.subtract)
    stream, a, b = _common_stream(context, hop), hop, (hop + 1) % PARTIES
    c = (hop + 2) % PARTIES
    first, second = np.empty((2, length), column.dtype)
    if stream is None or order is None:

        def take(piece: slice) -> None:
            context.channel.receive(a, label, second[piece])
            context.channel.receive(b, label, first[piece])

        context.stream(label, length, take=take)
        return _alike(column, (first, second))  # y_c, y_a
    sent, y_b = (first, second) if context.me == a else (second, first)
    mine = more(column.parts[0], column.parts[1]) if context.me == a else column.parts[1]

    def permuted(piece: slice) -> NDArray[Any]:
        out: NDArray[Any] = sent[piece]
        mask = stream.words(len(out), column.dtype.type)
        stream.fill(y_b[piece])
        np.take(mine, order[piece], out=out, mode="clip")  # all are within; other modes take a copy of the result
        if context.me == a:  # y_a = permuted(x_a + x_b) - mask
            less(out, mask, out=out)
        else:  # y_c = permuted(x_c) + mask - y_b
            more(out, mask, out=out)
            less(out, y_b[piece], out=out)
        return out

    context.stream(label, length, sends=(c, permuted))
    return _alike(column, (first, second))  # y_a, y_b or y_b, y_c


def _alike(column: OneShare, parts: Pair) -> OneShare:
    assert isinstance(column, Arithmetic | Binary)
    return replace(column, parts=parts)
