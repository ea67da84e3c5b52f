"""Noise that nobody knows: its law counted over all coins, sampled on three parties, and hidden from each of them.

The false-alarm rate of each statistical test is 1e-6, with fixed seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dp.noise.coins import LaplaceCoins, laplace_coins
from dp.noise.mechanisms import DiscreteLaplace
from spark_mpc.noise.laplace import laplace_cost, laplace_noise
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import CHUNK, Context
from spark_mpc.protocols.shares import Arithmetic
from tests.attacks.test_rep3_views import NoBinaryZeroShares, NoZeroShares
from tests.dp.noise.test_coins import distance_from_laplace, law_of_coins
from tests.tools.conformance import Operands, measured
from tests.tools.entropy import seeded_random
from tests.tools.laws import chi_square_p_value, laplace_law
from tests.tools.listed import Listed, all_patterns
from tests.tools.three import Sent, three_keys, three_parties

FALSE_ALARM = 1e-6
DISTANCE = Fraction(1, 10**9)
SCALES = [Fraction(1, 5), Fraction(1, 3), Fraction(1), Fraction("17.25"), Fraction(10**6 + 3, 7), Fraction(10**6)]
OFF = [Fraction(85, 100), Fraction(115, 100)]


def opened_noise(
    coins: Sequence[LaplaceCoins], cells: Sequence[int], *, seed: int = 0, keys: list[bytes] | None = None
) -> NDArray[np.int64]:
    """Draws of three parties."""

    def program(engine: Engine) -> NDArray[np.uint64] | None:
        return engine.open_words(laplace_noise(engine, coins, cells))

    (opened, *_), _ = three_parties(program, seed, keys=keys)
    assert opened is not None
    return opened.view(np.int64)


@pytest.mark.parametrize("digits", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", ["1/3", "1", "10/3"])
def test_the_circuit_gives_exactly_the_law_of_its_coins(scale: str, digits: int) -> None:
    """Every pattern of the coins' fair bits and of the sign, counted; and that law is as close as is declared."""
    coins = LaplaceCoins(Fraction(scale), digits, precision=4)
    bits = 4 * coins.coins + 1
    patterns = all_patterns(max(bits, 6))
    draws = 64 * patterns.shape[1]
    engine = Listed(chunk=CHUNK * 64, words=[patterns[: bits - 1].reshape(4, -1), patterns[bits - 1]])
    noise = laplace_noise(engine, [coins], [draws]).parts[0].view(np.int64)
    law = {x: Fraction(count, draws) for x, count in Counter(noise.tolist()).items()}
    assert law == {x: mass for x, mass in law_of_coins(coins).items() if mass}
    assert distance_from_laplace({0: Fraction(0), 2**digits: Fraction(0), **law}, coins.scale) <= coins.distance


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_noise_follows_its_law_and_no_other(scale: Fraction) -> None:
    size = 60_000
    noise = opened_noise(laplace_coins([scale], [size], DISTANCE), [size], seed=1)
    assert chi_square_p_value(noise, laplace_law(float(scale))) > FALSE_ALARM
    for factor in OFF:  # a wrong scale is rejected by the same test
        assert chi_square_p_value(noise, laplace_law(float(scale * factor))) < FALSE_ALARM


@pytest.mark.parametrize("scale", [Fraction(3), Fraction(10**6)], ids=str)
def test_the_variance_is_that_of_one_curator(scale: Fraction) -> None:
    """Not three times it, nor any 4% off; the variance of a sample of n has a relative error of sqrt(5 / n)."""
    size = 200_000
    noise = opened_noise(laplace_coins([scale], [size], DISTANCE), [size], seed=2)
    curator = DiscreteLaplace(scale).sample(size, seeded_random("curator"))
    assert noise.var() / curator.var() == pytest.approx(1, abs=5 * np.sqrt(2 * 5 / size))
    assert noise.var() / DiscreteLaplace(scale).stddev ** 2 == pytest.approx(1, abs=5 * np.sqrt(5 / size))


def test_no_grid_is_coarser_than_the_integers() -> None:
    noise = opened_noise(laplace_coins([Fraction(10**6)], [60_000], DISTANCE), [60_000], seed=3)
    for modulus in (2, 7, 16):
        counts = np.bincount(noise % modulus, minlength=modulus)
        assert np.abs(counts - noise.size / modulus).max() < 6 * np.sqrt(noise.size / modulus)


def test_every_block_of_cells_has_its_own_scale() -> None:
    """Also where blocks share a chunk, or are cut by it, and none fills its last word up."""
    scales, cells = [Fraction(1000), Fraction(1, 3), Fraction(20)], [9_001, 20_003, 15_007]
    coins = laplace_coins(scales, cells, DISTANCE)

    def program(engine: Engine) -> NDArray[np.uint64] | None:
        return engine.open_words(laplace_noise(engine, coins, cells))

    (opened, *_), _ = three_parties(program, 4, chunk=1 << 15)
    assert opened is not None
    for noise, scale in zip(np.split(opened.view(np.int64), np.cumsum(cells)[:-1]), scales, strict=True):
        assert chi_square_p_value(noise, laplace_law(float(scale))) > FALSE_ALARM
        assert chi_square_p_value(noise, laplace_law(float(scale) * 1.3)) < FALSE_ALARM


