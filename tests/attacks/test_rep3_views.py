"""ATTACKS 24, 28 and 29 under replicated sharing: what one party sees is uniform, whatever the others put in.

The observer's own two keys stay the same in all runs and only the third is fresh, as for an observer who knows what it
knows: what it receives must be uniform on that condition. Every p-value is compared with FALSE_ALARM, the chance that
an honest program fails on it; keys come from fixed seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dp.noise.coins import laplace_coins
from spark_mpc.noise.laplace import laplace_noise
from spark_mpc.programs.changes import Change
from spark_mpc.programs.expressions import evaluated, secret_input, select
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3 import shuffle
from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import KEY_BYTES
from spark_mpc.ring.streams import KeyStream
from spark_mpc.shared.ints import SharedInts, shared_ints
from tests.tools.three import Sent, three_parties

RUNS = 300
FEW_RUNS = 120  # where one repeated word is certain to show
FALSE_ALARM = 1e-6
ROWS = 3
ONE = tuple(np.array(words, np.uint64) for words in ([5, 2**63, 7], [5, 1, 2**64 - 1], [0, 0, 0]))
NEIGHBOUR = tuple(np.array(words, np.uint64) for words in ([6, 0, 9], [2**40, 1, 0], [2**62, 1, 77]))


def shared(engine: Engine, inputs: tuple[NDArray[np.uint64], ...], dtype: type[Any] = np.uint64) -> list[Arithmetic]:
    own = [words.astype(dtype) if engine.me == owner else None for owner, words in enumerate(inputs)]
    return [engine.input_words(owner, words, ROWS, dtype) for owner, words in enumerate(own)]


def operated(engine: Engine, x: Arithmetic, y: Arithmetic, z: Arithmetic) -> None:
    """Every operation that sends something, except inputs and openings."""
    with engine.step("products"):
        engine.multiply(x, y)
        engine.dot(x.map(lambda part: part.reshape(1, -1)), z.map(lambda part: part.reshape(1, -1)))
        engine.matmul(y.map(lambda part: part.reshape(-1, 1)), z.map(lambda part: part.reshape(1, -1)))
    with engine.step("bits"):
        less, equal = engine.negative(x - y), engine.zero(y - z)
        engine.bits_to_arithmetic(engine.both(less, equal))
        engine.combined_bits(less, lambda bits: bits[:1] + bits[1:2])
        words = engine.to_binary(z)
        engine.and_words(words, engine.to_binary(x))
        engine.zero_binary(words, 40)
        engine.precedes([x, words], [y, words], [64, 20])
    with engine.step("quotients"):
        engine.truncated(x, 7)
        engine.truncated_exactly(y, 40)
    engine.shuffled([x, words])


def everything(engine: Engine, inputs: tuple[NDArray[np.uint64], ...]) -> None:
    """Every operation that sends something, except openings."""
    operated(engine, *shared(engine, inputs))
    with engine.step("narrow"):
        x, y, _ = shared(engine, inputs, np.uint32)
        engine.dot(x.map(lambda part: part.reshape(1, -1)), y.map(lambda part: part.reshape(1, -1)))
        engine.multiply(x, y)
    with engine.step("words"):
        a, b = (engine.input_binary(o, inputs[o] if engine.me == o else None, ROWS) for o in (0, 1))
        engine.and_words(a, b)
    with engine.step("flags"):
        flags = [engine.input_bits(o, inputs[o] & np.uint64(1) if engine.me == o else None, ROWS) for o in (1, 2)]
        engine.bits_to_arithmetic(engine.both(*flags), np.uint32)


def twice(engine: Engine, inputs: tuple[NDArray[np.uint64], ...]) -> None:
    """The same operations on the same shares, once more: only masks can differ."""
    columns = shared(engine, inputs)
    for name in ("first", "second"):
        with engine.step(name):
            operated(engine, *columns)


def a_program(engine: Engine, inputs: tuple[NDArray[np.uint64], ...]) -> None:
    """What users write, with the noise that goes on top: all but the opening."""
    names, bound = ("x", "y", "z"), 2**20
    x, y, z = (secret_input(name, name, ROWS, bound, Change(1, 1, 1)) for name in names)
    result = select((x < y) & (z != 0), x * z, y).clipped(-9, bound) - 2 * x[::-1]
    shared = {
        name: shared_ints(
            engine,
            owner=owner,
            values=(words % np.uint64(bound)).view(np.int64) if engine.me == owner else None,
            length=ROWS,
            bound=bound,
        )
        for owner, (name, words) in enumerate(zip(names, inputs, strict=True))
    }
    carried_out = evaluated(result, shared)
    assert isinstance(carried_out, SharedInts)
    carried_out.words + laplace_noise(engine, laplace_coins([Fraction(40)], [ROWS], Fraction(1, 10**9)), (ROWS,))


Walk = Callable[[Engine, tuple[NDArray[np.uint64], ...]], None]


class NoZeroShares(Context):
    """Planted: products are sent as they are."""

    def zero_terms(self, shape: Any, dtype: Any) -> Any:
        super().zero_terms(shape, dtype)
        return np.zeros(shape, dtype), np.zeros(shape, dtype)


class NoBinaryZeroShares(Context):
    """Planted: conjunctions are sent as they are."""

    def mask(self, part: Any, spare: Any, out: Any) -> None:
        super().mask(part, spare, out)
        out[...] = part


class SameMasks(Context):
    """Planted: whatever masks messages of one size is taken again."""

    def zero_terms(self, shape: Any, dtype: Any) -> Any:
        return tuple(map(np.copy, self._taken(("sum", shape, dtype), partial(super().zero_terms, shape, dtype))))

    def mask(self, part: Any, spare: Any, out: Any) -> None:
        def fresh() -> Any:
            zeros, masks = np.zeros_like(part), np.empty_like(part)
            super(SameMasks, self).mask(zeros, spare, masks)
            return masks

        np.bitwise_xor(part, self._taken(("exclusive or", part.shape), fresh), out=out)

    def _taken(self, name: Any, fresh: Callable[[], Any]) -> Any:
        taken = self.__dict__.setdefault("taken", {})
        if name not in taken:
            taken[name] = fresh()
        return taken[name]


def keys_for(observer: int, runs: int, *, fresh: bool = True) -> Iterator[list[bytes]]:
    """The observer's two keys fixed, and a third that is fresh in every run."""
    rng = np.random.default_rng(100 + observer)
    keys = [rng.bytes(KEY_BYTES) for _ in range(PARTIES)]
    for _ in range(runs):
        if fresh:
            keys[(observer + 2) % PARTIES] = rng.bytes(KEY_BYTES)
        yield list(keys)


