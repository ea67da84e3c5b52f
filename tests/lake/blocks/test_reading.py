"""Tables read block by block, on real Delta: which rows, whatever the session's zone; who pays; what is refused."""
# ruff: noqa: SIM300  dimensions are written as constants are, and stand on the left

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import dp
from dp.accounting.budget import Budget, PureDP
from dp.accounting.ledger import Claim
from dp.accounting.scratch import ScratchLedger
from dp.errors import InvalidArgument
from dp.execution.one_lake import release_key, release_one_lake
from dp.frames.frame import PrivateFrame
from dp.frames.grouped import PrivateQuery
from dp.planning.plan import Plan, guarantee, make_plan
from lake.blocks.block import Block
from lake.blocks.filters import user_range
from lake.blocks.instants import DAY, seconds_of
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME, USERS, Selector
from lake.blocks.sizes import user_ranges
from lake.ledger import Ledger, Steward
from lake.table import Table

pytestmark = pytest.mark.slow

SECOND = 10**6
ZONES = ("UTC", "America/New_York", "Asia/Kathmandu")


def micros(instant: str) -> int:
    return seconds_of(instant, "instant") * SECOND


# around midnights, the changes of New York's clocks, 1970, and the ends of what a timestamp can be
EDGES = [
    edge + step
    for edge in (
        *map(
            micros, ("0001-01-01", "1969-12-29", "1970-01-01", "2026-03-01", "2026-03-02", "2026-03-08", "9999-12-31")
        ),
        *map(micros, ("2026-03-08T05:00:00Z", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2026-03-01T06:00:00Z")),
    )
    for step in (-1, 0, 1)
]
TIMES: list[int | None] = [*EDGES, -(2**63), 2**63 - 1, None]
ROWS = [(row, None if row % 7 == 3 else row % 11, at) for row, at in enumerate(TIMES)]


def stored_day(at: int) -> int | None:
    """What column `day` holds of an instant."""
    return at // (DAY * SECOND) * DAY * SECOND if micros("0001-01-01") <= at <= micros("9999-12-31") else None


@pytest.fixture(scope="module")
def visits(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("blocks") / "visits")
    days = [None if at is None or stored_day(at) is None else at // (DAY * SECOND) for _, _, at in ROWS]
    values = [(*row, day) for row, day in zip(ROWS, days, strict=True)]
    rows = spark.createDataFrame(values, "row int, id long, micros long, days int")
    rows = rows.withColumns({"at": F.timestamp_micros("micros"), "day": F.date_from_unix_date("days")})
    rows.coalesce(1).write.format("delta").save(path)
    return path


@contextmanager
def session_in(spark: SparkSession, zone: str) -> Iterator[SparkSession]:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        yield spark
    finally:
        spark.conf.set("spark.sql.session.timeZone", before or "UTC")


def opened(spark: SparkSession, path: str, rule: Blocks | None, unit: Any = dp.ROW, **declared: Any) -> Table:
    return Table.forPath(spark, path, unit=unit, null_units="drop", blocks=rule, **declared)


def row_numbers(frame: PrivateFrame) -> list[int]:
    return sorted(row[0] for row in frame.df.select("row").collect())


def inside(blocks: tuple[Block, ...], time: Callable[[int], int | None]) -> list[int]:
    """The rows of blocks of time, by plain integers."""
    spans = [
        (block.start * SECOND, block.end * SECOND)
        for block in blocks
        if block.start is not None and block.end is not None
    ]
    found = []
    for row, _, at in ROWS:
        when = None if at is None else time(at)
        if when is not None and any(start <= when < end for start, end in spans):
            found.append(row)
    return found


SELECTORS = (
    Selector(),
    TIME.isin("2026-03-01", "2026-03-02", "2026-03-08", "1970-01-01"),
    (TIME >= "1969-12-30") & (TIME < "1970-01-02"),
)


@pytest.mark.parametrize("zone", ZONES)
def test_the_rows_of_blocks_are_those_that_integers_say_in_every_time_zone(
    spark: SparkSession, visits: str, zone: str
) -> None:
    for column, length, time in (("at", "6 hours", int), ("at", "1 day", int), ("day", "1 day", stored_day)):
        rule = Blocks.every(length, column, since="1969-12-29", name="a")
        with session_in(spark, zone):
            table = opened(spark, visits, rule)
        assert table.cut is not None
        for selector in SELECTORS:
            frame = table.private(selector)
            assert row_numbers(frame) == inside(table.cut.selected(selector), time), (column, length, selector)


def test_every_row_of_the_layouts_time_lies_in_one_block_and_all_blocks_together_are_the_table(
    spark: SparkSession, visits: str
) -> None:
    rule = Blocks.every("2600 weeks", "at", since="1920-03-04", name="a", users=3)
    table = opened(spark, visits, rule, dp.window("id", "at", "2600 weeks"))
    assert table.cut is not None
    blocks = table.cut.selected(Selector())
    assert len(blocks) == 9
    by_block = [row_numbers(table.private(Holder((block.name,)))) for block in blocks]
    within = [row for row in inside(blocks, int) if ROWS[row][1] is not None]
    assert sorted(row for rows in by_block for row in rows) == within == row_numbers(table.private())
    assert sum(map(bool, by_block)) > 2


@pytest.mark.parametrize(
    ("rule", "unit", "columns"),
    [
        (Blocks.users(4, name="a"), "id", ["id"]),
        (Blocks.users(4, name="a"), ["id", "row"], ["id", "row"]),
        (
            Blocks.every("1 week", "at", since="1969-12-25", name="a", users=2),
            dp.window("id", "at", "1 day"),
            ["id", "at / 1 day"],
        ),
    ],
)
def test_no_unit_lies_in_two_blocks(
    spark: SparkSession, visits: str, rule: Blocks, unit: Any, columns: list[str]
) -> None:
    table = opened(spark, visits, rule, unit)
    assert table.cut is not None
    blocks = [b for b in table.cut.selected(Selector()) if rule.windows is None or inside((b,), int)]
    units = [
        {tuple(row) for row in table.private(Holder((b.name,))).df.select(*(f"`{c}`" for c in columns)).collect()}
        for b in blocks
    ]
    assert sum(map(len, units)) == len(set().union(*units)) > 4
    assert not any(None in unit for unit in set().union(*units))


@dataclass(frozen=True)
class Holder:
    """What a ledger's claim looks like from here."""

    blocks: tuple[str, ...]


# the definition, by hashlib: SHA-256 of the value's bytes; of several, of their hexadecimal digits in a row
VALUES: dict[str, tuple[str, bytes]] = {
    "cast(42 AS long)": ("number", b"42"),
    "cast(42 AS tinyint)": ("narrow", b"42"),
    "cast(-9223372036854775808 AS long)": ("least", b"-9223372036854775808"),
    "'42'": ("text", b"42"),
    "'Zo\\u00eb'": ("accent", "Zoë".encode()),
    "date'1969-12-31'": ("day", b"-1"),
    "date'9999-12-31'": ("last", b"2932896"),
    "true": ("truth", b"true"),
    "X'00FF'": ("binary", b"\x00\xff"),
    "''": ("nothing", b""),
}
PINNED = {"number": 7, "accent": 12, "binary": 0}


def in_python(*values: bytes, ranges: int) -> int:
    hashes = [hashlib.sha256(value) for value in values]
    last = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(h.hexdigest() for h in hashes).encode())
    return int(last.hexdigest()[:10], 16) * ranges >> 40


def test_ranges_of_users_are_the_same_in_every_engine(spark: SparkSession) -> None:
    df = spark.range(1).select(*(F.expr(text).alias(name) for text, (name, _) in VALUES.items()))
    df = df.withColumn("missing", F.lit(None).cast("long"))
    for ranges in (16, 2**16):
        columns = {name: user_range(df.schema, [name], ranges) for name, _ in VALUES.values()}
        pairs = user_range(df.schema, ["number", "accent"], ranges)
        nobody = [user_range(df.schema, ids, ranges) for ids in (["missing"], ["number", "missing"])]
        row = df.select(*(column.alias(name) for name, column in columns.items()), pairs.alias("two"), *nobody).first()
        assert row is not None
        assert [row[name] for name in columns] == [in_python(value, ranges=ranges) for _, value in VALUES.values()]
        assert row["two"] == in_python(b"42", "Zoë".encode(), ranges=ranges)
        assert tuple(row)[-2:] == (None, None)
        if ranges == 16:
            assert {name: row[name] for name in PINNED} == PINNED


def test_ranges_of_users_are_about_equal(spark: SparkSession) -> None:
    ids = spark.range(16_000)
    sizes = [row["count"] for row in ids.groupBy(user_range(ids.schema, ["id"], 16)).count().collect()]
    assert len(sizes) == 16
    assert sum((size - 1000) ** 2 for size in sizes) / 1000 < 45  # chi-square: one hash of 10^4 exceeds it


def test_rows_of_other_blocks_are_never_read(spark: SparkSession, tmp_path: Path) -> None:
    """Their files may even be gone."""
    path = str(tmp_path / "t")
    for number, at in enumerate(("2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z")):
        rows = spark.range(1).select(F.lit(number).alias("row"), F.timestamp_micros(F.lit(micros(at))).alias("at"))
        rows.coalesce(1).write.format("delta").mode("append").save(path)
    table = opened(spark, path, Blocks.every("1 day", "at", since="2026-03-01", name="a"))
    files = {file: table.df.where(F.input_file_name() == file).select("row").first() for file in table.df.inputFiles()}
    (gone,) = (file for file, row in files.items() if row is not None and row[0] == 1)
    Path(urlsplit(gone).path).unlink()
    assert row_numbers(table.private(TIME == "2026-03-01")) == [0]
    with pytest.raises(Exception, match=r"FAILED_READ_FILE|FileNotFound|does not exist"):
        row_numbers(table.private(TIME == "2026-03-02"))


def test_hundreds_of_windows_are_one_short_condition(spark: SparkSession, visits: str) -> None:
    for column, time in (("at", int), ("day", stored_day)):
        rule = Blocks.every("1 day", column, since="1969-12-29", name="a")
        table = opened(spark, visits, rule)
        blocks = list(rule.due(seconds_of("1975-01-01", "at"))[::2])
        blocks += [rule.block(f"a/{day}") for day in ("2026-03-01", "2026-03-08", "9999-12-31")]
        assert len(blocks) > 900
        frame = table.private(Holder(tuple(block.name for block in blocks)))
        assert row_numbers(frame) == inside(tuple(blocks), time)


def test_the_version_says_which_blocks_exist(spark: SparkSession, visits: str) -> None:
    rule = Blocks.every("1 day", "at", since="2026-03-01", name="a")
    table = opened(spark, visits, rule)
    assert table.blocks == rule
    assert table.cut is not None
    history = spark.sql(f"DESCRIBE HISTORY delta.`{visits}`").selectExpr("unix_seconds(timestamp)").first()
    assert history is not None
    assert table.cut.at == history[0]
    assert table.private().blocks == tuple(block.name for block in rule.due(table.cut.at))
    assert inside((rule.block("a/9999-12-31"),), int)  # rows of the future are there, and in no block
    with pytest.raises(InvalidArgument, match="had begun when the version was committed"):
        table.private(TIME > "9999-01-01")


def test_what_a_claim_holds_is_read(spark: SparkSession, visits: str) -> None:
    rule = Blocks.every("1 day", "at", since="2026-03-01", name="a")
    table, plain = opened(spark, visits, rule), opened(spark, visits, None)
    held = Holder(("a/2026-03-08", "a/2026-03-01", "a/2026-03-08"))
    assert table.private(held).blocks == ("a/2026-03-01", "a/2026-03-08")
    assert table.private(held).data_version == table.private(TIME.isin("2026-03-08", "2026-03-01")).data_version
    for whole in (Holder(()), Holder(("whole",))):
        for each in (table, plain):
            frame = each.private(whole)
            assert (frame.blocks, frame.data_version, len(row_numbers(frame))) == ((), table.data_version, len(ROWS))
    for selection, message in (
        (Holder(("a/2026-03-01", "whole")), "makes no such block"),
        (Holder(("b/2026-03-01",)), "makes no such block"),
        (Holder(["a/2026-03-01"]), "give a selector"),  # type: ignore[arg-type]
        ("a/2026-03-01", "give a selector"),
        (USERS == 0, "is not cut by users"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            table.private(selection)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="has no private blocks"):
        plain.private(TIME >= "2026-03-01")


def test_tables_whose_blocks_are_finer_than_the_unit_are_refused(spark: SparkSession, visits: str) -> None:
    daily = Blocks.every("1 day", "at", since="2026-03-01", name="a")
    with pytest.raises(InvalidArgument, match="31 times as much over a month"):
        opened(spark, visits, daily, "id")
    with pytest.raises(InvalidArgument, match="capacities add up"):
        opened(spark, visits, daily, group_size=2)


class Recording(ScratchLedger):
    """A ledger in memory that remembers which blocks were asked to pay."""

    def __init__(self) -> None:
        super().__init__(PureDP(100))
        self.asked: list[tuple[tuple[str, ...], str]] = []

    def reserve(self, *, price: Budget, **request: Any) -> Claim:
        self.asked.append((request["blocks"], request["layout"]))
        return super().reserve(price=price, **request)


def counting(frame: PrivateFrame) -> tuple[PrivateQuery, Plan]:
    query = frame.agg(dp.count())
    return query, make_plan(query.query, guarantee("1"))


def test_the_blocks_that_were_read_are_asked_to_pay(spark: SparkSession, visits: str) -> None:
    rule = Blocks.every("1 day", "at", since="2026-03-01", name="a")
    table, ledger = opened(spark, visits, rule), Recording()
    for frame in (table.private(TIME <= "2026-03-02").where("row > 0"), table.private(Holder(()))):
        query, plan = counting(frame)
        release_one_lake(plan, query.frame.source, ledger, None)
    assert ledger.asked == [(("a/2026-03-01", "a/2026-03-02"), rule.fingerprint), ((), "")]
    assert [entry.blocks for entry in ledger.entries()] == [("a/2026-03-01", "a/2026-03-02"), ()]


def test_another_selection_or_another_rule_is_another_release(spark: SparkSession, visits: str) -> None:
    def key(frame: PrivateFrame) -> str:
        query, plan = counting(frame)
        return release_key(plan, {query.frame.source.name: query.frame.source.data_version})

    daily = opened(spark, visits, Blocks.every("1 day", "at", since="2026-03-01", name="a"))
    renamed = opened(spark, visits, Blocks.every("1 day", "at", since="2026-03-01", name="b"))
    weekly = opened(spark, visits, Blocks.every("2 days", "day", since="2026-03-02", name="a"))
    keys = [
        key(frame)
        for frame in (
            daily.private(),
            daily.private(TIME == "2026-03-02"),
            renamed.private(TIME == "2026-03-02"),
            weekly.private(TIME == "2026-03-02"),
            daily.private(TIME <= "2026-03-02"),
            daily.private(Holder(("whole",))),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert key(daily.private(TIME >= "2026-03-01")) == keys[0]  # the same blocks in other words
    assert key(daily.private(Holder(("a/2026-03-02",)))) == keys[1]


def test_frames_that_meet_are_of_the_same_blocks(spark: SparkSession, visits: str) -> None:
    rule = Blocks.users(4, name="patients")
    table = opened(spark, visits, rule, "id")
    few, others = (table.private(USERS == number).select("row") for number in (0, 1))
    joined = few.join_on_unit(few.withColumnRenamed("row", "other"), max_rows=(2, 2))
    assert (joined.blocks, joined.layout) == (("patients/users-0-of-4",), rule.fingerprint)
    assert few.union(few).blocks == few.blocks
    assert few.agg(dp.count(), max_rows=1).frame.source.blocks == few.blocks
    uncut = opened(spark, visits, None, "id").private().select("row")
    same_names = opened(spark, visits, Blocks.every("1 day", "at", since="2026-03-01", name="a"))
    twice_as_long = opened(spark, visits, Blocks.every("2 days", "at", since="2026-03-02", name="a"))
    for left, right in (
        (few, others),
        (few, uncut),
        (uncut, few),
        (same_names.private(TIME == "2026-03-02"), twice_as_long.private(TIME == "2026-03-02")),
    ):
        with pytest.raises(InvalidArgument, match="same private blocks, cut by the same rule"):
            left.union(right)
    with pytest.raises(InvalidArgument, match="join_on_unit takes frames of the same private blocks"):
        few.join_on_unit(others.withColumnRenamed("row", "other"), max_rows=(2, 2))


def test_every_operation_keeps_the_blocks_and_dry_runs_have_none(spark: SparkSession, visits: str) -> None:
    table = opened(spark, visits, Blocks.every("1 day", "at", since="2026-03-01", name="a"))
    frame = table.private(TIME.isin("2026-03-01", "2026-03-02"))
    public = spark.createDataFrame([(1, "x")], "id long, note string")
    changed = [
        frame.where("row > 1"),
        frame.select("row", "at"),
        frame.drop("day"),
        frame.withColumn("at", "at"),  # what a row says of its time later moves it to no other block
        frame.withColumnRenamed("row", "number"),
        frame.withColumn("items", "split('a,b', ',')").explode("items", max_items=2),
        frame.join(public, on="id"),
    ]
    assert all((each.blocks, each.layout) == (frame.blocks, frame.layout) for each in changed)
    assert "2 block(s): a/2026-03-01 to a/2026-03-02" in str(counting(frame)[0].explain(epsilon="1"))
    assert frame.synthetic(10).source.blocks == ()
    assert table.synthetic(10).source.blocks == ()


def test_a_layout_pays_block_by_block_and_a_private_count_says_how_many(
    spark: SparkSession, visits: str, tmp_path: Path
) -> None:
    """From a count that the whole pays for to a claim's own rows, on a real ledger."""
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1000)) as ledger:
        whole = opened(spark, visits, None, "id", max_units=100)
        counted = whole.private().agg(dp.count_units()).release(epsilon=100, ledger=ledger)
        ranges = user_ranges(2, counted)
        assert ranges in (3, 4, 5)  # of the eleven ids' count a little is taken off
        assert (user_ranges(10**6, counted), ledger.spent()) == (1, PureDP(100))
        rule = Blocks.users(ranges, name="patients")
        Steward(ledger).lay_out(rule, capacity=PureDP(5))
        table = opened(spark, visits, rule, "id", max_units=100)
        query = table.private(USERS.isin(0, 1)).agg(dp.count_units())
        query.release(epsilon=4, ledger=ledger)
        with pytest.raises(dp.BudgetExceeded):
            table.private(USERS == 0).agg(dp.count_units()).release(epsilon=2, ledger=ledger)
        with ledger.claim(table.blocks, USERS == 2, demand=PureDP(3)) as claim:
            rows = table.private(claim)
            assert rows.blocks == (f"patients/users-2-of-{ranges}",)
            rows.agg(dp.count_units()).release(epsilon=3, ledger=claim)
        assert query.release(epsilon=4, ledger=ledger).paid_before
        renamed = opened(spark, visits, Blocks.users(7, name="patients"), "id", max_units=100)
        with pytest.raises(InvalidArgument, match="another rule"):
            renamed.private().agg(dp.count_units()).release(epsilon=1, ledger=ledger)
        with pytest.raises(InvalidArgument, match="over the real table"):
            user_ranges(2, whole.synthetic(10).agg(dp.count_units()).release(epsilon=1))
        with pytest.raises(InvalidArgument, match="without groups and conditions"):
            user_ranges(2, whole.private().where("row > 1").agg(dp.count_units()).release(epsilon=1, ledger=ledger))
