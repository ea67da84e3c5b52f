"""The comparison of three-party engines: its cases, its three processes, and what becomes of one that fails."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks._floor import VARIABLE, Floor, NoFloor, floor
from benchmarks._peers import SPU
from benchmarks._rep3_programs import PROGRAMS, SUM
from benchmarks._three import Three, ThreeFailed
from benchmarks.peers.three_cases import CASES
from benchmarks.rep3 import ours
from spark_mpc.circuits.radix_cost import radix_cost
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.rep3.costs import Rep3Costs
from tests.benchmarks.test_cli import quick_records

ROWS = 200


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def measured(transport, names):
    """Cases by our three processes, at a size that shows that they run."""
    with ours(transport) as three:
        results = {name: three.measure(name, ROWS, repetitions=2, most_seconds=60.0) for name in names}
    for name, result in results.items():
        assert len(result.seconds) == len(result.cpu_seconds) == 2, name
        assert min(result.seconds) > 0, name
        assert result.max_error <= CASES[name].tolerance, name
    return results


def test_every_case_has_a_program():
    assert {*PROGRAMS, SUM} == set(CASES)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_a_case_knows_its_truth_and_refuses_anything_else(case):
    inputs = case.drawn(ROWS)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, case.drawn(ROWS), strict=True))
    truth = case.truth(*inputs)
    assert case.max_error(truth, ROWS) == 0
    wrong = truth.copy().reshape(-1)
    wrong[-1] = not wrong[-1] if wrong.dtype == bool else wrong[-1] + 1
    with pytest.raises(ValueError, match=f"{case.name} of {ROWS} rows is wrong"):
        case.max_error(wrong.reshape(truth.shape), ROWS)


def test_of_a_shuffle_only_the_rows_count():
    case = CASES["shuffle"]
    (x,) = case.drawn(ROWS)
    assert case.max_error(x[::-1], ROWS) == 0
    with pytest.raises(ValueError, match="wrong"):
        case.max_error(CASES["sort"].drawn(ROWS + 1)[0][:ROWS], ROWS)


def test_our_processes_compute_and_count_what_they_send(cache):
    results = measured("plain", ["sum of three", "multiply", "compare", "shuffle", "radix sort", "matmul"])
    spent = {name: (result.rounds, result.sent_bytes) for name, result in results.items()}
    assert spent.pop("compare")[0] == 8
    by_digits = radix_cost(Rep3Costs(CHUNK), ROWS, chunk=CHUNK, sums=0, words=[32], widths=[8])
    rounds, sent = spent.pop("radix sort")
    assert sent == max(by_digits.sent_bytes)
    assert rounds <= by_digits.rounds
    assert spent == {
        "sum of three": (1, 8 * ROWS),
        "multiply": (1, 8 * ROWS),
        "shuffle": (3, 16 * ROWS),
        "matmul": (1, 8 * ROWS * ROWS),
    }


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_our_processes_do_every_case(cache, transport):
    measured(transport, CASES)


def test_a_party_that_ends_says_why(cache):
    with (
        Three("broken", [sys.executable, "-c", "raise SystemExit('no such engine')"], [{}, {}, {}]) as three,
        pytest.raises(ThreeFailed, match="broken ended early: no such engine"),
    ):
        three.measure("multiply", ROWS, repetitions=1, most_seconds=1.0)


def test_without_a_prototype_there_is_no_floor(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(NoFloor, match=VARIABLE):
        floor("multiply", ROWS, 1)


@pytest.fixture
def prototype(tmp_path, monkeypatch):
    """Makes a prototype that tells what it is given."""

    def make(**told):
        script = tmp_path / "prototype.py"
        script.write_text(f"import os, sys\nprint(sys.argv[1:], os.environ['REPS'])\nprint({json.dumps(told)!r})")
        monkeypatch.setenv(VARIABLE, str(script))

    return make


def test_a_prototype_tells_its_best(prototype):
    prototype(wall=0.5, cpu=[0.25, 0.5, 1.0], ok=[True, True, True], n=ROWS)
    assert floor("multiply", ROWS, 3) == Floor(0.5, 1.75)


def test_a_prototype_that_fills_its_last_chunk_up_is_compared_row_by_row(prototype):
    prototype(wall=0.5, cpu=[0.25, 0.5, 1.0], ok=[True, True, True], n=2 * ROWS)
    assert floor("compare", ROWS, 3) == Floor(0.25, 0.875)


def test_a_prototype_that_is_wrong_or_lacks_the_case_gives_no_floor(prototype):
    prototype(wall=0.5, cpu=[0.25, 0.5, 1.0], ok=[True, False, True], n=ROWS)
    with pytest.raises(NoFloor, match="wrong"):
        floor("multiply", ROWS, 3)
    with pytest.raises(NoFloor, match="no such operation"):
        floor("sigmoid", ROWS, 3)
    with pytest.raises(NoFloor, match="1000 rows"):
        floor("matmul", ROWS, 3)


def test_a_prototype_that_is_no_file_or_fails_gives_no_floor(tmp_path, monkeypatch):
    script = tmp_path / "prototype.py"
    monkeypatch.setenv(VARIABLE, str(script))
    with pytest.raises(NoFloor, match="no file"):
        floor("multiply", ROWS, 1)
    script.write_text("raise SystemExit(1)")
    with pytest.raises(NoFloor, match="failed"):
        floor("multiply", ROWS, 1)


def test_spu_is_pinned():
    assert SPU.packages == (f"spu=={SPU.title.split()[-1]}",)


@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_a_quick_run_compares_every_case_with_all_others():
    records = quick_records("rep3")
    for name, case in CASES.items():
        of_case = [record for record in records if record["case"].startswith(f"{name}, ")]
        assert [(record["transport"], record["against"]) for record in of_case] == [
            ("tls", "plain"),
            ("tls", "spu"),
            ("plain", "prototype"),
        ]
        for record in of_case:
            assert record["rows"] == case.quick_rows
            assert "Python" in record["machine"]
            assert record["seconds"] > 0
            assert "skipped" in record or record["ratio"] > 0
