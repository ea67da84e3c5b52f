"""All that sorting opens is distributed alike, whatever the rows hold.

FALSE_ALARM is the chance that an honest program fails on a p-value; seeds are fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from spark_mpc.circuits import quicksort
from spark_mpc.circuits.columns import constant_words
from spark_mpc.circuits.compaction import compacted
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.quicksort import quicksorted
from spark_mpc.circuits.radix_sort import radix_sorted
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits, OneShare
from tests.tools.three import three_parties

FALSE_ALARM = 1e-6
ROWS = 4
EQUAL, FALLING = np.zeros(ROWS, np.uint64), np.array([31, 9, 8, 0], np.uint64)
Words = NDArray[np.uint64]


class Watched(Plain):
    """The twin, with what it opens."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.opened: list[tuple[int, ...]] = []

    def open_words(self, shared: Arithmetic | Binary, to: tuple[int, ...] = (0, 1, 2)) -> NDArray[Any] | None:
        return self._seen(super().open_words(shared, to))

    def open_bits(self, shared: Bits, to: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.uint8] | None:
        return self._seen(super().open_bits(shared, to))

    def _seen(self, values: NDArray[Any] | None) -> NDArray[Any] | None:
        assert values is not None
        self.opened.append(tuple(values.tolist()))
        return values


class Unshuffled(Watched):
    """Planted: rows stay where they are."""

    def shuffled(self, columns: Sequence[OneShare]) -> list[OneShare]:
        return list(columns)


def radix(engine: Engine, words: Words) -> None:
    radix_sorted(engine, [Key(constant_words(engine, words), 5)], [engine.constant(words)])


def quick(engine: Engine, words: Words) -> None:
    quicksorted(engine, [Key(engine.constant(words), 62)], [])


def compact(engine: Engine, words: Words) -> None:
    compacted(engine, engine.constant_bits(words & np.uint64(1)), [engine.constant(words)])


Program = Callable[[Engine, Words], None]
PROGRAMS: dict[str, Program] = {"radix": radix, "quick": quick, "compact": compact}
OPENINGS = {"radix": 3, "quick": 1, "compact": 1}


def uniform_p_value(name: str, words: Words, kind: type[Watched] = Watched, runs: int = 1200) -> float:
    """Chi-square of each opening over the 24 orders of four rows, the least of them times their number.

    A quicksort of so few rows opens all pairs' comparisons: one pattern for every order.
    """
    seen = [Counter[tuple[int, ...]]() for _ in range(OPENINGS[name])]
    for seed in range(runs):
        engine = kind(seed)
        PROGRAMS[name](engine, words)
        for counter, opened in zip(seen, engine.opened, strict=True):
            counter[opened] += 1
    return min(1.0, len(seen) * min(_p_value(counter, runs) for counter in seen))


def _p_value(counts: Counter[tuple[int, ...]], runs: int) -> float:
    orders = len(list(permutations(range(ROWS))))
    if len(counts) > orders:
        return 0.0
    found = [*counts.values(), *[0] * (orders - len(counts))]
    return float(stats.chisquare(found, [runs / orders] * orders).pvalue)


@pytest.mark.parametrize("words", [EQUAL, FALLING], ids=["equal", "falling"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_opened_is_a_uniform_order_for_any_rows(name: str, words: Words) -> None:
    assert uniform_p_value(name, words) > FALSE_ALARM


@pytest.mark.parametrize("name", PROGRAMS)
def test_rows_that_are_not_shuffled_are_caught(name: str) -> None:
    assert uniform_p_value(name, FALLING, Unshuffled, runs=100) < FALSE_ALARM


def unnumbered(engine: Engine, _last: Key, length: int, bits: int) -> Key:
    """Planted: all rows have one number, so that equal keys stay equal."""
    return Key(constant_words(engine, np.zeros(length, np.uint64)), bits)


def test_equal_keys_that_stay_equal_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quicksort, "index_key", unnumbered)
    assert uniform_p_value("quick", FALLING) > FALSE_ALARM
    assert uniform_p_value("quick", EQUAL) < FALSE_ALARM


# -- many rows: all phases of quicksort --------------------------------------------------------------------------------

MANY = 150
EQUAL_ROWS, SORTED_ROWS = np.zeros(MANY, np.uint64), np.arange(MANY, dtype=np.uint64) << np.uint64(50)


def quicksort_views(words: Words, first_seed: int, runs: int = 250) -> NDArray[np.float64]:
    """Of each run: how many comparisons each of the first steps makes, and how many are true; shape (runs, 24)."""
    views = np.zeros((runs, 2, 12))
    for run in range(runs):
        engine = Watched(first_seed + run)
        quick(engine, words)
        steps = engine.opened[:12]
        views[run, 0, : len(steps)] = [len(step) for step in steps]
        views[run, 1, : len(steps)] = [sum(step) for step in steps]
    return views.reshape(runs, -1)


def two_sample_p_value(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The least p-value of all statistics, times their number."""
    pairs = zip(first.T, second.T, strict=True)
    found = [float(stats.ks_2samp(one, two, method="asymp").pvalue) for one, two in pairs]
    return min(1.0, len(found) * min(found))


def test_the_steps_of_quicksort_are_distributed_alike_for_any_rows() -> None:
    views = quicksort_views(EQUAL_ROWS, 0), quicksort_views(SORTED_ROWS, 10_000)
    assert two_sample_p_value(*views) > FALSE_ALARM


def test_steps_that_depend_on_the_rows_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = quicksort_views(SORTED_ROWS, 10_000)
    monkeypatch.setattr(quicksort, "index_key", unnumbered)
    assert two_sample_p_value(quicksort_views(EQUAL_ROWS, 0), honest) < FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("words", [EQUAL, FALLING], ids=["equal", "falling"])
def test_the_order_that_a_protocol_opens_is_uniform(words: Words) -> None:
    """The same over three parties with fresh keys: the opened places of a radix sort by one digit."""
    runs, seen = 1200, Counter[tuple[int, ...]]()

    def program(engine: Engine) -> Any:
        opened: list[Any] = []
        honest = engine.open_words
        engine.open_words = lambda shared: opened.append(honest(shared)) or opened[-1]  # type: ignore[assignment]
        radix_sorted(engine, [Key(constant_words(engine, words), 3)], [engine.constant(words)])
        return opened

    for seed in range(runs):
        ((places,), *_), _ = three_parties(program, seed)
        seen[tuple(places.tolist())] += 1
    assert _p_value(seen, runs) > FALSE_ALARM
