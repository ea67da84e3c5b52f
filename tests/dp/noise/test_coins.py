"""Coins for discrete Laplace noise: probabilities next to the law's, and a declared distance that is kept exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from dp.noise.coins import LaplaceCoins, distance_of_draws, laplace_coins

DIGITS = Context(prec=150)
SCALES = ["1/1000", "1/7", "1/3", "1", "10/3", "17.25", "1000", "123456789/10", "1000000", str(2**55)]
scales = st.builds(lambda root, bits: Fraction(root) * Fraction(2) ** bits, st.integers(1, 10**6), st.integers(-25, 30))


def decimal(value: Fraction) -> Decimal:
    return DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


def power(scale: Fraction, exponent: int) -> Decimal:
    """exp(-exponent / scale), to 150 digits; zero below e^-2000."""
    return DIGITS.exp(decimal(-exponent / scale)) if exponent < 2000 * scale else Decimal(0)


def law_of_coins(coins: LaplaceCoins) -> dict[int, Fraction]:
    """What the coins give, exactly."""
    nonzero, *digits = (Fraction(p, 2**coins.precision) for p in coins.probabilities)
    law = {0: 1 - nonzero}
    for bits in product((0, 1), repeat=len(digits)):
        mass = math.prod((p if bit else 1 - p for p, bit in zip(digits, bits, strict=True)), start=nonzero / 2)
        size = 1 + sum(bit << j for j, bit in enumerate(bits))
        law[size] = law[-size] = mass
    return law


def distance_from_laplace(law: dict[int, Fraction], scale: Fraction) -> Fraction:
    """Total variation to some 140 digits; what lies beyond the law's support has the mass 2 r^(m + 1) / (1 + r)."""
    with localcontext(DIGITS):
        r, reach = power(scale, 1), max(law)
        inside = (abs(decimal(mass) - power(scale, abs(x)) * (1 - r) / (1 + r)) for x, mass in law.items())
        return Fraction((sum(inside) + 2 * power(scale, reach + 1) / (1 + r)) / 2)


@pytest.mark.parametrize("precision", [4, 8, 64, 128])
@pytest.mark.parametrize("scale", SCALES)
def test_probabilities_are_within_one_unit_of_the_law(scale: str, precision: int) -> None:
    exact = Fraction(scale)
    coins = LaplaceCoins(exact, 62, precision)
    odds = [Fraction(power(exact, 2**j)) for j in range(62)]
    wanted = [2 * odds[0] / (1 + odds[0]), *(each / (1 + each) for each in odds)]
    assert len(coins.probabilities) == coins.coins == len(wanted)
    for units, probability in zip(coins.probabilities, wanted, strict=True):
        assert 0 <= units < 2**precision
        assert abs(units - probability * 2**precision) <= 1


@pytest.mark.parametrize("precision", [4, 16, 128])
@pytest.mark.parametrize("digits", [0, 2, 7])
@pytest.mark.parametrize("scale", ["1/1000", "1/3", "1", "10/3", "17.25", "200"])
def test_the_exact_law_of_the_coins_is_within_the_declared_distance(scale: str, digits: int, precision: int) -> None:
    coins = LaplaceCoins(Fraction(scale), digits, precision)
    law = law_of_coins(coins)
    assert sum(law.values()) == 1
    assert distance_from_laplace(law, coins.scale) <= coins.distance


@pytest.mark.parametrize("scale", ["1/3", "10/3", "60"])
def test_coins_of_another_scale_are_further_away_than_declared(scale: str) -> None:
    (coins,) = laplace_coins([Fraction(scale)], [1], Fraction(1, 1000))
    wider = replace(coins, scale=coins.scale * Fraction(102, 100))
    assert distance_from_laplace(law_of_coins(wider), coins.scale) > coins.distance


def test_the_declared_distance_is_not_far_above_the_true_one() -> None:
    """Truncation is all of it where coins are fine; half of it, where an eighth is left out."""
    coarse = LaplaceCoins(Fraction(4), 3, 128)
    assert coarse.distance < 2 * distance_from_laplace(law_of_coins(coarse), coarse.scale)


@settings(deadline=None)
@given(
    blocks=st.lists(st.tuples(scales, st.integers(1, 10**7)), min_size=1, max_size=5),
    bits=st.integers(1, 70),
)
def test_a_release_stays_within_its_distance_with_as_few_coins_as_halves_allow(
    blocks: list[tuple[Fraction, int]], bits: int
) -> None:
    distance = Fraction(1, 2**bits)
    cells = [count for _, count in blocks]
    coins = laplace_coins([scale for scale, _ in blocks], cells, distance)
    assert distance_of_draws(coins, cells) <= distance
    for each in coins:
        if each.digits:
            fewer = replace(each, digits=each.digits - 1)
            assert sum(cells) * (fewer.distance - Fraction(fewer.coins, 2**each.precision)) > distance / 2
    rounding = sum(each.coins * count for each, count in zip(coins, cells, strict=True))
    assert Fraction(rounding, 2 ** (coins[0].precision - 4)) >= distance / 2 * Fraction(1, 2)


def test_rare_coins_become_constants() -> None:
    """A tiny scale gives noise that is never anything but zero; coarse coins of a huge scale stay below one."""
    assert LaplaceCoins(Fraction(1, 1000), 3, 128).probabilities == (0, 0, 0, 0)
    assert LaplaceCoins(Fraction(2**40), 3, 4).probabilities == (15, 8, 8, 8)


@pytest.mark.parametrize(
    ("scale", "digits", "precision", "named"),
    [
        ("0", 1, 64, "scale"),
        ("-1", 1, 64, "scale"),
        ("1", -1, 64, "digits"),
        ("1", 63, 64, "digits"),
        ("1", 1, 0, "precision"),
        ("1", 1, 63, "precision"),
        ("1", 1, 132, "precision"),
    ],
)
def test_arguments_out_of_range_are_refused(scale: str, digits: int, precision: int, named: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{named}="):
        LaplaceCoins(Fraction(scale), digits, precision)


def test_a_distance_out_of_reach_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^distance=.*coins of 128 bits"):
        laplace_coins([Fraction(1)], [10], Fraction(1, 2**128))
    with pytest.raises(InvalidArgument, match=r"^scale=.*more than 62 digits"):
        laplace_coins([Fraction(2**56)], [10**6], Fraction(1, 2**100))
    with pytest.raises(InvalidArgument, match=r"^distance="):
        laplace_coins([Fraction(1)], [10], Fraction(0))