@pytest.mark.parametrize("party", [0, 1, 2])
def test_whatever_one_party_knows_the_noise_is_fresh(party: int) -> None:
    """The two keys that a party holds stay, the third changes: the noise follows its law and is not the former one."""
    size, scale = 20_000, Fraction(50)
    coins = laplace_coins([scale], [size], DISTANCE)
    keys = three_keys(np.random.default_rng(5))
    others = list(keys)
    others[(party + 2) % 3] = bytes(16)
    noise, other = (opened_noise(coins, [size], keys=each) for each in (keys, others))
    assert chi_square_p_value(other, laplace_law(float(scale))) > FALSE_ALARM
    correlation = np.corrcoef([np.abs(noise) + noise, np.abs(other) + other, noise, other])
    assert np.abs(correlation[:2, 1::2][0]).max() < 5 / np.sqrt(size)
    assert np.abs(correlation[2, 1::2]).max() < 5 / np.sqrt(size)
    again = opened_noise(coins, [size], keys=keys)
    assert np.corrcoef(noise, again)[0, 1] == pytest.approx(1)  # the measure sees what is alike


@pytest.mark.parametrize(
    ("kind", "honest"),
    [(Context, True), (NoZeroShares, False), (NoBinaryZeroShares, False)],
    ids=["honest", "no zero sums", "no zero xors"],
)
def test_what_a_party_receives_is_uniform(kind: type[Context], honest: bool) -> None:
    """All bytes of all messages to each party; without zero shares they are not."""
    coins = laplace_coins([Fraction(50)], [3_000], DISTANCE)
    record: list[Sent] = []
    three_parties(lambda engine: laplace_noise(engine, coins, [3_000]), 7, record=record, kind=kind)
    p_values = []
    for party in range(3):
        received = b"".join(message.payload for message in record if message.to == party)
        counts = np.bincount(np.frombuffer(received, np.uint8), minlength=256)
        p_values.append(stats.chisquare(counts).pvalue)
    assert (min(p_values) > FALSE_ALARM) == honest


def test_two_calls_of_one_run_draw_anew() -> None:
    coins = laplace_coins([Fraction(100)], [5_000], DISTANCE)

    def program(engine: Engine) -> list[NDArray[np.uint64] | None]:
        return [engine.open_words(laplace_noise(engine, coins, [5_000])) for _ in range(2)]

    (draws, *_), _ = three_parties(program, 6)
    first, second = (draw.view(np.int64) for draw in draws if draw is not None)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(5_000)


@settings(max_examples=15, deadline=None)
@given(
    blocks=st.lists(st.tuples(st.integers(-8, 30), st.integers(0, 200)), min_size=1, max_size=4),
    chunk=st.sampled_from([64, 1024, CHUNK]),
)
def test_measured_is_what_is_declared(blocks: list[tuple[int, int]], chunk: int) -> None:
    scales, cells = [Fraction(2) ** power for power, _ in blocks], [count for _, count in blocks]
    coins = laplace_coins(scales, cells, DISTANCE)

    def program(engine: Engine, _: Operands) -> Arithmetic:
        return laplace_noise(engine, coins, cells)

    nothing = Operands(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    both = measured(program, nothing, chunk=chunk)
    declared = laplace_cost(Plain(chunk).costs, chunk, coins, cells)
    assert both.result.shape == (sum(cells),)
    assert both.sent_bytes == both.declared.sent_bytes == declared.sent_bytes
    assert both.declared.rounds == declared.rounds
    assert both.rounds <= declared.rounds


def test_a_sample_of_scale_a_million_takes_less_than_half_a_kilobyte_and_ten_rounds() -> None:
    coins = [LaplaceCoins(Fraction(10**6), digits=26, precision=64)]
    cost = laplace_cost(Plain().costs, CHUNK, coins, [4096])
    assert cost.rounds == 10
    assert max(cost.sent_bytes) < 500 * 4096
    assert cost.payload_bytes / 3 == pytest.approx((27 * 75 / 8 + 28 * 8 / 3 + 8) * 4096)


def test_a_tiny_scale_gives_nothing_but_zeros() -> None:
    noise = opened_noise(laplace_coins([Fraction(1, 1000)], [1000], DISTANCE), [1000])
    assert not noise.any()


def test_no_cells_cost_nothing() -> None:
    assert opened_noise([], []).shape == (0,)
    assert laplace_noise(Plain(), laplace_coins([Fraction(1)], [0], DISTANCE), [0]).shape == (0,)
