"""Programs over real tables: noised and debited like a query, or disclosed by a name that every owner lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

import spark_mpc as mpc
from lake.table import Table
from spark_mpc import dp, lake
from spark_mpc.programs.program import Program
from tests.tools.lakes import write_table
from tests.tools.studies import Wire, all_at_once, memory_parties

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c", "d")
KEYS = [0, 1, 2]
ROWS = {
    "a": [("u1", 0, 5), ("u1", 0, 5), ("u2", 1, 9), ("u3", 1, 2)],
    "b": [("v1", 0, 1), ("v2", 1, 4), ("v3", 1, 4), ("v4", 2, 6)],
    "c": [("w1", 0, 3), ("w2", 2, 3), ("w3", 2, 3)],
    "d": [("z1", 1, 7), ("z2", 1, 7), ("z3", 2, 7), ("z4", 7, 1)],
}
COUNTS = {"a": [2, 2, 0], "b": [1, 2, 1], "c": [1, 0, 2], "d": [0, 2, 1]}
CAPACITY = dp.ApproxDP(100, "1e-3")


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    folder = tmp_path_factory.mktemp("programs")
    return {
        name: Table.forPath(
            spark,
            write_table(spark, folder / name, "id string, k int, v int", rows),
            unit="id",
            null_units="drop",
            max_units=1000,
        )
        for name, rows in ROWS.items()
    }


@pytest.fixture
def ledgers(tmp_path: Path) -> dict[str, lake.Ledger]:
    return {name: lake.Ledger.create(tmp_path / f"{name}.ledger", capacity=CAPACITY) for name in NAMES}


def federation(names: tuple[str, ...] = NAMES) -> mpc.Federation:
    return mpc.Federation.local(names, protocol="rep3", compute=names[:3])


def inputs(
    study: mpc.Study, tables: Mapping[str, Table], overlap: mpc.Overlap | None = mpc.DISJOINT, at_most: int = 50
) -> dict[str, Any]:
    """What each party counts, by its name."""
    names = tuple(identity.name for identity in study.federation.identities)
    frame = study.contribute("claims", {name: tables[name] for name in names}, overlap=overlap)
    counts = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
    return {name: mpc.secret(counts, of=name, at_most=at_most) for name in NAMES if name in names}


def innerprod(x: mpc.SecretInts, y: mpc.SecretInts) -> mpc.SecretInts:
    return x.dot(y)


def mult3(x: mpc.SecretInts, y: mpc.SecretInts, z: mpc.SecretInts) -> mpc.SecretInts:
    return x * y * z


def listed(program: Program, name: str, recipients: tuple[str, ...] = NAMES) -> lake.Policy:
    """A policy that lists one disclosure."""
    named = ", ".join(f'"{recipient}"' for recipient in recipients)
    return lake.Policy.parse(f'[disclosure.{name}]\nprogram = "{program.fingerprint}"\nrecipients = [{named}]\n')


@pytest.fixture
def fingerprinted(spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]) -> Iterator[Program]:
    """The inner product of what b and d count; d does not compute."""
    with federation().session(spark, ledger=ledgers) as study:
        given = inputs(study, tables)
        yield mpc.program(innerprod, x=given["b"], y=given["d"])


def states(ledgers: Mapping[str, lake.Ledger]) -> dict[str, list[str]]:
    return {name: [entry.state for entry in ledger.entries()] for name, ledger in ledgers.items()}


# -- noised ------------------------------------------------------------------------------------------------------------


def test_an_inner_product_is_noised_debited_and_answered_again_for_free(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with federation().session(spark, ledger=ledgers) as study:
        given = inputs(study, tables)
        program = mpc.program(innerprod, x=given["a"], y=given["d"])
        page = str(program.explain(epsilon="1", delta="1e-9"))
        release = program.release("1", "1e-9")
        again = program.release("1", "1e-9")
    assert release is not None
    assert again is not None
    assert "at most 100 in all" in page  # two rows of one unit, each next to a count of 50
    assert program.fingerprint in page
    scale = 100
    assert release.stddev == pytest.approx(np.sqrt(2) * scale, rel=0.01)
    assert abs(int(release.values[0]) - np.dot(COUNTS["a"], COUNTS["d"])) < 40 * scale
    assert (again.values, again.paid_before) == (release.values, True)
    assert "free" in str(again)
    for ledger in ledgers.values():
        (entry,) = ledger.entries()
        assert (entry.state, entry.disclosure) == ("spent", "")
        assert entry.purpose == "innerprod(x of a, y of d)"
        assert ledger.spent() == dp.ApproxDP(1, "1e-9")
    row = release.df.collect()[0]
    assert row["lower"] < row["value"] < row["upper"]
    assert release.half_width(0.5) < release.half_width() == pytest.approx((row["upper"] - row["lower"]) / 2)


def test_the_noise_has_the_scale_that_the_plan_says(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    """400 cells that are zero: their root mean square is one sample's; see test_federated_rep3 for the interval."""
    with federation().session(spark, ledger=ledgers) as study:
        frame = study.contribute("claims", tables, overlap=mpc.DISJOINT)
        empty = frame.groupBy("k", keys=range(1000, 1400), max_groups=1, max_rows=3).agg(dp.count())
        program = mpc.program(
            lambda x, y: x - y,
            name="difference",
            x=mpc.secret(empty, of="a", at_most=9),
            y=mpc.secret(empty, of="b", at_most=9),
        )
        release = program.release("1", "1e-9")
    assert release is not None
    assert program.body.sensitivity == 3
    assert 0.7 < float(np.sqrt(np.mean(np.square(release.values)))) / (np.sqrt(2) * 3) < 1.4


