"""A program with its price, its noise and its proof of range; made before any row is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from dp.accounting.budget import ApproxDP, Budget
from dp.accounting.calibration import distance_of_delta, laplace_scale
from dp.errors import InvalidArgument
from dp.noise.coins import LaplaceCoins, laplace_coins
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.query import digest
from spark_mpc.federation_file import FederationFile
from spark_mpc.noise.laplace import laplace_cost
from spark_mpc.programs.changes import together
from spark_mpc.programs.expressions import SecretInts, evaluated, to_json
from spark_mpc.programs.inputs import SecretCells
from spark_mpc.protocols.cost import Cost
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.costs import Rep3Costs
from spark_mpc.shared.ints import MOST_HELD, SharedInts
from spark_mpc.sums.sharing import cost_around

__all__ = ["DELTA_SHARE", "Body", "ProgramNoise", "program_noise"]

DELTA_SHARE = Fraction(1, 1000)
"""How much of delta pays for the distance between noise of coins and its law."""

_WRAP_LOG2_PROBABILITY = 64
"""Noise pushes a cell out of the ring with probability at most 2^-64 over a whole release."""


@dataclass(frozen=True)
class Body:
    """What is computed, and on whose cells.

    Attributes:
        federation: among whom, in words: its name and parties.
        contribution: the name under which the tables were contributed.
        name: of the program.
        result: what is opened.
        inputs: by name.
        parties_per_unit: at how many parties one unit may have rows.
    """

    federation: str
    contribution: str
    name: str
    result: SecretInts
    inputs: Mapping[str, SecretCells]
    parties_per_unit: int

    @property
    def cells(self) -> int:
        """How many are opened."""
        return self.result.size.cells

    @property
    def sensitivity(self) -> int:
        """How far one privacy unit moves the result in L1, added or removed; see docs/privacy.md, "Programs"."""
        return together(list(self.result.changes.values()), self.parties_per_unit)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that is public of it but its price, hexadecimal: what a policy lists."""
        return digest({"body": self.to_json()}).hex()

    def to_json(self) -> dict[str, object]:
        """What all parties must have alike."""
        return {
            "federation": self.federation,
            "contribution": self.contribution,
            "program": self.name,
            "steps": to_json(self.result),
            "inputs": [{"input": name, **cells.to_json()} for name, cells in self.inputs.items()],
            "parties_per_unit": self.parties_per_unit,
        }

    def words(self, file: FederationFile) -> dict[str, int]:
        """By party, in the order of their names, how many words it shares."""
        owned = {peer.name: 0 for peer in file.parties}
        for cells in self.inputs.values():
            owned[cells.owner] += cells.length
        return owned

    def cost(self, file: FederationFile, recipients: tuple[str, ...], noise: ProgramNoise | None) -> Cost:
        """What parties send, in the order of their names."""
        twin = Plain()
        evaluated(self.result, {name: _zeros(twin, cells) for name, cells in self.inputs.items()})
        inside = twin.spent
        if noise is not None:
            inside += laplace_cost(Rep3Costs(CHUNK), CHUNK, (noise.coins,), (self.cells,))
        return cost_around(file, self.words(file), self.cells, recipients, inside)


@dataclass(frozen=True)
class ProgramNoise:
    """Noise under sharing for every cell of a program.

    Attributes:
        asked: what the release satisfies.
        mechanism: of every cell.
        coins: of which draws are made.
        sampler_delta: what their distance from the mechanism's law costs.
    """

    asked: ApproxDP
    mechanism: DiscreteLaplace
    coins: LaplaceCoins = field(repr=False)
    sampler_delta: Fraction

    def price(self, like: Budget) -> Budget:
        """What the release costs on a ledger of this kind.

        Raises:
            InvalidArgument: no ledger of epsilon and delta.
        """
        if not isinstance(like, ApproxDP):
            remedy = "noise of coins costs a delta: only a ledger of epsilon and delta has a price for it"
            raise InvalidArgument("ledger", type(like).__name__, remedy)
        return self.asked

    def to_json(self) -> dict[str, object]:
        """What all parties must have alike."""
        asked = {name: str(amount) for name, amount in self.asked.amounts.items()}
        return {"guarantee": asked, "mechanism": self.mechanism.to_json(), "coins": self.coins.to_json()}


def program_noise(body: Body, asked: ApproxDP) -> ProgramNoise:
    """Calibrate the noise of a program, and prove that no cell wraps.

    Raises:
        InvalidArgument: so little budget that no noise has it, or cells that could wrap.
    """
    sampler_delta = asked.delta * DELTA_SHARE
    try:
        mechanism = DiscreteLaplace(laplace_scale(max(body.sensitivity, 1), asked.epsilon))
        distance = distance_of_delta(sampler_delta, asked.epsilon)
        (coins,) = laplace_coins([mechanism.scale], [body.cells], distance)
    except InvalidArgument:
        remedy = f"one unit moves the result by {body.sensitivity:,}: clip secrets, or ask for more budget"
        raise InvalidArgument("epsilon", str(asked.epsilon), remedy) from None
    greatest = body.result.bound + mechanism.tail_bound(_WRAP_LOG2_PROBABILITY, body.cells)
    if greatest > MOST_HELD:
        remedy = f"with noise the result could reach {greatest} and wrap at 2^63: declare smaller bounds"
        raise InvalidArgument("at_most", body.result.bound, remedy)
    return ProgramNoise(asked, mechanism, coins, sampler_delta)


def _zeros(twin: Plain, cells: SecretCells) -> SharedInts:
    return SharedInts(twin, twin.constant(np.zeros(cells.length, np.uint64)), cells.bound)
