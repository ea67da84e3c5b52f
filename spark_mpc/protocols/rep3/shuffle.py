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
    length = len(columns[0])
    with context.step("shuffle"):
        for hop in range(PARTIES):
            order = _order(context, hop, length)
            columns = [_hop(context, hop, number, column, order) for number, column in enumerate(columns)]
    return list(columns)


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
    label = context.label(f"{hop}/{number}")
    more, less = (np.bitwise_xor, np.bitwise_xor) if isinstance(column, Binary) else (np.add, np.subtract)
    stream, a, b = _common_stream(context, hop), hop, (hop + 1) % PARTIES
    c = (hop + 2) % PARTIES
    if stream is None or order is None:
        y_c, y_a = np.empty(column.shape, column.dtype), np.empty(column.shape, column.dtype)
        context.channel.receive(a, label, y_a)
        context.channel.receive(b, label, y_c)
        return _alike(column, (y_c, y_a))
    mask, y_b = (stream.words(column.shape, column.dtype.type) for _ in range(2))
    mine = more(column.parts[0], column.parts[1]) if context.me == a else column.parts[1]
    sent: NDArray[Any] = np.take(mine, order)
    if context.me == a:  # y_a = permuted(x_a + x_b) - mask
        less(sent, mask, out=sent)
        context.channel.send(c, label, sent)
        return _alike(column, (sent, y_b))
    more(sent, mask, out=sent)  # y_c = permuted(x_c) + mask - y_b
    less(sent, y_b, out=sent)
    context.channel.send(c, label, sent)
    return _alike(column, (y_b, sent))


def _alike(column: OneShare, parts: Pair) -> OneShare:
    assert isinstance(column, Arithmetic | Binary)
    return replace(column, parts=parts)
