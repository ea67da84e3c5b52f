"""Tuning on public rows: exact bias, the plan's noise, the right best choice; private rows are refused every way in."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pyspark.sql import DataFrame, SparkSession

from dp.frames.frame import PrivateFrame
from dp.frames.grouped import PrivateQuery
from dp.frames.tune import Outcome, Tuning, _Bench, _errors, tune
from dp.planning.aggregates import Estimate
from dp.planning.plan import guarantee, make_plan
from spark_mpc import dp

slow = pytest.mark.slow

GROUPS, UNITS, ROWS_PER_UNIT = 4, 100, 6  # every unit has six rows in each group


@pytest.fixture(scope="module")
def sample(spark: SparkSession) -> DataFrame:
    """Values 0..5 of every unit in every group; one of them far out."""
    rows = [
        (unit, group, value, 1000.0 if value == 5 else float(value))
        for unit in range(UNITS)
        for group in range(GROUPS)
        for value in range(ROWS_PER_UNIT)
    ]
    return spark.createDataFrame(rows, "id long, k int, v int, d double").cache()


def counts(frame: PrivateFrame, **bounds: int) -> PrivateQuery:
    return frame.groupBy("k", keys=range(GROUPS), **bounds).agg(dp.count().alias("n"))


@slow
def test_bias_is_what_bounding_drops_and_noise_what_the_plan_says(sample: DataFrame) -> None:
    tuning = tune(sample, counts, {"max_rows": [1, 3, 6, 12], "max_groups": [4]}, epsilon="1", unit="id")
    assert [o.bias for o in tuning.outcomes] == [500, 300, 0, 0]
    assert [o.rows_dropped for o in tuning.outcomes] == pytest.approx([5 / 6, 1 / 2, 0, 0])
    assert [o.units_truncated for o in tuning.outcomes] == [1, 1, 0, 0]
    assert [o.groups for o in tuning.outcomes] == [4] * 4
    for o, rows in zip(tuning.outcomes, (1, 3, 6, 12), strict=True):
        assert o.noise == pytest.approx(math.sqrt(2) * 4 * rows, rel=0.01)  # a Laplace of scale 4 x rows
        assert o.rmse == pytest.approx(math.hypot(o.bias, o.noise))
        assert o.relative_error == pytest.approx(o.rmse / 600)
    assert tuning.best == {"max_rows": 6, "max_groups": 4}


@slow
def test_clamps_are_compared_with_values_that_nothing_clamped(sample: DataFrame) -> None:
    """The narrowest clamp has the least noise, and is not the best: its sums are compared with the true ones."""

    def query(frame: PrivateFrame, upper: int) -> PrivateQuery:
        grouped = frame.groupBy("k", keys=range(GROUPS), max_groups=4, max_rows=6)
        return grouped.agg(dp.sum("d", 0, upper).alias("s"), dp.mean("d", 0, upper).alias("m"))

    tuning = tune(sample, query, {"upper": [5, 1000, 10**6]}, epsilon="10", unit="id")
    sums = [o for o in tuning.outcomes if o.aggregate == "s"]
    means = [o for o in tuning.outcomes if o.aggregate == "m"]
    assert [o.bias for o in sums] == pytest.approx([99_500, 0, 0], abs=1)
    assert [o.bias for o in means] == pytest.approx([99_500 / 600, 0, 0], abs=0.01)
    assert sums[0].noise < sums[1].noise < sums[2].noise
    assert tuning.best == {"upper": 1000}


@slow
def test_quantiles_are_compared_with_those_of_all_values(sample: DataFrame) -> None:
    def query(frame: PrivateFrame, upper: int) -> PrivateQuery:
        grouped = frame.groupBy("k", keys=range(GROUPS), max_groups=4, max_rows=6)
        return grouped.agg(dp.median("v", 0, upper).alias("m"), dp.quantiles("v", [0, 1], 0, upper).alias("ends"))

    outcomes = tune(sample, query, {"upper": [1, 5]}, epsilon="100", unit="id").outcomes
    narrow, wide = ({o.aggregate: o.bias for o in outcomes if o.choice["upper"] == upper} for upper in (1, 5))
    assert narrow["m"] == pytest.approx(1.5, abs=0.6)  # 2.5, which is told as 1
    assert wide["m"] <= 0.5
    assert wide["ends"] == 0


@slow
def test_other_aggregates_run_and_lose_nothing_where_nothing_is_dropped(sample: DataFrame) -> None:
    def query(frame: PrivateFrame, max_rows: int) -> PrivateQuery:
        return frame.groupBy("k", keys=range(GROUPS), max_groups=4, max_rows=max_rows).agg(
            dp.count_units(),
            dp.count_distinct("v"),
            dp.histogram("v", [0, 2, 4, 6]),
            dp.top_k("v", 2, [0, 1, 9]),
            dp.unit_sum("v", 0, 15),
            dp.vector_sum(["v", "v2"], norm="linf", bound=5),
            dp.covariance(["v", "v2"], {"v": (0, 5), "v2": (0, 10)}),
            dp.truncated_share(),
        )

    twice = sample.withColumn("v2", sample.v * 2)
    outcomes = tune(twice, query, {"max_rows": [6]}, epsilon="100", unit="id").outcomes
    assert "truncated_share" not in {o.aggregate for o in outcomes}  # it is about bounds, not about the data
    assert len(outcomes) == 7
    for o in outcomes:
        assert o.bias <= (500 * 5 if o.aggregate.startswith("vector") else 0.01), o.aggregate  # only vectors are cut


@slow
def test_budgets_are_swept(sample: DataFrame) -> None:
    choices = [{"max_rows": 6, "epsilon": e} for e in ("0.5", "1", "2")] + [{"max_rows": 6, "rho": "1/8"}]
    tuning = tune(sample, lambda frame, **b: counts(frame, max_groups=4, **b), choices, epsilon="1", unit="id")
    noises = [o.noise for o in tuning.outcomes]
    assert noises[:3] == pytest.approx([4 * noises[2], 2 * noises[2], noises[2]], rel=0.02)
    assert tuning.outcomes[3].choice == {"max_rows": 6, "rho": "1/8"}
    assert list(tuning.table.columns)[:2] == ["max_rows", "epsilon"]
    assert len({o.bias for o in tuning.outcomes}) == 1


@slow
def test_choices_that_count_alike_are_counted_once(sample: DataFrame) -> None:
    frame: PrivateFrame = sample.dp(unit="id", null_units="drop", keys={"k": range(GROUPS)})  # type: ignore[operator]
    budget = {"epsilon": None, "delta": 0, "rho": None}
    bench = _Bench(frame.synthetic(100), counts, Fraction(1), budget)
    for max_rows in (1, 2):
        for epsilon in ("1", "2"):
            assert list(bench.outcomes({"max_rows": max_rows, "max_groups": 4, "epsilon": epsilon}))
    assert (len(bench._exact), len(bench._cells)) == (1, 2)


@slow
def test_private_keys_tell_how_many_groups_are_expected(sample: DataFrame) -> None:
    def query(frame: PrivateFrame, max_groups: int) -> PrivateQuery:
        return frame.groupBy("k", keys=dp.private_keys(), max_groups=max_groups, max_rows=6).agg(dp.count().alias("n"))

    tuning = tune(sample, query, {"max_groups": [1, 4]}, epsilon="1", delta="1e-5", unit="id")
    for o in tuning.outcomes:
        frame: PrivateFrame = sample.dp(unit="id", null_units="drop")  # type: ignore[operator]
        plan = make_plan(query(frame, **o.choice).query, guarantee("1", "1e-5"))  # type: ignore[arg-type]
        assert plan.selection is not None
        units = 100 if o.choice["max_groups"] == 4 else 25  # of a group, where each unit is in one of four
        assert o.groups == pytest.approx(4 * plan.selection.keep_probability(units), abs=2)
    assert tuning.best == {"max_groups": 4}


@slow
def test_a_sample_of_some_units_is_scaled_up(sample: DataFrame) -> None:
    whole, tenth = (
        tune(sample, counts, {"max_rows": [3], "max_groups": [4]}, epsilon="1", unit="id", sample_share=share).outcomes[
            0
        ]
        for share in (1, "0.1")
    )
    assert tenth.bias == 10 * whole.bias
    assert tenth.noise == whole.noise
    assert tenth.rows_dropped == whole.rows_dropped


@slow
def test_synthetic_rows_can_be_tuned_on(sample: DataFrame) -> None:
    frame: PrivateFrame = sample.dp(unit="id", null_units="drop", keys={"k": [0, 1]})  # type: ignore[operator]
    tuning = tune(
        frame.synthetic(300),
        lambda frame, **b: frame.groupBy("k", max_groups=2, **b).agg(dp.count()),
        {"max_rows": [1, 64]},
        epsilon="1",
    )
    assert tuning.outcomes[0].rows_dropped > tuning.outcomes[1].rows_dropped


@slow
def test_rows_as_units_lose_nothing(sample: DataFrame) -> None:
    tuning = tune(sample, counts, [{"epsilon": "1"}], unit=dp.ROW)
    assert tuning.outcomes[0].bias == 0


@slow
def test_private_rows_are_refused_every_way_in(sample: DataFrame) -> None:
    """As the sample; as what the query asks of; and as something that the sample is joined with."""
    private: PrivateFrame = sample.dp(unit="id", null_units="drop")  # type: ignore[operator]
    choices = {"max_rows": [1]}
    with pytest.raises(dp.InvalidArgument, match="PUBLIC rows"):
        tune(private, counts, choices, epsilon="1")  # type: ignore[arg-type]
    with pytest.raises(dp.InvalidArgument, match="may be private"):
        tune(sample, lambda _, **b: counts(private, max_groups=4, **b), choices, epsilon="1", unit="id")
    ways = {
        "may be private": lambda frame, **b: counts(private.union(frame), max_groups=4, **b),
        "union of a SampleFrame": lambda frame, **b: counts(frame.union(private), max_groups=4, **b),
        "join_on_unit of a SampleFrame": lambda frame, **b: counts(frame.join_on_unit(private, max_rows=(1, 1)), **b),
    }
    for refused, query in ways.items():
        with pytest.raises(dp.InvalidArgument, match=refused):
            tune(sample, query, choices, epsilon="1", unit="id")


@slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"choices": {}}, "choices="),
        ({"choices": []}, "choices="),
        ({"choices": {"max_rows": []}}, "choices="),
        ({"unit": None}, "unit="),
        ({"epsilon": None}, "epsilon="),
        ({"sample_share": 0}, "sample_share="),
        ({"sample_share": 2}, "sample_share="),
        ({"query": lambda frame, **b: frame}, "bounds that are given"),
        ({"query": lambda frame, **b: frame.agg(dp.count(), bounds="auto")}, "bounds that are given"),
        ({"query": lambda frame, **b: frame.groupBy("k", max_groups=1).agg(), "delta": "1e-6"}, "no error to compare"),
    ],
)
def test_what_cannot_be_tuned_is_refused(sample: DataFrame, more: dict[str, object], message: str) -> None:
    given = {"query": counts, "choices": {"max_rows": [1], "max_groups": [1]}, "epsilon": "1", "unit": "id", **more}
    with pytest.raises(dp.InvalidArgument, match=message):
        tune(sample, **given)  # type: ignore[arg-type]


def test_groups_without_values_are_no_part_of_the_median() -> None:
    values, exact = np.array([11.0, 0.0, 24.0, 5.0]), np.array([10.0, np.nan, 20.0, 0.0])
    estimate = Estimate(values, np.full(4, 3.0), values - 6, values + 6)
    errors = _errors(estimate, exact, np.array([1.0, 1.0, 1.0, 0.0]))
    assert errors == {"bias": 1, "noise": 3, "rmse": math.hypot(1, 3), "relative_error": pytest.approx(0.25)}
    nothing = _errors(estimate, exact, np.zeros(4))
    assert set(nothing.values()) == {0.0}


def outcome(choice: dict[str, object], name: str, rmse: float, groups: float = 4) -> Outcome:
    return Outcome(choice, name, bias=0.0, noise=rmse, rmse=rmse, relative_error=rmse / 100, rows_dropped=0.25,
                   units_truncated=0.5, groups=groups)  # fmt: skip


TUNING = Tuning(
    (
        *(outcome({"rows": 1}, name, rmse) for name, rmse in (("a", 10), ("b", 1000))),
        *(outcome({"rows": "<2>"}, name, rmse) for name, rmse in (("a", 30), ("b", 100))),
    )
)


def test_the_best_choice_has_the_least_product_of_errors() -> None:
    assert TUNING.best == {"rows": "<2>"}
    more_groups = Tuning((outcome({"x": 1}, "n", 10, groups=1), outcome({"x": 2}, "n", 20, groups=3)))
    assert more_groups.best == {"x": 2}


def test_a_tuning_is_printed_and_drawn() -> None:
    assert str(TUNING).endswith("best: rows=<2>. Exact numbers of a public sample: nothing here is protected.")
    assert len(str(TUNING).splitlines()) == 1 + 4 + 1
    html = TUNING._repr_html_()
    assert html.count("<tr>") == 5
    assert "<td>&lt;2&gt;</td>" in html
    assert "<2>" not in html
    figure = TUNING.plot()
    FigureCanvasAgg(figure).print_png(io.BytesIO())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{n}: error of the median group" for n in "ab"]
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["bias", "noise", "total"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "<2>"]
        assert axes.get_xlabel() == "rows"
    totals = [line for line in figure.axes[0].lines if line.get_label() == "total"]
    np.testing.assert_array_equal(totals[0].get_ydata(), [10, 30])


def test_choices_of_several_parameters_are_named_in_full() -> None:
    choices = ({"rows": 1, "epsilon": "1"}, {"rows": 1, "epsilon": "$2$"})
    (axes,) = Tuning(tuple(outcome(choice, "n", 1) for choice in choices)).plot().axes
    assert axes.get_xticklabels()[0].get_text() == "rows=1, epsilon=1"


def test_a_tuning_is_a_table() -> None:
    table = TUNING.table
    assert list(table.columns[:3]) == ["rows", "aggregate", "bias"]
    assert list(table["rmse"]) == [10, 1000, 30, 100]
