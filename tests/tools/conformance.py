"""One program on a protocol and on its plaintext twin: results, and what was sent beside what was declared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_mpc.protocols.channel import Channel, Meter
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import CHUNK, PARTIES
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic, Binary, Bits
from spark_mpc.ring.masks import Words
from tests.tools.three import three_parties

__all__ = ["Both", "Operands", "measured", "opened"]


@dataclass(frozen=True)
class Operands:
    """Words of party 0 (x) and of party 1 (y); sharing them costs nothing here, so that an operation is measured alone.

    Attributes:
        x: shape (n,).
        y: shape (n,).
    """

    x: Words
    y: Words

    @property
    def length(self) -> int:
        return len(self.x)

    @property
    def low(self) -> Words:
        """The lowest bits of x."""
        return self.x & np.uint64(1)

    def values(self, engine: Engine, owner: int, name: str, dtype: type[Any] = np.uint64) -> NDArray[Any] | None:
        """What the owner alone knows; the twin knows everything."""
        return getattr(self, name).astype(dtype) if engine.me == owner or engine.name == "plain" else None

    def x_shared(self, engine: Engine, dtype: type[Any] = np.uint64) -> Arithmetic:
        return _random_shares(engine, self.x.astype(dtype), 1)

    def y_shared(self, engine: Engine, dtype: type[Any] = np.uint64) -> Arithmetic:
        return _random_shares(engine, self.y.astype(dtype), 2)

    def x_binary(self, engine: Engine) -> Binary:
        return _random_binary(engine, self.x, 3)

    def y_binary(self, engine: Engine) -> Binary:
        return _random_binary(engine, self.y, 4)

    def bits(self, engine: Engine) -> Bits:
        """The lowest bits of x, shared."""
        return engine.constant_bits(self.low)

    def rows(self, shared: Arithmetic) -> Arithmetic:
        """As a matrix of three columns, or one."""
        width = 3 if self.length % 3 == 0 else 1
        return shared.map(lambda part: part.reshape(-1, width))

    def columns(self, shared: Arithmetic) -> Arithmetic:
        """As a matrix of three rows, or one."""
        height = 3 if self.length % 3 == 0 else 1
        return shared.map(lambda part: part.reshape(height, -1))


@dataclass(frozen=True)
class Both:
    """What a program gave on the protocol and on the twin.

    Attributes:
        result: opened; a list for several.
        expected: of the twin.
        sent_bytes: measured, by party.
        rounds: measured: the longest chain of messages.
        declared: what the twin added up.
    """

    result: Any
    expected: Any
    sent_bytes: tuple[int, ...]
    rounds: int
    declared: Cost


def measured(
    program: Callable[[Engine, Operands], Any],
    operands: Operands,
    *,
    chunk: int = CHUNK,
    channels: Sequence[Channel] | None = None,
) -> Both:
    """Run a program on three parties and on the twin; the opening of its result is not measured.

    Args:
        program: what to run.
        operands: for it.
        chunk: elements that go through all rounds together.
        channels: of the three parties, in place of queues; they may have been used before.
    """
    together = threading.Barrier(PARTIES)

    def party(engine: Rep3) -> tuple[Any, int, int]:
        meter = engine._context.channel.meter
        before, meter.rounds = meter.sent_bytes, 0
        together.wait(60)
        result = program(engine, operands)
        together.wait(60)  # nobody opens while another still works
        sent, rounds = meter.sent_bytes - before, meter.rounds
        return _opened(engine, result), sent, rounds

    parties, _ = three_parties(party, chunk=chunk, channels=channels)
    twin = Plain(chunk)
    expected = program(twin, operands)
    declared = twin.spent
    return Both(
        parties[0][0],
        _opened(twin, expected),
        tuple(sent for _, sent, _ in parties),
        max(rounds for _, _, rounds in parties),
        declared,
    )


def opened(form: str, x: Words, to: tuple[int, ...]) -> tuple[list[Any], list[Meter], Cost]:
    """Open words, binary words or bits to some: results, meters, declared cost."""

    def party(engine: Rep3) -> Any:
        operands = Operands(x, x)
        if form == "bits":
            return engine.open_bits(operands.bits(engine), to)
        return engine.open_words(operands.x_shared(engine) if form == "words" else operands.x_binary(engine), to)

    results, meters = three_parties(party)
    costs = Plain().costs
    cost = costs.open_bits(len(x), to) if form == "bits" else costs.open_words(len(x), np.uint64, to)
    return results, meters, cost


def _opened(engine: Engine, result: Any) -> Any:
    if isinstance(result, list):
        return [_opened(engine, one) for one in result]
    return engine.open_bits(result) if isinstance(result, Bits) else engine.open_words(result)


def _random_shares(engine: Engine, words: NDArray[Any], seed: int) -> Arithmetic:
    """Fresh shares that all parties draw alike from a seed: free of messages, unlike an input."""
    if engine.name == "plain":
        return Arithmetic((words,))
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 2 ** (8 * words.itemsize), words.shape, words.dtype) for _ in range(2))
    parts = (first, second, words - first - second)
    return Arithmetic((parts[engine.me], parts[(engine.me + 1) % PARTIES]))


def _random_binary(engine: Engine, words: Words, seed: int) -> Binary:
    if engine.name == "plain":
        return Binary((words,))
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 2**64, words.shape, np.uint64) for _ in range(2))
    parts = (first, second, words ^ first ^ second)
    return Binary((parts[engine.me], parts[(engine.me + 1) % PARTIES]))
