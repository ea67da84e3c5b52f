"""Questions that follow from stored releases: the same sums, of the same law; and those that do not, each refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dp.accounting.ledger import StoredAnswer
from dp.errors import InvalidArgument, SparkMpcError
from dp.execution.release import make_answers
from dp.execution.survivors import UnitRows, mix64, survivors
from dp.planning.aggregates import Aggregate
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.keys import PrivateKeys
from dp.planning.plan import NoiseParties, Plan, make_plan
from dp.planning.query import Query
from dp.planning.stored import StoredPlan
from spark_mpc import dp
from tests.tools.entropy import seeded_random
from tests.tools.plans import FACTS
from tests.tools.stored import KEYS, TABLE, VERSION, a_query, followed, plenty, read_plan, store, text_of

REGIONS = (("north",), ("south",))
ONE_ROW_EACH = ContributionBounds(max_groups=6, max_rows=1)
ASKED = dp.PureDP(50)


def everything() -> tuple[Aggregate, ...]:
    return (
        dp.count().alias("n"),
        dp.sum("v", 0, 10).alias("s"),
        dp.mean("v", -1, 9).alias("m"),
        dp.histogram("v", [0, 5, 10]).alias("h"),
    )


def noised_words(plan: Plan, seed: str) -> NDArray[np.uint64]:
    """Cells of some hundred rows each, with their noise."""
    exact = np.arange(100, 100 + plan.length, dtype=np.uint64)
    return exact + plan.draw_noise(0, plan.length, seeded_random(seed))


def parted(query: Query, plan: Plan, words: NDArray[np.uint64]) -> list[dict[str, Any]]:
    """The answer's rows."""
    return list(make_answers(followed(query, plan), words).values.to_pylist())


# what follows


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_the_sum_of_the_stored_noised_cells(seed: int) -> None:
    plan = make_plan(a_query(*everything()), ASKED)
    words = noised_words(plan, f"law {seed}")
    derived = followed(a_query(*everything(), by=["region"], keys=REGIONS), plan)
    for part in plan.parts:
        cells = words[part.offset : part.offset + part.cells].view(np.int64).reshape(2, 3, *part.measure.shape)
        np.testing.assert_array_equal(derived.added_up(words, part.measure), cells.sum(axis=1))
    counts = words[:6].view(np.int64)
    values = make_answers(derived, words).values.to_pydict()
    assert values["region"] == ["north", "south"]
    assert values["n"] == [counts[:3].sum(), counts[3:].sum()]


def test_one_group_of_everything_is_the_sum_of_all_cells() -> None:
    plan = make_plan(a_query(dp.count().alias("n")), ASKED)
    words = noised_words(plan, "everything")
    overall = a_query(dp.count().alias("all"), by=(), keys=((),), bounds=ContributionBounds(max_groups=1, max_rows=4))
    assert parted(overall, plan, words) == [{"all": words.view(np.int64).sum()}]


def test_totals_of_all_levels_are_sums_of_the_same_cells_and_add_up() -> None:
    plan = make_plan(a_query(dp.count().alias("n")), ASKED)
    words = noised_words(plan, "totals")
    rows = parted(a_query(dp.count().alias("n"), totals="rollup"), plan, words)
    cells = words.view(np.int64).tolist()
    found = {(row["region"], row["ward"]): row["n"] for row in rows}
    assert [found[key] for key in KEYS] == cells
    assert (found["north", None], found["south", None]) == (sum(cells[:3]), sum(cells[3:]))
    assert found[None, None] == sum(cells)


def test_columns_and_keys_may_stand_in_another_order() -> None:
    plan = make_plan(a_query(dp.count().alias("n")), ASKED)
    words = noised_words(plan, "order")
    turned = tuple((ward, region) for region, ward in reversed(KEYS))
    rows = parted(a_query(dp.count().alias("n"), by=["ward", "region"], keys=turned), plan, words)
    assert [row["n"] for row in rows] == words.view(np.int64).tolist()[::-1]


def test_fewer_keys_follow_where_each_group_was_bounded_by_itself() -> None:
    plan = make_plan(a_query(dp.count().alias("n"), bounds=ONE_ROW_EACH), ASKED)
    words = noised_words(plan, "keys")
    few = a_query(dp.count().alias("n"), keys=KEYS[4:], bounds=ContributionBounds(max_groups=2, max_rows=1))
    assert [row["n"] for row in parted(few, plan, words)] == words.view(np.int64)[4:].tolist()
    assert followed(few, plan).only == ""


