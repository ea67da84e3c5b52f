"""The plaintext twin of the additive protocol: the same path, messages and masks, but nobody adds any noise."""

from __future__ import annotations

from dataclasses import dataclass

from dp.execution.blocks import BlockFunction
from dp.planning.plan import Plan
from spark_mpc.ring.masks import Words
from spark_mpc.sums.additive import Additive

__all__ = ["WithoutNoise", "unchanged"]


def unchanged(_block: int, words: Words) -> Words:
    """The words as they are."""
    return words


@dataclass(frozen=True)
class WithoutNoise(Additive):
    """Shows exact sums, so it goes by a name of its own: a party with real noise refuses to run with it."""

    name: str = "additive without noise"

    def noise(self, plan: Plan) -> BlockFunction:
        return unchanged
