"""Secret integers and bits do what numpy does, show nothing, and refuse what could wrap before anything is sent."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.shared import MOST_COMPARED, SharedBits, SharedInts, select, shared_bits, shared_ints
from tests.tools.three import three_parties

INTS = st.integers(-(2**31), 2**31)
COLUMNS = st.integers(1, 70).flatmap(lambda n: st.tuples(*(st.lists(INTS, min_size=n, max_size=n),) * 2))

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne")
}


def ints(engine: Engine, values: Any, owner: int = 0, bound: int = 2**31) -> SharedInts:
    words = np.asarray(values, np.int64)
    given_here = words if engine.me == owner or engine.name == "plain" else None
    return shared_ints(engine, owner=owner, values=given_here, length=len(words), bound=bound)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=6, deadline=None)
@given(columns=COLUMNS)
def test_operators_are_numpys(name: str, columns: tuple[list[int], list[int]]) -> None:
    x, y = (np.array(column) for column in columns)
    results, _ = three_parties(lambda e: BINARY[name](ints(e, x), ints(e, y, owner=1)).open())
    for result in results:
        np.testing.assert_array_equal(result, BINARY[name](x, y))


@pytest.mark.parametrize("name", BINARY)
def test_operators_take_public_operands(name: str) -> None:
    x, public = np.array([-5, 0, 3, 7]), np.array([3, 0, 3, -9], np.int32)
    for other in (3, -3, public, np.int64(3)):
        results, _ = three_parties(lambda e, other=other: BINARY[name](ints(e, x), other).open())
        np.testing.assert_array_equal(results[0], BINARY[name](x, other))
    (result, *_), _ = three_parties(lambda e: BINARY[name](3, ints(e, x)).open())
    np.testing.assert_array_equal(result, BINARY[name](3, x))


@settings(max_examples=10, deadline=None)
@given(columns=COLUMNS)
def test_selection_sums_and_products(columns: tuple[list[int], list[int]]) -> None:
    x, y = (np.array(column) for column in columns)

    def program(engine: Engine) -> list[Any]:
        a, b = ints(engine, x), ints(engine, y, owner=2)
        chosen = select(a < b, a, b)
        matrix = a.reshape(-1, 1) @ b.reshape(1, -1)
        found = [chosen, chosen.sum(), a[1:].sum(axis=0), -a, a[::-1], matrix]
        return [one.open() for one in found]

    results, _ = three_parties(program)
    wanted = [np.minimum(x, y), [np.minimum(x, y).sum()], [x[1:].sum()], -x, x[::-1], np.outer(x, y)]
    for result, expected in zip(results[1], wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 130).flatmap(lambda n: st.tuples(*(st.lists(st.booleans(), min_size=n, max_size=n),) * 2)))
def test_truth_values(columns: tuple[list[bool], list[bool]]) -> None:
    x, y = (np.array(column) for column in columns)

    def program(engine: Engine) -> list[Any]:
        a, b = (
            shared_bits(engine, owner=owner, values=values if engine.me == owner else None, length=len(x))
            for owner, values in enumerate((x, y))
        )
        return [one.open() for one in (a & b, a | b, a ^ b, ~a, a.to_ints())]

    results, _ = three_parties(program)
    for result, expected in zip(results[2], (x & y, x | y, x ^ y, ~x, x.astype(int)), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_an_inner_product_sends_one_word() -> None:
    x, y = np.arange(1000), np.arange(1000) - 500
    twin = Plain()
    product = ints(twin, x, bound=1000).dot(ints(twin, y, owner=1, bound=1000))
    assert (product.open() == [x @ y]).all()
    assert twin.spent.sent_bytes == (8000 + 16, 8000 + 16, 16)


@pytest.mark.parametrize("use", [bool, int, float, iter, list, hash, np.asarray, pickle.dumps])
def test_a_secret_has_no_value(use: Callable[[Any], Any]) -> None:
    twin = Plain()
    for secret in (ints(twin, [1, 2]), ints(twin, [1, 2]) < 2):
        with pytest.raises(TypeError):
            use(secret)
    with pytest.raises(TypeError):
        np.array([1, 2]) in ints(twin, [1, 2])  # noqa: B015


def test_a_repr_shows_type_and_shape_only() -> None:
    twin = Plain()
    assert repr(ints(twin, [4, 5, 6])) == "SharedInts(shape=(3,))"
    assert repr(ints(twin, [4, 5, 6]) == 4) == "SharedBits(shape=(3,))"


def test_bounds_follow_every_operation() -> None:
    twin = Plain()
    x = ints(twin, [1, 2, 3], bound=10)
    assert (x + x).bound == 20
    assert (x - 5).bound == 15
    assert (x * x).bound == 100
    assert (x * -7).bound == 70
    assert x.sum().bound == 30
    assert x.dot(x).bound == 300
    assert (x.reshape(1, 3) @ x.reshape(3, 1)).bound == 300
    assert select(x < 2, x, x * 3).bound == 30
    assert (x < 2).to_ints().bound == 1


def test_what_could_wrap_is_refused_before_anything_is_sent() -> None:
    twin = Plain()
    large = ints(twin, [1], bound=2**62)
    sent = twin.spent
    for operation in (
        lambda: large * large,
        lambda: large + large,
        lambda: large.dot(large),
        lambda: large * 2,
        lambda: large < 0,
        lambda: large == -large,
        lambda: large.reshape(1, 1) @ large.reshape(1, 1),
    ):
        with pytest.raises(InvalidArgument, match="bound"):
            operation()
    assert twin.spent == sent
    assert not (ints(twin, [MOST_COMPARED], bound=MOST_COMPARED) < -MOST_COMPARED).open()[0]  # type: ignore[index]


def test_an_owners_values_are_checked_before_they_are_shared() -> None:
    twin = Plain()
    for values in (np.array([11]), np.array([-11]), np.array([1, 2]), np.array([0.5])):
        with pytest.raises(InvalidArgument, match="values"):
            shared_ints(twin, owner=0, values=values, length=1, bound=10)
    with pytest.raises(InvalidArgument, match="values"):
        shared_bits(twin, owner=0, values=np.array([True, False]), length=1)
    assert twin.spent.payload_bytes == 0


def test_other_shapes_are_refused() -> None:
    twin = Plain()
    two, three = ints(twin, [1, 2]), ints(twin, [1, 2, 3])
    for operation in (
        lambda: two + three,
        lambda: two * three,
        lambda: (two < 1) & (three < 1),
        lambda: select(two < 1, two, three),
        lambda: two @ three,
        lambda: two < "3",
    ):
        with pytest.raises(InvalidArgument):
            operation()


def test_public_operands_have_the_shape_of_the_secret_or_none() -> None:
    """Broadcasting would give the parties shares of different shapes."""
    twin = Plain()
    one, matrix = ints(twin, [3]), ints(twin, [1, 2, 3, 4]).reshape(2, 2)
    sent = twin.spent
    for operation in (
        lambda: one + np.arange(5),
        lambda: one - np.arange(5),
        lambda: one * np.arange(5),
        lambda: one < np.arange(5),
        lambda: one + np.array([0.5]),
        lambda: one - np.array([2**64 - 1], np.uint64),
        lambda: one < np.array([2**64 - 1], np.uint64),
        lambda: one - 2**64,
        lambda: matrix < 1,
        lambda: matrix == 1,
    ):
        with pytest.raises(InvalidArgument):
            operation()
    assert twin.spent == sent


@pytest.mark.parametrize("bound", [-1, 2**63, 2**70])
def test_a_bound_that_is_none_is_refused_before_anything_is_shared(bound: int) -> None:
    twin = Plain()
    with pytest.raises(InvalidArgument, match="bound"):
        shared_ints(twin, owner=1, values=None, length=1, bound=bound)
    assert twin.spent.payload_bytes == 0


def test_all_parties_may_name_who_sees_a_result() -> None:
    results, _ = three_parties(lambda e: (ints(e, [1, -2]) + 1).open(to=(1,)))
    assert results[0] is None
    assert results[2] is None
    np.testing.assert_array_equal(results[1], [2, -1])


def test_types() -> None:
    twin = Plain()
    assert isinstance(ints(twin, [1]) < 1, SharedBits)
