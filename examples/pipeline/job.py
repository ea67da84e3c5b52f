"""Two steps share a week's budget with whoever else works on it: each claims, and pays for what it releases.

Every day of the table is a private block with a budget of its own. A step that loses a race asks again. A pipeline that
is killed runs again under the same name: what it had released is free, what it had claimed and not used comes back.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from spark_mpc import dp, lake

from ..support.jobs import small_session
from ..support.lakes import VERSION, write_table
from ..support.one_lake import lake_options, workplace
from ..support.pictures import stack
from . import data

__all__ = ["BLOCKS", "STEPS", "Step", "main", "open_ledger", "paid", "released", "run"]

BLOCKS = lake.Blocks.every("1 day", "admitted", since=data.SINCE, name="stays")
WEEK = (lake.TIME >= data.SINCE) & (lake.TIME < "2026-03-09")
FROM_WEDNESDAY = (lake.TIME >= "2026-03-04") & (lake.TIME < "2026-03-09")
OF_A_DAY = "1"
CLAMPS = {"age": (0, data.MOST_AGE), "urgent": (0, 1), "hours": (0, data.MOST_HOURS)}

RIVAL = "0.7"

_LEASE_SECONDS = 10.0  # how soon the claim of a process that was killed comes back
_PATIENCE_SECONDS = 1.0
_TRIES = 20


@dataclass(frozen=True)
class Step:
    """One step of the pipeline.

    Attributes:
        name: of the step; with the pipeline's name it makes its claim idempotent.
        days: which it reads, and pays.
        ask: the question, of the rows that were claimed.
        tell: prints the answer.
    """

    name: str
    days: lake.Selector
    ask: Callable[[dp.PrivateFrame], dp.PrivateQuery]
    tell: Callable[[dp.Release], None]


def by_ward(stays: dp.PrivateFrame) -> dp.PrivateQuery:
    """Statistics: stays and their mean length."""
    wards = stays.groupBy("ward", keys=data.WARDS, max_groups=1, max_rows=1)
    return wards.agg(dp.count().alias("stays"), dp.mean("hours", 0, data.MOST_HOURS).alias("hours"))


def model(stays: dp.PrivateFrame) -> dp.PrivateQuery:
    """A linear model's sufficient statistics: the covariances of all columns."""
    return stays.agg(dp.covariance(tuple(CLAMPS), CLAMPS).alias("covariance"), max_rows=1)


def tell_slopes(release: dp.Release) -> None:
    """Solve the normal equations: from what was released, so it costs nothing."""
    matrix = release.answers.accuracy.to_pandas()["value"].to_numpy().reshape(len(CLAMPS), len(CLAMPS))
    slopes = np.linalg.solve(matrix[:-1, :-1], matrix[:-1, -1])
    click.echo(f"  hours = ... + {slopes[0]:.2f} x age + {slopes[1]:.1f} x urgent   (made up with 0.80 and 30.0)")


STEPS = (
    Step("statistics", WEEK, by_ward, lambda release: release.show()),
    Step("model", FROM_WEDNESDAY, model, tell_slopes),
)


def released(
    step: Step,
    pipeline: str,
    table: lake.Table,
    ledger: lake.Ledger,
    epsilon: Fraction,
    *,
    granted: Callable[[Step], None],
) -> dp.Release:
    """Claim, ask and pay; a lost race is tried again, and what was released before is free.

    Args:
        step: which.
        pipeline: the name under which it runs: the same name resumes.
        table: what it reads, block by block.
        ledger: which pays.
        epsilon: of each block.
        granted: called with the claim in hand.

    Raises:
        BudgetExceeded: no budget came free in time.
    """
    query = step.ask(table.private(step.days))
    for attempt in range(_TRIES):
        if query.explain(epsilon, ledger=ledger).free_from is not None:
            return query.release(epsilon, ledger=ledger)
        try:
            with ledger.claim(
                table.blocks,
                step.days,
                demand=dp.PureDP(epsilon),
                timeout_seconds=_PATIENCE_SECONDS,
                owner=pipeline,
                purpose=step.name,
                request_id=f"{pipeline}/{step.name}/{attempt}",
                lease_seconds=_LEASE_SECONDS,
            ) as claim:
                granted(step)
                return step.ask(table.private(claim)).release(epsilon, ledger=claim)
        except lake.ClaimLost:
            continue  # made by an earlier run, and ended
        except dp.BudgetExceeded:
            click.echo(f"  {step.name}: not granted in time, attempt {attempt + 1}")
    raise dp.BudgetExceeded(f"step {step.name!r} found no budget in {_TRIES} attempts: ask the steward")


