"""What was paid for once is answered again for free, whatever crashed in between; anything else is a new debit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dp.accounting.ledger import Claim
from dp.execution.release import StoredRelease
from lake.ledger import Ledger
from lake.ledger.sqlite import SQLiteStore
from spark_mpc import Federation, Overlap, dp, lake
from spark_mpc.federated_frame import FederatedFrame, FederatedQuery, Means
from spark_mpc.sums.additive import Additive
from tests.tools.lakes import make_ledgers, write_table
from tests.tools.studies import Wire, memory_parties

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")
SCHEMA = "id long, k string, v int"
PRICE = dp.PureDP("1/2")


class Crash(RuntimeError):
    """A process that dies at this point."""


class CrashingLedger(Ledger):
    """A ledger whose process dies when it is about to commit."""

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        raise Crash


class LedgerThatTells(Ledger):
    """A ledger that says when it has committed."""

    def __init__(self, store: SQLiteStore) -> None:
        super().__init__(store)
        self.committed = threading.Event()

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        super().commit(claim, release, plan)
        self.committed.set()


class LedgerThatDiesLast(CrashingLedger):
    """A ledger whose process dies when it is about to commit, after some others have."""

    others: tuple[LedgerThatTells, ...] = ()

    def commit(self, claim: Claim, release: bytes | None, plan: str = "") -> None:
        assert all(other.committed.wait(30) for other in self.others)
        super().commit(claim, release, plan)


@dataclass(frozen=True)
class Lakes:
    """One table a party."""

    spark: SparkSession
    folder: Path

    def tables(self) -> dict[str, lake.Table]:
        return {
            name: lake.Table.forPath(self.spark, self.folder / name, unit="id", null_units="drop") for name in NAMES
        }


@pytest.fixture(scope="module")
def lakes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    folder = tmp_path_factory.mktemp("replay")
    for index, name in enumerate(NAMES):
        write_table(spark, folder / name, SCHEMA, [(10 * index + i, "xy"[i % 2], i) for i in range(9)])
    return Lakes(spark, folder)


@pytest.fixture(scope="module")
def tables(lakes: Lakes) -> dict[str, lake.Table]:
    return lakes.tables()


def the_query(frame: FederatedFrame) -> FederatedQuery:
    groups = frame.groupBy("k", keys=["x", "y", "z"], max_groups=1, max_rows=1)
    return groups.agg(dp.count().alias("n"), dp.sum("v", 0, 8).alias("s"), dp.histogram("v", [0, 4, 8]).alias("h"))


@dataclass(frozen=True)
class Attempt:
    """One run of the query by all parties, with everything that was sent."""

    release: dp.Release | None
    error: BaseException | None
    wire: Wire


def attempt(
    federation: Federation,
    ledgers: Mapping[str, Ledger],
    tables: Mapping[str, lake.Table],
    spark: SparkSession,
    *,
    recipients: tuple[str, ...] | None = None,
) -> Attempt:
    wire, release, failure = Wire(), None, None
    with memory_parties(federation, ledgers, wire) as parties:
        means = Means(federation.file, tuple(parties.values()), (Additive(),), spark)
        frames = {name: tables[name].private() for name in NAMES}
        try:
            query = the_query(FederatedFrame(means, "claims", frames, 3))
            release = query.release(epsilon=PRICE.epsilon, recipients=recipients)
        except (Crash, dp.SparkMpcError) as error:
            failure = error
    return Attempt(release, failure, wire)


def words(release: dp.Release | None, ledger: Ledger) -> StoredRelease:
    assert release is not None
    (key,) = {entry.release_key for entry in ledger.entries()}
    stored = ledger.stored_release(key)
    assert stored is not None
    return StoredRelease.from_bytes(stored, release.plan)


def spent(ledgers: Mapping[str, Ledger]) -> list[dp.Budget]:
    return [ledgers[name].spent() for name in NAMES]


@pytest.fixture
def federation() -> Federation:
    return Federation.local(NAMES)


def test_one_paid_release_shows_the_same_numbers_for_ever(
    federation: Federation,
    lakes: Lakes,
    tables: dict[str, lake.Table],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spark, ledgers = lakes.spark, make_ledgers(tmp_path, NAMES)

    def ask(mine: Mapping[str, lake.Table]) -> dp.Release:
        with federation.session(spark, ledger=ledgers) as study:
            release = the_query(study.contribute("claims", mine, overlap=Overlap(3))).release(epsilon=PRICE.epsilon)
        assert release is not None
        return release

    first = ask(tables)
    assert not first.paid_before
    assert spent(ledgers) == [PRICE] * 3
    numbers = first.df.collect()
    assert first.df.collect() == numbers
    first.df.write.parquet(str(tmp_path / "written"))
    assert spark.read.parquet(str(tmp_path / "written")).orderBy("k").collect() == sorted(numbers)
    assert first.accuracy.collect() == first.accuracy.collect()
    first.show()
    shown = capsys.readouterr().out
    first.show()
    assert capsys.readouterr().out == shown
    assert [row.asDict(recursive=True) for row in numbers] == first.answers.values.to_pylist()

    # the same again: another Study, other keys and certificates of the wire, the ledgers opened anew
    ledgers = {name: Ledger.open(ledger.name) for name, ledger in ledgers.items()}
    again = ask(lakes.tables())
    assert again.paid_before
    assert again.run_id == first.run_id
    assert again.answers.values.equals(first.answers.values)
    assert again.answers.accuracy.equals(first.answers.accuracy)
    assert "free" in str(again)
    assert spent(ledgers) == [PRICE] * 3
    assert all(len(ledger.entries()) == 1 for ledger in ledgers.values())

    # one party's rows changed: another release, another debit for everybody, fresh noise
    path = str(lakes.folder / "changed")
    write_table(spark, Path(path), SCHEMA, [(0, "x", 0)])
    changed = {**tables, "a": lake.Table.forPath(spark, path, unit="id", null_units="drop")}
    newer = ask(changed)
    assert not newer.paid_before
    assert spent(ledgers) == [PRICE + PRICE] * 3


def test_a_new_version_of_the_data_is_a_new_debit(lakes: Lakes, tmp_path: Path) -> None:
    """One lake: asking an older version again stays free; a newer one never is."""
    spark, ledger = lakes.spark, Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    path = write_table(spark, tmp_path / "t", SCHEMA, [(1, "x", 3)])

    def ask(version: int | None) -> dp.Release:
        frame = lake.Table.forPath(spark, path, unit="id", null_units="drop", version=version).private()
        return frame.agg(dp.count(), max_rows=1).release(epsilon="1", ledger=ledger)

    first = ask(None)
    write_table(spark, Path(path), SCHEMA, [(2, "x", 3)], mode="append")
    second, old = ask(None), ask(0)
    assert (first.paid_before, second.paid_before, old.paid_before) == (False, False, True)
    assert old.answers.values.equals(first.answers.values)
    assert ledger.spent() == dp.PureDP(2)


def test_a_party_that_lost_the_result_fetches_it_without_paying_again(
    federation: Federation, lakes: Lakes, tables: dict[str, lake.Table], tmp_path: Path
) -> None:
    """b dies between the opening and its commit: the others hold the result, b's ledger only that it has paid."""
    paths = {name: ledger.name for name, ledger in make_ledgers(tmp_path, NAMES).items()}
    told = {name: LedgerThatTells.open(paths[name]) for name in ("a", "c")}
    dying = LedgerThatDiesLast.open(paths["b"])
    dying.others = tuple(told.values())
    ledgers: dict[str, Ledger] = {**told, "b": dying}
    crashed = attempt(federation, ledgers, tables, lakes.spark)
    assert isinstance(crashed.error, Crash)
    assert spent(ledgers) == [PRICE] * 3

    key = ledgers["b"].entries()[0].release_key
    assert ledgers["b"].stored_release(key) is None
    ledgers = {name: Ledger.open(ledger.name) for name, ledger in ledgers.items()}
    again = attempt(federation, ledgers, tables, lakes.spark)
    assert again.error is None
    assert again.release is not None
    assert again.release.paid_before
    assert spent(ledgers) == [PRICE] * 3
    stored = {ledgers[name].stored_release(key) for name in NAMES}
    assert len(stored) == 1
    assert None not in stored
    assert again.wire.steps() == {"hello", "agree", "ready", "release", "done"}


