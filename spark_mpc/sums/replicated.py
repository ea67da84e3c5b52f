"""Sums under replicated sharing: three parties compute, noise is drawn under sharing, and nobody knows it.

Every party shares its exact vector towards the three; they add up, add noise that none of them knows, and open the
noised sum to the recipients once every ledger has armed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

from dp.noise.coins import LaplaceCoins
from dp.planning.plan import Plan
from dp.planning.under_sharing import UnderSharing
from spark_mpc.federation_file import FederationFile
from spark_mpc.noise.laplace import laplace_cost, laplace_noise
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.sums.base import Joint, Work
from spark_mpc.sums.sharing import SharedRun, cost_around

__all__ = ["Replicated"]


@dataclass(frozen=True)
class Replicated:
    """Sums over n >= 3 parties, under replicated sharing by three of them.

    Guarantees: those of `SharedRun`. One sample of discrete Laplace noise is in every cell, known to nobody; its
        distance from the exact law is in the price.
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

    def joint(self, work: Work, plan: Plan) -> Joint:
        return _SharedSum(self, work, plan)

    def cost(self, file: FederationFile, recipients: tuple[str, ...], plan: Plan) -> Cost:
        """Shares towards the three, noise, opening; rounds of agreement and arming come on top."""
        noise = laplace_cost(Rep3Costs(CHUNK), CHUNK, *_coins(plan))
        return cost_around(file, _lengths(file, plan), plan.length, recipients, noise)

    def trust(self, file: FederationFile) -> str:
        return f"{', '.join(file.compute)} compute, semi-honest, one of the three may be corrupt"


class _SharedSum(SharedRun):
    """The sum of everybody's vectors."""

    def __init__(self, protocol: Replicated, work: Work, plan: Plan) -> None:
        super().__init__(work, _lengths(work.file, plan), plan.length)
        self._protocol, self._plan = protocol, plan

    def computed(self, engine: Engine, words: Mapping[str, Arithmetic]) -> Arithmetic:
        return reduce(add, words.values())

    def noised(self, engine: Engine, cells: Arithmetic) -> Arithmetic:
        return cells + self._protocol.noise(engine, self._plan)


def _lengths(file: FederationFile, plan: Plan) -> dict[str, int]:
    return {peer.name: plan.length for peer in file.parties}


def _coins(plan: Plan) -> tuple[tuple[LaplaceCoins, ...], tuple[int, ...]]:
    """Coins of every block of cells, and the cells of each, in the order of the vector."""
    cells = tuple(part.cells for part in plan.parts)
    assert sum(cells) == plan.length
    return plan.coins, cells
