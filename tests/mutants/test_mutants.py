"""Every fault still fits the code, every line of known attacks has one, and some are planted for real.

`python -m tests.mutants --unharmed` plants all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, QUICK
from tests.mutants.runner import ROOT, Mutant, copied, mutated, outcome, run_tests

LINES = range(1, 19)
"""Lines of the list of known attacks that concern one lake: noise, numbers, Spark."""

PLANTED = ("half the Laplace noise", "L0 skipped", "threshold minus one", "no proof of range")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    text = mutated(mutant)
    compile(text, mutant.file, "exec")
    assert text != (ROOT / mutant.file).read_text()
    assert all((ROOT / test.partition("::")[0]).is_file() for test in mutant.tests)


def test_every_line_has_a_mutant_and_names_are_unique() -> None:
    assert {line for mutant in MUTANTS for line in mutant.attacks} >= set(LINES)
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert set(names) > QUICK


def test_a_mutant_of_code_that_moved_on_is_refused() -> None:
    with pytest.raises(ValueError, match="out of date: its text occurs 0 times"):
        mutated(Mutant("gone", (12,), "dp/exact.py", "no such text", "", ()))
    with pytest.raises(ValueError, match=r"out of date: its text occurs \d+ times"):
        mutated(Mutant("twice", (12,), "dp/exact.py", "return", "", ()))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_some_are_planted_and_caught(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    copied(folder)
    planted = {mutant.name: mutant for mutant in MUTANTS if mutant.name in PLANTED}
    status, said = run_tests(sorted({test for mutant in planted.values() for test in mutant.tests}), folder)
    assert status == 0, said  # without a fault the same tests pass
    assert {name: outcome(mutant, folder)[0] for name, mutant in planted.items()} == dict.fromkeys(PLANTED, "caught")
    assert all((folder / mutant.file).read_text() == (ROOT / mutant.file).read_text() for mutant in planted.values())


@pytest.mark.slow
def test_what_changes_nothing_survives_and_what_cannot_run_is_no_evidence(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    copied(folder)
    tests = ("tests/dp/test_exact.py",)
    same = Mutant("a comment", (12,), "dp/exact.py", "_DIGITS = 15", "_DIGITS = 15  # fifteen", tests)
    broken = Mutant("no Python", (12,), "dp/exact.py", "_DIGITS = 15", "_DIGITS = = 15", tests)
    assert [outcome(mutant, folder)[0] for mutant in (same, broken)] == ["SURVIVED", "BROKEN"]
