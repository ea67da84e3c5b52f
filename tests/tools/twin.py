"""Twins of the protocols that open sums: the same path, messages and masks, but nobody adds any noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dp.execution.blocks import BlockFunction
from dp.planning.plan import Plan
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.replicated import Replicated

__all__ = ["SharedWithoutNoise", "WithoutNoise", "unchanged"]


def unchanged(_block: int, words: Words) -> Words:
    """The words as they are."""
    return words


@dataclass(frozen=True)
class WithoutNoise(Additive):
    """Shows exact sums, so it goes by a name of its own: a party with real noise refuses to run with it."""

    name: str = "additive without noise"

    def noise(self, plan: Plan) -> BlockFunction:
        return unchanged


@dataclass(frozen=True)
class SharedWithoutNoise(Replicated):
    """The same for sums under replicated sharing."""

    name: str = "rep3 without noise"

    def noise(self, engine: Engine, plan: Plan) -> Arithmetic:
        return engine.constant(np.zeros(plan.length, np.uint64))
