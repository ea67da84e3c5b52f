"""Renyi differential privacy as an exact value: an epsilon at each of several orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from dp.accounting.calibration import renyi_epsilon
from dp.errors import InvalidArgument
from dp.exact import MARGIN, Exact, exp_above, log_near, rational, rounded

__all__ = ["ORDERS", "RenyiDP"]

ORDERS = tuple(map(Fraction, ("3/2", "7/4", "2", "5/2", "3", "4", "5", "6", "8", "16", "32", "64", "1000000")))
"""The orders that PrivateKube's code keeps."""


@dataclass(frozen=True, init=False)
class RenyiDP:
    """Renyi differential privacy (Mironov 2017) at several orders: epsilons add up order by order.

    As a price it says what a release costs at every order. As a capacity it asks of all releases together that they
    stay within it at one order at least, whichever that will be; every price is deducted at every order, so that what
    remains may be negative at some.

    Args:
        epsilons: order -> epsilon; orders > 1, epsilons >= 0, exact.

    Raises:
        InvalidArgument: no orders, one that is not above 1, or a negative epsilon.
    """

    orders: tuple[Fraction, ...]
    epsilons: tuple[Fraction, ...]

    def __init__(self, epsilons: Mapping[Exact, Exact]) -> None:
        exact = {_order(order): rational(epsilon, "epsilons") for order, epsilon in epsilons.items()}
        if not exact or len(exact) < len(epsilons):
            raise InvalidArgument("orders", list(epsilons), 'give at least one order, and none twice: {"2": "0.1"}')
        if min(exact.values()) < 0:
            raise InvalidArgument("epsilons", str(min(exact.values())), "a privacy budget is never negative")
        self._set(exact)

    @classmethod
    def of(cls, curve: Callable[[Fraction], Fraction], orders: Iterable[Exact] = ORDERS) -> Self:
        """What a curve says at the orders.

        Args:
            curve: an upper bound of the loss at an order, >= 0.
            orders: each > 1, exact.

        Raises:
            InvalidArgument: as the class does.
        """
        exact = [_order(order) for order in orders]
        if len(set(exact)) < len(exact):
            raise InvalidArgument("orders", [str(order) for order in exact], "give every order once")
        return cls({order: curve(order) for order in exact})

    @classmethod
    def capacity(cls, epsilon: Exact, delta: Exact, orders: Iterable[Exact] = ORDERS) -> Self:
        """The capacity of a ledger whose releases all together shall be (epsilon, delta)-differentially private.

        Args:
            epsilon: > 0, exact.
            delta: 0 < delta < 1, exact.
            orders: each > 1, exact.

        Returns:
            epsilon - ln(1 / delta) / (order - 1), rounded down, at every order; 0 where that is negative: nothing
            with a loss at this order fits there.

        Raises:
            InvalidArgument: an epsilon or a delta out of range, or so little epsilon that no order has room.

        Guarantees:
            Releases that were each granted because their sum fitted at some order are (epsilon, delta)-differentially
            private together, however each of them was chosen from the answers before it.
        Source:
            The formula is PrivateKube's (Luo et al. 2021). Which order fits in the end may depend on the answers, so
            the orders share delta; `docs/privacy.md`, section 4.7, shows that this formula leaves each so much that at
            usual sizes nothing has to be taken off. Where it does not, delta is divided by what is missing.
        """
        whole, mass = rational(epsilon, "epsilon"), rational(delta, "delta")
        if whole <= 0 or not 0 < mass < 1:
            raise InvalidArgument("epsilon", f"{epsilon}, delta={delta}", "give epsilon > 0 and 0 < delta < 1")
        asked = cls.of(lambda order: _left_at(order, whole, mass), orders)
        shared = sum((_part_of_delta(order) for order, room in asked._curve.items() if room), Fraction(0))
        made = cls.of(lambda order: _left_at(order, whole, mass / max(shared, Fraction(1))), asked.orders)
        if not any(made.epsilons):
            remedy = "no order has room at this delta: give more epsilon, or greater orders"
            raise InvalidArgument("epsilon", epsilon, remedy)
        return made

    @classmethod
    def of_amounts(cls, amounts: Mapping[str, Fraction]) -> Self:
        """From what `amounts` returned; what remains of a capacity may be negative."""
        return cls._signed({_named_order(name): amount for name, amount in amounts.items()})

    @classmethod
    def read(cls, amounts: Mapping[str, str]) -> Self:
        """A price or a capacity from the text of its amounts.

        Raises:
            InvalidArgument: a name that tells no order, or as the class does.
        """
        return cls({_named_order(name): epsilon for name, epsilon in amounts.items()})

    @property
    def amounts(self) -> dict[str, Fraction]:
        """Every epsilon by a name that tells its order: "epsilon(3/2)"."""
        return {f"epsilon({order})": epsilon for order, epsilon in self._curve.items()}

    def epsilon_at(self, delta: Exact) -> Fraction:
        """An epsilon such that what costs this is (epsilon, delta)-differentially private: of the best order.

        Raises:
            InvalidArgument: a delta outside (0, 1).

        Source:
            Canonne, Kamath and Steinke 2020, section 2.3.
        """
        mass = rational(delta, "delta")
        return min(renyi_epsilon(epsilon, order, mass) for order, epsilon in self._curve.items())

    def fits_in(self, left: RenyiDP) -> bool:
        """Whether a claim of this price may be granted where so much is left: one order has room for it."""
        self._check_orders(left)
        return any(price <= room for price, room in zip(self.epsilons, left.epsilons, strict=True))

    def minus(self, other: RenyiDP) -> RenyiDP:
        """What is left after `other`, exactly: negative at orders that are used up."""
        self._check_orders(other)
        return self._with(mine - theirs for mine, theirs in zip(self.epsilons, other.epsilons, strict=True))

    def __add__(self, other: RenyiDP) -> RenyiDP:
        if not isinstance(other, RenyiDP):
            return NotImplemented
        self._check_orders(other)
        return self._with(mine + theirs for mine, theirs in zip(self.epsilons, other.epsilons, strict=True))

    def __le__(self, other: RenyiDP) -> bool:
        """At every order. Whether a claim fits is another question: see `fits_in`."""
        if not isinstance(other, RenyiDP):
            return NotImplemented
        self._check_orders(other)
        return all(mine <= theirs for mine, theirs in zip(self.epsilons, other.epsilons, strict=True))

    def __str__(self) -> str:
        curve = ", ".join(f"{float(order):g}: {float(epsilon):.4g}" for order, epsilon in self._curve.items())
        return f"renyi epsilon by order {{{curve}}}"

    @property
    def _curve(self) -> dict[Fraction, Fraction]:
        return dict(zip(self.orders, self.epsilons, strict=True))

    @classmethod
    def _signed(cls, curve: Mapping[Fraction, Fraction]) -> Self:
        made = cls.__new__(cls)
        made._set(curve)
        return made

    def _with(self, epsilons: Iterable[Fraction]) -> RenyiDP:
        return self._signed(dict(zip(self.orders, epsilons, strict=True)))

    def _set(self, curve: Mapping[Fraction, Fraction]) -> None:
        orders = tuple(sorted(curve))
        object.__setattr__(self, "orders", orders)
        object.__setattr__(self, "epsilons", tuple(curve[order] for order in orders))

    def _check_orders(self, other: RenyiDP) -> None:
        if self.orders != other.orders:
            remedy = f"budgets of different orders do not add up: use the orders {[str(o) for o in self.orders]}"
            raise InvalidArgument("orders", [str(order) for order in other.orders], remedy)


def _order(value: Exact) -> Fraction:
    order = rational(value, "orders")
    if order <= 1:
        raise InvalidArgument("orders", value, 'an order is above 1, such as "2" or "1.5"')
    return order


def _named_order(name: str) -> Fraction:
    if not (name.startswith("epsilon(") and name.endswith(")")):
        raise InvalidArgument("amounts", name, 'an amount of a Renyi budget is named like "epsilon(3/2)"')
    return _order(name.removeprefix("epsilon(").removesuffix(")"))


def _left_at(order: Fraction, epsilon: Fraction, delta: Fraction) -> Fraction:
    """epsilon - ln(1 / delta) / (order - 1), rounded down; 0 where that is negative."""
    loss = -log_near(delta) * (1 + MARGIN) + MARGIN
    return rounded(max(epsilon - loss / (order - 1), Fraction(0)), math.floor)


def _part_of_delta(order: Fraction) -> Fraction:
    """The part of delta that the releases use up which fit at this order: (1 - 1/a)^(a - 1) / a, rounded up."""
    exponent = (order - 1) * log_near((order - 1) / order)
    return exp_above(exponent + MARGIN * (1 + abs(exponent))) / order
