"""Privacy budgets as exact values: pure, approximate and zero-concentrated differential privacy.

Amounts of one kind add up and compare exactly: ten times "0.1" is "1", not 0.9999999999999999.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dp.errors import InvalidArgument
from dp.exact import Exact, rational

__all__ = ["ZCDP", "ApproxDP", "Budget", "PureDP", "budget_from_json", "budget_to_json"]


def _amount(value: Exact, parameter: str) -> Fraction:
    amount = rational(value, parameter)
    if amount < 0:
        raise InvalidArgument(parameter, value, "a privacy budget is never negative")
    return amount


@dataclass(frozen=True, init=False)
class PureDP:
    """Pure differential privacy: an amount of epsilon.

    Args:
        epsilon: natural-log privacy loss, >= 0, exact.
    """

    epsilon: Fraction

    def __init__(self, epsilon: Exact) -> None:
        object.__setattr__(self, "epsilon", _amount(epsilon, "epsilon"))

    def __add__(self, other: PureDP) -> PureDP:
        return PureDP(self.epsilon + other.epsilon) if isinstance(other, PureDP) else NotImplemented

    def __le__(self, other: PureDP) -> bool:
        return self.epsilon <= other.epsilon if isinstance(other, PureDP) else NotImplemented

    def minus(self, other: PureDP) -> PureDP:
        """What is left after `other`; never below zero."""
        return PureDP(max(self.epsilon - other.epsilon, Fraction(0)))

    def __str__(self) -> str:
        return f"epsilon={_shown(self.epsilon)}"


@dataclass(frozen=True, init=False)
class ApproxDP:
    """Approximate differential privacy under basic composition: epsilons add, deltas add.

    Args:
        epsilon: natural-log privacy loss, >= 0, exact.
        delta: probability mass outside epsilon, 0 <= delta < 1, exact.
    """

    epsilon: Fraction
    delta: Fraction

    def __init__(self, epsilon: Exact, delta: Exact) -> None:
        object.__setattr__(self, "epsilon", _amount(epsilon, "epsilon"))
        object.__setattr__(self, "delta", _amount(delta, "delta"))
        if self.delta >= 1:
            raise InvalidArgument("delta", delta, 'delta is a probability below 1, such as "1e-6"')

    def __add__(self, other: ApproxDP) -> ApproxDP:
        if not isinstance(other, ApproxDP):
            return NotImplemented
        total = ApproxDP(self.epsilon + other.epsilon, 0)
        object.__setattr__(total, "delta", self.delta + other.delta)  # a sum of deltas may pass 1: still comparable
        return total

    def __le__(self, other: ApproxDP) -> bool:
        if not isinstance(other, ApproxDP):
            return NotImplemented
        return self.epsilon <= other.epsilon and self.delta <= other.delta

    def minus(self, other: ApproxDP) -> ApproxDP:
        """What is left after `other`; never below zero."""
        return ApproxDP(max(self.epsilon - other.epsilon, Fraction(0)), max(self.delta - other.delta, Fraction(0)))

    def __str__(self) -> str:
        return f"epsilon={_shown(self.epsilon)}, delta={_shown(self.delta)}"


@dataclass(frozen=True, init=False)
class ZCDP:
    """Zero-concentrated differential privacy (Bun and Steinke 2016): rhos add.

    Args:
        rho: >= 0, exact; a Gaussian of standard deviation s on a query of L2 sensitivity d costs d^2 / (2 s^2).
    """

    rho: Fraction

    def __init__(self, rho: Exact) -> None:
        object.__setattr__(self, "rho", _amount(rho, "rho"))

    def __add__(self, other: ZCDP) -> ZCDP:
        return ZCDP(self.rho + other.rho) if isinstance(other, ZCDP) else NotImplemented

    def __le__(self, other: ZCDP) -> bool:
        return self.rho <= other.rho if isinstance(other, ZCDP) else NotImplemented

    def minus(self, other: ZCDP) -> ZCDP:
        """What is left after `other`; never below zero."""
        return ZCDP(max(self.rho - other.rho, Fraction(0)))

    def __str__(self) -> str:
        return f"rho={_shown(self.rho)}"


Budget = PureDP | ApproxDP | ZCDP

_KINDS: dict[str, type[PureDP] | type[ApproxDP] | type[ZCDP]] = {"pure": PureDP, "approx": ApproxDP, "zcdp": ZCDP}


def budget_to_json(budget: Budget) -> dict[str, str]:
    """The budget as a JSON object: its kind and each amount as an exact fraction, "1/10"."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(budget, cls))
    return {"kind": kind, **{name: str(amount) for name, amount in vars(budget).items()}}


def budget_from_json(data: dict[str, str]) -> Budget:
    """Read what `budget_to_json` wrote.

    Raises:
        InvalidArgument: an unknown kind, or amounts that do not belong to it.
    """
    kind = data.get("kind", "")
    if kind not in _KINDS:
        raise InvalidArgument("kind", kind, f"a budget is one of {sorted(_KINDS)}")
    amounts = {name: value for name, value in data.items() if name != "kind"}
    try:
        return _KINDS[kind](**amounts)
    except TypeError:
        raise InvalidArgument("budget", data, f"give exactly the amounts of a {kind} budget") from None


def _shown(amount: Fraction) -> str:
    short = f"{float(amount):.6g}"
    return short if Fraction(short) == amount else f"{short} ({amount})"
