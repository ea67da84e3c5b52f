"""Secret reals: what numpy gives, to within the units that are stated; bounds that follow; refusals before sending."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.shared import SharedReals, select, shared_reals
from tests.tools.three import three_parties

UNIT = 2.0**-20
REALS = st.floats(-100, 100, allow_nan=False)
COLUMNS = st.integers(1, 70).flatmap(lambda n: st.tuples(*(st.lists(REALS, min_size=n, max_size=n),) * 2))


def reals(engine: Engine, values: Any, owner: int = 0, bound: float = 100) -> SharedReals:
    column = np.asarray(values, np.float64)
    given_here = column if engine.me == owner or engine.name == "plain" else None
    return shared_reals(engine, owner=owner, values=given_here, length=len(column), bound=bound)


@settings(max_examples=10, deadline=None)
@given(columns=COLUMNS)
def test_arithmetic_is_numpys(columns: tuple[list[float], list[float]]) -> None:
    x, y = (np.rint(np.array(column) / UNIT) * UNIT for column in columns)

    def program(engine: Engine) -> list[Any]:
        a, b = reals(engine, x), reals(engine, y, owner=1)
        found = [a + b, a - b, -a, a + 0.5, 1 - a, a * b, a * 0.3, a.sum(), a.dot(b)]
        return [one.open() for one in [*found, a < b, a >= b, a == b, a != b, a > 0, select(a < b, a, b)]]

    results, _ = three_parties(program)
    inexact = [x * y, 0.3 * x]
    exact = [x + y, x - y, -x, x + 0.5, 1 - x]
    compared = [x < y, x >= y, x == y, x != y, x > 0, np.minimum(x, y)]
    for result, expected in zip(results[1], [*exact, *inexact, [x.sum()], [x @ y], *compared], strict=True):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1.01 * UNIT)
    for result, expected in zip(results[2][:5], exact, strict=True):
        np.testing.assert_array_equal(result, expected)


def test_matrices() -> None:
    x, y = np.linspace(-3, 3, 12), np.linspace(1, 2, 12)
    results, _ = three_parties(lambda e: (reals(e, x).reshape(4, 3) @ reals(e, y).reshape(3, 4)).open())
    np.testing.assert_allclose(results[0], x.reshape(4, 3) @ y.reshape(3, 4), rtol=0, atol=4 * UNIT)


FUNCTIONS: dict[str, tuple[Callable[[SharedReals], SharedReals], Callable[[Any], Any], Any]] = {
    "reciprocal": (lambda x: x.reciprocal(100), lambda x: 1 / x, [-20, -0.5, 0.01, 1, 3, 20]),
    "sqrt": (lambda x: x.sqrt(), np.sqrt, [0, 0.01, 1, 2, 20]),
    "exp": (lambda x: x.exp(500), np.exp, [-20, -1, 0, 1, 6]),
    "log": (lambda x: x.log(), np.log, [0.001, 0.5, 1, 20]),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x)), [-20, -1, 0, 1, 20]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_near_numpys(name: str) -> None:
    ours, theirs, at = FUNCTIONS[name]
    x = np.rint(np.array(at, np.float64) / UNIT) * UNIT
    results, _ = three_parties(lambda e: ours(reals(e, x, bound=20)).open())
    np.testing.assert_allclose(results[0], theirs(x), rtol=2.0**-24, atol=3 * UNIT)


def test_quotients_are_near_numpys() -> None:
    x, y = np.array([0, 1, -7.5, 20, 0.001, 3]), np.array([0.5, -3, 0.75, 20, 0.01, -0.01])
    x, y = (np.rint(column / UNIT) * UNIT for column in (x, y))
    results, _ = three_parties(lambda e: reals(e, x, bound=20).divide(reals(e, y, owner=1, bound=20), 300).open())
    allowed = 2.0**-26 * np.abs(x / y) + (2 + 2 / np.abs(y)) * UNIT
    assert results[0] is not None
    assert (np.abs(results[0] - x / y) <= allowed).all()


def test_a_quotients_domain_has_both_operands_and_the_result() -> None:
    small, large = (reals(Plain(), [1.5], bound=bound) for bound in (2, 3000))
    assert small.divide(large, 2).bound >= 3000
    assert large.divide(small, 2).bound >= 3000
    assert small.divide(small, 9000).bound >= 9000


def test_bounds_follow_every_operation() -> None:
    x = reals(Plain(), [1.5, -2.0], bound=10)
    assert x.bound == 10
    assert (x + x).bound == 20
    assert (x - 0.5).bound == 10.5
    assert (x * x).bound == pytest.approx(100, abs=2 * UNIT)
    assert (x * -3).bound == pytest.approx(30, abs=2 * UNIT)
    assert x.sum().bound == 20
    assert x.exp(500).bound >= 500


def test_what_could_wrap_is_refused_before_anything_is_sent() -> None:
    twin = Plain()
    large, small = reals(twin, [1.0], bound=2.0**40), reals(twin, [1.0])
    other = shared_reals(Plain(), owner=0, values=np.array([1.0]), length=1, bound=10, fraction_bits=8)
    sent = twin.spent
    for operation in (
        lambda: large * large,
        lambda: large.dot(large),
        lambda: large * 2.0**10,
        lambda: large + 2.0**50,
        lambda: large * math.nan,
        lambda: large + math.inf,
        lambda: large.exp(2.0**40),
        lambda: large.divide(small, 1),
        lambda: small.divide(large, 1),
        lambda: small.divide(small, 2.0**40),
        lambda: small.divide(small, math.inf),
        lambda: small.divide(small, math.nan),
        lambda: small.divide(reals(Plain(), [1.0, 2.0]), 1),
        lambda: small.divide(other, 1),
        lambda: small.reshape(1, 1).divide(small.reshape(1, 1), 1),
        lambda: small.reciprocal(math.inf),
        lambda: small.reciprocal(math.nan),
        lambda: small.reshape(1, 1).sqrt(),
        large.sigmoid,
    ):
        with pytest.raises(InvalidArgument):
            operation()
    assert twin.spent == sent


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [10.01], [1.0, 2.0]])
def test_an_owners_values_are_checked_before_they_are_shared(values: list[float]) -> None:
    twin = Plain()
    with pytest.raises(InvalidArgument, match="values"):
        shared_reals(twin, owner=0, values=np.array(values), length=1, bound=10)
    assert twin.spent.payload_bytes == 0


@pytest.mark.parametrize("bound", [-1.0, math.nan, math.inf, 2.0**44])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(InvalidArgument):
        shared_reals(Plain(), owner=1, values=None, length=1, bound=bound)


def test_units_of_another_size_do_not_mix() -> None:
    twin = Plain()
    other = shared_reals(twin, owner=0, values=np.array([1.0]), length=1, bound=10, fraction_bits=8)
    for operation in (lambda: reals(twin, [1.0]) + other, lambda: reals(twin, [1.0]) * other):
        with pytest.raises(InvalidArgument, match="fraction_bits"):
            operation()


def test_nothing_shows() -> None:
    secret = reals(Plain(), [1.0, 2.0])
    assert repr(secret) == "SharedReals(shape=(2,))"
    for use in (bool, float, int, list, np.asarray, hash):
        with pytest.raises(TypeError):
            use(secret)  # type: ignore[operator]
