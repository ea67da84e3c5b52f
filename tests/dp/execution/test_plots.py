"""Pictures of releases: one panel per aggregate, every value with its interval, and nothing in the data breaks them."""

from __future__ import annotations

import io
import sys
import warnings

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from dp.execution.plots import plain, plot_answers
from dp.execution.release import make_answers
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.keys import Group, PrivateKeys
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from spark_mpc import dp
from tests.tools.plans import COLUMNS, FACTS, paper_query

ONE_PER_UNIT = ContributionBounds(max_groups=1, max_rows=1)
EVERY_KIND: list[Aggregate] = [
    dp.count().alias("n"),
    dp.sum("v", 0, 10).alias("s"),
    dp.mean("v", 0, 10).alias("m"),
    dp.stddev("v", 0, 10).alias("spread"),
    dp.histogram("v", [0, 5, 8, 10]).alias("h"),
    dp.quantiles("v", ["0.1", "0.5", "0.9"], 0, 10).alias("q"),
    dp.median("v", 0, 10).alias("middle"),
    dp.top_k("v", 2, [3, 4, 5]).alias("t"),
    dp.truncated_share().alias("cut"),
    dp.vector_sum(["v", "d"], norm="l2", bound=5).alias("vec"),
    dp.covariance(["v", "d"], {"v": (0, 10), "d": (0, 1)}).alias("cov"),
]


def drawn(plan: Plan, words: np.ndarray | None = None) -> Figure:
    """The picture of opened cells, drawn to the last pixel; noise around zero where no cells are given."""
    if words is None:
        words = np.random.default_rng(5).integers(-50, 50, plan.length).view(np.uint64)
    figure = plot_answers(
        make_answers(plan, words).accuracy, plan.query.by, plan.rows, plan.query.aggregates, "cost $3"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a key may be in any script
        FigureCanvasAgg(figure).print_png(io.BytesIO())
    return figure


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def keyed(aggregates: list[Aggregate], groups: tuple[Group, ...]) -> Plan:
    return make_plan(Query(("k",), groups, ONE_PER_UNIT, tuple(aggregates), FACTS, COLUMNS), dp.PureDP(1))


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 8, 9, 40, 41, 1000])
def test_every_aggregate_has_a_panel_whatever_the_number_of_groups(groups: int) -> None:
    figure = drawn(make_plan(paper_query(EVERY_KIND, groups=groups), dp.PureDP(1)))
    titled = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titled if title] == [aggregate.name for aggregate in EVERY_KIND]
    assert figure.get_figwidth() < 15
    assert all(len(labels(axes)) <= 40 for axes in figure.axes if axes.get_title(loc="left"))


def test_counts_are_bars_with_their_intervals() -> None:
    plan = make_plan(paper_query([dp.count().alias("n")], groups=3), dp.PureDP(1))
    (axes,) = drawn(plan, np.array([10, 20, 30], np.uint64)).axes
    (bars,) = (c for c in axes.containers if isinstance(c, BarContainer))
    (intervals,) = (c for c in axes.containers if isinstance(c, ErrorbarContainer))
    assert [bar.get_height() for bar in bars] == [10, 20, 30]
    assert labels(axes) == ["0", "1", "2"]
    assert axes.get_xlabel() == "k"
    rows = make_answers(plan, np.array([10, 20, 30], np.uint64)).accuracy.to_pylist()
    segments = intervals.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [(row["lower"], row["upper"]) for row in rows])


