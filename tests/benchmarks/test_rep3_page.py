"""The page of the three-party benchmark is what its kept run gives, and says plainly which aims that run misses."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import _rep3_page
from benchmarks._machine import machine
from benchmarks._rep3_page import KEPT, PAGE, main, page


def kept():
    """The records behind the page."""
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]


def page_of(records):
    """Had a run told these."""
    return page("\n".join(map(json.dumps, records)))


def page_with(case, against, **changed):
    """Had the run met all aims, and told something else of one case."""
    records = [{**record, "ratio": 0.1} if "ratio" in record else record for record in kept()]
    (record,) = [r for r in records if (r["case"], r["against"]) == (case, against)]
    record.update(changed)
    return page_of(records)


def test_the_page_is_what_the_kept_run_gives():
    told = KEPT.read_text(encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(told), f"run `python -m benchmarks._rep3_page {KEPT.name}`"


@pytest.mark.parametrize(
    ("against", "met", "missed", "said"),
    [
        ("spu", 0.166, 0.168, "compare, 1,000,000: 5.95 times SPU, aim 6"),
        ("plain", 2.0, 2.01, "compare, 1,000,000: mutual TLS takes 2.01 times plain sockets, aim at most 2"),
        ("prototype", 1.5, 1.51, "compare, 1,000,000: plain sockets take 1.51 times the prototype, aim at most 1.5"),
    ],
)
def test_a_missed_aim_is_said(against, met, missed, said):
    case = "compare, 1,000,000 rows"
    good = page_with(case, against, ratio=met)
    assert "All of them are met in this run" in good
    assert "missed" not in good.lower()
    bad = page_with(case, against, ratio=missed)
    assert f"**Missed in this run:**\n\n- {said}\n\n" in bad
    (row,) = [line for line in bad.splitlines() if line.startswith("|") and "missed" in line]
    assert row.startswith("| compare, 1,000,000 ")
    assert row.count("missed") == 1


def test_what_was_not_compared_is_listed():
    gone = page_with("compare, 1,000,000 rows", "spu", skipped="it was ill")
    assert "- SPU, compare, 1,000,000: it was ill." in gone
    fewer = [record for record in kept() if not record["case"].startswith("select")]
    assert "Not in this run: " in (told := page_of(fewer))
    assert "select, 1,000,000" in told
    assert "| select" not in told


def test_the_machine_of_the_run_is_named():
    told = [{**record, "machine": machine(2)} for record in kept()]
    assert f"Machine: {machine(2)}.\n" in page_of(told)
    assert f"Python {platform.python_version()}, numpy {np.__version__}" in machine(2)
    unknown = [{name: value for name, value in record.items() if name != "machine"} for record in told]
    assert "Machine: not on record.\n" in page_of(unknown)


def test_only_a_whole_run_of_this_benchmark_makes_a_page():
    first, *others = kept()
    for wrong in ({"benchmark": "ledger"}, {"rows": 100_000}, {"case": "division, 1,000,000 rows"}):
        with pytest.raises(ValueError, match=r"the page is of the benchmark|no case of a whole run"):
            page_of([{**first, **wrong}, *others])
    with pytest.raises(ValueError, match="nothing"):
        page("")


def test_the_command_writes_both_files(tmp_path, monkeypatch):
    for name, path in (("PAGE", PAGE), ("KEPT", KEPT)):
        monkeypatch.setattr(_rep3_page, name, tmp_path / path.name)
    assert CliRunner().invoke(main, [str(KEPT)]).exit_code == 0
    assert (tmp_path / KEPT.name).read_bytes() == KEPT.read_bytes()
    assert (tmp_path / PAGE.name).read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
