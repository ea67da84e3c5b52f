"""The planner takes the protocol of less noise that is affordable, says why, and chooses alike everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import spark_mpc as mpc
from dp.accounting.budget import ZCDP, ApproxDP, Guarantee, PureDP
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import NoiseParties, Plan, make_plan
from dp.planning.query import Query
from lake.table import Table
from spark_mpc import dp, lake
from spark_mpc.federation_file import FederationFile
from spark_mpc.sums import picking
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.base import SumProtocol
from spark_mpc.sums.picking import Picked, pick
from spark_mpc.sums.replicated import Replicated
from tests.tools.lakes import write_table

NAMES = ("a", "b", "c")
BOTH: tuple[SumProtocol, ...] = (Additive(), Replicated())


def file(protocol: str = "auto") -> FederationFile:
    return mpc.Federation.local(NAMES, protocol=protocol).file


def maker(asked: Guarantee, groups: int = 4, max_groups: int = 1) -> Callable[[NoiseParties], Plan]:
    keys = tuple((key,) for key in range(groups))
    facts = PublicFacts(unit=("id",), max_units=10**6)
    bounds = ContributionBounds(max_groups, 1, None)
    query = Query(("k",), keys, bounds, (dp.count().alias("n"),), facts, {})
    return partial(_planned, query, asked)


def _planned(query: Query, asked: Guarantee, noise: NoiseParties) -> Plan:
    return make_plan(query, asked, parties=3, noise=noise)


def picked(asked: Guarantee, protocols: tuple[SumProtocol, ...] = BOTH, **facts: int) -> Picked:
    return pick(protocols, file(), NAMES, maker(asked, **facts))


def test_one_sample_is_less_noise_than_three() -> None:
    chosen = picked(ApproxDP(1, "1e-9"))
    assert chosen.protocol.name == "rep3"
    assert [line.partition(":")[0] for line in chosen.why] == ["additive", "rep3"]
    assert chosen.plan.noise.copies == 1
    assert max(chosen.cost.sent_bytes) > 8 * 4 * 2


def test_gaussian_noise_of_every_party_beats_laplace_noise_for_many_groups_of_a_unit() -> None:
    chosen = picked(ApproxDP(1, "1e-5"), groups=400, max_groups=400)
    assert chosen.protocol.name == "additive"
    assert {part.mechanism.kind for part in chosen.plan.parts} == {"discrete_gaussian"}


@pytest.mark.parametrize("asked", [PureDP(1), ZCDP("1/2")])
def test_what_rep3_cannot_give_is_answered_by_adding_up(asked: Guarantee) -> None:
    chosen = picked(asked)
    assert chosen.protocol.name == "additive"
    assert "give epsilon with a delta" in chosen.why[1]


def test_no_party_sends_more_than_a_limit_for_less_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "MOST_BYTES", 1000)
    assert picked(ApproxDP(1, "1e-9")).protocol.name == "additive"
    monkeypatch.setattr(picking, "MOST_BYTES", 10)  # both are too much: the cheaper one
    assert picked(ApproxDP(1, "1e-9")).protocol.name == "additive"


def test_what_no_protocol_can_give_is_refused_as_by_the_first() -> None:
    with pytest.raises(dp.InvalidArgument, match="epsilon"):
        picked(ApproxDP("1e-30", "1e-40"))


def test_without_a_choice_nothing_is_said_of_one() -> None:
    only = picked(ApproxDP(1, "1e-9"), (Additive(),))
    assert (only.protocol.name, only.why) == ("additive", ())


def test_a_federation_that_leaves_the_choice_has_three_that_compute() -> None:
    made = file()
    assert (made.t, made.compute) == (2, NAMES)
    with pytest.raises(dp.InvalidArgument, match="three different parties"):
        mpc.Federation.local(("a", "b"), protocol="auto")
    with pytest.raises(dp.InvalidArgument, match="colluders"):
        mpc.Federation.local(NAMES, protocol="auto", colluders=2)


@pytest.mark.slow
def test_queries_of_one_study_are_answered_by_either(spark: SparkSession, tmp_path: Path) -> None:
    rows = [("u1", 0), ("u2", 1), ("u3", 1)]
    tables = {
        name: Table.forPath(
            spark,
            write_table(spark, tmp_path / name, "id string, k int", rows),
            unit="id",
            null_units="drop",
            max_units=9,
        )
        for name in NAMES
    }
    ledgers = {name: lake.Ledger.create(tmp_path / f"{name}.ledger", capacity=dp.ApproxDP(9, "1e-6")) for name in NAMES}
    with mpc.Federation.local(NAMES, protocol="auto").session(spark, ledger=ledgers) as study:
        frame = study.contribute("visits", tables)
        query = frame.groupBy("k", keys=[0, 1], max_groups=1, max_rows=1).agg(dp.count().alias("n"))
        with_delta, without = str(query.explain("1", "1e-9")), str(query.explain("2"))
        releases = [query.release("1", "1e-9"), query.release("2")]
    assert "rep3, 3 parties" in with_delta
    assert "picked among additive: noise of" in with_delta
    assert "additive, 3 parties" in without
    assert [release.plan.noise.copies for release in releases] == [1, 3]
    assert {ledger.spent().epsilon for ledger in ledgers.values()} == {3}
