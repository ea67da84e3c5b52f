"""Plans for noise that a protocol draws: one curator's noise, its distance in the price, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from dp.accounting.budget import Budget, RenyiDP
from dp.accounting.calibration import delta_of_distance
from dp.accounting.composition import Composition
from dp.accounting.events import DeltaEvent, compose
from dp.errors import InvalidArgument
from dp.noise.coins import distance_of_draws
from dp.noise.mechanisms import DiscreteLaplace
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import explain_plan
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys
from dp.planning.plan import ONE_CURATOR, NoiseParties, Plan, make_plan
from dp.planning.query import Query, digest
from dp.planning.under_sharing import UnderSharing
from spark_mpc import dp
from tests.tools.plans import COLUMNS, paper_query

ASKED = dp.ApproxDP(1, "1e-6")
SEVERAL = [dp.count(), dp.mean("d", -5, 5).weight(4), dp.histogram("v", [0, 1, 2, 3])]
MANY = [dp.sum("v", 0, 2 + i).alias(f"s{i}") for i in range(40)]


def a_plan(
    aggregates: list[Aggregate], asked: Budget = ASKED, *, noise: NoiseParties | None = None, groups: int = 4
) -> Plan:
    query = paper_query(aggregates, groups=groups, bounds=ContributionBounds(max_groups=2, max_rows=3))
    return make_plan(query, asked, parties=3, noise=noise or UnderSharing())


@pytest.mark.parametrize(
    "aggregates", [[dp.count()], SEVERAL, [dp.median("v", 0, 100)]], ids=["one", "several", "tree"]
)
def test_the_noise_is_that_of_one_curator(aggregates: list[Aggregate]) -> None:
    """The same scales as on one lake where Laplace noise is asked for, one copy, and no more error."""
    query = paper_query(aggregates, groups=4, bounds=ContributionBounds(max_groups=2, max_rows=3))
    pure = make_plan(query, dp.PureDP(1), parties=3, noise=ONE_CURATOR)
    shared = make_plan(query, ASKED, parties=3, noise=UnderSharing())
    assert [part.mechanism for part in shared.parts] == [part.mechanism for part in pure.parts]
    assert shared.noise.copies == shared.noise.honest == 1
    expected = explain_plan(shared, ()).errors
    assert expected == explain_plan(pure, ()).errors


@pytest.mark.parametrize("aggregates", [[dp.count()], SEVERAL, MANY], ids=["one", "several", "many"])
@pytest.mark.parametrize("asked", [ASKED, dp.ApproxDP("1/10", "1e-12"), dp.ApproxDP(10, "1e-20")], ids=str)
def test_the_charge_pays_for_the_distance_and_all_stays_within_what_was_asked(
    aggregates: list[Aggregate], asked: dp.ApproxDP
) -> None:
    plan = a_plan(aggregates, asked)
    charged = DeltaEvent(asked.delta / 1000)
    assert plan.events == (*(part.event for part in plan.parts), charged)
    distance = distance_of_draws(plan.coins, [part.cells for part in plan.parts])
    assert 0 < delta_of_distance(distance, asked.epsilon) <= charged.delta
    assert Composition.of(compose(plan.events)).is_within(asked)
    assert plan.price(dp.ApproxDP) == asked


def test_totals_are_drawn_like_other_cells() -> None:
    query = replace(paper_query([dp.count()], groups=4), totals="rollup")
    plan = make_plan(query, ASKED, parties=3, noise=UnderSharing())
    assert plan.length == 5
    assert [coins.scale for coins in plan.coins] == [Fraction(2)]


def test_coins_are_those_of_the_parts() -> None:
    plan = a_plan(SEVERAL)
    assert all(isinstance(part.mechanism, DiscreteLaplace) for part in plan.parts)
    assert [coins.scale for coins in plan.coins] == [part.mechanism.scale for part in plan.parts]  # type: ignore[union-attr]
    assert len({coins.precision for coins in plan.coins}) == 1
    assert a_plan(SEVERAL, noise=NoiseParties(3, 1)).coins == ()


def test_many_measures_still_compose_sharply() -> None:
    """The charge takes next to nothing of what composition gives: a hundredth of the factor at most."""
    query = replace(paper_query(MANY), noise="laplace")
    shared, curator, basic = (
        make_plan(query, asked, noise=noise).parts[0].mechanism.stddev
        for asked, noise in ((ASKED, UnderSharing()), (ASKED, ONE_CURATOR), (dp.PureDP(1), ONE_CURATOR))
    )
    assert shared / curator == pytest.approx(1, abs=0.01)
    assert shared < 0.8 * basic


@pytest.mark.parametrize("kind", [dp.PureDP, dp.ZCDP, RenyiDP])
def test_a_ledger_without_delta_cannot_price_it(kind: type[Budget]) -> None:
    with pytest.raises(InvalidArgument, match="delta"):
        a_plan(SEVERAL).price(kind)


def private_query() -> Query:
    facts = PublicFacts(unit=("id",), max_units=10**6)
    return Query(("k",), PrivateKeys(), ContributionBounds(max_groups=1, max_rows=1), (dp.count(),), facts, COLUMNS)


@pytest.mark.parametrize(
    ("plan", "named", "remedy"),
    [
        (
            lambda: a_plan(SEVERAL, dp.PureDP(1)),
            "delta",
            "give epsilon with a delta.*add a full sample",
        ),
        (lambda: a_plan(SEVERAL, dp.ZCDP(1)), "delta", "give epsilon with a delta"),
        (lambda: a_plan(SEVERAL, dp.ApproxDP(1, "1e-40")), "delta", "give more, or less epsilon"),
        (lambda: a_plan(SEVERAL, dp.ApproxDP(100, "1e-6")), "delta", "give more, or less epsilon"),
        (lambda: make_plan(private_query(), ASKED, noise=UnderSharing()), "keys", "keys are public"),
        (
            lambda: make_plan(paper_query([dp.most_frequent("v", [1, 2])]), ASKED, noise=UnderSharing()),
            "agg",
            "nothing is chosen by exact counts",
        ),
        (lambda: UnderSharing(delta_share=Fraction(0)), "delta_share", "such as 1/1000"),
        (lambda: UnderSharing(delta_share=Fraction(1)), "delta_share", "such as 1/1000"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_remedy(plan: Callable[[], object], named: str, remedy: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{named}=.*{remedy}"):
        plan()


def test_gaussian_noise_is_refused() -> None:
    query = paper_query([dp.count()])
    wanting = replace(query, noise="gaussian")
    with pytest.raises(InvalidArgument, match=r"^noise='gaussian'.*noise drawn under sharing is Laplace noise"):
        make_plan(wanting, ASKED, parties=3, noise=UnderSharing())


def test_a_smaller_share_of_delta_means_finer_coins() -> None:
    fine, coarse = (a_plan(SEVERAL, noise=UnderSharing(delta_share=Fraction(1, share))) for share in (10**9, 10))
    assert fine.coins[0].precision > coarse.coins[0].precision
    assert fine.coins[0].digits >= coarse.coins[0].digits


def test_parties_compare_it() -> None:
    plans = [
        a_plan([dp.count()], noise=noise)
        for noise in (UnderSharing(), UnderSharing(delta_share=Fraction(1, 100)), ONE_CURATOR, NoiseParties(3, 1))
    ]
    assert len({digest(plan.to_json()) for plan in plans}) == 4


def test_explain_says_who_draws_it_how_close_it_is_and_what_that_costs() -> None:
    text = str(explain_plan(a_plan(SEVERAL), ()))
    assert "rows: L1 sensitivity 6, discrete laplace of standard deviation" in text
    assert "drawn by the protocol, one sample a cell, which nobody knows: " in text
    assert "variation), for which delta=1e-09 is charged" in text
    assert "drawn by the protocol" not in str(explain_plan(a_plan(SEVERAL, noise=NoiseParties(3, 1)), ()))
