"""One attempt under replicated sharing: the parties share what is theirs, three compute, and cells are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import numpy as np

from dp.execution.local import Vector
from dp.execution.release import StoredRelease
from spark_mpc.errors import FederationError
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import pair_key
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK, PARTIES, Context
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.rep3.outside import most_bytes, opened_bytes, opened_outside, shared_inside, taken_inside
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import KEY_BYTES, Words
from spark_mpc.ring.streams import KeyStream
from spark_mpc.sums.base import Work
from spark_mpc.talk import public_reason
from spark_mpc.transport.streams import StreamChannel, open_channel, verify

__all__ = ["SharedRun", "cost_around", "inside_numbers"]

_ROUNDS_AROUND = 5  # hello, agree, transcripts, ready, armed


class SharedRun(ABC):
    """See `Joint`. What is opened is not stored: after a crash past `arm` it is asked, and paid, again.

    Args:
        work: of this attempt.
        shared: by party, in the order of their names, how many words it shares.
        opened: how many cells are opened.

    Guarantees: one party's view is uniform, whatever the words are (semi-honest, one of the three may be corrupt);
        parties that do not compute see nothing but what is opened to them. What opens the cells is sent only after
        every party's ledger has armed, and after the three have compared their transcripts.
    """

    def __init__(self, work: Work, shared: Mapping[str, int], opened: int) -> None:
        self._work, self._shared, self._cells = work, shared, opened
        self._compute = work.file.compute
        self._open = ExitStack()
        self._channel: StreamChannel | None = None
        self._engine: Rep3 | None = None
        self._result: Arithmetic | None = None

    @abstractmethod
    def computed(self, engine: Engine, words: Mapping[str, Arithmetic]) -> Arithmetic:
        """The cells without noise, from every party's words."""

    @abstractmethod
    def noised(self, engine: Engine, cells: Arithmetic) -> Arithmetic:
        """What may be opened of them."""

    def prepare(self, exact: Vector) -> bytes:
        """See `Joint.prepare`."""
        self._work.enter("share")
        words = exact.collect()
        if self._work.me not in self._compute:
            self._share_inside(words)
            return b""
        engine = self._engine = Rep3(self._context())
        cells = self.computed(engine, self._inputs(engine, words))
        self._work.enter("noise")
        self._result = self.noised(engine, cells)
        assert self._channel is not None
        verify(self._channel, self._work.transport, self._work.run, self._trio)
        return b""

    def resume(self, stored: bytes) -> None:
        """See `Joint.resume`."""
        raise AssertionError("nothing is stored from which a run under rep3 could resume")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # said before the streams end: the others hear why, not only that they ended
            self._work.transport.abort(self._work.run, public_reason(error))
            self._open.__exit__(kind, error, trace)
            return
        with suppress(FederationError):  # committed: nobody's end can take that back
            self._open.close()

    def open(self, commit: Callable[[Words | None], StoredRelease | None]) -> StoredRelease | None:
        """See `Joint.open`."""
        work = self._work
        if self._channel is None or self._engine is None or self._result is None:
            return commit(self._received() if work.me in work.recipients else None)
        inside = inside_numbers(work.file, work.recipients)
        result = self._engine.open_words(self._result, inside) if inside else None
        if result is None:
            self._deliver(self._channel)
            return commit(None)
        stored = commit(result)
        with suppress(FederationError):  # this party has its result; who is gone fetches it later
            self._deliver(self._channel)
        return stored

    @property
    def _trio(self) -> tuple[str, str, str]:
        first, second, third = self._compute
        return first, second, third

    def _deliver(self, channel: StreamChannel) -> None:
        """Until the others have what they need of this party."""
        self._send_outside()
        channel.drain()

    def _context(self) -> Context:
        """Keys of this attempt: k_i is shared with the previous party, k_i+1 with the next."""
        work, me = self._work, self._compute.index(self._work.me)
        previous, following = self._compute[(me + 2) % PARTIES], self._compute[(me + 1) % PARTIES]
        channel = self._channel = self._open.enter_context(open_channel(work.transport, work.run, self._trio))
        own, shared = (KeyStream(self._key(peer)) for peer in (previous, following))
        return Context(channel, own, shared)

    def _key(self, peer: str) -> bytes:
        work = self._work
        return pair_key(
            work.secrets[peer], run=work.run, purpose="rep3 stream 2", pair=(work.me, peer), length=KEY_BYTES
        )

    def _share_inside(self, words: Words) -> None:
        work = self._work
        if not self._shared[work.me]:
            return
        for name, payload in zip(self._compute, shared_inside(words), strict=True):
            work.transport.send(name, work.run, "share", payload)

    def _inputs(self, engine: Engine, words: Words) -> dict[str, Arithmetic]:
        """Every party's words, shared."""
        with engine.step("share"):
            return {
                name: self._shares_of(engine, name, words, length) for name, length in self._shared.items() if length
            }

    def _shares_of(self, engine: Engine, name: str, words: Words, length: int) -> Arithmetic:
        work = self._work
        if name in self._compute:
            return engine.input_words(self._compute.index(name), words if name == work.me else None, length)
        payload = bytearray(most_bytes(engine.me, length))
        work.transport.receive_into(name, work.run, "share", memoryview(payload))
        return taken_inside(engine.me, bytes(payload), length)

    def _send_outside(self) -> None:
        work, engine, result = self._work, self._engine, self._result
        assert engine is not None
        assert result is not None
        payload = opened_outside(engine.me, result)
        for name in work.recipients:
            if name not in self._compute and payload is not None:
                work.transport.send(name, work.run, "upload", payload)

    def _received(self) -> Words:
        work = self._work
        parts = [np.empty(self._cells, np.uint64) for _ in range(2)]
        for name, words in zip(self._compute, parts, strict=False):
            work.transport.receive_into(name, work.run, "upload", words.data.cast("B"))
        return np.asarray(parts[0] + parts[1])


def inside_numbers(file: FederationFile, recipients: tuple[str, ...]) -> tuple[int, ...]:
    """The compute parties among the recipients, by their numbers."""
    return tuple(number for number, name in enumerate(file.compute) if name in recipients)


def cost_around(
    file: FederationFile, shared: Mapping[str, int], opened: int, recipients: tuple[str, ...], inside: Cost
) -> Cost:
    """What parties send, in the order of their names: sharing, computing, opening, and rounds of agreement.

    Args:
        file: the federation.
        shared: by party, in the order of their names, how many words it shares.
        opened: how many cells are opened.
        recipients: to whom.
        inside: what the three send to compute.
    """
    costs = Rep3Costs(CHUNK)
    for number, name in enumerate(file.compute):
        if shared[name]:
            inside += costs.input_words(number, shared[name])
    inside += costs.open_words(opened, to=inside_numbers(file, recipients))
    sent = dict(zip(file.compute, inside.sent_bytes, strict=True))
    outside = sum(name not in file.compute for name in recipients)
    for number, name in enumerate(file.compute):
        sent[name] += outside * opened_bytes(number, opened)
    for name, length in shared.items():
        if name not in sent:
            sent[name] = sum(most_bytes(number, length) for number in range(PARTIES)) if length else 0
    return Cost(inside.rounds + _ROUNDS_AROUND, tuple(sent[name] for name in shared))