def run(spark: SparkSession, folder: Path, epsilon: Fraction, pipeline: str, crash: str | None = None) -> None:
    """All steps, beside somebody who holds the budget when they begin.

    Args:
        spark: a session with Delta.
        folder: of table and ledger.
        epsilon: of each step, on each day.
        pipeline: its name.
        crash: the step in which the process kills itself, with its claim in hand; None lets it finish.
    """
    write_table(spark, data.stays, data.SCHEMA, folder / "stays")
    unit = dp.window("patient", "admitted", "1 day")
    table = lake.Table.forPath(spark, folder / "stays", unit=unit, version=VERSION, max_units=10**5, blocks=BLOCKS)
    with open_ledger(folder) as ledger:
        rival = _rival(folder)
        for step in STEPS:
            release = released(step, pipeline, table, ledger, epsilon, granted=_die if step.name == crash else _live)
            click.echo(f"\n{step.name}: {'free, answered from the ledger' if release.paid_before else 'paid'}")
            step.tell(release)
        rival.join()
        _show(ledger)


def open_ledger(folder: Path) -> lake.Ledger:
    """The ledger; the first time, its steward lays the table out in days."""
    path = folder / "ledger.sqlite"
    if path.exists():
        return lake.Ledger.open(path)
    ledger = lake.Ledger.create(path, capacity=dp.PureDP(3))
    steward = lake.Steward(ledger)
    steward.lay_out(BLOCKS, capacity=dp.PureDP(OF_A_DAY))
    steward.schedule(lake.DPF(lake.AtOnce()))
    return ledger


def _rival(folder: Path) -> threading.Thread:
    """Somebody who holds most of the week's budget for a moment, if there is so much, and gives it back unused."""
    looked = threading.Event()

    def hold() -> None:
        with lake.Ledger.open(folder / "ledger.sqlite") as ledger, suppress(dp.BudgetExceeded):
            demand = dp.PureDP(RIVAL)
            with ledger.claim(BLOCKS, WEEK, demand=demand, owner="rival", lease_seconds=_LEASE_SECONDS):
                looked.set()
                time.sleep(2 * _PATIENCE_SECONDS)
        looked.set()

    thread = threading.Thread(target=hold, name="rival", daemon=True)
    thread.start()
    looked.wait()
    return thread


def _live(_step: Step) -> None:
    """Go on."""


def _die(step: Step) -> None:
    click.echo(f"  {step.name}: killed with its claim in hand")
    os.kill(os.getpid(), signal.SIGKILL)


def _show(ledger: lake.Ledger) -> None:
    click.echo("\nThe ledger: every day pays for itself")
    for block in ledger.blocks():
        if block.layout:
            click.echo(f"  {block.name}  consumed {block.consumed}, left {block.left}")


def paid(ledger: lake.Ledger) -> pd.DataFrame:
    """What each question took of each day: a row a day, a column a question, in units of epsilon."""
    entries = [entry for entry in ledger.entries("armed", "spent") if entry.release_key]
    cells = [
        {
            "day": block.removeprefix(f"{BLOCKS.name}/"),
            "asked": entry.purpose,
            "epsilon": float(entry.price.amounts["epsilon"]),
        }
        for entry in entries
        for block in entry.blocks
    ]
    asked = list(dict.fromkeys(entry.purpose for entry in entries))
    return pd.DataFrame(cells).pivot_table("epsilon", "day", "asked", aggfunc="sum", fill_value=0.0)[asked]


@click.command()
@click.option("--name", default="nightly", show_default=True, help="The pipeline's name; the same name resumes.")
@click.option("--crash", type=click.Choice([step.name for step in STEPS]), help="Kill the process in this step.")
@lake_options("pipeline", "0.4")
def main(epsilon: Fraction, output: Path | None, picture: Path, name: str, crash: str | None) -> None:
    """A pipeline whose steps claim, lose races, and resume after a crash."""
    with workplace(output, "The data are made up: a week of hospital stays.\n") as folder:
        run(small_session("pipeline", cores=2), folder, epsilon, name, crash)
        with open_ledger(folder) as ledger:
            days = paid(ledger)
        stack(days, picture, title=f"What each day of the week has paid, of epsilon = {OF_A_DAY}", most=float(OF_A_DAY))
