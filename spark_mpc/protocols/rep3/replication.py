"""How parts come to be with two parties each, and how the third part is learnt; alike for sums and exclusive ors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.rep3.context import Context

__all__ = ["XOR", "Kind", "Pair", "dealt", "missing_part", "sums"]

Pair = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """How parts give a value.

    Attributes:
        dtype: of the parts.
        less: takes a part away from a value.
    """

    dtype: np.dtype[Any]
    less: np.ufunc


XOR = Kind(np.dtype(np.uint64), np.bitwise_xor)


def sums(dtype: type[Any]) -> Kind:
    """By addition modulo 2^64 or 2^32."""
    return Kind(np.dtype(dtype), np.subtract)


def dealt(context: Context, owner: int, values: NDArray[Any] | None, shape: int | tuple[int, ...], kind: Kind) -> Pair:
    """Share what one party knows: x_i = F(k_i), x_i+1 = x - x_i, x_i+2 = 0 for owner i.

    Args:
        context: of this party.
        owner: who knows the values.
        values: at the owner; None elsewhere.
        shape: public.
        kind: how the parts give the value.

    Guarantees: what the next party receives is uniform; the previous one receives nothing.
    Leaks: nothing but the shape. Cost: 1 round; the owner sends the values' bytes once.
    """
    label = context.label("input")
    if context.me == owner:
        assert values is not None
        assert values.dtype == kind.dtype, f"{values.dtype} in place of {kind.dtype}"
        assert values.size == np.prod(shape, dtype=np.int64), f"{values.size} values for shape {shape}"
        mask = context.own.words(shape, kind.dtype.type)
        rest = kind.less(values, mask)
        context.channel.send(context.next, label, rest)
        return mask, rest
    nothing = np.zeros(shape, kind.dtype)
    if context.previous == owner:
        rest = np.empty(shape, kind.dtype)
        context.channel.receive(owner, label, rest)
        return rest, nothing
    return nothing, context.following.words(shape, kind.dtype.type)


def missing_part(context: Context, parts: tuple[NDArray[Any], ...], to: tuple[int, ...]) -> NDArray[Any] | None:
    """The part that this party lacks, from the previous one, which holds it first; None at who is no recipient.

    Leaks: the value, to the recipients. Cost: 1 round; the party before each recipient sends the part once.
    """
    label = context.label("open")
    if context.next in to:
        context.channel.send(context.next, label, np.ascontiguousarray(parts[0]))
    if context.me not in to:
        return None
    missing = np.empty(parts[0].shape, parts[0].dtype)
    context.channel.receive(context.previous, label, missing)
    return missing
