"""Which airlines leave late? Three airports find out together; an aircraft may have been at all of them."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["ask", "example", "main"]

DELAYS = "delays by carrier"


def ask(
    study: mpc.Study, flights: lake.Table | Mapping[str, lake.Table], epsilon: Fraction, delta: Fraction
) -> Mapping[str, dp.Release]:
    """The question. Every airport runs these lines, over its own rows.

    An aircraft has up to 575 flights, at up to three airports. Each airport counts at most 100 of them, chosen at
    random, so that one aircraft adds at most 300 rows to the answer. That drops about a quarter of all flights:
    counts come out low (the report shows by how much), means hardly change, and the noise stays small enough.
    """
    departures = study.contribute("flights", flights, overlap=mpc.Overlap(at_most=3)).where("dep_delay IS NOT NULL")
    query = departures.groupBy("carrier", keys=data.CARRIERS, max_total_rows=data.MAX_FLIGHTS).agg(
        dp.count().alias("flights"),
        dp.mean("dep_delay", *data.CLAMP, missing=0).alias("mean_delay"),
        dp.histogram("dep_delay", data.EDGES).alias("delays").weight("3/4"),
    )
    click.echo(query.explain(epsilon, delta))
    return {DELAYS: query.release(epsilon, delta)}


def flights_table(spark: SparkSession, airport: str, folder: Path, *, days: int) -> lake.Table:
    """An airport's own Delta table, written on the first run."""
    write_table(spark, lambda: data.read(airport.upper(), days), data.SCHEMA, folder / f"flights_{days}_days")
    path = str(folder / f"flights_{days}_days")
    return lake.Table.forPath(spark, path, unit="tailnum", null_units="drop", version=VERSION, max_units=10**5)


def example(days: int, epsilon: Fraction, protocol: str = "additive") -> Example:
    """The job over the first days of the year at a price."""
    parties = tuple(airport.lower() for airport in data.AIRPORTS)
    cells = {DELAYS: partial(cells_of, key="carrier", bins=data.BINS)}
    return Example(str(__package__), parties, epsilon, protocol, partial(flights_table, days=days), ask, cells)


def report(answers: Answers, days: int) -> None:
    """Print what was released beside the pooled truth, with and without the limit of flights of an aircraft."""
    cells = beside_truth(answers[DELAYS], data.pooled_truth(days))
    in_bins = cells["name"].isin(data.BINS)
    click.echo(f"\n{table_text(cells[~in_bins], key='carrier', decimals={'mean_delay': 1})}")
    click.echo(f"\nflights by departure delay: released (bounded truth), ±{cells[in_bins]['stddev'].iloc[0]:,.0f}")
    click.echo(matrix_text(cells[in_bins], key="carrier", truth="bounded truth"))
    counts = cells[cells["name"] == "flights"]
    left_out = 1 - counts["bounded truth"].sum() / counts["truth"].sum()
    click.echo(
        f"\nOf an aircraft, at most {data.MAX_FLIGHTS} flights count at an airport: {left_out:.0%} are dropped.\n"
        "The intervals cover the noise around the bounded truth; they cover neither clamping nor what was left out."
    )


@click.command()
@click.option("--days", type=click.IntRange(1, 365), default=365, show_default=True, help="First days of 2013 only.")
@protocol_option
@run_options
def main(*, days: int, epsilon: Fraction, protocol: str, local: bool, me: str | None, output: Path) -> None:
    """Departure delays by airline over New York's three airports, each with a lake of its own."""
    job = example(days, epsilon, protocol)
    if me is not None:
        run_party(job, output, me)
        return
    home = output / f"{'local' if local else 'processes'}{job.suffix}"
    if local:
        answers = job.answers(run_local(job, small_session(job.module, cores=2), home))
    else:
        answers = run_processes(job, home, ("--days", str(days), "--epsilon", str(epsilon), "--protocol", protocol))
    report(answers, days)
    show_ledgers(job, home)
