"""Entropy: uniform words, unbiased bounded integers, and no randomness shared between forks."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dp.errors import InvalidArgument
from dp.noise.entropy import os_random, uniform_below, words
from tests.tools.entropy import seeded_random


@pytest.mark.parametrize("count", [0, 1, 8, (1 << 20) - 1, (1 << 20) + 1, 3 << 20])
def test_os_random_returns_what_was_asked(count: int) -> None:
    assert len(os_random(count)) == count


def test_os_random_chunks_differ() -> None:
    data = os_random(2 << 20)
    assert data[: 1 << 20] != data[1 << 20 :]


def test_words_are_the_bytes_in_little_endian() -> None:
    assert words(lambda n: bytes(range(n)), 2).tolist() == [0x0706050403020100, 0x0F0E0D0C0B0A0908]


def test_a_source_that_returns_too_little_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="exactly the bytes asked"):
        words(lambda n: bytes(n - 1), 3)


@given(st.integers(1, 2**63), st.integers(0, 40), st.integers(0, 2**32))
def test_uniform_below_stays_below(bound: int, size: int, seed: int) -> None:
    drawn = uniform_below(bound, size, seeded_random(seed))
    assert drawn.shape == (size,)
    assert drawn.dtype == np.uint64
    assert all(0 <= int(x) < bound for x in drawn)


@pytest.mark.parametrize("bound", [0, -1, 2**63 + 1])
def test_uniform_below_refuses_other_bounds(bound: int) -> None:
    with pytest.raises(InvalidArgument, match="bound"):
        uniform_below(bound, 1, seeded_random(0))


@pytest.mark.parametrize("bound", [2, 7, 8, 1000, 3 * 2**61, 2**63 - 25, 2**63])
def test_uniform_below_is_uniform(bound: int) -> None:
    # Pearson's test over at most sixteen equal cells; false-alarm rate 1e-6
    cells = min(bound, 16)
    drawn = uniform_below(bound, 100_000, seeded_random(11))
    cell = np.array([int(x) * cells // bound for x in drawn])
    edges = [-(-k * bound // cells) for k in range(cells + 1)]
    expected = np.diff(np.array(edges, object)).astype(np.float64) / bound * drawn.size
    assert stats.chisquare(np.bincount(cell, minlength=cells), expected).pvalue > 1e-6


def test_folding_words_without_rejection_is_rejected() -> None:
    # the twin: a plain remainder of a word by 3 * 2^62 lands twice as often in the lowest third of its range
    bound = 3 * 2**62
    folded = words(seeded_random(12), 100_000) % np.uint64(bound)
    cell = (folded // np.uint64(2**62)).astype(np.int64)
    assert stats.chisquare(np.bincount(cell, minlength=3)).pvalue < 1e-6


def test_a_seed_repeats_itself_and_seeds_differ() -> None:
    first, again, other = seeded_random(1), seeded_random(1), seeded_random(2)
    assert first(16) + first(16) == again(32)
    assert seeded_random(1)(32) != other(32)


_FORKING = """
import json, os
from fractions import Fraction
from dp.noise.entropy import os_random
from dp.noise.samplers import discrete_laplace
draw = lambda: discrete_laplace(Fraction(2**40), 4, os_random).tolist()
draws = [draw()]
for _ in range(8):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(draw()).encode())
        os._exit(0)
    os.close(write)
    os.wait()
    draws.append(json.loads(os.read(read, 1 << 16)))
print(json.dumps(draws + [draw()]))
"""


@pytest.mark.slow
def test_forks_never_share_randomness() -> None:
    done = subprocess.run([sys.executable, "-c", _FORKING], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    values = [value for draw in json.loads(done.stdout) for value in draw]
    assert len(values) == 40
    assert len(set(values)) == 40  # of scale 2^40: two of forty agree with probability below 1e-9
