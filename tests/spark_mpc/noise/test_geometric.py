"""Geometric noise: its law counted over all coins, sampled on three parties, and what it sends.

The false-alarm rate of each statistical test is 1e-6, with fixed seeds.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dp.noise.coins import LaplaceCoins, laplace_coins
from spark_mpc.noise.geometric import geometric_cost, geometric_noise
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.shares import Arithmetic
from tests.tools.conformance import Operands, measured
from tests.tools.listed import Listed, all_patterns
from tests.tools.three import three_keys, three_parties

FALSE_ALARM = 1e-6
DISTANCE = Fraction(1, 10**9)


def coins_of(scale: str | Fraction, cells: int) -> LaplaceCoins:
    (coins,) = laplace_coins([Fraction(scale)], [cells], DISTANCE)
    return coins


def opened(coins: LaplaceCoins, cells: int, *, seed: int = 0, keys: list[bytes] | None = None) -> NDArray[np.int64]:
    """Draws of three parties."""
    (draws, *_), _ = three_parties(lambda e: e.open_words(geometric_noise(e, coins, cells)), seed, keys=keys)
    assert draws is not None
    return draws.view(np.int64)


def p_value(draws: NDArray[np.int64], scale: float) -> float:
    """Of a chi-square test against the geometric law, over cells of about equal weight."""
    law = stats.geom(-np.expm1(-1 / scale), loc=-1)
    edges = np.unique(law.ppf(np.linspace(0, 1, 40)[1:-1]))
    expected = len(draws) * np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]]))
    counts = np.bincount(np.searchsorted(edges, draws), minlength=len(expected))
    keep = expected > 5
    return float(
        stats.chisquare(
            np.append(counts[keep], counts[~keep].sum() + 1e-9), np.append(expected[keep], expected[~keep].sum() + 1e-9)
        ).pvalue
    )


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("scale", ["1/3", "1", "10/3"])
def test_the_circuit_gives_exactly_the_law_of_its_coins(scale: str, digits: int) -> None:
    coins = LaplaceCoins(Fraction(scale), digits, precision=4)
    bits = 4 * digits
    patterns = all_patterns(max(bits, 6))
    draws = 64 * patterns.shape[1]
    engine = Listed(chunk=CHUNK * 64, words=[patterns[:bits].reshape(4, -1)])
    noise = geometric_noise(engine, coins, draws).parts[0]
    law = {x: Fraction(count, draws) for x, count in Counter(noise.tolist()).items()}
    chances = [Fraction(p, 16) for p in coins.probabilities[1:]]
    expected = {
        sum(bit << j for j, bit in enumerate(number)): prod(
            p if bit else 1 - p for p, bit in zip(chances, number, strict=True)
        )
        for number in product((0, 1), repeat=digits)
    }
    assert law == {x: mass for x, mass in expected.items() if mass}
    ratio = np.exp(-1 / float(coins.scale))
    off = sum(abs(float(expected[g]) - (1 - ratio) * ratio**g) for g in expected) + ratio**2**digits
    assert off / 2 <= float(coins.distance)


@pytest.mark.parametrize("scale", ["1/2", "3", "1000", "1000000"])
def test_noise_follows_its_law_and_no_other(scale: str) -> None:
    size = 60_000
    noise = opened(coins_of(scale, size), size, seed=1)
    assert noise.min() >= 0
    assert p_value(noise, float(Fraction(scale))) > FALSE_ALARM
    for factor in (0.85, 1.15):
        assert p_value(noise, float(Fraction(scale)) * factor) < FALSE_ALARM


@pytest.mark.parametrize("party", [0, 1, 2])
def test_whatever_one_party_knows_the_noise_is_fresh(party: int) -> None:
    size, coins = 20_000, coins_of("50", 20_000)
    keys = three_keys(np.random.default_rng(5))
    others = list(keys)
    others[(party + 2) % 3] = bytes(16)
    noise, other = (opened(coins, size, keys=each) for each in (keys, others))
    assert p_value(other, 50) > FALSE_ALARM
    assert abs(np.corrcoef(noise, other)[0, 1]) < 5 / np.sqrt(size)
    assert np.array_equal(noise, opened(coins, size, keys=keys))  # the measure sees what is alike


@settings(max_examples=15, deadline=None)
@given(power=st.integers(-8, 30), cells=st.integers(0, 500), chunk=st.sampled_from([64, 1024, CHUNK]))
def test_measured_is_what_is_declared(power: int, cells: int, chunk: int) -> None:
    coins = coins_of(Fraction(2) ** power, max(cells, 1))

    def program(engine: Engine, _: Operands) -> Arithmetic:
        return geometric_noise(engine, coins, cells)

    nothing = Operands(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    both = measured(program, nothing, chunk=chunk)
    declared = geometric_cost(Plain(chunk).costs, chunk, coins, cells)
    assert both.result.shape == (cells,)
    assert both.sent_bytes == both.declared.sent_bytes == declared.sent_bytes
    assert both.declared.rounds == declared.rounds
    assert both.rounds <= declared.rounds
