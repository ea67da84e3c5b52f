"""Exact amounts as the text that a ledger stores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache

from dp.accounting.budget import Budget, budget_from_json, budget_to_json, left_after

__all__ = ["added", "iso", "least", "nothing_like", "read_budget", "share_of", "taken", "within", "write_budget"]


@lru_cache(maxsize=4096)
def write_budget(budget: Budget) -> str:
    """Exact and canonical: equal budgets are equal texts."""
    return json.dumps(budget_to_json(budget), sort_keys=True)


@lru_cache(maxsize=4096)
def read_budget(text: str) -> Budget:
    """What `write_budget` wrote; amounts of what is left over may be negative."""
    return budget_from_json(json.loads(text))


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
