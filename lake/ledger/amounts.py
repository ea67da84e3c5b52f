"""Exact amounts as the text that a ledger stores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

from dp.accounting.budget import Budget, budget_from_json, budget_to_json, left_after
from dp.errors import InvalidArgument

__all__ = [
    "added",
    "iso",
    "least",
    "nothing_like",
    "read_budget",
    "require_capacity",
    "share_of",
    "taken",
    "within",
    "write_budget",
]


@lru_cache(maxsize=4096)
def write_budget(budget: Budget) -> str:
    """Exact and canonical: equal budgets are equal texts."""
    return json.dumps(budget_to_json(budget), sort_keys=True)


@lru_cache(maxsize=4096)
def read_budget(text: str) -> Budget:
    """What `write_budget` wrote.

    Raises:
        InvalidArgument: an amount below zero, or a delta that is not below 1: see `require_capacity`.
    """
    return budget_from_json(json.loads(text))


def require_capacity(parameter: str, budget: Budget) -> None:
    """What a ledger is to keep can be read again: nobody could open one that holds anything else.

    Raises:
        InvalidArgument: an amount below zero, as what remains of a Renyi budget may have; or a delta that is no
            probability below 1, as a sum may have.
    """
    amounts = budget.amounts
    if any(amount < 0 for amount in amounts.values()):
        remedy = "no amount is below zero: of what remains, leave out the orders that are used up"
        raise InvalidArgument(parameter, str(budget), remedy)
    if amounts.get("delta", 0) >= 1:
        raise InvalidArgument(parameter, str(budget), 'delta is a probability below 1, such as "1e-6"')


def nothing_like(budget: Budget) -> Budget:
    """No amount, of the same kind."""
    return budget.of_amounts(dict.fromkeys(budget.amounts, Fraction(0)))


def added(one: Budget, other: Budget) -> Budget:
    """Their sum; both of one kind."""
    mine, theirs = one.amounts, other.amounts
    return one.of_amounts({name: amount + theirs[name] for name, amount in mine.items()})


def taken(whole: Budget, *parts: Budget) -> Budget:
    """What is left of `whole`; negative amounts only at orders of a Renyi budget."""
    return left_after(whole, *parts)


def within(one: Budget, other: Budget) -> bool:
    """Whether no amount of `one` is greater, at any order."""
    return all(amount <= other.amounts[name] for name, amount in one.amounts.items())


def least(budgets: Iterable[Budget]) -> Budget:
    """The least of each amount; of one budget at least, all of one kind."""
    first, *others = budgets
    amounts = first.amounts
    for other in others:
        amounts = {name: min(amount, other.amounts[name]) for name, amount in amounts.items()}
    return first.of_amounts(amounts)


def share_of(budget: Budget, share: Fraction) -> Budget:
    """So much of every amount; 0 <= share <= 1."""
    if share == 1:
        return budget
    return budget.of_amounts({name: amount * share for name, amount in budget.amounts.items()})


def iso(seconds: float) -> str:
    """A time for people: ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
