"""A program as a task of several parties: owners share cells, three compute, the result is noised or disclosed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dp.accounting.budget import Budget, summed
from dp.execution.local import Vector
from dp.execution.one_lake import Source
from dp.execution.release import StoredRelease
from lake.policy import Policy
from spark_mpc.noise.laplace import laplace_noise
from spark_mpc.party import Party
from spark_mpc.programs.expressions import evaluated
from spark_mpc.programs.plan import Body, ProgramNoise
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.shared.ints import SharedInts
from spark_mpc.sums.base import Joint, Work
from spark_mpc.sums.sharing import SharedRun

__all__ = ["ProgramTask"]


@dataclass(frozen=True)
class ProgramTask:
    """See `Task`.

    Attributes:
        body: what is computed.
        noise: of every cell; None for an exact opening.
        disclosure: the name of an exact opening; "" where there is noise.
        recipients: the parties to which the result is opened, in the order of their names.

    Guarantees: those of `SharedRun`, and of the noise. An exact opening leaves no owner whose policy does not list it,
        by name, program and recipients; each ledger keeps a record of it.
    Leaks: the program, the number of cells, who takes part and whose cells are used.
    """

    body: Body
    noise: ProgramNoise | None
    disclosure: str
    recipients: tuple[str, ...]

    def __post_init__(self) -> None:
        assert (self.noise is None) == bool(self.disclosure)

    @property
    def protocol(self) -> str:
        return "rep3"

    @property
    def length(self) -> int:
        return self.body.cells

    @property
    def purpose(self) -> str:
        cells = ", ".join(f"{name} of {cells.owner}" for name, cells in self.body.inputs.items())
        program = f"{self.body.name}({cells})"
        if not self.disclosure:
            return program
        return f"{program} opened to {', '.join(self.recipients)} without noise, fingerprint {self.body.fingerprint}"

    def to_json(self) -> dict[str, object]:
        return {
            "recipients": list(self.recipients),
            "disclosure": self.disclosure,
            "noise": None if self.noise is None else self.noise.to_json(),
            **self.body.to_json(),
        }

    def price(self, like: Budget) -> Budget:
        # no budget could pay for what is exact
        return summed((), like) if self.noise is None else self.noise.price(like)

    def require_permission(self, policy: Policy, data_version: str) -> None:
        if self.noise is None:
            policy.check(
                self.disclosure,
                program=self.body.fingerprint,
                recipients=self.recipients,
                data_version=data_version,
            )

    def exact(self, party: Party, source: Source) -> Vector:
        own = [cells.exact() for cells in self.body.inputs.values() if cells.owner == party.name]
        words = np.concatenate([np.zeros(0, np.uint64), *own])
        return Vector(len(words), words=words)

    def joint(self, work: Work) -> Joint:
        return _SharedProgram(self, work)

    def read(self, stored: bytes) -> StoredRelease:
        return StoredRelease.of_cells(stored, self.length)


class _SharedProgram(SharedRun):
    """The steps of a program, over the owners' cells."""

    def __init__(self, task: ProgramTask, work: Work) -> None:
        super().__init__(work, task.body.words(work.file), task.length)
        self._task = task

    def computed(self, engine: Engine, words: Mapping[str, Arithmetic]) -> Arithmetic:
        self._work.enter("compute")
        inputs: dict[str, SharedInts] = {}
        taken = dict.fromkeys(words, 0)
        for name, cells in self._task.body.inputs.items():
            start = taken[cells.owner]
            stop = taken[cells.owner] = start + cells.length
            inputs[name] = SharedInts(engine, words[cells.owner].piece(slice(start, stop)), cells.bound)
        with engine.step("compute"):
            result = evaluated(self._task.body.result, inputs)
        assert isinstance(result, SharedInts)
        return result.words.map(np.ravel)

    def noised(self, engine: Engine, cells: Arithmetic) -> Arithmetic:
        noise = self._task.noise
        return cells if noise is None else cells + laplace_noise(engine, (noise.coins,), (len(cells),))
