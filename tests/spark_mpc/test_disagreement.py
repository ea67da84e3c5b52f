"""Parties that do not mean the same are refused before any share is sent, and before any ledger is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dp._about import __version__
from dp.planning.aggregates import Aggregate
from spark_mpc import Disagreement, Federation, dp, lake
from spark_mpc.federation_file import FederationFile
from spark_mpc.handshake import Hello
from spark_mpc.identity import Identity
from spark_mpc.party import Party
from spark_mpc.sums.additive import Additive
from spark_mpc.sums.base import SumProtocol
from spark_mpc.transport.base import RENDEZVOUS
from tests.tools.federations import free_ports
from tests.tools.lakes import make_ledgers, nothing_entered, write_table
from tests.tools.studies import Wire, all_at_once, alone, memory_parties
from tests.tools.twin import WithoutNoise

pytestmark = pytest.mark.slow

NAMES = ("a", "b")


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> lake.Table:
    folder = tmp_path_factory.mktemp("disagreement")
    path = write_table(spark, folder / "t", "id long, k int, v int", [(1, 0, 3), (2, 1, 4)])
    return lake.Table.forPath(spark, path, unit="id", null_units="drop", max_units=1000)


@dataclass(frozen=True)
class Asked:
    """One party's query."""

    keys: tuple[int, ...] = (0, 1)
    max_rows: int = 1
    aggregates: tuple[Aggregate, ...] = (dp.count().alias("n"), dp.sum("v", 0, 10).alias("s"))
    where: tuple[str, ...] = ()
    epsilon: str = "1"
    delta: str = "0"
    overlap: int = 1
    name: str = "claims"
    recipients: tuple[str, ...] | None = None
    protocol: SumProtocol = field(default_factory=Additive)

    def run(self, party: Party, table: lake.Table, spark: SparkSession) -> dp.Release | None:
        frame = alone(party, table, spark, overlap=self.overlap, name=self.name, protocol=self.protocol)
        for condition in self.where:
            frame = frame.where(condition)
        groups = frame.groupBy("k", keys=list(self.keys), max_groups=1, max_rows=self.max_rows)
        return groups.agg(*self.aggregates).release(epsilon=self.epsilon, delta=self.delta, recipients=self.recipients)


USUAL = Asked()
LONG = tuple(range(3000))


@pytest.mark.parametrize(
    ("other", "item", "here", "there"),
    [
        (
            replace(USUAL, aggregates=(dp.count().alias("n"), dp.mean("v", 0, 10).alias("s"))),
            *("task.query.aggregates[1].aggregate", '"Sum"', '"Mean"'),
        ),
        (
            replace(USUAL, aggregates=(dp.count().alias("n"), dp.sum("v", 0, 11).alias("s"))),
            *("task.query.aggregates[1].upper", '"10"', '"11"'),
        ),
        (replace(USUAL, max_rows=2), "task.query.bounds.max_rows", "1", "2"),
        (replace(USUAL, epsilon="1.5"), "task.guarantee.epsilon", '"1"', '"3/2"'),
        (replace(USUAL, delta="1/1000000"), "task.guarantee.delta", "nothing", '"1/1000000"'),
        (replace(USUAL, keys=(0, 2)), "task.query.keys[1][0]", "1", "2"),
        (replace(USUAL, keys=(1, 0)), "task.query.keys[0][0]", "0", "1"),
        (replace(USUAL, where=("v > 1",)), "task.query.filters[0]", "nothing", '"where v > 1"'),
        (replace(USUAL, overlap=2), "task.parties_per_unit", "1", "2"),
        (replace(USUAL, name="other"), "task.contribution", '"claims"', '"other"'),
        (replace(USUAL, recipients=("a",)), "task.recipients[1]", '"b"', "nothing"),
        (replace(USUAL, protocol=WithoutNoise()), "protocol", '"additive"', '"additive without noise"'),
    ],
    ids=[
        *("aggregate", "column-bound", "row-bound", "epsilon", "delta", "keys", "key-order", "filter"),
        *("overlap", "name", "recipients", "twin"),
    ],
)
def test_another_query_is_refused_and_the_difference_named(
    *, other: Asked, item: str, here: str, there: str, table: lake.Table, spark: SparkSession, tmp_path: Path
) -> None:
    outcome = run_both({"a": USUAL, "b": other}, table, spark, tmp_path)
    assert_refused(outcome, item, here, there)


def test_the_twin_alone_is_no_danger_to_a_real_party(table: lake.Table, spark: SparkSession, tmp_path: Path) -> None:
    """With every party on the twin exact counts open: the refusal above is what stands between it and real data."""
    twin = replace(USUAL, protocol=WithoutNoise())
    outcomes, _, _ = run_both({"a": twin, "b": twin}, table, spark, tmp_path)
    assert isinstance(outcomes["a"], dp.Release)
    assert outcomes["a"].answers.values.to_pylist() == [{"k": 0, "n": 2, "s": 6.0}, {"k": 1, "n": 2, "s": 8.0}]


def test_a_long_key_list_travels_as_a_digest_and_is_compared_all_the_same(
    table: lake.Table, spark: SparkSession, tmp_path: Path
) -> None:
    here, there = replace(USUAL, keys=LONG), replace(USUAL, keys=(*LONG[:-1], 3001))
    outcome = run_both({"a": here, "b": there}, table, spark, tmp_path)
    assert_refused(outcome, "task.query.keys.sha256")
    _, wire, _ = outcome
    assert all(len(message.payload) < 8192 for message in wire.sent)