@pytest.mark.parametrize(
    ("steps", "by", "keys", "groups"),
    [
        (["where ward = 'b' AND region = 'south'"], (), ((),), [4]),
        (["where ward = 'b'", "where region IN ('south')"], (), ((),), [4]),
        (["where ward = 'b'"], ("region",), REGIONS, [1, 4]),
        (["where ward IN ('b')"], ("region", "ward"), (("north", "b"),), [1]),
    ],
)
def test_conditions_on_keys_choose_groups(steps: list[str], by: tuple[str, ...], keys: Any, groups: list[int]) -> None:
    plan = make_plan(a_query(dp.count().alias("n"), bounds=ONE_ROW_EACH, filters=("where year = 1",)), ASKED)
    words = noised_words(plan, "conditions")
    bounds = ContributionBounds(max_groups=len(groups), max_rows=1)
    asked = a_query(dp.count().alias("n"), by=by, keys=keys, bounds=bounds, filters=("where year = 1", *steps))
    assert [row["n"] for row in parted(asked, plan, words)] == words.view(np.int64)[groups].tolist()
    assert followed(asked, plan).only == ""


@pytest.mark.parametrize(
    "asked",
    [
        (dp.sum("v", -1, 9).alias("a"),),  # encoded for the mean: from the middle of the bounds
        (dp.mean("v", -1, 9).alias("a"),),
        (dp.mean("v", 0, 10).alias("a"),),
        (dp.sum("i", 0, 8).alias("a"), dp.count().alias("b")),
    ],
)
def test_what_fewer_aggregates_say_is_what_the_release_says(asked: tuple[Aggregate, ...]) -> None:
    """The same values and intervals as if they had been asked together."""
    more = (*everything(), dp.mean("v", 0, 10).alias("mv"), dp.sum("i", 0, 8).alias("si"))
    plan = make_plan(a_query(*more), ASKED)
    together = make_plan(a_query(*more, *(replace(a, name=f"z_{a.name}") for a in asked)), ASKED)
    assert [part.measure for part in together.parts] == [part.measure for part in plan.parts]
    words = noised_words(plan, "fewer")
    expected = make_answers(replace(together, parts=plan.parts), words).accuracy.to_pandas()
    found = make_answers(followed(a_query(*asked), plan), words).accuracy.to_pandas()
    for aggregate in asked:
        of_both = expected[expected["aggregate"] == f"z_{aggregate.name}"].drop(columns="aggregate")
        of_one = found[found["aggregate"] == aggregate.name].drop(columns="aggregate")
        np.testing.assert_allclose(of_one.iloc[:, 4:], of_both.iloc[:, 4:])


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        (dp.sum("d", -1, 3), [dp.sum("d", -1, 3)]),
        (dp.sum("d", -1, 3), [dp.mean("d", -1, 3)]),
        (dp.sum("d", -1, 3), [dp.variance("d", -1, 3)]),
        (dp.mean("d", -1, 3), [dp.variance("d", -1, 3)]),
        (dp.mean("i", 1, 9), [dp.sum("i", 1, 9), dp.count()]),
    ],
)
def test_columns_are_encoded_as_the_release_encoded_them(asked: Aggregate, measured: list[Aggregate]) -> None:
    """Its other aggregates decide on the unit and on what is subtracted from each value."""
    plan = make_plan(a_query(*measured), ASKED)
    derived = followed(a_query(asked), plan)
    needed = asked.resolve(FACTS, derived.query.columns).measures(derived.schemas[asked.name])
    assert set(needed) <= {part.measure for part in plan.parts}


def test_noise_grows_with_the_cells_that_are_added_up() -> None:
    plan = make_plan(a_query(dp.count().alias("n")), ASKED)
    uneven = tuple(key for key in KEYS if key != ("south", "c"))
    of_uneven = make_plan(a_query(dp.count().alias("n"), keys=uneven), ASKED)
    one = plan.parts[0].noise.stddev
    words = noised_words(plan, "spread")
    spread = make_answers(followed(a_query(dp.count().alias("n"), by=["region"], keys=REGIONS), plan), words).accuracy
    np.testing.assert_allclose(spread["stddev"].to_numpy(), one * np.sqrt([3, 3]))
    derived = followed(a_query(dp.count().alias("n"), by=["region"], keys=REGIONS), of_uneven)
    spread = make_answers(derived, words[:5]).accuracy
    np.testing.assert_allclose(spread["stddev"].to_numpy(), one * np.sqrt([3, 2]))
    assert derived.expected_errors(0.95)["n"].half_width == spread["upper"][0].as_py() - spread["value"][0].as_py()


