"""Answers that follow from stored releases: offered before paying, and made without reading a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dp.accounting.budget import summed
from dp.accounting.ledger import BudgetLedger, StoredAnswer
from dp.errors import InvalidArgument, SparkMpcError
from dp.execution.one_lake import Source, release_key
from dp.execution.release import Release, StoredRelease
from dp.planning.derivable import Derived, derive
from dp.planning.explanation import FreeAnswers
from dp.planning.plan import Plan
from dp.planning.query import Query
from dp.planning.stored import StoredPlan

__all__ = ["release_from", "without_paying"]


def without_paying(plan: Plan, source: Source, ledger: BudgetLedger) -> FreeAnswers:
    """What stored releases answer already, for `explain_plan`; reads no row and no release.

    Args:
        plan: what is asked, and at which price otherwise.
        source: of which rows.
        ledger: that of their owner; nothing in it changes.
    """
    stored = ledger.stored_releases(source.name, source.data_version)
    key = release_key(plan, {source.name: source.data_version})
    same = next((each.number for each in stored if each.release_key == key), None)
    return FreeAnswers(same, tuple(_offers(plan.query, source, stored)))


def release_from(number: int, query: Query, source: Source, ledger: BudgetLedger) -> Release:
    """Answer a question from a stored release; see `PrivateQuery.from_release`."""
    stored = {each.number: each for each in ledger.stored_releases(source.name, source.data_version)}
    if number not in stored:
        what = f"a stored release of {source.name!r} at version {source.data_version!r}"
        has = f"there are {sorted(stored)}" if stored else "there is none"
        raise InvalidArgument("release", number, f"give the number of {what}; {has}")
    derived = derive(query, StoredPlan.read(stored[number], source.name, source.data_version))
    data = ledger.stored_release(stored[number].release_key)
    if data is None:
        raise SparkMpcError(f"release {number} is listed in ledger {ledger.ledger_id}, and is not stored there")
    nothing = summed((), ledger.capacity)
    return Release.of(derived, StoredRelease.of_public_keys(data), source.spark, nothing, paid_before=True)


def _offers(query: Query, source: Source, stored: Sequence[StoredAnswer]) -> list[Derived]:
    """How a question follows from stored releases; whole answers first, those of small error first."""
    found = [derived for each in stored if (derived := _if_it_follows(query, source, each)) is not None]
    return sorted(found, key=lambda derived: (derived.only != "", _log_error(derived)))


def _if_it_follows(query: Query, source: Source, stored: StoredAnswer) -> Derived | None:
    try:
        return derive(query, StoredPlan.read(stored, source.name, source.data_version))
    except InvalidArgument:
        return None


def _log_error(derived: Derived) -> float:
    errors = derived.expected_errors(0.95).values()
    return sum(math.log(error.half_width or math.ulp(0)) for error in errors)
