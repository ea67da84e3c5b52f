"""Stable sort by digits of a few secret bits, least significant first: cost linear in rows and in bits.

Source: Asharov, Hamada, Ikarashi, Kikuchi, Nof, Pinkas, Takahashi, Tomida 2022, sections 4 and 5, with digits of three
bits: the product terms of a digit's bits give its counters, and one inner product a row gives the row's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.circuits.columns import Column, bits_at, constant_words, index_bits
from spark_mpc.circuits.keys import Key, packed_keys
from spark_mpc.circuits.routing import delivered
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, concatenated
from spark_mpc.ring.permutations import scattered
from spark_mpc.ring.planes import WORD_BITS

__all__ = ["DIGIT_BITS", "digit_places", "radix_sorted"]

DIGIT_BITS = 3
"""Bits sorted by in one pass: with 1, 2, 3, 4 a bit costs 37, 23, 21, 24 bytes and 7, 4, 3, 2.5 rounds."""

_HALF_WORD = WORD_BITS // 2


def radix_sorted(engine: Engine, keys: Sequence[Key], columns: Sequence[Column]) -> list[Column]:
    """Columns in the order of keys; rows with equal keys keep their order.

    Args:
        engine: of this party.
        keys: the most significant first; words shared by sums are converted.
        columns: what is sorted, n rows each; keys are not among them unless they are given here, too.

    Guarantees: all that is opened are permutations of rows which a shuffle has made uniform.
    Leaks: nothing. Cost: 9 rounds and 56 or 64 bytes a digit of 3 bits, row and party, within one chunk; then 4 rounds,
        12 bytes and 16 more a column of 64 bits; 49.3 bytes and 8 rounds for each column of keys shared by sums. Each
        further chunk takes about a round more a digit, and 8 a column of keys shared by sums.
    """
    columns, length = list(columns), len(keys[0].column)
    if length < 2:
        return columns
    words = _words([_binary(engine, key) for key in keys], WORD_BITS - index_bits(length))
    with engine.step("radix"):
        while words:  # the least significant word first; the others move along with the columns
            *words, last = words
            moved = delivered(engine, [*(word.column for word in words), *columns], _places(engine, last))
            words = [Key(column, word.bits) for word, column in zip(words, moved, strict=False)]
            columns = moved[len(words) :]
    return columns


def _binary(engine: Engine, key: Key) -> Key:
    return key if isinstance(key.column, Binary) else Key(engine.to_binary(key.column), key.bits)


def _words(keys: Sequence[Key], most: int) -> list[Key]:
    """The same order by words of at most so many bits: wide keys are cut, narrow ones joined."""
    cut: list[Key] = []
    for key in keys:
        column, bits = key.column, key.bits
        assert isinstance(column, Binary)
        if bits > most:
            cut.append(Key(column.shifted_right(most), bits - most))
            column, bits = column.masked((1 << most) - 1), most
        cut.append(Key(column, bits))
    return packed_keys(cut, most)


def _places(engine: Engine, key: Key) -> Arithmetic:
    """The place of every row in the order of one word, uint32; the rows stay where they are."""
    assert isinstance(key.column, Binary)
    index = index_bits(len(key.column))
    word, left = key.column, key.bits
    places, left = _pass(engine, word, 0, left)
    if not left:
        return places
    word = _numbered(engine, word, index, key.bits - left)
    while left:
        (moved,) = delivered(engine, [_narrow(word, index + left)], places)
        assert isinstance(moved, Binary)
        before = left
        places, left = _pass(engine, moved, index, left)
        word = _without_digit(moved, index, before - left)
    return _at_their_rows(engine, _narrow(word, index).masked((1 << index) - 1), places)


def _pass(engine: Engine, word: Binary, lowest: int, left: int) -> tuple[Arithmetic, int]:
    """Places by the next digit of a word, and how many bits are left after it."""
    count = min(DIGIT_BITS, left)
    return digit_places(engine, bits_at(word, range(lowest, lowest + count)), count), left - count


def _numbered(engine: Engine, word: Binary, index: int, done: int) -> Binary:
    """The bits of a word that are left, above the rows' own numbers."""
    numbers = constant_words(engine, np.arange(len(word), dtype=np.uint64))
    return word.map(lambda part: part >> np.uint64(done) << np.uint64(index)) ^ numbers


def _without_digit(word: Binary, index: int, count: int) -> Binary:
    """The same without the lowest bits above the number."""
    number = (1 << index) - 1
    everything = (1 << 8 * word.dtype.itemsize) - 1
    return word.masked(number) ^ word.shifted_right(count).masked(everything - number)


def _narrow(word: Binary, bits: int) -> Binary:
    """The same bits in as few bytes as a column may have."""
    return word.map(lambda part: part.astype(np.uint32, copy=False)) if bits <= _HALF_WORD else word


