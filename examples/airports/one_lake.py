"""The same flights in one lake: delays with spread and quantiles, busiest airlines, destinations that nobody listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from spark_mpc import dp, lake

from ..support.cells import tidy
from ..support.jobs import small_session
from ..support.lakes import VERSION, write_table
from ..support.one_lake import Answer, Question, ask, expected_errors, lake_options, open_ledger, workplace
from ..support.pictures import draw
from . import data

__all__ = ["compare_bounds", "main", "questions", "read", "run"]

SCHEMA = (
    "tailnum STRING NOT NULL, origin STRING NOT NULL, dest STRING NOT NULL, carrier STRING NOT NULL, dep_delay BIGINT"
)
DELTA = Fraction(1, 10**6)
MOST_FLIGHTS = 150
"""Of an aircraft, wherever they are; 81% of a year's flights."""

MOST_RANKED = 30
"""Likewise, for quantiles."""

MOST_DESTINATIONS, MOST_THERE = 16, 15
WIDE = (-60, 240)
"""Minutes: the bounds of quantiles, which may be far apart."""

RANKS = ("1/10", "1/4", "3/4", "9/10")
BUSIEST = 5


def read(days: int = 365) -> pd.DataFrame:
    """All airports' flights of the first days of 2013, less those without a tail number: all of them cancelled."""
    rows = pd.concat(data.read(airport, days, SCHEMA) for airport in data.AIRPORTS)
    return rows.dropna(subset="tailnum")


