"""Mistakes that other systems' budgets had, one by one: each test fails for a ledger that has the mistake."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import dp
from dp.accounting.accountants import price
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.events import Composed, DeltaEvent, Event, GaussianEvent, LaplaceEvent, PureEvent, ZcdpEvent, compose
from dp.errors import BudgetExceeded
from dp.planning.aggregates import Aggregate
from dp.planning.plan import make_plan
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME
from lake.errors import LeaseExpired, LedgerError
from lake.ledger import Ledger, Steward, sqlite
from lake.table import Table
from tests.lake.claiming import DAYS, LAST, VISITS, asked, parts, pay, states
from tests.tools.ledgers import Clock
from tests.tools.plans import paper_query

DAY = DAYS[-1]
PEOPLE = Blocks.users(2, name="people")


# --- committed budget that was updated only where there had been an error


def test_what_is_spent_counts_and_what_failed_does_not(visits: Ledger, clock: Clock) -> None:
    paid, failed = pay(visits, "paid", "0.5", DAY), pay(visits, "failed", "0.1", DAY)
    visits.arm(paid, b"")
    assert parts(visits, DAY)[3] == "1/2"
    clock.now += 30
    with pytest.raises(LeaseExpired):
        visits.arm(failed, b"")
    assert parts(visits, DAY) == ("0", "1/2", "0", "1/2")


# --- a rollback that gave nothing back


def test_whatever_ends_a_claim_gives_back_what_it_did_not_consume(visits: Ledger, clock: Clock) -> None:
    def released() -> None:
        visits.release(asked(visits, "released", "1").ticket(visits.ledger_id))

    def left() -> None:
        with visits.claim(VISITS, LAST, demand=PureDP(1)):
            assert parts(visits, DAY)[1] == "0"

    def failed() -> None:
        with pytest.raises(ZeroDivisionError), visits.claim(VISITS, LAST, demand=PureDP(1)):
            raise ZeroDivisionError

    def died() -> None:
        asked(visits, "died", "1", lease_seconds=30)
        clock.now += 30

    for end in (released, left, failed, died):
        end()
        assert parts(visits, DAY) == ("0", "1", "0", "0"), end.__name__


# --- a condition that was always true, so that users were never bounded


@pytest.mark.slow
def test_each_unit_is_bounded_in_its_own_way(spark: SparkSession, tmp_path: Path) -> None:
    """Two people with three rows on each of four days, one row of a unit: by person, by person and day, by row."""
    path = str(tmp_path / "t")
    rows = spark.sql("SELECT id % 2 AS id, date_add(date'2026-03-01', cast(id DIV 6 AS int)) AS day FROM range(24)")
    rows.coalesce(1).write.format("delta").save(path)
    daily = Blocks.every("1 day", "day", since="2026-03-01", name="people_days")
    rules: tuple[tuple[Any, Blocks], ...] = (
        ("id", PEOPLE),
        (dp.window("id", "day", "1 day"), daily),
        (dp.ROW, Blocks.every("1 day", "day", since="2026-03-01", name="days")),
    )
    counted = []
    with Ledger.create(tmp_path / "l", capacity=PureDP(30_000)) as ledger:
        for unit, rule in rules:
            Steward(ledger).lay_out(rule, capacity=PureDP(10_000))
            table = Table.forPath(spark, path, unit=unit, null_units="drop", blocks=rule)
            query = table.private().agg(dp.count().alias("n"), max_rows=None if unit is dp.ROW else 1)
            release = query.release("10000", ledger=ledger)  # with noise of 0.0001 rows
            counted.append(round(release.toPandas()["n"][0]))
    assert counted == [2, 8, 24]


# --- block and claim written one after the other; conflicts tried again for ever


def database(ledger: Ledger) -> sqlite3.Connection:
    assert isinstance(ledger._store, sqlite.SQLiteStore)
    return ledger._store._connection


@contextmanager
def broken(ledger: Ledger, write: str) -> Iterator[None]:
    """Every such write fails."""
    database(ledger).execute(f"CREATE TRIGGER broken BEFORE {write} BEGIN SELECT RAISE(ABORT, 'broken'); END")
    yield
    database(ledger).execute("DROP TRIGGER broken")


@pytest.mark.parametrize("new_place", ["sqlite"], indirect=True)
def test_a_fault_between_two_writes_leaves_both_or_none(visits: Ledger) -> None:
    parent = asked(visits, "parent", "0.5")
    query = pay(visits, "query", "0.1", DAY)
    moved = ("UPDATE ON blocks", "UPDATE ON claims", "INSERT ON audit")
    made = ("UPDATE ON blocks", "INSERT ON claims", "INSERT ON audit")
    steps: tuple[tuple[Callable[[], object], tuple[str, ...]], ...] = (
        (lambda: asked(visits, "new", "0.1"), made),
        (lambda: pay(visits, "another day", "0.1", DAYS[0]), (*made, "INSERT ON blocks")),
        (lambda: visits.arm(query, b"noised"), moved),
        (lambda: visits.release(parent.ticket(visits.ledger_id)), moved),
        (lambda: Steward(visits).lay_out(PEOPLE, capacity=PureDP(1)), (*made, "INSERT ON layouts")),
    )
    for step, writes in steps:
        before = (visits.head(), visits.blocks(), visits.entries(), visits.layouts())
        for write in writes:
            with broken(visits, write), pytest.raises(LedgerError, match="broken"):
                step()
            assert (visits.head(), visits.blocks(), visits.entries(), visits.layouts()) == before, write
        step()
        assert visits.head() != before[0]


@pytest.mark.parametrize("new_place", ["sqlite"], indirect=True)
def test_a_busy_ledger_is_tried_again_a_few_times(visits: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    before = visits.head()
    with Ledger.open(visits.name) as impatient, closing(sqlite3.connect(visits.name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(LedgerError, match="locked by another process"),
            impatient.claim(VISITS, LAST, demand=PureDP(1), timeout_seconds=1e6),
        ):
            raise AssertionError
    assert visits.head() == before


# --- sums, means and quantiles that consumed nothing


AGGREGATES: dict[str, Callable[[], Aggregate]] = {
    "count": dp.count,
    "sum": lambda: dp.sum("v", 0, 10),
    "mean": lambda: dp.mean("v", 0, 10),
    "variance": lambda: dp.variance("v", 0, 10),
    "median": lambda: dp.median("v", 0, 10),
    "units": dp.count_units,
}


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=AGGREGATES)
def test_every_aggregate_takes_its_share_of_one_price(aggregate: Callable[[], Aggregate]) -> None:
    """Beside two sums it costs no more, because all are noisier; with the noise that it had alone, they would."""
    sums = [dp.sum("v", 0, 100).alias("s1"), dp.sum("i", 0, 100).alias("s2")]
    alone = make_plan(paper_query([aggregate().alias("a")]), PureDP(1))
    beside = make_plan(paper_query([aggregate().alias("a"), *sums]), PureDP(1))
    assert price(compose(alone.events), PureDP) <= PureDP(1)
    assert price(compose(beside.events), PureDP) <= PureDP(1)
    noise = {part.measure.label: part.mechanism.stddev for part in beside.parts}
    assert all(noise[part.measure.label] > part.mechanism.stddev for part in alone.parts)
    rest = [event for event in beside.events if event not in alone.events]
    assert price(compose([*alone.events, *rest]), PureDP).epsilon > Fraction("1.3")


@pytest.mark.slow
def test_the_second_sum_is_refused_when_the_first_took_the_budget(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    rows = spark.sql("SELECT id, cast(id % 10 AS double) AS v, date'2026-03-01' AS day FROM range(50)")
    rows.coalesce(1).write.format("delta").save(path)
    rule = Blocks.every("1 day", "day", since="2026-03-01", name="days")
    table = Table.forPath(spark, path, unit=dp.ROW, blocks=rule)
    asked_of_it = (
        dp.sum("v", 0, 10),
        dp.mean("v", 0, 10),
        dp.variance("v", 0, 10),
        dp.median("v", 0, 10),
        dp.max("v", 0, 10),
    )
    with Ledger.create(tmp_path / "l", capacity=PureDP(10)) as ledger:
        Steward(ledger).lay_out(rule, capacity=PureDP(10))
        with ledger.claim(rule, TIME == "2026-03-01", demand=PureDP(5)) as claim:
            for number, aggregate in enumerate(asked_of_it, 1):
                table.private(claim).agg(aggregate.alias("a")).release("1", ledger=claim)
                assert claim.spent() == PureDP(number)
            with pytest.raises(BudgetExceeded, match="remaining epsilon=0 of claim"):
                table.private(claim).agg(dp.sum("v", 0, 9).alias("a")).release("1", ledger=claim)
        assert parts(ledger, "days/2026-03-01")[3] == "5"


# --- the number of events, ignored in one branch

PURE: tuple[Event, ...] = (PureEvent(Fraction("0.01")), LaplaceEvent(Fraction("0.01"), scale=Fraction(100)))
SMOOTH: tuple[Event, ...] = (
    ZcdpEvent(Fraction("0.001")),
    GaussianEvent(1, 1, variance_each=Fraction(500), honest_parties=1, cells=1),
)
WITH_DELTA: tuple[Event, ...] = (
    DeltaEvent(Fraction(1, 10**9)),
    Composed((PureEvent(Fraction("0.01")), DeltaEvent(Fraction(1, 10**9)))),
)
BRANCHES: list[tuple[type[Budget], Event]] = [
    *((PureDP, event) for event in PURE),
    *((kind, event) for kind in (ZCDP, RenyiDP) for event in PURE + SMOOTH),
    *((ApproxDP, event) for event in PURE + SMOOTH + WITH_DELTA),
]


@pytest.mark.parametrize(
    ("kind", "event"), BRANCHES, ids=lambda value: getattr(value, "__name__", type(value).__name__)
)
def test_a_hundred_of_an_event_cost_what_a_list_of_a_hundred_costs(kind: type[Budget], event: Event) -> None:
    delta = Fraction(1, 10**6) if kind is ApproxDP else Fraction(0)
    one = price(event, kind, delta=delta)
    as_list = price(Composed((event,) * 100), kind, delta=delta)
    for counted in (compose(event, 100), Composed((event,), count=100), Composed((compose(event, 10),), count=10)):
        assert price(counted, kind, delta=delta) == as_list
    name = "delta" if isinstance(event, DeltaEvent) else next(iter(one.amounts))
    assert as_list.amounts[name] > 2 * one.amounts[name]


# --- floats


def test_a_tenth_and_nine_tenths_are_one(visits: Ledger) -> None:
    with visits.claim(VISITS, LAST, demand=PureDP("0.9")) as claim:
        for number, epsilon in enumerate(("0.7", "0.1", "1/30", "1/15")):
            claim.arm(pay(claim, f"{number}", epsilon, DAY), b"")
        assert claim.remaining() == PureDP(0)
        with pytest.raises(BudgetExceeded):
            pay(claim, "more", "1/1000000000000000000", DAY)
    visits.arm(pay(visits, "the rest", "0.1", DAY), b"")
    assert parts(visits, DAY) == ("0", "0", "0", "1")
    with pytest.raises(BudgetExceeded):
        pay(visits, "more", "1/1000000000000000000", DAY)
    assert states(visits)[-1] == "armed"


@pytest.mark.parametrize("rho", ["1/1000000", "1/700", "1/3", "7"])
@pytest.mark.parametrize("delta", ["1e-3", "1e-9"])
def test_losses_are_rounded_up(rho: str, delta: str) -> None:
    """The epsilon of a rho is irrational: what is charged is never below it, to fifty digits, and hardly above."""
    charged = price(ZcdpEvent(Fraction(rho)), ApproxDP, delta=Fraction(delta)).epsilon
    with localcontext() as context:
        context.prec = 60
        true = least_epsilon(decimal(Fraction(rho)), decimal(Fraction(delta))).max(0)
        assert true - Decimal("1e-40") <= decimal(charged) <= true * (1 + Decimal("1e-6"))


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def least_epsilon(rho: Decimal, delta: Decimal) -> Decimal:
    """The least bound over all orders 1 + e^t, which is unimodal in t; see `dp.accounting.calibration.zcdp_epsilon`."""

    def bound(t: Decimal) -> Decimal:
        order = 1 + t.exp()
        return order * rho + (-delta.ln() - t + order * (1 - 1 / order).ln()) / (order - 1)

    low, high = Decimal(-10), Decimal(25)
    for _ in range(200):
        third = (high - low) / 3
        low, high = (low, high - third) if bound(low + third) < bound(high - third) else (low + third, high)
    return bound(low)
