"""What docstrings say of rounds and bytes is what is declared, or sent where an operation declares nothing itself.

Figures are read from the docstring's own words. Every number behind "Cost:" in the kernel and in shared values has a
row here; those of circuits have one where it is more than a sum of the kernel's.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import spark_mpc.protocols.rep3
import spark_mpc.shared
from spark_mpc.circuits import division, extrema, fixed_point, radix_sort, scans, selection
from spark_mpc.circuits.fixed_point import FixedPoint
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3 import (
    adders,
    arithmetic,
    boolean,
    conversion,
    equality,
    lexicographic,
    outside,
    replication,
    shuffle,
    truncation,
)
from spark_mpc.protocols.rep3.context import Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.shared import SharedBits, SharedInts, SharedReals, choice, ints, reals
from tests.tools.three import three_parties

SIDE = 80
LENGTH = SIDE * SIDE
"""Elements, whole words of bits, and a square matrix."""

WORDS = np.ones(LENGTH, np.uint64)
SUMS, XORS, BITS = Arithmetic((WORDS,)), Binary((WORDS,)), Bits((WORDS[: LENGTH // 64],), LENGTH)
MATRIX = Arithmetic((WORDS.reshape(SIDE, SIDE),))
NARROW, WIDE = FixedPoint(20, 20), FixedPoint(1, 61)
"""Products below 2^62, and of 63 bits with the fraction for which these cost most."""


@dataclass(frozen=True)
class Stated:
    """A part of a docstring, and what it speaks of.

    Attributes:
        of: whose docstring.
        words: with the figures: "r rounds" and "b bytes", which are those of an element or row and party.
        cost: as it is.
        rounds: in place of those in the words.
        payload: in place of bytes in the words; of each party, if these differ.
        within: bytes by which "at most" may be more than it is; else one of the last digit in the words.
        count: elements or rows.
    """

    of: Callable[..., Any]
    words: str
    cost: Callable[[], Cost]
    rounds: int | None = None
    payload: float | tuple[float, ...] | None = None
    within: float | None = None
    count: int = LENGTH


def declared(program: Callable[[Plain], Any]) -> Callable[[], Cost]:
    """What an operation declares."""

    def cost() -> Cost:
        twin = Plain()
        program(twin)
        return twin.spent

    return cost


def sent(program: Callable[[Context], Any]) -> Callable[[], Cost]:
    """What three parties send, for what stands below the operations that declare."""

    def party(engine: Rep3) -> None:
        program(engine._context)

    def cost() -> Cost:
        _, meters = three_parties(party)
        return Cost(max(meter.rounds for meter in meters), tuple(meter.sent_bytes for meter in meters))

    return cost


def input_by_party_0(cost: Callable[[], Cost]) -> Callable[[], Cost]:
    """What party 0 sends beyond the others."""

    def surplus() -> Cost:
        whole = cost()
        first, second, third = whole.sent_bytes
        assert second == third
        return Cost(whole.rounds, (first - second, 0, 0))

    return surplus


def dearest() -> Cost:
    """Of exact truncation by any number of bits."""
    costs = [Plain().costs.truncated_exactly(LENGTH, bits) for bits in range(1, truncation.MOST_BITS + 1)]
    most = max(costs, key=lambda cost: cost.payload_bytes)
    return Cost(max(cost.rounds for cost in costs), most.sent_bytes)


def numbers(twin: Plain, bound: int = 1000) -> SharedInts:
    return SharedInts(twin, SUMS, bound)


def square(twin: Plain) -> SharedInts:
    return SharedInts(twin, MATRIX, 1000)


def truths(twin: Plain) -> SharedBits:
    return SharedBits(twin, BITS)


def fractions(twin: Plain, bits: int, fraction_bits: int = 20) -> SharedReals:
    """Below 2^bits units."""
    return SharedReals(numbers(twin, (1 << bits) - 1), fraction_bits)


def summed(twin: Plain, bits: int, fraction_bits: int = 20) -> Cost:
    """Of an inner product of four."""
    x = fractions(twin, bits, fraction_bits)[:4]
    x.dot(x)
    return twin.spent


def squared(twin: Plain, bits: int, fraction_bits: int = 20) -> SharedReals:
    """A product of matrices."""
    x = SharedReals(SharedInts(twin, MATRIX, (1 << bits) - 1), fraction_bits)
    return x @ x


def rows(x: Arithmetic) -> Arithmetic:
    return x.map(lambda part: part.reshape(-1, 1))


def sheltered(function: Callable[..., Any], form: FixedPoint, x: Arithmetic = SUMS) -> Callable[[], Cost]:
    return declared(lambda e: function(e, x, x, form))


def inputs(me: int) -> Any:
    return WORDS if me == 0 else None


def least_of_a_million(twin: Plain) -> Any:
    length = 10**6
    column = Arithmetic((np.arange(length, dtype=np.uint64),))
    return scans.segmented_min(twin, scans.one_segment(twin, length), [column])


def outside_messages() -> Cost:
    messages = outside.shared_inside(WORDS)
    return Cost(1, tuple(map(len, messages)))


def opened_outside() -> Cost:
    parts = Arithmetic((WORDS, WORDS))
    return Cost(1, tuple(len(outside.opened_outside(me, parts) or b"") for me in range(3)))


KERNEL = [
    Stated(adders.negative, "8 rounds a chunk; 25.3 bytes an element and party", declared(lambda e: e.negative(SUMS))),
    Stated(
        adders.negative,
        "8 input by party 0",
        input_by_party_0(declared(lambda e: e.negative(SUMS))),
        rounds=8,
        payload=(8, 0, 0),
    ),
    Stated(
        adders.summands,
        "1 round; party 0 sends 8 bytes an element",
        sent(lambda c: adders.summands(c, Arithmetic((WORDS, WORDS)))),
        payload=(8, 0, 0),
    ),
    Stated(adders.to_binary, "8 rounds a chunk, 49.3 bytes an element", declared(lambda e: e.to_binary(SUMS))),
    Stated(truncation.truncated, "2 rounds; 9.3 bytes an element and party", declared(lambda e: e.truncated(SUMS, 32))),
    Stated(
        truncation.truncated,
        "party 0 sends 12, the others 8",
        declared(lambda e: e.truncated(SUMS, 20)),
        rounds=2,
        payload=(12, 8, 8),
    ),
    Stated(
        truncation.truncated,
        "10.7 beyond 32 bits",
        declared(lambda e: e.truncated(SUMS, 33)),
        rounds=2,
        payload=10.7,
    ),
    Stated(
        truncation.truncated_exactly,
        "at most 11 rounds a chunk; 37.7 bytes an element and party for 20 bits",
        declared(lambda e: e.truncated_exactly(SUMS, 20)),
    ),
    Stated(truncation.truncated_exactly, "38.9 at most", dearest, rounds=11, payload=38.9),
    Stated(
        lexicographic.precedes,
        "2 rounds and one for each doubling of the planes",
        declared(lambda e: e.precedes([SUMS], [SUMS], [64])),
        rounds=2 + 6,
        payload=25.5,
    ),
    Stated(
        lexicographic.precedes,
        "at most 3/8 byte a plane and element and party",
        declared(lambda e: e.precedes([XORS], [XORS], [64])),
        rounds=1 + 6,
        payload=64 * 3 / 8,
        within=1,
    ),
    Stated(
        lexicographic.precedes,
        "8/3 for each column shared by sums",
        input_by_party_0(declared(lambda e: e.precedes([SUMS, XORS], [SUMS, XORS], [64, 64]))),
        rounds=2 + 7,
        payload=8 / 3,
    ),
    Stated(
        conversion.bits_to_arithmetic,
        "2 rounds; 4/3 elements of `dtype` for each bit and party (party 0 sends two, the others one)",
        declared(lambda e: e.bits_to_arithmetic(BITS)),
        payload=(16, 8, 8),
    ),
    Stated(
        conversion.combined_bits,
        "2 rounds; n elements of `dtype` from party 0, and m from every party",
        declared(lambda e: e.combined_bits(BITS, lambda ones: ones[::2])),
        payload=(8 + 4, 4, 4),
    ),
    Stated(outside.shared_inside, "1 round; 16 n + 64 bytes in all", outside_messages, payload=(16 + 64 / LENGTH) / 3),
    Stated(
        outside.opened_outside,
        "1 round; parties 0 and 1 send 8 bytes an element each",
        opened_outside,
        payload=(8, 8, 0),
    ),
    Stated(
        arithmetic.input_words,
        "1 round; the owner sends `dtype`'s bytes for each element, the others nothing",
        declared(lambda e: e.input_words(1, WORDS, LENGTH)),
        payload=(0, 8, 0),
    ),
    Stated(
        arithmetic.open_words,
        "1 round; the party before each recipient sends the words once",
        declared(lambda e: e.open_words(SUMS, (0,))),
        payload=(0, 0, 8),
    ),
    Stated(arithmetic.multiply, "1 round, 8 bytes an element and party", declared(lambda e: e.multiply(SUMS, SUMS))),
    Stated(
        arithmetic.multiply,
        "4 in Z_2^32",
        declared(lambda e: e.multiply(*(SUMS.map(lambda part: part.astype(np.uint32)),) * 2)),
        rounds=1,
        payload=4,
    ),
    Stated(arithmetic.dot, "1 round, 8 bytes a row and party", declared(lambda e: e.dot(rows(SUMS), rows(SUMS)))),
    Stated(arithmetic.matmul, "1 round, 8 n m bytes a party", declared(lambda e: e.matmul(MATRIX, MATRIX)), payload=8),
    Stated(
        replication.dealt,
        "1 round; the owner sends the values' bytes once",
        sent(lambda c: replication.dealt(c, 0, inputs(c.me), LENGTH, replication.XOR)),
        payload=(8, 0, 0),
    ),
    Stated(
        replication.missing_part,
        "1 round; the party before each recipient sends the part once",
        sent(lambda c: replication.missing_part(c, (WORDS, WORDS), (0,))),
        payload=(0, 0, 8),
    ),
    Stated(
        shuffle.shuffled,
        "3 rounds; 2 elements of each column and party",
        declared(lambda e: e.shuffled([SUMS, XORS])),
        payload=2 * (8 + 8),
    ),
    Stated(equality.zero, "7 rounds a chunk; 10.5 bytes an element and party", declared(lambda e: e.zero(SUMS))),
    Stated(
        equality.zero,
        "8 input by party 0",
        input_by_party_0(declared(lambda e: e.zero(SUMS))),
        rounds=7,
        payload=(8, 0, 0),
    ),
    Stated(
        equality.zero_binary,
        "one round for each doubling of the width; 1 bit less than the width, an element and party",
        declared(lambda e: e.zero_binary(XORS, 20)),
        rounds=5,
        payload=19 / 8,
    ),
    Stated(
        boolean.input_binary,
        "1 round; the owner sends 8 bytes for each element, the others nothing",
        declared(lambda e: e.input_binary(1, WORDS, LENGTH)),
        payload=(0, 8, 0),
    ),
    Stated(
        boolean.input_bits,
        "1 round; the owner sends 1 bit for each element",
        declared(lambda e: e.input_bits(1, WORDS, LENGTH)),
        payload=(0, 1 / 8, 0),
    ),
    Stated(
        boolean.open_binary,
        "1 round, 8 bytes an element from the party before each recipient",
        declared(lambda e: e.open_words(XORS, (0,))),
        payload=(0, 0, 8),
    ),
    Stated(
        boolean.open_bits,
        "1 round, 1 bit an element from the party before each recipient",
        declared(lambda e: e.open_bits(BITS, (0,))),
        payload=(0, 0, 1 / 8),
    ),
    Stated(
        boolean.conjunction,
        "1 round, 1 bit for a bit and party",
        sent(lambda c: boolean.conjunction(c, "and", (WORDS, WORDS), (WORDS, WORDS))),
        payload=64 / 8,
    ),
]

SHARED = [
    Stated(
        SharedBits.__and__,
        "1 round, 1 bit an element and party",
        declared(lambda e: truths(e) & truths(e)),
        payload=1 / 8,
    ),
    Stated(
        SharedBits.__or__,
        "1 round, 1 bit an element and party",
        declared(lambda e: truths(e) | truths(e)),
        payload=1 / 8,
    ),
    Stated(SharedBits.to_ints, "2 rounds, 10.7 bytes an element and party", declared(lambda e: truths(e).to_ints())),
    Stated(
        SharedInts.__mul__,
        "1 round, 8 bytes an element and party with what is secret",
        declared(lambda e: numbers(e) * numbers(e)),
    ),
    Stated(
        SharedInts.__matmul__,
        "1 round, 8 bytes an element of the result and party",
        declared(lambda e: square(e) @ square(e)),
    ),
    Stated(SharedInts.dot, "1 round, 8 bytes a party", declared(lambda e: numbers(e).dot(numbers(e))), count=1),
    Stated(SharedInts.__lt__, "8 rounds a chunk, 25.3 bytes an element", declared(lambda e: numbers(e) < numbers(e))),
    Stated(SharedInts.__eq__, "7 rounds a chunk, 10.5 bytes an element", declared(lambda e: numbers(e) == numbers(e))),
    Stated(
        ints.shared_ints,
        "1 round, 8 bytes an element from the owner",
        declared(lambda e: ints.shared_ints(e, owner=1, values=WORDS, length=LENGTH, bound=1)),
        payload=(0, 8, 0),
    ),
    Stated(
        ints.shared_bits,
        "1 round, 1 bit an element from the owner",
        declared(lambda e: ints.shared_bits(e, owner=1, values=WORDS, length=LENGTH)),
        payload=(0, 1 / 8, 0),
    ),
    Stated(
        SharedReals.__mul__,
        "2 rounds, 9.3 bytes an element and party",
        declared(lambda e: fractions(e, 30) * 0.5),
    ),
    Stated(
        SharedReals.__mul__,
        "10.7 where words have less than 30 bits",
        declared(lambda e: fractions(e, 29) * 0.5),
        rounds=2,
        payload=10.7,
    ),
    Stated(
        SharedReals.__mul__,
        "3 rounds, 17.3 bytes",
        declared(lambda e: fractions(e, 31) * fractions(e, 31)),
    ),
    Stated(
        SharedReals.__mul__,
        "12 rounds a chunk and at most 46.3 bytes where products have 63 bits",
        declared(lambda e: fractions(e, 32, 1) * fractions(e, 31, 1)),
    ),
    Stated(
        SharedReals.__matmul__,
        "3 rounds, 17.3 bytes an element of the result and party",
        declared(lambda e: squared(e, 20)),
    ),
    Stated(
        SharedReals.__matmul__,
        "12 rounds a chunk and at most 46.3 bytes where sums of products have 63 bits",
        declared(lambda e: squared(e, 28, 1)),
    ),
    Stated(SharedReals.dot, "3 rounds, 17.3 bytes a party", declared(lambda e: summed(e, 30)), count=1),
    Stated(
        SharedReals.dot,
        "12 rounds and at most 1703 bytes where the sum of products has 63 bits",
        declared(lambda e: fractions(e, 32, 1)[:1].dot(fractions(e, 31, 1)[:1])),
        count=1,
    ),
    Stated(
        SharedReals.__lt__,
        "8 rounds a chunk, 25.3 bytes an element",
        declared(lambda e: fractions(e, 40) < fractions(e, 40)),
    ),
    Stated(
        SharedReals.__eq__,
        "7 rounds a chunk, 10.5 bytes an element",
        declared(lambda e: fractions(e, 40) == fractions(e, 40)),
    ),
    Stated(
        SharedReals.divide,
        "at most 48 rounds a chunk, and 430 bytes an element and party",
        declared(lambda e: fractions(e, 44, 28).divide(fractions(e, 44, 28), 1.0)),
    ),
    Stated(
        reals.shared_reals,
        "1 round, 8 bytes an element from the owner",
        declared(lambda e: reals.shared_reals(e, owner=1, values=np.ones(LENGTH), length=LENGTH, bound=1)),
        payload=(0, 8, 0),
    ),
    Stated(
        choice.select,
        "3 rounds, 18.7 bytes an element and party",
        declared(lambda e: choice.select(truths(e), numbers(e), numbers(e))),
    ),
    Stated(
        choice.clip,
        "22 rounds a chunk, 88 bytes an element and party",
        declared(lambda e: choice.clip(numbers(e), 0, 9)),
    ),
]

CIRCUITS = [
    Stated(fixed_point.multiply, "3 rounds, 17.3 bytes", sheltered(fixed_point.multiply, NARROW)),
    Stated(fixed_point.multiply, "12 rounds a chunk and at most 46.3 bytes", sheltered(fixed_point.multiply, WIDE)),
    Stated(fixed_point.dot, "3 rounds, 17.3 bytes", sheltered(fixed_point.dot, NARROW, rows(SUMS))),
    Stated(fixed_point.dot, "12 rounds a chunk and at most 46.3 bytes", sheltered(fixed_point.dot, WIDE, rows(SUMS))),
    Stated(fixed_point.matmul, "3 rounds, 17.3 bytes", sheltered(fixed_point.matmul, NARROW, MATRIX)),
    Stated(fixed_point.matmul, "12 rounds a chunk and at most 46.3 bytes", sheltered(fixed_point.matmul, WIDE, MATRIX)),
    Stated(
        fixed_point.times_public,
        "2 rounds, 9.3 bytes an element",
        declared(lambda e: fixed_point.times_public(e, SUMS, 0.5, FixedPoint(20, 10))),
    ),
    Stated(
        fixed_point.times_public,
        "10.7 where words have less than 30 bits",
        declared(lambda e: fixed_point.times_public(e, SUMS, 0.5, FixedPoint(20, 9))),
        rounds=2,
        payload=10.7,
    ),
    Stated(
        fixed_point.wide_product,
        "at most 7 rounds, and 44 bytes an element",
        declared(lambda e: fixed_point.wide_product(e, SUMS, SUMS, 15, 47)),
    ),
    Stated(
        fixed_point.wide_product,
        "4/3 byte more for each truncation by more than 32 bits",
        declared(lambda e: fixed_point.wide_product(e, SUMS, SUMS, 15, 48)),
        rounds=7,
        payload=44 + 4 / 3,
    ),
    Stated(
        fixed_point.wide_times,
        "at most 4 rounds, and 18.7 bytes an element",
        declared(lambda e: fixed_point.wide_times(e, SUMS, 12345, 15, 47)),
    ),
    Stated(
        fixed_point.wide_times,
        "4/3 byte more for each truncation by more than 32 bits",
        declared(lambda e: fixed_point.wide_times(e, SUMS, 12345, 15, 48)),
        rounds=4,
        payload=18.7 + 4 / 3,
    ),
    Stated(
        division.divide,
        "at most 48 rounds a chunk, and 430 bytes",
        sheltered(division.divide, FixedPoint(28, 16)),
    ),
    Stated(
        division.inverse_of_half_to_one,
        "12 rounds, 104 bytes",
        declared(lambda e: division.inverse_of_half_to_one(e, SUMS)),
    ),
    Stated(
        extrema.minimum,
        "11 rounds, 44 bytes",
        declared(lambda e: extrema.minimum(e, SUMS, SUMS)),
    ),
    Stated(selection.select, "3 rounds, 18.7 bytes", declared(lambda e: selection.select(e, BITS, SUMS, SUMS))),
    Stated(
        scans.segmented_min,
        "For one column of 10^6 rows 340 rounds and 168 bytes",
        declared(least_of_a_million),
        count=10**6,
    ),
    Stated(
        radix_sort.radix_sorted,
        "49.3 bytes and 8 rounds for each column of keys shared by sums",
        declared(lambda e: e.to_binary(SUMS)),
    ),
]


def cost_of(function: Callable[..., Any]) -> str:
    """What stands behind "Cost:", on one line; nothing if there is no such word."""
    said = re.search(r"\bCost: (.*?)(?:\n\s*\n|\n\s*[A-Z]\w+: |\Z)", inspect.getdoc(function) or "", re.DOTALL)
    return " ".join(said[1].split()) if said else ""


def figure(unit: str, words: str) -> str | None:
    found = re.search(rf"([\d.]+) {unit}s?\b", words)
    return found[1] if found else None


def functions(package: Any) -> Iterator[Callable[..., Any]]:
    """Of all modules of a package, with methods."""
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        here = [value for value in vars(module).values() if getattr(value, "__module__", None) == info.name]
        members = [member for value in here if inspect.isclass(value) for member in vars(value).values()]
        yield from filter(inspect.isfunction, [*here, *members])


@pytest.mark.parametrize(
    "stated", [*KERNEL, *SHARED, *CIRCUITS], ids=lambda stated: f"{stated.of.__qualname__}: {stated.words}"
)
def test_a_docstrings_figures_are_those_declared(stated: Stated) -> None:
    said, cost = cost_of(stated.of), stated.cost()
    assert stated.words in said
    rounds, payload = figure("round", stated.words), figure("byte", stated.words)
    assert cost.rounds == (int(rounds or -1) if stated.rounds is None else stated.rounds)
    found = tuple(size / stated.count for size in cost.sent_bytes)
    if isinstance(stated.payload, tuple):
        assert found == pytest.approx(stated.payload)
        return
    expected = float(payload or -1) if stated.payload is None else stated.payload
    digit = 0.1 if stated.payload is not None else 10.0 ** -len((payload or "").partition(".")[2])
    below = (stated.within or digit) if "at most" in stated.words else digit / 2
    assert expected - below <= sum(found) / 3 <= expected + digit / 2


@pytest.mark.parametrize("package", [spark_mpc.protocols.rep3, spark_mpc.shared], ids=lambda package: package.__name__)
def test_no_figure_is_without_a_row(package: Any) -> None:
    told = [function for function in functions(package) if re.search(r"\d", cost_of(function))]
    assert len(told) > 10
    for function in told:
        left = cost_of(function)
        for stated in [*KERNEL, *SHARED]:
            if stated.of is function:
                left = left.replace(stated.words, "")
        assert not re.search(r"\d", left), f"{function.__qualname__} says {left!r}, which no row compares"
