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
    label, size = context.label("input"), int(np.prod(shape, dtype=np.int64))
    if context.me == owner:
        assert values is not None
        assert values.dtype == kind.dtype, f"{values.dtype} in place of {kind.dtype}"
        assert values.size == size, f"{values.size} values for shape {shape}"
        given, mask, rest = values.reshape(-1), np.empty(size, kind.dtype), np.empty(size, kind.dtype)

        def masked(piece: slice) -> NDArray[Any]:
            context.own.fill(mask[piece])
            kind.less(given[piece], mask[piece], out=rest[piece])
            return rest[piece]

        context.stream(label, size, sends=(context.next, masked))
        return mask.reshape(shape), rest.reshape(shape)
    nothing = np.zeros(shape, kind.dtype)
    if context.previous == owner:
        rest = np.empty(size, kind.dtype)
        context.stream(label, size, take=lambda piece: context.channel.receive(owner, label, rest[piece]))
        return rest.reshape(shape), nothing
    return nothing, context.following.words(shape, kind.dtype.type)


def missing_part(context: Context, parts: tuple[NDArray[Any], ...], to: tuple[int, ...]) -> NDArray[Any] | None:
    """The part that this party lacks, from the previous one, which holds it first; None at who is no recipient.

    Leaks: the value, to the recipients. Cost: 1 round; the party before each recipient sends the part once.
    """
    label, held = context.label("open"), parts[0].reshape(-1)
    missing = np.empty(held.shape, held.dtype)

    def part(piece: slice) -> NDArray[Any]:
        return np.ascontiguousarray(held[piece])

    def take(piece: slice) -> None:
        context.channel.receive(context.previous, label, missing[piece])

    sends = (context.next, part) if context.next in to else None
    context.stream(label, len(held), sends=sends, take=take if context.me in to else None)
    return missing.reshape(parts[0].shape) if context.me in to else None
