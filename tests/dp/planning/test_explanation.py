"""What `explain` says before anything is read: everything that a plan costs, leaks and drops."""

from __future__ import annotations

from dataclasses import replace

from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import explain_plan
from dp.planning.plan import NoiseParties, make_plan
from spark_mpc import dp
from tests.tools.plans import paper_query


def test_every_public_fact_of_a_plan_is_printed() -> None:
    query = paper_query(
        [dp.count().alias("visits"), dp.mean("d", 0, 100).alias("cost")],
        groups=3,
        bounds=ContributionBounds(max_groups=2, max_rows=4),
    )
    query = replace(query, filters=("where v > 1", "where d < 9"))
    plan = make_plan(query, dp.PureDP("1/2"), parties=3, parties_per_unit=2, noise=NoiseParties(3, 1))
    text = str(explain_plan(plan, ("claims at version 7",), {"Leaks": ("nothing else",)}))
    for said in (
        "claims at version 7",
        "where v > 1",
        "where d < 9",
        "3 public group(s) by k",
        "privacy unit: id",
        "at most 4 row(s) in each of 2 group(s) of one unit are used, the rest is dropped and no interval covers that",
        "epsilon=0.5 for everything that is released; every owner's ledger pays",
        "neighbours: all rows of one unit, added or removed, at up to 2 parties",
        "rows: L1 sensitivity 16, 3 x discrete laplace of standard deviation",
        "total(d): L1 sensitivity 800, 3 x",
        "present(d): L1 sensitivity 16",
        "visits: ±",
        "cost: ±",
        "/ rows of the group",
        "nothing else",
    ):
        assert said in text, said


def test_total_bounds_and_no_groups() -> None:
    query = paper_query([dp.count()], bounds=ContributionBounds(max_total_rows=5, max_groups=1))
    plan = make_plan(replace(query, by=(), keys=((),)), dp.ZCDP("0.1"))
    text = str(explain_plan(plan, ()))
    assert "1 public group(s)\n" in text
    assert "at most 5 row(s) in 1 group(s)" in text
    assert "rho=0.1 for everything" in text


def test_html_is_escaped() -> None:
    query = replace(paper_query([dp.count()]), filters=("v < 3 & d > '<script>'",))
    html = explain_plan(make_plan(query, dp.PureDP(1)), ())._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
