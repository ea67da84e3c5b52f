"""Bits of words, numbers made of bits, and choices by a bit: equal to plaintext, at the declared price."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_mpc.circuits.bits import (
    digit_masks,
    leading_place,
    masks,
    numbers,
    parities,
    powers_of_two,
    product,
    smeared,
    to_arithmetic,
)
from spark_mpc.circuits.chunks import in_chunks
from spark_mpc.circuits.selection import select, select_binary
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from tests.tools.conformance import Both, Operands, measured

LENGTHS = st.sampled_from([1, 2, 63, 64, 65, 130])
SEEDS = st.integers(0, 2**32)


def of_all_sizes(length: int, seed: int) -> Words:
    """Words whose leading one may stand anywhere, zeros among them."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, length, np.uint64) >> rng.integers(0, 64, length, np.uint64)
    return np.where(rng.random(length) < 0.1, np.uint64(0), words)


def alike(both: Both) -> Any:
    """The result, which is that of the twin and was sent as declared."""
    np.testing.assert_array_equal(both.result, both.expected)
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds
    return both.result


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, seed=SEEDS, width=st.integers(1, 63))
def test_the_leading_one_is_found(length: int, seed: int, width: int) -> None:
    x = of_all_sizes(length, seed)
    operands = Operands(x, x)
    low = [int(word) % (1 << width) for word in x]
    smears = alike(measured(lambda e, o: smeared(e, o.x_binary(e), width), operands))
    assert smears.tolist() == [(1 << word.bit_length()) - 1 for word in low]
    both = measured(lambda e, o: leading_place(e, o.x_binary(e), width), operands)
    assert alike(both).tolist() == [1 << word.bit_length() for word in low]
    assert both.declared.rounds == both.rounds == math.ceil(math.log2(width))
    assert both.declared.payload_bytes == 3 * 8 * length * both.rounds


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, seed=SEEDS, width=st.integers(1, 64))
def test_binary_words_become_numbers(length: int, seed: int, width: int) -> None:
    x = of_all_sizes(length, seed)
    both = measured(lambda e, o: to_arithmetic(e, o.x_binary(e), width), Operands(x, x))
    assert alike(both).tolist() == [int(word) % (1 << width) for word in x]
    assert both.rounds == both.declared.rounds == 2
    assert both.declared.payload_bytes == length * (24 + 8 * width)


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, seed=SEEDS, chosen=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_parities_and_masks_are_local(length: int, seed: int, chosen: list[int]) -> None:
    x = of_all_sizes(length, seed)
    both = measured(lambda e, o: parities(o.x_binary(e), chosen), Operands(x, x))
    assert alike(both).tolist() == [(int(word) & mask).bit_count() % 2 for mask in chosen for word in x]
    spread = measured(lambda e, o: masks(o.bits(e)), Operands(x, x))
    assert alike(spread).tolist() == [(2**64 - 1) * (int(word) % 2) for word in x]
    assert both.declared.payload_bytes == spread.declared.payload_bytes == 0


@settings(max_examples=25, deadline=None)
@given(table=st.lists(st.integers(0, 63), min_size=2, max_size=63), length=LENGTHS, seed=SEEDS)
def test_a_power_of_two_is_looked_up(table: list[int], length: int, seed: int) -> None:
    """The one place of a word gives digits of an exponent, and these the power."""
    table = [*table, 63]
    places = np.random.default_rng(seed).integers(0, len(table), length)
    one = np.uint64(1) << places.astype(np.uint64)

    def program(engine: Engine, operands: Operands) -> Arithmetic:
        chosen = digit_masks(table)
        digits = numbers(engine, parities(operands.x_binary(engine), chosen), len(chosen))
        return product(engine, powers_of_two(engine, digits))

    both = measured(program, Operands(one, one))
    assert alike(both).tolist() == [1 << table[place] for place in places]
    assert both.declared.payload_bytes == length * (6 * 32 + 5 * 24)
    assert both.declared.rounds == 2 + 3


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, seed=SEEDS, dtype=st.sampled_from([np.uint32, np.uint64]))
def test_a_choice_by_a_bit(length: int, seed: int, dtype: type[Any]) -> None:
    rng = np.random.default_rng(seed)
    operands = Operands(*(rng.integers(0, 2**64, length, np.uint64) for _ in range(2)))
    holds = (operands.x & np.uint64(1)) == 1
    both = measured(lambda e, o: select(e, o.bits(e), o.x_shared(e, dtype), o.y_shared(e, dtype)), operands)
    np.testing.assert_array_equal(alike(both), np.where(holds, operands.x.astype(dtype), operands.y.astype(dtype)))
    assert both.rounds == both.declared.rounds == 3
    assert both.declared.payload_bytes == length * 7 * np.dtype(dtype).itemsize
    words = measured(lambda e, o: select_binary(e, o.bits(e), o.x_binary(e), o.y_binary(e)), operands)
    np.testing.assert_array_equal(alike(words), np.where(holds, operands.x, operands.y))
    assert words.rounds == words.declared.rounds == 1
    assert words.declared.payload_bytes == length * 24


@pytest.mark.parametrize("length", [0, 1, 64, 65, 300])
def test_pieces_are_joined_in_their_order(length: int) -> None:
    x = np.arange(length, dtype=np.uint64)

    def program(engine: Engine, operands: Operands) -> Arithmetic:
        return in_chunks(engine, engine.multiply, operands.x_shared(engine), operands.y_shared(engine))

    for chunk in (64, CHUNK):
        both = measured(program, Operands(x, x + np.uint64(1)), chunk=chunk)
        np.testing.assert_array_equal(alike(both), x * (x + np.uint64(1)))
        assert both.declared.rounds == -(-length // chunk)
