"""Scans, boundaries, compaction and extrema give what numpy gives, and send what they declare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.circuits.columns import words_of
from spark_mpc.circuits.compaction import compacted
from spark_mpc.circuits.extrema import (
    column_argmax,
    column_argmin,
    column_max,
    column_min,
    maximum,
    minimum,
    negative_part,
)
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.scans import (
    Direction,
    Segments,
    boundaries,
    one_segment,
    prefix_sums,
    segmented_copy,
    segmented_max,
    segmented_min,
    segmented_sum,
    segments_from,
)
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.shares import Arithmetic, Bits
from tests.spark_mpc.circuits.columns import operands, signed_operands
from tests.tools.conformance import Operands, measured

Signed = NDArray[np.int64]
Scan = Callable[[Engine, Segments, Sequence[Arithmetic], Direction], list[Arithmetic]]


def firsts(values: Signed) -> Signed:
    return np.full(len(values), values[0])


SCANS: dict[str, tuple[Scan, Callable[[Signed], Signed]]] = {
    "copy": (segmented_copy, firsts),
    "sum": (segmented_sum, np.cumsum),
    "min": (segmented_min, np.minimum.accumulate),
    "max": (segmented_max, np.maximum.accumulate),
}


def marks(engine: Engine, columns: Operands) -> Bits:
    """Of rows: the lowest bit of y."""
    return engine.zero(engine.plus_public(columns.y_shared(engine), -(columns.y | np.uint64(1)).astype(np.uint64)))


def by_segments(values: Signed, starts: NDArray[Any], scan: Callable[[Signed], Signed], direction: Direction) -> Signed:
    pieces = np.split(values, np.flatnonzero(starts[1:]) + 1)
    if direction is Direction.BACKWARD:
        return np.concatenate([scan(piece[::-1])[::-1] for piece in pieces])
    return np.concatenate([scan(piece) for piece in pieces])


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", SCANS)
@settings(max_examples=6)
@given(signed_operands())
def test_scans_run_within_segments_both_ways(name: str, direction: Direction, columns: Operands) -> None:
    scan, in_numpy = SCANS[name]

    def program(engine: Engine, columns: Operands) -> list[Arithmetic]:
        segments = segments_from(engine, marks(engine, columns))
        return scan(engine, segments, [columns.x_shared(engine), columns.y_shared(engine)], direction)

    both = measured(program, columns)
    for result, values in zip(both.result, [columns.x, columns.y], strict=True):
        expected = by_segments(values.view(np.int64), columns.y & np.uint64(1), in_numpy, direction)
        np.testing.assert_array_equal(result.view(np.int64), expected)


@pytest.mark.parametrize("name", SCANS)
def test_without_segments_scans_are_prefix_operations(name: str) -> None:
    scan, in_numpy = SCANS[name]
    words = np.random.default_rng(1).integers(-(2**40), 2**40, 77).view(np.uint64)
    both = measured(
        lambda e, o: scan(e, one_segment(e, o.length), [o.x_shared(e)], Direction.FORWARD), Operands(words, words)
    )
    np.testing.assert_array_equal(both.result[0].view(np.int64), in_numpy(words.view(np.int64)))


@pytest.mark.parametrize("length", [1, 2, 5, 64, 300])
@pytest.mark.parametrize("name", SCANS)
def test_scans_send_exactly_what_is_declared(name: str, length: int) -> None:
    words = np.arange(length, dtype=np.uint64)
    scan, _ = SCANS[name]
    both = measured(
        lambda e, o: scan(e, one_segment(e, o.length), [o.x_shared(e)], Direction.BACKWARD), Operands(words, words)
    )
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds


def test_a_copy_costs_what_its_docstring_says() -> None:
    length, twin = 1_000_000, Plain()
    column = Arithmetic((np.zeros(length, np.uint64),))
    segmented_copy(twin, one_segment(twin, length), [column])
    assert twin.spent.rounds == 20 + 3
    assert twin.spent.sent_bytes[0] / length == pytest.approx(2 * 8 * 2.8, rel=0.01)


def test_prefix_sums_are_local() -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 77, dtype=np.uint64)
    both = measured(lambda e, o: prefix_sums(o.x_shared(e)), Operands(words, words))
    np.testing.assert_array_equal(both.result, np.cumsum(words, dtype=np.uint64))
    assert both.sent_bytes == (0, 0, 0)


def test_columns_without_rows_stay_empty() -> None:
    nothing = np.zeros(0, np.uint64)
    both = measured(lambda e, o: segmented_min(e, one_segment(e, 0), [o.x_shared(e)]), Operands(nothing, nothing))
    assert both.result[0].shape == (0,)


@settings(max_examples=20)
@given(operands(2, (1, 2, 64, 65, 300)), st.sampled_from(["sums", "binary", "both"]))
def test_boundaries_are_where_any_key_changes(columns: Operands, kind: str) -> None:
    columns = Operands(columns.x, columns.y // np.uint64(3))

    def program(engine: Engine, columns: Operands) -> Bits:
        sums, binary = Key(columns.x_shared(engine), 62), Key(columns.y_binary(engine), 10)
        return boundaries(engine, {"sums": [sums], "binary": [binary], "both": [sums, binary]}[kind])

    both = measured(program, columns)
    chosen = {"sums": [columns.x], "binary": [columns.y], "both": [columns.x, columns.y]}[kind]
    expected = np.any([column[1:] != column[:-1] for column in chosen], axis=0)
    np.testing.assert_array_equal(both.result, np.concatenate([[1], expected]))
    assert both.sent_bytes == both.declared.sent_bytes


# -- compaction --------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(operands(1))
def test_kept_rows_come_first_in_their_order(columns: Operands) -> None:
    def program(engine: Engine, columns: Operands) -> list[Any]:
        kept = columns.bits(engine)
        return compacted(engine, kept, [columns.y_shared(engine), columns.y_binary(engine), words_of(kept)])

    both, kept = measured(program, columns), columns.x == 1
    order = np.concatenate([np.flatnonzero(kept), np.flatnonzero(~kept)])
    for result, expected in zip(both.result, [order, order, kept[order]], strict=True):
        np.testing.assert_array_equal(result, expected)
    assert both.sent_bytes == both.declared.sent_bytes


def test_a_compaction_costs_what_its_docstring_says() -> None:
    length, twin = 6_400, Plain()
    words = np.zeros(length, np.uint64)
    compacted(twin, twin.constant_bits(words), [Arithmetic((words,))])
    assert twin.spent.rounds == 7
    assert twin.spent.payload_bytes / 3 / length == pytest.approx(16 + 21.3, abs=0.1)


# -- extrema -----------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(signed_operands())
def test_the_smaller_and_the_greater_of_two_columns(columns: Operands) -> None:
    columns = Operands(columns.x, columns.x[::-1].copy())

    def program(engine: Engine, columns: Operands) -> list[Arithmetic]:
        x, y = columns.x_shared(engine), columns.y_shared(engine)
        return [minimum(engine, x, y), maximum(engine, x, y), negative_part(engine, x)]

    both, x, y = measured(program, columns), columns.x.view(np.int64), columns.y.view(np.int64)
    expected = [np.minimum(x, y), np.maximum(x, y), np.minimum(x, 0)]
    for result, values in zip(both.result, expected, strict=True):
        np.testing.assert_array_equal(result.view(np.int64), values)
    assert both.sent_bytes == both.declared.sent_bytes


@settings(max_examples=20)
@given(signed_operands())
def test_the_least_and_the_greatest_row_and_their_first_places(columns: Operands) -> None:
    def program(engine: Engine, columns: Operands) -> list[Arithmetic]:
        return [
            extremum(engine, columns.x_shared(engine))
            for extremum in (column_min, column_max, column_argmin, column_argmax)
        ]

    both, x = measured(program, columns), columns.x.view(np.int64)
    assert [int(result.view(np.int64)[0]) for result in both.result] == [x.min(), x.max(), x.argmin(), x.argmax()]
    assert both.sent_bytes == both.declared.sent_bytes


def test_a_tournament_costs_what_its_docstring_says() -> None:
    for extremum, row_bytes in ((column_min, 44), (column_argmax, 52)):
        twin = Plain()
        extremum(twin, Arithmetic((np.zeros(1 << 14, np.uint64),)))
        assert twin.spent.rounds == 14 * 11
        assert twin.spent.payload_bytes / 3 / (1 << 14) == pytest.approx(row_bytes, rel=0.02)


def test_no_rows_have_no_extremum() -> None:
    with pytest.raises(InvalidArgument, match="give a column of one row or more"):
        column_min(Plain(), Arithmetic((np.zeros(0, np.uint64),)))
