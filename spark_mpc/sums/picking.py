"""Which protocol answers a query: the one of least noise, as long as what it sends stays within reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dp.errors import InvalidArgument
from dp.planning.plan import NoiseParties, Plan
from spark_mpc.federation_file import FederationFile
from spark_mpc.protocols.cost import Cost
from spark_mpc.sums.base import SumProtocol

__all__ = ["MOST_BYTES", "Picked", "pick"]

MOST_BYTES = 2**30
"""What a party may have to send for the sake of less noise, where the federation leaves the choice to the planner."""


@dataclass(frozen=True)
class Picked:
    """A protocol and its plan.

    Attributes:
        protocol: that answers.
        plan: calibrated for its noise.
        cost: what parties send, in the order of their names.
        why: one line for every protocol that there was to choose from; none where there was no choice.
    """

    protocol: SumProtocol
    plan: Plan
    cost: Cost
    why: tuple[str, ...]


def pick(
    protocols: Sequence[SumProtocol],
    file: FederationFile,
    recipients: tuple[str, ...],
    make: Callable[[NoiseParties], Plan],
) -> Picked:
    """The protocol whose plan has the least noise among those that send at most `MOST_BYTES`.

    Everything that it looks at is public and equal at all parties, so that all pick the same.

    Args:
        protocols: those that the federation allows, at least one; the first of equals is taken.
        file: the federation.
        recipients: to whom the result is opened.
        make: (who adds noise) -> the plan.

    Raises:
        InvalidArgument: none can give the guarantee; as the first of them says.
    """
    made, why, refusals = [], [], []
    for protocol in protocols:
        try:
            plan = make(protocol.noise_parties(file))
        except InvalidArgument as refusal:
            refusals.append(refusal)
            why.append(f"{protocol.name}: {refusal}")
            continue
        cost = protocol.cost(file, recipients, plan)
        made.append(Picked(protocol, plan, cost, ()))
        why.append(f"{protocol.name}: noise of {_spread(plan):,.4g} (mean sd), {max(cost.sent_bytes):,} bytes a party")
    if not made:
        raise refusals[0]
    affordable = [each for each in made if max(each.cost.sent_bytes) <= MOST_BYTES]
    # where all are too much, the cheapest
    best = min(affordable, key=lambda each: _spread(each.plan)) if affordable else min(made, key=_sent)
    return Picked(best.protocol, best.plan, best.cost, tuple(why) if len(protocols) > 1 else ())


def _spread(plan: Plan) -> float:
    """The geometric mean of the measures' standard deviations, all noise parts together."""
    logs = [math.log(max(part.noise.stddev, math.ulp(0)) * math.sqrt(plan.noise.copies)) for part in plan.parts]
    return math.exp(sum(logs) / max(len(logs), 1))


def _sent(picked: Picked) -> int:
    return max(picked.cost.sent_bytes)
