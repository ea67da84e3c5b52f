"""The two ways to run an example over the same code: all parties in one process, or one process per party."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import Any

import click
import pandas as pd
from pyspark.sql import SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake
from spark_mpc.federation_file import Peer, add_party
from spark_mpc.identity import Identity
from spark_mpc.launcher import Interrupted, launch, report_progress

from .progress import ProgressTable

__all__ = [
    "Answers",
    "Example",
    "exact_number",
    "protocol_option",
    "read_answers",
    "run_local",
    "run_options",
    "run_party",
    "run_processes",
    "show_ledgers",
    "small_session",
]

_SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.driver.memory": "1g",
    # A job of seconds ends before the optimising compiler pays off; without it, it takes less than half the time.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


Answers = Mapping[str, pd.DataFrame]
"""Released numbers, a row each, by the title of the question."""


@dataclass(frozen=True)
class Example:
    """A job that several parties run together.

    Attributes:
        module: what `python -m` runs.
        parties: their names.
        epsilon: what all its answers cost together; every owner's whole budget is ten times as much.
        protocol: "additive", or "rep3": noise drawn under sharing, which every answer pays a small delta for.
        table: (session, party, folder) -> that party's Delta table in that folder, written if it is not there.
        ask: (study, table or tables by party, epsilon, delta of each answer) -> the releases, by title of the question.
        cells: title -> how that release becomes one row per released number.
    """

    module: str
    parties: tuple[str, ...]
    epsilon: Fraction
    protocol: str
    table: Callable[[SparkSession, str, Path], lake.Table]
    ask: Callable[[mpc.Study, lake.Table | Mapping[str, lake.Table], Fraction, Fraction], Mapping[str, Any]]
    cells: Mapping[str, Callable[[Any], pd.DataFrame]]

    @property
    def delta(self) -> Fraction:
        """What each answer costs beside its epsilon."""
        return Fraction(1, 10**9) if self.protocol == "rep3" else Fraction(0)

    @property
    def suffix(self) -> str:
        """Of its folder: ledgers of one protocol do not fit another."""
        return "-rep3" if self.protocol == "rep3" else ""

    @property
    def capacity(self) -> dp.PureDP | dp.ApproxDP:
        """Every owner's whole budget."""
        return dp.ApproxDP(10 * self.epsilon, 100 * self.delta) if self.delta else dp.PureDP(10 * self.epsilon)

    def answers(self, releases: Mapping[str, Any]) -> Answers:
        """The released numbers of every question, by title."""
        return {title: self.cells[title](release) for title, release in releases.items()}


def small_session(name: str, *, cores: int) -> SparkSession:
    """A Spark session that leaves room for others on a laptop."""
    return lake.delta_session(name, master=f"local[{cores}]", conf=_SMALL)


def run_local(example: Example, spark: SparkSession, home: Path) -> Mapping[str, Any]:
    """All parties in this process and in one Spark session, each with a lake and a ledger of its own."""
    _make_homes(example, home)
    tables = {party: example.table(spark, party, home / party / "lake") for party in example.parties}
    ledgers = {party: lake.Ledger.open(_ledger_path(home, party)) for party in example.parties}
    policies = {party: _policy(home, party) for party in example.parties}
    federation = mpc.Federation.local(example.parties, protocol=example.protocol)
    with federation.session(spark, ledger=ledgers, policy=policies) as study:
        return example.ask(study, tables, example.epsilon, example.delta)


def run_party(example: Example, home: Path, me: str) -> None:
    """One party, in a process of its own: its own Spark session, lake, ledger and certificate; leaves its answers.

    Args:
        example: the job; the other parties run the same.
        home: holds the party's folder.
        me: its name.
    """
    report_progress("starts Spark")
    spark = small_session(f"{example.module} {me}", cores=1)
    report_progress("opens its lake and its ledger")
    table = example.table(spark, me, home / me / "lake")
    ledger = lake.Ledger.open(_ledger_path(home, me))
    federation = mpc.Federation.from_toml(home / me / "federation.toml", me=me)
    report_progress("dials the others")
    with federation.session(spark, ledger=ledger, policy=_policy(home, me), progress=_report) as study:
        for title, cells in _answers(example, study, table).items():
            cells.to_csv(home / me / f"{title}.csv", index=False)
    report_progress("has its answers")
    spark.stop()


def _answers(example: Example, study: mpc.Study, table: lake.Table) -> Answers:
    return example.answers(example.ask(study, table, example.epsilon, example.delta))


