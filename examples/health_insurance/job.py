"""Does cost sharing keep people from the doctor? Three (or six) insurers find out without pooling a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import click
from pyspark.sql import SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake

from ..support.cells import beside_truth, cells_of, matrix_text, table_text
from ..support.jobs import (
    Answers,
    Example,
    protocol_option,
    run_local,
    run_options,
    run_party,
    run_processes,
    show_ledgers,
    small_session,
)
from ..support.lakes import VERSION, write_table
from . import data
from .picture import save_picture

__all__ = ["ask", "example", "main"]

USE, VISITS = "use of care by coinsurance", "visits by plan"


def ask(
    study: mpc.Study, claims: lake.Table | Mapping[str, lake.Table], epsilon: Fraction, delta: Fraction
) -> Mapping[str, dp.Release]:
    """The two questions. Every insurer runs these lines, over its own rows.

    A person has one plan and at most five years, so one group and five rows of each person are all there are. Of the
    budget, 3/4 go to the first question. There, mean visits and the number of rows (which every mean needs, and which
    gets the greatest weight among those that need it) are worth most: they show what the experiment is about.
    """
    persons = study.contribute("claims", claims, overlap=mpc.DISJOINT)
    use = persons.groupBy("coins", keys=data.COINSURANCE, max_groups=1, max_rows=5).agg(
        dp.count_units().alias("people").weight(2),
        dp.count().alias("person_years"),
        dp.sum("mdvis", 0, 20).alias("visits"),
        dp.mean("mdvis", 0, 20).alias("mean_visits").weight(10),
        dp.sum("meddol", 0, 2000, missing=0).alias("dollars"),
        dp.mean("meddol", 0, 2000, missing=0).alias("mean_dollars").weight(5),
    )
    visits = persons.groupBy("plan", keys=data.PLANS, max_groups=1, max_rows=5).agg(
        dp.histogram("mdvis", data.EDGES).alias("person_years")
    )
    click.echo(use.explain(epsilon * 3 / 4, delta))
    return {USE: use.release(epsilon * 3 / 4, delta), VISITS: visits.release(epsilon / 4, delta)}


def claims_table(spark: SparkSession, insurer: str, folder: Path, *, sites: Mapping[str, Sequence[int]]) -> lake.Table:
    """An insurer's own Delta table, written on the first run."""
    write_table(spark, lambda: data.read(sites[insurer]), data.SCHEMA, folder / "claims")
    return lake.Table.forPath(
        spark, str(folder / "claims"), unit="zper", null_units="drop", version=VERSION, max_units=10**6
    )


def example(parties: int, epsilon: Fraction, protocol: str = "additive") -> Example:
    """The job for so many insurers at a price."""
    sites = data.insurers(parties)
    table = partial(claims_table, sites=sites)
    cells = {USE: partial(cells_of, key="coins"), VISITS: partial(cells_of, key="plan", bins=data.BINS)}
    return Example(str(__package__), tuple(sites), epsilon, protocol, table, ask, cells)


def report(answers: Answers, picture: Path, subtitle: str) -> None:
    """Print what was released beside the pooled truth, which is computed here from the raw file, and draw it."""
    use = beside_truth(answers[USE], data.pooled_truth())
    visits = beside_truth(answers[VISITS], data.pooled_histogram())
    click.echo(f"\n{table_text(use, key='coinsurance', decimals={'mean_visits': 2})}")
    click.echo(f"\nperson-years by number of visits: released (pooled truth), ±{visits['stddev'].iloc[0]:,.0f}")
    click.echo(matrix_text(visits, key="plan"))
    save_picture(use[use["name"] == "mean_visits"], picture, subtitle=subtitle)
    click.echo(f"\nPicture: {picture}")


@click.command()
@click.option("--parties", type=click.Choice(["3", "6"]), default="3", show_default=True, help="Number of insurers.")
@protocol_option
@run_options
def main(*, parties: str, epsilon: Fraction, protocol: str, local: bool, me: str | None, output: Path) -> None:
    """Cost sharing and doctor visits: the RAND Health Insurance Experiment, asked again without pooling a row."""
    job = example(int(parties), epsilon, protocol)
    if me is not None:
        run_party(job, output, me)
        return
    home = output / f"{'local' if local else 'processes'}-{parties}{job.suffix}"
    if local:
        answers = job.answers(run_local(job, small_session(job.module, cores=2), home))
    else:
        answers = run_processes(job, home, ("--parties", parties, "--epsilon", str(epsilon), "--protocol", protocol))
    report(answers, home / "visits_by_coinsurance.png", f"{parties} insurers, epsilon = {epsilon}, no row pooled")
    show_ledgers(job, home)
