"""Writes docs/complexity.md: what every operation sends, added up from the declarations by the plaintext twin.

    python -m tests.tools.complexity        # overwrites the page; a test compares it

Nothing here is measured: that operations send what they declare is what the conformance suite shows, and
`tests.spark_mpc.test_complexity` for each program of this page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np

from dp.accounting.calibration import distance_of_delta
from dp.noise.coins import LaplaceCoins, laplace_coins
from spark_mpc.circuits import compaction, division, exponential, extrema, fixed_point, roots, scans, selection, sorting
from spark_mpc.circuits.fixed_point import FixedPoint
from spark_mpc.circuits.keys import Key
from spark_mpc.noise.geometric import geometric_noise
from spark_mpc.noise.laplace import laplace_noise
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import PARTIES
from spark_mpc.protocols.rep3.outside import most_bytes, opened_bytes
from spark_mpc.protocols.shares import Arithmetic
from tests.tools.conformance import Operands

__all__ = ["PAGE", "PRIMITIVES", "PROGRAMS", "operands", "page"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "complexity.md"

ELEMENTS = 1 << 16
FORM = FixedPoint(fraction_bits=20, magnitude_bits=20)
CELLS = 1 << 10
EPSILON, DELTA_SHARE = Fraction(1), Fraction(1, 1000)

Program = Callable[[Engine, Operands], object]

PRIMITIVES: dict[str, Program] = {
    "input of one party": lambda e, o: e.input_words(0, o.values(e, 0, "x"), o.length),
    "input of one party, bits": lambda e, o: e.input_bits(0, o.values(e, 0, "low"), o.length),
    "open to all": lambda e, o: e.open_words(o.x_shared(e)),
    "open to one of the three": lambda e, o: e.open_words(o.x_shared(e), (0,)),
    "open to all, bits": lambda e, o: e.open_bits(o.bits(e)),
    "open to one of the three, bits": lambda e, o: e.open_bits(o.bits(e), (0,)),
    "add; times public": lambda e, o: o.x_shared(e) + o.y_shared(e).times(3),
    "random bits; random words": lambda e, o: (e.random_bits(o.length), e.random_binary(o.length)),
    "multiply": lambda e, o: e.multiply(o.x_shared(e), o.y_shared(e)),
    "and of words": lambda e, o: e.and_words(o.x_binary(e), o.y_binary(e)),
    "and of bits": lambda e, o: e.both(o.bits(e), o.bits(e)),
    "a < 0; a < b": lambda e, o: e.negative(o.x_shared(e)),
    "a = 0; a = b": lambda e, o: e.zero(o.x_shared(e)),
    "precedes, one column": lambda e, o: e.precedes([o.x_shared(e)], [o.y_shared(e)], [64]),
    "precedes, two columns": lambda e, o: e.precedes(
        [o.x_shared(e), o.y_shared(e)], [o.y_shared(e), o.x_shared(e)], [64, 64]
    ),
    "precedes, one column of binary words of 20 bits": lambda e, o: e.precedes([o.x_binary(e)], [o.y_binary(e)], [20]),
    "precedes, one column of binary words of 64 bits": lambda e, o: e.precedes([o.x_binary(e)], [o.y_binary(e)], [64]),
    "bit to number, 64 bit": lambda e, o: e.bits_to_arithmetic(o.bits(e)),
    "bit to number, 32 bit": lambda e, o: e.bits_to_arithmetic(o.bits(e), np.uint32),
    "number to binary": lambda e, o: e.to_binary(o.x_shared(e)),
    "truncate by 20 bits, rounding at random": lambda e, o: e.truncated(o.x_shared(e), 20),
    "truncate by 20 bits, exactly": lambda e, o: e.truncated_exactly(o.x_shared(e), 20),
    "shuffle, one column": lambda e, o: e.shuffled([o.x_shared(e)]),
}

CIRCUITS: dict[str, Program] = {
    "select": lambda e, o: selection.select(e, o.bits(e), o.x_shared(e), o.y_shared(e)),
    "select words": lambda e, o: selection.select_binary(e, o.bits(e), o.x_binary(e), o.y_binary(e)),
    "minimum of two": lambda e, o: extrema.minimum(e, o.x_shared(e), o.y_shared(e)),
    "minimum of a column": lambda e, o: extrema.column_min(e, o.x_shared(e)),
    "fixed-point multiply": lambda e, o: fixed_point.multiply(e, o.x_shared(e), o.y_shared(e), FORM),
    "reciprocal": lambda e, o: division.reciprocal(e, _positive(e, o), FORM),
    "divide": lambda e, o: division.divide(e, o.x_shared(e), _positive(e, o), FORM),
    "square root": lambda e, o: roots.square_root(e, _positive(e, o), FORM),
    "inverse square root": lambda e, o: roots.inverse_square_root(e, _positive(e, o), FORM),
    "exponential": lambda e, o: exponential.exponential(e, o.x_shared(e), FORM),
    "logarithm": lambda e, o: exponential.logarithm(e, _positive(e, o), FORM),
    "sigmoid": lambda e, o: exponential.sigmoid(e, o.x_shared(e), FORM),
    "segmented sum": lambda e, o: scans.segmented_sum(e, scans.one_segment(e, o.length), [o.x_shared(e)]),
    "segmented minimum": lambda e, o: scans.segmented_min(e, scans.one_segment(e, o.length), [o.x_shared(e)]),
    "compact, order kept": lambda e, o: compaction.compacted(e, o.bits(e), [o.x_shared(e)]),
    "sort by 16 bits": lambda e, o: sorting.sort(e, [Key(o.y_shared(e), 16)]),
    "sort by 40 bits (expected)": lambda e, o: sorting.sort(e, [Key(o.y_shared(e), 40)]),
}

PRODUCTS: dict[str, Program] = {
    "inner product of two vectors": lambda e, o: e.dot(_row(o.x_shared(e)), _row(o.y_shared(e))),
    "inner product, fixed point": lambda e, o: fixed_point.dot(e, _row(o.x_shared(e)), _row(o.y_shared(e)), FORM),
    "product of square matrices": lambda e, o: e.matmul(_square(o.x_shared(e)), _square(o.y_shared(e))),
    "product of square matrices, fixed point": lambda e, o: fixed_point.matmul(
        e, _square(o.x_shared(e)), _square(o.y_shared(e)), FORM
    ),
}

LAWS: dict[str, Callable[[LaplaceCoins], Program]] = {
    "discrete Laplace": lambda coins: lambda e, o: laplace_noise(e, [coins], [o.length]),
    "geometric": lambda coins: lambda e, o: geometric_noise(e, coins, o.length),
}

NOISE = (
    *(("discrete Laplace", scale, 6) for scale in (1, 10, 1_000, 10**6, 10**9)),
    *(("discrete Laplace", 1_000, zeros) for zeros in (9, 12)),
    *(("geometric", scale, 6) for scale in (1, 1_000, 10**6)),
)
"""Laws, scales, and k of a release's delta 10^-k."""


