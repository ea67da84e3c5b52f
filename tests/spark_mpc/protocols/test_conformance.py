"""Every operation of a protocol gives what its plaintext twin gives, and sends exactly what it declares."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.noise.coins import laplace_coins
from spark_mpc.circuits.compaction import compacted
from spark_mpc.circuits.exponential import sigmoid
from spark_mpc.circuits.fixed_point import FixedPoint
from spark_mpc.circuits.keys import Key
from spark_mpc.circuits.quicksort import quicksorted
from spark_mpc.circuits.radix_sort import radix_sorted
from spark_mpc.circuits.scans import Direction, segmented_sum, segments_from
from spark_mpc.noise.geometric import geometric_noise
from spark_mpc.noise.laplace import laplace_noise
from spark_mpc.protocols.cost import FREE
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.planes import unpacked
from spark_mpc.transport.streams import StreamChannel, open_channel, verify
from spark_mpc.transport.tls import tls_transport
from tests.tools.conformance import Operands, measured, opened
from tests.tools.federations import at_once, loopback_federation
from tests.tools.three import three_parties

EDGES = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
LENGTHS = st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 300])

Operation = Callable[[Engine, Operands], Arithmetic | Binary | Bits | list[Any]]

OPERATIONS: dict[str, Operation] = {
    "input words": lambda e, o: e.input_words(1, o.values(e, 1, "x"), o.length),
    "input words of 32 bits": lambda e, o: e.input_words(2, o.values(e, 2, "x", np.uint32), o.length, np.uint32),
    "input binary": lambda e, o: e.input_binary(0, o.values(e, 0, "x"), o.length),
    "input bits": lambda e, o: e.input_bits(1, o.values(e, 1, "low"), o.length),
    "constant": lambda e, o: e.constant(o.y),
    "constant bits": lambda e, o: e.constant_bits(o.y & np.uint64(1)),
    "plus": lambda e, o: o.x_shared(e) + o.y_shared(e),
    "minus": lambda e, o: o.x_shared(e) - o.y_shared(e),
    "negation": lambda e, o: -o.x_shared(e),
    "times public words": lambda e, o: o.x_shared(e).times(o.y),
    "times a public integer": lambda e, o: o.x_shared(e).times(-3),
    "plus public words": lambda e, o: e.plus_public(o.x_shared(e), o.y),
    "plus a public integer": lambda e, o: e.plus_public(o.x_shared(e), -7),
    "multiply": lambda e, o: e.multiply(o.x_shared(e), o.y_shared(e)),
    "multiply in 32 bits": lambda e, o: e.multiply(o.x_shared(e, np.uint32), o.y_shared(e, np.uint32)),
    "dot": lambda e, o: e.dot(o.rows(o.x_shared(e)), o.rows(o.y_shared(e))),
    "dot of two vectors": lambda e, o: e.dot(
        o.x_shared(e).map(lambda part: part[None]), o.y_shared(e).map(lambda part: part[None])
    ),
    "matmul": lambda e, o: e.matmul(o.rows(o.x_shared(e)), o.columns(o.y_shared(e))),
    "xor public bits": lambda e, o: e.xor_public(o.bits(e), o.y & np.uint64(1)),
    "not": lambda e, o: e.xor_public(o.bits(e), 1),
    "both": lambda e, o: e.both(o.bits(e), e.zero(o.x_shared(e))),
    "both of two constants": lambda e, o: e.both(o.bits(e), e.constant_bits(o.y & np.uint64(1))),
    "and words": lambda e, o: e.and_words(o.x_binary(e), o.y_binary(e)),
    "xor words": lambda e, o: e.xor_words(o.x_binary(e), o.y) ^ o.y_binary(e),
    "xor a word": lambda e, o: e.xor_words(o.x_binary(e), 2**64 - 1),
    "masked and shifted": lambda e, o: o.x_binary(e).masked(2**40 - 1).shifted_right(3),
    "negative": lambda e, o: e.negative(o.x_shared(e)),
    "less": lambda e, o: e.negative(o.x_shared(e) - o.y_shared(e)),
    "zero": lambda e, o: e.zero(o.x_shared(e) - o.y_shared(e)),
    "zero of 11 bits": lambda e, o: e.zero_binary(o.x_binary(e) ^ o.y_binary(e), 11),
    "zero of words": lambda e, o: e.zero_binary(o.x_binary(e), 64),
    "precedes": lambda e, o: e.precedes([o.x_shared(e)], [o.y_shared(e)], [64]),
    "precedes by words": lambda e, o: e.precedes([o.x_binary(e)], [o.y_binary(e)], [64]),
    "precedes by some bits": lambda e, o: e.precedes(
        [o.x_binary(e).masked(2**9 - 1)], [o.y_binary(e).masked(2**9 - 1)], [9]
    ),
    "precedes by three columns": lambda e, o: e.precedes(
        [o.x_binary(e).masked(1), o.x_shared(e).times(0), o.x_binary(e)],
        [o.y_binary(e).masked(1), o.y_shared(e).times(0), o.y_binary(e)],
        [1, 64, 64],
    ),
    "bits to 64": lambda e, o: e.bits_to_arithmetic(o.bits(e)),
    "bits to 32": lambda e, o: e.bits_to_arithmetic(o.bits(e), np.uint32),
    "bits combined": lambda e, o: e.combined_bits(
        o.bits(e), lambda ones: np.cumsum(ones, dtype=ones.dtype)[:: max(1, len(ones) // 3)] * ones.dtype.type(2**31)
    ),
    "to binary": lambda e, o: e.to_binary(o.x_shared(e)),
}


@st.composite
def operands(draw: st.DrawFn) -> Operands:
    length = draw(LENGTHS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, y = (rng.integers(0, 2**64, length, dtype=np.uint64) for _ in range(2))
    for words in (x, y):
        edges = rng.random(length) < 0.3
        words[edges] = rng.choice(np.array(EDGES, np.uint64), edges.sum())
    alike = rng.random(length) < 0.3
    y[alike] = x[alike]
    return Operands(x, y)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=8, deadline=None)
@given(given_operands=operands(), chunk=st.sampled_from([64, 128, CHUNK]))
def test_an_operation_gives_what_its_twin_gives(name: str, given_operands: Operands, chunk: int) -> None:
    both = measured(OPERATIONS[name], given_operands, chunk=chunk)
    np.testing.assert_array_equal(both.result, both.expected)
    assert both.sent_bytes == both.declared.sent_bytes


@pytest.mark.parametrize("name", OPERATIONS)
def test_rounds_are_those_declared(name: str) -> None:
    both = measured(OPERATIONS[name], Operands(np.arange(100, dtype=np.uint64), np.arange(100, dtype=np.uint64)))
    assert both.rounds == both.declared.rounds


def test_more_elements_than_a_chunk_take_the_rounds_of_every_chunk() -> None:
    """Party 0 may run ahead of the others by a round: chunks overlap, and the declared rounds are an upper bound."""
    words = np.arange(300, dtype=np.uint64)
    both = measured(OPERATIONS["negative"], Operands(words, words), chunk=64)
    assert both.declared.rounds == 5 * 8
    assert both.declared.rounds - 5 <= both.rounds <= both.declared.rounds


def test_many_chunks_are_sent_ahead_in_windows() -> None:
    """40 chunks in windows of 16 take 3 rounds: nobody is ever more than a window ahead of what it has received."""
    words = np.arange(40 * 64, dtype=np.uint64)
    both = measured(OPERATIONS["multiply"], Operands(words, words), chunk=64)
    np.testing.assert_array_equal(both.result, both.expected)
    assert both.rounds == both.declared.rounds == 3


@pytest.mark.parametrize("to", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_opening_reaches_the_named_parties_and_nobody_else(to: tuple[int, ...]) -> None:
    x = np.arange(100, dtype=np.uint64) - np.uint64(50)
    for form in ("words", "binary", "bits"):
        results, meters, cost = opened(form, x, to)
        expected = x & np.uint64(1) if form == "bits" else x
        for party, result in enumerate(results):
            assert (result is not None) == (party in to)
            if result is not None:
                np.testing.assert_array_equal(result, expected)
        assert tuple(meter.sent_bytes for meter in meters) == cost.sent_bytes
        assert max(meter.rounds for meter in meters) == cost.rounds == 1


@settings(max_examples=10, deadline=None)
@given(given_operands=operands())
def test_a_shuffle_keeps_rows_together(given_operands: Operands) -> None:
    def program(engine: Engine, o: Operands) -> list[Any]:
        return engine.shuffled([o.x_shared(engine), o.y_binary(engine), o.x_shared(engine, np.uint32)])

    both = measured(program, given_operands)
    x, y, narrow = both.result
    assert sorted(zip(x, y, strict=True)) == sorted(zip(given_operands.x, given_operands.y, strict=True))
    np.testing.assert_array_equal(narrow, x.astype(np.uint32))
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds == both.declared.rounds == 3


def test_random_bits_are_uniform_unknown_and_free() -> None:
    """Fresh ones in every call and run; neither a party's own parts nor any two calls or runs agree but by chance."""
    length = 1 << 14

    def program(engine: Rep3) -> tuple[list[Bits], list[Any], int]:
        drawn = [engine.random_bits(length), engine.random_bits(length), engine.random_bits(65)]
        sent = engine._context.channel.meter.sent_bytes
        return drawn, [engine.open_bits(bits) for bits in drawn], sent

    runs = [three_parties(program, seed)[0] for seed in (1, 2)]
    columns = []
    for parties in runs:
        for drawn, values, sent in parties:
            assert sent == 0
            assert [len(one) for one in values] == [length, length, 65]
            np.testing.assert_array_equal(values[0], parties[0][1][0])
            for bits, value in zip(drawn[:2], values[:2], strict=True):
                known = unpacked(np.bitwise_xor(*bits.parts), length)
                columns += [known ^ value, *(unpacked(part, length) ^ value for part in bits.parts)]
        columns += parties[0][1][:2]
    opened_bits = [one for parties in runs for one in parties[0][1][:2]]
    columns += [a ^ b for a, b in combinations(opened_bits, 2)]
    columns += [one[1:] ^ one[:-1] for one in opened_bits]
    for column in columns:  # 5.5 standard deviations: all 50 within, but for a chance of 2 in a million
        assert abs(2 * int(column.sum()) - len(column)) <= 5.5 * math.sqrt(len(column))
    twin = Plain()
    ones = int(unpacked(twin.random_bits(length).parts[0], length).sum())
    assert abs(2 * ones - length) <= 5.5 * math.sqrt(length)
    assert twin.spent == FREE


