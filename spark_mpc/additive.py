"""The additive protocol: n parties add up vectors under pairwise masks, each with its own noise inside.

Everybody uploads one masked vector to every recipient; the masks cancel in the sum and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dp.execution.blocks import BlockFunction, block_range
from dp.execution.local import AddNoise
from dp.planning.plan import Plan
from spark_mpc.key_service import KeyTicket
from spark_mpc.ring.masks import PairKey, Words, add_masks

__all__ = ["Additive", "Cost", "MaskBlock", "MaskBlockOnExecutor", "SumProtocol"]


@dataclass(frozen=True)
class Cost:
    """What a protocol sends for one query.

    Attributes:
        rounds: messages that wait for one another, from agreement to result.
        payload_bytes: sent by one party that is no recipient or is one of several; framing and TLS apart.
    """

    rounds: int
    payload_bytes: int


class SumProtocol(Protocol):
    """How parties add up their vectors; the plaintext twin of the tests implements it too."""

    @property
    def name(self) -> str:
        """Compared at agreement; two protocols never meet."""

    def noise(self, plan: Plan) -> BlockFunction:
        """This party's noise, added to a block of its vector."""

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        """The masks of one attempt, added to a block in this process."""

    def mask_on_executors(self, length: int, ticket: KeyTicket) -> BlockFunction:
        """The same masks, added on executors that fetch the keys from this process."""

    def cost(self, parties: int, recipients: int, cells: int) -> Cost:
        """What it sends."""


@dataclass(frozen=True)
class MaskBlock:
    """Masks of one attempt at their positions of the vector.

    Attributes:
        length: words of the vector.
        keys: one for every other party.
    """

    length: int
    keys: tuple[PairKey, ...]

    def __call__(self, block: int, words: Words) -> Words:
        start, _ = block_range(self.length, block)
        return add_masks(words, self.keys, start)


@dataclass(frozen=True)
class MaskBlockOnExecutor:
    """`MaskBlock` for executors: it carries a ticket and no key, and fetches the keys once a task.

    Attributes:
        length: words of the vector.
        ticket: where to fetch the keys; worthless once the run's key service is closed.
    """

    length: int
    ticket: KeyTicket

    @cached_property
    def _mask(self) -> MaskBlock:
        return MaskBlock(self.length, self.ticket.fetch())

    def __call__(self, block: int, words: Words) -> Words:
        return self._mask(block, words)


@dataclass(frozen=True)
class Additive:
    """Sums over n >= 2 parties in Z_2^64.

    Guarantees: towards any coalition that lacks two parties, the uploads of those two are uniform but for their sum,
        computationally (AES-128 in counter mode, X25519, semi-honest parties). Each party's noise is inside before it
        masks, so what is opened is the noised sum.
    Leaks: the public plan, the number of cells, and who takes part.
    Cost: 4 rounds (hello, agree, ready, upload); 8 bytes per cell and recipient other than the sender.
    Source: Bonawitz et al. 2017, section 4.1 (pairwise masks without drop-outs: a missing upload aborts).
    """

    name: str = "additive"

    def noise(self, plan: Plan) -> BlockFunction:
        return AddNoise(plan)

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        return MaskBlock(length, keys)

    def mask_on_executors(self, length: int, ticket: KeyTicket) -> BlockFunction:
        return MaskBlockOnExecutor(length, ticket)

    def cost(self, parties: int, recipients: int, cells: int) -> Cost:
        others = recipients - 1 if recipients == parties else recipients
        return Cost(rounds=4, payload_bytes=8 * cells * others)