def operands(length: int) -> Operands:
    """Words below 2^20, all of y different; the page's costs depend on nothing but how many there are."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**20, length, dtype=np.uint64)
    return Operands(words, rng.permutation(length).astype(np.uint64))


def _positive(engine: Engine, given: Operands) -> Arithmetic:
    return engine.plus_public(given.x_shared(engine), 1 << 20)


def _row(shared: Arithmetic) -> Arithmetic:
    return shared.map(lambda part: part.reshape(1, -1))


def _square(shared: Arithmetic) -> Arithmetic:
    side = isqrt(len(shared))
    return shared.map(lambda part: part[: side * side].reshape(side, side))


def _coins(scale: int, zeros: int) -> LaplaceCoins:
    """As a release of such cells plans them."""
    distance = distance_of_delta(Fraction(1, 10**zeros) * DELTA_SHARE, EPSILON)
    (coins,) = laplace_coins([Fraction(scale)], [CELLS], distance)
    return coins


PROGRAMS: Mapping[str, Program] = {
    **PRIMITIVES,
    **CIRCUITS,
    **PRODUCTS,
    **{f"{law} noise of scale {scale}, 1e-{zeros}": LAWS[law](_coins(scale, zeros)) for law, scale, zeros in NOISE},
}
"""Every program whose costs the page tells."""


def page() -> str:
    """The page as it should stand."""
    return "\n\n".join([_INTRODUCTION, *_of_elements(), _of_products(), _of_outsiders(), _of_noise()]) + "\n"


def _of_elements() -> list[str]:
    given = operands(ELEMENTS)
    return [
        f"## {title}\n\n"
        + _table(_COLUMNS, [_line(name, program, given, ELEMENTS) for name, program in programs.items()])
        for title, programs in (("Operations of the engine", PRIMITIVES), ("Circuits", CIRCUITS))
    ]


def _of_products() -> str:
    results = (1, 1, ELEMENTS, ELEMENTS)
    lines = [
        _line(name, program, operands(ELEMENTS), count)
        for (name, program), count in zip(PRODUCTS.items(), results, strict=True)
    ]
    return _PRODUCTS + _table(_COLUMNS, lines)


def _of_outsiders() -> str:
    many = 10**6  # so that what is sent once does not count
    shared = [sum(most_bytes(me, many) for me in range(PARTIES)) / many, *(0.0,) * PARTIES]
    opened = [0.0, *(opened_bytes(me, many) / many for me in range(PARTIES))]
    lines = [
        [name, "1", *map(_figure, sent)]
        for name, sent in (("input of a party outside", shared), ("open to a party outside", opened))
    ]
    return _OUTSIDERS + _table(("Operation", "Rounds", "Party outside", "Party 0", "Party 1", "Party 2"), lines)


def _of_noise() -> str:
    lines = []
    for law, scale, zeros in NOISE:
        coins = _coins(scale, zeros)
        count = coins.coins if law == "discrete Laplace" else coins.digits
        _, *costs = _line(law, LAWS[law](coins), operands(CELLS), CELLS)
        lines.append([law, f"{scale:,}", f"10^-{zeros}", str(count), str(coins.precision), *costs])
    return _NOISE + _table(("Noise", "Scale", "Delta", "Coins", "Bits of a coin", *_COLUMNS[1:]), lines)


def _line(name: str, program: Program, given: Operands, results: int) -> list[str]:
    twin = Plain()
    program(twin, given)
    average, largest = twin.spent.payload_bytes / PARTIES / results, max(twin.spent.sent_bytes) / results
    return [name, str(twin.spent.rounds), _figure(average), _figure(largest)]


def _figure(number: float) -> str:
    return f"{number:.3g}" if 0 < number < 1 else f"{number:.1f}"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---" * len(columns) + "|"
    return "\n".join([f"| {' | '.join(columns)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


_COLUMNS = ("Operation", "Rounds", "Bytes, average party", "Bytes, busiest party")

_INTRODUCTION = f"""# What operations send