def run_processes(example: Example, home: Path, options: Sequence[str]) -> Answers:
    """One process per party, talking mutual TLS on loopback; the answers, which are the same at every party.

    Args:
        example: the job.
        home: gets a folder per party, and their logs.
        options: the job's own options, passed on to every party.

    Raises:
        PartyFailed: a party's process ended with an error; the others have been stopped.
        Interrupted: by Ctrl-C; all have been stopped.
    """
    _make_homes(example, home)
    _make_federation(example, home)
    lake.resolve_jars()  # once, before sessions that start at the same time would race for them
    click.echo(f"One process per party, each with a log in {home / 'logs'}\n")
    launch(
        example.parties,
        lambda me: (sys.executable, "-m", example.module, "--me", me, "--output", str(home), *options),
        logs=home / "logs",
        show=ProgressTable(example.parties),
    )
    answers = [read_answers(home, party) for party in example.parties]
    assert all(mine.keys() == answers[0].keys() for mine in answers)
    assert all(mine[title].equals(cells) for mine in answers for title, cells in answers[0].items())
    return answers[0]


def read_answers(home: Path, party: str) -> Answers:
    """What a party's process left, by title."""
    return {path.stem: pd.read_csv(path, dtype={"key": str}) for path in sorted((home / party).glob("*.csv"))}


protocol_option = click.option(
    "--protocol",
    type=click.Choice(["additive", "rep3"]),
    default="additive",
    show_default=True,
    help="rep3: one sample of noise, drawn under sharing.",
)
"""For jobs that both protocols can run."""


def run_options(job: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every example has, and turn errors and signals into messages and exit codes."""

    @click.option(
        "--epsilon", type=exact_number, default="1", show_default=True, help="What all answers cost together."
    )
    @click.option("--local", is_flag=True, help="All parties in one process, as in a notebook.")
    @click.option("--me", help="Run as this one party; what the launcher passes.")
    @click.option(
        "--output", type=click.Path(path_type=Path, resolve_path=True), default="demo-output", show_default=True
    )
    @wraps(job)
    def guarded(**options: object) -> None:
        try:
            job(**options)
        except Interrupted as stopped:
            click.echo(str(stopped), err=True)
            raise SystemExit(128 + stopped.signal_number) from None
        except dp.SparkMpcError as error:
            raise click.ClickException(str(error)) from error

    return guarded


def show_ledgers(example: Example, home: Path) -> None:
    """Print every owner's ledger: what was spent, on which table, by which release."""
    for party in example.parties:
        ledger = lake.Ledger.open(_ledger_path(home, party))
        entries = pd.DataFrame(
            {
                "state": entry.state,
                "price": str(entry.price),
                "table": f"{Path(entry.table).name}, version {entry.data_version.rpartition('@')[2]}",
                "asked": entry.purpose,
                "run": entry.run_id[:12],
            }
            for entry in ledger.entries()
        )
        click.echo(f"\nLedger of {party}: spent {ledger.spent()} of {ledger.capacity}")
        wide = entries.apply(lambda column: column.str.ljust(column.str.len().max()))
        click.echo(wide.to_string(index=False, justify="left"))


def exact_number(text: str) -> Fraction:
    """What an option such as --epsilon takes: "1", "0.5", "1/3"."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f'{text!r} is no exact number: give one such as "1", "0.5" or "1/3"') from None


def _report(_party: str, step: str) -> None:
    report_progress(step)


def _ledger_path(home: Path, party: str) -> Path:
    return home / party / "ledger.sqlite"


def _policy(home: Path, party: str) -> lake.Policy:
    """What the party's steward lets be opened without noise: nothing, unless there is a file that lists it."""
    path = home / party / "policy.toml"
    return lake.Policy.load(path) if path.exists() else lake.Policy()


def _make_homes(example: Example, home: Path) -> None:
    """What every party's steward does once: a folder, and a ledger with the party's whole budget."""
    for party in example.parties:
        (home / party).mkdir(parents=True, exist_ok=True)
        for old in (home / party).glob("*.csv"):
            old.unlink()
        if not _ledger_path(home, party).exists():
            lake.Ledger.create(_ledger_path(home, party), capacity=example.capacity)


def _make_federation(example: Example, home: Path) -> None:
    """A key and a certificate for every party, and the one federation file in which they all stand."""
    common = home / "federation.toml"
    common.unlink(missing_ok=True)
    for party, port in zip(example.parties, _free_ports(len(example.parties)), strict=True):
        if not (home / party / f"{party}.key").exists():
            Identity.create(party).save(home / party)
        identity = Identity.load(home / party, party)
        peer = Peer(party, f"127.0.0.1:{port}", (identity.certificate,))
        add_party(common, peer, federation="example", protocol=example.protocol)
    for party in example.parties:
        (home / party / "federation.toml").write_text(common.read_text())


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [held.getsockname()[1] for held in sockets]