def test_histograms_are_steps_between_their_edges() -> None:
    plan = make_plan(paper_query([dp.histogram("v", [0, 5, 8, 10]).alias("h")], groups=2), dp.PureDP(1))
    (axes,) = drawn(plan, np.arange(6, dtype=np.uint64)).axes
    assert [list(patch.get_data().values) for patch in axes.patches] == [[0, 1, 2], [3, 4, 5]]
    assert labels(axes) == ["0 …", "5 …", "8 …"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["0", "1"]


def test_quantiles_are_ranges_with_a_mark_for_each_rank() -> None:
    query = paper_query([dp.quantiles("v", [0, "0.5", 1], 0, 10).alias("q")], groups=2)
    (axes,) = drawn(make_plan(query, dp.PureDP(1))).axes
    assert len([c for c in axes.containers if isinstance(c, ErrorbarContainer)]) == 3
    assert len(axes.collections[0].get_segments()) == 2


def test_the_most_frequent_values_are_named() -> None:
    query = paper_query([dp.top_k("v", 2, [3, 4, 5]).alias("t")], groups=2)
    words = np.array([1, 9, 5, 7, 0, 8], np.uint64)
    (axes,) = drawn(make_plan(query, dp.PureDP(1)), words).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0: 4", "0: 5", "1: 5", "1: 3"]


def test_totals_of_a_rollup_are_named_by_what_they_total() -> None:
    query = Query(("k",), ((0,), (1,)), ONE_PER_UNIT, (dp.count().alias("n"),), FACTS, COLUMNS, totals="rollup")
    (axes,) = drawn(make_plan(query, dp.PureDP(1))).axes
    assert labels(axes) == ["0", "1", "all"]


def test_a_private_release_without_groups_says_so() -> None:
    query = Query(("k",), PrivateKeys(), ONE_PER_UNIT, (dp.count().alias("n"),), FACTS, COLUMNS)
    plan = make_plan(query, dp.ApproxDP(1, "1e-6"))
    assert [text.get_text() for text in drawn(plan.for_keys(()), np.empty(0, np.uint64)).axes[0].texts] == [
        "no group was named"
    ]


@pytest.mark.parametrize("named", [0, 3])
def test_a_release_of_names_alone_says_how_many(named: int) -> None:
    query = Query(("k",), PrivateKeys(), ONE_PER_UNIT, (), FACTS, COLUMNS)
    plan = make_plan(query, dp.ApproxDP(1, "1e-6")).for_keys(tuple((i,) for i in range(named)))
    assert len(drawn(plan, np.empty(0, np.uint64)).axes) == 1


HOSTILE = ["$", "$x$", "$\\frac{$", "\\$", "_hidden", "", " ", "a\nb", "\x00", "x" * 500, "猫", "<b>", "%s", "None"]


@pytest.mark.slow
def test_no_key_breaks_a_picture() -> None:
    """Keys may be anybody's text: no formula, no hidden label, no line of any length."""
    figure = drawn(keyed([dp.count().alias("n"), dp.histogram("v", [0, 5, 10])], tuple((key,) for key in HOSTILE[:8])))
    legend = figure.axes[1].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 8
    figure = drawn(keyed(EVERY_KIND[:7], tuple((key,) for key in HOSTILE)))
    assert len(labels(figure.axes[0])) == len(HOSTILE)
    assert max(len(plain(key)) for key in HOSTILE) <= 25


@pytest.mark.slow
def test_extreme_numbers_are_drawn() -> None:
    plan = make_plan(paper_query([dp.count().alias("n"), dp.mean("v", 0, 10).alias("m")], groups=3), dp.PureDP("1e-9"))
    drawn(plan, np.array([2**62, 2**64 - 2**62, 0] * 3, np.uint64))


@pytest.mark.slow
def test_nothing_drawn_is_nan() -> None:
    plan = make_plan(paper_query(EVERY_KIND, groups=2), dp.PureDP(1))
    for axes in drawn(plan, np.zeros(plan.length, np.uint64)).axes:
        for line in axes.lines:
            assert np.isfinite(np.asarray(line.get_ydata(), np.float64)).all()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    with pytest.raises(dp.InvalidArgument, match=r"extra `plot`, as in spark-mpc\[plot\]"):
        drawn(make_plan(paper_query([dp.count()]), dp.PureDP(1)))