def test_overlapping_units_enter_the_sensitivity(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with federation().session(spark, ledger=ledgers) as study:
        for overlap, expected in ((mpc.DISJOINT, 100), (mpc.Overlap(2), 200), (None, 200)):
            given = inputs(study, tables, overlap)
            assert mpc.program(innerprod, x=given["a"], y=given["b"]).body.sensitivity == expected


def test_recipients_outside_of_the_three(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with memory_parties(federation(), ledgers, Wire()) as parties:

        def ask(name: str) -> Any:
            study = mpc.Study(federation(), spark, ledgers, lambda party, step: None)
            study.federation = mpc.Federation(parties[name].federation, (parties[name].identity,))
            study.parties = (parties[name],)

            def job() -> Any:
                frame = study.contribute("claims", tables[name], overlap=mpc.DISJOINT)
                counts = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
                program = mpc.program(
                    innerprod, x=mpc.secret(counts, of="a", at_most=5), y=mpc.secret(counts, of="d", at_most=5)
                )
                return program.release("1", "1e-9", recipients=["d"])

            return job

        outcomes = all_at_once({name: ask(name) for name in NAMES})
    assert {name: outcome is not None for name, outcome in outcomes.items()} == {name: name == "d" for name in NAMES}, (
        outcomes
    )
    assert isinstance(outcomes["d"], mpc.ProgramRelease)
    assert states(ledgers) == {name: ["spent"] for name in NAMES}


# -- disclosed ---------------------------------------------------------------------------------------------------------


def test_an_exact_opening_that_every_owner_lists(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger], fingerprinted: Program
) -> None:
    policy = listed(fingerprinted, "audit-1")
    with federation().session(spark, ledger=ledgers, policy=policy) as study:
        given = inputs(study, tables)
        program = mpc.program(innerprod, x=given["b"], y=given["d"])
        page = str(program.explain(disclosure="audit-1"))
        release = program.disclose("audit-1")
    assert program.fingerprint == fingerprinted.fingerprint
    assert "No privacy guarantee" in page
    assert release is not None
    assert release.values.tolist() == [int(np.dot(COUNTS["b"], COUNTS["d"]))]
    assert release.stddev == release.half_width() == 0
    assert "EXACT" in str(release)
    assert "EXACT" in release._repr_html_()
    for ledger in ledgers.values():
        (entry,) = ledger.entries()
        assert (entry.state, entry.disclosure) == ("spent", "audit-1")
        assert "without noise" in entry.purpose
        assert ledger.spent() == dp.ApproxDP(0, 0)


def test_the_product_of_three_and_what_is_cut_off(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    names = NAMES[:3]
    own = {name: ledgers[name] for name in names}

    def ask(policy: lake.Policy | None, name: str) -> Any:
        with federation(names).session(spark, ledger=own, policy=policy) as study:
            frame = study.contribute("claims", {n: tables[n] for n in names}, overlap=mpc.DISJOINT)
            total = frame.agg(dp.sum("v", 0, 100), max_rows=5)
            numbers = {key: mpc.secret(total, of=n, at_most=15) for key, n in zip("xyz", names, strict=True)}
            program = mpc.program(mult3, **numbers)
            return program if policy is None else program.disclose(name)

    program = ask(None, "")
    assert program.body.sensitivity == 15**3  # the cell cannot move further than from 0 to 15, next to 15 and 15
    release = ask(listed(program, "sums", names), "sums")
    assert release.values.tolist() == [15 * 15 * 9]  # 21 and 15 and 9


@pytest.mark.parametrize("refuses", ["a", "d"])
def test_one_owner_who_does_not_list_it_keeps_it_from_everybody(
    refuses: str,
    spark: SparkSession,
    tables: dict[str, Table],
    ledgers: dict[str, lake.Ledger],
    fingerprinted: Program,
) -> None:
    agrees = listed(fingerprinted, "audit")
    policies = {name: agrees for name in NAMES if name != refuses}
    steps: list[tuple[str, str]] = []
    with federation().session(
        spark, ledger=ledgers, policy=policies, progress=lambda party, step: steps.append((party, step))
    ) as study:
        given = inputs(study, tables)
        program = mpc.program(innerprod, x=given["b"], y=given["d"])
        with pytest.raises(lake.DisclosureRefused, match=program.fingerprint):
            program.disclose("audit")
    assert not {step for _, step in steps} - {"agree"}
    assert not any(entry.state != "released" for ledger in ledgers.values() for entry in ledger.entries())


def test_a_listing_of_one_version_is_spent_with_it(
    spark: SparkSession, tmp_path: Path, ledgers: dict[str, lake.Ledger]
) -> None:
    def own(name: str) -> Table:
        return Table.forPath(spark, str(tmp_path / name), unit="id", null_units="drop", max_units=1000)

    for name in NAMES:
        write_table(spark, tmp_path / name, "id string, k int, v int", ROWS[name])
    refusals = 0
    policies: dict[str, lake.Policy] = {}
    while True:  # owner after owner learns what its file must say, and writes just that
        with federation().session(spark, ledger=ledgers, policy=policies) as study:
            given = inputs(study, {name: own(name) for name in NAMES})
            program = mpc.program(innerprod, x=given["b"], y=given["d"])
            try:
                release = program.disclose("audit")
                break
            except lake.DisclosureRefused as refused:
                stanza = refused.remedy.partition("\n\n")[2]
                (owner,) = {name for name in NAMES if own(name).data_version in stanza}
                policies[owner] = lake.Policy.parse(stanza)
                refusals += 1
    assert (refusals, release is not None) == (4, True)
    write_table(spark, tmp_path / "c", "id string, k int, v int", [("w9", 1, 1)])
    with federation().session(spark, ledger=ledgers, policy=policies) as study:
        given = inputs(study, {name: own(name) for name in NAMES})
        program = mpc.program(innerprod, x=given["b"], y=given["d"])
        page = str(program.explain(disclosure="audit"))
        with pytest.raises(lake.DisclosureRefused, match="of this owner's table"):
            program.disclose("audit")
    assert page.count(": yes") == 3
    assert page.count(": no. it is for version") == 1


@pytest.mark.parametrize("change", ["program", "recipients", "bound", "overlap"])
def test_a_listed_name_opens_nothing_else(
    change: str, spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger], fingerprinted: Program
) -> None:
    policy = listed(fingerprinted, "audit", ("a",))
    with federation().session(spark, ledger=ledgers, policy=policy) as study:
        given = inputs(
            study,
            tables,
            mpc.Overlap(2) if change == "overlap" else mpc.DISJOINT,
            at_most=51 if change == "bound" else 50,
        )
        function = (lambda x, y: x.dot(y) + x[0:1]) if change == "program" else innerprod
        program = mpc.program(function, name="innerprod", x=given["b"], y=given["d"])
        with pytest.raises(lake.DisclosureRefused):
            program.disclose("audit", recipients=["a", "b"] if change == "recipients" else ["a"])
    assert not any(ledger.entries() for ledger in ledgers.values())


# -- refused -----------------------------------------------------------------------------------------------------------


def test_parties_that_mean_other_programs_disagree_and_pay_nothing(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    names = NAMES[:3]
    made = federation(names)
    own = {name: ledgers[name] for name in names}
    with memory_parties(made, own, Wire()) as parties:

        def ask(name: str) -> Any:
            study = mpc.Study(
                mpc.Federation(made.file, (parties[name].identity,)), spark, own, lambda party, step: None
            )
            study.parties = (parties[name],)

            def job() -> Any:
                frame = study.contribute("claims", tables[name], overlap=mpc.DISJOINT)
                counts = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
                x, y = (mpc.secret(counts, of=owner, at_most=5) for owner in "ab")
                # b would learn a's counts one by one
                function = (lambda x, y: x + y * 0) if name == "b" else (lambda x, y: x + y)
                return mpc.program(function, name="total", x=x, y=y).release("1", "1e-9")

            return job

        outcomes = all_at_once({name: ask(name) for name in names})
    assert all(isinstance(outcome, mpc.Disagreement) for outcome in outcomes.values()), outcomes
    assert "steps" in str(outcomes["a"])
    assert not any(ledger.entries() for ledger in own.values())


def test_bad_programs_are_refused_before_anything_runs(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    with federation().session(spark, ledger=ledgers) as study:
        frame = study.contribute("claims", tables, overlap=mpc.DISJOINT)
        groups = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2)
        x = mpc.secret(groups.agg(dp.count()), of="a", at_most=5)
        other = study.contribute("others", tables, overlap=mpc.DISJOINT)
        elsewhere = mpc.secret(
            other.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count()), of="b", at_most=5
        )
        refused: list[tuple[Any, str]] = [
            (lambda: mpc.secret(groups.agg(dp.count()), of="z", at_most=5), "the parties are"),
            (lambda: mpc.secret(groups.agg(dp.count()), of="a", at_most=0), "above the least"),
            (lambda: mpc.secret(groups.agg(dp.count()), of="a", at_most=2**62), "below 2.62"),
            (lambda: mpc.secret(groups.agg(dp.count()), of="a", at_most=True), "integers below"),
            (lambda: mpc.secret(groups.agg(dp.count(), dp.sum("v", 0, 9)), of="a", at_most=5), "takes integers"),
            (lambda: mpc.secret(groups.agg(dp.mean("v", 0, 9)), of="a", at_most=5), "takes integers"),
            (lambda: mpc.program(lambda: 3), "give the function's arguments"),
            (lambda: mpc.program(lambda x: 3, x=x), "return secret integers"),
            (lambda: mpc.program(lambda x, y: x + y, x=x, y=elsewhere), "one contribution"),
            (lambda: mpc.program(lambda x: x, x=x).release("1", 0), "give one, such as 1e-9"),
            (lambda: mpc.program(lambda x: x, x=x).release("0", "1e-9"), "positive amount"),
            (lambda: mpc.program(lambda x: x, x=x).release("1", "1e-9", recipients=["z"]), "at least one of"),
            (lambda: mpc.program(lambda x: x, x=x).disclose(""), "policy files list"),
            (lambda: mpc.program(lambda x: x, x=x).explain("1", disclosure="n"), "leave epsilon"),
            (lambda: mpc.program(lambda x: x * 2**60, x=x).release("1e-3", "1e-9"), "clip|wrap"),
            (lambda: mpc.program(lambda x: x, x=x).rehearse(y=[1]), "each of"),
            (lambda: mpc.program(lambda x: x, x=x).rehearse(x=[1, 2, 6]), "beyond the bound"),
        ]
        for attempt, words in refused:
            with pytest.raises(dp.InvalidArgument, match=words):
                attempt()
        assert mpc.program(lambda x: x * x, x=x).rehearse(x=[1, -2, 3]).tolist() == [1, 4, 9]
    assert not any(ledger.entries() for ledger in ledgers.values())


def test_secrets_of_another_program_are_refused(
    spark: SparkSession, tables: dict[str, Table], ledgers: dict[str, lake.Ledger]
) -> None:
    """A narrow input kept from before would hide how far a wide one of the same name moves."""
    kept: list[mpc.SecretInts] = []
    with federation().session(spark, ledger=ledgers) as study:
        narrow, wide = inputs(study, tables, at_most=1)["a"], inputs(study, tables, at_most=10**6)["a"]
        mpc.program(lambda x: kept.append(x) or x, x=narrow)
        with pytest.raises(dp.InvalidArgument, match="the function's own arguments"):
            mpc.program(lambda x: kept[0].sum(), x=wide)
        with pytest.raises(dp.InvalidArgument, match="the function's own arguments"):
            mpc.program(lambda x: x + kept[0], x=wide)


def test_one_program_has_one_unit(spark: SparkSession, tables: dict[str, Table], tmp_path: Path) -> None:
    names = NAMES[:3]
    own = {name: lake.Ledger.create(tmp_path / name, capacity=CAPACITY) for name in names}
    other = {
        name: Table.forPath(spark, tables[name].path, unit="id", null_units="drop", max_units=1000, group_size=5)
        for name in names
    }
    with federation(names).session(spark, ledger=own) as study:

        def counts(given: Mapping[str, Table], of: str) -> Any:
            frame = study.contribute("claims", {name: given[name] for name in names}, overlap=mpc.DISJOINT)
            query = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
            return mpc.secret(query, of=of, at_most=50)

        x = counts(tables, "a")
        with pytest.raises(dp.InvalidArgument, match="one contribution"):
            mpc.program(innerprod, x=x, y=counts(other, "b"))
        with pytest.raises(dp.InvalidArgument, match="different facts"):
            counts({**tables, "b": other["b"]}, "b")
        together = mpc.program(lambda x: x, x=counts(other, "b"))
        assert together.body.sensitivity == 5 * 2
        page = str(together.explain("1", "1e-9"))
    assert "any 5 together" in page
    assert "count by k of b, 3 cell(s) cut off at 0 and 50; max_groups=1, max_rows=2 a unit" in page
    assert "#0 = input(x)" in page


@pytest.mark.parametrize("capacity", [dp.PureDP(9), dp.ZCDP(9)])
def test_ledgers_without_a_delta_say_so(
    capacity: Any, spark: SparkSession, tables: dict[str, Table], tmp_path: Path
) -> None:
    own = {name: lake.Ledger.create(tmp_path / name, capacity=capacity) for name in NAMES}
    with federation().session(spark, ledger=own) as study:
        given = inputs(study, tables)
        with pytest.raises(dp.InvalidArgument, match="ledger of epsilon and delta"):
            mpc.program(innerprod, x=given["a"], y=given["b"]).release("1", "1e-9")
    assert not any(ledger.entries() for ledger in own.values())


def test_a_federation_that_only_adds_up_runs_no_program(
    spark: SparkSession, tables: dict[str, Table], tmp_path: Path
) -> None:
    own = {name: lake.Ledger.create(tmp_path / name, capacity=dp.PureDP(1)) for name in ("a", "b")}
    with mpc.Federation.local(("a", "b")).session(spark, ledger=own) as study:
        frame = study.contribute("claims", {name: tables[name] for name in own}, overlap=mpc.DISJOINT)
        counts = frame.groupBy("k", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
        with pytest.raises(dp.InvalidArgument, match="rep3"):
            mpc.program(lambda x: x, x=mpc.secret(counts, of="a", at_most=5))


def test_too_little_budget_costs_nobody_anything(spark: SparkSession, tables: dict[str, Table], tmp_path: Path) -> None:
    own = {
        name: lake.Ledger.create(tmp_path / name, capacity=dp.ApproxDP(Fraction(1, 2) if name == "b" else 9, "1e-6"))
        for name in NAMES
    }
    with federation().session(spark, ledger=own) as study:
        given = inputs(study, tables)
        with pytest.raises(dp.BudgetExceeded):
            mpc.program(innerprod, x=given["a"], y=given["b"]).release("1", "1e-9")
    assert not any(entry.state != "released" for ledger in own.values() for entry in ledger.entries())
