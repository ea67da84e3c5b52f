"""Plants one fault in a copy of the packages and runs tests against the copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["ROOT", "Mutant", "Outcome", "copied", "mutated", "outcome", "run_tests"]

ROOT = Path(__file__).parents[2]

Outcome = Literal["caught", "SURVIVED", "BROKEN"]
"""BROKEN: no test failed, but the run itself did; that shows nothing."""

_COPIED = ("dp", "lake", "spark_mpc", "tests")
_SECONDS = 900


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: unique.
        attacks: the lines of the list of known attacks against which the defence stands.
        file: below the root.
        old: text that occurs there exactly once.
        new: what it becomes.
        tests: pytest arguments; one of these tests at least has to fail.
    """

    name: str
    attacks: tuple[int, ...]
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """The text of the file below `root` with the fault in it.

    Raises:
        ValueError: the code has moved on: the text to replace does not occur exactly once.
    """
    text = (root / mutant.file).read_text()
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"mutant {mutant.name!r} is out of date: its text occurs {found} times in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


def copied(folder: Path) -> None:
    """Copy the packages and the tests to an empty folder."""
    for name in _COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def outcome(mutant: Mutant, folder: Path) -> tuple[Outcome, str]:
    """What becomes of a mutant in a copy, which is as it was afterwards; and pytest's last words."""
    place = folder / mutant.file
    whole = place.read_text()
    place.write_text(mutated(mutant, folder))
    try:
        status, said = run_tests(mutant.tests, folder)
    finally:
        place.write_text(whole)
    found: dict[int, Outcome] = {0: "SURVIVED", 1: "caught"}
    return found.get(status, "BROKEN"), said


def run_tests(tests: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run tests of the copy against the copy; pytest's exit status and its last line."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""
