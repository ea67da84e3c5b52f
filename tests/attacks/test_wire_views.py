"""ATTACKS 24, 28 and 29: what crosses the wire, and what every coalition can make of it.

Whole runs of `run_party`, tapped above the transport. So that there can be hundreds of them, the noised vectors are
paid for already, as after a run that broke off: agreement, keys, masks, uploads and sums are those of every run, only
Spark and the ledger's file stay outside. A few runs with both are compared at the end.

Every p-value is compared with FALSE_ALARM, the chance that an honest run of this module's test fails on it; masks and
noise come from the operating system.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy import stats

import spark_mpc as mpc
from dp.accounting.budget import PureDP
from dp.execution.blocks import BlockFunction
from dp.execution.local import AddNoise
from dp.execution.release import StoredRelease
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts
from dp.planning.plan import NoiseParties, Plan, make_plan
from dp.planning.query import Query
from lake.table import Table
from spark_mpc import dp
from spark_mpc.party import Party
from spark_mpc.ring.masks import PairKey, Words, keystream
from spark_mpc.run import run_party
from spark_mpc.sums.additive import Additive, MaskBlock
from spark_mpc.sums.task import QueryTask
from spark_mpc.transport import tls_transport
from tests.tools.entropy import seeded_random
from tests.tools.federations import loopback_federation
from tests.tools.lakes import make_ledgers, write_table
from tests.tools.laws import chi_square_p_value, laplace_law
from tests.tools.sparkless import PaidLedger, sparkless_source
from tests.tools.studies import Sent, Wire, all_at_once, alone, memory_parties, step_of
from tests.tools.twin import unchanged

NAMES = ("a", "b", "c")
RUNS = 200
FALSE_ALARM = 1e-6
CELLS = 8
STEPS = {"hello", "agree", "ready", "armed", "upload", "done"}

QUERY = Query(
    by=("plan",),
    keys=tuple((key,) for key in range(CELLS)),
    bounds=ContributionBounds(1, 2, None),
    aggregates=(dp.count().alias("n"),),
    facts=PublicFacts(unit=("id",)),
    columns={},
)
PLAN: Plan = make_plan(QUERY, PureDP(1), parties=3, noise=NoiseParties(copies=3, honest=1))
EXACT = {name: np.arange(i, i + CELLS, dtype=np.uint64) * np.uint64(1000) for i, name in enumerate(NAMES)}
# one person more, with two rows: the neighbour differs in one cell of one party
NEIGHBOUR = {**EXACT, "b": EXACT["b"] + np.eye(1, CELLS, 3, dtype=np.uint64)[0] * np.uint64(2)}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Recorded(Additive):
    """The real protocol; keeps the keys that it was given, and knows whose it is, so that faults can be planted."""

    me: str = ""
    used: list[tuple[PairKey, ...]] = field(default_factory=list)

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        self.used.append(keys)
        return super().mask(length, keys)


class ClearShare(Recorded):
    """Planted: the masks are left out."""

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        self.used.append(keys)
        return unchanged


class ReusedMask(Recorded):
    """Planted: a pair of parties uses the same key in every run."""

    def mask(self, length: int, keys: tuple[PairKey, ...]) -> BlockFunction:
        self.used.append(keys)
        peers = [name for name in NAMES if name != self.me]
        pairs = ["".join(sorted((self.me, peer))) for peer in peers]
        fixed = (hashlib.sha256(pair.encode()).digest()[:16] for pair in pairs)
        return MaskBlock(length, tuple(PairKey(key, old.adds) for key, old in zip(fixed, keys, strict=True)))


class ReusedNoise(Recorded):
    """Planted: the noise starts from the same seed in every run."""

    def noise(self, plan: Plan) -> BlockFunction:
        return AddNoise(plan, seeded_random(self.me))


@dataclass
class Recording:
    """Many runs on one input.

    Attributes:
        exact: by party, what it added noise to.
        runs: the messages of each run.
        keys: by party, its mask keys in each run.
        uploads: uint64, (runs, parties, cells).
        opened: uint64, (runs, cells).
    """

    exact: dict[str, Words]
    runs: list[list[Sent]]
    keys: dict[str, list[tuple[PairKey, ...]]]
    uploads: Words
    opened: Words


def upload_of(run: Sequence[Sent], sender: str) -> Words:
    """What a party uploads; the same to every recipient."""
    payloads = {message.payload for message in run if (message.sender, message.step) == (sender, "upload")}
    assert len(payloads) == 1
    return np.frombuffer(payloads.pop(), "<u8").astype(np.uint64)


def record(exact: dict[str, Words], runs: int = RUNS, protocol: type[Recorded] = Recorded) -> Recording:
    """Runs on one input, over transports that live through all of them."""
    ledgers, wire = {name: PaidLedger() for name in NAMES}, Wire()
    protocols = {name: protocol(me=name) for name in NAMES}
    taken, opened = [], []
    with memory_parties(mpc.Federation.local(NAMES), ledgers, wire) as parties:  # type: ignore[arg-type]
        for _ in range(runs):
            wire.sent.clear()
            walk(parties, ledgers, protocols, exact)
            taken.append(list(wire.sent))
            (released,) = {ledger.committed for ledger in ledgers.values()}
            opened.append(StoredRelease.from_bytes(released, PLAN).words)
    uploads = np.array([[upload_of(run, name) for name in NAMES] for run in taken])
    keys = {name: one.used for name, one in protocols.items()}
    return Recording(exact, taken, keys, uploads, np.array(opened))


def walk(
    parties: dict[str, Party],
    ledgers: dict[str, PaidLedger],
    protocols: dict[str, Recorded],
    exact: dict[str, Words],
) -> None:
    """One run of everybody, with fresh noise."""
    for name, ledger in ledgers.items():
        ledger.noised = protocols[name].noise(PLAN)(0, exact[name]).astype("<u8").tobytes()
    tasks = {name: QueryTask("claims", PLAN, NAMES, protocol) for name, protocol in protocols.items()}
    outcomes = all_at_once(
        {name: partial(run_party, parties[name], tasks[name], sparkless_source(), None) for name in NAMES}
    )
    assert not [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)], outcomes


@pytest.fixture(scope="module")
def honest() -> tuple[Recording, Recording]:
    """Two inputs that differ by one unit."""
    return record(EXACT), record(NEIGHBOUR)


# -- what an eavesdropper above TLS would see --------------------------------------------------------------------------


def pattern(run: Sequence[Sent]) -> frozenset[tuple[str, str, int, str, int]]:
    """Labels and lengths of a run: (sender, peer, how manieth between them, step, bytes)."""
    sent: Counter[tuple[str, str]] = Counter()
    found = []
    for message in run:
        lane = (message.sender, message.peer)
        found.append((*lane, sent[lane], message.step, len(message.payload)))
        sent[lane] += 1
    return frozenset(found)


def uniform_p_value(digits: NDArray[np.integer[Any]], kinds: int) -> float:
    """Pearson's test of digits in 0..kinds-1, shape (runs, places): each place uniform over the runs."""
    counts = np.stack([np.bincount(column, minlength=kinds) for column in digits.T])
    expected = digits.shape[0] / kinds
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(stats.chi2.sf(statistic, counts.shape[0] * (kinds - 1)))


