"""The audit log in a Delta table: complete, once, by as many writers as there are; and a witness of older copies."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession

from dp.accounting.budget import PureDP
from lake.errors import LedgerBehind, LedgerError
from lake.ledger import Ledger
from lake.ledger.audit import Event
from tests.tools.ledgers import Clock, Place, reserve

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "ledger-audit.md"


def spend(ledger: Ledger, request: str, price: str = "0.01") -> None:
    claim = reserve(ledger, request, price, key=request)
    ledger.arm(claim, b"secret")
    ledger.commit(claim, b"release")


def mirrored(spark: SparkSession, path: str) -> list[Row]:
    return spark.read.format("delta").load(path).orderBy("sequence").collect()


def expected(ledger: Ledger) -> list[tuple[int, datetime, str, str, str]]:
    def at(event: Event) -> datetime:  # as `collect` shows it
        return datetime.fromtimestamp(event.at, UTC).astimezone().replace(tzinfo=None)

    return [(event.sequence, at(event), event.event, event.hash, ledger.ledger_id) for event in ledger.events()]


def test_a_mirror_has_every_event_once_however_often_it_is_made(
    spark: SparkSession, new_place: Place, tmp_path: Path
) -> None:
    path = str(tmp_path / "a mirror`s table")
    with Ledger.create(new_place(), capacity=PureDP(1)) as ledger:
        assert ledger.mirror(spark, path) == ledger.head()
        spend(ledger, "first")
        spend(ledger, "second")
        for _ in range(2):
            assert ledger.mirror(spark, path) == ledger.head()
        assert ledger.check_mirror(spark, path) == ledger.head()
        assert [tuple(row) for row in mirrored(spark, path)] == expected(ledger)
    assert dict(spark.read.format("delta").load(path).dtypes) == {
        "sequence": "bigint", "at": "timestamp", "event": "string", "hash": "string", "ledger_id": "string",
    }  # fmt: skip


def test_those_who_mirror_at_once_write_every_event_once(spark: SparkSession, tmp_path: Path) -> None:
    place, path = tmp_path / "ledger", str(tmp_path / "mirror")
    Ledger.create(place, capacity=PureDP(1)).close()

    def work(worker: int) -> None:
        with Ledger.open(place) as ledger:
            for number in range(2):
                spend(ledger, f"{worker} {number}")
                ledger.mirror(spark, path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    with Ledger.open(place) as ledger:
        ledger.mirror(spark, path)
        assert [tuple(row) for row in mirrored(spark, path)] == expected(ledger)


def test_an_older_copy_of_the_ledger_is_refused_by_its_mirror(spark: SparkSession, tmp_path: Path) -> None:
    place, backup, path = tmp_path / "ledger", tmp_path / "backup", str(tmp_path / "mirror")
    with Ledger.create(place, capacity=PureDP(1)) as ledger:
        with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        spend(ledger, "spent")
        seen = ledger.mirror(spark, path)
    with Ledger.open(backup) as restored:
        assert restored.spent() == PureDP(0)
        for refused in (restored.mirror, restored.check_mirror):
            with pytest.raises(LedgerBehind, match=r"lacks audit event \d+, which its mirror .* has seen; .*treat"):
                refused(spark, path)
        for number in range(3):  # it goes on, and has more events than the mirror
            spend(restored, f"other {number}")
        assert restored.head().sequence > seen.sequence
        for refused in (restored.mirror, restored.check_mirror):
            with pytest.raises(LedgerBehind, match="has another audit event"):
                refused(spark, path)
    with Ledger.open(place) as ledger:
        assert ledger.check_mirror(spark, path) == seen


def test_a_table_of_another_ledger_or_of_something_else_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path, visits = str(tmp_path / "mirror"), str(tmp_path / "visits")
    spark.range(3).write.format("delta").save(visits)
    with (
        Ledger.create(tmp_path / "one", capacity=PureDP(1)) as one,
        Ledger.create(tmp_path / "other", capacity=PureDP(1)) as other,
    ):
        with pytest.raises(LedgerError, match="there is no mirror"):
            one.check_mirror(spark, path)
        one.mirror(spark, path)
        for refused in (other.mirror, other.check_mirror):
            with pytest.raises(LedgerError, match=f"mirrors another ledger, {one.ledger_id}"):
                refused(spark, path)
        with pytest.raises(LedgerError, match="is a table of something else"):
            one.mirror(spark, visits)
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(LedgerError, match="mirror"):
            one.mirror(spark, str(tmp_path / "file"))


def test_nobody_changes_a_mirror_and_one_that_was_set_back_takes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "mirror")
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1)) as ledger:
        ledger.mirror(spark, path)
        spend(ledger, "spent")
        ledger.mirror(spark, path)
        for statement in ("DELETE FROM", "UPDATE"):
            with pytest.raises(Exception, match="APPEND_ONLY"):
                spark.sql(f"{statement} delta.`{path}`" + (" SET hash = ''" if statement == "UPDATE" else "")).collect()
        spark.sql(f"RESTORE TABLE delta.`{path}` TO VERSION AS OF 0").collect()
        with pytest.raises(LedgerError, match=r"takes no events after 1 \(it was set back\)"):
            ledger.mirror(spark, path)


def test_spark_alone_reads_the_spending_and_checks_the_chain(spark: SparkSession, tmp_path: Path, clock: Clock) -> None:
    """The queries of docs/ledger-audit.md, as they stand there."""
    path = str(tmp_path / "mirror")
    clock.now = 1_772_366_400.0  # 2026-03-01 12:00 UTC
    with Ledger.create(tmp_path / "ledger", capacity=PureDP(1), clock=clock) as ledger:
        spend(ledger, "one", "0.1")
        spend(ledger, "two", "1/3")
        clock.now += 86_400
        spend(ledger, "three", "0.1")
        ledger.mirror(spark, path)
    spending, chain = (block.partition("```")[0] for block in DOCS.read_text(encoding="utf-8").split("```sql\n")[1:])
    rows = spark.sql(spending.replace("/lake/_claims_mirror", path)).collect()
    assert [(str(row["day"]), row["block"], row["claims"], round(row["epsilon"], 6)) for row in rows] == [
        ("2026-03-01", "whole", 2, 0.433333),
        ("2026-03-02", "whole", 1, 0.1),
    ]
    assert spark.sql(chain.replace("/lake/_claims_mirror", path)).collect() == []
    forged = (
        spark.read.format("delta")
        .load(path)
        .replace({"spent": "lost"})
        .selectExpr("sequence", "at", "replace(event, '1/3', '1/300') AS event", "hash", "ledger_id")
    )
    forged.write.format("delta").save(f"{path}-forged")
    found = spark.sql(chain.replace("/lake/_claims_mirror", f"{path}-forged")).collect()
    assert [row["sequence"] for row in found] == [6, 7, 8]
