"""The comparisons with peers: the data they share, the protocol they speak, and what becomes of a peer that fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._peers import PEERS, Peer
from benchmarks._visits import Visits
from benchmarks.peers.protocol import (
    AGGREGATES,
    KEYS,
    MAX_GROUPS,
    MAX_ROWS,
    VALUES,
    Question,
    Reply,
    Request,
    Unsupported,
    replies,
)
from tests.benchmarks.test_cli import quick_records

COUNT = Question("visits", ("count",), "public", "groups")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_visits_are_the_same_every_time_and_in_range():
    first, again = Visits.many(5_000), Visits.many(5_000)
    for name in ("user", "key", "value"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.key.min() == 0
    assert first.key.max() < KEYS
    assert (first.value.min(), first.value.max()) == VALUES


def test_the_greatest_part_of_what_is_within_the_bounds_is_kept():
    visits = Visits.within_bounds(5_000)
    _, rows = np.unique(visits.user * KEYS + visits.key, return_counts=True)
    assert rows.max() <= MAX_ROWS
    pairs = np.unique(visits.user * KEYS + visits.key)
    _, groups = np.unique(pairs // KEYS, return_counts=True)
    assert groups.max() == MAX_GROUPS
    before = np.unique(Visits.many(5_000).user * KEYS + Visits.many(5_000).key)
    _, groups_before = np.unique(before // KEYS, return_counts=True)
    assert len(pairs) == np.minimum(groups_before, MAX_GROUPS).sum()


def test_of_single_visits_every_user_has_one():
    assert len(np.unique(Visits.single(5_000).user)) == 5_000


def test_truths_are_those_of_a_plain_loop():
    visits = Visits.many(3_000)
    for key in (0, 7, KEYS - 1):
        values = [int(v) for k, v in zip(visits.key, visits.value, strict=True) if k == key]
        exact = {"count": len(values), "sum": sum(values)}
        if values:
            exact |= {"mean": np.mean(values), "variance": np.var(values), "median": np.median(values)}
        for name, value in exact.items():
            assert visits.truth(name)[key] == pytest.approx(value), (key, name)
    assert np.isnan(replace(visits, key=visits.key * 0).truth("mean")[1])
    with pytest.raises(ValueError, match="mode"):
        visits.truth("mode")


def test_parquet_is_written_once(cache):
    folder = Visits.many(1_000).parquet()
    written = sorted(folder.iterdir())
    times = [file.stat().st_mtime_ns for file in written]
    assert Visits.many(1_000).parquet() == folder
    assert [file.stat().st_mtime_ns for file in sorted(folder.iterdir())] == times
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_requests_and_replies_survive_the_pipe():
    request = Request((COUNT, replace(COUNT, delta=1e-6)), "small", 2.5, 3, 60.0)
    assert Request.from_json(request.to_json()) == request
    assert Request.from_json(Request((COUNT,)).to_json()).most_seconds == float("inf")
    reply = Reply((1.0, 2.0), (3.0, 4.0), ({"count": {1: 2.0}}, {"count": {3: float("inf")}}))
    assert Reply.from_json(reply.to_json()) == reply


def test_every_question_is_warmed_up_and_repeated_as_long_as_there_is_time():
    asked = []

    def ask(question):
        asked.append(question.visits)
        return {"count": {0: float(len(asked))}}

    (reply,) = replies(ask, Request((COUNT,), "small", repetitions=3))
    assert asked == ["small", "visits", "visits", "visits"]
    assert [answer["count"][0] for answer in reply.answers] == [2.0, 3.0, 4.0]
    (hasty,) = replies(ask, Request((COUNT,), repetitions=3, most_seconds=0.0))
    assert len(hasty.answers) == len(hasty.cpu_seconds) == 1


def test_what_a_peer_lacks_is_said_and_the_next_question_asked():
    def ask(question):
        if "median" in question.aggregates:
            raise Unsupported("no median")
        return {"count": {0: 1.0}}

    lacking, answered = replies(ask, Request((replace(COUNT, aggregates=("median",)), COUNT)))
    assert lacking == Reply(unsupported="no median")
    assert answered.answers == ({"count": {0: 1.0}},)


def test_peers_are_pinned():
    for peer in PEERS.values():
        assert all("==" in package for package in peer.packages)
        assert peer.packages[0].partition("==")[2] in peer.title


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_says_so_and_fails_nothing(cache):
    peer = Peer("tumult", "Tumult of nowhere", (f"{cache}/no_such_package.whl",))
    outcomes = list(peer.outcomes(Request((COUNT, COUNT))))
    assert [outcome.seconds for outcome in outcomes] == [(), ()]
    assert all("not installed" in outcome.unsupported for outcome in outcomes)


@pytest.mark.slow
def test_a_peer_that_breaks_down_says_so_and_fails_nothing(cache):
    peer = Peer("opendp", "OpenDP without OpenDP", ("pip",))  # has not what it imports
    (outcome,) = peer.outcomes(Request((COUNT,)))
    assert "ended early" in outcome.unsupported
    assert "No module named 'opendp'" in outcome.unsupported


@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_quick_accuracy_compares_every_cell_with_every_peer():
    records = quick_records("accuracy")
    coverage = [record for record in records if record["against"] == "stated"]
    assert [record["case"] for record in coverage] == [f"coverage: {name}" for name in AGGREGATES]
    assert all(record["value"] > 0.94 for record in coverage)
    for name in PEERS:
        cells = [record for record in records if record["against"] == name]
        assert len(cells) == 2 * len(AGGREGATES) + 2
        assert all("skipped" in cell or cell["ratio"] is None or cell["ratio"] > 0 for cell in cells)
