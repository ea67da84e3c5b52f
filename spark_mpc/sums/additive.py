"""The additive protocol: n parties add up vectors under pairwise masks, each with its own noise inside.

Everybody uploads one masked vector to every recipient; the masks cancel in the sum and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self

import numpy as np
from pyspark.sql import SparkSession

from dp.execution.blocks import BlockFunction, block_range
from dp.execution.local import AddNoise, Vector
from dp.execution.release import StoredRelease
from dp.planning.plan import NoiseParties, Plan
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import pair_key
from spark_mpc.key_service import KeyTicket, serve_keys
from spark_mpc.protocols.cost import Cost
from spark_mpc.ring.masks import KEY_BYTES, PairKey, Words, add_masks
from spark_mpc.sums.base import Joint, Work
from spark_mpc.talk import open_sum

__all__ = ["Additive", "MaskBlock", "MaskBlockOnExecutor", "mask_keys"]


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
    Cost: 5 rounds (hello, agree, ready, armed, upload); 8 bytes per cell and recipient other than the sender.
    Source: Bonawitz et al. 2017, section 4.1 (pairwise masks without drop-outs: a missing upload aborts).
    """

    name: str = "additive"

    def noise_parties(self, file: FederationFile) -> NoiseParties:
        """Every party draws; those who do not collude must suffice."""
        return NoiseParties(copies=len(file.parties), honest=len(file.parties) - file.t)

    def noise(self, plan: Plan) -> BlockFunction:
        """This party's noise, added to a block of its vector."""
        return AddNoise(plan)

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        """The masks of one attempt, added to a block in this process."""
        return MaskBlock(length, keys)

    def mask_on_executors(self, length: int, ticket: KeyTicket) -> BlockFunction:
        """The same masks, added on executors that fetch the keys from this process."""
        return MaskBlockOnExecutor(length, ticket)

    def joint(self, work: Work, plan: Plan) -> Joint:
        return _MaskedSum(self, work, plan)

    def cost(self, file: FederationFile, recipients: tuple[str, ...], plan: Plan) -> Cost:
        names = [peer.name for peer in file.parties]
        return Cost(5, tuple(8 * plan.length * len(set(recipients) - {name}) for name in names))

    def trust(self, file: FederationFile) -> str:
        return f"semi-honest, up to {file.t} of them colluding"


class _MaskedSum:
    """See `Joint`: noise of one's own, then a masked upload to the recipients."""

    def __init__(self, protocol: Additive, work: Work, plan: Plan) -> None:
        self._protocol, self._work, self._plan = protocol, work, plan
        self._noised = Vector(plan.length)

    def prepare(self, exact: Vector) -> bytes:
        self._work.enter("noise")
        self._noised = exact.map(self._protocol.noise(self._plan)).staged(self._work.directory)
        # a long vector stays on its executors: it is not stored, and a later attempt is a new debit
        words = self._noised.words
        return b"" if words is None else words.astype("<u8").tobytes()

    def resume(self, stored: bytes) -> None:
        self._noised = Vector(self._plan.length, words=np.frombuffer(stored, "<u8"))

    def open(self, commit: Callable[[Words | None], StoredRelease | None]) -> StoredRelease | None:
        work = self._work
        return open_sum(work.transport, work.run, work.recipients, self._masked(), commit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def _masked(self) -> Words:
        """This party's upload: masked once, here or on the executors; the driver only joins masked words."""
        work, protocol = self._work, self._protocol
        keys = mask_keys(work.me, work.secrets, work.run)
        if self._noised.words is not None:
            return self._noised.map(protocol.mask(self._plan.length, keys)).collect()
        with serve_keys(keys, _driver_host(work.spark)) as ticket:
            return self._noised.map(protocol.mask_on_executors(self._plan.length, ticket)).collect()


def mask_keys(me: str, secrets: Mapping[str, bytes], run: bytes) -> tuple[PairKey, ...]:
    """The mask keys of this attempt, one for every other party, in the order of their names.

    Guarantees: fresh for every attempt, since secrets and the run are; equal at both ends, which stand on opposite
        sides of the mask; independent between pairs.
    Source: RFC 5869 (HKDF).
    """
    return tuple(
        PairKey(pair_key(secret, run=run, purpose="additive mask 1", pair=(me, peer), length=KEY_BYTES), adds=me < peer)
        for peer, secret in sorted(secrets.items())
    )


def _driver_host(spark: SparkSession) -> str:
    if (spark.conf.get("spark.master") or "").startswith("local"):
        return "127.0.0.1"
    return spark.conf.get("spark.driver.host") or "127.0.0.1"
