"""How a ledger and an amount are named on the command line, and how our own errors end a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.renyi import ORDERS
from dp.errors import SparkMpcError

__all__ = ["WHERE", "capacity_like", "price_like", "stated", "told"]

P = ParamSpec("P")
R = TypeVar("R")

WHERE = click.argument("path")


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Our own errors end a command with their message; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SparkMpcError as error:
            raise click.ClickException(str(error)) from error

    return run


def stated(epsilon: str | None, delta: str | None, rho: str | None, orders: str | None = None) -> Budget:
    """The budget that the options state, of the kind that they say."""
    if rho is not None and epsilon is None and delta is None and orders is None:
        return ZCDP(rho)
    if epsilon is None or rho is not None:
        raise click.UsageError("give --epsilon, or --epsilon and --delta, or --rho")
    if delta is not None:
        return ApproxDP(epsilon, delta) if orders is None else _renyi(epsilon, delta, orders)
    if orders is not None:
        raise click.UsageError("--orders needs --epsilon and --delta")
    return PureDP(epsilon)


def capacity_like(ledger: Budget, epsilon: str | None, delta: str | None, rho: str | None) -> Budget:
    """What blocks of a ledger can give; on one of Renyi orders an epsilon and a delta, at its orders."""
    if isinstance(ledger, RenyiDP) and epsilon is not None and delta is not None and rho is None:
        return RenyiDP.capacity(epsilon, delta, ledger.orders)
    return stated(epsilon, delta, rho)


def price_like(ledger: Budget, epsilon: str | None, delta: str | None, rho: str | None) -> Budget:
    """What a release may cost; on a ledger of Renyi orders, whatever a release of that epsilon, or rho, costs at most.

    Pure epsilon-DP is epsilon^2/2-zCDP, and rho-zCDP costs rho times the order (Bun and Steinke 2016).
    """
    asked = stated(epsilon, delta, rho)
    if isinstance(ledger, RenyiDP) and isinstance(asked, PureDP):
        most = asked.epsilon
        return RenyiDP.of(lambda order: min(most, order * most**2 / 2), ledger.orders)
    if isinstance(ledger, RenyiDP) and isinstance(asked, ZCDP):
        each = asked.rho
        return RenyiDP.of(lambda order: order * each, ledger.orders)
    return asked


def _renyi(epsilon: str, delta: str, orders: str) -> RenyiDP:
    return RenyiDP.capacity(epsilon, delta, ORDERS if orders == "usual" else orders.split(","))