def test_nothing_of_a_share_shows() -> None:
    shared = Arithmetic((np.arange(3, dtype=np.uint64),) * 2)
    assert repr(shared) == "Arithmetic(shape=(3,), dtype=uint64)"
    assert repr(Bits((np.zeros(1, np.uint64),) * 2, 7)) == "Bits(length=7)"
    for use in (bool, int, float, iter, list):
        with pytest.raises(TypeError, match="is secret"):
            use(shared)  # type: ignore[operator]
    with pytest.raises(TypeError, match="is secret"):
        pickle.dumps(shared)


def test_empty_columns_cost_nothing_but_their_rounds() -> None:
    nothing: NDArray[np.uint64] = np.zeros(0, np.uint64)
    for name in ("multiply", "negative", "zero", "bits to 64", "to binary"):
        both = measured(OPERATIONS[name], Operands(nothing, nothing))
        assert len(both.result) == 0
        assert both.sent_bytes == both.declared.sent_bytes == (0, 0, 0)


# -- over mutual TLS ---------------------------------------------------------------------------------------------------

PARTY_NAMES = ("a", "b", "c")
RUN = b"c" * 32


@pytest.fixture(scope="module")
def tls_channels() -> Iterator[list[StreamChannel]]:
    """Three parties that have greeted, with real certificates on loopback; one channel each for all tests below."""
    loopback = loopback_federation(PARTY_NAMES, timeout_seconds=20)
    with ExitStack() as running:
        transports = [
            running.enter_context(tls_transport(loopback.identities[name], loopback.file)) for name in PARTY_NAMES
        ]
        for transport in transports:
            transport.begin(RUN)
        opened_channels = [open_channel(transport, RUN, PARTY_NAMES) for transport in transports]
        channels = at_once(*(channel.__enter__ for channel in opened_channels))
        yield channels
        at_once(*(partial(verify, *one, RUN, PARTY_NAMES) for one in zip(channels, transports, strict=True)))
        at_once(*(partial(channel.__exit__, None, None, None) for channel in opened_channels))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=4, deadline=None)
