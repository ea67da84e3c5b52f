"""The same experiment in one lake: spread, quantiles, histograms, and what drives visits, by linear regression."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from spark_mpc import dp, lake

from ..support.cells import tidy
from ..support.jobs import small_session
from ..support.lakes import VERSION, write_table
from ..support.one_lake import Answer, Question, ask, lake_options, open_ledger, workplace
from ..support.pictures import draw
from . import data

__all__ = ["CLAMPS", "SCHEMA", "main", "questions", "regression", "run"]

SCHEMA = f"{data.SCHEMA}, site BIGINT NOT NULL, xage DOUBLE NOT NULL, female BIGINT NOT NULL"
CLAMPS = {"coins": (0, 100), "xage": (0, 65), "female": (0, 1), "mdvis": (0, 20)}
"""The bounds of what a regression reads; `xage` is the age."""

MOST_DOLLARS = 2000
RANKS = ("1/4", "1/2", "3/4", "9/10")
SITES = range(1, 7)
_PRODUCTS = tuple(f"{a} x {b}" for a in CLAMPS for b in CLAMPS)


def questions(claims: dp.PrivateFrame, rows: pd.DataFrame, epsilon: Fraction) -> Sequence[Question]:
    """Four questions about people who are on one plan at one site, for five years at most: bounding drops nothing.

    Args:
        claims: the table.
        rows: the same in the clear, for the truth.
        epsilon: of each question.
    """
    by_coinsurance = claims.groupBy("coins", keys=data.COINSURANCE, max_groups=1, max_rows=5)
    by_site = claims.groupBy("site", keys=SITES, max_groups=1, max_rows=5)
    return (
        Question(
            "Doctor visits by coinsurance: mean, variance and deviation",
            "Variance and deviation are one measure; with the mean they need three sums, all from the middle of 0..20.",
            by_coinsurance.agg(
                dp.mean("mdvis", 0, 20).alias("mean"),
                dp.variance("mdvis", 0, 20).alias("variance"),
                dp.stddev("mdvis", 0, 20).alias("stddev"),
            ),
            _spread(rows),
            epsilon,
        ),
        Question(
            "Medical spending by coinsurance: quantiles",
            "A mean of spending drowns in its bound of 2,000 dollars; ranks do not. One noised tree gives all of them.",
            by_coinsurance.agg(dp.quantiles("meddol", RANKS, 0, MOST_DOLLARS).alias("dollars")),
            _quantiles(rows),
            epsilon,
            bins={"dollars": [f"dollars at {rank}" for rank in RANKS]},
        ),
        Question(
            "Visits at each site, and its three commonest plans",
            "A histogram is one measure, whatever its bins, and so is a ranking of listed plans.",
            by_site.agg(
                dp.histogram("mdvis", data.EDGES).alias("visits"), dp.top_k("plan", 3, data.PLANS).alias("plan")
            ),
            pd.concat([_histogram(rows), _plans(rows)]),
            epsilon,
            bins={"visits": data.BINS},
        ),
        Question(
            "Covariances of visits with coinsurance, age and sex",
            "A regression needs nothing else. The matrix of 16 numbers is 4 sums and 10 sums of products.",
            claims.agg(dp.covariance(tuple(CLAMPS), CLAMPS).alias("covariance"), max_rows=5),
            _covariances(rows),
            epsilon,
            bins={"covariance": _PRODUCTS},
        ),
    )


def regression(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slopes of least squares: visits per unit of every other column, from the matrix of all, visits last."""
    return np.asarray(np.linalg.solve(covariances[:-1, :-1], covariances[:-1, -1]))


def slopes_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Slopes with intervals, beside those of the true matrix. Computed from what was released: free.

    The intervals come from drawing the noise of the matrix afresh: its standard deviation is public.
    """
    size, random = len(CLAMPS), np.random.default_rng(1)
    value, stddev, truth = (cells[name].to_numpy().reshape(size, size) for name in ("value", "stddev", "truth"))
    draws = [np.triu(random.normal(value, stddev)) for _ in range(1000)]
    redrawn = np.array([regression(draw + np.triu(draw, 1).T) for draw in draws])
    lower, upper = np.quantile(redrawn, [0.025, 0.975], axis=0)
    columns = {"value": regression(value), "lower": lower, "upper": upper, "truth": regression(truth)}
    return pd.DataFrame({"key": list(CLAMPS)[:-1], **columns})


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    visits = rows["mdvis"].clip(0, 20).groupby(rows["coins"])
    return tidy(pd.DataFrame({"mean": visits.mean(), "variance": visits.var(ddof=0), "stddev": visits.std(ddof=0)}))


def _quantiles(rows: pd.DataFrame) -> pd.DataFrame:
    dollars = rows["meddol"].clip(0, MOST_DOLLARS).groupby(rows["coins"])
    return tidy(pd.DataFrame({f"dollars at {rank}": dollars.quantile(float(Fraction(rank))) for rank in RANKS}))


def _histogram(rows: pd.DataFrame) -> pd.DataFrame:
    bins = pd.cut(rows["mdvis"], [*data.EDGES[:-1], float("inf")], right=False, labels=list(data.BINS))
    return tidy(pd.crosstab(rows["site"], bins))


def _plans(rows: pd.DataFrame) -> pd.DataFrame:
    count = pd.crosstab(rows["site"], rows["plan"]).reindex(columns=list(data.PLANS), fill_value=0).stack()
    return pd.DataFrame(
        {"key": [f"{site}, {plan}" for site, plan in count.index], "name": "plan", "truth": count.to_numpy()}
    )


def _covariances(rows: pd.DataFrame) -> pd.DataFrame:
    clamped = np.stack([rows[column].clip(*bounds) for column, bounds in CLAMPS.items()])
    return pd.DataFrame({"key": "all", "name": _PRODUCTS, "truth": np.cov(clamped, ddof=0).ravel()})


def run(spark: SparkSession, folder: Path, epsilon: Fraction, rows: pd.DataFrame) -> list[Answer]:
    """Write the table, open the ledger, ask, and fit a line to what was released."""
    write_table(spark, lambda: rows, SCHEMA, folder / "claims")
    table = lake.Table.forPath(spark, folder / "claims", unit="zper", version=VERSION, max_units=10**4)
    asked = questions(table.private(), rows, epsilon)
    answers = ask(asked, open_ledger(folder, dp.PureDP(epsilon * len(asked))))
    click.echo("\nVisits a year per unit of each column, by least squares on the released covariances; free")
    click.echo(slopes_of(answers[-1].cells).to_string(index=False, float_format="{:.4f}".format))
    return answers


@click.command()
@lake_options("health_insurance_one_lake", "1")
def main(epsilon: Fraction, output: Path | None, picture: Path) -> None:
    """Cost sharing and doctor visits in one lake: the RAND Health Insurance Experiment."""
    with workplace(output) as folder:
        answers = run(small_session("health insurance", cores=2), folder, epsilon, data.read(schema=SCHEMA))
    spread, dollars = answers[0].cells, answers[1].cells
    panels = {
        "mean visits": spread[spread["name"] == "mean"],
        "standard deviation of visits": spread[spread["name"] == "stddev"],
        "dollars, third quartile": dollars[dollars["name"] == "dollars at 3/4"],
    }
    draw(panels, picture, title=f"By coinsurance (%), epsilon = {epsilon} a question")


if __name__ == "__main__":
    main()