def two_sample_p_value(first: Words, second: Words) -> float:
    """Kolmogorov and Smirnov's test of every column of (runs, places), corrected for the number of places."""
    columns = zip(first.astype(np.float64).T, second.astype(np.float64).T, strict=True)
    found = [float(stats.ks_2samp(one, two, method="asymp").pvalue) for one, two in columns]
    return min(1.0, len(found) * min(found))


def remainder(recording: Recording, third: str) -> NDArray[np.int64]:
    """What a pair has left of a third party that it shares all masks with, less that party's rows."""
    rows = [
        strip(upload, keys, range(len(keys)))
        for upload, keys in zip(recording.uploads[:, NAMES.index(third)], recording.keys[third], strict=True)
    ]
    return (np.array(rows) - recording.exact[third]).view(np.int64)


def strip(upload: Words, keys: Sequence[PairKey], known: Sequence[int]) -> Words:
    """An upload without the masks whose keys are known."""
    bare, stream = upload.copy(), np.empty_like(upload)
    for index in known:
        keystream(keys[index].key, 0, stream)
        bare = bare - stream if keys[index].adds else bare + stream
    return bare


def p_values(first: Recording, second: Recording) -> dict[str, float]:
    """The test of the uploads and the noise of two neighbours: small where something can be told apart."""
    places = [recording.uploads.reshape(len(recording.runs), -1) for recording in (first, second)]
    both = np.concatenate(places)
    low = (both & np.uint64(15)).astype(np.int64)
    high = (both >> np.uint64(60)).astype(np.int64)
    in_order = np.ascontiguousarray(both).view(np.uint8).reshape(-1, 1)
    law = laplace_law(float(PLAN.parts[0].mechanism.scale))  # type: ignore[union-attr]
    noise = np.concatenate([remainder(one, third).ravel() for one in (first, second) for third in NAMES])
    return {
        "high bits of every place": uniform_p_value(high, 16),
        "low bits of every place": uniform_p_value(low, 16),
        "bytes": uniform_p_value(in_order, 256),
        "words of the two inputs": two_sample_p_value(*places),
        "changes from run to run": uniform_p_value((np.diff(both, axis=0)[::2] >> np.uint64(60)).astype(np.int64), 16),
        "noise of each party": chi_square_p_value(noise, law),
    }


