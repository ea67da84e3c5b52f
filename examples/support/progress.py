"""Which party reached which step when: one line per step, complete once the slowest party is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from spark_mpc.launcher import Progress

__all__ = ["ProgressTable"]


@dataclass
class ProgressTable:
    """Prints what `launch` reports as a table with a column per party; a terminal also sees the line in the making.

    Attributes:
        parties: the columns.
    """

    parties: Sequence[str]
    _steps: list[str] = field(default_factory=list)
    _seconds: dict[str, list[float]] = field(default_factory=dict)
    _printed: int = 0

    def __post_init__(self) -> None:
        self._seconds = {party: [] for party in self.parties}
        click.echo("".join([f"{'':30}", *(f"{party:>12}" for party in self.parties)]))

    def __call__(self, progress: Progress) -> None:
        """Take note of a step; every party takes the same steps in the same order."""
        self._seconds[progress.party].append(progress.seconds)
        if len(self._seconds[progress.party]) > len(self._steps):
            self._steps.append(progress.step)
        while self._printed < min(len(seconds) for seconds in self._seconds.values()):
            click.echo(self._line(self._printed))
            self._printed += 1
        if sys.stdout.isatty() and self._printed < len(self._steps):
            click.echo(self._line(self._printed), nl=False)

    def _line(self, row: int) -> str:
        shown = (f"{seconds[row]:10.1f} s" if row < len(seconds) else "..." for seconds in self._seconds.values())
        start = "\r" if sys.stdout.isatty() else ""
        return start + f"{self._steps[row]:30}" + "".join(f"{cell:>12}" for cell in shown)