# which rows are in it


@pytest.mark.parametrize(
    ("steps", "complete"),
    [
        ((), False),
        (("where ward IN ('a', 'b', 'c')",), True),
        (("where ward IN ('a', 'b') AND year = 1",), True),
        (("where ward IN ('a', 'b', 'c', 'd')",), False),
        (("where ward IN ('a', 'b', 'c') OR ward = 'c'",), False),
        (("where ward IN ('a', 'b', 'c')", "withColumn ward = upper(ward)"), False),
        (("where cost > 3", "where ward = 'a'"), True),
        (("where ward = 'z'",), False),
    ],
)
def test_rows_of_other_wards_are_missing_unless_a_condition_leaves_none(steps: tuple[str, ...], complete: bool) -> None:
    plan = make_plan(a_query(dp.count(), filters=steps), ASKED)
    derived = followed(a_query(dp.count(), by=["region"], keys=REGIONS, filters=steps), plan)
    said = "only rows whose region, ward is one of the 6 keys of release 1 are in it"
    assert derived.only == ("" if complete else said)


def test_a_condition_has_to_be_listed_whole_under_every_key() -> None:
    """South has no group of its ward c, so that the south's sum lacks its rows."""
    steps = ("where ward IN ('a', 'b', 'c')",)
    for listed, complete in [(KEYS, True), (KEYS[:5], False), (KEYS[1:], False)]:
        plan = make_plan(a_query(dp.count(), keys=listed, filters=steps), ASKED)
        derived = followed(a_query(dp.count(), by=["region"], keys=REGIONS, filters=steps), plan)
        assert (derived.only == "") == complete


def _counts(rows: list[tuple[int, Any]], keys: tuple[Any, ...], bounds: ContributionBounds, salt: int) -> int:
    """How many rows survive in the groups of these keys, by the kernel that releases use."""
    inside = [(unit, keys.index(key)) for unit, key in rows if key in keys]
    unit, group = (np.array([row[i] for row in inside], np.int64) for i in (0, 1))
    hashes = mix64(unit.view(np.uint64) + np.uint64(salt))
    return len(survivors(UnitRows(unit, hashes, group, {}), bounds).rows)


BOUNDS = st.one_of(
    st.builds(ContributionBounds, max_groups=st.sampled_from([1, 2, 5, 6, 7]), max_rows=st.integers(1, 2)),
    st.builds(ContributionBounds, max_total_rows=st.integers(1, 5)),
    st.builds(ContributionBounds, max_groups=st.integers(1, 7), max_total_rows=st.integers(1, 5)),
)
QUESTIONS = st.sampled_from(
    [
        (("region", "ward"), KEYS),
        (("region", "ward"), KEYS[:2]),
        (("region",), REGIONS),
        (("region",), REGIONS[:1]),
        (("ward",), (("a",), ("b",))),
        ((), ((),)),
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    QUESTIONS,
    st.tuples(BOUNDS, BOUNDS),
    st.sampled_from([KEYS, KEYS[:3], KEYS[1:], KEYS[:1]]),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([*KEYS, ("north", "d"), ("east", "a")])), max_size=25),
    st.integers(0, 2**32),
)
def test_what_is_offered_counts_the_rows_that_the_question_counts(
    question: Any, limits: tuple[ContributionBounds, ContributionBounds], listed: Any, rows: Any, salt: int
) -> None:
    """Whatever rows units have: as many survive in the release's groups as in the question's, on the rows it names."""
    (by, keys), (before, bounds) = question, limits
    plan = make_plan(a_query(dp.count(), keys=listed, bounds=before), ASKED)
    query = a_query(dp.count(), by=by, keys=keys, bounds=bounds)
    try:
        derived = followed(query, plan)
    except InvalidArgument:
        return
    if (plan.query.bounds.max_groups or len(listed)) < len(listed):
        assert (query.bounds, set(keys)) == (plan.query.bounds, set(listed))  # which groups stay is a matter of chance
        return
    if derived.only:
        rows = [(unit, key) for unit, key in rows if key in listed]
    used = tuple(listed[group] for group in np.unique(derived.group))
    if set(used) == set(listed):
        found = _counts(rows, listed, plan.query.bounds, salt)
    else:  # groups by themselves
        found = sum(_counts(rows, (key,), plan.query.bounds, salt) for key in used)
    places = [("region", "ward").index(column) for column in by]
    seen = [(unit, tuple(key[place] for place in places)) for unit, key in rows]
    assert found == _counts(seen, keys, query.bounds, salt + 1)


# what does not follow

