"""The commands of a party, in process where that is enough and as real processes where two must meet."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dp._about import __version__
from spark_mpc.check import PeerReport, check_federation
from spark_mpc.cli import main
from spark_mpc.federation_file import FederationFile
from spark_mpc.identity import Identity, fingerprint
from spark_mpc.transport import RENDEZVOUS, Transport, tls_transport
from tests.tools.federations import at_once, free_ports, loopback_federation


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def init(directory: Path, name: str, port: int, *more: object) -> Result:
    return run(
        *("init", name, "--address", f"127.0.0.1:{port}", "--directory", directory),
        *("--federation", directory / "federation.toml", *more),
    )


def test_the_group_lists_its_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("init", "check", "ledger", "demo"):
        assert f"\n  {command} " in result.output
    assert __version__ in run("--version").output


def test_init_makes_a_key_a_certificate_and_a_stanza(tmp_path: Path) -> None:
    result = init(tmp_path, "insurer_a", 7001)
    assert result.exit_code == 0, result.output
    identity = Identity.load(tmp_path, "insurer_a")
    assert fingerprint(identity.certificate) in result.output
    assert "PRIVATE" not in result.output
    assert stat.S_IMODE((tmp_path / "insurer_a.key").stat().st_mode) == 0o600
    assert init(tmp_path, "insurer_b", 7002).exit_code == 0
    file = FederationFile.load(tmp_path / "federation.toml")
    assert [(peer.name, peer.address) for peer in file.parties] == [
        ("insurer_a", "127.0.0.1:7001"),
        ("insurer_b", "127.0.0.1:7002"),
    ]
    assert file.peer("insurer_a").certificates == (identity.certificate,)


def test_init_never_overwrites_a_key(tmp_path: Path) -> None:
    init(tmp_path, "insurer_a", 7001)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = init(tmp_path, "insurer_a", 7001)
    assert result.exit_code == 1
    assert "not overwritten" in result.output
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "address", "reason"),
    [("Insurer A", "127.0.0.1:7001", "party name looks like"), ("insurer_a", "nowhere", "address looks like")],
)
def test_init_refuses_bad_arguments_and_leaves_nothing(tmp_path: Path, name: str, address: str, reason: str) -> None:
    result = run(
        *("init", name, "--address", address, "--directory", tmp_path, "--federation", tmp_path / "federation.toml")
    )
    assert result.exit_code == 1
    assert reason in result.output
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_an_address_that_is_taken_and_makes_no_key(tmp_path: Path) -> None:
    init(tmp_path, "insurer_a", 7001)
    result = init(tmp_path, "insurer_b", 7001)
    assert result.exit_code == 1
    assert "no two parties share one" in result.output
    assert not (tmp_path / "insurer_b.key").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--me", "insurer_a", "--federation", "absent.toml"], "no such file"),
        (["--me", "insurer_c"], "the parties are|no such file"),
        (["--me", "../insurer_a"], "party name looks like"),
    ],
)
def test_check_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, port in (("insurer_a", 7001), ("insurer_b", 7002)):
        assert init(Path(), name, port).exit_code == 0
    result = run("check", *arguments)
    assert result.exit_code == 1
    assert any(part in result.output for part in reason.split("|"))


def check_both(mine: FederationFile, theirs: FederationFile, identities: dict[str, Identity]) -> list[PeerReport]:
    """What the check of `a` says when `b` runs it too, with its own file."""

    def check(transport: Transport, file: FederationFile) -> list[PeerReport]:
        return check_federation(transport, file)

    with tls_transport(identities["a"], mine) as a, tls_transport(identities["b"], theirs) as b:
        return at_once(lambda: check(a, mine), lambda: check(b, theirs))[0]


def test_equal_files_have_no_problems() -> None:
    loopback = loopback_federation(["a", "b"])
    (report,) = check_both(loopback.file, loopback.file, dict(loopback.identities))
    assert (report.peer, report.reachable, report.version, report.file_equal) == ("b", True, __version__, True)
    assert report.problems == ()


def test_differences_between_files_are_named() -> None:
    loopback = loopback_federation(["a", "b"])
    theirs = replace(loopback.file, timeout_seconds=30)
    (report,) = check_both(loopback.file, theirs, dict(loopback.identities))
    assert (report.reachable, report.file_equal) == (True, False)
    assert report.problems == ("federation.timeout_seconds: 2.0 here, 30.0 at b",)


def test_a_certificate_that_ends_soon_is_a_problem() -> None:
    loopback = loopback_federation(["a", "b"])
    ending = Identity.create("b", valid_days=10)
    peers = tuple(
        replace(peer, certificates=(ending.certificate,)) if peer.name == "b" else peer
        for peer in loopback.file.parties
    )
    file = replace(loopback.file, parties=peers)
    (report,) = check_both(file, file, {**loopback.identities, "b": ending})
    assert "its certificate ends on" in report.problems[0]


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"\xff", b'{"version": {"a": 1}}', b"[" * 60_000])
def test_a_peer_that_answers_nonsense_differs(answer: bytes) -> None:
    loopback = loopback_federation(["a", "b"])
    a, b = (tls_transport(loopback.identities[name], loopback.file) for name in "ab")
    with a, b:
        b.send("a", RENDEZVOUS, "check", answer)
        (report,) = check_federation(a, loopback.file)
    assert report.reachable
    assert not report.file_equal
    assert any(problem.startswith("version") for problem in report.problems)


def test_a_peer_that_does_not_answer_is_a_problem() -> None:
    loopback = loopback_federation(["a", "b"], rendezvous_seconds=1)
    with tls_transport(loopback.identities["a"], loopback.file) as a:
        (report,) = check_federation(a, loopback.file)
    assert (report.reachable, report.version, report.file_equal) == (False, "", False)
    assert "start it" in report.problems[0]


@pytest.mark.slow
@pytest.mark.parametrize("equal", [True, False])
def test_two_processes_check_each_other(tmp_path: Path, equal: bool) -> None:
    with free_ports(2) as ports:
        pass
    for name, port in zip("ab", ports, strict=True):
        assert init(tmp_path, name, port).exit_code == 0
    files = {name: tmp_path / f"{name}.toml" for name in "ab"}
    content = (tmp_path / "federation.toml").read_text()
    files["a"].write_text(content)
    files["b"].write_text(content if equal else content.replace("timeout_seconds = 60", "timeout_seconds = 30"))

    def check(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "spark_mpc.cli", "check", "--me", name, "--federation", str(files[name])]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    with ThreadPoolExecutor(2) as threads:
        a, b = threads.map(check, "ab")
    assert [result.returncode for result in (a, b)] == ([0, 0] if equal else [1, 1]), a.stderr + b.stderr
    assert "certificate until" in a.stdout
    if equal:
        assert "All parties are reachable and agree." in a.stdout
    else:
        assert "federation.timeout_seconds: 60.0 here, 30.0 at b" in a.stderr