def views(
    observer: int,
    inputs: tuple[NDArray[np.uint64], ...],
    kind: type[Context] = Context,
    *,
    fresh: bool = True,
    walk: Walk = everything,
    runs: int = RUNS,
) -> tuple[list[tuple[int, str, int]], NDArray[np.uint8]]:
    """What an observer receives: labels and lengths, the same in every run, and all bytes, shape (runs, bytes)."""
    patterns, received = [], []
    for keys in keys_for(observer, runs, fresh=fresh):
        record: list[Sent] = []
        three_parties(lambda engine: walk(engine, inputs), keys=keys, kind=kind, record=record)
        # in the order of senders: threads interleave, each sender's order is fixed
        seen = [message for sender in range(PARTIES) for message in record if message.sender == sender]
        seen = [message for message in seen if message.to == observer]
        patterns.append([(message.sender, message.step, len(message.payload)) for message in seen])
        received.append(np.frombuffer(b"".join(message.payload for message in seen), np.uint8))
    assert all(pattern == patterns[0] for pattern in patterns)
    return patterns[0], np.array(received)


def uniform_p_value(received: NDArray[np.uint8]) -> float:
    """Every nibble of every place is uniform over the runs: the least p-value of all places, times their number."""
    nibbles = np.concatenate([received >> 4, received & 15], axis=1)
    counts = np.stack([(nibbles == value).sum(axis=0) for value in range(16)])
    expected = len(received) / 16
    found = stats.chi2.sf(((counts - expected) ** 2 / expected).sum(axis=0), 15)
    return min(1.0, found.size * float(found.min()))