STORED: Callable[[], Query] = lambda: a_query(dp.count().alias("n"), dp.sum("v", 0, 10).alias("s"))  # noqa: E731

REFUSED: dict[str, tuple[Callable[[], Query], str]] = {
    "another step": (lambda: a_query(dp.count(), filters=("where year = 1",)), "further steps were taken"),
    "a condition on another column": (
        lambda: a_query(dp.count(), filters=("where v = 1",)),
        "further steps were taken",
    ),
    "a condition that is no list": (
        lambda: a_query(dp.count(), filters=("where ward <> 'a'",)),
        "further steps were taken",
    ),
    "a step that is no condition": (
        lambda: a_query(dp.count(), filters=("withColumn ward = upper(ward)", "where ward = 'A'")),
        "further steps were taken",
    ),
    "other bounds": (
        lambda: a_query(dp.count(), bounds=ContributionBounds(max_total_rows=5)),
        "bounded by max_total_rows=4",
    ),
    "bounds of another kind": (
        lambda: a_query(dp.count(), bounds=ContributionBounds(max_groups=2, max_rows=2)),
        "bounded by max_total_rows=4",
    ),
    "fewer keys than were bounded together": (lambda: a_query(dp.count(), keys=KEYS[:5]), "bounded by"),
    "a condition on what was bounded together": (
        lambda: a_query(dp.count(), keys=KEYS[:1], filters=("where ward = 'a'",)),
        "bounded by",
    ),
    "a key that it lacks": (
        lambda: a_query(dp.count(), keys=(*KEYS, ("east", "a"))),
        r"no group of the key \('east', 'a'\)",
    ),
    "a key of another type": (lambda: a_query(dp.count(), by=["region"], keys=((1,),)), r"no group of the key \(1,\)"),
    "another column": (lambda: a_query(dp.count(), by=["year"], keys=((1,),)), "it is by"),
    "private keys": (
        lambda: a_query(dp.count(), keys=PrivateKeys(), bounds=ContributionBounds(max_groups=1, max_rows=4)),
        "private keys",
    ),
    "another unit": (lambda: a_query(dp.count(), facts=replace(FACTS, unit=("row",))), "another unit"),
    "more units together": (lambda: a_query(dp.count(), facts=replace(FACTS, group_size=2)), "another units_together"),
    "another number of units": (lambda: a_query(dp.count(), facts=replace(FACTS, max_units=9)), "another max_units"),
    "other clamps": (lambda: a_query(dp.sum("v", 0, 11)), "not measured what 'sum_v' is computed from"),
    "other missing values": (lambda: a_query(dp.sum("v", 0, 10, missing=0)), "not measured"),
    "a column that it did not read": (lambda: a_query(dp.sum("d", 0, 10)), "has not read column 'd'"),
    "a mean without its count": (lambda: a_query(dp.mean("v", 0, 10)), "not measured"),
    "units": (lambda: a_query(dp.count_units()), "not computed from sums over rows"),
    "sums of units": (lambda: a_query(dp.unit_sum("v", 0, 10)), "not computed from sums over rows"),
    "different values": (lambda: a_query(dp.count_distinct("v")), "not computed from sums over rows"),
    "quantiles": (lambda: a_query(dp.median("v", 0, 10)), "not computed from sums over rows"),
    "a choice": (lambda: a_query(dp.most_frequent("v", [1, 2])), "not computed from sums over rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_follow_is_refused_and_says_why(name: str) -> None:
    make, why = REFUSED[name]
    with pytest.raises(InvalidArgument, match=why):
        followed(make(), make_plan(STORED(), ASKED))


def test_what_was_measured_is_not_enough_where_it_is_no_sum_over_rows() -> None:
    """Units in two groups are fewer than the sum of both; and so are different values, and clamped totals."""
    more = (dp.count_units(), dp.unit_sum("v", 0, 10), dp.count_distinct("v"), dp.median("v", 0, 10))
    plan = make_plan(a_query(*more), ASKED)
    for aggregate in more:
        with pytest.raises(InvalidArgument, match="not computed from sums over rows"):
            followed(a_query(aggregate, by=["region"], keys=REGIONS), plan)


def test_a_step_that_the_question_lacks_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="other steps were taken before"):
        followed(a_query(dp.count()), make_plan(a_query(dp.count(), filters=("where year = 1",)), ASKED))


def test_one_group_of_each_unit_is_not_one_region_of_each_unit() -> None:
    """A unit in two wards counts in one of them, so that its region's sum lacks rows."""
    bounds = ContributionBounds(max_groups=1, max_rows=2)
    with pytest.raises(InvalidArgument, match="bounded by max_groups=1, max_rows=2"):
        followed(
            a_query(dp.count(), by=["region"], keys=REGIONS, bounds=bounds),
            make_plan(a_query(dp.count(), bounds=bounds), ASKED),
        )


@pytest.mark.parametrize(
    "bounds",
    [
        ContributionBounds(max_groups=6, max_rows=2),
        ContributionBounds(max_groups=5, max_rows=1),
        ContributionBounds(max_total_rows=1),
        ContributionBounds(max_groups=6, max_total_rows=1),
    ],
)
def test_groups_that_were_bounded_by_themselves_answer_no_other_bounds(bounds: ContributionBounds) -> None:
    with pytest.raises(InvalidArgument, match="bounded by max_groups=6, max_rows=1"):
        followed(a_query(dp.count(), bounds=bounds), make_plan(a_query(dp.count(), bounds=ONE_ROW_EACH), ASKED))


def test_where_every_row_is_a_unit_nothing_is_bounded_and_all_sums_follow() -> None:
    facts, one = PublicFacts(unit=(), max_units=10**6), ContributionBounds(max_groups=1, max_rows=1)
    plan = make_plan(a_query(dp.count(), facts=facts, bounds=one), ASKED)
    derived = followed(a_query(dp.count(), by=["region"], keys=REGIONS[:1], facts=facts, bounds=one), plan)
    assert derived.draws.tolist() == [3]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"totals": "rollup"}, "it is a rollup"),
        (
            {"keys": PrivateKeys(), "bounds": ContributionBounds(max_groups=1, max_rows=4)},
            "its keys were private",
        ),
    ],
)
def test_releases_of_which_nothing_follows(change: dict[str, Any], why: str) -> None:
    plan = make_plan(a_query(dp.count(), **change), dp.ApproxDP(1, "1e-6"))
    with pytest.raises(InvalidArgument, match=why):
        read_plan(plan)


