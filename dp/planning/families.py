"""The ways to spend a release's budget: which family of noise, how much for the measures, how much for private keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.accounting.calibration import zcdp_rho
from dp.errors import InvalidArgument
from dp.planning.keys import PrivateKeys
from dp.planning.parts import NoiseParties
from dp.planning.query import Query
from dp.planning.under_sharing import UnderSharing

__all__ = ["Family", "families"]


@dataclass(frozen=True)
class Family:
    """One way to spend the budget: an epsilon for Laplace noise or a rho for Gaussian noise, and the rest for keys.

    Attributes:
        amount: what the measures share out, all shares together being one with the selection's.
        selection_epsilon: for choosing private keys.
        selection_delta: likewise.
    """

    amount: PureDP | Fraction
    selection_epsilon: Fraction = Fraction(0)
    selection_delta: Fraction = Fraction(0)

    @property
    def name(self) -> str:
        """ "laplace" or "gaussian"."""
        return "laplace" if isinstance(self.amount, PureDP) else "gaussian"

    def times(self, factor: Fraction) -> Family:
        """More for the measures, the same for the keys."""
        more = PureDP(self.amount.epsilon * factor) if isinstance(self.amount, PureDP) else self.amount * factor
        return replace(self, amount=more)


def families(asked: Budget, query: Query, noise: NoiseParties) -> list[Family]:
    """The ways that are possible, of those that the query allows.

    Args:
        asked: the guarantee of the release.
        query: its shares, its keys, and the family of noise that it wants.
        noise: who draws it; several parts that must suffice together are Gaussian, coins give Laplace noise.

    Raises:
        InvalidArgument: there is none; it says which guarantee there would be one for.
    """
    if isinstance(noise, UnderSharing):
        return [_under_sharing(asked, query)]
    if isinstance(query.keys, PrivateKeys):
        possible = _with_private_keys(asked, query, query.keys)
    elif isinstance(asked, PureDP):
        if noise.honest > 1:
            remedy = "sums of several parties' parts are Gaussian: give a delta, or let every party add full noise"
            raise InvalidArgument("delta", 0, remedy)
        possible = [Family(asked)]
    elif isinstance(asked, ApproxDP):
        gaussian = Family(zcdp_rho(asked.epsilon, asked.delta))
        possible = [gaussian] if noise.honest > 1 else [Family(PureDP(asked.epsilon)), gaussian]
    elif isinstance(asked, ZCDP):
        possible = [Family(asked.rho)]
    else:
        raise InvalidArgument(
            "guarantee", str(asked), "ledgers count by orders: ask for epsilon, epsilon and delta, or rho"
        )
    wanted = [family for family in possible if query.noise in ("best", family.name)]
    if not wanted:
        remedy = f"this guarantee is given by {possible[0].name} noise: ask for that, or give epsilon with a delta"
        raise InvalidArgument("noise", query.noise, remedy)
    return wanted


def _under_sharing(asked: Budget, query: Query) -> Family:
    """Laplace noise, whose coins are paid with a part of delta."""
    if isinstance(query.keys, PrivateKeys):
        raise InvalidArgument("keys", None, "where noise is drawn under sharing keys are public: give them, or declare")
    if query.noise == "gaussian":
        remedy = "noise drawn under sharing is Laplace noise: ask for that, or let every party add its own (additive)"
        raise InvalidArgument("noise", query.noise, remedy)
    if not isinstance(asked, ApproxDP):
        remedy = (
            "noise drawn under sharing is not exactly Laplace noise, which a small delta pays for: give epsilon with a "
            'delta, such as "1e-9", or let every party add a full sample (additive)'
        )
        raise InvalidArgument("delta", 0, remedy)
    return Family(PureDP(asked.epsilon))


def _with_private_keys(asked: Budget, query: Query, keys: PrivateKeys) -> list[Family]:
    if not isinstance(asked, ApproxDP):
        remedy = 'private keys need a delta beside epsilon, such as delta="1e-6"; or give public keys'
        raise InvalidArgument("delta", 0, remedy)
    if not query.aggregates:
        return [Family(PureDP(0), asked.epsilon, asked.delta)]
    chosen = asked.epsilon * query.selection_share if keys.epsilon is None else keys.epsilon
    spare = asked.delta if keys.delta is None else keys.delta
    if chosen >= asked.epsilon or spare > asked.delta:
        remedy = f"the selection of keys takes all of {asked}: leave something for the aggregates"
        raise InvalidArgument("private_keys", f"epsilon={chosen}, delta={spare}", remedy)
    left, others = asked.epsilon - chosen, 1 - query.selection_share  # the measures' shares add up to `others`
    laplace = Family(PureDP(left / others), chosen, spare)
    try:
        half = asked.delta / 2 if keys.delta is None else keys.delta
        rho = zcdp_rho(left, asked.delta - half)
    except InvalidArgument:  # too little for Gaussian noise
        return [laplace]
    return [laplace, Family(rho / others, chosen, half)]
