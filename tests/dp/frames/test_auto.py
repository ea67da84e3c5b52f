"""`bounds="auto"` end to end, on Delta tables and real ledgers.

Where a test names the bounds that are chosen, the budget is a rho: over all bins Gaussian noise stands out of the
threshold, which is made for Laplace noise, less often than once in 10^9.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dp.frames.auto import AutoQuery
from dp.frames.frame import PrivateFrame
from lake.ledger import Ledger
from lake.table import Table
from spark_mpc import dp

pytestmark = pytest.mark.slow

WARDS = ["east", "north", "west"]


@cache
def zipf_visits() -> pa.Table:
    """20,000 units of 1 to 200 rows, few of them busy; costs log-normal around 55, from cents to tens of thousands."""
    random = np.random.default_rng(5)
    sizes = np.minimum(random.zipf(2.0, 20_000), 200)
    unit = np.repeat(np.arange(len(sizes)), sizes)
    columns: dict[str, Any] = {
        "id": unit,
        "ward": random.choice(WARDS, len(unit)),
        "cost": random.lognormal(4, 1.5, len(unit)),
        "days": random.integers(1, 15, len(unit), np.int32),
        "note": np.full(len(unit), "text"),
    }
    return pa.table(columns)


def visits(spark: SparkSession, units: int, each: int, *, ward: str = "east", cost: str = "10D + id % 80") -> DataFrame:
    """So many units of so many rows, which cost 10 to 89 or what is said."""
    columns = [f"'{ward}' AS ward", f"{cost} AS cost", "3 AS days", "'text' AS note"]
    return spark.range(units * each).selectExpr(f"id DIV {each} AS id").selectExpr("id", *columns)


def saved(df: DataFrame, path: Path) -> str:
    df.coalesce(1).write.format("delta").save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def path(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(spark.createDataFrame(zipf_visits()), tmp_path_factory.mktemp("auto") / "visits")


def frame_of(spark: SparkSession, path: str, **facts: Any) -> PrivateFrame:
    return Table.forPath(spark, path, **{"unit": "id", "max_units": 10**6, "null_units": "drop", **facts}).private()


@pytest.fixture
def frame(spark: SparkSession, path: str) -> PrivateFrame:
    return frame_of(spark, path)


def both(frame: PrivateFrame, *, keys: Any = tuple(WARDS)) -> AutoQuery:
    """A query that lacks both kinds of bounds."""
    return frame.groupBy("ward", keys=keys, bounds="auto").agg(dp.count(), dp.sum("cost"))


LEDGERS: dict[str, tuple[dp.Budget, dict[str, Any], dp.Budget]] = {
    "pure": (dp.PureDP(10), {"epsilon": "2"}, dp.PureDP(2)),
    "approximate": (dp.ApproxDP(10, "1e-3"), {"epsilon": "2", "delta": "1e-6"}, dp.ApproxDP(2, "1e-6")),
    "pure on an approximate one": (dp.ApproxDP(10, "1e-3"), {"epsilon": "2"}, dp.ApproxDP(2, 0)),
    "concentrated": (dp.ZCDP(10), {"rho": "1/2"}, dp.ZCDP("1/2")),
}


@pytest.mark.parametrize("kind", LEDGERS)
def test_all_parts_together_cost_what_was_asked_and_asking_again_is_free(
    kind: str, frame: PrivateFrame, tmp_path: Path
) -> None:
    capacity, asked, cost = LEDGERS[kind]
    ledger = Ledger.create(tmp_path / "ledger", capacity=capacity)
    first = both(frame).release(**asked, ledger=ledger)
    assert ledger.spent() == cost, "exactly"
    assert len(ledger.entries()) == 3, "rows, clamps, the query itself"
    again = both(frame).release(**asked, ledger=ledger)
    assert ledger.spent() == cost
    assert len(ledger.entries()) == 3
    assert (first.paid_before, again.paid_before) == (False, True)
    assert again.words.tobytes() == first.words.tobytes()
    assert again.answers.values.equals(first.answers.values)
    assert again.chosen == first.chosen


def test_the_price_that_is_shown_is_that_of_all_parts(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    rows_first = frame.groupBy("ward", keys=WARDS, bounds="auto").agg(dp.count()).release(1, ledger=ledger)
    assert "paid epsilon=1 in all, epsilon=0.9 of it for the query itself, run" in str(rows_first)
    both_now = both(frame).release(1, ledger=ledger)
    assert "paid epsilon=0.9 in all, epsilon=0.8 of it for the query itself, run" in both_now._repr_html_()
    assert [choice.paid_before for choice in both_now.choices] == [True, False]
    assert (both_now.price, both_now.whole_price) == (dp.PureDP("0.8"), dp.PureDP(1))
    assert ledger.spent() == dp.PureDP("1.9")
    assert "free, answered from the ledger, run" in str(both(frame).release(1, ledger=ledger))


def test_no_two_groupings_share_a_choice(frame: PrivateFrame, tmp_path: Path) -> None:
    """Equal keys of two columns are other rows, of which other bounds are chosen: nothing stored answers for both."""
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    twins = frame.withColumn("twin", "CASE WHEN days > 7 THEN 'east' ELSE 'west' END")
    for column in ("ward", "twin"):
        grouped = twins.groupBy(column, keys=["east", "west"], bounds="auto")
        release = grouped.agg(dp.count(), dp.sum("cost")).release(1, ledger=ledger)
        assert not any(one.paid_before for one in (*release.choices, release))
    assert ledger.spent() == dp.PureDP(2)
    assert len({entry.release_key for entry in ledger.entries()}) == 6


RENYI = dp.RenyiDP.capacity(8, "1e-6")


@pytest.mark.parametrize(
    "asked", [{"epsilon": "2"}, {"rho": "1/8"}, {"epsilon": "2", "delta": "1e-6"}], ids=["pure", "rho", "approximate"]
)
def test_a_ledger_of_renyi_orders_takes_every_guarantee(
    asked: dict[str, Any], frame: PrivateFrame, tmp_path: Path
) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=RENYI)
    release = both(frame).release(**asked, ledger=ledger)
    assert ledger.spent() == release.whole_price
    assert sum(entry.state == "spent" for entry in ledger.entries()) == 3
    assert both(frame).release(**asked, ledger=ledger).paid_before
    whole = ledger.spent()
    assert isinstance(whole, dp.RenyiDP)
    assert whole.fits_in(RENYI)
    if "delta" not in asked and "epsilon" in asked:
        assert all(epsilon <= 2 for epsilon in whole.epsilons)
    if "rho" in asked:
        assert all(e <= order * Fraction(1, 8) for order, e in zip(whole.orders, whole.epsilons, strict=True))


def test_parts_that_together_fit_no_order_are_refused_before_anything_is_paid(
    frame: PrivateFrame, tmp_path: Path
) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.RenyiDP({2: "1/5", 32: "1/2"}))
    with pytest.raises(dp.BudgetExceeded, match="in all, remaining renyi"):
        both(frame).release(rho="1/8", ledger=ledger)
    assert ledger.entries() == []
    assert both(frame).release(rho="1/10", ledger=ledger).whole_price == dp.RenyiDP({2: "1/5", 32: "3.2"})


def test_private_keys_have_no_price_in_renyi_orders(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=RENYI)
    with pytest.raises(dp.InvalidArgument, match="a delta has no Renyi divergence"):
        both(frame, keys=dp.private_keys()).release(1, "1e-6", ledger=ledger)
    assert ledger.entries() == []


Chosen = tuple[int | None, tuple[float, float]]


def chosen_of(release: dp.Release) -> Chosen:
    """The bounds in the plan that was released: rows of one unit, and the clamp of cost."""
    query = release.plan.query
    (clamped,) = (aggregate for aggregate in query.aggregates if aggregate.sources == ("cost",))
    lower, upper = clamped.lower, clamped.upper  # type: ignore[attr-defined]
    return query.bounds.max_total_rows, (float(lower), float(upper))


def test_chosen_bounds_fit_the_data_and_are_printed(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ZCDP(10))
    release = both(frame).release(rho="2", ledger=ledger)
    rows, (lower, upper) = chosen_of(release)
    costs = zipf_visits()["cost"].to_numpy()
    inside = (lower <= costs) & (costs <= upper)
    assert inside.mean() >= 0.95
    assert np.clip(costs, lower, upper).sum() >= 0.95 * costs.sum()
    assert upper <= 100 * np.quantile(costs, 0.95)
    assert lower >= 0
    _, sizes = np.unique(zipf_visits()["id"].to_numpy(), return_counts=True)
    assert rows is not None
    assert np.quantile(sizes, 0.5) <= rows <= 100 * np.quantile(sizes, 0.95)
    assert dict(release.chosen) == {
        "rows of one unit": f"at most {rows} row(s) of one unit",
        "clamps" if "clamps" in release.chosen else "cost": f"cost within {lower:g} and {upper:g}",
    }
    for words in release.chosen.values():
        assert words in str(release)
        assert words in release._repr_html_()


def test_too_little_budget_is_refused_before_anything_is_paid(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP("1.99"))
    with pytest.raises(dp.BudgetExceeded, match=r"asked epsilon=2 in all, remaining epsilon=1\.99"):
        both(frame).release(2, ledger=ledger)
    assert ledger.entries() == []


def test_a_part_that_was_paid_before_is_not_asked_for_again(frame: PrivateFrame, tmp_path: Path) -> None:
    """What is left has to suffice for the rest, and if it does not, the rest is not begun."""
    for capacity, enough in (("3.7", False), ("3.8", True)):
        ledger = Ledger.create(tmp_path / f"ledger {capacity}", capacity=dp.PureDP(capacity))
        frame.groupBy("ward", keys=WARDS, bounds="auto").agg(dp.count()).release(2, ledger=ledger)
        assert ledger.spent() == dp.PureDP(2)
        if enough:
            both(frame).release(2, ledger=ledger)
            assert ledger.spent() == dp.PureDP("3.8"), "the rows of one unit were chosen already"
        else:
            with pytest.raises(dp.BudgetExceeded, match="in all, remaining"):
                both(frame).release(2, ledger=ledger)
            assert ledger.spent() == dp.PureDP(2)


IMPOSSIBLE: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no such column": ({}, dp.sum("nothing"), "no such numeric column"),
    "no such column, with bounds": ({}, dp.sum("nothing", 0, 1), "no such column"),
    "text": ({}, dp.sum("note"), "no such numeric column"),
    "text, with bounds": ({}, dp.mean("note", 0, 1), "no such numeric column"),
    "no groups": ({"max_groups": 0}, dp.sum("cost"), "max_groups=0"),
    "private keys without a delta": ({"keys": dp.private_keys()}, dp.sum("cost"), "delta"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_asked_is_refused_before_anything_is_paid(
    name: str, frame: PrivateFrame, tmp_path: Path
) -> None:
    limits, aggregate, message = IMPOSSIBLE[name]
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    query = frame.groupBy("ward", **{"keys": WARDS, **limits}, bounds="auto").agg(dp.count(), aggregate)
    with pytest.raises(dp.InvalidArgument, match=message):
        query.release(1, ledger=ledger)
    assert ledger.entries() == []
    with pytest.raises(dp.InvalidArgument, match=message):
        query.explain(1)


def test_a_guarantee_of_another_kind_than_the_ledgers_is_refused(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    with pytest.raises(dp.InvalidArgument, match="this ledger counts in PureDP"):
        both(frame).release(rho=1, ledger=ledger)
    assert ledger.entries() == []


def test_with_all_bounds_given_nothing_is_chosen(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    limits: dict[str, Any] = {"keys": WARDS, "max_groups": 2, "max_rows": 3}
    given = frame.groupBy("ward", **limits, bounds="auto").agg(dp.count(), dp.sum("cost", 0, 500))
    assert "nothing: all bounds are given" in str(given.explain(1))
    release = given.release(1, ledger=ledger)
    assert dict(release.chosen) == {}
    assert "Chosen privately" not in str(release)
    by_hand = frame.groupBy("ward", **limits).agg(dp.count(), dp.sum("cost", 0, 500)).release(1, ledger=ledger)
    assert by_hand.paid_before, "it is the same question"
    assert ledger.spent() == dp.PureDP(1)


def test_explain_says_what_is_chosen_at_which_price_and_pays_nothing(frame: PrivateFrame) -> None:
    shown = str(both(frame).explain(1, "1e-6"))
    for words in ("rows of one unit: epsilon=0.1", "clamps: epsilon=0.1", "the query itself: epsilon=0.8"):
        assert words in shown


def test_rows_that_are_units_have_clamps_chosen_alone(spark: SparkSession, path: str, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ZCDP(10))
    frame = frame_of(spark, path, unit=dp.ROW)
    release = frame.agg(dp.count(), dp.sum("days"), bounds="auto").release(rho=2, ledger=ledger)
    assert list(release.chosen.values()) == ["days within 1 and 16"]
    assert ledger.spent() == dp.ZCDP(2)
    (row,) = release.df.collect()
    assert row["sum_days"] == pytest.approx(zipf_visits()["days"].to_numpy().sum(), abs=500)


def test_private_keys_come_with_chosen_bounds(frame: PrivateFrame, tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(100, "1e-3"))
    release = both(frame, keys=dp.private_keys()).release(20, "1e-5", ledger=ledger)
    assert [row["ward"] for row in release.df.collect()] == WARDS
    assert ledger.spent() == dp.ApproxDP(20, "1e-5")
    assert len(release.chosen) == 2


def test_no_unit_chooses_alone(spark: SparkSession, tmp_path: Path) -> None:
    """Neighbouring tables: one unit has 10^5 rows of 10^12 each. Bins of all others are far from the threshold."""
    usual = visits(spark, 3000, 4)
    outlier = visits(spark, 1, 100_000, cost="1e12D").withColumn("id", F.lit(-1).cast("long"))
    chosen: list[Chosen] = []
    for name, df in {"usual": usual, "with outlier": usual.union(outlier)}.items():
        ledger = Ledger.create(tmp_path / f"ledger {name}", capacity=dp.ZCDP(10))
        table = saved(df, tmp_path / name)
        query = frame_of(spark, table).groupBy("ward", keys=["east"], bounds="auto").agg(dp.count(), dp.sum("cost"))
        chosen.append(chosen_of(query.release(rho=4, ledger=ledger)))
    assert chosen[0] == chosen[1] == (8, (8, 128))


def test_rows_of_other_groups_have_no_say(spark: SparkSession, tmp_path: Path) -> None:
    """Rows that no group of the query holds are left out of what bounds are chosen from."""
    others = visits(spark, 3000, 8, ward="nowhere", cost="1e6D")
    table = saved(visits(spark, 3000, 1).union(others), tmp_path / "wards")
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ZCDP(10))
    query = frame_of(spark, table).groupBy("ward", keys=["east"], bounds="auto").agg(dp.count(), dp.sum("cost"))
    assert chosen_of(query.release(rho=4, ledger=ledger)) == (1, (8, 128))


def test_where_noise_hides_everything_the_rest_is_not_spent(spark: SparkSession, tmp_path: Path) -> None:
    table = saved(visits(spark, 1, 1), tmp_path / "few")
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.ZCDP(10))
    with pytest.raises(dp.SparkMpcError, match="max_total_rows: no units stand out from noise"):
        both(frame_of(spark, table)).release(rho=1, ledger=ledger)
    assert ledger.spent() == dp.ZCDP("1/10")
