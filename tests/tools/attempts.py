"""Whole attempts under rep3, tapped, without agreement, Spark or ledgers; and one compute party alone with a script.

Five parties, of which a, b and c compute: sharing, computing, transcripts and opening are the real ones.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.execution.local import Vector
from dp.noise.coins import laplace_coins
from spark_mpc import Federation
from spark_mpc.noise.laplace import laplace_noise
from spark_mpc.protocols.channel import Meter
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import PARTIES, Context
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from spark_mpc.ring.streams import KeyStream
from spark_mpc.sums.base import Work
from spark_mpc.sums.sharing import SharedRun
from spark_mpc.transport.base import Transport
from spark_mpc.transport.memory import MemoryHub
from tests.tools.studies import Sent, Wire, all_at_once

__all__ = [
    "CELLS",
    "COMPUTE",
    "NAMES",
    "OUTSIDE",
    "Cubes",
    "Inputs",
    "Noised",
    "Stage",
    "parts_of",
    "stage_of",
]

NAMES = ("a", "b", "c", "d", "e")
COMPUTE, OUTSIDE = NAMES[:PARTIES], NAMES[PARTIES:]
CELLS = 3
WORDS = dict.fromkeys(NAMES, CELLS)
FILE = Federation.local(NAMES, protocol="rep3", compute=COMPUTE).file

Inputs = Mapping[str, Words]
Source = Callable[[str, str, int], bytes]
"""By sender, label and length: the next message from there."""


class Cubes(SharedRun):
    """The cube of the sum of everybody's words, without noise. A test knows the keys: they are the secrets of a run."""

    def _key(self, peer: str) -> bytes:
        return self._work.secrets[peer]

    def computed(self, engine: Engine, words: Mapping[str, Arithmetic]) -> Arithmetic:
        total = reduce(add, words.values())
        return engine.multiply(engine.multiply(total, total), total)

    def noised(self, engine: Engine, cells: Arithmetic) -> Arithmetic:
        return cells


class Noised(Cubes):
    """With a comparison, bits that become numbers, and noise."""

    def computed(self, engine: Engine, words: Mapping[str, Arithmetic]) -> Arithmetic:
        less = engine.negative(words["a"] - words["e"])
        return super().computed(engine, words) + engine.multiply(engine.bits_to_arithmetic(less), words["d"])

    def noised(self, engine: Engine, cells: Arithmetic) -> Arithmetic:
        return cells + laplace_noise(engine, laplace_coins([Fraction(40)], [CELLS], Fraction(1, 10**9)), (CELLS,))


@dataclass
class Stage:
    """Five parties that live through many attempts, and all that they send."""

    transports: Mapping[str, Transport]
    wire: Wire

    def attempt(
        self, program: type[Cubes], inputs: Inputs, keys: Sequence[bytes], recipients: tuple[str, ...]
    ) -> tuple[list[Sent], Words]:
        """The messages of an attempt, in the order of senders, and what is opened to all recipients alike."""
        run, armed = secrets.token_bytes(32), threading.Barrier(len(NAMES))
        self.wire.sent.clear()

        def party(name: str) -> Words | None:
            opened: list[Any] = []
            transport = self.transports[name]
            transport.begin(run)
            with program(_work(name, transport, run, recipients, _known(name, keys)), WORDS, CELLS) as joint:
                joint.prepare(Vector(CELLS, words=inputs[name]))
                armed.wait(60)
                joint.open(opened.append)  # type: ignore[arg-type]
            words: Words | None = opened[0]
            return words

        results = all_at_once({name: partial(party, name) for name in NAMES})
        for transport in self.transports.values():
            transport.finish(run)
        assert not [result for result in results.values() if isinstance(result, Exception)], results
        opened = {name: np.asarray(result) for name, result in results.items() if result is not None}
        assert opened.keys() == set(recipients)
        assert len({words.tobytes() for words in opened.values()}) == 1
        # threads interleave, each sender's order is fixed
        return sorted(self.wire.sent, key=lambda message: message.sender), opened[recipients[0]]


@contextmanager
def stage_of() -> Iterator[Stage]:
    """The parties, started."""
    hub, wire = MemoryHub(NAMES), Wire()

    def tap(sender: str) -> Any:
        return lambda peer, run, step, payload: wire.sent.append(Sent(sender, peer, run, step, bytes(payload)))

    with ExitStack() as running:
        yield Stage({name: running.enter_context(hub.transport(name, tap=tap(name))) for name in NAMES}, wire)


def parts_of(name: str, program: type[Cubes], own: Words, keys: Sequence[bytes], source: Source) -> tuple[Words, ...]:
    """y_i and y_i+1, as compute party i has them from its words, its keys and what it receives, and nothing else."""
    me, alone = COMPUTE.index(name), _Alone(COMPUTE.index(name), source)
    joint = program(_work(name, alone, b"", (), _known(name, keys)), WORDS, CELLS)
    engine = Rep3(Context(alone, KeyStream(keys[me]), KeyStream(keys[(me + 1) % PARTIES])))
    return joint.noised(engine, joint.computed(engine, joint._inputs(engine, own))).parts


@dataclass
class _Alone:
    """Channel and transport of one party whose messages come from a script."""

    me: int
    source: Source
    meter: Meter = field(default_factory=Meter)

    def send(self, to: int, step: str, data: NDArray[Any]) -> None:
        """To nobody."""

    def receive(self, sender: int, step: str, out: NDArray[Any]) -> None:
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(self.source(COMPUTE[sender], step, out.nbytes), np.uint8)

    def receive_into(self, peer: str, run: bytes, step: str, buffer: memoryview) -> None:
        buffer[:] = self.source(peer, step, len(buffer))


def _known(name: str, keys: Sequence[bytes]) -> dict[str, bytes]:
    """Party i holds key i, as the previous one does, and key i + 1, as the next one does."""
    if name not in COMPUTE:
        return {}
    me, following = COMPUTE.index(name), (COMPUTE.index(name) + 1) % PARTIES
    return {COMPUTE[me - 1]: keys[me], COMPUTE[following]: keys[following]}


def _work(name: str, transport: Any, run: bytes, recipients: tuple[str, ...], known: dict[str, bytes]) -> Work:
    spark: Any = None
    return Work(name, FILE, transport, run, recipients, known, spark, "", lambda step: None)
