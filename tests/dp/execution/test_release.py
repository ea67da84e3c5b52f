"""From opened cells to answers: decoding without the data, stored releases, and what a table shows."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from dp.errors import SparkMpcError
from dp.execution.release import StoredRelease, make_answers
from dp.planning.means import Mean
from dp.planning.plan import Plan, make_plan
from dp.planning.sums import Sum
from spark_mpc import dp
from tests.tools.plans import exact_words, paper_query

AGGREGATES = [
    dp.count().alias("n"),
    dp.count_units().alias("people"),
    dp.sum("v", 0, 10).alias("s"),
    dp.mean("v", 0, 10).alias("m"),
    dp.sum("d", -1, 1).alias("sd"),
    dp.histogram("v", [0, 5, 8, 10]).alias("h"),
]


FOUR_CELLS = make_plan(paper_query([dp.count()], groups=4), dp.PureDP(1))


def a_plan(groups: int = 3) -> Plan:
    return make_plan(paper_query(AGGREGATES, groups=groups), dp.PureDP(1))


def test_exact_cells_decode_to_exact_answers() -> None:
    plan = a_plan()
    words = exact_words(plan, rows=8, units=5, means={"v": Fraction(27, 4), "d": Fraction(-1, 2)})
    values = make_answers(plan, words).values.to_pylist()
    expected = {"n": 8, "people": 5, "s": 54.0, "m": 6.75, "sd": -4.0, "h": [8, 8, 8]}
    assert values == [{"k": key, **expected} for key in range(3)]


def test_the_accuracy_table_names_every_value_once() -> None:
    plan = a_plan()
    words = exact_words(plan, rows=800, units=5, means={"v": Fraction(27, 4), "d": Fraction(-1, 2)})
    answers = make_answers(plan, words, confidence=0.9)
    rows = answers.accuracy.to_pylist()
    assert len(rows) == 3 * (5 + 3)
    assert {(row["k"], row["aggregate"], row["bin"]) for row in rows} == {
        *((k, name, None) for k in range(3) for name in ("n", "people", "s", "m", "sd")),
        *((k, "h", i) for k in range(3) for i in range(3)),
    }
    for row in rows:
        assert row["lower"] <= row["value"] <= row["upper"]
        assert row["stddev"] > 0
        assert row["confidence"] == 0.9


def test_higher_confidence_is_wider() -> None:
    plan = a_plan()
    words = exact_words(plan, rows=800, units=5, means={"v": Fraction(5), "d": Fraction(0)})
    wide, narrow = (make_answers(plan, words, confidence=c).accuracy.to_pandas() for c in (0.99, 0.5))
    assert ((wide["upper"] - wide["lower"]) > (narrow["upper"] - narrow["lower"])).all()


@pytest.mark.parametrize("rows", [0, -3])
def test_a_mean_of_no_rows_is_the_middle_and_its_interval_everything(rows: int) -> None:
    plan = make_plan(paper_query([dp.mean("v", 0, 10).alias("m")]), dp.PureDP(1))
    words = np.array([0, rows], np.int64).view(np.uint64)
    (row,) = make_answers(plan, words).accuracy.to_pylist()
    assert (row["value"], row["lower"], row["upper"]) == (5.0, 0.0, 10.0)


def test_means_stay_within_their_bounds_whatever_the_noise() -> None:
    plan = make_plan(paper_query([dp.mean("v", 0, 10).alias("m")], groups=2), dp.PureDP(1))
    words = np.array([10**6, -(10**6), 3, 3], np.int64).view(np.uint64)
    for row, end in zip(make_answers(plan, words).accuracy.to_pylist(), (10.0, 0.0), strict=True):
        assert row["value"] == end
        assert 0 <= row["lower"] <= row["upper"] <= 10


def test_a_mean_of_a_single_possible_value_is_that_value() -> None:
    plan = make_plan(paper_query([dp.mean("d", 3, 3).alias("m")]), dp.PureDP(1))
    (row,) = make_answers(plan, np.array([17, 40], np.uint64)).accuracy.to_pylist()
    assert (row["value"], row["lower"], row["upper"]) == (3.0, 3.0, 3.0)


def test_negative_noise_is_shown_and_not_clamped() -> None:
    """Clamping a count at zero would bias sums of answers; a word is two's complement."""
    plan = make_plan(paper_query([dp.count().alias("n")]), dp.PureDP(1))
    answers = make_answers(plan, np.array([2**64 - 3], np.uint64))
    assert answers.values.to_pylist() == [{"k": 0, "n": -3}]