def test_a_release_of_several_parties_is_not_one_lakes() -> None:
    plan = make_plan(a_query(dp.count()), ASKED, parties=3, noise=NoiseParties(3, 1))
    with pytest.raises(InvalidArgument, match="several parties made it"):
        read_plan(plan)


def stored_answer(**changes: str) -> StoredAnswer:
    plan = make_plan(STORED(), ASKED)
    ledger = plenty()
    store(ledger, plan, np.zeros(plan.length, np.uint64))
    return replace(ledger.stored_releases(TABLE, VERSION)[0], **changes)  # type: ignore[arg-type]


def test_the_key_of_a_release_says_which_table_version_and_plan_it_is_of() -> None:
    answer = stored_answer()
    assert StoredPlan.read(answer, TABLE, VERSION).keys == KEYS
    widened = json.loads(answer.plan)
    widened["query"]["bounds"]["max_total_rows"] = 5
    for wrong, table, version in [
        (answer, TABLE, "visits@2"),
        (answer, "other", VERSION),
        (stored_answer(plan=json.dumps(widened)), TABLE, VERSION),
        (stored_answer(plan=text_of(make_plan(STORED(), dp.PureDP(2)))), TABLE, VERSION),
    ]:
        with pytest.raises(InvalidArgument, match="it is not a release of"):
            StoredPlan.read(wrong, table, version)


@pytest.mark.parametrize("text", ["", "not json", "[]", "7", "null", "[" * 100_000])
def test_a_release_without_a_plan_says_so(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no plan is stored with it"):
        StoredPlan.read(stored_answer(plan=text), TABLE, VERSION)


def test_fewer_cells_than_the_plan_names_are_damage() -> None:
    derived = followed(a_query(dp.count()), make_plan(a_query(dp.count()), ASKED))
    with pytest.raises(SparkMpcError, match="damaged: 5 cells, its plan names 6"):
        make_answers(derived, np.zeros(5, np.uint64))


def test_sums_that_could_wrap_are_refused() -> None:
    """Each cell is within the ring by its own plan; the noise of very many of them together need not be."""
    facts = replace(FACTS, max_units=1)
    bounds = ContributionBounds(max_total_rows=4)
    keys = tuple((f"r{i}", "a") for i in range(300))
    plan = make_plan(a_query(dp.count(), keys=keys, facts=facts, bounds=bounds), dp.PureDP("0.000000000000001"))
    with pytest.raises(InvalidArgument, match="could wrap"):
        followed(a_query(dp.count(), by=["ward"], keys=(("a",),), facts=facts, bounds=bounds), plan)