Under `rep3`, sent by one party for each element, {ELEMENTS:,} elements of 64 bits at once unless a table says
otherwise; payload, without framing and TLS. Rounds are messages that wait for one another. More than 131,072 elements
go through an operation of several rounds in chunks, each of which takes its rounds. Rounds are added up as if every
operation and chunk waited for all messages of the one before; where they overlap (several chunks or operations under
way) fewer may be taken, so that they are an upper bound, which one operation of the engine on one chunk meets.

This page is generated from the declared costs: `python -m tests.tools.complexity`. Operations are held to them by the
conformance suite, which compares what is sent with what is declared; so is every row of this page. Fixed point here has
20 bits on either side of the point. Bits and *binary* words are shared by exclusive or, everything else by sums.
`precedes` says which of two rows comes first, by one column or by several."""

_SIDE = isqrt(ELEMENTS)

_PRODUCTS = f"""## Products of vectors and matrices

For each element of the *result*: a single one for an inner product, however long the vectors ({ELEMENTS:,} terms here);
one for each row and column of a matrix product, whatever the inner dimension ({_SIDE} x {_SIDE} x {_SIDE} here).

"""

_SEEDS = sum(most_bytes(me, 0) for me in range(PARTIES))

_OUTSIDERS = f"""## Parties outside of the three

For each word, by who sends it: a party that does not compute shares its own words towards the three, or receives what
is opened to it. It shares words only, so that a bit costs as much as a word. Seeds of {_SEEDS} bytes come on top, once
for all its words.

"""

_NOISE = f"""## Noise that nobody knows

For each noise value, {CELLS:,} values of one scale drawn together in a release of epsilon {EPSILON}. A value is made of
biased coins. A thousandth of the release's delta pays for their distance from the exact law; this distance, the scale
and the number of values decide how many coins there are and how many bits their probabilities have. Values are drawn 64
at a time, so that fewer cost as much; beyond 131,072 coins every chunk takes its rounds.

"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(page())