def questions(flights: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> Sequence[Question]:
    """Four questions; an aircraft has up to 575 flights a year, to up to 47 destinations, so that bounds matter.

    Args:
        flights: the table.
        rows: the same in the clear, for the truth.
        epsilon: of each question.
    """
    departures = flights.where("dep_delay IS NOT NULL")
    flown = rows.dropna(subset="dep_delay")
    by_carrier = departures.groupBy("carrier", keys=data.CARRIERS, max_total_rows=MOST_FLIGHTS)
    return (
        Question(
            "Delays by airline: flights, mean, deviation",
            f"{MOST_FLIGHTS} flights of an aircraft count, wherever they are; delays are clamped to {data.CLAMP}.\n"
            "None is missing here, and `missing=0` says so: then the mean shares its count with `count`.",
            by_carrier.agg(
                dp.count().alias("flights"),
                dp.mean("dep_delay", *data.CLAMP, missing=0).alias("mean"),
                dp.stddev("dep_delay", *data.CLAMP, missing=0).alias("stddev"),
            ),
            _delays(flown),
            epsilon,
        ),
        Question(
            "Delays by airport: quantiles",
            f"One noised tree gives all ranks. {MOST_RANKED} flights of an aircraft stand for the others: a fifth\n"
            "of the noise, and busy aircraft, whose delays differ, count for less; `counted` shows by how much.",
            departures.groupBy("origin", keys=data.AIRPORTS, max_total_rows=MOST_RANKED).agg(
                dp.quantiles("dep_delay", RANKS, *WIDE).alias("minutes"),
                dp.median("dep_delay", *WIDE).alias("median"),
            ),
            _quantiles(flown),
            epsilon,
            bins={"minutes": [f"minutes at {rank}" for rank in RANKS]},
        ),
        Question(
            f"Departures by delay, and the {BUSIEST} busiest airlines of each airport",
            "All 16 airlines are counted with one noise; which of them lead is then read off for nothing.",
            departures.groupBy("origin", keys=data.AIRPORTS, max_total_rows=MOST_FLIGHTS).agg(
                dp.histogram("dep_delay", data.EDGES).alias("delay"),
                dp.top_k("carrier", BUSIEST, data.CARRIERS).alias("flights"),
            ),
            pd.concat([_histogram(flown), _airlines(flown)]),
            epsilon,
            bins={"delay": data.BINS},
        ),
        Question(
            "Destinations",
            f"Nobody listed them: they are named if enough aircraft fly there. Of an aircraft, {MOST_DESTINATIONS} "
            f"destinations count\nand {MOST_THERE} flights to each; Gaussian thresholds grow with the root of "
            f"{MOST_DESTINATIONS}.",
            flights.groupBy(
                "dest",
                keys=dp.private_keys(strategy="gaussian"),
                max_groups=MOST_DESTINATIONS,
                max_rows=MOST_THERE,
            ).agg(dp.count_units().alias("aircraft").weight(2), dp.count().alias("flights")),
            _destinations(rows),
            epsilon,
            DELTA,
            most=20,
        ),
    )


def compare_bounds(flights: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> str:
    """What a limit of flights costs in noise, which `explain` says for free, and in flights left out: the truth."""
    sizes, lines = rows.groupby("tailnum").size(), []
    for most in (50, 150, 575):
        query = flights.groupBy("carrier", keys=data.CARRIERS, max_total_rows=most).agg(dp.count())
        kept = sizes.clip(upper=most).sum() / len(rows)
        lines.append(
            f"    max_total_rows={most:<4} {expected_errors(query, epsilon):16} {kept:6.1%} of the flights count"
        )
    return "\n".join(lines)


def _chance(rows: pd.DataFrame, most: int = MOST_FLIGHTS) -> pd.Series[float]:
    """That a flight is among those of its aircraft that count."""
    flights = rows.groupby("tailnum")["tailnum"].transform("size")
    return (most / flights).clip(upper=1.0)


def _beside_counted(true: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    return tidy(true).merge(tidy(counted).rename(columns={"truth": "counted"}), on=["key", "name"], how="left")


def _delays(rows: pd.DataFrame) -> pd.DataFrame:
    def statistics(weight: pd.Series[float]) -> pd.DataFrame:
        carrier = rows["carrier"].astype(pd.CategoricalDtype(list(data.CARRIERS)))
        delay = rows["dep_delay"].astype(float).clip(*data.CLAMP)
        sums = [(weight * delay**power).groupby(carrier, observed=False).sum() for power in (0, 1, 2)]
        mean = sums[1] / sums[0]
        return pd.DataFrame({"flights": sums[0], "mean": mean, "stddev": (sums[2] / sums[0] - mean**2) ** 0.5})

    return _beside_counted(statistics(_chance(rows) * 0 + 1), statistics(_chance(rows)))


def _histogram(rows: pd.DataFrame) -> pd.DataFrame:
    def counts(weight: pd.Series[float]) -> pd.DataFrame:
        bins = pd.cut(rows["dep_delay"].astype(float), list(data.EDGES), right=False, labels=list(data.BINS))
        return weight.groupby([rows["origin"], bins], observed=False).sum().unstack()

    return _beside_counted(counts(_chance(rows) * 0 + 1), counts(_chance(rows)))


def _quantiles(rows: pd.DataFrame) -> pd.DataFrame:
    ranks = {**{f"minutes at {rank}": float(Fraction(rank)) for rank in RANKS}, "median": 0.5}

    def quantiles(weight: pd.Series[float]) -> pd.DataFrame:
        airports = rows.assign(weight=weight).sort_values("dep_delay").groupby("origin")
        return pd.DataFrame({airport: _ranked(flights, ranks) for airport, flights in airports}).T

    chance = _chance(rows, MOST_RANKED)
    return _beside_counted(quantiles(chance * 0 + 1), quantiles(chance))


def _ranked(rows: pd.DataFrame, ranks: Mapping[str, float]) -> pd.Series[float]:
    """The delays at ranks of weighted rows, which are in order."""
    below = rows["weight"].cumsum().to_numpy()
    places = {name: np.searchsorted(below, rank * below[-1]) for name, rank in ranks.items()}
    return pd.Series({name: float(rows["dep_delay"].iloc[place]) for name, place in places.items()}).clip(*WIDE)


def _airlines(rows: pd.DataFrame) -> pd.DataFrame:
    pair = rows["origin"] + ", " + rows["carrier"]
    chance = _chance(rows)
    true, counted = (weight.groupby(pair).sum().to_frame("flights") for weight in (chance * 0 + 1, chance))
    return _beside_counted(true, counted)


def _destinations(rows: pd.DataFrame) -> pd.DataFrame:
    there = rows.groupby(["tailnum", "dest"]).size().rename("flights").reset_index()
    groups = there.groupby("tailnum")["dest"].transform("size")
    there["chance"] = (MOST_DESTINATIONS / groups).clip(upper=1.0)
    there["counted"] = there["chance"] * there["flights"].clip(upper=MOST_THERE)
    by = there.groupby("dest")
    true = by.agg(aircraft=("tailnum", "size"), flights=("flights", "sum"))
    return _beside_counted(true, by.agg(aircraft=("chance", "sum"), flights=("counted", "sum")))


def run(spark: SparkSession, folder: Path, epsilon: Fraction, rows: pd.DataFrame) -> list[Answer]:
    """Write the table, open the ledger, compare bounds, ask."""
    write_table(spark, lambda: rows, SCHEMA, folder / "flights")
    table = lake.Table.forPath(spark, folder / "flights", unit="tailnum", version=VERSION, max_units=10**5)
    asked = questions(table.private(), rows, epsilon)
    click.echo(f"Bounds, for flights by airline at epsilon = {epsilon}:")
    click.echo(compare_bounds(table.private(), rows, epsilon))
    return ask(asked, open_ledger(folder, dp.ApproxDP(epsilon * len(asked), DELTA)))


@click.command()
@click.option("--days", type=click.IntRange(1, 365), default=365, show_default=True, help="First days of 2013 only.")
@lake_options("airports_one_lake", "1")
def main(days: int, epsilon: Fraction, output: Path | None, picture: Path) -> None:
    """Departures from New York in one lake, by aircraft."""
    with workplace(output) as folder:
        answers = run(small_session("airports", cores=2), folder, epsilon, read(days))
    delays, destinations = answers[0].cells, answers[3].cells
    flights = destinations[destinations["name"] == "flights"]
    panels = {
        "mean delay by airline (minutes)": delays[delays["name"] == "mean"].dropna(subset="truth"),
        "flights to the destinations named": flights.nlargest(20, "value"),
    }
    draw(panels, picture, title=f"New York's departures, epsilon = {epsilon} a question")


if __name__ == "__main__":
    main()