def two_sample_p_value(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Whether places take their values alike under two inputs, corrected for the number of places."""
    found = [
        float(stats.ks_2samp(one, two, method="asymp").pvalue)
        for one, two in zip(first.T[::8], second.T[::8], strict=True)
    ]
    return min(1.0, len(found) * min(found))


@pytest.mark.slow
@pytest.mark.parametrize("walk", [everything, a_program])
@pytest.mark.parametrize("observer", range(PARTIES))
def test_what_a_party_receives_is_uniform_and_the_same_for_any_input(observer: int, walk: Walk) -> None:
    pattern, received = views(observer, ONE, walk=walk)
    other_pattern, other = views(observer, NEIGHBOUR, walk=walk)
    assert pattern == other_pattern
    assert uniform_p_value(received) > FALSE_ALARM
    assert uniform_p_value(other) > FALSE_ALARM
    assert two_sample_p_value(received, other) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NoZeroShares, NoBinaryZeroShares])
@pytest.mark.parametrize("observer", range(PARTIES))
def test_products_without_zero_shares_are_caught(observer: int, kind: type[Context]) -> None:
    _, received = views(observer, ONE, kind)
    assert uniform_p_value(received) < FALSE_ALARM


@pytest.mark.slow
def test_a_reused_mask_is_caught() -> None:
    """The third party's key of yesterday: all messages are those of yesterday."""
    _, received = views(0, ONE, fresh=False)
    assert uniform_p_value(received) < FALSE_ALARM


def again(pattern: list[tuple[int, str, int]], received: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is between the messages of the first and of the second time."""
    names = np.repeat([step.split("/")[0] for _, step, _ in pattern], [length for _, _, length in pattern])
    first, second = received[:, names == "first"], received[:, names == "second"]
    assert first.shape == second.shape
    assert first.size
    return first ^ second


@pytest.mark.slow
@pytest.mark.parametrize("observer", range(PARTIES))
def test_no_mask_is_used_twice_in_a_run(observer: int) -> None:
    assert uniform_p_value(again(*views(observer, ONE, walk=twice, runs=FEW_RUNS))) > FALSE_ALARM


@pytest.mark.slow
def test_a_mask_that_is_used_twice_in_a_run_is_caught() -> None:
    """Though each message by itself is as uniform as ever."""
    pattern, received = views(0, ONE, SameMasks, walk=twice, runs=FEW_RUNS)
    assert uniform_p_value(received) > FALSE_ALARM
    assert uniform_p_value(again(pattern, received)) < FALSE_ALARM


# -- the order after a shuffle -----------------------------------------------------------------------------------------


def orders_p_value(observer: int, runs: int = 2000) -> float:
    """Chi-square of the order of 4 rows, for an observer who knows its two permutations of the three."""
    rows = np.arange(4, dtype=np.uint64)
    seen: Counter[tuple[int, ...]] = Counter()

    def program(engine: Engine) -> Any:
        (column,) = engine.shuffled([engine.constant(rows)])
        assert isinstance(column, Arithmetic)
        return engine.open_words(column)

    for keys in keys_for(observer, runs):
        seen[tuple(three_parties(program, keys=keys)[0][0].tolist())] += 1
    return float(stats.chisquare([seen[order] for order in permutations(range(4))]).pvalue)


@pytest.mark.slow
@pytest.mark.parametrize("observer", range(PARTIES))
def test_no_party_knows_anything_of_the_order(observer: int) -> None:
    assert orders_p_value(observer) > FALSE_ALARM


@pytest.mark.slow
def test_a_biased_shuffle_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: orders by coarse random words that leave ties as they stood."""

    def biased(stream: KeyStream, length: int) -> NDArray[np.int64]:
        return np.argsort(stream.words(length, np.uint64) >> np.uint64(62), kind="stable")

    monkeypatch.setattr(shuffle, "permutation", biased)
    assert orders_p_value(0) < FALSE_ALARM


@pytest.mark.slow
def test_a_shuffle_without_one_hop_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the hop that an observer does not know keeps the order."""

    def kept(stream: KeyStream, length: int) -> NDArray[np.int64]:
        stream.words(length, np.uint64)
        return np.arange(length)

    monkeypatch.setattr(shuffle, "permutation", kept)
    assert orders_p_value(0, runs=300) < FALSE_ALARM
