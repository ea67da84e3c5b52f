"""A week of visits to a restaurant, made up: the same week every time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..support.cells import tidy

__all__ = ["DAY", "HOURS", "MOST_EUROS", "MOST_MINUTES", "MOST_TOTAL", "SCHEMA", "by_hour", "visits", "week"]

SCHEMA = (
    "visitor BIGINT NOT NULL, day BIGINT NOT NULL, entered BIGINT NOT NULL, minutes BIGINT NOT NULL, "
    "euros DOUBLE NOT NULL"
)
"""`entered` is in minutes since midnight; day 1 is Monday."""

HOURS = range(9, 21)
DAY = 6
MOST_MINUTES, MOST_EUROS, MOST_TOTAL = 60, 40, 60
_RUSH = (8, 5, 4, 22, 30, 14, 5, 3, 9, 24, 36, 16)  # guests by hour, relatively: few in the afternoon
_WEEKDAYS = (1.0, 1.0, 1.1, 1.2, 1.6, 2.0, 1.3)


def visits(visitors: int = 1800) -> pd.DataFrame:
    """The week's visits, with the columns of `SCHEMA`: every visitor comes on one to four days, once a day."""
    random = np.random.default_rng(2013)
    days = random.choice([1, 2, 3, 4], visitors, p=[0.6, 0.25, 0.1, 0.05])
    weights = np.array(_WEEKDAYS) / sum(_WEEKDAYS)
    came = [random.choice(np.arange(1, 8), count, replace=False, p=weights) for count in days]
    rows = int(days.sum())
    hours = random.choice(HOURS, rows, p=np.array(_RUSH) / sum(_RUSH))
    minutes = random.gamma(6, 6, rows).round().astype(np.int64)
    return pd.DataFrame(
        {
            "visitor": np.repeat(np.arange(visitors), days),
            "day": np.concatenate(came),
            "entered": 60 * hours + random.integers(0, 60, rows),
            "minutes": minutes,
            "euros": (4 + 0.35 * minutes * random.lognormal(0, 0.4, rows)).round(2),
        }
    )


def by_hour(rows: pd.DataFrame) -> pd.DataFrame:
    """What the owner knows of the day, values clamped as in the queries: key, name, truth."""
    day = rows[rows["day"] == DAY]
    hour = (day["entered"] // 60).astype(pd.CategoricalDtype(list(HOURS)))
    clamped = day.assign(minutes=day["minutes"].clip(0, MOST_MINUTES), euros=day["euros"].clip(0, MOST_EUROS))
    groups = clamped.groupby(hour, observed=False)
    return tidy(
        pd.DataFrame({"visits": groups.size(), "minutes": groups["minutes"].mean(), "euros": groups["euros"].sum()})
    )


def week(rows: pd.DataFrame) -> pd.DataFrame:
    """The week's revenue, visits clamped, and visitors' totals clamped: key, name, truth."""
    totals = rows.groupby("visitor")["euros"].sum()
    truth = {
        "clamped_visits": rows["euros"].clip(0, MOST_EUROS).sum(),
        "clamped_visitors": totals.clip(0, MOST_TOTAL).sum(),
    }
    return pd.DataFrame({"key": "all", "name": list(truth), "truth": list(truth.values())})