def test_a_run_that_failed_after_arming_resumes_with_the_same_noise_under_fresh_masks(
    federation: Federation, lakes: Lakes, tables: dict[str, lake.Table], tmp_path: Path
) -> None:
    """Everybody dies between the opening and the commit, twice: nobody has the result, everybody has paid once."""
    paths = {name: ledger.name for name, ledger in make_ledgers(tmp_path, NAMES).items()}
    crashes = []
    for _ in range(2):
        dying = {name: CrashingLedger.open(path) for name, path in paths.items()}
        crashes.append(attempt(federation, dying, tables, lakes.spark))
        assert isinstance(crashes[-1].error, Crash)
        assert spent(dying) == [PRICE] * 3

    ledgers = {name: Ledger.open(path) for name, path in paths.items()}
    key = ledgers["a"].entries()[0].release_key
    resumables = [ledgers[name].resumable(key) for name in NAMES]
    noised = [np.frombuffer(resumable.noised, "<u8") for resumable in resumables if resumable is not None]
    assert len(noised) == len(NAMES)

    last = attempt(federation, ledgers, tables, lakes.spark)
    assert last.error is None
    opened = words(last.release, ledgers["a"]).words
    np.testing.assert_array_equal(opened, noised[0] + noised[1] + noised[2])  # modulo 2^64
    assert spent(ledgers) == [PRICE] * 3
    assert all(len(ledger.entries()) == 1 for ledger in ledgers.values())
    assert ("a", "local") not in last.wire.entered
    assert ("a", "noise") not in last.wire.entered

    uploads = [run.wire.payloads("upload") for run in (*crashes, last)]
    attempts = {pair: [upload[pair] for upload in uploads if pair in upload] for pair in uploads[-1]}
    # who dies first may end an attempt before everybody has uploaded; the last one was complete
    assert sum(len(masked) for masked in attempts.values()) > len(attempts)
    for sender_and_peer, masked in attempts.items():
        assert len(set(masked)) == len(masked), f"{sender_and_peer} sent the same masked vector in two attempts"
    # each of them is the stored vector under some mask: none of them is the vector itself
    clear = {vector.tobytes() for vector in noised}
    assert not any(payload in clear for upload in uploads for payload in upload.values())


