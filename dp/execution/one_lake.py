"""The path of a query on one lake: reserve (and wait for an approval), local, arm, noise, commit, release."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession

from dp.accounting.budget import Budget
from dp.accounting.ledger import BudgetLedger, new_request_id
from dp.accounting.scratch import ScratchLedger
from dp.errors import InvalidArgument
from dp.execution.candidates import choose, local_candidates
from dp.execution.leases import LEASE_SECONDS, keep_lease
from dp.execution.local import LONG_CELLS, AddNoise, Vector, local_cells, staging_for
from dp.execution.release import Release, StoredRelease
from dp.noise.entropy import os_random
from dp.planning.plan import Plan
from dp.planning.query import canonical, digest

__all__ = ["Source", "paying_ledger", "purpose", "release_key", "release_one_lake"]


@dataclass(frozen=True)
class Source:
    """An owner's rows for one query.

    Attributes:
        spark: the session in which the release appears.
        df: the filtered rows; they may live in another session over the same Spark.
        name: the table's name in the ledger.
        data_version: its pinned version.
        partitions: shuffle partitions of the exchange by unit.
        synthetic: whether the rows are synthetic: nobody has to be protected, and no ledger pays.
        blocks: the private blocks that the rows are of, as the ledger names them; none where the whole budget pays.
        layout: the fingerprint of the rule that cut these blocks; "" without blocks.
    """

    spark: SparkSession
    df: DataFrame
    name: str
    data_version: str
    partitions: int
    synthetic: bool = False
    blocks: tuple[str, ...] = ()
    layout: str = ""


def release_key(plan: Plan, data_versions: dict[str, str]) -> str:
    """What makes two releases the same: every public field of the plan, and the data's versions."""
    return digest({"plan": plan.to_json(), "data_versions": data_versions}).hex()


def purpose(plan: Plan) -> str:
    """What a ledger's entry says of a plan."""
    names = ", ".join(aggregate.name for aggregate in plan.query.aggregates) or "keys"
    return f"{names} by {', '.join(plan.query.by)}" if plan.query.by else names


def paying_ledger(source: Source, ledger: BudgetLedger | None, asked: Budget) -> BudgetLedger:
    """The ledger that a release debits: the owner's; for synthetic rows one that is thrown away.

    Args:
        source: the rows.
        ledger: what the caller gave. Where rows are synthetic only its kind of budget counts, and nothing is debited.
        asked: the guarantee of the release.

    Raises:
        InvalidArgument: rows to protect without a ledger, or with one that forgets.
    """
    if source.synthetic:
        return ScratchLedger.plenty(asked if ledger is None else ledger.capacity)
    if ledger is None or isinstance(ledger, ScratchLedger):
        remedy = "give the owner's ledger: only synthetic rows, as of `synthetic()`, are released without one"
        raise InvalidArgument("ledger", None if ledger is None else type(ledger).__name__, remedy)
    if not hasattr(ledger, "capacity"):
        raise InvalidArgument("ledger", ledger, "open it first: lake.Ledger.open(path)")
    return ledger


def release_one_lake(plan: Plan, source: Source, ledger: BudgetLedger, staging: str | None) -> Release:
    """Run a plan on one owner's rows; see `PrivateQuery.release`."""
    key = release_key(plan, {source.name: source.data_version})
    price = plan.price(ledger.capacity)
    stored = ledger.stored_release(key)
    if stored is not None:
        made = StoredRelease.from_bytes(stored, plan)
    else:
        with staging_for(plan.length, source.spark, staging) as directory:
            made = _paid_release(plan, source, ledger, key, directory)
    release = Release.of(plan, made, source.spark, price, paid_before=stored is not None)
    return replace(release, synthetic=source.synthetic)


def _paid_release(plan: Plan, source: Source, ledger: BudgetLedger, key: str, directory: str) -> StoredRelease:
    run_id = secrets.token_hex(32)
    claim = ledger.reserve(
        request_id=new_request_id(),
        price=plan.price(ledger.capacity),
        table=source.name,
        data_version=source.data_version,
        release_key=key,
        run_id=run_id,
        purpose=purpose(plan),
        lease_seconds=LEASE_SECONDS,
        blocks=source.blocks,
        layout=source.layout,
    )
    prepare = _vector if plan.selection is None else _candidates
    with keep_lease(ledger, claim) as lease:
        ledger.await_approval(claim)
        draw = prepare(plan, source, directory)
    armed = lease.claim  # nobody renews it any more
    ledger.arm(armed, b"")  # nothing to resume from: on one lake the noise is drawn after this, once
    made = draw(run_id)
    ledger.commit(armed, made.to_bytes(), plan=canonical(plan.to_json()).decode())
    return made


def _vector(plan: Plan, source: Source, directory: str) -> Callable[[str], StoredRelease]:
    """Exact cells of public groups, and what is to be drawn once they are paid for."""
    cells = local_cells(source.df, plan, partitions=source.partitions)
    long_cells = plan.length if plan.chooses else LONG_CELLS
    exact = Vector.of_cells(cells, plan.length, partitions=source.partitions, long_cells=long_cells).staged(directory)
    if exact.words is not None:
        words = exact.words
        return lambda run_id: StoredRelease(run_id, plan.noised(words, os_random))
    return lambda run_id: StoredRelease(run_id, exact.map(AddNoise(plan)).staged(directory).collect())


def _candidates(plan: Plan, source: Source, directory: str) -> Callable[[str], StoredRelease]:
    """Exact cells of groups that nobody may know yet, and what is to be drawn once they are paid for."""
    _ = directory  # candidates are held by the driver
    candidates = local_candidates(source.df, plan, partitions=source.partitions)

    def draw(run_id: str) -> StoredRelease:
        chosen = choose(plan, candidates, os_random)
        return StoredRelease(run_id, chosen.plan.noised(chosen.words, os_random), chosen.plan.keys)

    return draw
