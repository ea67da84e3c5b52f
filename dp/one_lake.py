"""The path of a query on one lake: reserve, local, arm, noise, commit, release."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from dp.errors import SparkMpcError
from dp.ledger import BudgetLedger, Claim
from dp.local import AddNoise, Vector, local_cells, staging_for
from dp.plan import Plan
from dp.query import digest
from dp.release import Release, StoredRelease

__all__ = ["LEASE_SECONDS", "Source", "given_back", "purpose", "release_key", "release_one_lake"]

LEASE_SECONDS = 3600.0
"""How long a reservation stands if the job that made it dies."""


@dataclass(frozen=True)
class Source:
    """An owner's rows for one query.

    Attributes:
        spark: the session in which the release appears.
        df: the filtered rows; they may live in another session over the same Spark.
        name: the table's name in the ledger.
        data_version: its pinned version.
        partitions: shuffle partitions of the exchange by unit.
    """

    spark: SparkSession
    df: DataFrame
    name: str
    data_version: str
    partitions: int


def release_key(plan: Plan, data_versions: dict[str, str]) -> str:
    """What makes two releases the same: every public field of the plan, and the data's versions."""
    return digest({"plan": plan.to_json(), "data_versions": data_versions}).hex()


def purpose(plan: Plan) -> str:
    """What a ledger's entry says of a plan."""
    names = ", ".join(aggregate.name for aggregate in plan.query.aggregates)
    return f"{names} by {', '.join(plan.query.by)}" if plan.query.by else names


@contextmanager
def given_back(ledger: BudgetLedger, claim: Claim) -> Iterator[None]:
    """What fails inside costs nothing: the unarmed claim is released."""
    try:
        yield
    except BaseException:
        with suppress(SparkMpcError):  # a lease that is over has been given back already
            ledger.release(claim)
        raise


def release_one_lake(plan: Plan, source: Source, ledger: BudgetLedger, staging: str | None) -> Release:
    """Run a plan on one owner's rows; see `PrivateQuery.release`."""
    key = release_key(plan, {source.name: source.data_version})
    price = plan.price(type(ledger.capacity))
    stored = ledger.stored_release(key)
    if stored is not None:
        known = StoredRelease.from_bytes(stored, plan.length)
        return Release.of(plan, known, source.spark, price, paid_before=True)
    run_id = secrets.token_hex(32)
    claim = ledger.reserve(
        request_id=run_id,
        price=price,
        table=source.name,
        data_version=source.data_version,
        release_key=key,
        run_id=run_id,
        purpose=purpose(plan),
        lease_seconds=LEASE_SECONDS,
    )
    made = StoredRelease(run_id, _noised(plan, source, ledger, claim, staging))
    ledger.commit(claim, made.to_bytes())
    return Release.of(plan, made, source.spark, price, paid_before=False)


def _noised(plan: Plan, source: Source, ledger: BudgetLedger, claim: Claim, staging: str | None) -> NDArray[np.uint64]:
    with staging_for(plan.length, source.spark, staging) as directory:
        with given_back(ledger, claim):
            cells = local_cells(source.df, plan, partitions=source.partitions)
            exact = Vector.of_cells(cells, plan.length, partitions=source.partitions).staged(directory)
        ledger.arm(claim, b"")  # nothing to resume from: on one lake the noise is drawn after this, once
        return exact.map(AddNoise(plan)).staged(directory).collect()
