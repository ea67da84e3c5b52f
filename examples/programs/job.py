"""What both programs share: three insurers, a table each, and two ways to open a result: with noise, or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click
import pandas as pd

import spark_mpc as mpc
from spark_mpc import lake

from ..health_insurance import data
from ..health_insurance.job import claims_table
from ..support.jobs import Example, run_local, run_options, run_party, run_processes, show_ledgers, small_session

__all__ = ["INSURERS", "Build", "command", "example", "pooled"]

INSURERS = data.insurers(3)
RESULT = "result"

Build = Callable[[mpc.FederatedFrame], mpc.Program]
"""Contributed rows -> the program over them."""


def ask(
    study: mpc.Study,
    claims: lake.Table | Mapping[str, lake.Table],
    epsilon: Fraction,
    delta: Fraction,
    *,
    build: Build,
    disclosure: str,
) -> Mapping[str, Any]:
    """Every insurer runs these lines, over its own rows. Exact openings need every owner's policy file to list them."""
    program = build(study.contribute("claims", claims, overlap=mpc.DISJOINT))
    if disclosure:
        click.echo(program.explain(disclosure=disclosure))
        return {RESULT: program.disclose(disclosure)}
    click.echo(program.explain(epsilon, delta))
    return {RESULT: program.release(epsilon, delta)}


def cells(release: mpc.ProgramRelease) -> pd.DataFrame:
    """One row for each number."""
    table = release.table.to_pandas()
    return table.assign(key=table["cell"].astype(str), name=release.body.name)[
        ["key", "name", "value", "stddev", "lower", "upper"]
    ]


def example(module: str, build: Build, epsilon: Fraction, disclosure: str) -> Example:
    """The job at a price, or as a disclosure."""
    return Example(
        module,
        tuple(INSURERS),
        epsilon,
        "rep3",
        partial(claims_table, sites=INSURERS),
        partial(ask, build=build, disclosure=disclosure),
        {RESULT: cells},
    )


def command(module: str, build: Build, truth: Callable[[], int]) -> click.Command:
    """The command line of one program.

    Args:
        module: what `python -m` runs.
        build: the program.
        truth: what one database of all rows would say.
    """

    @click.command(help=f"{build.__doc__}")
    @click.option("--exact", "disclosure", default="", metavar="NAME", help="Open without noise, as a disclosure.")
    @run_options
    def main(*, disclosure: str, epsilon: Fraction, local: bool, me: str | None, output: Path) -> None:
        job = example(module, build, epsilon, disclosure)
        if me is not None:
            run_party(job, output, me)
            return
        home = output / f"{module.rpartition('.')[2]}-{'local' if local else 'processes'}"
        if local:
            answers = job.answers(run_local(job, small_session(module, cores=2), home))
        else:
            options = ("--epsilon", str(epsilon), *(("--exact", disclosure) if disclosure else ()))
            answers = run_processes(job, home, options)
        (row,) = answers[RESULT].to_dict("records")
        half = (row["upper"] - row["lower"]) / 2
        click.echo(f"\n{row['name']}: {row['value']:,} +- {half:,.0f} (pooled truth: {truth():,})")
        show_ledgers(job, home)

    return main


def pooled() -> pd.DataFrame:
    """All rows, with the insurer of each: nobody has them, but for this example's truth."""
    return pd.concat(data.read(sites).assign(insurer=name) for name, sites in INSURERS.items())
