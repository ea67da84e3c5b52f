"""Answers from stored releases: offered by `explain`, given for nothing, from ledgers alone; the rows are gone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.accounting.ledger import StoredAnswer
from dp.accounting.scratch import ScratchLedger
from dp.errors import InvalidArgument, SparkMpcError
from dp.execution.free import release_from, without_paying
from dp.execution.release import Release, StoredRelease
from dp.planning.bounds import ContributionBounds
from dp.planning.explanation import FreeAnswers, explain_plan
from dp.planning.plan import Plan, make_plan
from dp.planning.query import Query
from spark_mpc import dp
from tests.tools.plans import FACTS
from tests.tools.stored import KEYS, SOURCE, TABLE, VERSION, a_query, plenty, store

REGIONS = (("north",), ("south",))
BY_REGION = a_query(dp.count().alias("n"), by=["region"], keys=REGIONS)


class Careless(ScratchLedger):
    """A ledger that lists every release, whatever table and version it is asked for."""

    def stored_releases(self, table: str, data_version: str) -> list[StoredAnswer]:
        return super().stored_releases(TABLE, VERSION)


class Forgetful(ScratchLedger):
    """A ledger that lists releases and has lost them."""

    def stored_release(self, release_key: str) -> bytes | None:
        return None


def cells(plan: Plan) -> NDArray[np.uint64]:
    return np.arange(10, 10 + plan.length, dtype=np.uint64)


def with_release(query: Query, epsilon: str = "1", ledger: ScratchLedger | None = None) -> ScratchLedger:
    """A ledger with a release of this question; its cells are 10, 11, ..."""
    ledger = ledger or plenty()
    plan = make_plan(query, dp.PureDP(epsilon))
    store(ledger, plan, cells(plan))
    return ledger


def stored(kind: type[ScratchLedger] = ScratchLedger) -> ScratchLedger:
    """One release: visits and a sum, by region and ward."""
    return with_release(a_query(dp.count().alias("visits"), dp.sum("v", 0, 10).alias("s")), ledger=kind(dp.PureDP(9)))


def told(query: Query, ledger: ScratchLedger, epsilon: str = "1") -> tuple[str, ...]:
    """What `explain` says about not paying."""
    plan = make_plan(query, dp.PureDP(epsilon))
    sections = explain_plan(plan, ("visits",), free=without_paying(plan, SOURCE, ledger)).sections
    return sections.get("Without paying", ())


def test_an_answer_costs_nothing_and_changes_nothing() -> None:
    ledger = stored()
    before = (ledger.spent(), ledger.remaining(), ledger.export_rows())
    release = release_from(1, BY_REGION, SOURCE, ledger)
    assert isinstance(release, Release)
    assert release.toPandas().to_dict("list") == {"region": ["north", "south"], "n": [10 + 11 + 12, 13 + 14 + 15]}
    assert release.price == dp.PureDP(0)
    assert release.whole_price == dp.PureDP(0)
    assert release.paid_before
    assert release.run_id == "ab" * 32
    assert (ledger.spent(), ledger.remaining(), ledger.export_rows()) == before


def test_an_answer_says_where_it_is_from_and_what_it_leaves_out() -> None:
    text = str(release_from(1, BY_REGION, SOURCE, stored()))
    assert "free, from release 1: only rows whose region, ward is one of the 6 keys of release 1 are in it" in text
    listed = ("where ward IN ('a', 'b')",)
    ledger = with_release(a_query(dp.count(), filters=listed))
    whole = release_from(1, replace(BY_REGION, filters=listed), SOURCE, ledger)
    assert "not clamping or bounding. free, from release 1, run abababababab." in str(whole)


def test_intervals_of_another_confidence_are_free_too() -> None:
    release = release_from(1, BY_REGION, SOURCE, stored())
    narrow, wide = (release.at(confidence).to_pydict() for confidence in (0.5, 0.99))
    assert narrow["value"] == wide["value"] == [33.0, 42.0]
    assert wide["lower"][0] < narrow["lower"][0] < 33 < narrow["upper"][0] < wide["upper"][0]


def test_explain_names_the_release_its_errors_and_how_to_take_it() -> None:
    (line,) = told(BY_REGION, stored())
    errors = release_from(1, BY_REGION, SOURCE, stored()).answers.accuracy.to_pydict()
    half = errors["upper"][0] - errors["value"][0]
    assert line == (
        f"free from release 1, expected error (95%) n: ± {half:,.4g}: from_release(1, ledger=ledger) gives sums of 3 "
        "of its cells; only rows whose region, ward is one of the 6 keys of release 1 are in it"
    )


def test_explain_says_that_the_very_question_is_answered() -> None:
    query = a_query(dp.count().alias("n"))
    ledger = with_release(query)
    (line,) = told(query, ledger)
    assert line == "free from release 1: the same question, release() gives its answer again"
    plans = [make_plan(query, dp.PureDP(epsilon)) for epsilon in ("1", "2")]
    found = [explain_plan(plan, (), free=without_paying(plan, SOURCE, ledger)).free_from for plan in plans]
    assert found == [1, None]  # at another price it would pay
    (other,) = told(query, ledger, epsilon="2")
    assert other.startswith("free from release 1, expected error (95%) n: ± ")
    assert other.endswith("from_release(1, ledger=ledger) gives its cells")


def test_the_best_offers_come_first_and_are_few() -> None:
    """Whole answers before others, then by their errors."""
    ledger = plenty()
    for epsilon in ("1", "3", "2", "1/2"):
        with_release(a_query(dp.count()), epsilon, ledger)
    with_release(a_query(dp.count(), by=["region"], keys=REGIONS), "1/10", ledger)
    assert [line.split(",")[0] for line in told(BY_REGION, ledger, "5")] == [
        "free from release 5",
        "free from release 2",
        "free from release 3",
    ]


def test_where_nothing_follows_explain_says_nothing() -> None:
    assert told(BY_REGION, plenty()) == ()
    assert told(a_query(dp.count_units(), by=["region"], keys=REGIONS), stored()) == ()


@pytest.mark.parametrize("change", [{"data_version": "visits@2"}, {"name": "patients"}, {"data_version": "unpinned-7"}])
def test_another_version_or_table_is_another_question(change: dict[str, str]) -> None:
    """Whatever the ledger lists: what a release is of follows from its key."""
    ledger, source = stored(), replace(SOURCE, **change)
    plan = make_plan(BY_REGION, dp.PureDP(1))
    assert without_paying(plan, source, ledger) == FreeAnswers()
    with pytest.raises(InvalidArgument, match="there is none"):
        release_from(1, BY_REGION, source, ledger)
    careless = stored(Careless)
    assert without_paying(plan, source, careless) == FreeAnswers()
    with pytest.raises(InvalidArgument, match="it is not a release of"):
        release_from(1, BY_REGION, source, careless)


def test_a_number_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"release=2: .*there are \[1\]"):
        release_from(2, BY_REGION, SOURCE, stored())


def test_a_question_that_does_not_follow_is_refused_and_says_why() -> None:
    query = a_query(dp.count(), bounds=ContributionBounds(max_total_rows=3))
    with pytest.raises(InvalidArgument, match="bounded by max_total_rows=4"):
        release_from(1, query, SOURCE, stored())


def test_a_release_that_is_listed_and_lost_is_damage() -> None:
    with pytest.raises(SparkMpcError, match="is not stored there"):
        release_from(1, BY_REGION, SOURCE, stored(Forgetful))


def test_a_release_with_keys_of_its_own_is_none_of_public_keys() -> None:
    data = StoredRelease("ab", np.zeros(2, np.uint64), (("a",),)).to_bytes()
    with pytest.raises(SparkMpcError, match="damaged"):
        StoredRelease.of_public_keys(data)
    plain = StoredRelease("ab", np.arange(2, dtype=np.uint64))
    assert StoredRelease.of_public_keys(plain.to_bytes()).words.tolist() == [0, 1]


def test_what_is_paid_for_is_stored_with_its_plan() -> None:
    """A rounding of the plan's text would make another key, and no offer."""
    awkward = a_query(
        dp.sum("d", Fraction(-1, 3), Fraction(2, 3)).weight("2/7").alias("s"),
        keys=(*KEYS, ("o'neil\u2028é", '"')),
        facts=replace(FACTS, max_units=2**40),
    )
    ledger = with_release(awkward, "0.1")
    (line,) = told(replace(awkward, aggregates=(dp.sum("d", Fraction(-1, 3), Fraction(2, 3)),)), ledger)
    assert line.startswith("free from release 1")
