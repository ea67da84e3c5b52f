"""The launcher against real processes: progress, logs, failures, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dp.errors import InvalidArgument
from spark_mpc.launcher import Interrupted, PartyFailed, Progress, launch, report_progress

PARTIES = ("a", "b", "c")

# A party that reports a step and then waits for ever, together with a process of its own (as Spark has its JVM).
WAITING = """
import os, signal, subprocess, sys
{prelude}
helper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
with open(sys.argv[1] + ".pids", "w") as file:
    file.write(f"{{os.getpid()}} {{helper.pid}}")
print('@progress {{"step": "waiting"}}')
signal.pause()
"""

LAUNCHING = """
import sys
from pathlib import Path
from spark_mpc.launcher import Interrupted, launch
folder, script = Path(sys.argv[1]), sys.argv[2]
try:
    launch(
        ("a", "b", "c"),
        lambda party: (sys.executable, "-c", script, str(folder / party)),
        logs=folder / "logs",
        show=lambda progress: print(progress.party, progress.step, flush=True),
        grace_seconds=float(sys.argv[3]),
    )
except Interrupted as stopped:
    print(stopped, flush=True)
    raise SystemExit(128 + stopped.signal_number)
"""


def python(script: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script, *arguments)


def is_running(pid: int) -> bool:
    """Whether a process is there and is not merely waiting to be buried by its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not is_running(pid)


def pids(folder: Path) -> list[int]:
    return [int(pid) for party in PARTIES for pid in (folder / f"{party}.pids").read_text().split()]


def test_every_party_runs_and_its_steps_are_shown(tmp_path: Path) -> None:
    steps: list[Progress] = []
    script = "from spark_mpc.launcher import report_progress; report_progress('one'); report_progress('two')"
    launch(PARTIES, lambda party: python(script), logs=tmp_path, show=steps.append)
    for party in PARTIES:
        assert [step.step for step in steps if step.party == party] == ["one", "two"]
    assert all(0 <= step.seconds < 60 for step in steps)


def test_output_goes_to_the_log_of_its_party_and_is_not_shown(tmp_path: Path) -> None:
    steps: list[Progress] = []
    script = "import sys; print('out', sys.argv[1]); print('err', sys.argv[1], file=sys.stderr)"
    launch(PARTIES, lambda party: python(script, party), logs=tmp_path, show=steps.append)
    assert steps == []
    for party in PARTIES:
        assert sorted((tmp_path / f"{party}.log").read_text().split("\n")) == ["", f"err {party}", f"out {party}"]


@pytest.mark.parametrize("line", ["@progress", "@progress {", "@progress 7", '@progress {"step": 7}', "\\xff\\xfe"])
def test_a_line_that_is_no_progress_is_only_logged(tmp_path: Path, line: str) -> None:
    steps: list[Progress] = []
    script = f"import sys; sys.stdout.buffer.write(b'{line}\\n')"
    launch(["a"], lambda party: python(script), logs=tmp_path, show=steps.append)
    assert steps == []
    assert (tmp_path / "a.log").stat().st_size > 0


def test_children_see_the_given_environment(tmp_path: Path) -> None:
    script = "import os; print(os.environ['SPARK_MPC_TEST'])"
    launch(["a"], lambda party: python(script), logs=tmp_path, show=print, environment={"SPARK_MPC_TEST": "here"})
    assert (tmp_path / "a.log").read_text() == "here\n"


def test_a_failure_stops_the_others_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    failing = "print('\\n'.join(f'line {i}' for i in range(1000))); raise SystemExit(7)"

    def command_for(party: str) -> tuple[str, ...]:
        return python(failing) if party == "b" else python(WAITING.format(prelude=""), str(tmp_path / party))

    with pytest.raises(PartyFailed) as failure:
        launch(PARTIES, command_for, logs=tmp_path, show=lambda progress: None)
    assert (failure.value.party, failure.value.exit_code) == ("b", 7)
    assert "line 999" in str(failure.value)
    assert "line 1\n" not in str(failure.value)
    for party in ("a", "c"):
        started = tmp_path / f"{party}.pids"
        for pid in started.read_text().split() if started.exists() else []:
            assert ends_within(int(pid), 10)


def test_a_party_killed_by_a_signal_is_a_failure(tmp_path: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(PartyFailed) as failure:
        launch(["a"], lambda party: python(script), logs=tmp_path, show=lambda progress: None)
    assert failure.value.exit_code == -signal.SIGKILL


def test_a_command_that_cannot_start_stops_those_that_did(tmp_path: Path) -> None:
    def command_for(party: str) -> tuple[str, ...]:
        if party == "c":
            raise InvalidArgument("party", party, "this test has no command for it")
        return python(WAITING.format(prelude=""), str(tmp_path / party))

    with pytest.raises(InvalidArgument):
        launch(PARTIES, command_for, logs=tmp_path, show=lambda progress: None)
    for started in tmp_path.glob("*.pids"):
        assert all(ends_within(int(pid), 10) for pid in started.read_text().split())


def test_a_process_that_outlives_its_party_is_ended(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; helper = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        "print(helper.pid)"
    )
    launch(["a"], lambda party: python(script), logs=tmp_path, show=lambda progress: None, grace_seconds=0.5)
    assert ends_within(int((tmp_path / "a.log").read_text().split()[0]), 10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("prelude", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["willing", "deaf"])
def test_a_signal_to_the_launcher_leaves_no_process(tmp_path: Path, number: signal.Signals, prelude: str) -> None:
    script = WAITING.format(prelude=prelude)
    grace_seconds = "0.5" if prelude else "20"
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHING, str(tmp_path), script, grace_seconds], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        assert sorted(launcher.stdout.readline().split()[0] for _ in PARTIES) == list(PARTIES)
        assert all(is_running(pid) for pid in pids(tmp_path))
        launcher.send_signal(number)
        launcher.send_signal(number)
        assert "no party is left running" in launcher.stdout.read()
        assert launcher.wait(60) == 128 + number
    assert all(ends_within(pid, 10) for pid in pids(tmp_path))


def test_the_callers_signal_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    launch(["a"], lambda party: python("pass"), logs=tmp_path, show=lambda progress: None)
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupted_names_the_signal() -> None:
    assert "SIGINT" in str(Interrupted(signal.SIGINT))


def test_a_reported_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report_progress("two\nlines")
    assert capsys.readouterr().out.count("\n") == 1