def test_another_library_version_is_refused(table: lake.Table, spark: SparkSession, tmp_path: Path) -> None:
    wire, ledgers = Wire(), make_ledgers(tmp_path, NAMES)
    with memory_parties(Federation.local(NAMES), ledgers, wire) as parties:

        def older() -> None:
            """Means exactly what a means, and runs an older version."""
            transport = parties["b"].transport
            theirs = Hello.from_bytes(transport.receive("a", RENDEZVOUS, "hello", 64 * 1024), "a")
            mine = replace(theirs, party="b", version="0.0.9", nonce=Hello.fresh_nonce())
            transport.send("a", RENDEZVOUS, "hello", mine.to_bytes())

        outcomes = all_at_once({"a": lambda: USUAL.run(parties["a"], table, spark), "b": older})
    assert isinstance(outcomes["a"], Disagreement)
    assert outcomes["a"].differences == (f'version: "{__version__}" here, "0.0.9" at b',)
    assert wire.steps() == {"hello"}
    assert nothing_entered(ledgers.values())


def test_who_looks_later_still_finds_the_hello_of_a_party_that_gave_up(
    table: lake.Table, spark: SparkSession, tmp_path: Path
) -> None:
    """a refuses at once and is gone; had it taken its hello back, b would wait for it and never learn why."""
    ledgers = make_ledgers(tmp_path, NAMES)
    unlike = Hello("b", "0.0.9", "additive", {}, {}, "t@0", "0" * 32, Hello.fresh_nonce(), "00" * 32)
    with memory_parties(Federation.local(NAMES), ledgers, Wire()) as parties:
        other = parties["b"].transport
        outcomes = all_at_once(
            {
                "a": lambda: USUAL.run(parties["a"], table, spark),
                "b": lambda: other.send("a", RENDEZVOUS, "hello", unlike.to_bytes()),
            }
        )
        assert isinstance(outcomes["a"], Disagreement)
        assert Hello.from_bytes(other.receive("a", RENDEZVOUS, "hello", 64 * 1024), "a").version == __version__


@pytest.mark.parametrize(
    ("change", "item", "here", "there"),
    [
        (lambda file: replace(file, timeout_seconds=7.0), "federation.timeout_seconds", "60.0", "7.0"),
        (lambda file: replace(file, name="elsewhere"), "federation.name", '"local"', '"elsewhere"'),
        (lambda file: with_other_certificate(file, "a"), "federation.party.a.certificates[0]", "", ""),
    ],
    ids=["timeout", "name", "certificate"],
)
def test_another_federation_file_is_refused(
    *,
    change: Callable[[FederationFile], FederationFile],
    item: str,
    here: str,
    there: str,
    table: lake.Table,
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    federation = Federation.local(NAMES)
    files = {"b": change(federation.file)}
    outcome = run_both({"a": USUAL, "b": USUAL}, table, spark, tmp_path, federation=federation, files=files)
    assert_refused(outcome, item, here, there)


def test_two_studies_over_tls_that_disagree(table: lake.Table, spark: SparkSession, tmp_path: Path) -> None:
    """The same refusal over real certificates and sockets."""
    local = Federation.local(NAMES)
    with free_ports(len(NAMES)) as ports:
        peers = tuple(
            replace(peer, address=f"127.0.0.1:{port}") for peer, port in zip(local.file.parties, ports, strict=True)
        )
    ledgers = make_ledgers(tmp_path, NAMES)

    def run(identity: Identity, epsilon: str) -> dp.Release | None:
        federation = Federation(replace(local.file, parties=peers), (identity,))
        with federation.session(spark, ledger=ledgers[identity.name]) as study:
            groups = study.contribute("claims", table).groupBy("k", keys=[0, 1], max_groups=1, max_rows=1)
            return groups.agg(dp.count()).release(epsilon=epsilon)

    a, b = local.identities
    outcomes = all_at_once({"a": lambda: run(a, "1"), "b": lambda: run(b, "2")})
    for outcome in outcomes.values():
        assert isinstance(outcome, Disagreement)
        assert '"1"' in str(outcome)
        assert '"2"' in str(outcome)
    assert nothing_entered(ledgers.values())


Outcome = tuple[dict[str, dp.Release | Exception | None], Wire, dict[str, lake.Ledger]]


def run_both(
    asked: Mapping[str, Asked],
    table: lake.Table,
    spark: SparkSession,
    folder: Path,
    *,
    federation: Federation | None = None,
    files: Mapping[str, FederationFile] | None = None,
) -> Outcome:
    wire, ledgers = Wire(), make_ledgers(folder, asked)
    with memory_parties(federation or Federation.local(NAMES), ledgers, wire, files=files) as parties:
        outcomes = all_at_once(
            {name: lambda name=name: asked[name].run(parties[name], table, spark) for name in asked}  # type: ignore[misc]
        )
    return outcomes, wire, ledgers


def assert_refused(outcome: Outcome, item: str, here: str = "", there: str = "") -> None:
    """Both sides found it themselves: the error names the item with both values, as seen from a and from b."""
    outcomes, wire, ledgers = outcome
    named = {"a": f"{item}: {here} here, {there} at b", "b": f"{item}: {there} here, {here} at a"}
    for party, error in outcomes.items():
        assert isinstance(error, Disagreement), error
        assert (named[party] if here else f"{item}: ") in str(error)
    assert wire.steps() == {"hello"}
    assert {step for _, step in wire.entered} == {"agree"}
    assert nothing_entered(ledgers.values())


def with_other_certificate(file: FederationFile, name: str) -> FederationFile:
    other = Identity.create(name, valid_days=1).certificate
    peers = (replace(peer, certificates=(other,)) if peer.name == name else peer for peer in file.parties)
    return replace(file, parties=tuple(peers))