@given(given_operands=operands())
def test_an_operation_does_the_same_over_mutual_tls(
    name: str, given_operands: Operands, tls_channels: list[StreamChannel]
) -> None:
    words = np.random.default_rng(5).integers(0, 2**64, 999, dtype=np.uint64)
    for several in (given_operands, Operands(words, words[::-1].copy())):
        both = measured(OPERATIONS[name], several, chunk=256, channels=tls_channels)
        np.testing.assert_array_equal(both.result, both.expected)
        assert both.sent_bytes == both.declared.sent_bytes
        assert both.rounds <= both.declared.rounds


def scanned(engine: Engine, columns: Operands) -> list[Any]:
    segments = segments_from(engine, engine.zero(columns.x_shared(engine)))
    return segmented_sum(engine, segments, [columns.x_shared(engine), columns.y_shared(engine)], Direction.BACKWARD)


def sorted_both_ways(engine: Engine, columns: Operands) -> list[Any]:
    word = columns.x_binary(engine).masked(2**20 - 1)
    by_digits = radix_sorted(engine, [Key(word, 20)], [word])
    by_comparison = quicksorted(engine, [Key(word, 20)], [word])
    return [*by_digits, *by_comparison]


CIRCUITS: dict[str, Operation] = {
    "truncated exactly": lambda e, o: e.truncated_exactly(o.x_shared(e), 17),
    "a scan": scanned,
    "sorting": sorted_both_ways,
    "compaction": lambda e, o: compacted(e, o.bits(e), [o.x_shared(e), o.y_binary(e)]),
    "sigmoid": lambda e, o: sigmoid(e, e.constant(o.x >> np.uint64(42)), FixedPoint(20, 5)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CIRCUITS)
@settings(max_examples=3, deadline=None)
@given(given_operands=operands())
def test_a_circuit_does_the_same_over_mutual_tls(
    name: str, given_operands: Operands, tls_channels: list[StreamChannel]
) -> None:
    both = measured(CIRCUITS[name], given_operands, channels=tls_channels)
    if name == "sigmoid":  # products round at random
        assert (np.abs((both.result - both.expected).view(np.int64)) <= 2).all()
    else:
        np.testing.assert_array_equal(both.result, both.expected)
    if name != "sorting":  # how often rows are compared depends on their random order
        assert both.sent_bytes == both.declared.sent_bytes


@pytest.mark.slow
def test_truncations_shuffles_and_openings_do_the_same_over_mutual_tls(tls_channels: list[StreamChannel]) -> None:
    words = np.random.default_rng(6).integers(-(2**61), 2**61, 999).view(np.uint64)

    def program(engine: Engine, columns: Operands) -> list[Any]:
        x, y = columns.x_shared(engine), columns.y_binary(engine)
        to_one = engine.open_words(x, (2,))
        assert (to_one is not None) == (engine.me == 2 or engine.name == "plain")
        return [engine.truncated(x, 9), *engine.shuffled([x, y])]

    both = measured(program, Operands(words, words), channels=tls_channels)
    cut, x, y = both.result
    assert set((cut.view(np.int64) - (words.view(np.int64) >> 9)).tolist()) == {0, 1}
    assert sorted(x) == sorted(words)
    np.testing.assert_array_equal(x, y)
    assert not np.array_equal(x, words)
    assert both.sent_bytes == both.declared.sent_bytes


@pytest.mark.slow
def test_noise_over_mutual_tls_sends_what_is_declared(tls_channels: list[StreamChannel]) -> None:
    """Its law is tested in process; here: alive, bounded by its coins, and at the declared cost."""
    nothing, cells = Operands(np.zeros(0, np.uint64), np.zeros(0, np.uint64)), 999
    coins = laplace_coins([Fraction(1000)], [cells], Fraction(1, 10**9))

    def program(engine: Engine, _: Operands) -> list[Any]:
        return [laplace_noise(engine, coins, [cells]), geometric_noise(engine, coins[0], cells)]

    both = measured(program, nothing, channels=tls_channels)
    laplace, geometric = (draws.view(np.int64) for draws in both.result)
    assert np.abs(laplace).max() <= 2 ** coins[0].digits
    assert 0 <= geometric.min() <= geometric.max() < 2 ** coins[0].digits
    assert len(set(laplace.tolist())) > cells // 2 < len(set(geometric.tolist()))
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds
