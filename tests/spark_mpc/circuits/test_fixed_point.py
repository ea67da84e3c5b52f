"""Reals as words: encoded exactly, multiplied to less than a unit, refused where they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.circuits.fixed_point import (
    FixedPoint,
    dot,
    matmul,
    multiply,
    times_public,
    truncation_for,
    wide_product,
    wide_times,
)
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from tests.tools.conformance import Both, Operands, measured

LENGTHS = st.sampled_from([1, 2, 63, 64, 65, 300])
SEEDS = st.integers(0, 2**32)
FORMS = st.sampled_from(
    [FixedPoint(*bits) for bits in ((0, 20), (1, 60), (8, 8), (16, 16), (20, 22), (30, 2), (20, 23))]
)


def integers(words: Words) -> NDArray[np.object_]:
    """Signed Python integers, which never overflow."""
    return words.view(np.int64).astype(object)


def signed(rng: np.random.Generator, length: int, bits: int) -> Words:
    """Words of all sizes below 2^bits, with the edges among them."""
    values = np.array([int(rng.integers(0, 2**63)) >> (63 - int(size)) for size in rng.integers(0, bits + 1, length)])
    values[rng.random(length) < 0.1] = (1 << bits) - 1
    return np.asarray((values * rng.choice([-1, 1], length)).astype(np.int64).view(np.uint64))


def require_near(both: Both, exact: NDArray[np.object_], bits: int, scale: int = 1) -> None:
    """Results are less than `scale` units beside exact / 2^bits; bytes are those declared."""
    distance = np.abs(integers(np.asarray(both.result)) * (1 << bits) - exact)
    assert all(distance.ravel() < scale << bits)
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds


@settings(max_examples=50, deadline=None)
@given(form=FORMS, seed=SEEDS)
def test_words_of_reals_come_back(form: FixedPoint, seed: int) -> None:
    words = signed(np.random.default_rng(seed), 50, min(form.word_bits, 53))
    np.testing.assert_array_equal(form.encode(form.decode(words)), words)


@given(value=st.floats(-1000, 1000))
def test_encoding_takes_the_nearest_word(value: float) -> None:
    form = FixedPoint(10, 10)
    assert abs(form.decode(form.encode(np.array([value])))[0] - value) <= form.unit / 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 256.0, -256.0, 256 - 2.0**-10, 1e300])
def test_what_lies_outside_is_not_encoded_and_not_shown(value: float) -> None:
    with pytest.raises(InvalidArgument, match="outside the domain") as refused:
        FixedPoint(8, 8).encode(np.array([1.0, value]))
    assert str(value) not in str(refused.value)
    assert FixedPoint(8, 8).encode(np.array([256 - 2.0**-8, -256 + 2.0**-8])).view(np.int64).tolist() == [65535, -65535]


@pytest.mark.parametrize("bits", [(-1, 3), (3, -1), (31, 32), (63, 0)])
def test_forms_that_do_not_fit_are_refused(bits: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="bits"):
        FixedPoint(*bits)


def test_how_a_product_is_truncated_follows_from_its_bits() -> None:
    values = Operands(*(np.array([2**62 - 1, 3, 2**64 - 5], np.uint64),) * 2)
    below, at = (
        measured(lambda e, o, bits=bits: truncation_for(bits)(e, o.x_shared(e), 7), values).declared  # type: ignore[misc]
        for bits in (62, 63)
    )
    assert below.rounds == 2
    assert at.rounds > 2
    with pytest.raises(InvalidArgument, match="product_bits=64"):
        truncation_for(64)


@settings(max_examples=40, deadline=None)
@given(form=FORMS, length=LENGTHS, seed=SEEDS)
def test_products_are_right_to_a_unit(form: FixedPoint, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(0, form.word_bits + 1))
    x, y = signed(rng, length, bits), signed(rng, length, form.word_bits + form.fraction_bits - bits)
    both = measured(lambda e, o: multiply(e, o.x_shared(e), o.y_shared(e), form), Operands(x, y))
    require_near(both, integers(x) * integers(y), form.fraction_bits)
    if form.fraction_bits > 0 and form.product_bits <= 62:
        assert both.rounds == both.declared.rounds == 3
        assert both.declared.payload_bytes == 52 * length


def test_products_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    form = FixedPoint(20, 24)
    x = np.arange(4, dtype=np.uint64)

    def program(engine: Engine, operands: Operands) -> Arithmetic:
        shared = operands.x_shared(engine)
        square = shared.map(lambda part: part.reshape(2, 2))
        for operation, operand in ((multiply, shared), (dot, square), (matmul, square)):
            with pytest.raises(InvalidArgument, match=r"fewer fraction_bits"):
                operation(engine, operand, operand, form)
        return shared

    assert measured(program, Operands(x, x)).sent_bytes == (0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 5), inner=st.integers(1, 40), columns=st.integers(1, 5), seed=SEEDS)
def test_sums_of_products_are_truncated_once(rows: int, inner: int, columns: int, seed: int) -> None:
    form, rng = FixedPoint(20, 16), np.random.default_rng(seed)
    x, y = (form.encode(rng.uniform(-40, 40, count * inner)) for count in (rows, columns))

    def product(engine: Engine, operands: Operands) -> Arithmetic:
        left = operands.x_shared(engine).map(lambda part: part.reshape(rows, inner))
        right = _shared(engine, y).map(lambda part: part.reshape(inner, columns))
        return matmul(engine, left, right, form)

    both = measured(product, Operands(x, x))
    require_near(both, integers(x).reshape(rows, inner) @ integers(y).reshape(inner, columns), 20)
    assert both.declared.payload_bytes == 52 * rows * columns

    def squares(engine: Engine, operands: Operands) -> Arithmetic:
        left = operands.x_shared(engine).map(lambda part: part.reshape(rows, inner))
        return dot(engine, left, left, form)

    both = measured(squares, Operands(x, x))
    require_near(both, (integers(x) ** 2).reshape(rows, inner).sum(axis=1), 20)
    assert both.declared.rounds == both.rounds == 3


def _shared(engine: Engine, words: Words) -> Arithmetic:
    return Operands(words, words).y_shared(engine)


@settings(max_examples=30, deadline=None)
@given(form=FORMS, length=LENGTHS, seed=SEEDS, one=st.booleans())
def test_public_factors_cost_one_truncation(form: FixedPoint, length: int, seed: int, one: bool) -> None:
    rng = np.random.default_rng(seed)
    x = signed(rng, length, form.word_bits)
    most = 2.0**form.word_bits / np.maximum(1.0, np.abs(x.view(np.int64)))
    factors = np.clip(rng.uniform(-1, 1, length) * most * 0.99, -(2.0**form.magnitude_bits), 2.0**form.magnitude_bits)
    given_factors = float(np.min(np.abs(factors))) if one else factors
    both = measured(lambda e, o: times_public(e, o.x_shared(e), given_factors, form), Operands(x, x))
    bits = 62 - form.word_bits
    words = np.rint(np.ldexp(np.broadcast_to(given_factors, length), bits)).astype(np.int64)
    require_near(both, integers(x) * words.astype(object), bits)
    assert both.declared.rounds == (2 if bits else 0)


def test_public_factors_that_are_no_number_are_refused() -> None:
    x = np.arange(3, dtype=np.uint64)

    def program(engine: Engine, operands: Operands) -> Arithmetic:
        for factor in (np.nan, np.inf, 2.0**32):
            with pytest.raises(InvalidArgument):
                times_public(engine, operands.x_shared(engine), factor, FixedPoint(16, 16))
        return operands.x_shared(engine)

    measured(program, Operands(x, x))


@settings(max_examples=30, deadline=None)
@given(low=st.integers(1, 17), rest=st.integers(0, 30), length=LENGTHS, seed=SEEDS)
def test_wide_products_need_not_fit(low: int, rest: int, length: int, seed: int) -> None:
    """|x| below 2^44 and |x y| below 2^(62 + low), the limits that are stated."""
    rng = np.random.default_rng(seed)
    x, y = signed(rng, length, 44), signed(rng, length, 17 + low)
    both = measured(lambda e, o: wide_product(e, o.x_shared(e), o.y_shared(e), low, low + rest), Operands(x, y))
    require_near(both, integers(x) * integers(y), low + rest, scale=2)
    assert both.declared.rounds == (7 if rest else 5)
    public = measured(lambda e, o: wide_times(e, o.x_shared(e), 2 ** (17 + low) - 1, low, low + rest), Operands(x, x))
    require_near(public, integers(x) * (2 ** (17 + low) - 1), low + rest, scale=2)
