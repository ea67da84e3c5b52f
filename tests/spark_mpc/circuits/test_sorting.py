"""Sorts give numpy's stable order, and send what they declare."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.circuits.columns import Column
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.quicksort import quicksorted
from spark_mpc.circuits.quicksort_cost import expected_quicksort
from spark_mpc.circuits.radix_cost import radix_cost
from spark_mpc.circuits.radix_sort import DIGIT_BITS, radix_sorted
from spark_mpc.circuits.sorting import RADIX_BITS, sort
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.shares import Arithmetic, Binary
from tests.spark_mpc.circuits.columns import operands, stable_order
from tests.tools.conformance import Operands, measured

Sorter = Callable[[Engine, Sequence[Key], Sequence[Column]], list[Column]]
SORTERS = {"radix": radix_sorted, "quick": quicksorted}
CASES = [("sums", 1), ("sums", 17), ("sums", 62), ("binary", 3), ("binary", 20), ("binary", 64)]
each_sorter = pytest.mark.parametrize("sorter", SORTERS.values(), ids=SORTERS)


def key_of(engine: Engine, columns: Operands, kind: str, bits: int) -> Key:
    return Key(columns.x_shared(engine) if kind == "sums" else columns.x_binary(engine), bits)


@each_sorter
@pytest.mark.parametrize(("kind", "bits"), CASES)
@settings(max_examples=6)
@given(st.data())
def test_rows_come_in_the_stable_order_of_their_keys(sorter: Sorter, kind: str, bits: int, data: st.DataObject) -> None:
    columns = data.draw(operands(bits))

    def program(engine: Engine, columns: Operands) -> list[Column]:
        key = key_of(engine, columns, kind, bits)
        return sorter(engine, [key], [key.column, columns.y_shared(engine), columns.y_binary(engine)])

    both = measured(program, columns, chunk=128)
    order = stable_order(columns.x)
    for result, expected in zip(both.result, [columns.x[order], order, order], strict=True):
        np.testing.assert_array_equal(result, expected)


@each_sorter
@settings(max_examples=10)
@given(operands(40), st.integers(0, 2**32))
def test_several_keys_of_both_kinds_count_in_their_order(sorter: Sorter, columns: Operands, seed: int) -> None:
    second = np.random.default_rng(seed).integers(0, 4, columns.length, dtype=np.uint64)
    both_columns = Operands(columns.x, second)

    def program(engine: Engine, columns: Operands) -> list[Column]:
        low = columns.x_binary(engine).masked(3)
        keys = [Key(columns.y_shared(engine), 62), Key(low, 2), Key(columns.x_shared(engine), 40)]
        return sorter(engine, keys, [keys[2].column])

    order = stable_order(second, columns.x & np.uint64(3), columns.x)
    np.testing.assert_array_equal(measured(program, both_columns).result[0], columns.x[order])


# -- what is declared --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bits"), [*CASES, ("binary", 50)])
@pytest.mark.parametrize("length", [1, 2, 64, 130])
def test_radix_sends_exactly_what_is_declared(kind: str, bits: int, length: int) -> None:
    """Operations that follow one another may overlap: not every party waits for the last messages of the one before.

    Declared rounds are the sum, so they are an upper bound; every digit overlaps with the next by two rounds at most.
    """
    words = np.arange(length, dtype=np.uint64) & np.uint64((1 << bits) - 1)
    both = measured(lambda e, o: radix_sorted(e, [key_of(e, o, kind, bits)], [o.y_shared(e)]), Operands(words, words))
    assert both.sent_bytes == both.declared.sent_bytes
    assert 0 <= both.declared.rounds - both.rounds <= 2 * (2 + bits // DIGIT_BITS)


@pytest.mark.parametrize(
    ("bits", "words"), [(1, [1]), (3, [3]), (17, [17]), (24, [24]), (40, [40]), (56, [56]), (64, [8, 56])]
)
@pytest.mark.parametrize("kind", ["sums", "binary"])
def test_the_cost_of_radix_is_known_before_it_runs(kind: str, bits: int, words: list[int]) -> None:
    twin, values = Plain(chunk=64), np.arange(200, dtype=np.uint64)
    column = Arithmetic((values,)) if kind == "sums" else Binary((values,))
    radix_sorted(twin, [Key(column, min(bits, 62) if kind == "sums" else bits)], [column, Binary((values,))])
    if kind == "sums" and bits == 64:
        words = [6, 56]
    expected = radix_cost(twin.costs, 200, chunk=64, sums=int(kind == "sums"), words=words, widths=[8, 8])
    assert twin.spent == expected


def test_radix_costs_what_its_docstring_says() -> None:
    length, one, three = 64_000, Plain(chunk=1 << 20), Plain(chunk=1 << 20)
    words = Binary((np.arange(length, dtype=np.uint64),))
    radix_sorted(one, [Key(words, 33)], [words])
    radix_sorted(three, [Key(words, 36)], [words])
    digit = Cost(three.spent.rounds - one.spent.rounds, (0, three.spent.sent_bytes[1] - one.spent.sent_bytes[1], 0))
    assert digit.rounds == 9
    assert 52 <= digit.sent_bytes[1] / length <= 64


@pytest.mark.parametrize("length", [2, 64, 128])
def test_few_rows_are_sorted_in_one_step_at_an_exact_cost(length: int) -> None:
    words = np.zeros(length, np.uint64)
    both = measured(lambda e, o: quicksorted(e, [Key(o.x_shared(e), 20)], []), Operands(words, words))
    expected = expected_quicksort(Plain().costs, length, sums=1, planes=0, widths=[8, 8])
    assert both.declared == expected
    assert both.sent_bytes == expected.sent_bytes
    assert expected.rounds - 1 <= both.rounds <= expected.rounds


@pytest.mark.parametrize("length", [1_000, 5_000])
def test_quicksort_sends_about_what_is_expected_whatever_the_rows_hold(length: int) -> None:
    """Twenty runs each; a run outside the tolerance has a chance of less than 10^-3."""
    expected = expected_quicksort(Plain().costs, length, sums=1, planes=0, widths=[8, 8])
    for seed in range(20):
        twin, values = Plain(seed=seed), np.arange(length, dtype=np.uint64) // np.uint64(1 + 999 * (seed % 2))
        quicksorted(twin, [Key(Arithmetic((values,)), 20)], [])
        assert abs(twin.spent.sent_bytes[1] / expected.sent_bytes[1] - 1) < 8 / length**0.5
        assert abs(twin.spent.rounds - expected.rounds) <= 4 * 9


def test_a_protocol_sorts_at_the_cost_that_is_expected() -> None:
    length = 2_000
    words = np.random.default_rng(3).integers(0, 2**62, length, dtype=np.uint64)
    both = measured(lambda e, o: quicksorted(e, [Key(o.x_shared(e), 62)], [o.x_shared(e)]), Operands(words, words))
    expected = expected_quicksort(Plain().costs, length, sums=1, planes=11, widths=[8, 4, 8])
    np.testing.assert_array_equal(both.result[0], np.sort(words))
    for sent, declared in zip(both.sent_bytes, expected.sent_bytes, strict=True):
        assert abs(sent / declared - 1) < 8 / length**0.5
    assert abs(both.rounds - expected.rounds) <= 4 * 10


# -- the one entry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "sorter"), [(RADIX_BITS, radix_sorted), (RADIX_BITS + 1, quicksorted)])
def test_narrow_keys_are_sorted_by_digits_and_wide_ones_by_comparisons(bits: int, sorter: Sorter) -> None:
    one, other = Plain(), Plain()
    words = np.random.default_rng(1).integers(0, 2**bits, 100, dtype=np.uint64)
    key, payload = Key(Arithmetic((words,)), bits), Binary((words,))
    (keys, payloads), expected = sort(one, [key], [payload]), sorter(other, [key], [key.column, payload])
    assert one.spent == other.spent
    for result, same in zip([*keys, *payloads], expected, strict=True):
        np.testing.assert_array_equal(result.parts[0], same.parts[0])


@pytest.mark.parametrize("bits", [0, 63])
def test_a_width_that_cannot_be_compared_is_refused(bits: int) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"bits={bits}: declare a width of 1 to 62 bits")):
        Key(Arithmetic((np.zeros(3, np.uint64),)), bits)


def test_columns_of_different_lengths_are_refused() -> None:
    key = Key(Arithmetic((np.zeros(3, np.uint64),)), 8)
    with pytest.raises(InvalidArgument, match="columns of one length"):
        sort(Plain(), [key], [Arithmetic((np.zeros(4, np.uint64),))])
    with pytest.raises(InvalidArgument, match="give one key or more"):
        sort(Plain(), [])