def test_neighbouring_inputs_look_alike_on_the_wire(honest: tuple[Recording, Recording]) -> None:
    assert len({pattern(run) for recording in honest for run in recording.runs}) == 1
    assert {message.step for message in honest[0].runs[0]} == STEPS
    found = p_values(*honest)
    assert min(found.values()) > FALSE_ALARM, found


@pytest.mark.parametrize(
    ("protocol", "runs", "caught_by"),
    [
        (ClearShare, RUNS, {"high bits of every place", "bytes", "words of the two inputs"}),
        (ReusedMask, 60, {"high bits of every place", "low bits of every place", "changes from run to run"}),
        (ReusedNoise, 60, {"noise of each party"}),
    ],
)
def test_planted_faults_are_caught(protocol: type[Recorded], runs: int, caught_by: set[str]) -> None:
    found = p_values(record(EXACT, runs, protocol), record(NEIGHBOUR, runs, protocol))
    assert {name for name, p_value in found.items() if p_value < FALSE_ALARM} >= caught_by, found


def test_a_reused_mask_shows_the_neighbours_difference() -> None:
    """Why a mask is used once: the difference of two uploads under it is the data's, up to noise."""
    first, second = (record(exact, runs=2, protocol=ReusedMask).uploads[0, 1] for exact in (EXACT, NEIGHBOUR))
    assert np.abs((first - second).view(np.int64)).max() < 100 * PLAN.parts[0].mechanism.stddev


def test_nothing_that_protects_anybody_is_used_twice(honest: tuple[Recording, Recording]) -> None:
    hellos, run_ids = set(), set()
    keys: Counter[bytes] = Counter()
    for recording in honest:
        for run in recording.runs:
            hellos |= {message.payload for message in run if message.step == "hello"}
            run_ids |= {message.run for message in run if message.step != "hello"}
        keys.update(pair.key for used in recording.keys.values() for attempt in used for pair in attempt)
    fields = [json.loads(hello) for hello in hellos]
    runs = 2 * RUNS
    assert len(run_ids) == runs
    assert len({one["nonce"] for one in fields}) == len({one["attempt_key"] for one in fields}) == runs * len(NAMES)
    assert set(keys.values()) == {2}  # one key for each pair and run: at both its ends, and nowhere else
    assert len(keys) == runs * len(list(combinations(NAMES, 2)))
    uploads = np.concatenate([recording.uploads.ravel() for recording in honest])
    assert len(np.unique(uploads)) == uploads.size  # 64 bits: two in 9,600 words meet with probability 3e-12


# -- what a coalition sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curious", NAMES)
def test_a_party_sees_the_sum_of_the_others_and_otherwise_noise(
    honest: tuple[Recording, Recording], curious: str
) -> None:
    """Its view can be made up from what is opened: two uploads that add up to what it may know, uniform otherwise."""
    recording = honest[0]
    first, second = (name for name in NAMES if name != curious)
    seen = {name: without_masks_towards(recording, name, {curious}) for name in (first, second)}
    own = without_masks_towards(recording, curious, {first, second})
    remaining = recording.opened - own
    np.testing.assert_array_equal(seen[first] + seen[second], remaining)
    for name in (first, second):
        assert uniform_p_value((seen[name] >> np.uint64(60)).astype(np.int64), 16) > FALSE_ALARM
        assert uniform_p_value((seen[name] & np.uint64(15)).astype(np.int64), 16) > FALSE_ALARM
    drawn = np.frombuffer(seeded_random(f"simulator {curious}")(remaining.nbytes), np.uint64).reshape(remaining.shape)
    simulated = np.concatenate([drawn, remaining - drawn], axis=1)
    real = np.concatenate([seen[first], seen[second]], axis=1)
    assert two_sample_p_value(real, simulated) > FALSE_ALARM
    clear = np.concatenate([recording.exact[first] + drawn % np.uint64(50), seen[second]], axis=1)
    assert two_sample_p_value(clear, simulated) < FALSE_ALARM  # the comparison can fail


