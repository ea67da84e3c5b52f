"""The RAND Health Insurance Experiment: 20,190 person-years of 5,912 people at six sites, in the public domain.

Every person (`zper`) was at one site and on one insurance plan, for one to five years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..support.cells import tidy
from ..support.lakes import package_file

__all__ = ["BINS", "COINSURANCE", "EDGES", "PLANS", "SCHEMA", "insurers", "pooled_histogram", "pooled_truth", "read"]

SCHEMA = (
    "zper BIGINT NOT NULL, plan BIGINT NOT NULL, coins BIGINT NOT NULL, mdvis BIGINT NOT NULL, meddol DOUBLE NOT NULL"
)
COINSURANCE = (0, 25, 50, 95, 100)
PLANS = (*range(1, 12), *range(13, 20))
EDGES = (0, 1, 3, 6, 20)
BINS = ("no visit", "1-2", "3-5", "6 or more")
_SITES = (1, 2, 3, 4, 5, 6)


def insurers(parties: int) -> Mapping[str, Sequence[int]]:
    """Name of each insurer -> the sites that it insures: two each for three parties, one each for six."""
    share = len(_SITES) // parties
    return {f"insurer_{'abcdef'[i]}": _SITES[i * share : (i + 1) * share] for i in range(parties)}


def read(sites: Sequence[int] = _SITES, schema: str = SCHEMA) -> pd.DataFrame:
    """The rows of some sites, with a schema's columns, which the job needs: one row per person and year."""
    names = [column.split()[0] for column in schema.split(", ")]
    rows = pd.read_csv(
        package_file("statsmodels", "datasets/randhie/src/randhie.csv"), usecols=lambda name: name in {"site", *names}
    )
    return rows.loc[rows["site"].isin(sites), names]


def pooled_truth() -> pd.DataFrame:
    """What one database of all rows would say, every value clamped as in the query: key, name, truth."""
    rows = read()
    rows = rows.assign(mdvis=rows["mdvis"].clip(0, 20), meddol=rows["meddol"].clip(0, 2000))
    by_coinsurance = rows.groupby("coins").agg(
        people=("zper", "nunique"),
        person_years=("zper", "size"),
        visits=("mdvis", "sum"),
        mean_visits=("mdvis", "mean"),
        dollars=("meddol", "sum"),
        mean_dollars=("meddol", "mean"),
    )
    return tidy(by_coinsurance)


def pooled_histogram() -> pd.DataFrame:
    """Person-years of each plan by number of visits, over all rows: key, name, truth."""
    rows = read()
    bins = pd.cut(rows["mdvis"], [*EDGES[:-1], float("inf")], right=False, labels=list(BINS))
    return tidy(pd.crosstab(rows["plan"], bins))
