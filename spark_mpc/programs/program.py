"""A program of one's own: a function of several parties' secret integers, released like a query, or disclosed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dp.accounting.budget import ApproxDP
from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.explanation import Explanation
from dp.planning.facts import PublicFacts
from dp.planning.plan import guarantee
from lake.errors import DisclosureRefused
from spark_mpc.federated_frame import FederatedFrame
from spark_mpc.party import Party
from spark_mpc.programs.expressions import SecretBits, SecretInts, described, evaluated, inputs_of
from spark_mpc.programs.inputs import SecretCells
from spark_mpc.programs.plan import Body, ProgramNoise, program_noise
from spark_mpc.programs.release import ProgramRelease
from spark_mpc.programs.task import ProgramTask
from spark_mpc.protocols.plain import Plain
from spark_mpc.run import Outcome, run_party, run_together
from spark_mpc.shared.ints import SharedInts, shared_ints
from spark_mpc.sums.replicated import Replicated

__all__ = ["Program", "program"]

_SHOWN_STEPS = 40


@dataclass(frozen=True, eq=False)
class Program:
    """Steps over secret integers, checked and bounded; made by `program`. `explain` is free; `release` pays.

    Attributes:
        body: what is computed, on whose cells.
        frame: what was contributed.
    """

    body: Body
    frame: FederatedFrame = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is public of the program but its price, hexadecimal: what a policy file lists."""
        return self.body.fingerprint

    def explain(
        self,
        epsilon: Exact | None = None,
        delta: Exact = 0,
        *,
        disclosure: str = "",
        recipients: Sequence[str] | None = None,
    ) -> Explanation:
        """Inputs, sensitivity, price, expected error, protocol cost and leakage, before any row is read.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 < delta < 1, exact.
            disclosure: in place of both: the name under which the result would be opened without noise.
            recipients: the parties to which the result is opened; default: all.

        Raises:
            InvalidArgument: an impossible guarantee, one beside a disclosure, or a result that could wrap.
        """
        means, body = self.frame.means, self.body
        opened_to, noise = means.recipients(recipients), self._noise(epsilon, delta, disclosure)
        cost = body.cost(means.file, opened_to, noise)
        facts = _facts(self.frame)
        steps = described(body.result)
        sections = {
            "Program": (
                f"{body.name}, fingerprint {body.fingerprint}",
                f"{body.federation}; contribution {body.contribution!r}",
                *(f"{name}: {cells.description}" for name, cells in body.inputs.items()),
            ),
            "Steps": (
                *steps[:_SHOWN_STEPS],
                *([f"and {len(steps) - _SHOWN_STEPS} more"] if len(steps) > _SHOWN_STEPS else []),
            ),
            "Sensitivity": (
                f"privacy unit: {', '.join(facts.unit) or 'every row by itself'}"
                + (f", any {facts.group_size} together" if facts.group_size > 1 else ""),
                f"one unit, added or removed, moves the result by at most {body.sensitivity:,} in all (L1)",
                *(f"at {party}: {change.total:,}" for party, change in sorted(body.result.changes.items())),
                f"one unit is at {body.parties_per_unit} part(ies) at most",
            ),
            **(_price(body, noise) if noise else self._permission(disclosure, opened_to)),
            "Protocol": (
                f"rep3, {len(means.file.parties)} parties, {Replicated().trust(means.file)}",
                f"{cost.rounds} rounds, {max(cost.sent_bytes):,} bytes of shares sent by a party",
            ),
            "Leaks": (
                "the program, the bounds and everything else on this page; the parties' names and data versions",
                f"{body.cells} cells, whatever the data; timing is not hidden",
                f"the result is opened to {', '.join(opened_to)}",
            ),
        }
        return Explanation(sections)

    def release(
        self, epsilon: Exact, delta: Exact, *, recipients: Sequence[str] | None = None
    ) -> ProgramRelease | None:
        """Run the program with the other parties, who run it too, and open its result with noise.

        What was released before, on the same versions of the data, is answered for free.

        Args:
            epsilon: > 0, exact: "0.1".
            delta: 0 < delta < 1, exact.
            recipients: the parties to which the result is opened; default: all.

        Returns:
            The release; None at a party that is no recipient.

        Raises:
            InvalidArgument: an impossible guarantee, or a result that could wrap; nothing is paid.
            BudgetExceeded: this party's ledger has less left; nobody has paid.
            Disagreement: a peer means something else; nothing was shared or paid.
            PeerLost, AbortedByPeer: ledgers that had armed have paid in full, the others nothing; run it again.

        Guarantees: the release satisfies the guarantee towards any coalition without two compute parties: noise is
            discrete Laplace of the program's sensitivity, drawn under sharing and known to nobody.
        Leaks: to recipients the release; to all parties what `explain` lists: the program, bounds, data versions, and
            when each party is done.
        Cost: rounds and bytes as `explain` counts them.
        """
        return self._run(self._noise(epsilon, delta, ""), "", recipients)

    def disclose(self, name: str, *, recipients: Sequence[str] | None = None) -> ProgramRelease | None:
        """Run the program and open its exact result, if every owner's policy file lists that by name.

        There is no privacy guarantee for what is disclosed, and none of what it tells together with releases. No budget
        is spent: none would be enough. Each ledger records the disclosure.

        Args:
            name: of the disclosure, as the policy files list it, with the program's fingerprint and the recipients.
            recipients: the parties to which the result is opened; default: all.

        Returns:
            The exact result; None at a party that is no recipient.

        Raises:
            InvalidArgument: a name that no policy could list.
            DisclosureRefused: this owner's policy does not list it so; nothing was shared.
            Disagreement, PeerLost, AbortedByPeer: as for `release`; another owner's refusal ends the run, too.

        Leaks: the exact result, to recipients; else as `release`.
        Cost: that of `release` without its noise.
        """
        if not name:
            raise InvalidArgument("name", name, "give the name under which the owners' policy files list it")
        return self._run(None, name, recipients)

    def rehearse(self, **values: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The exact result on integers that were made up, in the clear, in this process: to try a program out.

        Args:
            **values: for each input, as many integers as it has cells, within its bound.

        Returns:
            int64, of the result's shape.

        Raises:
            InvalidArgument: not one array for each input, or one that the input could not be.
        """
        if values.keys() != self.body.inputs.keys():
            raise InvalidArgument("values", sorted(values), f"give integers for each of {sorted(self.body.inputs)}")
        twin = Plain()
        inputs = {
            name: shared_ints(twin, owner=0, values=np.asarray(values[name]), length=cells.length, bound=cells.bound)
            for name, cells in self.body.inputs.items()
        }
        result = evaluated(self.body.result, inputs)
        assert isinstance(result, SharedInts)
        opened = result.open()
        assert opened is not None
        return opened

    def _permission(self, disclosure: str, recipients: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """What an exact opening needs, and whether the owners of this process give it."""

        def said(party: Party) -> str:
            version = self.frame.frames[party.name].source.data_version
            try:
                ProgramTask(self.body, None, disclosure, recipients).require_permission(party.policy, version)
            except DisclosureRefused as refused:
                return f"{party.name}, data version {version}: no. {refused.problem}"
            return f"{party.name}, data version {version}: yes"

        return {
            "Price": (
                f"none: exact, disclosed as {disclosure!r}. No privacy guarantee",
                "every owner's policy file must list it by name, fingerprint and recipients; every ledger records it",
            ),
            "Permission": tuple(map(said, self.frame.means.parties)),
        }

    def _noise(self, epsilon: Exact | None, delta: Exact, disclosure: str) -> ProgramNoise | None:
        if disclosure:
            if epsilon is not None or delta:
                raise InvalidArgument("epsilon", epsilon, "a disclosure is exact: leave epsilon and delta out")
            return None
        asked = guarantee(epsilon, delta)
        if not isinstance(asked, ApproxDP):
            remedy = "noise under sharing is exact but for a delta: give one, such as 1e-9"
            raise InvalidArgument("delta", delta, remedy)
        return program_noise(self.body, asked)

    def _run(
        self, noise: ProgramNoise | None, disclosure: str, recipients: Sequence[str] | None
    ) -> ProgramRelease | None:
        means = self.frame.means
        task = ProgramTask(self.body, noise, disclosure, means.recipients(recipients))

        def run(party: Party) -> Outcome | None:
            return run_party(party, task, self.frame.frames[party.name].source, None)

        outcome = run_together(run, means.parties)
        if outcome is None:
            return None
        return ProgramRelease.of(self.body, noise, disclosure, outcome, means.spark)


def program(
    function: Callable[..., SecretInts | SecretBits], *, name: str | None = None, **inputs: SecretCells
) -> Program:
    """Write down what a function computes on secret integers of several parties. Reads no row, asks no peer.

    Args:
        function: of secret integers, one argument for each input, to secret integers (or truth values, which become
            zeros and ones). It is called once, here; it can use `+ - * @`, comparisons, `& | ^ ~` of truth values,
            `dot`, `sum`, `clipped`, slices, and `spark_mpc.select` in place of `if`.
        name: of the program; default: the function's.
        **inputs: by argument, what `spark_mpc.secret` made; all of one contribution.

    Raises:
        InvalidArgument: a federation without three compute parties, inputs of several contributions, a result that is
            no secret, or a step whose result could wrap around 2^64.

    Guarantees: the sensitivity that `explain` shows bounds what one unit can change, whatever the data are.
    """
    if not inputs:
        raise InvalidArgument("inputs", [], "give the function's arguments: x=mpc.secret(query, of=..., at_most=...)")
    frame = _contribution([cells.query.frame for cells in inputs.values()])
    protocol = frame.means.file.protocol
    if protocol == "additive":
        raise InvalidArgument("protocol", protocol, 'a program needs protocol = "rep3" (or "auto") in the file')
    expressions = {argument: cells.expression(argument) for argument, cells in inputs.items()}
    result = function(**expressions)
    if isinstance(result, SecretBits):
        result = result.to_ints()
    if not isinstance(result, SecretInts) or not result.size.cells:
        raise InvalidArgument("function", type(result).__name__, "return secret integers, at least one")
    if not all(any(used is given for given in expressions.values()) for used in inputs_of(result)):
        raise InvalidArgument("function", "secrets of another program", "use the function's own arguments alone")
    named = name or str(getattr(function, "__name__", "program"))
    overlap = min(frame.parties_per_unit, len(frame.means.file.parties))
    return Program(Body(_federation(frame), frame.name, named, result, dict(inputs), overlap), frame)


def _contribution(frames: Sequence[FederatedFrame]) -> FederatedFrame:
    """What all inputs come from: one table of each party, at one version, with one unit and one declared overlap."""

    def named(one: FederatedFrame) -> tuple[object, ...]:
        versions = {party: rows.source.data_version for party, rows in one.frames.items()}
        units = {(rows.facts.unit, rows.facts.group_size) for rows in one.frames.values()}
        return one.name, one.parties_per_unit, versions, units, one.means

    frame, *others = frames
    if any(named(other) != named(frame) for other in others):
        raise InvalidArgument("inputs", [one.name for one in frames], "take all inputs from one contribution")
    return frame


def _facts(frame: FederatedFrame) -> PublicFacts:
    return next(iter(frame.frames.values())).facts


def _federation(frame: FederatedFrame) -> str:
    file = frame.means.file
    names = ", ".join(peer.name for peer in file.parties)
    return f"federation {file.name!r} of {names}, where {', '.join(file.compute)} compute"


def _price(body: Body, noise: ProgramNoise) -> dict[str, tuple[str, ...]]:
    half = Noise((NoiseTerm(noise.mechanism, 1.0, 1),)).quantile(0.95)
    return {
        "Price": (
            f"{noise.asked} for everything that is released; every owner's ledger pays, in epsilon and delta",
            "neighbours: all rows of one unit, added or removed"
            + (f", at up to {body.parties_per_unit} parties" if body.parties_per_unit > 1 else ""),
        ),
        "Noise": (
            f"discrete laplace of standard deviation {noise.mechanism.stddev:,.4g} in each of {body.cells} cell(s)",
            f"drawn by the protocol, one sample a cell, which nobody knows; for its distance from this law "
            f"delta={float(noise.sampler_delta):.2g} is charged",
        ),
        "Expected error (95%)": (f"each value: +- {half:,.4g}",),
    }