def test_only_recipients_get_uploads_and_the_result_and_everybody_pays_once(
    federation: Federation, lakes: Lakes, tables: dict[str, lake.Table], tmp_path: Path
) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    first = attempt(federation, ledgers, tables, lakes.spark, recipients=("b",))
    assert first.release is not None
    assert set(first.wire.payloads("upload")) == {("a", "b"), ("c", "b")}
    assert spent(ledgers) == [PRICE] * 3
    key = ledgers["a"].entries()[0].release_key
    assert [ledgers[name].stored_release(key) is not None for name in NAMES] == [False, True, False]

    again = attempt(federation, ledgers, tables, lakes.spark, recipients=("b",))
    assert again.release is not None
    assert again.release.paid_before
    assert again.release.answers.values.equals(first.release.answers.values)
    assert again.wire.steps() == {"hello", "agree", "ready", "done"}
    assert spent(ledgers) == [PRICE] * 3


def test_a_ledger_that_never_paid_is_not_given_the_result(
    federation: Federation, lakes: Lakes, tables: dict[str, lake.Table], tmp_path: Path
) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    first = attempt(federation, ledgers, tables, lakes.spark)
    assert first.error is None
    fresh = Ledger.create(tmp_path / "fresh.ledger", capacity=dp.PureDP(1000))
    refused = attempt(federation, {**ledgers, "b": fresh}, tables, lakes.spark)
    assert refused.release is None
    assert "has not paid" in str(refused.error)
    assert fresh.entries() == []


def test_a_release_says_that_a_peer_pays_from_another_ledger_than_before(
    federation: Federation, lakes: Lakes, tables: dict[str, lake.Table], tmp_path: Path
) -> None:
    ledgers = make_ledgers(tmp_path, NAMES)
    assert attempt(federation, ledgers, tables, lakes.spark).error is None
    fresh = Ledger.create(tmp_path / "fresh.ledger", capacity=dp.PureDP(1000))
    told = attempt(federation, {**ledgers, "c": fresh}, tables, lakes.spark, recipients=("a",)).release
    assert told is not None
    (notice,) = told.notices
    assert notice.startswith(f"c pays from a ledger that a has never seen, {fresh.ledger_id}")
    assert str(told).endswith(notice)


def test_the_answer_of_a_release_is_a_stored_table(lakes: Lakes, tmp_path: Path) -> None:
    """Nothing of the release's plan reaches back to the rows: no lineage that could draw noise anew."""
    ledger = Ledger.create(tmp_path / "ledger", capacity=dp.PureDP(10))
    frame = lakes.tables()["a"].private()
    release = frame.agg(dp.count(), max_rows=1).release(epsilon="1", ledger=ledger)
    assert release.df.inputFiles() == []
    assert frame.df.inputFiles() != []
    assert release.df.toArrow().to_pylist() == release.answers.values.to_pylist()
