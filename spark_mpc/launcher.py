"""Start one operating-system process per party, watch them, and leave none of them behind.

Every party gets a session (process group) of its own, so that its JVM and Python workers go with it, and a log file
of its own. Lines of a child's output that begin with `@progress ` are shown; all others only go to its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from dp.errors import SparkMpcError

__all__ = ["Interrupted", "PartyFailed", "Progress", "launch", "report_progress"]

_PREFIX = "@progress "
_TAIL_LINES = 30
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a closed terminal is a Ctrl-C too


@dataclass(frozen=True)
class Progress:
    """One step that a party has reached.

    Attributes:
        party: its name.
        step: what it said, such as "agree".
        seconds: since the launch.
    """

    party: str
    step: str
    seconds: float


class PartyFailed(SparkMpcError):
    """A party's process ended with an error; the others have been stopped.

    Attributes:
        party: its name.
        exit_code: as the operating system gave it; negative for a signal.
        log: its log file.
    """

    def __init__(self, party: str, exit_code: int, log: Path) -> None:
        self.party = party
        self.exit_code = exit_code
        self.log = log
        super().__init__(
            f"party={party!r}: its process ended with exit code {exit_code} and the others were stopped; "
            f"the end of {log}:\n{_tail(log)}"
        )


class Interrupted(SparkMpcError):
    """The launch was ended by a signal; every party has been stopped.

    Attributes:
        signal_number: such as SIGINT; the customary exit code is 128 + this number.
    """

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; no party is left running")


def report_progress(step: str) -> None:
    """Tell the launcher, if there is one, which step this process has reached.

    Args:
        step: a few public words; they are shown to whoever started the launch.
    """
    sys.stdout.write(_PREFIX + json.dumps({"step": step}) + "\n")
    sys.stdout.flush()


def launch(
    parties: Sequence[str],
    command_for: Callable[[str], Sequence[str | os.PathLike[str]]],
    *,
    logs: Path,
    show: Callable[[Progress], None],
    environment: Mapping[str, str] | None = None,
    grace_seconds: float = 10.0,
) -> None:
    """Run one process per party until all have ended well.

    SIGINT, SIGTERM and SIGHUP are taken over for the duration where the caller is the main thread.

    Args:
        parties: their names; also the names of their log files.
        command_for: name -> the command line of that party's process.
        logs: folder for `NAME.log`, one per party, replaced where it exists.
        show: called in the caller's thread with every step that a party reports.
        environment: variables that the children get beside the inherited ones.
        grace_seconds: how long a stopped process may take before it is killed.

    Raises:
        PartyFailed: the first party that ended with an error; the others have been stopped.
        Interrupted: one of those signals arrived; all have been stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    events: _Events = SimpleQueue()
    started = time.monotonic()
    children: dict[str, _Child] = {}
    with _signals_into(events):
        try:
            for party in parties:
                children[party] = _Child(
                    party,
                    command_for(party),
                    log=logs / f"{party}.log",
                    environment=environment or {},
                    events=events,
                    grace_seconds=grace_seconds,
                )
            _watch(
                set(parties), events, logs, lambda party, step: show(Progress(party, step, time.monotonic() - started))
            )
        finally:
            _stop(list(children.values()), grace_seconds)


@dataclass(frozen=True)
class _Step:
    party: str
    step: str


@dataclass(frozen=True)
class _Ended:
    party: str
    exit_code: int


@dataclass(frozen=True)
class _Signal:
    number: int


_Events = SimpleQueue[_Step | _Ended | _Signal]


class _Child:
    """One party's process, with a thread that copies its output and one that waits for its end."""

    def __init__(
        self,
        party: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        environment: Mapping[str, str],
        events: _Events,
        grace_seconds: float,
    ) -> None:
        self._party = party
        self._log = log
        self._events = events
        self._grace_seconds = grace_seconds
        log.write_bytes(b"")  # a folder that cannot be written to is found out before there is a process
        self._process = subprocess.Popen(  # noqa: S603 - the caller's own command, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )
        self._copier = threading.Thread(target=self._copy, daemon=True)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._copier.start()
        self._waiter.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, if any of it is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def is_gone(self, timeout_seconds: float) -> bool:
        """Whether the process and everything that holds its output have ended, waiting at most so long."""
        self._waiter.join(max(timeout_seconds, 0.0))
        return not self._waiter.is_alive()

    def _copy(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output, self._log.open("wb", buffering=0) as log:
            for line in output:
                log.write(line)
                step = _parse_progress(line)
                if step is not None:
                    self._events.put(_Step(self._party, step))

    def _wait(self) -> None:
        exit_code = self._process.wait()
        # The output's end is the sign that JVM and workers, which inherit it, are gone too.
        self._copier.join(self._grace_seconds)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._copier.is_alive():
                self.signal(number)
                self._copier.join(self._grace_seconds)
        self._events.put(_Ended(self._party, exit_code))


def _watch(running: set[str], events: _Events, logs: Path, show: Callable[[str, str], None]) -> None:
    while running:
        match events.get():
            case _Step(party, step):
                show(party, step)
            case _Ended(party, 0):
                running.remove(party)
            case _Ended(party, exit_code):
                raise PartyFailed(party, exit_code, logs / f"{party}.log")
            case _Signal(number):
                raise Interrupted(number)


def _stop(children: Sequence[_Child], grace_seconds: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace_seconds
        running = [child for child in children if not child.is_gone(0.0)]
        for child in running:
            child.signal(number)
        for child in running:
            child.is_gone(deadline - time.monotonic())


@contextlib.contextmanager
def _signals_into(events: _Events) -> Iterator[None]:
    """Turn signals that end a program into events: no step is cut in half, and a second Ctrl-C does no harm."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        events.put(_Signal(number))

    previous = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _parse_progress(line: bytes) -> str | None:
    text = line.decode("utf-8", "replace")
    if not text.startswith(_PREFIX):
        return None
    try:
        content = json.loads(text.removeprefix(_PREFIX))
    except ValueError:
        return None
    step = content.get("step") if isinstance(content, dict) else None
    return step if isinstance(step, str) else None


def _tail(log: Path) -> str:
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(deque((line for line in lines if not line.startswith(_PREFIX)), _TAIL_LINES))
    except FileNotFoundError:
        return "(no log was written)"