def _at_their_rows(engine: Engine, numbers: Binary, places: Arithmetic) -> Arithmetic:
    """Places of rows that stand in another order, brought back to the rows whose secret numbers they have.

    Numbers are opened after a shuffle: a uniform permutation. Cost: 4 rounds, 20 bytes a row and party.
    """
    with engine.step("compose"):
        moved_numbers, moved_places = engine.shuffled(list[Column]([numbers, places]))
        to = engine.open_words(moved_numbers)
    assert to is not None
    assert isinstance(moved_places, Arithmetic)
    return moved_places.map(lambda part: scattered(part, to))


def digit_places(engine: Engine, bits: Bits, count: int) -> Arithmetic:
    """The place of every row in the stable order of one digit, uint32.

    A row's place is the sum over digits v of [digit = v] * rank_v, where rank_v counts the rows with smaller digits and
    those up to this row with digit v. Both factors are linear in the products of a digit's bits.

    Args:
        engine: of this party.
        bits: of n rows, the lowest bits of all rows first; `count` times n.
        count: of a digit, at least 1; cost grows with 2^count.

    Leaks: nothing. Cost: count + 2 rounds; 16/3 bytes a bit, 4 a product of two or more bits and 4 a row and party.
    """
    length = len(bits) // count
    products = _products(engine, bits, count)
    offset, before, pieces = _first_ranks(engine, products, count), _nothing(products), []
    for start in range(0, length, engine.chunk):
        chunk = _columns(products, slice(start, start + engine.chunk))
        sums = chunk.map(lambda part: np.cumsum(part, axis=1, dtype=part.dtype)) + before
        weights = sums.map(lambda part: _weights(part.copy(), count)) + offset
        inner = engine.dot(chunk.map(lambda part: part[1:].T), weights.map(lambda part: part[1:].T))
        pieces.append(weights.map(lambda part: part[0]) + inner)
        before = _columns(sums, slice(-1, None))
    return concatenated(pieces)


def _products(engine: Engine, bits: Bits, count: int) -> Arithmetic:
    """Row m of the result is the product of those bits that stand in the number m; row 0 is one."""
    length = len(bits) // count
    flags = engine.bits_to_arithmetic(bits, np.uint32)
    one = engine.constant(np.ones(1, np.uint32))
    products = Arithmetic(tuple(np.empty((1 << count, length), np.uint32) for _ in flags.parts))
    for whole, part, ones in zip(products.parts, flags.parts, one.parts, strict=True):
        whole[0] = ones
        whole[[1 << j for j in range(count)]] = part.reshape(count, length)
    del flags  # the most memory is taken below
    for known in (1 << j for j in range(1, count)):
        flag, others = products.piece(slice(known, known + 1)), products.piece(slice(1, known))
        repeated = Arithmetic(tuple(np.tile(part[0], known - 1) for part in flag.parts))
        new = engine.multiply(repeated, others.map(np.ravel))
        for whole, part in zip(products.parts, new.parts, strict=True):
            whole[known + 1 : 2 * known] = part.reshape(known - 1, length)
    return products


def _columns(matrix: Arithmetic, at: slice) -> Arithmetic:
    return matrix.map(lambda part: part[:, at])


def _nothing(products: Arithmetic) -> Arithmetic:
    return products.map(lambda part: np.zeros((len(part), 1), part.dtype))


def _first_ranks(engine: Engine, products: Arithmetic, count: int) -> Arithmetic:
    """What the weights have in common: ranks begin behind all rows with smaller digits, and at 0."""
    totals = products.map(lambda part: _less_partners(part.sum(axis=1, keepdims=True, dtype=part.dtype), count, 0))
    begins = totals.map(lambda part: np.cumsum(part, axis=0, dtype=part.dtype) - part)
    return engine.plus_public(begins, -1).map(lambda part: _less_partners(part, count, 1))


def _weights(sums: NDArray[Any], count: int) -> NDArray[Any]:
    """From running sums of products to what each product is multiplied with; in place.

    In every bit of the row number: rows of values are (without) - (with) and (with); their weights are the first of
    these and the second less the first.
    """
    for axis in range(count):
        without, with_bit = _halves(sums, count, axis)
        without -= with_bit
        with_bit -= without
    return sums


def _less_partners(part: NDArray[Any], count: int, of: int) -> NDArray[Any]:
    """In every bit of the row number: rows with the bit `of` less their partners; in place."""
    for axis in range(count):
        halves = _halves(part, count, axis)
        halves[of] -= halves[1 - of]
    return part


def _halves(part: NDArray[Any], count: int, axis: int) -> NDArray[Any]:
    """Rows without and with one bit of their number, as a view."""
    halves = part.reshape((2,) * count + (-1,))
    return np.moveaxis(halves, count - 1 - axis, 0)
