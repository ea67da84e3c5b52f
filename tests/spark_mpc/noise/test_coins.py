"""Biased coins: every pattern of fair bits counted, edge probabilities, and what is sent beside what is declared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from spark_mpc.noise.coins import toss_cost, tossed
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Binary, Bits
from tests.tools.conformance import Operands, measured
from tests.tools.listed import Listed, all_patterns
from tests.tools.three import three_parties

FALSE_ALARM = 1e-6


def ones(words: NDArray[np.uint64]) -> int:
    return (
        int(np.bitwise_count(words).sum())
        if hasattr(np, "bitwise_count")
        else int(np.unpackbits(words.view("u1")).sum())
    )


def coin_of_patterns(probability: int, precision: int) -> NDArray[np.uint64]:
    """One coin for every pattern of its fair bits."""
    patterns = all_patterns(precision)
    return tossed(Listed(words=[patterns]), [probability], [patterns.shape[1]], precision).parts[0]


def test_exactly_so_many_patterns_of_eight_bits_give_one() -> None:
    assert [ones(coin_of_patterns(probability, 8)) for probability in range(256)] == list(range(256))


@pytest.mark.parametrize("probability", [0, 1, 2, 1365, 2047, 2048, 2049, 3000, 4094, 4095])
def test_exactly_so_many_patterns_of_twelve_bits_give_one(probability: int) -> None:
    """Three runs of bits: one of them waits at a level of the tree."""
    assert ones(coin_of_patterns(probability, 12)) == probability


@pytest.mark.parametrize("precision", [20, 24, 28, 52, 64, 128])
def test_a_coin_is_the_digit_at_which_the_first_zero_stands(precision: int) -> None:
    """On the patterns that decide: so many ones, then a zero, then anything."""
    rng = np.random.default_rng(precision)
    probability = int.from_bytes(rng.bytes(precision // 8 + 1)) % 2**precision
    lead = [element * (precision + 1) // 64 for element in range(64)]
    bits = rng.integers(0, 2, (precision, 64))
    for element, run in enumerate(lead):
        bits[:run, element] = 1
        bits[run : run + 1, element] = 0
    words = np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)
    (coin,) = tossed(Listed(words=[words]), [probability], [1], precision).parts
    expected = [probability >> (precision - 1 - run) & 1 if run < precision else 0 for run in lead]
    assert [int(coin[0]) >> element & 1 for element in range(64)] == expected


@pytest.mark.parametrize("precision", [4, 8, 40, 64, 128])
def test_edges_of_a_probability(precision: int) -> None:
    """0 never comes; one unit below 1 hardly ever fails; a half is a fair bit."""
    probabilities = [0, 2**precision - 1, 2 ** (precision - 1), 1]
    count = 64 * 100

    def program(engine: Engine) -> NDArray[np.uint64] | None:
        return engine.open_words(tossed(engine, probabilities, [100] * 4, precision))

    (opened, *_), _ = three_parties(program, seed=precision)
    assert opened is not None
    seen = [ones(part) for part in np.split(opened, 4)]
    assert seen[0] == 0
    for number, units in zip(seen, probabilities, strict=True):
        assert stats.binomtest(number, count, float(units / 2**precision)).pvalue > FALSE_ALARM


def test_each_row_has_its_own_probability_and_length() -> None:
    """And another one is noticed: the same test rejects a probability that is 2% off."""
    probabilities, words = [int(2**64 * p) for p in (0.1, 0.9, 0.5, 0.25)], [700, 1500, 1, 900]

    def program(engine: Engine) -> NDArray[np.uint64] | None:
        return engine.open_words(tossed(engine, probabilities, words, 64))

    (opened, *_), _ = three_parties(program)
    assert opened is not None
    rows = np.split(opened, np.cumsum(words)[:-1])
    for row, units in zip(rows, probabilities, strict=True):
        assert stats.binomtest(ones(row), 64 * len(row), units / 2**64).pvalue > FALSE_ALARM
    assert stats.binomtest(ones(rows[1]), 64 * words[1], 0.88).pvalue < FALSE_ALARM


@settings(max_examples=10, deadline=None)
@given(
    precision=st.integers(1, 32).map(lambda runs: 4 * runs),
    words=st.lists(st.integers(1, 20), min_size=1, max_size=4),
)
def test_measured_is_what_is_declared(precision: int, words: list[int]) -> None:
    def program(engine: Engine, _: Operands) -> Bits:
        coins: Binary = tossed(engine, [1] * len(words), words, precision)
        return Bits(coins.parts, 64 * len(coins))

    nothing = Operands(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    both = measured(program, nothing)
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds == both.declared.rounds


def test_a_coin_of_64_bits_takes_74_products_and_7_rounds() -> None:
    cost = toss_cost(Listed().costs, 10, 64)
    assert cost.rounds == 7
    assert cost.sent_bytes == (74 * 8 * 10,) * 3
