"""Sums under replicated sharing: three parties compute, noise is drawn under sharing, and nobody knows it.

Every party shares its exact vector towards the three; they add up, add noise that none of them knows, and open the
noised sum to the recipients once every ledger has armed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from dp.execution.local import Vector
from dp.execution.release import StoredRelease
from dp.noise.coins import LaplaceCoins
from dp.planning.plan import Plan
from dp.planning.under_sharing import UnderSharing
from spark_mpc.errors import FederationError
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import pair_key
from spark_mpc.noise.laplace import laplace_cost, laplace_noise
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK, PARTIES, Context
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.protocols.rep3.engine import Rep3
from spark_mpc.protocols.rep3.outside import most_bytes, opened_outside, shared_inside, taken_inside
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import KEY_BYTES, Words
from spark_mpc.ring.streams import KeyStream
from spark_mpc.sums.base import Joint, Work
from spark_mpc.talk import exchange, public_reason
from spark_mpc.transport.streams import StreamChannel, open_channel, verify

__all__ = ["Replicated"]

_ROUNDS_AROUND = 5  # hello, agree, transcripts, ready, armed


@dataclass(frozen=True)
class Replicated:
    """Sums over n >= 3 parties, under replicated sharing by three of them.

    Guarantees: what one compute party sees is uniform, whatever the vectors are (semi-honest, one of the three may be
        corrupt); parties that do not compute see nothing but what is opened to them. One sample of discrete Laplace
        noise is in every cell, known to nobody; its distance from the exact law is in the price. What opens the sum is
        sent only after every party's ledger has armed, and after the three have compared their transcripts.
    Leaks: the public plan, the number of cells, and who takes part.
    Cost: `cost`; most of it for the noise: see `spark_mpc.noise.laplace`.
    Source: Araki et al. 2016; see `spark_mpc.noise` for the noise.
    """

    name: str = "rep3"

    def noise_parties(self, file: FederationFile) -> UnderSharing:
        """One sample a cell, drawn by the three together."""
        return UnderSharing()

    def noise(self, engine: Engine, plan: Plan) -> Arithmetic:
        """Noise for every cell, known to nobody."""
        return laplace_noise(engine, *_coins(plan))

    def joint(self, work: Work) -> Joint:
        return _SharedSum(self, work)

    def cost(self, file: FederationFile, recipients: tuple[str, ...], plan: Plan) -> Cost:
        """Shares towards the three, noise, opening; rounds of agreement and arming come on top."""
        names, costs = [peer.name for peer in file.parties], Rep3Costs(CHUNK)
        inside = Cost(0, (0,) * PARTIES)
        for number in range(PARTIES):
            inside += costs.input_words(number, plan.length)
        inside += laplace_cost(costs, CHUNK, *_coins(plan))
        inside += costs.open_words(plan.length, to=_numbers(file.compute, recipients))
        sent = dict(zip(file.compute, inside.sent_bytes, strict=True))
        outside = sum(name not in file.compute for name in recipients)
        for name in file.compute[:2]:
            sent[name] += outside * 8 * plan.length
        share = sum(most_bytes(number, plan.length) for number in range(PARTIES))
        return Cost(inside.rounds + _ROUNDS_AROUND, tuple(sent.get(name, share) for name in names))

    def trust(self, file: FederationFile) -> str:
        return f"{', '.join(file.compute)} compute, semi-honest, one of the three may be corrupt"


class _SharedSum:
    """See `Joint`. A noised sum is not stored: after a crash past `arm` the query is asked, and paid, again."""

    def __init__(self, protocol: Replicated, work: Work) -> None:
        self._protocol, self._work = protocol, work
        self._compute = work.file.compute
        self._open = ExitStack()
        self._channel: StreamChannel | None = None
        self._engine: Rep3 | None = None
        self._noised: Arithmetic | None = None

    @property
    def _trio(self) -> tuple[str, str, str]:
        first, second, third = self._compute
        return first, second, third

    def prepare(self, exact: Vector) -> bytes:
        self._work.enter("share")
        words = exact.collect()
        if self._work.me not in self._compute:
            self._share_inside(words)
            return b""
        engine = self._engine = Rep3(self._context())
        total = self._summed(engine, words)
        self._work.enter("noise")
        self._noised = total + self._protocol.noise(engine, self._work.plan)
        assert self._channel is not None
        verify(self._channel, self._work.transport, self._work.run, self._trio)
        return b""

    def resume(self, stored: bytes) -> None:
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
        work = self._work
        # every party's veto ends here: with an upload of its own it would have one, with shares it has not
        exchange(work.transport, work.run, "armed", b"", 0)
        if self._channel is None or self._engine is None or self._noised is None:
            return commit(self._received() if work.me in work.recipients else None)
        inside = _numbers(self._compute, work.recipients)
        result = self._engine.open_words(self._noised, inside) if inside else None
        if result is None:
            self._deliver(self._channel)
            return commit(None)
        stored = commit(result)
        with suppress(FederationError):  # this party has its result; who is gone fetches it later
            self._deliver(self._channel)
        return stored

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
            work.secrets[peer], run=work.run, purpose="rep3 stream 1", pair=(work.me, peer), length=KEY_BYTES
        )

    def _share_inside(self, words: Words) -> None:
        work = self._work
        for name, payload in zip(self._compute, shared_inside(words), strict=True):
            work.transport.send(name, work.run, "share", payload)

    def _summed(self, engine: Rep3, words: Words) -> Arithmetic:
        """Every party's vector, shared and added up."""
        length, total = len(words), engine.constant(np.zeros(len(words), np.uint64))
        with engine.step("share"):
            for peer in self._work.file.parties:
                total = total + self._shares_of(engine, peer.name, words, length)
        return total

    def _shares_of(self, engine: Rep3, name: str, words: Words, length: int) -> Arithmetic:
        work = self._work
        if name in self._compute:
            return engine.input_words(self._compute.index(name), words if name == work.me else None, length)
        payload = bytearray(most_bytes(engine.me, length))
        work.transport.receive_into(name, work.run, "share", memoryview(payload))
        return taken_inside(engine.me, bytes(payload), length)

    def _send_outside(self) -> None:
        work, engine, noised = self._work, self._engine, self._noised
        assert engine is not None
        assert noised is not None
        payload = opened_outside(engine.me, noised)
        for name in work.recipients:
            if name not in self._compute and payload is not None:
                work.transport.send(name, work.run, "upload", payload)

    def _received(self) -> Words:
        work = self._work
        parts = [np.empty(work.plan.length, np.uint64) for _ in range(2)]
        for name, words in zip(self._compute, parts, strict=False):
            work.transport.receive_into(name, work.run, "upload", words.data.cast("B"))
        return np.asarray(parts[0] + parts[1])


def _numbers(compute: tuple[str, ...], recipients: tuple[str, ...]) -> tuple[int, ...]:
    """The compute parties among the recipients, by their numbers."""
    return tuple(number for number, name in enumerate(compute) if name in recipients)


def _coins(plan: Plan) -> tuple[tuple[LaplaceCoins, ...], tuple[int, ...]]:
    """Coins of every block of cells, and the cells of each, in the order of the vector."""
    cells = tuple(part.cells for part in plan.parts)
    assert sum(cells) == plan.length
    return plan.coins, cells