def test_stored_releases_come_back_word_for_word() -> None:
    words = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    stored = StoredRelease("ab" * 32, words)
    again = StoredRelease.from_bytes(stored.to_bytes(), FOUR_CELLS)
    assert again.run_id == stored.run_id
    np.testing.assert_array_equal(again.words, words)
    assert "18446744073709551615" not in repr(stored)


GOOD = StoredRelease("ab", np.arange(4, dtype=np.uint64)).to_bytes()
HEAD, REST = GOOD[: -4 * 8 - 1], GOOD[-4 * 8 - 1 :]


def with_header(header: object) -> bytes:
    return b"spark-mpc release 2\n" + json.dumps(header).encode() + REST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        GOOD.replace(b"release 2", b"release 1"),
        GOOD.removeprefix(b"spark-mpc release 2\n"),
        b"spark-mpc release 2\n" + b"{" * 2000 + REST,
        b"spark-mpc release 2\nnot json" + REST,
        with_header([]),
        with_header(5),
        with_header(None),
        b"spark-mpc release 2\n" + b"[" * 999 + REST,
        with_header({"run_id": "ab"}),
        with_header({"run_id": "ab", "cells": 4}),
        with_header({"run_id": "ab", "cells": 5, "key_bytes": 0}),
        with_header({"run_id": 7, "cells": 4, "key_bytes": 0}),
        with_header({"run_id": "ab", "cells": 4.0, "key_bytes": 0}),
        with_header({"run_id": "ab", "cells": 4, "key_bytes": -8}),
        with_header({"run_id": "ab", "cells": 3, "key_bytes": 8}),
        with_header({"run_id": "ab", "cells": 4, "key_bytes": True}),
        with_header({"run_id": "ab", "cells": 4, "key_bytes": 0, "more": 1}),
    ],
    ids=range(20),
)
def test_damaged_releases_are_refused(data: bytes) -> None:
    with pytest.raises(SparkMpcError, match="damaged"):
        StoredRelease.from_bytes(data, FOUR_CELLS)


def test_sum_and_mean_of_the_same_values_agree() -> None:
    """They are computed from the same opened cells, so they contradict each other nowhere."""
    query = paper_query([dp.sum("v", 0, 10).alias("s"), dp.mean("v", 0, 10).alias("m")], groups=50)
    assert isinstance(query.aggregates[0], Sum)
    assert isinstance(query.aggregates[1], Mean)
    plan = make_plan(query, dp.PureDP(1))
    rng = np.random.default_rng(5)
    counts = rng.integers(50, 100, 50)
    words = np.concatenate([rng.integers(-50, 50, 50), counts]).view(np.uint64)
    values = make_answers(plan, words).values.to_pandas()
    np.testing.assert_allclose(values["s"], values["m"] * counts)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bins", [1, 3])
def test_a_histogram_is_a_list_however_few_groups_and_bins(groups: int, bins: int) -> None:
    plan = make_plan(paper_query([dp.histogram("v", range(bins + 1)).alias("h")], groups=groups), dp.PureDP(1))
    answers = make_answers(plan, np.arange(plan.length, dtype=np.uint64))
    cells = list(range(groups * bins))
    assert answers.values.column("h").to_pylist() == [cells[i * bins : (i + 1) * bins] for i in range(groups)]
    assert answers.accuracy.column("bin").to_pylist() == list(range(bins)) * groups
