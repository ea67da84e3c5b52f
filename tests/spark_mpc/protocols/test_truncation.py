"""Division by powers of two under sharing: right at every edge, right on average, and never a wrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from tests.tools.conformance import Operands, measured
from tests.tools.three import three_parties

ANY_EDGES = [0, 1, 2, 2**32 - 1, 2**32, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2**62, 2**64 - 1]
NEAR_EDGES = [0, 1, 2**61, 2**62 - 1, 2**62 - 2, 2**64 - 1, 2**64 - 2**62, 2**64 - 2**62 + 1]
BITS = st.integers(0, 62)
CHUNKS = st.sampled_from([64, 128, CHUNK])


@st.composite
def words(draw: st.DrawFn, magnitude_bits: int) -> Words:
    """Signed words of all sizes below 2^magnitude_bits, and edges of the domain among them."""
    length = draw(st.sampled_from([1, 2, 63, 64, 65, 300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shift = (64 - magnitude_bits + rng.integers(0, magnitude_bits, length)).astype(np.int64)
    values = (rng.integers(-(2**63), 2**63, length) >> (shift - 1)).view(np.uint64)
    edges = rng.random(length) < 0.4
    values[edges] = rng.choice(np.array(ANY_EDGES if magnitude_bits > 62 else NEAR_EDGES, np.uint64), edges.sum())
    return values


def floor(values: Words, bits: int) -> Words:
    return (values.view(np.int64) >> np.int64(bits)).view(np.uint64)


@settings(max_examples=40, deadline=None)
@given(values=words(63), bits=BITS, chunk=CHUNKS)
def test_exact_truncation_is_the_arithmetic_shift_of_every_word(values: Words, bits: int, chunk: int) -> None:
    both = measured(lambda e, o: e.truncated_exactly(o.x_shared(e), bits), Operands(values, values), chunk=chunk)
    np.testing.assert_array_equal(both.result, floor(values, bits))
    np.testing.assert_array_equal(both.expected, floor(values, bits))
    assert both.sent_bytes == both.declared.sent_bytes


@settings(max_examples=40, deadline=None)
@given(values=words(62), bits=BITS, chunk=CHUNKS)
def test_truncation_gives_the_floor_or_one_more_in_its_domain(values: Words, bits: int, chunk: int) -> None:
    both = measured(lambda e, o: e.truncated(o.x_shared(e), bits), Operands(values, values), chunk=chunk)
    np.testing.assert_array_equal(both.expected, floor(values, bits))
    above = both.result - both.expected
    assert set(above.tolist()) <= {0, 1}
    whole = (values & np.uint64((1 << bits) - 1)) == 0
    assert not above[whole].any()
    assert both.sent_bytes == both.declared.sent_bytes


@pytest.mark.parametrize("bits", [1, 20, 32, 33, 62])
def test_rounds_are_those_declared(bits: int) -> None:
    """In an exact truncation party 0 may run ahead by a round where it alone has something to send."""
    values = Operands(np.arange(100, dtype=np.uint64), np.arange(100, dtype=np.uint64))
    rounded = measured(lambda e, o: e.truncated(o.x_shared(e), bits), values)
    assert rounded.rounds == rounded.declared.rounds == 2
    assert rounded.declared.payload_bytes == 100 * (28 if bits <= 32 else 32)
    exact = measured(lambda e, o: e.truncated_exactly(o.x_shared(e), bits), values)
    assert exact.declared.rounds <= 11
    assert exact.declared.rounds - 1 <= exact.rounds <= exact.declared.rounds


def test_no_bits_cost_nothing() -> None:
    values = Operands(np.arange(5, dtype=np.uint64), np.arange(5, dtype=np.uint64))
    for name in ("truncated", "truncated_exactly"):
        both = measured(lambda e, o, name=name: getattr(e, name)(o.x_shared(e), 0), values)  # type: ignore[misc]
        np.testing.assert_array_equal(both.result, values.x)
        assert both.rounds == both.declared.payload_bytes == 0


# -- chance ------------------------------------------------------------------------------------------------------------
# Z_LIMIT: an honest program fails with probability 2e-9 at each comparison; seeds are fixed.
Z_LIMIT = 6.0
MANY = 1 << 17


def rounded_up(values: Words, bits: int) -> Words:
    """How far results lie above the floor."""
    both = measured(lambda e, o: e.truncated(o.x_shared(e), bits), Operands(values, values))
    return np.asarray(both.result - floor(values, bits))


def z_score(up: Words, fraction: float) -> float:
    return float(abs(up.mean() - fraction) / np.sqrt(fraction * (1 - fraction) / len(up)))


@pytest.mark.parametrize("numerator", [1, 77, 200, 255])
def test_rounding_is_right_on_average(numerator: int) -> None:
    for value in (numerator, 2**61 + numerator, -(2**61) + numerator):
        up = rounded_up(np.full(MANY, value, np.int64).view(np.uint64), 8)
        assert z_score(up, numerator / 256) < Z_LIMIT
    assert z_score(np.zeros(MANY, np.uint64), numerator / 256) > Z_LIMIT, "always down must not pass"
    assert z_score(np.arange(MANY, dtype=np.uint64) % np.uint64(2), numerator / 256) > Z_LIMIT, "a coin must not pass"


@pytest.mark.parametrize("owner", [None, 0, 1, 2], ids=["public", "party 0", "party 1", "party 2"])
def test_public_words_and_those_of_party_0_are_rounded_down_until_they_are_multiplied(owner: int | None) -> None:
    values = np.full(MANY, 77, np.uint64)

    def program(engine: Rep3) -> list[Any]:
        x = engine.constant(values)
        if owner is not None:
            x = engine.input_words(owner, values if engine.me == owner else None, MANY)
        product = engine.multiply(x, engine.constant(np.ones(MANY, np.uint64)))
        return [engine.open_words(engine.truncated(each, 8)) for each in (x, product)]

    (direct, multiplied), *_ = three_parties(program)[0]
    assert z_score(multiplied, 77 / 256) < Z_LIMIT
    assert not direct.any() if owner in (None, 0) else z_score(direct, 77 / 256) < Z_LIMIT


@pytest.mark.parametrize("distance", [0, 1, 255, 256, 257, 1000])
def test_neighbours_that_are_rounded_alike_move_by_whole_units(distance: int) -> None:
    """A sensitivity of distance / 2^bits units is too small: it is the next whole number, and that is reached."""
    rng = np.random.default_rng(distance)
    values, known, v = (rng.integers(0, 2**bits, MANY, np.uint64) for bits in (40, 64, 64))

    def program(engine: Rep3) -> list[Any]:
        cut = []
        for x in (values, values + np.uint64(distance)):
            parts = x - known - v, known, v
            cut.append(engine.truncated(Arithmetic((parts[engine.me], parts[(engine.me + 1) % 3])), 8))
        return [engine.open_words(each) for each in cut]

    (one, other), *_ = three_parties(program)[0]
    assert (other - one).max() == -(-distance // 256)


def left_to_chance(values: Words, bits: int, seed: int) -> Words:
    """The wrong twin: two summands shifted by their holders, whether they wrap or not."""
    v = np.random.default_rng(seed).integers(0, 2**64, len(values), np.uint64)
    return floor(values - v, bits) - floor(np.negative(v), bits)


def wrapped(results: Words, values: Words, bits: int) -> int:
    """Results that are neither the floor nor one more."""
    return int((results - floor(values, bits) > 1).sum())


@pytest.mark.parametrize("value", [2**62 - 1, -(2**62), 2**61])
def test_not_one_of_many_wraps_near_the_limit(value: int) -> None:
    """Shares left to chance wrap with probability |x| / 2^64: of so many at most none does by luck, e^-16000."""
    values = np.full(MANY, value, np.int64).view(np.uint64)
    both = measured(lambda e, o: e.truncated(o.x_shared(e), 20), Operands(values, values))
    assert wrapped(np.asarray(both.result), values, 20) == 0
    expected = MANY * abs(value) / 2**64
    found = wrapped(left_to_chance(values, 20, seed=1), values, 20)
    assert abs(found - expected) < Z_LIMIT * np.sqrt(expected)


def test_beyond_the_domain_only_the_exact_one_is_right() -> None:
    values = np.full(1000, 2**63 - 1, np.uint64)

    def program(engine: Engine, operands: Operands) -> list[Arithmetic]:
        x = operands.x_shared(engine)
        return [engine.truncated(x, 20), engine.truncated_exactly(x, 20)]

    rounded, exact = measured(program, Operands(values, values)).result
    assert wrapped(rounded, values, 20) > 0
    np.testing.assert_array_equal(exact, floor(values, 20))
