"""Privacy budgets as exact values: pure, approximate, zero-concentrated and Renyi differential privacy.

Amounts of one kind add up and compare exactly: ten times "0.1" is "1", not 0.9999999999999999.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from dp.accounting.renyi import RenyiDP
from dp.errors import InvalidArgument
from dp.exact import Exact, rational

__all__ = [
    "ZCDP",
    "ApproxDP",
    "Budget",
    "Guarantee",
    "PureDP",
    "RenyiDP",
    "budget_from_json",
    "budget_to_json",
    "fits",
    "left_after",
    "same_kind",
    "summed",
]


def _amount(value: Exact, parameter: str) -> Fraction:
    amount = rational(value, parameter)
    if amount.numerator < 0:
        raise InvalidArgument(parameter, value, "a privacy budget is never negative")
    return amount


class _Amounts:
    """A budget that its amounts make up, all of which a claim has to fit."""

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        # the hash of a fraction divides modulo a prime, and a ledger looks up every price several times
        return sum(map(hash, map(Fraction.as_integer_ratio, vars(self).values())))

    @classmethod
    def of_amounts(cls, amounts: Mapping[str, Fraction]) -> Self:
        """From what `amounts` returned, exact fractions; none is negative."""
        made = cls.__new__(cls)
        usual = amounts.keys() == cls.__annotations__.keys() and amounts.get("delta", 0) < 1
        if not usual or any(amount.numerator < 0 for amount in amounts.values()):
            return cls(**amounts)  # says what is wrong
        vars(made).update(amounts)
        return made

    @property
    def amounts(self) -> dict[str, Fraction]:
        """Every amount by its name."""
        return dict(vars(self))

    def fits_in(self, left: Self) -> bool:
        """Whether a claim of this price may be granted where so much is left."""
        room = left.amounts
        return all(amount <= room[name] for name, amount in vars(self).items())


@dataclass(frozen=True, init=False, eq=False)
class PureDP(_Amounts):
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


@dataclass(frozen=True, init=False, eq=False)
class ApproxDP(_Amounts):
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


@dataclass(frozen=True, init=False, eq=False)
class ZCDP(_Amounts):
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


Guarantee = PureDP | ApproxDP | ZCDP
"""What a release can be asked to satisfy."""

Budget = Guarantee | RenyiDP
"""What a ledger can count in."""

_KINDS: dict[str, type[Budget]] = {"pure": PureDP, "approx": ApproxDP, "zcdp": ZCDP, "renyi": RenyiDP}
_NAMES = {cls: kind for kind, cls in _KINDS.items()}
_READERS: dict[str, Callable[[Mapping[str, str]], Budget]] = {
    "pure": lambda amounts: PureDP(**amounts),
    "approx": lambda amounts: ApproxDP(**amounts),
    "zcdp": lambda amounts: ZCDP(**amounts),
    "renyi": RenyiDP.read,
}


def same_kind(one: Budget, other: Budget) -> bool:
    """Whether two budgets add up: they are of one kind and, where it has orders, of the same orders."""
    if type(one) is not type(other):
        return False
    return not isinstance(one, RenyiDP) or one.amounts.keys() == other.amounts.keys()


def fits(price: Budget, left: Budget) -> bool:
    """Whether a claim may be granted where so much is left; both of one kind."""
    return price.fits_in(left)  # type: ignore[arg-type]


def summed(prices: Iterable[tuple[Budget, int]], like: Budget) -> Budget:
    """The sum of prices, each so many times; nothing, of the same kind as `like`, where there are none."""
    totals = dict.fromkeys(like.amounts, Fraction(0))
    for price, count in prices:
        for name, amount in price.amounts.items():
            totals[name] += amount * count
    return like.of_amounts(totals)


def left_after(capacity: Budget, *spent: Budget) -> Budget:
    """What is left of a capacity, so that all of them add up to it exactly; all of one kind.

    Raises:
        InvalidArgument: they are not; or more was spent than there was, of a kind that never allows it.
    """
    left = capacity.amounts
    for one in spent:
        amounts = one.amounts
        if amounts.keys() != left.keys():
            raise InvalidArgument("spent", one, f"take from {capacity} what has the same amounts: {', '.join(left)}")
        left = {name: amount - part if (part := amounts[name]) else amount for name, amount in left.items()}
    return capacity.of_amounts(left)


def budget_to_json(budget: Budget) -> dict[str, str]:
    """The budget as a JSON object: its kind and each amount as an exact fraction, "1/10"."""
    return {"kind": _NAMES[type(budget)], **{name: str(amount) for name, amount in budget.amounts.items()}}


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
        return _READERS[kind](amounts)
    except TypeError:
        raise InvalidArgument("budget", data, f"give exactly the amounts of a {kind} budget") from None


def _shown(amount: Fraction) -> str:
    short = f"{float(amount):.6g}"
    return short if Fraction(short) == amount else f"{short} ({amount})"
