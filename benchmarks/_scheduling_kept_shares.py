"""Round robin as PrivateKube's simulator plays it: a claim keeps what it is dealt, from pass to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks._scheduling_workload import Workload

__all__ = ["KeptShares"]


@dataclass
class _Block:
    """One block.

    Attributes:
        arrived: how many claims have come that want some of it.
        undealt: grains that are unlocked and nobody's.
        lacking: what each waiting claim still wants of it.
    """

    arrived: int = 0
    undealt: int = 0
    lacking: dict[int, int] = field(default_factory=dict)


class KeptShares:
    """One run. Shares are state that belongs to a claim and a block, so no `Scheduler` can play this rule.

    Each claim that arrives unlocks 1/N of its blocks. What is unlocked is dealt max-min among those who wait for the
    block, and they keep it. A claim that has all it wants of all its blocks is granted. At its Nth arrival a block
    retires: whoever still lacks some of it fails, what it was dealt is lost, and nobody may ask for the block any more.

    Args:
        workload: of basic composition; its claims wait to the end.
        claims: N.

    Source:
        Luo et al. 2021, section 6.1, and RR-N of the simulator published with it.
    """

    def __init__(self, workload: Workload, claims: int) -> None:
        self._load, self._claims = workload, claims
        self._blocks = [_Block() for _ in workload.born]
        self._blocks_lacking: dict[int, int] = {}
        self.count = 0

    def run(self) -> int:
        """How many claims were granted when it ends."""
        for claim in range(len(self._load.at)):
            blocks = self._blocks_of(claim)
            self._arrive(claim, blocks)
            for block in blocks:
                self._deal(block)
            for block in blocks:
                if block.arrived >= self._claims:
                    self._retire(block)
        return self.count

    def _blocks_of(self, claim: int) -> Sequence[_Block]:
        return self._blocks[self._load.low[claim] : self._load.high[claim] + 1]

    def _arrive(self, claim: int, blocks: Sequence[_Block]) -> None:
        if all(block.arrived < self._claims for block in blocks):
            self._blocks_lacking[claim] = len(blocks)
            for block in blocks:
                block.lacking[claim] = int(self._load.demand[claim, 0])
        for block in blocks:
            before = self._unlocked(block)
            block.arrived += 1
            block.undealt += self._unlocked(block) - before

    def _unlocked(self, block: _Block) -> int:
        return int(self._load.capacity[0]) * min(block.arrived, self._claims) // self._claims

    def _deal(self, block: _Block) -> None:
        # whoever lacks least first: what it leaves of an even share goes to the others
        for others, (claim, lacks) in zip(
            range(len(block.lacking), 0, -1), sorted(block.lacking.items(), key=lambda item: item[1]), strict=True
        ):
            dealt = min(lacks, block.undealt // others)
            block.undealt -= dealt
            block.lacking[claim] = lacks - dealt
            if dealt == lacks:
                self._complete(claim, block)

    def _complete(self, claim: int, block: _Block) -> None:
        del block.lacking[claim]
        self._blocks_lacking[claim] -= 1
        self.count += not self._blocks_lacking[claim]

    def _retire(self, block: _Block) -> None:
        for claim in list(block.lacking):
            for other in self._blocks_of(claim):
                other.lacking.pop(claim, None)
