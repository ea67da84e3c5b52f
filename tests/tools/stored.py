"""Stored releases without Spark: questions by region and ward over a table that exists on paper only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import BudgetLedger
from dp.accounting.scratch import ScratchLedger
from dp.execution.one_lake import Source, release_key
from dp.execution.release import StoredRelease
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.derivable import Derived, derive
from dp.planning.facts import PublicFacts
from dp.planning.plan import Plan
from dp.planning.query import Query, canonical
from dp.planning.stored import StoredPlan
from tests.tools.plans import COLUMNS, FACTS

__all__ = ["KEYS", "SOURCE", "TABLE", "VERSION", "a_query", "followed", "plenty", "read_plan", "store", "text_of"]

TABLE, VERSION = "visits", "visits@1"
KEYS = tuple(product(("north", "south"), ("a", "b", "c")))

_BY = ("region", "ward")


class _Tables:
    """Shows releases as the Arrow tables that they are."""

    def createDataFrame(self, table: pa.Table) -> pa.Table:
        return table


_SPARK: Any = _Tables()
_GONE: Any = None

SOURCE = Source(_SPARK, _GONE, TABLE, VERSION, 2)
"""Rows that are gone: whoever touches them gets an error."""


def a_query(
    *aggregates: Aggregate,
    by: Sequence[str] = _BY,
    keys: Any = KEYS,
    bounds: ContributionBounds | None = None,
    facts: PublicFacts = FACTS,
    **fields: Any,
) -> Query:
    """A question; at most four rows of one unit count, wherever they are, unless bounds differ."""
    limits = bounds or ContributionBounds(max_total_rows=4)
    columns = {name: COLUMNS[name] for aggregate in aggregates for name in aggregate.sources}
    return Query(tuple(by), keys, limits, aggregates, facts, columns, **fields)


def plenty(like: Budget | None = None) -> ScratchLedger:
    """A ledger that nothing exhausts, of pure epsilons or of the kind of another budget."""
    return ScratchLedger.plenty(like or PureDP(1))


def text_of(plan: Plan) -> str:
    """The plan as a ledger stores it."""
    return canonical(plan.to_json()).decode()


def store(
    ledger: BudgetLedger, plan: Plan, words: NDArray[np.uint64], *, table: str = TABLE, version: str = VERSION
) -> int:
    """Pay for a release, store it, and give its number."""
    key = release_key(plan, {table: version})
    claim = ledger.reserve(
        request_id=key,
        price=plan.price(ledger.capacity),
        table=table,
        data_version=version,
        release_key=key,
        run_id="ab" * 32,
        purpose="test",
        lease_seconds=60,
    )
    ledger.arm(claim, b"")
    ledger.commit(claim, StoredRelease("ab" * 32, words).to_bytes(), plan=text_of(plan))
    return ledger.stored_releases(table, version)[-1].number


def read_plan(plan: Plan) -> StoredPlan:
    """What a ledger tells of a stored release of this plan."""
    ledger = plenty(plan.guarantee)
    store(ledger, plan, np.zeros(plan.length, np.uint64))
    return StoredPlan.read(ledger.stored_releases(TABLE, VERSION)[0], TABLE, VERSION)


def followed(query: Query, plan: Plan) -> Derived:
    """How a question follows from a release of a plan."""
    return derive(query, read_plan(plan))