@pytest.mark.parametrize("third", NAMES)
def test_a_pair_sees_the_sum_of_the_third_under_its_noise_and_nothing_else(
    honest: tuple[Recording, Recording], third: str
) -> None:
    recording = honest[0]
    pair = set(NAMES) - {third}
    seen = without_masks_towards(recording, third, pair)
    own = sum((without_masks_towards(recording, name, set(NAMES) - {name}) for name in sorted(pair)), np.uint64(0))
    np.testing.assert_array_equal(seen, recording.opened - own)  # the uploads tell it no more than the opened sum
    noise = (seen - recording.exact[third]).view(np.int64).ravel()
    scale = float(PLAN.parts[0].mechanism.scale)  # type: ignore[union-attr]
    assert chi_square_p_value(noise, laplace_law(scale)) > FALSE_ALARM
    assert chi_square_p_value(noise, laplace_law(scale / 2)) < FALSE_ALARM


def without_masks_towards(recording: Recording, sender: str, known: set[str]) -> Words:
    """A party's uploads, (runs, cells), as somebody sees them who knows its keys with `known`."""
    peers = [name for name in NAMES if name != sender]
    indexes = [index for index, peer in enumerate(peers) if peer in known]
    uploads = recording.uploads[:, NAMES.index(sender)]
    return np.array([strip(*pair, indexes) for pair in zip(uploads, recording.keys[sender], strict=True)])


# -- the same over mutual TLS, and with Spark, lakes and ledgers -------------------------------------------------------


@contextmanager
def tls_parties(ledgers: dict[str, PaidLedger], wire: Wire) -> Iterator[dict[str, Party]]:
    loopback = loopback_federation(NAMES)

    def tapped(sender: str) -> Any:
        return lambda peer, run, step, payload: wire.sent.append(Sent(sender, peer, run, step, bytes(payload)))

    with ExitStack() as running:
        yield {
            name: Party(
                loopback.identities[name],
                loopback.file,
                running.enter_context(tls_transport(loopback.identities[name], loopback.file, tap=tapped(name))),
                ledgers[name],  # type: ignore[arg-type]
                step_of(wire, name),
            )
            for name in NAMES
        }


def test_labels_and_lengths_are_the_same_over_mutual_tls(honest: tuple[Recording, Recording]) -> None:
    ledgers, wire = {name: PaidLedger() for name in NAMES}, Wire()
    with tls_parties(ledgers, wire) as parties:
        walk(parties, ledgers, {name: Recorded() for name in NAMES}, EXACT)
    expected, found = pattern(honest[0].runs[0]), pattern(wire.sent)
    assert without_hellos(found) == without_hellos(expected)
    assert len(found) == len(expected)


def without_hellos(messages: frozenset[tuple[str, str, int, str, int]]) -> set[tuple[str, str, int, str, int]]:
    """A hello is as long as the federation file makes it."""
    return {message for message in messages if message[3] != "hello"}


def test_real_lakes_of_neighbours_look_alike_too(spark: SparkSession, tmp_path: Path) -> None:
    rows = {name: [(f"{name}{i}", i % CELLS) for i in range(20)] for name in NAMES}
    neighbour = {**rows, "b": [*rows["b"], ("new", 3), ("new", 3)]}
    ledgers = make_ledgers(tmp_path, NAMES)
    patterns, words = set(), []
    for title, lakes in (("one", rows), ("other", neighbour)):
        tables = {
            name: Table.forPath(
                spark,
                write_table(spark, tmp_path / title / name, "id string, plan int", lakes[name]),
                unit="id",
                null_units="drop",
            )
            for name in NAMES
        }
        for number in range(2):
            wire = Wire()
            with memory_parties(mpc.Federation.local(NAMES), ledgers, wire) as parties:
                released = all_at_once({name: asking(parties[name], tables[name], spark, number) for name in NAMES})
            assert not [outcome for outcome in released.values() if isinstance(outcome, Exception)], released
            patterns.add(pattern(wire.sent))
            words += [upload_of(wire.sent, name) for name in NAMES]
    assert len(patterns) == 1
    assert len(np.unique(np.concatenate(words))) == 4 * len(NAMES) * CELLS
    high = (np.concatenate(words).reshape(-1, 1) >> np.uint64(62)).astype(np.int64)
    assert uniform_p_value(high, 4) > FALSE_ALARM


def asking(party: Party, table: Table, spark: SparkSession, number: int) -> Any:
    """What one party asks; every number is another release."""
    groups = alone(party, table, spark, overlap=1).groupBy("plan", keys=range(CELLS), max_groups=1, max_rows=2)
    return lambda: groups.agg(dp.count().alias(f"n{number}")).release(epsilon="1")
