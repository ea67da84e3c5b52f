"""Releases as HTML: every value with its error bar, nothing unescaped, long tables cut and said to be."""

from __future__ import annotations

import numpy as np

from dp.execution.release import make_answers
from dp.execution.rendering import html_table, pretty
from dp.planning.bounds import ContributionBounds
from dp.planning.keys import Group, PrivateKeys
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from spark_mpc import dp
from tests.tools.plans import COLUMNS, FACTS, paper_query

BOUNDS = ContributionBounds(max_groups=1, max_rows=1)
PARTS = [dp.count().alias("n"), dp.mean("v", 0, 10).alias("m"), dp.histogram("v", range(31)).alias("h")]


def html(plan: Plan) -> str:
    words = np.arange(plan.length, dtype=np.uint64)
    answers = make_answers(plan, words)
    return html_table(answers.values, answers.accuracy, plan.query.by)


def test_every_value_has_its_error_bar() -> None:
    plan = make_plan(paper_query([dp.count().alias("n")], groups=2), dp.PureDP(1))
    assert "<tr><th>k</th><th>n</th></tr>" in html(plan)
    assert "<tr><th>0</th><td>0 <small>&plusmn; 3</small></td></tr>" in html(plan)
    assert "<tr><th>1</th><td>1 <small>&plusmn; 3</small></td></tr>" in html(plan)


def test_lopsided_intervals_show_both_ends() -> None:
    plan = make_plan(paper_query([dp.mean("v", 0, 10).alias("m")]), dp.PureDP(1))
    answers = make_answers(plan, np.array([2**64 - 250, 60], np.uint64))
    (row,) = answers.accuracy.to_pylist()
    shown = f"({pretty(row['lower'])} to {pretty(row['upper'])})"
    assert shown in html_table(answers.values, answers.accuracy, ("k",))


def test_long_releases_and_long_lists_are_cut() -> None:
    text = html(make_plan(paper_query(PARTS, groups=1234), dp.PureDP(1)))
    assert text.count("<tr>") == 1 + 100
    assert "1,134 more of 1,234 groups" in text
    assert "... 10 more" in text
    short = html(make_plan(paper_query(PARTS, groups=100), dp.PureDP(1)))
    assert "more of" not in short


def test_keys_and_labels_are_text_and_never_markup() -> None:
    keys: tuple[Group, ...] = (("<script>",), ("&",))
    aggregates = (dp.top_k("v", 1, ["<img>"]).alias("t"),)
    text = html(make_plan(Query(("k",), keys, BOUNDS, aggregates, FACTS, COLUMNS), dp.PureDP(1)))
    assert "<script>" not in text
    assert "<img>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;img&gt;: " in text


def test_one_group_of_everything_and_no_group_at_all() -> None:
    everything = Query((), ((),), BOUNDS, (dp.count().alias("n"),), FACTS, COLUMNS)
    assert html(make_plan(everything, dp.PureDP(1))).count("<tr>") == 2
    private = Query(("k",), PrivateKeys(), BOUNDS, (dp.count().alias("n"),), FACTS, COLUMNS)
    assert html(make_plan(private, dp.ApproxDP(1, "1e-6")).for_keys(())).count("<tr>") == 1
    names = Query(("k",), PrivateKeys(), BOUNDS, (), FACTS, COLUMNS)
    assert "<tr><th>7</th></tr>" in html(make_plan(names, dp.ApproxDP(1, "1e-6")).for_keys(((7,),)))


def test_numbers_are_short() -> None:
    assert [pretty(x) for x in (None, 3, 1234567.8, 12.3456, -0.000123456)] == [
        "",
        "3",
        "1,234,568",
        "12.35",
        "-0.0001235",
    ]
