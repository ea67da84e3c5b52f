"""The benchmarks' command: it knows its modules, prints JSON lines, and refuses records that nobody could read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import checked, main, names
from benchmarks._measure import median_cost, median_seconds, peak_mib


def quick_records(name):
    """What a quick run of a benchmark prints."""
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # what it says of errors is shown
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["benchmark"] for record in records} == {name}
    return records


def test_every_benchmark_has_a_run():
    assert "bounding" in names()
    assert not [name for name in names() if name.startswith("_")]


def test_an_unknown_benchmark_is_refused_and_the_known_ones_are_named():
    result = CliRunner().invoke(main, ["no_such_benchmark"])
    assert result.exit_code == 2
    assert "bounding" in result.output


def test_records_carry_the_name_and_lack_nothing():
    good = {"case": "ours", "seconds": 1.0}
    assert list(checked("one", iter([good]))) == [{"benchmark": "one", **good}]
    with pytest.raises(ValueError, match="seconds"):
        list(checked("one", iter([{"case": "ours"}])))


def test_median_counts_only_the_warm_repetitions():
    calls = []
    assert median_seconds(lambda: calls.append(1), repetitions=3, warm_up=2) >= 0
    assert len(calls) == 5


def test_cost_counts_the_processors_of_children():
    child = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"]
    cost = median_cost(lambda: subprocess.run(child, check=True), repetitions=1, warm_up=0)
    if not cost.cpu_seconds:
        pytest.skip("no /proc on this system")
    assert cost.cpu_seconds > 0.48
    assert cost.over(cost)["ratio"] == 1.0


def test_peak_memory_sees_children():
    child = [sys.executable, "-c", "block = bytearray(b'x') * (200 * 2**20); input()"]

    def hold_memory_for_a_moment():
        with subprocess.Popen(child, stdin=subprocess.PIPE) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            process.communicate(b"\n")

    before = peak_mib(lambda: None)
    if before is None:
        pytest.skip("no /proc on this system")
    assert peak_mib(hold_memory_for_a_moment) > before + 150


@pytest.mark.long
@pytest.mark.slow
def test_bounding_prints_one_json_object_a_line():
    records = quick_records("bounding")
    assert [(record["case"], record.get("against")) for record in records] == [
        ("plain", None),
        ("raw shuffle", None),
        ("ours", "plain"),
        ("ours", "raw shuffle"),
        ("five aggregates", "ours"),
        ("plain, 1e6 groups", None),
        ("1e6 private groups", "plain, 1e6 groups"),
        ("memory", None),
        ("memory", "memory"),
    ]
    assert [record["rows"] for record in records] == [1_000_000] * 8 + [10_000_000]
    assert all(record["seconds"] > 0 and record["cpu_seconds"] > 0 for record in records)
    assert all(record["ratio"] > 0 for record in records if "against" in record)
    assert all(record["peak_mib"] > 100 for record in records[5:])


@pytest.mark.slow
def test_transport_prints_ours_beside_grpc():
    records = quick_records("transport")
    assert [(record["case"], record["rounds"], record["bytes"]) for record in records] == [
        ("50 rounds of 1 KiB, one thread", 50, 102_400),
        ("50 rounds of 1 KiB, exchange", 50, 102_400),
        ("8 MB from two to one", 1, 8_000_000),
        ("8 MB from each to all", 1, 16_000_000),
        ("streams: 200 rounds of 64 B to the next", 200, 12_800),
        ("streams: 200 rounds of 64 B to all", 200, 25_600),
        ("streams: 8 MB to the next, 1 MB a round", 8, 8_000_000),
        ("streams: 8 MB to all, 1 MB a round", 8, 16_000_000),
        ("streams: 8 MB to the next, one round", 1, 8_000_000),
    ]
    for record in records:
        assert record["against"] == "grpc"
        assert record["seconds"] > 0
        assert record["against_seconds"] > 0
        assert record["ratio"] == pytest.approx(record["seconds"] / record["against_seconds"], abs=0.02)
