"""Java is checked before Spark starts, and Delta's jars come from an empty cache, once, whoever asks first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lake.errors import SessionError
from lake.sessions import _java_release, require_java, resolve_jars

OUTPUT = {
    'openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)': 17,
    'java version "1.8.0_392"\nJava(TM) SE Runtime Environment': 8,
    'openjdk version "21" 2023-09-19': 21,
    'openjdk version "11.0.2-ea" 2019-01-15': 11,
    "command not understood": None,
    "": None,
}


@pytest.mark.parametrize(("banner", "release"), OUTPUT.items())
def test_releases_are_read_from_the_banner(banner: str, release: int | None) -> None:
    assert _java_release(banner) == release


def fake_java(folder: Path, script: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return java


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose PATH and JAVA_HOME a test fills."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_no_java_names_the_remedy(machine: Path) -> None:
    with pytest.raises(SessionError, match=r"no Java at PATH.*install a Java 17 or 21 runtime"):
        require_java()


@pytest.mark.parametrize("release", ["1.8.0_392", "11.0.2", "25"])
def test_another_java_is_named_with_the_remedy(machine: Path, release: str) -> None:
    java = fake_java(machine, f"echo 'openjdk version \"{release}\"' >&2")
    with pytest.raises(SessionError, match="install a Java 17 or 21") as caught:
        require_java()
    shown = release.removeprefix("1.").split(".")[0]
    assert f"{java} is Java {shown}" in str(caught.value)


def test_a_java_that_does_not_speak_is_named(machine: Path) -> None:
    fake_java(machine, "echo hello; exit 3")
    with pytest.raises(SessionError, match="unknown version"):
        require_java()


def test_java_home_wins_over_path(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(machine, "echo 'openjdk version \"11.0.2\"' >&2")
    fake_java(machine / "home", "echo 'openjdk version \"17.0.15\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(machine / "home"))
    assert require_java() == 17
    monkeypatch.setenv("JAVA_HOME", str(machine / "nowhere"))
    with pytest.raises(SessionError, match=r"JAVA_HOME=.*nowhere"):
        require_java()


@pytest.mark.slow
def test_a_session_without_java_says_so_at_once(tmp_path: Path) -> None:
    script = "from lake.sessions import delta_session; delta_session('x', master='local[1]')"
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "SessionError: no Java at PATH" in done.stderr
    assert "JAVA_GATEWAY_EXITED" not in done.stderr


@pytest.mark.slow
def test_jars_come_from_an_empty_cache_when_two_ask_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "lake"]
    askers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    complaints = [asker.communicate(timeout=240)[1] for asker in askers]
    assert [asker.returncode for asker in askers] == [0, 0], complaints
    (resolved,) = (tmp_path / "spark-mpc").iterdir()  # one result, no scratch left behind
    assert [jar.name for jar in sorted(resolved.iterdir())] == [jar.name for jar in resolve_jars()]
    assert {jar.name.split("_")[1].split("-")[1] for jar in resolve_jars()} == {"spark", "storage"}


@pytest.mark.slow
def test_a_failed_resolution_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """No Maven repository can be reached: proxies lead nowhere, and the caches are empty."""
    options = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=1"
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "JAVA_TOOL_OPTIONS": f"{options} -Duser.home={tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "lake"], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1
    assert "SessionError: io.delta:delta-spark" in done.stderr
    assert "check the network" in done.stderr
    assert list((tmp_path / "spark-mpc").iterdir()) == []
